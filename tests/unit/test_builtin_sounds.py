from __future__ import annotations

import csv
import re
from collections import Counter

import numpy as np
import pytest
import soundfile
from scipy import fft
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from coala_latent.data import builtin
from coala_latent.data.builtin import builtin_clips, write_builtin
from coala_latent.data.synthesis import ACTIONS, MATERIALS, condition_tags, synthesise
from coala_latent.errors import ConfigError

RATE = 22050


def mel_filters(bands: int = 40, bins: int = 513) -> np.ndarray:
    """Triangles on the HTK mel scale, ``(bins, bands)``."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, bins)[:, None]
    rise = (hertz - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hertz) / np.diff(edges)[1:]
    return np.maximum(0.0, np.minimum(rise, fall))


def mfcc_statistics(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of 20 MFCC, ``(40,)``."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 1024)[::512]
    power = np.abs(fft.rfft(frames * np.hanning(1024).astype(np.float32))) ** 2
    decibel = 10 * np.log10(np.maximum(power @ filters, 1e-10))
    cepstrum = fft.dct(np.maximum(decibel, decibel.max() - 80), norm="ortho")[:, :20]
    return np.concatenate([cepstrum.mean(axis=0), cepstrum.std(axis=0)])


def test_clips_are_fully_crossed_and_agree_with_the_synthesis():
    clips = builtin_clips(takes=3, clips_per_take=2, duration=0.5, sample_rate=16000, seed=7)
    assert len(clips) == len(set(clips)) == 3 * 2 * 24
    assert set(Counter(clip.label for clip in clips).values()) == {6}
    assert {clip.label for clip in clips} == {f"{m}_{a}" for m in MATERIALS for a in ACTIONS}
    assert Counter(clip.group for clip in clips) == {0: 48, 1: 48, 2: 48}
    clip = clips[-1]
    assert clip.tags == condition_tags(clip.material, clip.action, clip.take, seed=7)
    sound = clip.render()
    expected = synthesise(
        clip.material,
        clip.action,
        take=2,
        index=1,
        duration=0.5,
        sample_rate=16000,
        seed=7,
    )
    assert sound.sample_rate == 16000
    assert np.array_equal(sound.samples, expected.samples)


@pytest.mark.parametrize("name", ["takes", "clips_per_take"])
def test_less_than_one_clip_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        builtin_clips(**{name: 0})


def test_classes_are_audible_but_not_given_away():
    clips = builtin_clips(takes=6, clips_per_take=1)
    filters = mel_filters()
    features = np.stack([mfcc_statistics(clip.render().samples, filters) for clip in clips])
    groups = [clip.group for clip in clips]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))

    def accuracy(labels: list[str]) -> float:
        scores = cross_val_score(model, features, labels, groups=groups, cv=GroupKFold(6))
        return float(scores.mean())

    assert 0.25 < accuracy([clip.label for clip in clips]) < 0.85
    assert 0.45 < accuracy([clip.material for clip in clips]) < 0.9
    assert 0.6 < accuracy([clip.action for clip in clips]) < 0.97


def test_takes_leak_when_they_are_split():
    clips = [
        clip
        for clip in builtin_clips(takes=4, clips_per_take=3, duration=2.0)
        if clip.action in ("tap", "whirl")
    ]
    filters = mel_filters()
    features = np.stack([mfcc_statistics(clip.render().samples, filters) for clip in clips])
    labels = [clip.material for clip in clips]
    groups = [clip.group for clip in clips]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    fair = cross_val_score(model, features, labels, groups=groups, cv=GroupKFold(4)).mean()
    shuffled = StratifiedKFold(4, shuffle=True, random_state=0)
    leaky = cross_val_score(model, features, labels, cv=shuffled).mean()
    assert leaky > fair + 0.1


@pytest.mark.parametrize("layout", ["by_condition", "flat"])
def test_files_and_table_describe_the_clips(tmp_path, layout):
    folder = tmp_path / "Klänge, 1=a"
    options = {"takes": 2, "clips_per_take": 2, "duration": 0.1, "sample_rate": 8000, "seed": 3}
    paths = write_builtin(folder, layout=layout, **options)
    clips = builtin_clips(**options)
    assert len(paths) == len(set(paths)) == len(clips) == 96
    assert {path for path in folder.rglob("*") if path.is_file()} == {*paths, folder / "tags.csv"}
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for clip, path, row in zip(clips, paths, rows, strict=True):
        assert folder / row["path"] == path
        assert "\\" not in row["path"]
        assert (row["material"], row["action"]) == (clip.material, clip.action)
        assert int(row["take"]) == clip.take == int(re.findall(r"\d+", path.name)[0])
        assert tuple(row["tags"].split()) == clip.tags
        if layout == "by_condition":
            assert path.parent.name == clip.label
        else:
            assert path.parent == folder
    samples, rate = soundfile.read(paths[-1], dtype="float32")
    assert rate == 8000
    assert soundfile.info(paths[-1]).subtype == "PCM_16"
    np.testing.assert_allclose(samples, clips[-1].render().samples, atol=1e-4)


def test_a_recording_of_several_blocks_is_written_whole(tmp_path):
    clip = builtin_clips(takes=1, duration=9.0, sample_rate=8000)[5]
    builtin._write_wav(clip, tmp_path / "long.wav")
    samples, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    np.testing.assert_allclose(samples, clip.render().samples, atol=1e-4)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "0-000.wav"
    path.write_bytes(b"old")

    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        builtin._replace(path, fail)
    assert [item.name for item in tmp_path.iterdir()] == ["0-000.wav"]
    assert path.read_bytes() == b"old"


def test_unknown_layout_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="by_condition, flat"):
        write_builtin(tmp_path / "new", layout="tree")  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()
