"""Resampling: soxr for files and streams, torchaudio for tensors on a device.

The two do not give equal samples. Encoding uses soxr everywhere, and its settings are part of an
embedding store's identity; the torchaudio path is for differentiable or on-device work and is only
taken when asked for.
"""

from __future__ import annotations

import numpy as np
import soxr
import torch

from coala_latent.errors import AudioValueError, DependencyError
from coala_latent.types import FloatArray

__all__ = ["StreamResampler", "resample", "resample_on_device", "resampler_settings"]

QUALITY = "HQ"


def resampler_settings() -> dict[str, str]:
    """Name and settings of the resampler that encoding uses, for metadata."""
    return {"name": "soxr", "quality": QUALITY}


class StreamResampler:
    """Resamples mono sound block by block; block borders leave no trace.

    Args:
        source_rate: In Hz.
        target_rate: In Hz.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        _check_rates(source_rate, target_rate)
        self._stream = (
            None
            if source_rate == target_rate
            else soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32", quality=QUALITY)
        )

    def push(self, samples: FloatArray) -> FloatArray:
        """``(time,)`` float32 in, what can already be said of the output out.

        Raises:
            AudioValueError: Not one-dimensional.
        """
        if np.ndim(samples) != 1:
            raise AudioValueError("resampler", f"shape {np.shape(samples)}", "mix to (time,) first")
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def finish(self) -> FloatArray:
        """The rest of the output, after the last block."""
        empty = np.zeros(0, dtype=np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)


def resample(samples: FloatArray, source_rate: int, target_rate: int) -> FloatArray:
    """Resample ``(time,)`` float32 samples at once, as `StreamResampler` does in blocks."""
    stream = StreamResampler(source_rate, target_rate)
    return np.concatenate([stream.push(samples), stream.finish()])


def resample_on_device(waveform: torch.Tensor, source_rate: int, target_rate: int) -> torch.Tensor:
    """Resample ``(..., time)`` on the tensor's device, differentiably (torchaudio).

    Meant for rates with a large common divisor, as all usual ones have: between 44 101 and
    22 000 Hz torchaudio's kernel alone takes a minute and gigabytes.

    Raises:
        DependencyError: torchaudio cannot be loaded beside this build of torch.
    """
    _check_rates(source_rate, target_rate)
    if source_rate == target_rate:
        return waveform
    try:
        from torchaudio.functional import resample as torchaudio_resample
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            f"torchaudio does not load beside torch {torch.__version__} "
            f"({type(error).__name__}); install the matching pair "
            "(pip install torch==2.11.0 torchaudio==2.11.0) or resample on the CPU with soxr"
        ) from error
    resampled: torch.Tensor = torchaudio_resample(waveform, source_rate, target_rate)
    return resampled


def _check_rates(source_rate: int, target_rate: int) -> None:
    for rate in (source_rate, target_rate):
        if rate <= 0:
            raise AudioValueError(
                "resampler", f"sample rate {rate} Hz", "give the rate the sound was recorded at"
            )
