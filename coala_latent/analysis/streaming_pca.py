"""Principal components of very wide rows, fitted block by block in bounded memory.

A layer of a network, flattened, has up to 100 000 columns. What is kept between blocks are the
leading directions times their singular values, `kept` rows. A block is merged by stacking these,
the block's centred rows and one row that corrects for the shift of the mean (Ross, Lim, Lin, Yang,
"Incremental learning for robust visual tracking", IJCV 2008, section 3), and by rotating the stack
onto its leading left singular vectors. These are the eigenvectors of the small matrix of its rows'
inner products, so the wide matrix is never decomposed. More directions are kept than asked for,
because what is cut off early cannot come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError, DataError

__all__ = [
    "Blocks",
    "ColumnMoments",
    "PcaResult",
    "StreamingPca",
    "fit_projection",
    "projection_arrays",
]

FloatArray: TypeAlias = npt.NDArray[np.floating]
DoubleArray: TypeAlias = npt.NDArray[np.float64]
Blocks: TypeAlias = Callable[[], Iterable[FloatArray]]

# Rows merged at once: the small matrix is then a little larger than what is kept, and the cost of
# a row nearly as low as it gets.
_BATCH_ROWS = 128
# Directions kept beyond those asked for.
_SPARE = 64
# Columns whose inner products are summed at once in float64 (a megabyte for each 16 rows).
_CHUNK = 8192
# Smallest share of the first component's variance that is more than rounding of float32 rows.
_NOISE = 1e-12


class ColumnMoments:
    """Mean and variance of each column, block by block (Chan, Golub, LeVeque 1979), in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: DoubleArray = np.zeros(0)
        self._squares: DoubleArray = np.zeros(0)

    def partial_fit(self, rows: FloatArray) -> ColumnMoments:
        """Take ``(n, dim)`` rows in.

        Raises:
            DataError: They are no matrix, of another width, or not finite.
        """
        rows = _checked(rows, self.mean.shape[0] if self.count else None)
        if not len(rows):
            return self
        if not self.count:
            self.mean, self._squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        count, total = len(rows), self.count + len(rows)
        for part in _chunks(rows.shape[1]):
            exact = rows[:, part].astype(np.float64)
            mean = exact.mean(axis=0)
            exact -= mean
            shift = mean - self.mean[part]
            self._squares[part] += np.einsum("ij,ij->j", exact, exact)
            self._squares[part] += shift**2 * (self.count * count / total)
            self.mean[part] += shift * (count / total)
        self.count = total
        return self

    @property
    def variance(self) -> DoubleArray:
        """``(dim,)`` population variance."""
        return self._squares / max(1, self.count)

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """``(dim,)`` which columns never vary, but for rounding of their mean."""
        eps = np.finfo(np.float64).eps
        return self.variance <= (self.count * self.mean * eps) ** 2

    @property
    def scale(self) -> DoubleArray:
        """``(dim,)`` standard deviation; 1 for a column that never varies."""
        return np.sqrt(np.where(self.constant, 1.0, self.variance))


@dataclass(frozen=True, eq=False)
class PcaResult:
    """Principal components of the rows that were seen.

    Attributes:
        mean: ``(dim,)`` float64.
        components: ``(k, dim)`` float32, orthonormal, the largest variance first; the loading of
            largest size in each is positive.
        explained_variance: ``(k,)`` population variance along each.
        total_variance: Of the rows, over all columns, exact.
        rows: How many were seen.
    """

    mean: DoubleArray
    components: npt.NDArray[np.float32]
    explained_variance: DoubleArray
    total_variance: float
    rows: int

    @property
    def explained_variance_ratio(self) -> DoubleArray:
        """``(k,)`` shares of the total variance."""
        return self.explained_variance / self.total_variance


