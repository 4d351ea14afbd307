"""Teacher files: what is written is read, what is wrong is refused, crops carry their labels."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from coala_latent.audio.raw import RawWaveform
from coala_latent.data.crops import TrainingCrops, ValidationCrops, crop_samples, tiled
from coala_latent.data.distillation import TeacherCrops, TeacherFiles
from coala_latent.data.epochs import EpochBatches
from coala_latent.data.synthetic_teacher import SyntheticTeacher
from coala_latent.data.teacher_clips import TeacherClips
from coala_latent.data.teacher_files import DistillationWriter, Teaching
from coala_latent.data.teacher_folders import from_folders
from coala_latent.errors import AudioValueError, ConfigError, DataError

RATE = 100
CLASSES = {"objects": ("cat", "dög", "cow"), "scenes": ("in", "out")}


def ramp(seconds: float, start: float = 0.0) -> np.ndarray:
    """A wave whose value tells the sample."""
    return ((start + np.arange(1, round(seconds * RATE) + 1)) / 4096).astype(np.float32)


def said(times: list[float], classes: int = 3) -> Teaching:
    """Distributions whose first value tells the time: ``time / 100``."""
    rest = (1 - np.array(times) / 100) / (classes - 1)
    rows = np.tile(rest[:, None], (1, classes))
    rows[:, 0] = np.array(times) / 100
    return Teaching(rows, np.array(times))


def teachers(times: list[float]) -> dict[str, Teaching]:
    return {"objects": said(times), "scenes": said(times[:1], 2)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A long clip, a short one, and one of the first's group."""
    path = tmp_path / "teacher.h5"
    with DistillationWriter(path, CLASSES, sample_rate=RATE, probabilities="float32") as writer:
        writer.add("long", ramp(10), teachers([0.5, 2.5, 4.5, 6.5, 8.5]), group="film")
        writer.add("short", ramp(2, 1000), teachers([0.5, 1.5]))
        writer.add("another", ramp(4, 1200), teachers([1.0, 3.0]), group="film")
    return path


def test_what_was_written_is_read(file: Path) -> None:
    clips = TeacherClips([file])
    assert len(clips) == 3
    assert clips.classes == CLASSES
    assert clips.groups == ("film", "short", "film")
    clip = clips[1]
    assert clip.name == "short"
    assert np.array_equal(clip.waveform, ramp(2, 1000)), "16 bits hold k / 32768 exactly"
    assert np.allclose(clip.teachers["objects"].probabilities, said([0.5, 1.5]).probabilities)
    assert clip.teachers["objects"].times.tolist() == [0.5, 1.5]
    assert clip.teachers["scenes"].probabilities.shape == (1, 2)
    with pytest.raises(IndexError):
        clips[3]


def test_the_layout_is_the_documented_one(file: Path, project: Path) -> None:
    documented = (project / "docs" / "distillation.md").read_text("utf-8")
    names: list[str] = []
    with h5py.File(file) as opened:
        opened.visit(names.append)
        assert opened["audio"].dtype == np.int16
        for name in (*opened.attrs, *names):
            told = name.replace("teachers/scenes", "teachers/HEAD")
            if "objects" not in told:
                assert f"`{told}" in documented, f"{name} is not in docs/distillation.md"


@pytest.mark.parametrize("audio", ["int16", "float16"])
def test_half_precision_keeps_rows_distributions(tmp_path: Path, audio: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(1000, 0.05), 6)
    path = tmp_path / "t.h5"
    with DistillationWriter(path, {"objects": list(map(str, range(1000)))}, audio=audio) as writer:
        wave = rng.uniform(-1, 1, 22050).astype(np.float32)
        writer.add("noise", wave, {"objects": Teaching(rows, np.arange(6) / 10)})
    clip = TeacherClips([path])[0]
    assert np.abs(clip.waveform - wave).max() < (2e-5 if audio == "int16" else 5e-4)
    assert np.abs(clip.teachers["objects"].probabilities.sum(1) - 1).max() < 1e-6
    assert np.abs(clip.teachers["objects"].probabilities - rows).max() < 1e-3


