"""The two values that travel through the library: a sound, and its embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Embedding", "FloatArray", "Sound"]

FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Sound:
    """A waveform with its sample rate.

    Attributes:
        samples: ``(time,)`` or ``(channels, time)``, float32, nominally in [-1, 1].
        sample_rate: In Hz.
        source: Where it came from, for messages.
    """

    samples: FloatArray
    sample_rate: int
    source: str = "array"

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.samples.shape[-1] / self.sample_rate


@dataclass(frozen=True)
class Embedding:
    """Rows of an embedding with the time each one covers.

    Attributes:
        values: ``(n, dim)`` float32.
        start: ``(n,)`` float64, seconds from the beginning of the sound.
        end: ``(n,)`` float64, seconds; a row padded at the end of the sound ends where the sound
            does, so ``end - start`` is the time that was really heard.
    """

    values: FloatArray
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise ValueError(f"values must be (n, dim), got shape {self.values.shape}")
        if not len(self.values) == len(self.start) == len(self.end):
            raise ValueError("values, start and end must have the same number of rows")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Number of values in a row."""
        return int(self.values.shape[1])

    def mean(self) -> FloatArray:
        """One vector ``(dim,)``: the rows' mean, weighted by the time each row really heard."""
        weights = self.end - self.start
        if not weights.sum() > 0:
            weights = np.ones(len(self))
        return np.average(self.values, axis=0, weights=weights).astype(self.values.dtype)
