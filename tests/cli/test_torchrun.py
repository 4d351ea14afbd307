"""The launch recipe for a CPU as it stands in the documentation."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ("model.sizes.channels=2", "model.sizes.hidden=8", "trainer.max_epochs=1", "threads=1")


@pytest.mark.slow
def test_two_processes_train_one_model(project: Path, tmp_path: Path) -> None:
    text = (project / "docs" / "training.md").read_text("utf-8").replace("\\\n", " ")
    (recipe,) = re.findall(r"^torchrun .*trainer\.accelerator=cpu.*$", text, re.MULTILINE)
    words = shlex.split(recipe)
    assert words[0] == "torchrun"
    place = words.index("train.py")
    words[place] = str(project / "train.py")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words[1:], *QUICK, "progress=false"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (output,) = (word.removeprefix("output=") for word in words if word.startswith("output="))
    folder = tmp_path / output
    assert (folder / "coala-builtin.safetensors").is_file()
    assert json.loads((folder / "run.json").read_text("utf-8"))["state"] == "finished"
    assert done.stdout.count("audio_to_tags_map") == 1, "only one process reports"