def test_sounds_beyond_full_scale_are_cut_off_not_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    with DistillationWriter(path, CLASSES, sample_rate=RATE) as writer:
        writer.add("loud", np.array([1.5, -1.5, 0.5] * RATE), teachers([0.5]))
    read = TeacherClips([path])[0].waveform[:3]
    assert np.allclose(read, [1.0, -1.0, 0.5], atol=1e-4)


def broken(**changes: np.ndarray) -> dict[str, Teaching]:
    return {**teachers([0.5, 1.5]), "objects": said([0.5, 1.5])._replace(**changes)}


NAN = np.array([[np.nan, 0.5, 0.5], [0.2, 0.4, 0.4]])


@pytest.mark.parametrize(
    ("samples", "taught", "message"),
    [
        (ramp(2), broken(probabilities=NAN), "NaN"),
        (ramp(2), broken(probabilities=np.array([[1.2, -0.1, -0.1]] * 2)), "softmax"),
        (ramp(2), broken(probabilities=np.full((2, 3), 0.334)), "sums to 1.002"),
        (ramp(2), broken(probabilities=np.full((2, 4), 0.25)), r"\(frames, 3\)"),
        (ramp(2), broken(probabilities=np.zeros((0, 3)), times=np.zeros(0)), "one frame"),
        (ramp(2), broken(times=np.array([0.5])), "one for each frame"),
        (ramp(2), broken(times=np.array([1.5, 0.5])), "increase"),
        (ramp(2), broken(times=np.array([0.5, 2.5])), "2.000 s"),
        (ramp(2), broken(times=np.array([0.5, np.nan])), "increase"),
        (ramp(2), {"objects": said([0.5])}, "the file has objects, scenes"),
        (np.zeros(200, np.float32), teachers([0.5]), "every sample is 0"),
        (np.zeros(0, np.float32), teachers([0.5]), r"\(time,\)"),
        (np.zeros((2, 200), np.float32), teachers([0.5]), r"\(time,\)"),
        (np.full(200, 3, np.int16), teachers([0.5]), "floats"),
        (np.full(200, 256.0), teachers([0.5]), r"\[-1, 1\]"),
        (np.full(200, np.inf), teachers([0.5]), "finite"),
    ],
)
def test_wrong_clips_are_refused_and_leave_the_file_whole(
    tmp_path: Path, samples: np.ndarray, taught: dict[str, Teaching], message: str
) -> None:
    path = tmp_path / "t.h5"
    with DistillationWriter(path, CLASSES, sample_rate=RATE) as writer:
        writer.add("good", ramp(2), teachers([0.5]))
        with pytest.raises((DataError, AudioValueError), match=message):
            writer.add("bad", samples, taught)
        writer.add("good too", ramp(3), teachers([0.5, 2.0]))
    clips = TeacherClips([path])
    assert clips.names == ("good", "good too")
    assert clips[1].teachers["objects"].times.tolist() == [0.5, 2.0]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    path.write_bytes(b"older")
    writer = DistillationWriter(path, CLASSES, sample_rate=RATE)
    writer.add("a", ramp(2), teachers([0.5]))
    assert path.read_bytes() == b"older"
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.h5"]
    with (
        pytest.raises(DataError, match="no clips"),
        DistillationWriter(path, CLASSES, sample_rate=RATE),
    ):
        pass
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.h5"]


def test_settings_of_a_writer_are_checked(tmp_path: Path) -> None:
    for settings in ({"audio": "int8"}, {"probabilities": "float64"}, {"sample_rate": 0}):
        with pytest.raises(ConfigError):
            DistillationWriter(tmp_path / "t.h5", CLASSES, **settings)
    with pytest.raises(ConfigError, match="classes"):
        DistillationWriter(tmp_path / "t.h5", {"objects": ("one",)})
    assert not list(tmp_path.iterdir())


