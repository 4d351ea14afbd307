"""The wheel works away from the checkout and without a network."""

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import h5py
import pytest

NO_NETWORK = """
import socket

def refuse(*arguments, **options):
    raise OSError("this test allows no network")

socket.socket.connect = refuse
socket.create_connection = refuse
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory, project) -> Path:
    """Folder of the executables of an environment that has the wheel, not the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder]
    subprocess.run([*command, project], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # The dependencies of the running environment, but not its editable install of the project:
    # .pth files are not followed in folders that a .pth file adds.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (site / "sitecustomize.py").write_text(NO_NETWORK)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        capture_output=True,
    )
    return environment / "bin"


def run(installed: Path, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / command[0], *command[1:]], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_package_comes_from_the_wheel(installed, tmp_path, project):
    code = "import coala_latent, encode, train; print(coala_latent.__file__, encode.__file__)"
    done = run(installed, "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(installed.parent) in done.stdout
    assert str(project) not in done.stdout


def test_pages_have_their_scripts_and_styles(installed, tmp_path):
    code = (
        "from pathlib import Path\n"
        "import coala_latent.viewer\n"
        "print(*sorted(p.name for p in Path(coala_latent.viewer.__file__).parent.glob('assets/*')))"
    )
    done = run(installed, "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    needed = {"page.css", "page.js", "sound_map.html", "concept_graph.css", "concept_graph_main.js"}
    assert needed <= set(done.stdout.split())


def test_shipped_model_encodes_offline(installed, tmp_path, write_sound):
    write_sound("sounds/a b.wav", seconds=3, rate=44100, channels=2)
    done = run(
        installed,
        *("coala-latent", "encode", "sounds", "--output", "out.h5", "--model", "coala-esc10"),
        *("--json", "--quiet", "--device", "cpu"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["encoded"] == 1
    with h5py.File(tmp_path / "out.h5") as store:
        assert store["values"].shape[0] == 2
        assert store["files/path"].asstr()[0] == "a b.wav"


def test_old_api_from_the_wheel(installed, tmp_path, write_sound):
    write_sound("dog.wav")
    code = (
        "from encode import return_loaded_model, extract_audio_embedding_chunks\n"
        "from coala_latent.models.coala import AudioEncoder\n"
        "model = return_loaded_model(AudioEncoder, 'coala-esc10')\n"
        "print(*extract_audio_embedding_chunks(model, 'dog.wav')[0].shape)\n"
    )
    done = run(installed, "python", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) == 1


def test_configs_are_inside(installed, tmp_path):
    done = run(
        installed, "coala-latent", "train", "experiment=coala_ae_c", "--cfg", "job", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "0.005" in done.stdout
    assert not list(tmp_path.iterdir()), "composing a configuration leaves no files"
