"""Balanced samples of concepts' rows, drawn for many concepts at once on the device that trains.

Random numbers come from a hash of a concept's own key and a counter (SplitMix64: Steele, Lea,
Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014). What a concept hears then
does not depend on which others are trained beside it, nor on how a run came to a step: there is no
generator whose state would have to be kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.data.concept_splits import ConceptSplit, Part
from coala_latent.data.concept_tables import IntArray
from coala_latent.errors import ConfigError, DataError

__all__ = ["ConceptSampler", "RecordingRows", "stream_keys"]

# SplitMix64's constants, as signed numbers.
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)
_HALF = 32
_LOW = (1 << _HALF) - 1


@dataclass(frozen=True, eq=False)
class RecordingRows:
    """Embeddings of recordings, one recording after the other.

    Attributes:
        values: ``(rows, dim)`` float32.
        counts: ``(recordings,)`` int64, rows of each recording, 1 or more.

    Raises:
        DataError: The counts do not fit, a recording has no rows, or a value is not finite.
    """

    values: npt.NDArray[np.float32]
    counts: IntArray

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or int(self.counts.sum()) != len(self.values):
            raise DataError(
                f"embeddings {self.values.shape} for recordings of {int(self.counts.sum())} rows"
            )
        if not len(self.counts) or self.counts.min() < 1:
            raise DataError("every recording needs at least one embedding")
        if not np.isfinite(self.values.sum(axis=0, dtype=np.float64)).all():
            raise DataError("embeddings hold NaN or infinity (encode these sounds again)")

    @property
    def dim(self) -> int:
        """Values in an embedding."""
        return self.values.shape[1]

    @property
    def first(self) -> IntArray:
        """``(recordings,)``, the first row of each recording."""
        return np.cumsum(self.counts) - self.counts


def stream_keys(names: Iterable[str], seed: int, purpose: str) -> IntArray:
    """A key for each name, ``(names,)`` int64; any change of seed or purpose gives others."""
    found = []
    for name in names:
        text = f"{seed}\0{purpose}\0{name}".encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(text, digest_size=8).digest()
        found.append(int.from_bytes(digest, "little", signed=True))
    return np.array(found, dtype=np.int64)


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's output ``(...)`` int64 of states, whose sums and products wrap around."""
    # A shift of a signed number brings its sign in from the left.
    state = (state ^ ((state >> 30) & ((1 << 34) - 1))) * _FIRST
    state = (state ^ ((state >> 27) & ((1 << 37) - 1))) * _SECOND
    return state ^ ((state >> 31) & ((1 << 33) - 1))


def _below(high: Tensor, count: Tensor) -> Tensor:
    """Numbers from 0 to ``count - 1`` from 32 random bits; `count` below 2**31."""
    return (high * count) >> _HALF


@dataclass(frozen=True, eq=False)
class _Listed:
    """Recordings of each concept one by one."""

    starts: Tensor
    items: Tensor

    @property
    def counts(self) -> Tensor:
        return self.starts.diff()

    def pick(self, concept: Tensor, rank: Tensor) -> Tensor:
        """Those of rank ``(heads, n)`` of concepts ``(heads, 1)``."""
        return self.items[self.starts[concept] + rank]


@dataclass(frozen=True, eq=False)
class _Complement:
    """Recordings of a pool that do not belong to each concept, without a list of them.

    A concept's member at place `p` of the pool, the `i`-th of them, has ``p - i`` others before it;
    so the members before the other of rank `k` are those with ``p - i <= k``. `before` has these
    numbers of all concepts in one ascending row, each concept's `span` beyond the last one's.
    """

    starts: Tensor
    before: Tensor
    pool: Tensor

    @property
    def counts(self) -> Tensor:
        return len(self.pool) - self.starts.diff()

    def pick(self, concept: Tensor, rank: Tensor) -> Tensor:
        """Those of rank ``(heads, n)`` of concepts ``(heads, 1)``."""
        sought = concept * (len(self.pool) + 1) + rank
        members = torch.searchsorted(self.before, sought, right=True) - self.starts[concept]
        return self.pool[rank + members]


_Set: TypeAlias = "_Listed | _Complement"


