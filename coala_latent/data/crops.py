"""Crops of one length from recordings of any length, for networks that read the waveform.

A recording that is shorter than the crop is repeated, end to beginning, as often as it takes;
silence is never put in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from torch.utils.data import Dataset

from coala_latent.data.epochs import EpochPlan, IntArray
from coala_latent.errors import ConfigError
from coala_latent.types import FloatArray

__all__ = ["Recordings", "TrainingCrops", "ValidationCrops", "crop_samples", "tiled"]

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class Recordings(Protocol[BatchOut]):
    """What crops are cut from."""

    @property
    def length(self) -> IntArray:
        """Samples of each recording, ``(clips,)``."""

    def cut(self, clips: IntArray, starts: IntArray, samples: int) -> BatchOut:
        """Crops of that many samples of `clips`, beginning at `starts`; both ``(batch,)``."""


def crop_samples(seconds: float, sample_rate: int) -> int:
    """Samples of a crop.

    Raises:
        ConfigError: There are none.
    """
    samples = round(seconds * sample_rate) if np.isfinite(seconds) else 0
    if samples < 1:
        raise ConfigError(f"crop_seconds={seconds}: use a positive number of seconds")
    return samples


def tiled(
    read: Callable[[int, int], FloatArray], length: int, start: int, samples: int
) -> FloatArray:
    """A crop of a recording that begins anew behind its end.

    Args:
        read: Gives the samples from one index up to another.
        length: Samples of the recording.
        start: First sample of the crop, below `length`.
        samples: Samples of the crop.

    Returns:
        ``(samples,)``; of a recording that is long enough no more is read than that.
    """
    if start + samples <= length:
        return read(start, start + samples)
    return np.resize(np.roll(read(0, length), -start), samples)


class TrainingCrops(Dataset[Batch]):
    """Batches of random crops; an item is a whole batch, found by ``(epoch, batch)``.

    A long recording is cut anywhere within; the repetition of a short one begins anywhere.

    Args:
        recordings: What to cut from.
        samples: Of a crop.
        batch_size: Crops in a batch.
        crops: Crops per recording and epoch.
        seed: Of order and places.
        drop_last: Leave the last, smaller batch out.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: An epoch has no batch.
    """

    def __init__(
        self,
        recordings: Recordings[Batch],
        samples: int,
        batch_size: int,
        crops: int = 1,
        seed: int = 0,
        drop_last: bool = True,
    ) -> None:
        self.recordings = recordings
        self.samples = samples
        self.plan = EpochPlan(len(recordings.length), batch_size, crops, seed, drop_last)

    def __len__(self) -> int:
        return self.plan.batches

    def __getitem__(self, place: tuple[int, int]) -> Batch:
        clips, rng = self.plan.draw(*place)
        length = self.recordings.length[clips]
        places = np.where(length < self.samples, length, length - self.samples + 1)
        return self.recordings.cut(clips, rng.integers(0, places), self.samples)


class ValidationCrops(Dataset[Batch]):
    """The same crops every time: each recording from beginning to end, without gaps.

    The last crop of a long recording ends where the recording does, so it may overlap the one
    before.

    Args:
        recordings: What to cut from.
        samples: Of a crop.
        batch_size: Crops in a batch.
    """

    def __init__(self, recordings: Recordings[Batch], samples: int, batch_size: int) -> None:
        self.recordings = recordings
        self.samples = samples
        self.batch_size = batch_size
        counts = np.maximum(1, -(-recordings.length // samples))
        self.clip = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(self.clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        last = np.maximum(recordings.length[self.clip] - samples, 0)
        self.start = np.minimum(number * samples, last)

    def __len__(self) -> int:
        return -(-len(self.clip) // self.batch_size)

    def __getitem__(self, batch: int) -> Batch:
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        return self.recordings.cut(self.clip[part], self.start[part], self.samples)
