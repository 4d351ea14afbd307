"""Tests of paired differences whose rows are not independent.

Rows of one recording rise and fall together, so rows are no evidence of their own: differences are
averaged per group (recording) first, and the groups are tested. Where a row hangs on several
recordings, such as donor and receptor of a swap, averaging over one of them leaves rows that share
the other, and a robust t-test over all of them is added; the largest p counts.

Sources:
    Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1, 1945.
    Kerby, "The simple difference formula", Comprehensive Psychology 3, 2014 (rank-biserial).
    Hedges, "Distribution theory for Glass's estimator of effect size", JES 6, 1981.
    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.
    Aronow, Samii, Assenova, "Cluster-robust variance estimation for dyadic data", Political
    Analysis 23, 2015 (rows that share any member are taken as dependent).
    Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.special import ndtr, stdtr, stdtrit
from scipy.stats import rankdata

from coala_latent.analysis.statistics import Interval
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "Correction",
    "DifferenceTest",
    "adjust_p_values",
    "difference_family",
    "difference_test",
    "plain",
    "sign_flip_p",
    "wilcoxon_p",
]

Correction = Literal["holm", "bonferroni", "none"]

_EXACT_RANKS = 200  # above, the normal approximation is as good
_EXACT_FLIPS = 14  # 16 384 sign patterns
_SHARE_ROWS = 1024  # rows whose partners are looked up at once

_Doubles = npt.NDArray[np.float64]
_Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class DifferenceTest:
    """Paired differences, tested over groups. Never NaN.

    Attributes:
        n: Number of rows.
        n_groups: Number of groups the rows were averaged to (of the first kind of group).
        nonzero: How many of these averages are not 0; zeros say nothing about a direction and are
            left out of the signed-rank test. Below 6 its p cannot fall under 0.05.
        difference: Mean of the groups' averages. With one kind of group its bootstrap interval
            over groups, else the robust t interval.
        p_value: Two-sided: the signed-rank test over groups; with several kinds of group the
            largest of `p_wilcoxon` and `p_robust`.
        p_corrected: `p_value` corrected over the family it was tested in.
        correction: By which method.
        family: Number of tests in the family.
        p_wilcoxon: Exact signed-rank test of the groups' averages; with several kinds of group the
            largest over the kinds.
        p_sign_flip: Permutation of signs by group, of the mean.
        p_robust: t-test of the mean in which rows that share any group are dependent; equals
            `p_wilcoxon` where there is one kind of group.
        rank_biserial: Matched-pairs rank-biserial correlation of the groups' averages in [-1, 1],
            with its bootstrap interval over groups.
        standardised: Mean over standard deviation of the groups' averages, with Hedges' correction
            for few groups, likewise; None where they do not scatter.
    """

    n: int
    n_groups: int
    nonzero: int
    difference: Interval
    p_value: float
    p_corrected: float
    correction: str
    family: int
    p_wilcoxon: float
    p_sign_flip: float
    p_robust: float
    rank_biserial: Interval
    standardised: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return plain(self)


def difference_test(
    differences: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> DifferenceTest:
    """Test whether paired differences are centred at 0.

    Args:
        differences: ``(n,)``, such as a distance before minus the same after.
        groups: ``(n,)`` ids of the independent units, such as recordings; or ``(n, m)`` where a
            row hangs on m of them, such as donor and receptor. Ids are comparable between columns.
            The first column is what differences are averaged by.
        n_resamples: Bootstrap samples, and sign patterns where there are too many to try them all.
        seed: Seed of both.
        confidence: Coverage of the intervals.

    Returns:
        The test as a family of its own. One group gives a p of 1 and unbounded intervals.

    Raises:
        DataError: No rows, values that are not finite, or groups of another length.
        ConfigError: ``n_resamples`` or ``confidence`` out of range.
    """
    values, members = _checked(differences, groups)
    if n_resamples < 1:
        raise ConfigError(f"n_resamples={n_resamples} must be at least 1")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence={confidence} must lie between 0 and 1, as in 0.95")
    means = [_group_means(values, column) for column in members.T]
    by_group = means[0]
    p_wilcoxon = max(wilcoxon_p(column) for column in means)
    biserial, standardised, mean = _intervals(values, members, n_resamples, seed, confidence)
    p_robust = p_wilcoxon
    if members.shape[1] > 1:
        mean, p_robust = _robust(values, members, confidence)
    p_value = max(p_wilcoxon, p_robust)
    return DifferenceTest(
        n=len(values),
        n_groups=len(by_group),
        nonzero=int((by_group != 0).sum()),
        difference=mean,
        p_value=p_value,
        p_corrected=p_value,
        correction="none",
        family=1,
        p_wilcoxon=p_wilcoxon,
        p_sign_flip=max(sign_flip_p(column, n_resamples, seed) for column in means),
        p_robust=p_robust,
        rank_biserial=biserial,
        standardised=standardised,
    )


def difference_family(
    differences: Mapping[str, npt.ArrayLike],
    groups: Mapping[str, npt.ArrayLike],
    *,
    correction: Correction = "holm",
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, DifferenceTest]:
    """Test several sets of differences together and correct their p-values.

    Args:
        differences: ``(n,)`` by name.
        groups: As in `difference_test`, by the same names.
        correction: ``"holm"``, ``"bonferroni"``, or ``"none"``.
        n_resamples, seed: As in `difference_test`.

    Raises:
        DataError: No sets, names without groups, or as in `difference_test`, naming the set.
        ConfigError: Unknown correction.
    """
    if not differences:
        raise DataError("no differences to test")
    tests: dict[str, DifferenceTest] = {}
    for name, values in differences.items():
        if name not in groups:
            raise DataError(f"{name}: no groups are given for these differences")
        try:
            tests[name] = difference_test(values, groups[name], n_resamples=n_resamples, seed=seed)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    corrected = adjust_p_values([test.p_value for test in tests.values()], correction)
    return {
        name: replace(test, p_corrected=float(p), correction=correction, family=len(tests))
        for (name, test), p in zip(tests.items(), corrected, strict=True)
    }


def adjust_p_values(p_values: npt.ArrayLike, method: Correction = "holm") -> _Doubles:
    """Corrected p-values ``(n,)`` of a family of tests, at most 1, in the order given.

    Raises:
        DataError: Not a list of numbers in [0, 1].
        ConfigError: Unknown method.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError("p-values must be a list of numbers between 0 and 1")
    if method not in get_args(Correction):
        raise ConfigError(f"no correction {method!r}; there are {', '.join(get_args(Correction))}")
    if method == "none":
        return p.copy()
    if method == "bonferroni":
        return np.minimum(1.0, len(p) * p)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, stepped)
    return corrected