def test_several_files_are_one_set(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "b" / "ünd =1.h5"
    with DistillationWriter(other, CLASSES, sample_rate=RATE) as writer:
        writer.add("fourth \udcff\0", ramp(3, 50), teachers([0.5]))
    clips = TeacherClips([file, other])
    assert len(clips) == 4
    assert np.array_equal(clips[3].waveform, ramp(3, 50))
    assert clips.subset(np.array([3, 1])).length.tolist() == [300, 200]
    assert np.array_equal(clips.subset(np.array([3, 1])).audio(0, 10, 12), ramp(3, 50)[10:12])
    elsewhere = tmp_path / "c.h5"
    with DistillationWriter(elsewhere, {"objects": CLASSES["objects"]}) as writer:
        writer.add("a", ramp(3), {"objects": said([0.01])})
    with pytest.raises(DataError, match=r"c\.h5: its sample_rate differ"):
        TeacherClips([file, elsewhere])


def test_files_of_another_kind_are_told(tmp_path: Path, file: Path) -> None:
    text = tmp_path / "text.h5"
    text.write_text("no")
    with h5py.File(tmp_path / "plain.h5", "w") as plain:
        plain["audio"] = [1, 2]
    with h5py.File(file, "r+") as opened:
        del opened["clips/group"]
    for path, message in (
        (text, "HDF5"),
        (tmp_path / "missing.h5", "HDF5"),
        (tmp_path / "plain.h5", "unknown, version 0"),
        (file, "incomplete"),
    ):
        with pytest.raises(DataError, match=f"{path.name}.*{message}"):
            TeacherClips([path])
    with pytest.raises(DataError, match="no teacher files"):
        TeacherFiles(str(tmp_path / "empty")).files()
    assert len(TeacherFiles(str(tmp_path)).files()) == 3


def test_a_crop_has_its_samples_and_the_frames_around_it(file: Path) -> None:
    clips = TeacherClips([file])
    batch = clips.cut(np.array([0, 0]), np.array([300, 0]), 300)
    assert torch.equal(batch.waveform[0], torch.from_numpy(ramp(10)[300:600]))
    objects = batch.teachers["objects"]
    # From 3 to 6 s: the frame at 4.5 s, the one before and the one after.
    assert torch.allclose(objects.times[0], torch.tensor([-0.5, 1.5, 3.5]))
    assert torch.allclose(objects.probabilities[0, :, 0], torch.tensor([0.025, 0.045, 0.065]))
    # From 0 to 3 s: there is none before.
    assert torch.allclose(objects.times[1], torch.tensor([0.5, 2.5, 4.5]))
    assert batch.teachers["scenes"].times.tolist() == [[-2.5], [0.5]]
    assert batch.clip.tolist() == [0, 0]


def test_short_clips_are_repeated_with_their_labels(file: Path) -> None:
    clips = TeacherClips([file])
    batch = clips.cut(np.array([1, 0]), np.array([150, 0]), 500)
    wave = ramp(2, 1000)
    assert torch.equal(
        batch.waveform[0], torch.from_numpy(np.concatenate([wave[150:], wave, wave, wave[:50]]))
    )
    taught = batch.teachers["objects"]
    own = taught.times[0].isfinite()
    # The clip's frames at 0.5 and 1.5 s, in every repetition.
    expected = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert torch.allclose(taught.times[0][own], expected)
    first = [0.015, 0.005] * 3
    assert torch.allclose(taught.probabilities[0][own][:, 0], torch.tensor(first), atol=1e-6)
    assert taught.times[1].isfinite().sum() < own.sum()
    assert torch.isinf(taught.times[1]).any()
    assert torch.allclose(taught.probabilities.sum(-1), torch.ones(2, taught.times.shape[1]))


def test_a_crop_as_long_as_the_clip_is_not_repeated(file: Path) -> None:
    batch = TeacherClips([file]).cut(np.array([1]), np.array([0]), 200)
    assert batch.teachers["objects"].times.tolist() == [[0.5, 1.5]]


@pytest.mark.parametrize(("start", "samples"), [(0, 1), (3, 4), (6, 1), (0, 7), (3, 20), (6, 15)])
def test_tiles_continue_where_the_recording_ends(start: int, samples: int) -> None:
    wave = np.arange(7.0)
    cut = tiled(lambda first, last: wave[first:last], 7, start, samples)
    assert cut.tolist() == [(start + i) % 7 for i in range(samples)]


def test_training_crops_reach_everywhere_and_repeat_with_their_seed(file: Path) -> None:
    clips = TeacherClips([file])
    crops = TrainingCrops(clips, 350, batch_size=3, crops=40, seed=1)
    batches = [crops[2, number] for number in range(len(crops))]
    assert len(batches) == 40
    assert torch.cat([batch.clip for batch in batches]).bincount().tolist() == [40, 40, 40]
    starts = [
        round(float(wave[0]) * 4096) - 1
        for batch in batches
        for wave, clip in zip(batch.waveform, batch.clip, strict=True)
        if clip == 0
    ]
    assert 0 <= min(starts) < 120
    assert 530 < max(starts) <= 650
    again = TrainingCrops(clips, 350, batch_size=3, crops=40, seed=1)[2, 7]
    assert torch.equal(again.waveform, batches[7].waveform)
    assert not torch.equal(crops[1, 7].waveform, batches[7].waveform)


def test_validation_covers_every_clip_to_its_end(file: Path) -> None:
    crops = ValidationCrops(TeacherClips([file]), 300, batch_size=4)
    batches = [crops[number] for number in range(len(crops))]
    assert torch.cat([batch.clip for batch in batches]).tolist() == [0, 0, 0, 0, 1, 2, 2]
    assert crops.start.tolist() == [0, 300, 600, 700, 0, 0, 100]
    assert batches[0].waveform[3, -1] == ramp(10)[-1]
    with pytest.raises(IndexError):
        crops[2]


def test_workers_read_what_the_process_reads(file: Path) -> None:
    clips = TeacherClips([file])
    clips[0]
    crops = TrainingCrops(clips, 350, batch_size=3, crops=2)
    sampler = EpochBatches(len(crops))
    plain = list(DataLoader(crops, batch_size=None, sampler=sampler))
    worked = list(DataLoader(crops, batch_size=None, sampler=sampler, num_workers=2))
    assert len(plain) == 2
    for one, two in zip(plain, worked, strict=True):
        assert torch.equal(one.waveform, two.waveform)
        assert torch.equal(
            one.teachers["objects"].probabilities, two.teachers["objects"].probabilities
        )
    copied = pickle.loads(pickle.dumps(crops))
    assert torch.equal(copied[0, 1].waveform, plain[1].waveform)
    clips.close()
    assert torch.equal(crops[0, 1].waveform, plain[1].waveform)


def test_a_film_is_never_on_both_sides(file: Path) -> None:
    data = TeacherCrops(
        TeacherFiles(str(file)), RawWaveform(RATE), crop_seconds=2, batch_size=2, validation=0.4
    )
    data.setup()
    data.setup()
    sides = [set(part.groups) for part in (data.train_clips, data.validation_clips)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {"film", "short"}
    assert data.sizes() == {"objects": 3, "scenes": 2}
    assert data.names() == {"classes": CLASSES}
    assert sum(data.summary()["clips"].values()) == 3
    with pytest.raises(ConfigError, match="100 Hz, the student hears 22050 Hz"):
        TeacherCrops(TeacherFiles(str(file)), RawWaveform()).setup()


def test_crops_need_a_length() -> None:
    assert crop_samples(20, 22050) == 441000
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="crop_seconds"):
            crop_samples(seconds, 22050)


def test_folders_of_sounds_and_of_what_a_teacher_said_become_a_file(tmp_path: Path) -> None:
    sounds, labels = tmp_path / "sounds", tmp_path / "labels"
    rng = np.random.default_rng(0)
    for name in ("a/1_x.wav", "a/1_y.wav", "b/2 ö=,.wav", "b/3_unlabelled.wav", "b/4_odd.wav"):
        path = sounds / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 22050), 11025)
        label = (labels / name).with_suffix(".npz")
        label.parent.mkdir(parents=True, exist_ok=True)
        # One frame more than there is sound.
        np.savez(label, probs=np.full((3, 5), 0.2), times=np.array([0.5, 1.5, 2.5]))
    (labels / "b" / "3_unlabelled.npz").unlink()
    (labels / "b" / "4_odd.npz").write_bytes(b"PK\x03\x04 no")
    (sounds / "b" / "5_broken.wav").write_bytes(b"RIFF")
    soundfile.write(sounds / "b" / "6_muted.wav", np.zeros(22050), 11025)
    np.savez(labels / "b" / "6_muted.npz", probs=np.full((1, 5), 0.2), times=np.array([0.5]))

    made = from_folders(
        sounds, {"scenes": labels}, tmp_path / "t.h5", group=r"/(\d+)_?", quiet=True
    )
    clips = TeacherClips([made.path])
    assert made.clips == 3
    assert clips.names == ("a/1_x.wav", "a/1_y.wav", "b/2 ö=,.wav")
    assert clips.groups == ("1", "1", "2")
    assert clips.classes == {"scenes": ("0", "1", "2", "3", "4")}
    assert clips.length.tolist() == [44100] * 3, "resampled"
    assert clips[0].teachers["scenes"].times.tolist() == [0.5, 1.5]
    told = "\n".join(made.skipped)
    for name in ("3_unlabelled", "4_odd", "5_broken", "6_muted"):
        assert name in told
    assert len(made.skipped) == 4
    with pytest.raises(ConfigError, match="does not match"):
        from_folders(sounds, {"scenes": labels}, tmp_path / "u.h5", group="(z)", quiet=True)
    with pytest.raises(DataError, match="not one sound"):
        from_folders(sounds, {"scenes": tmp_path}, tmp_path / "u.h5", classes=CLASSES, quiet=True)
    assert not (tmp_path / "u.h5").exists()


