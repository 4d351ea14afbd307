"""Pairs of latents in memory, for training flows that take factors apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from coala_latent.data.latents import LabelledLatents
from coala_latent.data.module import TrainingData
from coala_latent.data.pair_sampler import KindNames, PairMatch, PairSampler
from coala_latent.errors import ConfigError, DataError

__all__ = ["LatentBatch", "LatentPairs", "LatentRows", "PairBatch", "PairBatches", "PairSampler"]

# The validation pairs' epoch; trained epochs count from 0 on, with a seed of their own.
_VALIDATION = 0
_ROWS = 8192


class PairBatch(NamedTuple):
    """A batch of pairs.

    Attributes:
        a: ``(batch, dim)`` float32.
        b: ``(batch, dim)`` float32.
        alike: ``(batch, factors)`` bool, the factors whose class a and b share.
    """

    a: Tensor
    b: Tensor
    alike: Tensor


class LatentBatch(NamedTuple):
    """Rows with their labels.

    Attributes:
        values: ``(batch, dim)`` float32.
        labels: ``(batch, factors)`` int64.
    """

    values: Tensor
    labels: Tensor


class LatentRows(Dataset[LatentBatch]):
    """All rows in order, a batch an item.

    Args:
        latents: The rows; they are copied into memory once.
        batch_size: Rows in a batch.
    """

    def __init__(self, latents: LabelledLatents, batch_size: int = _ROWS) -> None:
        values = np.array(latents.values, dtype=np.float32)
        if not np.isfinite(values).all():
            raise DataError("latents: NaN or infinite values (remove these rows)")
        self.values = torch.from_numpy(values)
        self.labels = torch.from_numpy(np.array(latents.labels))
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.values) // self.batch_size)

    def __getitem__(self, batch: int) -> LatentBatch:
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        return LatentBatch(self.values[part], self.labels[part])


class PairBatches(Dataset[PairBatch]):
    """Batches of pairs; an item is a whole batch, found by ``(epoch, batch)``.

    Args:
        rows: What the pairs are of.
        sampler: Draws them.
        batch_size: Pairs in a batch.
        batches: Batches in an epoch.
    """

    def __init__(
        self, rows: LatentRows, sampler: PairSampler, batch_size: int, batches: int
    ) -> None:
        self.rows = rows
        self.sampler = sampler
        self.batch_size = batch_size
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, place: tuple[int, int] | int) -> PairBatch:
        epoch, batch = (_VALIDATION, place) if isinstance(place, int) else place
        if not 0 <= batch < self.batches:
            raise IndexError(place)
        a, b = map(torch.from_numpy, self.sampler.draw(self.batch_size, epoch, batch))
        values, labels = self.rows.values, self.rows.labels
        return PairBatch(values[a], values[b], labels[a] == labels[b])


class LatentPairs(TrainingData):
    """Pairs of a training and of a validation part; both rows of a pair are of the same part.

    Validation has two loaders: pairs, always the same, and all rows.

    Args:
        train: Rows to train on.
        validation: Rows to validate on, of the same factors and classes.
        batch_size: Pairs in a batch.
        batches: Batches in an epoch; None for as many as there are rows for, one at least.
        kinds: See `PairSampler`, like the next two.
        unlike: Share of pairs alike in no factor.
        match: Whether pairs may be alike in more factors than asked for.
        other_take: Take b from another take than a where there is one, so that what a take has in
            common (object, room) is not learned as a factor.
        validation_batches: Batches of pairs in the validation.
        workers: Processes that draw beside the training; drawing is quick, so 0 will do.
        seed: Of all pairs.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: The two parts do not go together.
    """

    train_pairs: PairBatches
    validation_pairs: PairBatches
    validation_rows: LatentRows

    def __init__(
        self,
        train: LabelledLatents,
        validation: LabelledLatents,
        *,
        batch_size: int = 2048,
        batches: int | None = None,
        kinds: KindNames | Mapping[str, float] = "factors",
        unlike: float = 0.2,
        match: PairMatch = "exact",
        other_take: bool = True,
        validation_batches: int = 2,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(workers)
        numbers = {"batch_size": batch_size, "validation_batches": validation_batches}
        for name, value in {**numbers, "batches": 1 if batches is None else batches}.items():
            if value < 1:
                raise ConfigError(f"{name}={value}: use 1 or more")
        for what in ("dim", "factors", "classes"):
            if (mine := getattr(train, what)) != (theirs := getattr(validation, what)):
                raise DataError(f"training latents have {what} {mine}, validation has {theirs}")
        self.train_latents, self.validation_latents = train, validation
        self.batch_size = batch_size
        self.batches = max(1, len(train) // batch_size) if batches is None else batches
        self.validation_batches = validation_batches
        self.settings: dict[str, Any] = {
            "kinds": kinds if isinstance(kinds, str) else dict(kinds),
            "unlike": unlike,
            "match": match,
        }
        self.other_take = other_take
        self.seed = seed
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Copy the rows into memory and count partners, once.

        Raises:
            ConfigError: See `PairSampler`.
            DataError: See `PairSampler`; or values are not finite.
        """
        if self._ready:
            return
        self.train_pairs = self._pairs(
            LatentRows(self.train_latents), self.train_latents, self.batches, 2 * self.seed
        )
        self.validation_rows = LatentRows(self.validation_latents)
        self.validation_pairs = self._pairs(
            self.validation_rows,
            self.validation_latents,
            self.validation_batches,
            2 * self.seed + 1,
        )
        self._ready = True

    def _pairs(
        self, rows: LatentRows, latents: LabelledLatents, batches: int, seed: int
    ) -> PairBatches:
        groups = latents.take if self.other_take else None
        sampler = PairSampler(latents.labels, latents.factors, groups, seed=seed, **self.settings)
        return PairBatches(rows, sampler, self.batch_size, batches)

    def sizes(self) -> dict[str, Any]:
        """Values in a row, and the factors."""
        return {"dim": self.train_latents.dim, "factors": self.train_latents.factors}

    def names(self) -> dict[str, Any]:
        """Classes by factor."""
        latents = self.train_latents
        return {"classes": dict(zip(latents.factors, latents.classes, strict=True))}

    def summary(self) -> dict[str, Any]:
        """What was trained and validated on."""
        parts = {"train": self.train_latents, "validation": self.validation_latents}
        return {
            "rows": {name: len(part) for name, part in parts.items()},
            "takes": {name: len(np.unique(part.take)) for name, part in parts.items()},
            "conditions": {
                name: int(part.conditions.max(initial=-1)) + 1 for name, part in parts.items()
            },
            "pairs": self.train_pairs.sampler.shares or "uniform",
            "seed": self.seed,
        }

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Batches of pairs of the training part, new ones every epoch."""
        return self.epochs(self.train_pairs, len(self.train_pairs))

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Batches of pairs of the validation part, and all its rows."""
        pairs = self.loader(self.validation_pairs, sampler=range(len(self.validation_pairs)))
        return [pairs, self.loader(self.validation_rows)]
