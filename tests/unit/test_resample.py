import subprocess
import sys

import numpy as np
import pytest
import torch

from coala_latent.audio.resample import StreamResampler, resample, resample_on_device
from coala_latent.errors import AudioValueError, DependencyError

RATES = [8000, 16000, 22000, 22050, 44100, 48000, 96000, 192000]


def sine(frequency, rate, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate).astype("f4")


@pytest.mark.parametrize("rate", RATES)
def test_block_borders_leave_no_trace(rate, rng):
    samples = rng.normal(0, 0.1, 50001).astype(np.float32)
    stream, parts, begin = StreamResampler(rate, 22000), [], 0
    while begin < len(samples):
        size = int(rng.integers(1, 9000))
        parts.append(stream.push(samples[begin : begin + size]))
        begin += size
    parts.append(stream.finish())
    assert np.array_equal(np.concatenate(parts), resample(samples, rate, 22000))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("samples", [0, 1, 2, 100, 44100])
def test_length_follows_the_ratio(rate, samples):
    found = resample(np.zeros(samples, np.float32), rate, 22000)
    assert abs(len(found) - samples * 22000 / rate) <= 1
    assert found.dtype == np.float32


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_keeps_frequency_and_level(rate):
    found = resample(0.5 * sine(1000, rate), rate, 22000)[1000:-1000]
    expected = 0.5 * sine(1000, 22000)[1000 : 1000 + len(found)]
    assert np.abs(found - expected).max() < 2e-4


def test_what_does_not_fit_is_removed_not_folded():
    assert np.abs(resample(sine(15000, 48000), 48000, 22000)[500:-500]).max() < 1e-4


def test_an_impulse_stays_where_it_was():
    samples = np.zeros(44100, np.float32)
    samples[22050] = 1
    assert np.argmax(resample(samples, 44100, 22000)) == 11000
    assert resample_on_device(torch.from_numpy(samples), 44100, 22000).argmax() == 11000


@pytest.mark.parametrize("target", [22000, 44100])
def test_channels_are_not_taken_for_samples(target):
    with pytest.raises(AudioValueError, match=r"\(2, 100\)"):
        resample(np.zeros((2, 100), np.float32), 44100, target)


def test_equal_rates_are_the_identity(rng):
    samples = rng.normal(0, 1, 999).astype(np.float32)
    assert np.array_equal(resample(samples, 22000, 22000), samples)


@pytest.mark.parametrize(("source", "target"), [(0, 22000), (22000, 0), (-1, 22000)])
def test_impossible_rates(source, target):
    with pytest.raises(AudioValueError, match="sample rate"):
        StreamResampler(source, target)


def test_on_device_is_close_and_differentiable():
    samples = 0.5 * sine(440, 44100)
    waveform = torch.from_numpy(samples).requires_grad_()
    found = resample_on_device(waveform, 44100, 22000)
    inner = slice(1000, -1000)
    difference = found.detach().numpy()[inner] - resample(samples, 44100, 22000)[inner]
    assert np.abs(difference).max() < 5e-3
    found.sum().backward()
    assert torch.isfinite(waveform.grad).all()


def test_torchaudio_is_not_imported_until_it_is_used():
    code = "import sys, coala_latent.audio.resample as r; print('torchaudio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("error", [OSError("libc10_cuda.so"), RuntimeError("CUDA"), ImportError()])
def test_a_torchaudio_that_does_not_load_is_explained(monkeypatch, error):
    class Refusing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torchaudio":
                raise error

    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    with pytest.raises(DependencyError, match="torchaudio does not load"):
        resample_on_device(torch.zeros(100), 44100, 22000)
