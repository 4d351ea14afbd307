"""Pairs of rows that are alike in chosen factors, drawn exactly and a whole batch at a time.

Pairs teach a factorised representation what belongs to which factor (Esser, Rombach, Ommer, "A
Disentangling Invertible Interpretation Network for Explaining Latent Representations", CVPR 2020).
Instead of drawing pairs until one is alike enough, the partners of every combination of classes are
counted once, and a partner is then found by its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from coala_latent.data.epochs import IntArray
from coala_latent.data.latents import combinations
from coala_latent.errors import ConfigError, DataError

__all__ = ["UNLIKE", "KindNames", "PairMatch", "PairSampler"]

KindNames = Literal["factors", "uniform"]
PairMatch = Literal["exact", "at_least"]

# Name of the kind of pairs that are alike in no factor.
UNLIKE = "none"

BoolArray = npt.NDArray[np.bool_]


class PairSampler:
    """Draws pairs ``(a, b)`` of different rows, by their kind.

    A kind is the set of factors that a pair is alike in, written ``"material"``,
    ``"material+action"`` or ``"none"``. First the kind is drawn; then a, uniformly among the rows
    that have a partner of that kind; then b, uniformly among the partners of a. What is drawn
    follows from ``(seed, epoch, batch)`` alone.

    A factor with one class is in no kind, since all rows are alike in it.

    Args:
        labels: ``(n, factors)`` int64.
        factors: Names of the factors.
        groups: ``(n,)`` int64, such as the take of each row: b is of another group than a, if a
            has any partner there; else of its own. None: groups do not matter.
        kinds: Shares by kind; ``"factors"``: each factor alone equally often, and pairs that are
            alike in none; ``"uniform"``: a and b are drawn independently, as LatentAudio did.
            Among ``"factors"``, kinds that no pair of rows is of are left out, and the others keep
            their proportions.
        unlike: Share of pairs alike in no factor among ``"factors"``.
        match: ``"exact"``: a pair differs in the factors that are not in its kind. ``"at_least"``:
            it may be alike in them too, so that ``"none"`` is any pair.
        seed: Of everything.

    Attributes:
        shares: Share of each kind; empty for ``"uniform"``.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: There are fewer than two rows, no pair is of a wanted kind, or no factor has two
            classes.
    """

    def __init__(
        self,
        labels: IntArray,
        factors: Sequence[str],
        groups: IntArray | None = None,
        kinds: KindNames | Mapping[str, float] = "factors",
        unlike: float = 0.2,
        match: PairMatch = "exact",
        seed: int = 0,
    ) -> None:
        if match not in get_args(PairMatch):
            raise ConfigError(f"match={match!r}: use one of {', '.join(get_args(PairMatch))}")
        if len(labels) < 2:
            raise DataError(f"{len(labels)} rows make no pair (give two at least)")
        self.rows = len(labels)
        self.seed = seed
        self.shares: dict[str, float] = {}
        self._partners: list[_Partners] = []
        if kinds == "uniform":
            return
        varied = [column for column in range(labels.shape[1]) if np.ptp(labels[:, column])]
        if not varied:
            raise DataError("no factor has two classes, so there is nothing to take apart")
        if isinstance(kinds, str):
            wanted = _factor_kinds(kinds, [factors[column] for column in varied], unlike)
        else:
            wanted = _checked(kinds)
        index = _RowIndex(labels, groups)
        for name, share in wanted.items():
            relation = _relation(index.combinations, _columns(name, factors), varied, match)
            partners = _Partners(index, relation)
            if len(partners.first):
                self.shares[name] = share
                self._partners.append(partners)
            elif not isinstance(kinds, str):
                raise DataError(f"no two of {len(labels)} rows are a pair of kind {name!r}")
        if not self.shares:
            raise DataError(f"no two of {len(labels)} rows are a pair of {', '.join(wanted)}")
        total = sum(self.shares.values())
        self.shares = {name: share / total for name, share in self.shares.items()}

    def draw(self, count: int, epoch: int = 0, batch: int = 0) -> tuple[IntArray, IntArray]:
        """Numbers of the rows a and b of `count` pairs, both ``(count,)`` int64."""
        rng = np.random.default_rng([self.seed, epoch, batch])
        if not self.shares:
            first = rng.integers(self.rows, size=count)
            return first, (first + rng.integers(1, self.rows, size=count)) % self.rows
        kind = rng.choice(len(self._partners), size=count, p=list(self.shares.values()))
        a, b = np.empty(count, np.int64), np.empty(count, np.int64)
        for number, partners in enumerate(self._partners):
            places = np.flatnonzero(kind == number)
            a[places], b[places] = partners.draw(rng, len(places))
        return a, b


def _factor_kinds(kinds: str, varied: Sequence[str], unlike: float) -> dict[str, float]:
    if kinds != "factors":
        raise ConfigError(
            f"kinds={kinds!r}: use {', '.join(get_args(KindNames))}, or shares such as "
            "{material: 0.4, action: 0.4, none: 0.2}"
        )
    if not 0 <= unlike < 1:
        raise ConfigError(f"unlike={unlike}: use 0 or a number below 1")
    each = {name: (1 - unlike) / len(varied) for name in varied}
    return {**each, UNLIKE: unlike} if unlike else each


def _checked(kinds: Mapping[str, float]) -> dict[str, float]:
    shares = {str(name): float(share) for name, share in kinds.items()}
    if not all(0 <= share < float("inf") for share in shares.values()) or not any(shares.values()):
        raise ConfigError(f"kinds={dict(kinds)}: use shares of 0 and more, one of them above 0")
    return {name: share for name, share in shares.items() if share}


def _columns(kind: str, factors: Sequence[str]) -> list[int]:
    """Columns of the factors that a kind names."""
    if kind == UNLIKE:
        return []
    # A factor's own name may have a plus in it.
    names = [kind] if kind in factors else kind.split("+")
    if unknown := [name for name in names if name not in factors]:
        raise ConfigError(f"kinds: {unknown[0]!r} is no factor (there are {', '.join(factors)})")
    return [factors.index(name) for name in names]


def _relation(
    classes: IntArray, alike: Sequence[int], varied: Sequence[int], match: PairMatch
) -> BoolArray:
    """Which combinations of classes make a pair of a kind, ``(combinations, combinations)``."""
    pairs = np.ones((len(classes), len(classes)), dtype=bool)
    for column in range(classes.shape[1]):
        equal = classes[:, None, column] == classes[None, :, column]
        if column in alike:
            pairs &= equal
        elif match == "exact" and column in varied:
            pairs &= ~equal
    return pairs


class _RowIndex:
    """Rows in the order of their combination of classes, and within it of their group.

    Args:
        labels: ``(n, factors)``.
        groups: ``(n,)``; None: groups do not matter.
    """

    def __init__(self, labels: IntArray, groups: IntArray | None) -> None:
        self.combinations, self.combination = combinations(labels)
        self.by_group = groups is not None
        given = np.zeros(len(labels), np.int64) if groups is None else groups
        names, group = np.unique(given, return_inverse=True)
        self.group = group.reshape(-1)
        self.order = np.lexsort((self.group, self.combination))
        # Rows of each group in each combination, and where they begin among that combination's.
        self.counts = np.zeros((len(names), len(self.combinations)), dtype=np.int64)
        np.add.at(self.counts, (self.group, self.combination), 1)
        self.begins = np.cumsum(self.counts, axis=0) - self.counts
        sizes = self.counts.sum(axis=0)
        self.offset = np.cumsum(sizes) - sizes
        self.position = np.empty(len(labels), dtype=np.int64)
        self.position[self.order] = np.arange(len(labels)) - np.repeat(self.offset, sizes)


class _Partners:
    """Partners of every row, for one kind of pairs.

    Rows of one group and combination (a cell) have the same partners, apart from themselves. The
    partners of all cells are numbered through; a number is turned into a row by bisection.

    Args:
        index: The rows.
        relation: Which combinations make a pair, ``(combinations, combinations)``.

    Attributes:
        first: Rows that have a partner.
    """

    def __init__(self, index: _RowIndex, relation: BoolArray) -> None:
        self.index = index
        groups, combination = np.nonzero(index.counts)
        number = np.empty(index.counts.shape, dtype=np.int64)
        number[groups, combination] = np.arange(len(groups))
        self.cell = number[index.group, index.combination]
        related = relation[combination]
        partners = related * index.counts.sum(axis=0)
        partners[np.arange(len(groups)), combination] -= related[
            np.arange(len(groups)), combination
        ]
        self.elsewhere = np.zeros(len(groups), dtype=bool)
        if index.by_group:
            others = related * (index.counts.sum(axis=0) - index.counts[groups])
            self.elsewhere = others.any(axis=1)
            partners[self.elsewhere] = others[self.elsewhere]
        self.sizes = partners.sum(axis=1)
        self.begins = np.cumsum(self.sizes) - self.sizes
        self.numbers = partners.ravel()
        self.ends = np.cumsum(self.numbers)
        self.first = np.flatnonzero(self.sizes[self.cell])

    def draw(self, rng: np.random.Generator, count: int) -> tuple[IntArray, IntArray]:
        """Rows a and b of `count` pairs."""
        index = self.index
        a = self.first[rng.integers(len(self.first), size=count)]
        cell = self.cell[a]
        number = self.begins[cell] + rng.integers(self.sizes[cell])
        place = np.searchsorted(self.ends, number, side="right")
        combination = place % len(index.combinations)
        position = number - (self.ends[place] - self.numbers[place])
        # Partners are counted without a's group, or without a itself: step over these.
        elsewhere, group = self.elsewhere[cell], index.group[a]
        own = (combination == index.combination[a]).astype(np.int64)
        begin = np.where(elsewhere, index.begins[group, combination], index.position[a])
        length = np.where(elsewhere, index.counts[group, combination], own)
        position += length * (position >= begin)
        return a, index.order[index.offset[combination] + position]
