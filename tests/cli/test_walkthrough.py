"""From a folder with a table of tags to a model, tag search and scores, as documented."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_commands_of_a_small_folder_run_word_by_word(project: Path, tmp_path: Path) -> None:
    text = (project / "docs" / "datasets.md").read_text("utf-8").replace("\\\n", " ")
    (section,) = re.findall(r"^## A small folder.*?^## ", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in re.findall(r"^ {4}(.+)$", section, re.M)]
    programs = {
        "python": [sys.executable],
        "coala-latent": [str(Path(sys.executable).with_name("coala-latent"))],
    }
    said = {}
    for words in lines:
        command = [*programs[words[0]], *words[1:]]
        if words[0] == "python":
            command[1] = str(project / words[1])
            command += ["trainer.max_epochs=3", "threads=1", "progress=false"]
        if words[1] == "probe":
            command += ["--probe", "knn", "--no-baseline"]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        said[words[1]] = done.stdout + done.stderr
    assert list(said) == [
        *("sounds", "build-dataset", "train.py", "encode", "search", "predict", "probe")
    ]
    assert "192 sounds" in said["sounds"]
    assert "audio_to_tags_map" in said["train.py"]
    assert said["search"].count(".wav") == 10
    assert "mine-coala" in said["probe"]