def plain(value: Any) -> Any:
    """Results for JSON: dataclasses by their fields, arrays as lists, unbounded ends as None."""
    if isinstance(value, Interval):
        return value.to_dict()
    if is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def wilcoxon_p(values: npt.ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test of independent values ``(n,)``.

    Zeros are dropped; ties get mean ranks, whose exact distribution is summed up for up to 200
    values; above, the normal approximation with the ties' variance and a continuity correction.
    Without values that differ from 0 the p is 1; five or fewer give at least 0.0625.
    """
    x = np.asarray(values, np.float64)
    x = x[x != 0]
    if len(x) == 0:
        return 1.0
    # Twice the mean ranks are whole numbers.
    ranks = np.rint(2.0 * rankdata(np.abs(x))).astype(np.intp)
    total, positive = int(ranks.sum()), int(ranks[x > 0].sum())
    smaller = min(positive, total - positive)
    if len(x) > _EXACT_RANKS:
        error = math.sqrt(float((ranks.astype(np.float64) ** 2).sum())) / 2.0
        return min(1.0, 2.0 * float(ndtr(-max(0.0, total / 2.0 - smaller - 1.0) / error)))
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in ranks:
        chances[rank:] += chances[:-rank].copy()
        chances *= 0.5
    return min(1.0, 2.0 * float(chances[: smaller + 1].sum()))


def sign_flip_p(values: npt.ArrayLike, n_resamples: int = 2000, seed: int = 0) -> float:
    """Two-sided p of the mean of independent values ``(n,)`` under random signs.

    All patterns are tried for up to 14 values that differ from 0, else `n_resamples` random ones,
    the observed one counted among them.
    """
    x = np.asarray(values, np.float64)
    x = x[x != 0]
    if len(x) == 0:
        return 1.0
    if len(x) <= _EXACT_FLIPS:
        patterns = np.arange(2 ** len(x))[:, None] >> np.arange(len(x)) & 1
        sums = (2.0 * patterns - 1.0) @ x
        extra = 0
    else:
        rng = np.random.default_rng(seed)
        sums = (2.0 * rng.integers(0, 2, (n_resamples, len(x))) - 1.0) @ x
        extra = 1
    # Patterns with the same sum must count as equal whatever the rounding.
    reached = np.abs(sums) >= abs(x.sum()) - 1e-12 * np.abs(x).sum()
    return float((reached.sum() + extra) / (len(sums) + extra))


def _intervals(
    values: _Doubles, members: _Indices, n_resamples: int, seed: int, confidence: float
) -> tuple[Interval, Interval | None, Interval]:
    """Rank-biserial, standardised and plain mean of the groups' averages, with intervals."""
    by_group = _group_means(values, members[:, 0])
    n = len(by_group)
    estimates = np.array([_biserial(by_group[None])[0], *_standard(by_group[None])[:, 0]])
    if n == 1:
        biserial, mean = (Interval(float(e), -math.inf, math.inf, 1) for e in estimates[[0, 2]])
        return biserial, None, mean
    rng = np.random.default_rng(seed)
    drawn = _resampled_means(values, members, n_resamples, rng)
    samples = np.concatenate([_biserial(drawn)[None], _standard(drawn)])
    tails = [0.5 - confidence / 2.0, 0.5 + confidence / 2.0]
    found = []
    for estimate, sample in zip(estimates, samples, strict=True):
        usable = sample[np.isfinite(sample)]
        low, high = np.quantile(usable, tails) if len(usable) else (-math.inf, math.inf)
        found.append(Interval(float(estimate), float(low), float(high), n))
    return found[0], found[1] if np.isfinite(estimates[1]) else None, found[2]


def _resampled_means(
    values: _Doubles, members: _Indices, n_resamples: int, rng: np.random.Generator
) -> _Doubles:
    """``(n_resamples, groups)`` averages of groups drawn with replacement.

    The other columns' groups are drawn too and weigh the rows within an average.
    """
    first = _compact(members[:, 0])
    n = int(first.max()) + 1
    picks = rng.integers(0, n, (n_resamples, n))
    if members.shape[1] == 1:
        return _group_means(values, first)[picks]
    # Rows with the same groups throughout always get the same weight.
    cells, place = np.unique(members, axis=0, return_inverse=True)
    place = place.reshape(-1)
    sizes, sums = np.bincount(place), np.bincount(place, weights=values)
    weights = np.ones((n_resamples, len(cells)))
    for column in cells[:, 1:].T:
        other = _compact(column)
        count = int(other.max()) + 1
        weights *= rng.multinomial(count, np.full(count, 1.0 / count), n_resamples)[:, other]
    assign = csr_matrix((np.ones(len(cells)), (np.arange(len(cells)), _compact(cells[:, 0]))))
    total, weight = (weights * sums) @ assign, (weights * sizes) @ assign
    # A group none of whose partners was drawn keeps its average.
    means = np.where(weight > 0, total / np.maximum(weight, 1e-300), _group_means(values, first))
    return np.take_along_axis(means, picks, axis=1)


def _biserial(means: _Doubles) -> _Doubles:
    """Of every row of ``(samples, groups)``; 0 where all are 0."""
    # Zeros rank lowest and count for neither side, and must not raise the ranks of the others.
    zeros = (means == 0).sum(axis=1, keepdims=True)
    ranks = np.where(means != 0, rankdata(np.abs(means), axis=1) - zeros, 0.0)
    total = ranks.sum(axis=1)
    return (np.sign(means) * ranks).sum(axis=1) / np.maximum(total, 1.0)


def _standard(means: _Doubles) -> _Doubles:
    """Standardised and plain mean ``(2, samples)``; the former infinite without scatter."""
    n = means.shape[1]
    average = means.mean(axis=1)
    if n == 1:
        return np.stack([np.full(len(means), math.inf), average])
    scatter = means.std(axis=1, ddof=1)
    correction = 1.0 - 3.0 / (4.0 * (n - 1) - 1.0) if n > 2 else 1.0
    some = np.ptp(means, axis=1) > 1e-12 * np.abs(means).max(axis=1)
    standardised = np.full(len(means), math.inf)
    standardised[some] = correction * average[some] / scatter[some]
    return np.stack([standardised, average])


def _robust(values: _Doubles, members: _Indices, confidence: float) -> tuple[Interval, float]:
    """Interval of the rows' mean and p, rows that share any group being dependent."""
    n, kinds = members.shape
    mean = float(values.mean())
    fewest = min(len(np.unique(column)) for column in members.T)
    if fewest == 1:
        return Interval(mean, -math.inf, math.inf, 1), 1.0
    residual = values - mean
    rows = np.repeat(np.arange(n), kinds)
    incidence = csr_matrix((np.ones(n * kinds), (rows, members.reshape(-1))))
    shared = 0.0
    for begin in range(0, n, _SHARE_ROWS):
        partners = incidence[begin : begin + _SHARE_ROWS] @ incidence.T
        partners.data[:] = 1.0
        shared += float(residual[begin : begin + _SHARE_ROWS] @ (partners @ residual))
    # The sum may fall below what one kind of group alone says, even below 0, when groups are few.
    alone = max(float((np.bincount(c, weights=residual) ** 2).sum()) for c in members.T)
    error = math.sqrt(max(shared, alone) * fewest / (fewest - 1)) / n
    half = error * float(stdtrit(fewest - 1, 0.5 + confidence / 2.0))
    interval = Interval(mean, mean - half, mean + half, fewest)
    if mean == 0.0:
        return interval, 1.0
    if error <= 1e-12 * abs(mean):
        return interval, 0.0
    return interval, float(2.0 * stdtr(fewest - 1, -abs(mean) / error))


def _group_means(values: _Doubles, group: _Indices) -> _Doubles:
    index = _compact(group)
    return np.bincount(index, weights=values) / np.bincount(index)


def _compact(ids: _Indices) -> _Indices:
    return np.unique(ids, return_inverse=True)[1].reshape(-1)


def _checked(differences: npt.ArrayLike, groups: npt.ArrayLike) -> tuple[_Doubles, _Indices]:
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"differences must be a list of numbers, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise DataError(f"difference {int(np.argmin(np.isfinite(values)))} is not finite")
    ids = np.asarray(groups)
    if ids.ndim not in (1, 2) or len(ids) != len(values) or ids.size == 0:
        raise DataError(
            f"groups must be ({len(values)},) or ({len(values)}, kinds) ids, got {ids.shape}"
        )
    index = np.unique(ids.reshape(-1), return_inverse=True)[1].reshape(len(values), -1)
    return values, index
