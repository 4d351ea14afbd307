"""Low-level descriptors that the COALA paper correlates embeddings with.

Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", 2020 (arXiv 2006.08386), section 4: chroma, spectral centroid,
bandwidth and rolloff, and MFCCs of the loudest 2.2 s of a sound, each by its mean, variance and
skewness. As in the original's analysis, all but the MFCCs are taken of magnitudes, and the loudest
window is found on magnitudes too.

The numbers are librosa's, with two differences from the original: the chroma is tuned to A = 440 Hz
instead of to a tuning estimated for each sound, and short sounds are not extended with noise.

Chroma: Ellis, "Chroma feature analysis and synthesis", 2007. Rolloff, centroid and bandwidth:
Klapuri, Davy (editors), "Signal Processing Methods for Music Transcription", 2006, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from coala_latent.audio.io import check_finite
from coala_latent.audio.mel import slaney_mel_filters
from coala_latent.errors import AudioEmptyError, AudioValueError

__all__ = ["LOW_LEVEL", "STATISTICS", "low_level", "low_level_statistics"]

LOW_LEVEL = ("mfcc", "chroma", "centroid", "bandwidth", "rolloff")
STATISTICS = ("mean", "var", "skew")

_N_FFT = 1024
_HOP = 512
_WINDOW_FRAMES = 96
_WINDOW_HOP = 12
_MELS = 128
_MFCC = 20
_CHROMA = 12
_ROLL_SHARE = 0.85
_SMALLEST_POWER = 1e-10
_RANGE_DB = 80.0
_BLOCK_FRAMES = 512
_A440_OCTAVE_0 = 27.5  # Hz
_ROUNDING = 1e-12

_Doubles = npt.NDArray[np.float64]


def low_level(waveform: npt.ArrayLike, sample_rate: int = 22000) -> dict[str, _Doubles]:
    """Descriptors of the loudest 96 frames (1024 samples, hop 512) of a sound.

    The window's start is a multiple of 12 frames; a shorter sound is described by all its frames.

    Args:
        waveform: ``(time,)``, floating point.
        sample_rate: In Hz; the original resamples to 22000.

    Returns:
        By name: ``mfcc (20, frames)``, ``chroma (12, frames)``, and ``centroid``, ``bandwidth``
        and ``rolloff`` in Hz, each ``(1, frames)``. All are 0 in silence, but for the MFCC.

    Raises:
        AudioEmptyError: There are no samples.
        AudioValueError: More than one axis, samples that are not finite, or a sample rate that is
            not positive.
    """
    samples = _checked(waveform, sample_rate)
    filters = slaney_mel_filters(sample_rate, _N_FFT, _MELS).T.astype(np.float64)
    loudness, loudest_mel = [], _SMALLEST_POWER
    for block in _magnitudes(samples):
        loudness.append(block.sum(axis=1))
        loudest_mel = max(loudest_mel, float((block**2 @ filters).max()))
    first = _loudest_window(np.concatenate(loudness))
    s = np.concatenate(list(_magnitudes(samples, first)))[:_WINDOW_FRAMES]
    # The reference is the whole sound, so that the range in dB is the sound's and not the window's.
    level = 10.0 * np.log10(np.maximum(s**2 @ filters, _SMALLEST_POWER))
    level = np.maximum(level, 10.0 * np.log10(loudest_mel) - _RANGE_DB)
    centroid, bandwidth, rolloff = _spectral(s, sample_rate)
    return {
        "mfcc": dct(level, type=2, norm="ortho", axis=1)[:, :_MFCC].T,
        "chroma": _chroma(s, sample_rate),
        "centroid": centroid,
        "bandwidth": bandwidth,
        "rolloff": rolloff,
    }


def low_level_statistics(waveform: npt.ArrayLike, sample_rate: int = 22000) -> dict[str, _Doubles]:
    """Mean, variance and skewness over time of each of `low_level`'s descriptors.

    Returns:
        ``"chroma mean"`` and so on, for each of `LOW_LEVEL` and `STATISTICS`, ``(values,)``. What
        does not vary has the skewness 0.

    Raises:
        AudioEmptyError: There are no samples.
        AudioValueError: As in `low_level`.
    """
    found: dict[str, _Doubles] = {}
    for name, values in low_level(waveform, sample_rate).items():
        mean = values.mean(axis=1)
        centred = values - mean[:, None]
        variance = (centred**2).mean(axis=1)
        # Below this, all that varies is rounding.
        varies = variance > (_ROUNDING * np.abs(mean)) ** 2
        spread = np.where(varies, variance, 1.0) ** 1.5
        skew = np.where(varies, (centred**3).mean(axis=1) / spread, 0.0)
        found |= {f"{name} mean": mean, f"{name} var": variance, f"{name} skew": skew}
    return found


def _checked(waveform: npt.ArrayLike, sample_rate: int) -> _Doubles:
    samples = np.asarray(waveform)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioValueError(
            "array",
            f"expected floating point (time,), got {samples.dtype} {samples.shape}",
            "average channels, and divide integers by their full scale",
        )
    if samples.size == 0:
        raise AudioEmptyError("array", "the sound has no samples")
    if not sample_rate > 0:
        raise AudioValueError("array", f"sample rate {sample_rate} Hz is not positive")
    check_finite(samples, "array")
    return samples.astype(np.float64)


def _magnitudes(samples: _Doubles, first: int = 0) -> Iterator[_Doubles]:
    """Blocks ``(frames, 513)`` of the magnitude spectrum, centred, from a frame on."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(_N_FFT) / _N_FFT)
    padded = np.pad(samples, _N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _N_FFT)[::_HOP]
    for begin in range(first, len(frames), _BLOCK_FRAMES):
        yield np.abs(np.fft.rfft(frames[begin : begin + _BLOCK_FRAMES] * window, axis=1))


