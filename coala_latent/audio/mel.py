"""Mel filter banks, one function per convention.

The conventions differ in three ways that no tolerance hides: the mel formula, whether triangles are
drawn linearly in hertz or in mel, and the normalisation of each band.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["hz_to_slaney_mel", "slaney_mel_filters", "slaney_mel_to_hz"]

_BREAK_HZ = 1000.0
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def hz_to_slaney_mel(frequency: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998)."""
    hz = np.asarray(frequency, dtype=np.float64)
    logarithmic = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ_PER_MEL, logarithmic)


def slaney_mel_to_hz(mel: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Inverse of `hz_to_slaney_mel`."""
    m = np.asarray(mel, dtype=np.float64)
    logarithmic = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(m, _BREAK_MEL) - _BREAK_MEL))
    return np.where(m < _BREAK_MEL, m * _LINEAR_HZ_PER_MEL, logarithmic)


def slaney_mel_filters(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> npt.NDArray[np.float32]:
    """Triangles linear in hertz on Slaney's mel scale, each of unit area (librosa's default).

    Args:
        sample_rate: In Hz.
        n_fft: Length of the Fourier transform.
        n_mels: Number of bands.
        fmin: Lower edge of the first band in Hz.
        fmax: Upper edge of the last band in Hz; half the sample rate by default.

    Returns:
        ``(n_mels, n_fft // 2 + 1)`` float32.
    """
    bins = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)
    top = sample_rate / 2 if fmax is None else fmax
    edges = slaney_mel_to_hz(np.linspace(hz_to_slaney_mel(fmin), hz_to_slaney_mel(top), n_mels + 2))
    widths = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    rising = -ramps[:-2] / widths[:-1, None]
    falling = ramps[2:] / widths[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges[2:] - edges[:-2])
    return (triangles * area[:, None]).astype(np.float32)
