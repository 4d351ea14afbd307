"""Teachers' answers that are damaged or wrong: told by name, and the rest goes on."""

import zipfile

import h5py
import numpy as np
import pytest
import soundfile

from coala_latent.data.teacher_clips import TeacherClips
from coala_latent.data.teacher_folders import from_folders, read_teaching
from coala_latent.errors import DataError

GOOD = {"probs": np.full((2, 4), 0.25), "times": np.array([0.5, 1.5])}


def array_file(path):
    with path.open("wb") as file:
        np.save(file, np.zeros((2, 4)))


def text_times(path):
    np.savez(path, probs=GOOD["probs"], times=np.array(["a", "b"]))


def text_probabilities(path):
    np.savez(path, probs=np.full((2, 4), "x"), times=GOOD["times"])


def scalar(path):
    np.savez(path, probs=np.float32(1), times=np.float64(0))


def complex_numbers(path):
    np.savez(path, probs=GOOD["probs"] * 1j, times=GOOD["times"])


def damaged_stream(path):
    np.savez_compressed(path, probs=np.random.default_rng(0).random((200, 4)), times=np.arange(200))
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("probs.npy").header_offset
    content[begin + 80 : begin + 400] = bytes(320)
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


DAMAGES = [
    array_file,
    text_times,
    text_probabilities,
    scalar,
    complex_numbers,
    damaged_stream,
    empty,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_bad_answer_is_listed_and_the_others_are_used(tmp_path, damage):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.full(44100, 0.1), 22050)
    damage(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"a\.npz"):
        read_teaching(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **GOOD)
    made = from_folders(tmp_path, {"scenes": tmp_path}, tmp_path / "out.h5", quiet=True)
    assert made.clips == 1
    assert len(made.skipped) == 1
    assert "a.npz" in made.skipped[0]
    assert TeacherClips([made.path]).classes == {"scenes": ("0", "1", "2", "3")}


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [-1, 1, 1, 0], [1, 1, 1, 1]])
def test_rows_that_are_no_distributions_do_not_reach_the_loss(tmp_path, row):
    soundfile.write(tmp_path / "ö 1.wav", np.full(44100, 0.1), 22050)
    np.savez(tmp_path / "ö 1.npz", **GOOD)
    made = from_folders(tmp_path, {"scenes": tmp_path}, tmp_path / "out.h5", quiet=True)
    with h5py.File(made.path, "r+") as file:
        file["teachers/scenes/probabilities"][1] = row
    clips = TeacherClips([made.path])
    with pytest.raises(DataError, match=r"ö 1\.wav, teacher scenes"):
        clips.cut(np.array([0]), np.array([22050]), 22050)