def _loudest_window(loudness: _Doubles) -> int:
    """First frame of the loudest window; the earliest on ties."""
    if len(loudness) <= _WINDOW_FRAMES:
        return 0
    windows = np.lib.stride_tricks.sliding_window_view(loudness, _WINDOW_FRAMES)[::_WINDOW_HOP]
    return int(windows.sum(axis=1).argmax()) * _WINDOW_HOP


def _spectral(s: _Doubles, sample_rate: int) -> tuple[_Doubles, _Doubles, _Doubles]:
    """Centroid, bandwidth and rolloff of magnitudes ``(frames, bins)``, each ``(1, frames)``."""
    hz = np.fft.rfftfreq(_N_FFT, 1.0 / sample_rate)
    total = s.sum(axis=1, keepdims=True)
    share = s / np.where(total > 0, total, 1.0)
    centroid = share @ hz
    bandwidth = np.sqrt((share * (hz - centroid[:, None]) ** 2).sum(axis=1))
    below = np.cumsum(s, axis=1)
    rolloff = hz[np.argmax(below >= _ROLL_SHARE * below[:, -1:], axis=1)]
    return centroid[None], bandwidth[None], rolloff[None]


def _chroma(s: _Doubles, sample_rate: int) -> _Doubles:
    """Share of each pitch class, the largest 1, ``(12, frames)``, C first."""
    raw = _chroma_filters(sample_rate) @ s.T
    largest = raw.max(axis=0)
    return raw / np.where(largest > 0, largest, 1.0)


def _chroma_filters(sample_rate: int) -> _Doubles:
    """Weight of each frequency in each pitch class, ``(12, bins)``."""
    hz = np.arange(1, _N_FFT) * sample_rate / _N_FFT
    semitones = _CHROMA * np.log2(hz / _A440_OCTAVE_0)
    # The constant component stands one and a half octaves below the first: between two classes.
    semitones = np.concatenate([[semitones[0] - 1.5 * _CHROMA], semitones])
    widths = np.append(np.maximum(np.diff(semitones), 1.0), 1.0)
    distance = semitones - np.arange(_CHROMA)[:, None]
    half = _CHROMA // 2
    distance = (distance + half) % _CHROMA - half
    weights = np.exp(-0.5 * (2.0 * distance / widths) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    # Most is heard two octaves around the fifth.
    weights *= np.exp(-0.5 * ((semitones / _CHROMA - 5.0) / 2.0) ** 2)
    from_c = np.roll(weights, -3, axis=0)
    return from_c[:, : _N_FFT // 2 + 1]
