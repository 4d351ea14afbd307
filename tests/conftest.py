"""Fixtures for all tests. One thread each, because tests run side by side."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure():
    torch.set_num_threads(1)


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
