"""Exact nearest rows by cosine, over blocks of rows that never have to be in memory together.

Scores are computed in double precision and ranked as float32, so that equal rows tie wherever they
stand in a block; ties go to the earlier row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError, DataError
from coala_latent.store import RowBlock

__all__ = ["By", "Hits", "cosines", "nearest"]

By = Literal["rows", "files", "mean"]

_Doubles = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Hits:
    """The nearest of each query, nearest first.

    Attributes:
        scores: ``(queries, k)`` float32, cosine in [-1, 1]; k is smaller where there is less to
            find.
        rows: ``(queries, k)`` int64, index of the row; of a mean, that of the file's first row.
        files: ``(queries, k)`` int64, index of the row's file.
    """

    scores: npt.NDArray[np.float32]
    rows: _Indices
    files: _Indices


def nearest(queries: npt.ArrayLike, blocks: Iterable[RowBlock], k: int, by: By = "files") -> Hits:
    """Find the rows or files that are nearest to each query.

    Args:
        queries: ``(queries, dim)``.
        blocks: All rows in order, as `Store.iter_blocks` gives them. Memory is bounded by a block.
        k: How many.
        by: ``"rows"`` ranks rows; ``"files"`` files, by their best row; ``"mean"`` files, by the
            mean of their rows weighted by the time each heard.

    Raises:
        DataError: Queries or rows that are not finite or not of one size, or rows of a file that
            are not neighbours.
        ConfigError: k is less than 1, or there is no such ranking.
    """
    if k < 1:
        raise ConfigError(f"k={k} must be at least 1")
    if by not in get_args(By):
        raise ConfigError(f"by must be one of {', '.join(get_args(By))}, not {by!r}")
    sought = _vectors(queries, "query")
    found = _Best(len(sought.norms), k)
    numbered = _numbered(blocks)
    if by == "mean":
        for means in _file_means(numbered):
            found.add(_scored(sought, means.values, means.rows, means.files))
    else:
        parts = (_scored(sought, block.values, rows, block.file) for rows, block in numbered)
        for part in parts if by == "rows" else _file_maxima(parts):
            found.add(part)
    return found.hits()


def cosines(a: npt.ArrayLike, b: npt.ArrayLike) -> _Doubles:
    """Cosine of every row of ``a (m, dim)`` with every row of ``b (n, dim)``: ``(m, n)`` float64.

    Rows of zeros have the cosine 0 with everything.

    Raises:
        DataError: Rows that are not finite or not of one size.
    """
    return _vectors(a, "row").cosines(_vectors(b, "row"))


@dataclass(frozen=True, eq=False)
class _Vectors:
    """``values (n, dim)``, whose lengths do not count, and these lengths ``norms (n,)``."""

    values: _Doubles
    norms: _Doubles

    def cosines(self, other: _Vectors) -> _Doubles:
        """``(n, others)``."""
        if self.values.shape[1] != other.values.shape[1]:
            raise DataError(
                f"vectors of {self.values.shape[1]} values cannot be compared with vectors of "
                f"{other.values.shape[1]}"
            )
        # Divided afterwards: products of small whole numbers, and their ties, stay exact.
        products = self.values @ other.values.T
        return np.clip(products / np.outer(self.norms, other.norms), -1.0, 1.0)


def _vectors(rows: npt.ArrayLike, what: str, numbers: _Indices | None = None) -> _Vectors:
    """Check vectors ``(n, dim)``; `numbers` are their names in messages."""
    x = np.array(rows, dtype=np.float64)
    if x.ndim != 2:
        raise DataError(f"expected {what} vectors (n, dim), got shape {x.shape}")
    largest = np.abs(x).max(axis=1, initial=0.0)
    finite = np.isfinite(largest)
    if not finite.all():
        place = int(np.argmin(finite))
        number = place if numbers is None else int(numbers[place])
        raise DataError(f"{what} {number} is not finite: leave it out, or embed it again")
    # By powers of two, which is exact, so that squares stay in range.
    x = np.ldexp(x, -np.frexp(largest)[1][:, None])
    norms = np.linalg.norm(x, axis=1)
    return _Vectors(x, np.where(norms > 0, norms, 1.0))


@dataclass(frozen=True, eq=False)
class _Part:
    """Something of rows or files: ``values (n, ...)``, ``rows (n,)`` or as values, ``files (n,)``.

    Scores are values ``(n, queries)``.
    """

    values: _Doubles | npt.NDArray[np.float32]
    rows: _Indices
    files: _Indices

    def __getitem__(self, some: slice) -> _Part:
        return _Part(self.values[some], self.rows[some], self.files[some])


def _numbered(blocks: Iterable[RowBlock]) -> Iterator[tuple[_Indices, RowBlock]]:
    """Blocks that hold rows, with the rows' numbers."""
    first, last = 0, -1
    for block in blocks:
        count = len(block.values)
        if not count:
            continue
        if block.file[0] < last or (np.diff(block.file) < 0).any():
            raise DataError("rows of a file must be neighbours, and files in order")
        yield np.arange(first, first + count), block
        first, last = first + count, int(block.file[-1])


