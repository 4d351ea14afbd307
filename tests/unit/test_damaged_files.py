"""500 damaged files: each is an `AudioError` that names it, or a finite sound."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coala_latent import load_model
from coala_latent.errors import AudioError

COUNT = 500
SUFFIXES = ("wav", "flac", "ogg", "mp3")


def originals(folder: Path, rng) -> dict[str, bytes]:
    made = {}
    for suffix in SUFFIXES:
        path = folder / f"original.{suffix}"
        soundfile.write(path, rng.normal(0, 0.1, (11025, 2)).clip(-1, 1), 22050)
        made[suffix] = path.read_bytes()
    return made


def cut(content, rng, made):
    return content[: rng.integers(1, len(content))]


def overwrite(content, rng, made):
    damaged = bytearray(content)
    for where in rng.integers(0, len(content), rng.integers(1, 200)):
        damaged[where] = rng.integers(256)
    return bytes(damaged)


def overwrite_header(content, rng, made):
    damaged = bytearray(content)
    for where in rng.integers(0, 64, rng.integers(1, 16)):
        damaged[where] = rng.integers(256)
    return bytes(damaged)


def insert(content, rng, made):
    where = int(rng.integers(0, len(content)))
    return content[:where] + rng.bytes(int(rng.integers(1, 500))) + content[where:]


def join_halves(content, rng, made):
    other = made[SUFFIXES[rng.integers(len(SUFFIXES))]]
    return content[: len(content) // 2] + other[len(other) // 2 :]


def repeat(content, rng, made):
    return content + content[: rng.integers(1, len(content))]


def noise(content, rng, made):
    return rng.bytes(int(rng.integers(1, 5000)))


def nothing(content, rng, made):
    return b""


def other_format(content, rng, made):
    return made[SUFFIXES[rng.integers(len(SUFFIXES))]]


def keep_header(content, rng, made):
    return content[: rng.integers(4, 100)] + rng.bytes(3000)


DAMAGES = (
    *(cut, overwrite, overwrite_header, insert, join_halves, repeat),
    *(noise, nothing, other_format, keep_header),
)


def outcome(embedder, path):
    try:
        return embedder.file(path)
    except AudioError as error:
        return error


@pytest.mark.filterwarnings("error")
def test_500_damaged_files(tmp_path):
    rng = np.random.default_rng(0)
    made = originals(tmp_path, rng)
    embedder = load_model("coala-test")
    outcomes: Counter[str] = Counter()
    for number in range(COUNT):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        damage = DAMAGES[number % len(DAMAGES)]
        path = tmp_path / f"{number:03d}-{damage.__name__}.{suffix}"
        path.write_bytes(damage(made[suffix], rng, made))
        began = time.monotonic()
        result = outcome(embedder, path)
        if isinstance(result, AudioError):
            assert path.name in str(result)
            assert result.reason
            outcomes[type(result).__name__] += 1
        else:
            assert np.isfinite(result.values).all()
            assert len(result) > 0
            outcomes["embedded"] += 1
        assert time.monotonic() - began < 10, path
        path.unlink()
    assert outcomes.total() == COUNT
    assert outcomes["AudioEmptyError"] >= COUNT // len(DAMAGES)
    assert outcomes["AudioDecodeError"] > 50
    assert outcomes["AudioTruncatedError"] > 10
    assert outcomes["embedded"] > 50