class StreamingPca:
    """Principal components, block by block; blocks of any size give the same result.

    Args:
        components: How many.
        mean: ``(dim,)`` taken from every row first, with `scale`; nothing by default.
        scale: ``(dim,)`` by which every row is divided.
        kept: Directions kept between blocks; 64 more than components by default. More are more
            exact and slower.
        batch_rows: Rows merged at once.

    Raises:
        ConfigError: A number is out of range.
    """

    def __init__(
        self,
        components: int,
        *,
        mean: DoubleArray | None = None,
        scale: DoubleArray | None = None,
        kept: int | None = None,
        batch_rows: int = _BATCH_ROWS,
    ) -> None:
        self.kept = components + _SPARE if kept is None else kept
        if components < 1 or self.kept < components or batch_rows < 1:
            raise ConfigError(
                f"components={components}, kept={self.kept}, batch_rows={batch_rows}: components "
                "and batch_rows must be at least 1, and as many kept as there are components"
            )
        self.components = components
        self._affine = None if mean is None or scale is None else (mean, scale)
        self._batch_rows = batch_rows
        self._moments = ColumnMoments()
        self._waiting: npt.NDArray[np.float32] | None = None
        self._ready = 0
        # Directions times singular values, (up to kept, dim).
        self._basis: npt.NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        """Rows taken in."""
        return self._moments.count + self._ready

    def partial_fit(self, rows: FloatArray) -> StreamingPca:
        """Take ``(n, dim)`` rows in.

        Raises:
            DataError: They are no matrix, of another width, or not finite.
        """
        rows = _checked(rows, None if self._waiting is None else self._waiting.shape[1])
        if self._waiting is None and len(rows):
            self._waiting = np.empty((self._batch_rows, rows.shape[1]), np.float32)
        begin = 0
        while begin < len(rows):
            assert self._waiting is not None
            count = min(len(rows) - begin, self._batch_rows - self._ready)
            self._fill(rows[begin : begin + count])
            begin, self._ready = begin + count, self._ready + count
            if self._ready == self._batch_rows:
                self._merge()
        return self

    def _fill(self, rows: FloatArray) -> None:
        """Rows as they are decomposed, behind those that wait."""
        assert self._waiting is not None
        place = slice(self._ready, self._ready + len(rows))
        if self._affine is None:
            self._waiting[place] = rows
            return
        mean, scale = self._affine
        for part in _chunks(rows.shape[1]):
            self._waiting[place, part] = (rows[:, part] - mean[part]) / scale[part]

    def _merge(self) -> None:
        """Take the waiting rows into the basis."""
        assert self._waiting is not None
        rows = self._waiting[: self._ready]
        before, count = self._moments.count, self._ready
        old_mean = self._moments.mean.copy()  # changed in place below
        self._moments.partial_fit(rows)
        more = 0 if self._basis is None else len(self._basis) + 1
        weight = np.sqrt(before * count / (before + count))
        stack = np.empty((count + more, rows.shape[1]), np.float32)
        for part in _chunks(rows.shape[1]):
            exact = rows[:, part].astype(np.float64)
            mean = exact.mean(axis=0)
            stack[:count, part] = exact - mean
            if self._basis is not None:
                stack[count:-1, part] = self._basis[:, part]
                stack[-1, part] = (old_mean[part] - mean) * weight
        _, vectors = _row_products(stack)
        self._basis = vectors[:, : self.kept].T.astype(np.float32) @ stack
        self._ready = 0

    def result(self) -> PcaResult:
        """The components of all rows so far; more rows may follow.

        Raises:
            DataError: Too few rows, or they vary in fewer directions than components are wanted.
        """
        wanted = self.components
        if self.rows <= wanted:
            raise DataError(
                f"{self.rows} rows: {wanted} components need at least {wanted + 1} (ask for fewer, "
                "or give more rows)"
            )
        if self._ready:
            self._merge()
        assert self._basis is not None
        # Orthogonal but for the rounding of many merges: decomposed once more.
        squares, vectors = _row_products(self._basis)
        rank = int((squares > _NOISE * squares[0]).sum()) if squares[0] > 0 else 0
        if rank < wanted:
            raise DataError(
                f"the rows vary in {rank} directions only, {wanted} components were asked for "
                "(ask for fewer, or give other rows)"
            )
        scaled = vectors[:, :wanted] / np.sqrt(squares[:wanted])
        components = scaled.T.astype(np.float32) @ self._basis
        largest = np.abs(components).argmax(axis=1)
        components *= np.sign(components[np.arange(wanted), largest])[:, None]
        return PcaResult(
            mean=self._moments.mean.copy(),
            components=components,
            explained_variance=squares[:wanted] / self.rows,
            total_variance=float(self._moments.variance.sum()),
            rows=self.rows,
        )