class ConceptSampler:
    """Draws rows of positives and negatives, as many of the one as of the other.

    A *head* is what is trained: a concept, or one more time the same concept on a bootstrap
    resample of its recordings. Recordings are drawn uniformly with replacement, then a crop of each
    along time, uniformly among its rows.

    Args:
        split: Which recordings are whose.
        part: Of the split.
        rows: Of the table's recordings.
        concept: ``(heads,)``, the concept of each head.
        keys: ``(heads,)``, see `stream_keys`.
        resampled: ``(heads,)`` keys of bootstrap resamples; 0 for the recordings as they are.
        crop: Neighbouring rows in a sample; their mean is the sample.
        device: Where samples are drawn.

    Raises:
        ConfigError: `crop` is not 1 or more.
        DataError: A concept has no positives or no negatives, or rows are of other recordings.
    """

    def __init__(
        self,
        split: ConceptSplit,
        part: Part,
        rows: RecordingRows,
        *,
        concept: IntArray,
        keys: IntArray,
        resampled: IntArray | None = None,
        crop: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if crop < 1:
            raise ConfigError(f"crop={crop}: use 1 row or more")
        if len(rows.counts) != len(split.table.recordings):
            raise DataError(
                f"rows of {len(rows.counts)} recordings for a table of "
                f"{len(split.table.recordings)}"
            )
        self.crop = crop
        self._positives = _listed(split, part, 0, device)
        self._negatives: _Set = (
            _complement(split, part, device)
            if split.part is not None
            else _listed(split, part, 1, device)
        )
        for what, found in (("recordings", self._positives), ("others", self._negatives)):
            empty = torch.nonzero(found.counts == 0)
            if len(empty):
                name = split.table.concepts[int(empty[0])]
                raise DataError(f"concept {name!r} has no {what} in the {part} part (set it aside)")
        self._concept = torch.as_tensor(concept, device=device)[:, None]
        self._keys = torch.as_tensor(keys, device=device)[:, None]
        # The bits of what is drawn are used up; a resample's own are those of another stream.
        self._resampled = (
            None if resampled is None else torch.as_tensor(resampled, device=device)[:, None]
        )
        self._first = torch.as_tensor(rows.first, device=device)
        self._counts = torch.as_tensor(rows.counts, device=device)

    def draw(self, heads: Tensor, step: int, batch: int) -> Tensor:
        """Rows of a batch of each head.

        Args:
            heads: ``(n,)`` int64.
            step: Of the training; each has its own batch.
            batch: Samples, an even number.

        Returns:
            ``(n, batch, crop)`` int64, places in `RecordingRows.values`: positives in the first
            half of the batch, negatives in the second.
        """
        half = batch // 2
        places = torch.arange(step * batch + 1, (step + 1) * batch + 1, device=heads.device)
        bits = _mix(self._keys[heads] + places * _STEP)
        high, low = (bits >> _HALF) & _LOW, bits & _LOW
        recording = torch.cat(
            [
                self._recordings(self._positives, heads, high[:, :half], 0),
                self._recordings(self._negatives, heads, high[:, half:], 1),
            ],
            dim=1,
        )
        count = self._counts[recording]
        start = _below(low, (count - self.crop + 1).clamp(min=1))
        offset = torch.arange(self.crop, device=heads.device)
        # Of a recording shorter than the crop, the last row is repeated.
        within = (start[..., None] + offset).minimum(count[..., None] - 1)
        return self._first[recording][..., None] + within

    def _recordings(self, found: _Set, heads: Tensor, high: Tensor, side: int) -> Tensor:
        concept = self._concept[heads]
        count = found.counts[concept]
        rank = _below(high, count)
        if self._resampled is not None:
            key = self._resampled[heads]
            # A resample is a function from ranks to ranks; that of negatives is another one.
            drawn = _mix(key + side + (rank + 1) * _STEP)
            rank = torch.where(key == 0, rank, _below((drawn >> _HALF) & _LOW, count))
        return found.pick(concept, rank)


def _listed(split: ConceptSplit, part: Part, side: int, device: torch.device | str) -> _Listed:
    choose = split.negatives if side else split.positives
    lists = [choose(part, concept) for concept in range(len(split.table))]
    starts = np.cumsum([0, *map(len, lists)])
    items = np.concatenate([np.empty(0, dtype=np.int64), *lists])
    return _Listed(torch.as_tensor(starts, device=device), torch.as_tensor(items, device=device))


def _complement(split: ConceptSplit, part: Part, device: torch.device | str) -> _Complement:
    pool = split.recordings(part)
    span = len(pool) + 1
    before = [np.empty(0, dtype=np.int64)]
    for concept in range(len(split.table)):
        places = np.searchsorted(pool, split.positives(part, concept))
        before.append(places - np.arange(len(places)) + concept * span)
    starts = np.cumsum([0, *map(len, before[1:])])
    return _Complement(
        torch.as_tensor(starts, device=device),
        torch.as_tensor(np.concatenate(before), device=device),
        torch.as_tensor(pool, device=device),
    )
