"""Low-level descriptors, against librosa."""

import warnings

import librosa
import numpy as np
import pytest
import scipy.stats

from coala_latent.audio.lowlevel import (
    LOW_LEVEL,
    STATISTICS,
    low_level,
    low_level_statistics,
)
from coala_latent.errors import AudioEmptyError, AudioError, AudioValueError

RATE = 22000


def sweep(seconds=4.0, rate=RATE, seed=0):
    """A tone that rises, over noise, loudest late."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    tone = np.sin(2 * np.pi * (200 + 300 * time) * time)
    return (0.2 * time * tone + rng.normal(0, 0.02, len(time))).astype(np.float32)


def reference(samples, rate=RATE, frames=96):
    """The original's analysis, of the window that is loudest in magnitudes."""
    spectrum = librosa.stft(
        samples.astype(float), n_fft=1024, hop_length=512, pad_mode="reflect", dtype=complex
    )
    s = np.abs(spectrum)
    mel = librosa.feature.melspectrogram(S=s**2, sr=rate, n_mels=128)
    level = librosa.power_to_db(mel)
    starts = range(0, max(1, s.shape[1] - frames + 1), 12)
    first = max(starts, key=lambda start: s[:, start : start + frames].sum())
    s, level = s[:, first : first + frames], level[:, first : first + frames]
    return first, {
        "mfcc": librosa.feature.mfcc(S=level, n_mfcc=20),
        "chroma": librosa.feature.chroma_stft(S=s, sr=rate, tuning=0.0),
        "centroid": librosa.feature.spectral_centroid(S=s, sr=rate),
        "bandwidth": librosa.feature.spectral_bandwidth(S=s, sr=rate),
        "rolloff": librosa.feature.spectral_rolloff(S=s, sr=rate),
    }


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (sweep(), RATE),
        (sweep(1.0, seed=1), RATE),
        (sweep(20.0, seed=2), RATE),  # more than a block
        (sweep(3.0, 44100, seed=3), 44100),
        (sweep(9.0, 8000, seed=4), 8000),
    ],
)
def test_descriptors_are_librosas(samples, rate):
    first, wanted = reference(samples, rate)
    assert len(samples) < 97 * 512 or first > 0, "the window must be looked for"
    found = low_level(samples, rate)
    assert tuple(found) == LOW_LEVEL
    for name in LOW_LEVEL:
        assert found[name].shape == wanted[name].shape
        largest = np.abs(wanted[name]).max()
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5 * largest, err_msg=name)


def test_statistics_are_those_of_scipy():
    values = low_level(sweep())
    found = low_level_statistics(sweep())
    assert list(found) == [f"{name} {kind}" for name in LOW_LEVEL for kind in STATISTICS]
    for name in LOW_LEVEL:
        np.testing.assert_allclose(found[f"{name} mean"], values[name].mean(axis=1))
        np.testing.assert_allclose(found[f"{name} var"], values[name].var(axis=1))
        skew = scipy.stats.skew(values[name], axis=1)
        np.testing.assert_allclose(found[f"{name} skew"], skew, atol=1e-9)
    assert sum(len(value) for value in found.values()) == 3 * (20 + 12 + 1 + 1 + 1)


def test_the_loudest_part_is_described_wherever_it_is():
    quiet, loud = np.random.default_rng(0).normal(0, 1e-4, (2, RATE * 6))
    time = np.arange(RATE * 3) / RATE
    loud[RATE : 4 * RATE] += np.sin(2 * np.pi * 440 * time)
    quiet[-3 * RATE :] += np.sin(2 * np.pi * 1760 * time)
    for samples, hz in ((loud, 440), (quiet, 1760)):
        found = low_level(samples)
        assert np.median(found["centroid"]) == pytest.approx(hz, rel=0.1)
        assert (found["chroma"][:, 48].argmax()) == 9, "an A"


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1024, 96 * 512 - 1, 96 * 512])
def test_short_sounds_are_described_by_the_frames_they_have(count):
    samples = np.random.default_rng(count).normal(0, 0.1, count)
    found = low_level(samples)
    frames = min(96, 1 + count // 512)
    assert {values.shape[1] for values in found.values()} == {frames}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(np.isfinite(v).all() for v in low_level_statistics(samples).values())


def test_silence_is_no_number_out_of_range():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = low_level_statistics(np.zeros(RATE))
        values = low_level(np.zeros(RATE))
    assert all(np.isfinite(value).all() for value in found.values())
    for name in ("chroma", "centroid", "bandwidth", "rolloff"):
        assert (values[name] == 0).all()
    np.testing.assert_allclose(values["mfcc"][0], -100 * np.sqrt(128))
    assert (found["mfcc skew"] == 0).all()


@pytest.mark.parametrize(
    ("waveform", "rate", "kind", "message"),
    [
        (np.zeros(0), RATE, AudioEmptyError, "no samples"),
        (np.zeros((2, 100)), RATE, AudioValueError, "channels"),
        (np.zeros(100, np.int16), RATE, AudioValueError, "int16"),
        (np.full(100, np.nan), RATE, AudioValueError, "finite|NaN"),
        (np.zeros(100), 0, AudioValueError, "sample rate"),
    ],
)
def test_what_is_no_sound_is_refused(waveform, rate, kind, message):
    with pytest.raises(kind, match=message) as error:
        low_level(waveform, rate)
    assert isinstance(error.value, AudioError)
