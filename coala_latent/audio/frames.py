"""Frame and patch arithmetic: how many there are, and which seconds each one covers.

A *frame* is one analysis window of a spectrogram; a *patch* is a fixed number of consecutive
frames, the input of a network. Every front end states its framing as a `Framing`, and everything
else (counts, masks, timestamps, streaming) follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Framing"]


@dataclass(frozen=True)
class Framing:
    """From samples to frames to patches.

    Attributes:
        window: Samples in one frame.
        hop: Samples between frames.
        pad: Samples of padding before and after the sound (``window // 2`` centres frame *t* on
            sample ``t * hop``; 0 starts it there).
        pad_mode: What the padding is made of.
        min_samples: Shorter sounds are extended with zeros to this length first.
        patch: Frames in one patch.
        patch_hop: Frames between patches.
        tail: ``"pad"`` completes the last frame and the last patch, so that every sample is
            heard; ``"silence"`` extends the sound with zeros until its last patch is complete, so
            that all frames are frames of the extended sound (the last samples are then in every
            frame that reaches them, not only in the first); ``"drop"`` keeps complete frames and
            patches only.
        heard: Frames of a patch, from its first, that the network hears: all by default, fewer
            where its poolings drop an incomplete window at the patch's end.
    """

    window: int
    hop: int
    patch: int
    patch_hop: int
    pad: int = 0
    pad_mode: Literal["reflect", "zeros"] = "zeros"
    min_samples: int = 1
    tail: Literal["pad", "silence", "drop"] = "pad"
    heard: int | None = None

    def __post_init__(self) -> None:
        if min(self.window, self.hop, self.patch, self.patch_hop, self.min_samples) < 1:
            raise ValueError("window, hop, patch, patch_hop and min_samples must be at least 1")
        if self.pad < 0:
            raise ValueError("pad must not be negative")
        if not 1 <= self.heard_frames <= self.patch:
            raise ValueError("heard must be between 1 and patch")
        if self.tail != "drop" and (self.patch_hop > self.heard_frames or self.hop > self.window):
            raise ValueError(
                "hop beyond the window, or patch_hop beyond what is heard of a patch, would leave "
                "samples unheard"
            )
        if self.pad_mode == "reflect" and self.min_samples <= self.pad:
            raise ValueError("reflection needs more samples than it mirrors")

    @property
    def patch_samples(self) -> int:
        """Samples that one patch is computed from."""
        return (self.patch - 1) * self.hop + self.window

    @property
    def heard_frames(self) -> int:
        """Frames of a patch that the network hears."""
        return self.patch if self.heard is None else self.heard

    @property
    def heard_samples(self) -> int:
        """Samples that one row is computed from."""
        return (self.heard_frames - 1) * self.hop + self.window

    @property
    def row_samples(self) -> int:
        """The fewest samples of a sound that fill one row, padding aside."""
        return max(1, self.heard_samples - 2 * self.pad)

    @property
    def patch_step(self) -> int:
        """Samples between the beginnings of two patches."""
        return self.patch_hop * self.hop

    def frames(self, samples: int) -> int:
        """Frames of a sound of that many samples."""
        padded = max(samples, self.min_samples) + 2 * self.pad
        if self.tail == "silence":
            more = max(0, -(-(padded - self.heard_samples) // self.patch_step))
            return more * self.patch_hop + self.patch
        if self.tail == "pad":
            return 1 + max(0, -(-(padded - self.window) // self.hop))
        return 0 if padded < self.window else 1 + (padded - self.window) // self.hop

    def padded_samples(self, samples: int) -> int:
        """Samples that `frames` frames need, padding on both sides included."""
        count = self.frames(samples)
        needed = 0 if count == 0 else (count - 1) * self.hop + self.window
        return max(needed, max(samples, self.min_samples) + 2 * self.pad)

    def patches(self, frames: int) -> int:
        """Patches of that many frames."""
        if self.tail != "drop":
            beyond = frames - self.heard_frames
            return 0 if frames == 0 else 1 + max(0, -(-beyond // self.patch_hop))
        return 0 if frames < self.patch else 1 + (frames - self.patch) // self.patch_hop

    def times(
        self, first: int, count: int, sample_rate: int, duration: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Seconds of the sound that patches ``first .. first + count - 1`` are computed from.

        Args:
            first: Index of the first patch.
            count: Number of patches.
            sample_rate: In Hz.
            duration: Length of the sound in seconds.

        Returns:
            ``start`` and ``end``, each ``(count,)`` float64, clipped to the sound.
        """
        begin = (first + np.arange(count)) * self.patch_step - self.pad
        start = np.clip(begin / sample_rate, 0.0, duration)
        end = np.clip((begin + self.heard_samples) / sample_rate, 0.0, duration)
        return start, end
