"""MFCC statistics: the baseline that the COALA paper compares learned embeddings with.

Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", ICML SAS workshop 2020, section 4. The numbers are those of
librosa 0.7.2 with its defaults (`extract_mfcc.py` of the original project); current librosa
differs only in padding with zeros instead of reflecting, which is ``pad_mode="constant"`` here.

Everything is computed in float64 and returned as float32.
"""

from __future__ import annotations

from math import factorial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from coala_latent.audio.mel import slaney_mel_filters
from coala_latent.errors import AudioEmptyError, AudioValueError, ConfigError

__all__ = ["PadMode", "delta", "mfcc", "mfcc_statistics"]

PadMode = Literal["reflect", "constant"]

_SOURCE = "array"
_BLOCK_FRAMES = 512  # 512 windows of 2048 float64 samples: 8 MiB, whatever the sound's length
_DELTA_WIDTH = 5


def mfcc(
    waveform: npt.ArrayLike,
    sample_rate: int = 22000,
    n_mfcc: int = 20,
    *,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    pad_mode: PadMode = "reflect",
    amin: float = 1e-10,
    top_db: float | None = 80.0,
) -> npt.NDArray[np.float32]:
    """Mel-frequency cepstral coefficients, equal to `librosa.feature.mfcc`.

    Periodic Hann window, centred frames, power spectrum, Slaney mel bands of unit area,
    ``10 log10(max(power, amin))`` clipped ``top_db`` below the loudest value of the whole sound,
    orthonormal DCT-II.

    Any sound of at least one sample gives ``1 + time // hop_length`` frames: the centring pads
    ``n_fft // 2`` samples on both sides. A sound shorter than that is reflected as often as needed
    (numpy's rule, hence librosa's); with ``pad_mode="constant"`` it is surrounded by zeros.

    Args:
        waveform: ``(time,)``, floating point.
        sample_rate: In Hz.
        n_mfcc: Number of coefficients, the zeroth (mean level) included.
        n_fft: Length of window and Fourier transform, even.
        hop_length: Samples between frames.
        n_mels: Number of mel bands.
        pad_mode: ``"reflect"`` as librosa before 0.10, ``"constant"`` (zeros) as librosa since.
        amin: Smallest power; anything below is raised to it.
        top_db: Dynamic range in dB; None keeps it all.

    Returns:
        ``(n_mfcc, frames)`` float32.

    Raises:
        AudioEmptyError: There are no samples.
        AudioValueError: NaN or infinite samples, integers, more than one axis, or a sample rate
            that is not positive.
        ConfigError: The options do not fit together.
    """
    samples = _checked(waveform, sample_rate)
    _check_options(n_mfcc, n_fft, hop_length, n_mels, pad_mode, amin, top_db)
    power = _mel_power(samples, sample_rate, n_fft, hop_length, n_mels, pad_mode)
    level = 10.0 * np.log10(np.maximum(power, amin))
    if top_db is not None:
        level = np.maximum(level, level.max() - top_db)
    return (_dct_matrix(n_mfcc, n_mels) @ level.T).astype(np.float32)


def delta(x: npt.ArrayLike, width: int = _DELTA_WIDTH, order: int = 1) -> npt.NDArray[np.floating]:
    """Local derivative over the last axis, equal to `librosa.feature.delta` in mode ``nearest``.

    A Savitzky-Golay filter: in every window the ``order``-th derivative of the least-squares
    polynomial of degree ``order`` (librosa sets the degree so: a line for deltas, a parabola for
    delta-deltas). Windows that reach over an edge see the edge value repeated, so any number of
    frames works; one frame has the derivative 0.

    Args:
        x: ``(..., frames)``.
        width: Frames in a window, odd and greater than ``order``.
        order: Which derivative, from 1.

    Returns:
        ``(..., frames)``, float32 for float32 input and float64 otherwise; per frame, not per
        second.

    Raises:
        ConfigError: ``width`` or ``order`` does not make sense.
        AudioEmptyError: There are no frames.
    """
    if order < 1 or width < 3 or width % 2 == 0 or width <= order:
        raise ConfigError(
            f"delta: width={width}, order={order}: order must be at least 1, "
            "width odd, at least 3 and greater than order"
        )
    values = np.asarray(x)
    dtype = np.float32 if values.dtype == np.float32 else np.float64
    if values.ndim == 0 or values.size == 0:
        raise AudioEmptyError(_SOURCE, "no frames to take a delta of")
    half = width // 2
    powers = np.vander(np.arange(-half, half + 1, dtype=np.float64), order + 1, increasing=True)
    kernel = factorial(order) * np.linalg.pinv(powers)[order]
    edges = [(0, 0)] * (values.ndim - 1) + [(half, half)]
    padded = np.pad(values.astype(np.float64), edges, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1)
    return (windows @ kernel).astype(dtype)