def _scored(sought: _Vectors, values: npt.ArrayLike, rows: _Indices, files: npt.ArrayLike) -> _Part:
    """Scores of rows, ``(n, queries)`` float32."""
    scores = _vectors(values, "row", rows).cosines(sought).astype(np.float32)
    return _Part(scores, rows, np.asarray(files, dtype=np.int64))


def _starts(files: npt.NDArray[np.integer]) -> _Indices:
    """Where the rows of each file begin in a block."""
    return np.concatenate([[0], np.flatnonzero(np.diff(files)) + 1])


def _whole_files(parts: Iterable[_Part], merge: Callable[[_Part, _Part], _Part]) -> Iterator[_Part]:
    """One line a file, of parts with one line for each file that a block touches.

    Args:
        parts: In order.
        merge: Makes one line of two lines of the same file.
    """
    held: _Part | None = None
    for part in parts:
        if held is not None:
            head = part[:1]
            if held.files[0] == head.files[0]:
                part = _stack(merge(held, head), part[1:])
            else:
                part = _stack(held, part)
        held = part[-1:]
        yield part[:-1]
    if held is not None:
        yield held


def _stack(first: _Part, second: _Part) -> _Part:
    return _Part(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.rows, second.rows]),
        np.concatenate([first.files, second.files]),
    )


def _file_maxima(scored: Iterable[_Part]) -> Iterator[_Part]:
    """Best score of each file for each query, and the row it is of, both ``(files, queries)``."""

    def of_block(part: _Part) -> _Part:
        starts = _starts(part.files)
        best = np.maximum.reduceat(part.values, starts, axis=0)
        lengths = np.diff([*starts, len(part.files)])
        is_best = part.values == np.repeat(best, lengths, axis=0)
        # Rows that are not best count as beyond the last: the least is the first that is best.
        numbers = np.where(is_best, part.rows[:, None], np.iinfo(np.int64).max)
        return _Part(best, np.minimum.reduceat(numbers, starts, axis=0), part.files[starts])

    def merge(a: _Part, b: _Part) -> _Part:
        rows = np.where(b.values > a.values, b.rows, a.rows)
        return _Part(np.maximum(a.values, b.values), rows, a.files)

    return _whole_files(map(of_block, scored), merge)


def _file_means(numbered: Iterable[tuple[_Indices, RowBlock]]) -> Iterator[_Part]:
    """Mean row of each file ``(files, dim)``, and the number of its first row."""

    def of_block(item: tuple[_Indices, RowBlock]) -> _Part:
        rows, block = item
        values = block.values.astype(np.float64)
        weights = (block.end - block.start)[:, None]
        # Weighted sum, plain sum, weight, count: side by side, so that one addition merges all.
        with np.errstate(invalid="ignore"):  # infinite values are refused when they are scored
            table = np.hstack([weights * values, values, weights, np.ones_like(weights)])
        starts = _starts(block.file)
        files = block.file[starts].astype(np.int64)
        return _Part(np.add.reduceat(table, starts, axis=0), rows[starts], files)

    def merge(a: _Part, b: _Part) -> _Part:
        return _Part(a.values + b.values, a.rows, a.files)

    for sums in _whole_files(map(of_block, numbered), merge):
        dim = (sums.values.shape[1] - 2) // 2
        weighted, plain = sums.values[:, :dim], sums.values[:, dim : 2 * dim]
        weight, count = sums.values[:, -2:-1], sums.values[:, -1:]
        # Rows that heard nothing count alike, as in Embedding.mean.
        means = np.where(weight > 0, weighted / np.where(weight > 0, weight, 1.0), plain / count)
        yield _Part(means, sums.rows, sums.files)


class _Best:
    """The k best so far of each query."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._held = [
            _Part(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
            for _ in range(queries)
        ]

    def add(self, part: _Part) -> None:
        """Regard scores ``(n, queries)`` of rows or files that come later than all before."""
        for query, held in enumerate(self._held):
            scores = part.values[:, query]
            rows = part.rows if part.rows.ndim == 1 else part.rows[:, query]
            places = self._candidates(scores, held)
            both = _stack(held, _Part(scores[places], rows[places], part.files[places]))
            # What is held comes first and the sort is stable: ties keep their order.
            order = np.argsort(-both.values, kind="stable")[: self._k]
            self._held[query] = _Part(both.values[order], both.rows[order], both.files[order])

    def _candidates(self, scores: npt.NDArray[np.floating], held: _Part) -> _Indices:
        """Places of all scores that can be among the best, in order."""
        if len(held.values) == self._k:
            places = np.flatnonzero(scores > held.values[-1])
        else:
            places = np.arange(len(scores))
        if len(places) > self._k:
            chosen = scores[places]
            least = np.partition(chosen, len(chosen) - self._k)[len(chosen) - self._k]
            places = places[chosen >= least]
        return places

    def hits(self) -> Hits:
        """All queries have the same number of hits: all that there are, or k."""
        count = len(self._held[0].values) if self._held else 0
        shape = (len(self._held), count)
        columns = [
            np.array([getattr(held, name) for held in self._held]).reshape(shape)
            for name in ("values", "rows", "files")
        ]
        return Hits(columns[0].astype(np.float32), *(c.astype(np.int64) for c in columns[1:]))