def test_pickles_in_npz_are_never_run(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(11025, 0.1), 11025)
    np.savez(tmp_path / "a.npz", probs=np.array([{"no": 1}], dtype=object), times=np.zeros(1))
    with pytest.raises(DataError, match="allow_pickle=False"):
        from_folders(tmp_path, {"scenes": tmp_path}, tmp_path / "t.h5", quiet=True)


def test_the_synthetic_teacher_knows_the_sounds_and_writes_once(tmp_path: Path) -> None:
    settings = {"clips": 4, "segments": 2, "segment_seconds": 1.5, "noise": 0.0}
    teacher = SyntheticTeacher(str(tmp_path / "t.h5"), **settings)
    (path,) = teacher.files(quiet=True)
    clips = TeacherClips([path])
    assert len(clips) == 4
    clip = clips[2]
    assert len(clip.waveform) == 3 * 22050
    rows = clip.teachers["objects"].probabilities
    assert rows.shape == (3, 6)
    assert np.allclose(rows.max(1), 0.8, atol=1e-3), "without noise the true class has its share"
    samples, said_again = teacher.clip(2)
    assert np.abs(samples - clip.waveform).max() < 2e-5
    assert np.allclose(
        said_again["scenes"].probabilities, clip.teachers["scenes"].probabilities, atol=1e-3
    )

    written = path.stat().st_mtime_ns
    assert SyntheticTeacher(str(path), **settings).files(quiet=True) == [path]
    assert path.stat().st_mtime_ns == written
    SyntheticTeacher(str(path), **{**settings, "seed": 1}).files(quiet=True)
    assert not np.array_equal(TeacherClips([path])[2].waveform, clip.waveform)


def test_the_synthetic_teacher_replaces_nothing_else(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="was not written by"):
        SyntheticTeacher(str(file)).files(quiet=True)
    assert file.read_bytes() == before
    for settings in ({"clips": 1}, {"certainty": 1.0}, {"noise": -1.0}, {"segment_seconds": 0.0}):
        with pytest.raises(ConfigError):
            SyntheticTeacher("unused", **settings)


def test_nothing_warns(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TeacherClips([file]).cut(np.array([0, 1]), np.array([0, 5]), 700)
