"""Which samples a layer of a one-dimensional convolution network hears.

Everything follows from the chain of windows between the sound and the layer: how many time steps a
sound gives, how many samples a step is computed from, and where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Geometry", "Window"]


class Window(NamedTuple):
    """A convolution or a pooling along time; incomplete windows at the end are dropped.

    Attributes:
        kernel: Steps in a window.
        stride: Steps between windows.
        pad: Zeros at either end.
    """

    kernel: int
    stride: int
    pad: int = 0

    def count(self, steps: int) -> int:
        """Windows of that many steps."""
        padded = steps + 2 * self.pad
        return (
            0 if steps == 0 or padded < self.kernel else 1 + (padded - self.kernel) // self.stride
        )

    def steps(self, count: int) -> int:
        """The fewest steps that give that many windows."""
        return 0 if count == 0 else max(1, (count - 1) * self.stride + self.kernel - 2 * self.pad)

    def until(self, steps: int) -> int:
        """Windows it takes to reach the last of that many steps."""
        if steps == 0:
            return 0
        return 1 + max(0, -(-(steps + self.pad - self.kernel) // self.stride))


@dataclass(frozen=True)
class Geometry:
    """Time steps of a layer, in samples of the sound.

    Attributes:
        windows: From the sound to the layer, in order.
    """

    windows: tuple[Window, ...]

    def __post_init__(self) -> None:
        for window in self.windows:
            if not 1 <= window.stride <= window.kernel or not 0 <= 2 * window.pad <= window.kernel:
                raise ValueError(
                    f"{window}: a stride above the kernel would leave samples unheard, and padding "
                    "above half of it would make steps of nothing"
                )

    @property
    def stride(self) -> int:
        """Samples between steps."""
        return int(np.prod([window.stride for window in self.windows], dtype=np.int64))

    @property
    def field(self) -> int:
        """Samples that one step is computed from."""
        field = 1
        for window in reversed(self.windows):
            field = (field - 1) * window.stride + window.kernel
        return field

    @property
    def offset(self) -> int:
        """First sample of the first step's field: 0, or negative where zeros come before it."""
        offset = 0
        for window in reversed(self.windows):
            offset = offset * window.stride - window.pad
        return offset

    @property
    def minimum(self) -> int:
        """The fewest samples that give a step."""
        return self.samples(1)

    def counts(self, samples: int) -> tuple[int, ...]:
        """Steps after each of the windows."""
        counts = []
        for window in self.windows:
            samples = window.count(samples)
            counts.append(samples)
        return tuple(counts)

    def count(self, samples: int) -> int:
        """Steps that the network makes of that many samples."""
        return (samples, *self.counts(samples))[-1]

    def samples(self, count: int) -> int:
        """The fewest samples that give that many steps."""
        return _fewest(self.windows, count)

    def covering(self, samples: int) -> int:
        """The smallest length, from `samples` on, at which every one of `samples` is heard.

        A network that drops incomplete windows leaves the end of most sounds unheard; extended
        with zeros to this length, a sound is heard to its end.
        """
        length, needed = samples, samples
        for place, window in enumerate(self.windows):
            # Each layer must have the step that hears the last needed one of the layer before:
            # that a later window reaches it is not enough, for it may reach padding instead.
            needed = window.until(needed)
            length = max(length, _fewest(self.windows[: place + 1], needed))
        return length

    def times(
        self, first: int, count: int, sample_rate: int, duration: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Seconds of the sound that steps ``first .. first + count - 1`` are computed from.

        Args:
            first: Index of the first step.
            count: Number of steps.
            sample_rate: In Hz.
            duration: Length of the sound in seconds.

        Returns:
            ``start`` and ``end``, each ``(count,)`` float64, clipped to the sound.
        """
        begin = (first + np.arange(count)) * self.stride + self.offset
        start = np.clip(begin / sample_rate, 0.0, duration)
        end = np.clip((begin + self.field) / sample_rate, 0.0, duration)
        return start, end


def _fewest(windows: Sequence[Window], count: int) -> int:
    for window in reversed(windows):
        count = window.steps(count)
    return count
