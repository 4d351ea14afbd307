from __future__ import annotations

import numpy as np
import pytest

from coala_latent.audio.descriptors import delta, mfcc, mfcc_statistics
from coala_latent.errors import AudioEmptyError, AudioValueError, ConfigError

librosa = pytest.importorskip("librosa", reason="the reference is not installed")

SAMPLE_RATE = 22000
SECOND = np.arange(SAMPLE_RATE) / SAMPLE_RATE
TOLERANCE = 1e-3  # on values of up to 1100; seen: 1.2e-4 in float32, 3.1e-5 in float64


def noise(n: int, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(n).standard_normal(n)


SOUNDS = {
    "noise": noise(SAMPLE_RATE),
    "noise beyond full scale": noise(SAMPLE_RATE, 2.0),
    "very quiet noise": noise(SAMPLE_RATE, 1e-5),
    "tone": 0.5 * np.sin(2 * np.pi * 440 * SECOND),
    "tone at 5 kHz": 0.9 * np.sin(2 * np.pi * 5000 * SECOND),
    "chirp": np.sin(2 * np.pi * (100 * SECOND + 2000 * SECOND**2)),
    "silence": np.zeros(SAMPLE_RATE),
    "constant": np.full(SAMPLE_RATE, 0.5),
    "click": np.eye(1, SAMPLE_RATE, 5000)[0],
}
SHORT = [1, 2, 3, 100, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049]


def reference_mfcc(sound: np.ndarray, pad_mode: str) -> np.ndarray:
    return librosa.feature.mfcc(y=sound, sr=SAMPLE_RATE, pad_mode=pad_mode)


@pytest.mark.filterwarnings("ignore:n_fft=")
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mfcc_equals_librosa(pad_mode, dtype):
    short = {f"{n} samples": noise(n) for n in SHORT}
    for name, sound in {**SOUNDS, **short}.items():
        sound = sound.astype(dtype)
        expected = reference_mfcc(sound, pad_mode)
        got = mfcc(sound, SAMPLE_RATE, pad_mode=pad_mode)
        assert got.shape == expected.shape == (20, 1 + len(sound) // 512), name
        assert got.dtype == np.float32
        assert np.abs(got - expected).max() < TOLERANCE, name


def test_pad_modes_differ_where_the_sound_touches_the_edge():
    sound = SOUNDS["noise"]
    reflected, zeros = mfcc(sound), mfcc(sound, pad_mode="constant")
    assert np.abs(reflected - zeros)[:, 0].max() > 1.0
    np.testing.assert_allclose(reflected[:, 5:-5], zeros[:, 5:-5], atol=1e-4)


def test_blocks_of_frames_leave_no_seam():
    sound = noise(512 * 1100)
    expected = reference_mfcc(sound, "reflect")
    assert expected.shape[1] > 1024
    assert np.abs(mfcc(sound, SAMPLE_RATE) - expected).max() < TOLERANCE


def test_mfcc_options_equal_librosa():
    sound = SOUNDS["chirp"].astype(np.float32)
    expected = librosa.feature.mfcc(
        y=sound, sr=16000, n_mfcc=13, n_fft=1024, hop_length=160, n_mels=40, pad_mode="reflect"
    )
    got = mfcc(sound, 16000, 13, n_fft=1024, hop_length=160, n_mels=40)
    assert np.abs(got - expected).max() < TOLERANCE


def test_top_db_none_keeps_the_whole_range():
    sound = np.concatenate([SOUNDS["tone"], np.zeros(SAMPLE_RATE)])
    mel = librosa.feature.melspectrogram(y=sound, sr=SAMPLE_RATE, pad_mode="reflect")
    expected = librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=None))
    np.testing.assert_allclose(mfcc(sound, top_db=None), expected, atol=TOLERANCE)
    assert np.abs(mfcc(sound) - expected).max() > 10


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6, 50])
@pytest.mark.parametrize(("width", "order"), [(5, 1), (5, 2), (9, 1), (9, 3), (3, 2)])
def test_delta_equals_librosa(frames, width, order):
    x = np.random.default_rng(0).standard_normal((3, frames))
    expected = librosa.feature.delta(x, width=width, order=order, mode="nearest")
    np.testing.assert_allclose(delta(x, width, order), expected, atol=1e-12)


def test_delta_of_a_line_is_its_slope_and_of_a_parabola_its_curvature():
    t = np.arange(20.0)
    np.testing.assert_allclose(delta(3 * t + 7)[2:-2], 3.0)
    np.testing.assert_allclose(delta(2 * t**2 - t, order=2)[2:-2], 4.0)


def test_delta_keeps_float32():
    assert delta(np.ones((2, 6), np.float32)).dtype == np.float32
    assert delta(np.ones((2, 6), np.int64)).dtype == np.float64


@pytest.mark.parametrize(("width", "order"), [(4, 1), (1, 1), (5, 0), (5, -1), (3, 3)])
def test_delta_refuses_what_has_no_filter(width, order):
    with pytest.raises(ConfigError, match="width"):
        delta(np.ones((2, 20)), width, order)


def test_delta_of_no_frames_is_an_error():
    with pytest.raises(AudioEmptyError):
        delta(np.ones((20, 0)))


def test_statistics_have_the_original_order():
    sound = SOUNDS["chirp"].astype(np.float32)
    static = reference_mfcc(sound, "reflect")
    first, second = (
        librosa.feature.delta(static, width=5, order=order, mode="nearest") for order in (1, 2)
    )
    expected = np.concatenate(
        [f(p, axis=1) for p in (static, first, second) for f in (np.mean, np.var)]
    )
    got = mfcc_statistics(sound)
    assert got.shape == (120,)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n", [*SHORT, 2560, 3000])
def test_statistics_of_short_sounds_are_finite(n):
    values = mfcc_statistics(noise(n).astype(np.float32))
    assert np.isfinite(values).all()
    if n < 512:  # a single frame does not change
        np.testing.assert_allclose(values[20:], 0.0, atol=1e-9)
    else:
        assert values[20:40].max() > 0


def test_silence_has_a_level_and_no_change():
    values = mfcc_statistics(np.zeros(SAMPLE_RATE, np.float32))
    assert values[0] == pytest.approx(-100 * np.sqrt(128), abs=1e-3)
    np.testing.assert_allclose(values[1:], 0.0, atol=1e-9)


def test_same_sound_gives_the_same_bits():
    sound = SOUNDS["noise"]
    assert mfcc_statistics(sound).tobytes() == mfcc_statistics(sound.copy()).tobytes()


@pytest.mark.parametrize("function", [mfcc, mfcc_statistics])
def test_unusable_sounds_are_typed_errors(function):
    with pytest.raises(AudioEmptyError):
        function(np.zeros(0, np.float32))
    for bad in (np.nan, np.inf, -np.inf):
        sound = noise(3000)
        sound[1234] = bad
        with pytest.raises(AudioValueError, match="1234"):
            function(sound)
    with pytest.raises(AudioValueError, match="channels"):
        function(np.zeros((2, 4000)))
    with pytest.raises(AudioValueError, match="int16"):
        function(np.zeros(4000, np.int16))
    with pytest.raises(AudioValueError, match="sample rate"):
        function(noise(4000), 0)


@pytest.mark.parametrize(
    "options",
    [
        {"n_mfcc": 0},
        {"n_mfcc": 129},
        {"n_fft": 1023},
        {"hop_length": 0},
        {"pad_mode": "edge"},
        {"amin": 0.0},
        {"top_db": -1.0},
    ],
)
def test_options_that_do_not_fit_are_config_errors(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        mfcc(noise(4000), **options)
