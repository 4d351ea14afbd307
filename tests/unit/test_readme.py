"""Every Python snippet of the README runs."""

import re
import shutil
import subprocess
import sys

import pytest

SNIPPET = re.compile(r"(?:<!-- needs: (?P<needs>.+?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
CHECKPOINT = "saved_models/dual_ae_c/audio_encoder_epoch_200.pt"


def snippets(project):
    return [
        (match["needs"], match["code"])
        for match in SNIPPET.finditer((project / "README.md").read_text("utf-8"))
    ]


@pytest.fixture
def user_folder(tmp_path, write_sound):
    write_sound("dog.wav", seconds=5, rate=44100, channels=2)
    write_sound("cat.flac", seconds=1, rate=48000)
    return tmp_path


def run(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_has_its_snippets(project):
    needs = [need for need, _ in snippets(project)]
    assert needs == ["sounds.h5", None, "checkpoint"]


def test_embed_from_python(project, user_folder):
    out = run(snippets(project)[1][1], user_folder)
    assert "coala-esc10" in out


def test_old_api_snippet_with_an_original_checkpoint(project, user_folder, shared):
    target = user_folder / CHECKPOINT
    target.parent.mkdir(parents=True)
    shutil.copy(shared / "golden" / "coala_audio_encoder.pt", target)
    code = snippets(project)[2][1] + "\nprint(*embedding.shape, *embedding_d.shape)\n"
    assert run(code, user_folder).split() == ["4", "1152", "4", "1152"]


def test_store_snippet(project, user_folder):
    encode = [sys.executable, str(project / "encode.py"), "dog.wav", "cat.flac"]
    options = ["--output", "sounds.h5", "--model", "coala-esc10", "--quiet"]
    subprocess.run([*encode, *options], cwd=user_folder, check=True, timeout=300)
    assert "cat.flac 0.0 1.0" in run(snippets(project)[0][1], user_folder)