def fit_projection(
    blocks: Blocks, k: int, *, kept: int | None = None
) -> dict[str, npt.NDArray[np.floating]]:
    """Standardisation of columns, principal components, and standardisation of these.

    Reads the rows twice: the mean and variance of every column must be known before components of
    the standardised columns can be. The second standardisation follows from the components'
    variances, so that the projected rows have mean 0 and variance 1 without a third reading.

    Args:
        blocks: Called for each reading; gives the same ``(n, dim)`` blocks each time. Columns that
            never vary are only centred.
        k: Components.
        kept: See `StreamingPca`.

    Returns:
        ``pre_mean`` and ``pre_scale`` ``(dim,)``, ``pca_mean`` ``(dim,)``, ``components``
        ``(k, dim)``, ``post_mean`` and ``post_scale`` ``(k,)``, ``explained_variance`` and
        ``explained_variance_ratio`` ``(k,)``; float64, the components float32.

    Raises:
        DataError: Too few rows, rows that vary in fewer than `k` directions, or the second reading
            gives another number of rows.
    """
    moments = ColumnMoments()
    for rows in blocks():
        moments.partial_fit(rows)
    _check_size(moments, k)
    pca = StreamingPca(k, mean=moments.mean, scale=moments.scale, kept=kept)
    for rows in blocks():
        pca.partial_fit(rows)
    return projection_arrays(moments, pca)


def projection_arrays(
    moments: ColumnMoments, pca: StreamingPca
) -> dict[str, npt.NDArray[np.floating]]:
    """What `fit_projection` returns, from moments and components of the same rows.

    Raises:
        DataError: They have not seen the same number of rows, or too few.
    """
    if pca.rows != moments.count:
        raise DataError(
            f"{moments.count} rows in the first reading, {pca.rows} in the second: both must be "
            "the same"
        )
    found = pca.result()
    return {
        "pre_mean": moments.mean,
        "pre_scale": moments.scale,
        "pca_mean": found.mean,
        "components": found.components,
        "post_mean": np.zeros(len(found.components)),
        "post_scale": np.sqrt(found.explained_variance),
        "explained_variance": found.explained_variance,
        "explained_variance_ratio": found.explained_variance_ratio,
    }


def _check_size(moments: ColumnMoments, k: int) -> None:
    if moments.count <= k or len(moments.mean) < k:
        raise DataError(
            f"{moments.count} rows of {len(moments.mean)} values: {k} components need at least "
            f"{k + 1} rows and {k} values (ask for fewer)"
        )


def _checked(rows: FloatArray, width: int | None) -> FloatArray:
    rows = np.asarray(rows)
    if rows.ndim != 2:
        raise DataError(f"rows must be (n, dim), got shape {rows.shape}")
    if width is not None and rows.shape[1] != width:
        raise DataError(f"rows of {rows.shape[1]} values after rows of {width}")
    # A sum is NaN or infinite where a value is; no array of truth values is made.
    with np.errstate(over="ignore", invalid="ignore"):
        finite = bool(np.isfinite(rows.sum(dtype=np.float64)))
    if not finite:
        raise DataError("a row holds NaN or infinity (leave it out)")
    return rows


def _chunks(width: int) -> list[slice]:
    return [slice(begin, begin + _CHUNK) for begin in range(0, width, _CHUNK)]


def _row_products(stack: npt.NDArray[np.float32]) -> tuple[DoubleArray, DoubleArray]:
    """Eigenvalues ``(n,)`` and vectors ``(n, n)`` of the rows' inner products, largest first.

    The products are float64: squares of what float32 holds need it.
    """
    products = np.zeros((len(stack), len(stack)))
    for part in _chunks(stack.shape[1]):
        exact = stack[:, part].astype(np.float64)
        products += exact @ exact.T
    values, vectors = np.linalg.eigh(products)
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1]
