"""Every Python snippet of the README and of docs/adapters.md runs."""

import os
import re
import shutil
import subprocess
import sys

import pytest

SNIPPET = re.compile(r"(?:<!-- needs: (?P<needs>.+?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)
CHECKPOINT = "saved_models/dual_ae_c/audio_encoder_epoch_200.pt"


def snippets(project):
    """Code by what it needs; None needs nothing."""
    text = (project / "README.md").read_text("utf-8")
    return {match["needs"]: match["code"] for match in SNIPPET.finditer(text)}


@pytest.fixture
def user_folder(tmp_path, write_sound):
    write_sound("dog.wav", seconds=5, rate=44100, channels=2)
    write_sound("cat.flac", seconds=1, rate=48000)
    return tmp_path


def run(code, folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_has_its_snippets(project):
    needs = ["sounds.h5", None, "soundnet8", "yamnet", "musicnn-mtt", "stream", "checkpoint"]
    assert list(snippets(project)) == needs


def test_adapters(project, user_folder):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    text = (project / "docs" / "adapters.md").read_text("utf-8")
    found = [match["code"] for match in SNIPPET.finditer(text)]
    assert len(found) == 4
    run("\n".join(found), user_folder)
    assert (user_folder / "coala.onnx").is_file()


def test_embed_from_python(project, user_folder):
    out = run(snippets(project)[None], user_folder)
    assert "coala-esc10" in out


def test_while_it_arrives(project, user_folder):
    out = run(snippets(project)["stream"], user_folder).splitlines()
    assert out[0].startswith("2.25")
    assert len(out) == 5


def test_old_api_snippet_with_an_original_checkpoint(project, user_folder, shared):
    target = user_folder / CHECKPOINT
    target.parent.mkdir(parents=True)
    shutil.copy(shared / "golden" / "coala_audio_encoder.pt", target)
    code = snippets(project)["checkpoint"] + "\nprint(*embedding.shape, *embedding_d.shape)\n"
    assert run(code, user_folder).split() == ["4", "1152", "4", "1152"]


def test_store_snippet(project, user_folder):
    encode = [sys.executable, str(project / "encode.py"), "dog.wav", "cat.flac"]
    options = ["--output", "sounds.h5", "--model", "coala-esc10", "--quiet"]
    subprocess.run([*encode, *options], cwd=user_folder, check=True, timeout=300)
    assert "cat.flac 0.0 1.0" in run(snippets(project)["sounds.h5"], user_folder)


@pytest.mark.network
@pytest.mark.parametrize("name", ["soundnet8", "musicnn-mtt"])
def test_public_models(name, project, user_folder, fetched_model):
    home = fetched_model(name).parents[1]
    out = run(snippets(project)[name], user_folder, COALA_LATENT_HOME=str(home))
    assert "(" in out


def test_yamnet(project, user_folder, shared, yamnet_home):
    out = run(snippets(project)["yamnet"], user_folder, COALA_LATENT_HOME=str(yamnet_home))
    assert out.count("'") == 6, "three names of classes"
