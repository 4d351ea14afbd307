"""sound-eval's frames, against the formulas in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coala_latent.audio.sound_eval import PRESETS, FrameSettings, LogMelFrames
from coala_latent.errors import AudioValueError, ConfigError
from coala_latent.tasks.sound_frames import FrameStream, sound_frames

SOUND_EVAL = FrameSettings(format="sound_eval")


def reference(samples, rate, bands, hop, low=80.0, high=7600.0):
    """Frames ``(1 + (n - 2048) // hop, bands)``, written from the facts, a frame at a time."""

    def mel(hertz):
        return 1127.0 * np.log1p(np.asarray(hertz, np.float64) / 700.0)

    edges = np.linspace(mel(low), mel(high), bands + 2)
    bins = mel(np.arange(1025) * rate / 2048)
    weights = np.zeros((bands, 1025))
    for band in range(bands):
        left, centre, right = edges[band : band + 3]
        rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
        weights[band] = np.maximum(0.0, np.minimum(rising, falling))
    weights[:, 0] = 0.0
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
    rows = [
        np.log(weights @ np.abs(np.fft.rfft(samples[begin : begin + 2048] * window)) + 1e-6)
        for begin in range(0, len(samples) - 2047, hop)
    ]
    return np.array(rows).reshape(-1, bands)


def streamed(front_end, samples, sizes):
    stream, blocks, done = FrameStream(front_end), [], 0
    for size in sizes:
        blocks.append(stream.push(samples[done : done + size]))
        done += size
    blocks += [stream.push(samples[done:]), stream.finish()]
    return (
        np.concatenate([block.patches.numpy() for block in blocks]),
        np.concatenate([block.start for block in blocks]),
        np.concatenate([block.end for block in blocks]),
    )


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_frames_are_those_of_the_formulas(preset, rng):
    settings = replace(PRESETS[preset], format="sound_eval")
    rate = settings.sample_rate
    samples = rng.normal(0, 0.1, rate * 2).astype(np.float32)
    found = settings.front_end().log_mel(torch.from_numpy(samples)).numpy().T
    expected = reference(samples.astype(np.float64), rate, settings.bands, settings.hop_samples)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-3  # TensorFlow's float32 filters, not exact ones
    assert np.abs(found - expected).mean() < 5e-6


def test_thirty_seconds_have_the_numbers_of_frames_of_the_original():
    for preset, frames, bands in (("default", 299, 64), ("small", 299, 80), ("opt", 300, 80)):
        settings = replace(PRESETS[preset], format="sound_eval")
        silence = torch.zeros(30 * settings.sample_rate)
        found = settings.front_end().log_mel(silence)
        assert found.shape == (bands, frames)
        assert torch.allclose(found, torch.tensor(1e-6).log())


@pytest.mark.parametrize("samples", [0, 1, 2047])
def test_less_than_a_window_gives_no_rows(samples):
    front_end = SOUND_EVAL.front_end()
    assert front_end.log_mel(torch.zeros(samples)).shape == (64, 0)
    values, start, _ = streamed(front_end, np.zeros(samples, np.float32), [1])
    assert values.shape == (0, 64)
    assert len(start) == 0


def test_standard_frames_begin_as_the_originals_and_hear_the_end(rng):
    samples = rng.normal(0, 0.1, 16000).astype(np.float32)
    samples[-100:] += 0.5
    old, _, old_end = streamed(SOUND_EVAL.front_end(), samples, [])
    new, start, end = streamed(FrameSettings().front_end(), samples, [])
    assert len(new) == len(old) + 1
    assert np.array_equal(new[:-1], old)
    assert old_end[-1] < 1.0
    assert end[-1] == 1.0
    assert start[-1] == pytest.approx(0.9)


@pytest.mark.parametrize("samples", [1, 2047, 2048, 2049, 4411, 100_000])
def test_every_sample_is_in_a_standard_frame_of_the_long_hop(samples):
    settings = PRESETS["opt"]  # a hop of 4410 samples, beyond the original's window of 2048
    framing = settings.front_end().framing
    assert framing.window == 8192
    _, start, end = streamed(settings.front_end(), np.zeros(samples, np.float32), [])
    assert start[0] == 0.0
    assert end[-1] == pytest.approx(samples / 44100)
    assert (start[1:] <= end[:-1]).all()


@pytest.mark.parametrize("form", ["standard", "sound_eval"])
@pytest.mark.parametrize("preset", ["default", "opt"])
def test_pieces_of_any_size_give_the_rows_of_the_whole(form, preset, rng):
    settings = replace(PRESETS[preset], format=form)
    front_end = settings.front_end()
    samples = rng.normal(0, 0.1, 70_001).astype(np.float32)
    whole = front_end.log_mel(torch.from_numpy(samples)).numpy().T
    for largest in (3, 3000, 40_000):
        sizes = rng.integers(0, largest, 500 if largest > 3 else 5000)
        found, start, _ = streamed(front_end, samples, sizes)
        assert found.shape == whole.shape
        assert np.abs(found - whole).max() < 1e-5
        assert np.allclose(start, np.arange(len(found)) * 0.1)


def test_a_stream_holds_no_more_than_a_window_and_a_piece():
    stream = FrameStream(PRESETS["opt"].front_end())
    for _ in range(200):
        stream.push(np.zeros(5000, np.float32))
        assert len(stream._buffer) < 8192


def test_half_precision_and_empty_batches_are_no_danger():
    front_end = SOUND_EVAL.front_end()
    assert front_end.log_mel(torch.zeros(0, 5000)).shape == (0, 64, 2)
    assert front_end(torch.zeros(3, 5000)).shape == (3, 2, 64, 1)
    assert front_end.log_mel(torch.ones(5000).half()).isfinite().all()


def test_bad_samples_are_named():
    with pytest.raises(AudioValueError, match="NaN"):
        FrameStream(SOUND_EVAL.front_end(), "x.wav").push(np.full(10, np.nan, np.float32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": 15000}, "15000 Hz .*at most 7500"),
        ({"low": 8000.0}, "8000 to 7600"),
        ({"low": -1.0}, "-1 to 7600"),
        ({"high": float("nan")}, "nan Hz"),
        ({"bands": 1500}, "narrower than a bin"),
    ],
)
def test_bands_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FrameSettings(**settings).front_end()


@pytest.mark.parametrize(
    "settings",
    [
        {"format": "sound-eval"},
        {"sample_rate": 0},
        {"bands": 0},
        {"hop": 0.0},
        {"hop": float("nan")},
        {"hop": float("inf")},
        {"hop": -0.1},
        {"hop": 1e9},
    ],
)
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(ConfigError):
        FrameSettings(**settings)


def test_the_original_keeps_bands_that_hear_nothing():
    front_end = FrameSettings(format="sound_eval", bands=1500).front_end()
    assert isinstance(front_end, LogMelFrames)
    found = front_end.log_mel(torch.randn(5000, generator=torch.Generator().manual_seed(0)))
    assert (found.amax(dim=1) < -13.8).any()


def test_settings_survive_json():
    settings = FrameSettings("sound_eval", 22050, 40, 0.05, 100.0, 8000.0)
    assert FrameSettings.from_dict({**settings.to_dict(), "resampler": {}}) == settings
    with pytest.raises(ConfigError, match="without sample_rate, bands"):
        FrameSettings.from_dict({"format": "standard"})


def test_a_file_is_mixed_resampled_and_cut(write_sound):
    path, samples = write_sound("two channels.wav", seconds=2.0, rate=16000, channels=2)
    found = sound_frames(path, SOUND_EVAL)
    expected = reference(samples.mean(axis=0).astype(np.float64), 16000, 64, 1600)
    assert found.values.shape == (19, 64)
    assert np.abs(found.values - expected).max() < 5e-3  # 16-bit samples
    assert found.info.duration == 2.0
    assert sound_frames(write_sound(rate=48000, seconds=2.0)[0], SOUND_EVAL).values.shape == (
        19,
        64,
    )
