"""Which clips are trained on when, and which are set aside: all from seeds.

What batch *b* of epoch *e* holds depends on ``(seed, e, b)`` alone: not on workers, not on what was
drawn before, so that a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from coala_latent.errors import ConfigError, DataError

__all__ = ["EpochBatches", "EpochPlan", "IntArray", "split_by_group"]

IntArray = npt.NDArray[np.int64]

# Independent random numbers for each use of one seed.
_ORDER, _PLACE, _SPLIT = 1, 2, 3


class EpochPlan:
    """Batches of clips, each clip `crops` times an epoch, in an order drawn anew for each pass.

    Args:
        clips: Number of clips.
        batch_size: Cuts in a batch.
        crops: Cuts per clip and epoch.
        seed: Of order and places.
        drop_last: Leave the last, smaller batch out.

    Attributes:
        batches: Batches in an epoch.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: An epoch has no batch.
    """

    def __init__(
        self, clips: int, batch_size: int, crops: int = 1, seed: int = 0, drop_last: bool = True
    ) -> None:
        if batch_size < 2 or crops < 1:
            raise ConfigError(
                f"batch_size={batch_size}, crops={crops}: use at least 2 and 1 (batch norm and "
                "negatives need company)"
            )
        self.clips = clips
        self.batch_size = batch_size
        self.crops = crops
        self.seed = seed
        total, left = clips * crops, clips * crops % batch_size
        # A batch of one has no negatives, and batch norm refuses it.
        self.batches = total // batch_size + (0 if drop_last or left < 2 else 1)
        if self.batches == 0:
            raise DataError(
                f"{clips} training clips x {crops} cuts do not fill a batch of "
                f"{batch_size} (use a smaller patches.batch_size, or patches.drop_last=false)"
            )
        self._drawn: tuple[int, IntArray] | None = None

    def _order(self, epoch: int) -> IntArray:
        if self._drawn is None or self._drawn[0] != epoch:
            rng = np.random.default_rng([self.seed, _ORDER, epoch])
            passes = [rng.permutation(self.clips) for _ in range(self.crops)]
            self._drawn = epoch, np.concatenate(passes)
        return self._drawn[1]

    def draw(self, epoch: int, batch: int) -> tuple[IntArray, np.random.Generator]:
        """Numbers of the batch's clips, and the generator that decides where they are cut."""
        part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        rng = np.random.default_rng([self.seed, _PLACE, epoch, batch])
        return self._order(epoch)[part], rng


class EpochBatches(Sampler[tuple[int, int]]):
    """``(epoch, batch)`` for data sets whose item is a batch; the trainer sets the epoch.

    Args:
        batches: Batches in an epoch.
        rank: Number of this process.
        processes: Number of processes that share an epoch's batches.
    """

    def __init__(self, batches: int, rank: int = 0, processes: int = 1) -> None:
        self.batches = batches
        self.rank = rank
        self.processes = processes
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch to draw next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches // self.processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for step in range(len(self)):
            yield self.epoch, step * self.processes + self.rank


def split_by_group(
    labels: Sequence[str], groups: Sequence[str], fraction: float, seed: int
) -> tuple[IntArray, IntArray]:
    """Split clips into a training and a validation part; no group is on both sides.

    Of every class that has two groups or more, groups are set aside until the class gives about
    `fraction` of its clips.

    Returns:
        Numbers of the training clips and of the validation clips, ascending.

    Raises:
        ConfigError: `fraction` is not within (0, 1).
        DataError: One side would be empty.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"validation={fraction}: use a number between 0 and 1")
    rng = np.random.default_rng([seed, _SPLIT])
    members: dict[str, Counter[str]] = {label: Counter() for label in sorted(set(labels))}
    for label, group in zip(labels, groups, strict=True):
        members[label][group] += 1
    aside: set[str] = set()
    for counts in members.values():
        wanted = fraction * counts.total()
        taken = sum(count for group, count in counts.items() if group in aside)
        for group in rng.permutation(sorted(counts))[: len(counts) - 1]:
            if taken >= wanted:
                break
            if group not in aside:
                aside.add(str(group))
                taken += counts[str(group)]
    inside = np.array([group in aside for group in groups])
    train, validation = np.flatnonzero(~inside), np.flatnonzero(inside)
    if not len(train) or not len(validation):
        raise DataError(
            f"{len(labels)} clips in {len(set(groups))} groups cannot be split into training and "
            "validation (add sounds from other recordings)"
        )
    return train, validation