def mfcc_statistics(
    waveform: npt.ArrayLike, sample_rate: int = 22000, *, pad_mode: PadMode = "reflect"
) -> npt.NDArray[np.float32]:
    """The COALA paper's MFCC baseline: one vector of 120 values a sound.

    Mean and (population) variance over time of 20 MFCCs, of their deltas and of their
    delta-deltas (width 5). No minimum length: one frame has variance and derivatives 0.

    Args:
        waveform: ``(time,)``, floating point. The original resamples to 22000 Hz first.
        sample_rate: In Hz.
        pad_mode: See `mfcc`.

    Returns:
        ``(120,)`` float32: mean, variance | delta mean, variance | delta-delta mean, variance,
        20 values each.

    Raises:
        AudioEmptyError: There are no samples.
        AudioValueError: As in `mfcc`.
    """
    static = mfcc(waveform, sample_rate, pad_mode=pad_mode).astype(np.float64)
    parts = (static, delta(static, _DELTA_WIDTH, 1), delta(static, _DELTA_WIDTH, 2))
    return np.concatenate([s for p in parts for s in (p.mean(axis=1), p.var(axis=1))]).astype(
        np.float32
    )


def _checked(waveform: npt.ArrayLike, sample_rate: int) -> npt.NDArray[np.floating]:
    samples = np.asarray(waveform)
    if samples.ndim != 1:
        raise AudioValueError(
            _SOURCE, f"expected shape (time,), got {samples.shape}", "average the channels first"
        )
    if samples.size == 0:
        raise AudioEmptyError(_SOURCE, "the sound has no samples")
    if not np.issubdtype(samples.dtype, np.floating):
        raise AudioValueError(
            _SOURCE,
            f"samples are {samples.dtype}, not floating point",
            "divide integers by their full scale",
        )
    if not sample_rate > 0:
        raise AudioValueError(_SOURCE, f"sample rate {sample_rate} Hz is not positive")
    finite = np.isfinite(samples)
    if not finite.all():
        raise AudioValueError(
            _SOURCE, f"sample {int(np.argmin(finite))} is not finite", "repair or skip the sound"
        )
    return samples


def _check_options(
    n_mfcc: int,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    pad_mode: str,
    amin: float,
    top_db: float | None,
) -> None:
    if not 1 <= n_mfcc <= n_mels:
        raise ConfigError(f"n_mfcc={n_mfcc} must be between 1 and n_mels={n_mels}")
    if n_fft < 2 or n_fft % 2 or hop_length < 1:
        raise ConfigError(f"n_fft={n_fft} must be even, hop_length={hop_length} at least 1")
    if pad_mode not in get_args(PadMode):
        raise ConfigError(f"pad_mode={pad_mode!r}: choose one of {', '.join(get_args(PadMode))}")
    if not amin > 0 or (top_db is not None and top_db < 0):
        raise ConfigError(f"amin={amin} must be positive, top_db={top_db} not negative")


def _mel_power(
    samples: npt.NDArray[np.floating],
    sample_rate: int,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    pad_mode: PadMode,
) -> npt.NDArray[np.float64]:
    """Mel power spectrogram ``(frames, n_mels)``, block by block: memory grows with frames only."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    filters = slaney_mel_filters(sample_rate, n_fft, n_mels).T.astype(np.float64)
    padded = np.pad(samples, n_fft // 2, mode=pad_mode)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    power = np.empty((len(frames), n_mels))
    for begin in range(0, len(frames), _BLOCK_FRAMES):
        block = slice(begin, begin + _BLOCK_FRAMES)
        spectrum = np.fft.rfft(frames[block] * window, axis=1)
        power[block] = (spectrum.real**2 + spectrum.imag**2) @ filters
    return power


def _dct_matrix(n_out: int, n_in: int) -> npt.NDArray[np.float64]:
    """First ``n_out`` rows of the orthonormal DCT-II, ``(n_out, n_in)``."""
    angles = np.pi / n_in * np.outer(np.arange(n_out), np.arange(n_in) + 0.5)
    matrix = np.sqrt(2.0 / n_in) * np.cos(angles)
    matrix[0] /= np.sqrt(2.0)
    return matrix
