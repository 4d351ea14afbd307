"""Mel filter banks, one function per convention.

The conventions differ in three ways that no tolerance hides: the mel formula, whether triangles are
drawn linearly in hertz or in mel, and the normalisation of each band.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "htk_mel_filters",
    "hz_to_slaney_mel",
    "slaney_mel_filters",
    "slaney_mel_to_hz",
]

_BREAK_HZ = 1000.0
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0

_HTK_SLOPE = 1127.0
_HTK_HZ = 700.0
_CEPHES_LOG = (
    (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1),
    (-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
    (2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)


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


def htk_mel_filters(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    fmin: float,
    fmax: float,
) -> npt.NDArray[np.float32]:
    """Triangles linear in mel on HTK's mel scale, each of height 1 (TensorFlow's convention).

    `tf.signal.linear_to_mel_weight_matrix` draws them so; torchaudio's ``mel_scale="htk"`` draws
    them linear in hertz, which differs by up to 0.004. The DC bin has no weight in any band.

    Computed in float32, step by step as TensorFlow does, and equal to its matrix. Narrow bands are
    small differences of large mel values, so that this is up to 1e-5 from the exact triangles.

    Args:
        sample_rate: In Hz.
        n_fft: Length of the Fourier transform.
        n_mels: Number of bands.
        fmin: Lower edge of the first band in Hz.
        fmax: Upper edge of the last band in Hz.

    Returns:
        ``(n_mels, n_fft // 2 + 1)`` float32.
    """
    single = np.float32
    hertz = np.linspace(0.0, sample_rate / 2, n_fft // 2 + 1)[1:].astype(single)
    bins = single(_HTK_SLOPE) * _eigen_log(single(1) + hertz / single(_HTK_HZ))
    low, high = (
        single(_HTK_SLOPE) * single(np.log(float(single(1) + single(edge) / single(_HTK_HZ))))
        for edge in (fmin, fmax)
    )
    step = (high - low) / single(n_mels + 1)
    edges = (low + step * np.arange(n_mels + 2, dtype=single))[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(single(0), np.minimum(rising, falling))
    return np.pad(triangles, ((0, 0), (1, 0)))


def _eigen_log(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Natural logarithm in float32 by Cephes' polynomial (`logf`), as vectorised in Eigen.

    Its last bit, which is not always the correctly rounded one, is in TensorFlow's mel matrix.
    """
    single = np.float32
    fraction, exponent = np.frexp(x)
    below = fraction < single(np.sqrt(0.5))
    m = np.where(below, fraction + fraction, fraction) - single(1)
    e = (exponent - below).astype(single)
    square = m * m
    cube = square * m
    # Three interleaved polynomials of degree 2, the order of Eigen's operations.
    a, b, c = (
        (single(group[0]) * m + single(group[1])) * m + single(group[2]) for group in _CEPHES_LOG
    )
    tail = ((a * cube + b) * cube + c) * cube
    tail = tail + e * single(-2.12194440e-4)
    return ((m - square * single(0.5)) + tail) + e * single(0.693359375)
