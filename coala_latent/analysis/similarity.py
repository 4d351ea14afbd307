"""How much two sets of features of the same items have in common.

Sources:
    Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", ICML
    2019 (linear CKA).
    Song, Smola, Gretton, Bedo, Borgwardt, "Feature Selection via Dependence Maximization", JMLR 13,
    2012 (HSIC without bias, equation 5).
    Hotelling, "Relations between two sets of variates", Biometrika 28, 1936 (CCA).
    Raghu, Gilmer, Yosinski, Sohl-Dickstein, "SVCCA", NeurIPS 2017 (principal components, then
    CCA).
    Morcos, Raghu, Bengio, "Insights on representational similarity in neural networks with
    canonical correlation", NeurIPS 2018 (weights by projection).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError, DataError

__all__ = ["CanonicalCorrelations", "cca", "cca_by_chance", "linear_cka"]

_Doubles = npt.NDArray[np.float64]

# The original's threshold on variances, relative to the largest.
EPSILON = 1e-20


@dataclass(frozen=True, eq=False)
class CanonicalCorrelations:
    """What `cca` finds.

    Attributes:
        correlations: ``(r,)`` in [0, 1], largest first; r is the smaller of both ranks.
        mean: Their mean, which the COALA paper reports.
        weighted: Their mean weighted by how much of the first features each direction accounts for
            (PWCCA); unlike `mean` it depends on which features come first.
        ranks: Dimensions of both sets that were compared.
    """

    correlations: _Doubles = field(repr=False)
    mean: float
    weighted: float
    ranks: tuple[int, int]


def linear_cka(x: npt.ArrayLike, y: npt.ArrayLike, *, unbiased: bool = False) -> float:
    r"""Linear centred kernel alignment, :math:`\|Y^T X\|_F^2 / (\|X^T X\|_F \|Y^T Y\|_F)`.

    Equal features, also rotated, scaled or shifted, have 1. With fewer items than dimensions the
    plain form is high for any features; the unbiased one is about 0 for independent ones, and can
    be below.

    Args:
        x: ``(n, dim)``, one row an item.
        y: ``(n, other)``, of the same items.
        unbiased: Leave out what each item has in common with itself.

    Raises:
        DataError: Features that do not fit together, are not finite or do not vary, or fewer than
            2 items (4 for the unbiased form).
    """
    a, b = _pair(x, y, 4 if unbiased else 2)
    inner = _hsic if unbiased else _overlap
    own = inner(a, a), inner(b, b)
    if not min(own) > 0:  # only the unbiased form can be so, with very few items
        raise DataError(f"{len(a)} items are too few to tell how these features vary: take more")
    return inner(a, b) / float(np.sqrt(own[0] * own[1]))


def _overlap(a: _Doubles, b: _Doubles) -> float:
    return float(((a.T @ b) ** 2).sum())


def _hsic(a: _Doubles, b: _Doubles) -> float:
    """Of linear kernels without their diagonals, which are never made: up to a factor of n."""
    n = len(a)
    diagonal_a, diagonal_b = (a**2).sum(axis=1), (b**2).sum(axis=1)
    rows_a, rows_b = (v @ v.sum(axis=0) - (v**2).sum(axis=1) for v in (a, b))
    trace = _overlap(a, b) - diagonal_a @ diagonal_b
    sums = rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2))
    return float(trace + sums - 2 / (n - 2) * (rows_a @ rows_b))


def cca(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    components: int | None = None,
    epsilon: float = EPSILON,
) -> CanonicalCorrelations:
    """Canonical correlations of two sets of features.

    Columns are standardised, and those that do not vary left out. Correlations found in few items
    are high by chance: compare with `cca_by_chance`.

    Args:
        x: ``(n, dim)``, one row an item.
        y: ``(n, other)``, of the same items.
        components: Compare at most that many principal components of each (SVCCA); all by default.
        epsilon: Directions whose variance is below that share of the largest do not count.

    Raises:
        DataError: Features that do not fit together, are not finite or do not vary, or so few items
            that some correlations are 1 whatever the features are.
        ConfigError: ``components`` or ``epsilon`` is out of range.
    """
    a, b = _pair(x, y, 2)
    return _correlate(_basis(a, components, epsilon), _basis(b, components, epsilon), a)


def cca_by_chance(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    components: int | None = None,
    epsilon: float = EPSILON,
    runs: int = 5,
    seed: int = 0,
) -> float:
    """Mean canonical correlation when items are paired at random: what few items alone give.

    Args:
        x: As in `cca`.
        y: As in `cca`.
        components: As in `cca`.
        epsilon: As in `cca`.
        runs: Pairings; their mean is returned.
        seed: Of the pairings.

    Raises:
        DataError: As `cca`.
        ConfigError: As `cca`.
    """
    a, b = _pair(x, y, 2)
    first, second = _basis(a, components, epsilon), _basis(b, components, epsilon)
    rng = np.random.default_rng(seed)
    shuffled = (second[rng.permutation(len(b))] for _ in range(runs))
    return float(np.mean([_correlate(first, each, a).mean for each in shuffled]))


def _correlate(first: _Doubles, second: _Doubles, features: _Doubles) -> CanonicalCorrelations:
    n, ranks = len(first), (first.shape[1], second.shape[1])
    if sum(ranks) > n - 1:
        raise DataError(
            f"{n} items are too few for canonical correlations of {ranks[0]} and {ranks[1]} "
            f"dimensions: some are 1 whatever the features are (take more than {sum(ranks)} "
            "items, fewer components, or CKA)"
        )
    left, found, _ = np.linalg.svd(first.T @ second, full_matrices=False)
    correlations = np.clip(found, 0.0, 1.0)
    weights = np.abs((first @ left).T @ features).sum(axis=1)
    weighted = float(np.average(correlations, weights=weights))
    return CanonicalCorrelations(correlations, float(correlations.mean()), weighted, ranks)


def _basis(x: _Doubles, components: int | None, epsilon: float) -> _Doubles:
    """Orthonormal columns ``(n, rank)`` that span the standardised features."""
    if components is not None and components < 1:
        raise ConfigError(f"components={components} must be at least 1")
    if not 0 <= epsilon < 1:
        raise ConfigError(f"epsilon={epsilon} must be at least 0 and below 1")
    x = x / np.abs(x).max(axis=0)
    u, lengths, _ = np.linalg.svd(x / x.std(axis=0), full_matrices=False)
    # A variance is a squared length; below the second term all is rounding.
    least = lengths[0] * max(np.sqrt(epsilon), max(x.shape) * np.finfo(np.float64).eps)
    return u[:, lengths > least][:, :components]


def _pair(x: npt.ArrayLike, y: npt.ArrayLike, fewest: int) -> tuple[_Doubles, _Doubles]:
    """Both checked and centred, without the columns that do not vary."""
    a, b = _centred(x, "first"), _centred(y, "second")
    if len(a) != len(b):
        raise DataError(f"{len(a)} and {len(b)} rows: features must be of the same items")
    if len(a) < fewest:
        raise DataError(f"{len(a)} items: this needs at least {fewest}")
    for values, which in ((a, "first"), (b, "second")):
        if values.shape[1] == 0:
            raise DataError(f"the {which} features are equal for all items: nothing varies")
    return a, b


def _centred(features: npt.ArrayLike, which: str) -> _Doubles:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise DataError(f"the {which} features must be (n, dim), got shape {x.shape}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"the {which} features: row {row} is not finite: leave this item out")
    x = x[:, np.ptp(x, axis=0) > 0] if len(x) else x[:, :0]
    if x.size:
        # Squares of squares follow: keep them in range. CKA and CCA do not see the scale.
        x = x / np.abs(x).max()
        x = x - x.mean(axis=0)
    return x
