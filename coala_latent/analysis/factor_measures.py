"""How well the blocks of a latent code hold one factor each.

Rows of one recording are alike, whatever the factors: intervals resample whole groups (recordings),
neighbours are looked for in other groups, and classifiers are scored on groups they never saw.

Sources:
    Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018 (information gap).
    Ross, "Mutual Information between Discrete and Continuous Data Sets", PLoS ONE 9, 2014.
    Eastwood, Williams, "A Framework for the Quantitative Evaluation of Disentangled
    Representations", ICLR 2018 (DCI).
    Esser et al., "A Disentangling Invertible Interpretation Network", CVPR 2020 (block sizes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, softmax, xlogy
from sklearn.ensemble import RandomForestClassifier

from coala_latent.analysis.differences import plain
from coala_latent.analysis.exploration import FoldScores, factor_folds, fold_interval, swap_check
from coala_latent.analysis.folds import Fold, encode_labels
from coala_latent.analysis.statistics import Interval, bootstrap_interval
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "FactorReport",
    "Information",
    "dci_scores",
    "eta_squared",
    "factor_report",
    "mutual_information",
    "round_trip_error",
    "suggest_dimensions",
]

_NEIGHBORS = 3  # of the estimate of mutual information
_TREES = 50

_Doubles = NDArray[np.float64]
_Indices = NDArray[np.intp]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Information:
    """Mutual information of parts of a code (blocks or dimensions) with one factor.

    Attributes:
        shares: ``(parts,)``: information over the factor's entropy, in [0, 1].
        top: Index of the most informative part.
        gap: Its share minus that of the next; bootstrap over groups, the two parts held fixed.
    """

    shares: _Doubles
    top: int
    gap: Interval


@dataclass(frozen=True, eq=False)
class FactorReport:
    """All measures of a code.

    Attributes:
        n, n_groups, dims: Number of rows and of groups, size of each block.
        eta_squared: By block, then factor: share of the block's scatter between the classes.
        information: By factor, of the blocks in order; the gap is the mutual information gap.
        information_dims: By factor, of single dimensions.
        dci: ``disentanglement`` and ``completeness`` of ``blocks`` and of ``dims``.
        importance: ``(D, K)``: of each dimension to random forests that tell a factor's classes.
        informativeness, chance: Their accuracy by factor, and the share of the largest class.
        swaps, round_trip: By factor `swap_check`, and `round_trip_error`; empty if not run.
    """

    n: int
    n_groups: int
    dims: dict[str, int]
    eta_squared: dict[str, dict[str, Interval]]
    information: dict[str, Information]
    information_dims: dict[str, Information]
    dci: dict[str, dict[str, float]]
    importance: _Doubles = field(repr=False)
    informativeness: dict[str, Interval]
    chance: dict[str, float]
    swaps: dict[str, FoldScores] = field(default_factory=dict)
    round_trip: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return plain(self)


def factor_report(
    z: ArrayLike,
    labels: ArrayLike,
    slices: Mapping[str, slice],
    groups: ArrayLike,
    *,
    x: ArrayLike | None = None,
    inverse: Callable[[_Doubles], ArrayLike] | None = None,
    folds: Mapping[str, Sequence[Fold]] | None = None,
    n_resamples: int = 1000,
    max_rows: int = 1000,
    seed: int = 0,
) -> FactorReport:
    """Measure a code on held-out rows.

    Args:
        z, labels: ``(n, D)`` code and ``(n, K)`` classes.
        slices: Where each block lies: the residual first, then one per factor in order.
        groups: ``(n,)`` ids of recordings or takes.
        x, inverse: ``(n, D)`` what was encoded, and back from ``(m, D)`` codes: for `swaps`.
        folds: By factor; None: up to five grouped folds.
        n_resamples: Bootstrap samples.
        max_rows: Rows drawn for mutual information, and to train and to test a forest.
        seed: Of draws, folds, forests and bootstrap.

    Raises:
        DataError: Unfit shapes or values, a factor of one class, or a class of one group.
    """
    (code, ys, group), factors = _checked(z, labels, groups, slices), list(slices)[1:]
    if folds is None:
        folds = {f: factor_folds(y, group, seed=seed) for f, y in zip(factors, ys, strict=True)}
    rows = np.random.default_rng(seed).permutation(len(code))[:max_rows]
    eta: dict[str, dict[str, Interval]] = {block: {} for block in slices}
    blocks, dims, informativeness, chance, swaps, errors = {}, {}, {}, {}, {}, {}
    size = code.shape[1]
    places = [*(slice(d, d + 1) for d in range(size)), *slices.values()]
    importance = np.zeros((len(places), len(factors)))
    for k, (factor, y) in enumerate(zip(factors, ys, strict=True)):
        for block, interval in eta_squared(code, y, slices, group, n_resamples, seed).items():
            eta[block][factor] = interval
        parts = [code[rows, where] for where in places]
        blocks[factor] = mutual_information(parts[size:], y[rows], group[rows], seed)
        dims[factor] = mutual_information(parts[:size], y[rows], group[rows], seed)
        found = _forests(code, y, folds[factor], places, max_rows, seed)
        importance[:, k], informativeness[factor] = found
        chance[factor] = float(np.bincount(y).max() / len(y))
    if x is not None and inverse is not None:
        errors = round_trip_error(x, inverse(code))
        for f, y in zip(factors, ys, strict=True):
            swaps[f] = swap_check(x, code, y, slices[f], inverse, folds[f], seed=seed)
    return FactorReport(
        n=len(code),
        n_groups=int(group.max()) + 1,
        dims={name: where.stop - where.start for name, where in slices.items()},
        eta_squared=eta,
        information=blocks,
        information_dims=dims,
        dci={"blocks": dci_scores(importance[size:]), "dims": dci_scores(importance[:size])},
        importance=importance[:size],
        informativeness=informativeness,
        chance=chance,
        swaps=swaps,
        round_trip=errors,
    )


def eta_squared(
    z: ArrayLike,
    labels: ArrayLike,
    slices: Mapping[str, slice],
    groups: ArrayLike,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    r"""Share of scatter between classes, :math:`\operatorname{tr} S_b / \operatorname{tr} S_t`.

    Args:
        z, labels: ``(n, D)`` code and ``(n,)`` classes of one factor.
        slices: Blocks; one that does not scatter, or is empty, has 0.
        groups: ``(n,)`` ids of what is resampled together.
        n_resamples, seed: Of the bootstrap.

    Returns:
        By block, with the 95 % bias-corrected bootstrap interval over groups (unbounded for one).
        Few groups a class leave a share by chance: about (classes - 1) / (groups - 1).
    """
    code, (y,), group = _checked(z, np.asarray(labels)[..., None], groups, None)
    classes, n = int(y.max()) + 1, int(group.max()) + 1
    code = code - code.mean(axis=0)
    # Sums of each class in each group are all that resampling needs.
    cell = group * classes + y
    sums = _sums_by(cell, code, n * classes).reshape(n, -1)
    sizes = np.bincount(cell, minlength=n * classes).reshape(n, classes)
    squares = _sums_by(group, code**2, n)

    def shares(counts: NDArray[Any]) -> _Doubles:
        by_class = (counts @ sums).reshape(len(counts), classes, -1)
        per_class = counts @ sizes
        centre = by_class.sum(axis=1) ** 2 / per_class.sum(axis=1)[:, None]
        between = (by_class**2 / np.maximum(per_class, 1.0)[:, :, None]).sum(axis=1) - centre
        total = counts @ squares - centre
        found = np.zeros((len(counts), len(slices)))
        for i, where in enumerate(slices.values()):
            all_of_it = total[:, where].sum(axis=1)
            some = all_of_it > 1e-12 * max(1.0, float(squares.sum()))
            found[some, i] = between[some, where].sum(axis=1) / all_of_it[some]
        return np.clip(found, 0.0, 1.0)

    means = shares(np.ones((1, n)))[0]
    ends = np.tile([[-np.inf], [np.inf]], len(slices))
    if n > 1:
        rng = np.random.default_rng(seed)
        steps = np.diff(np.append(np.arange(0, n_resamples, 100), n_resamples))
        drawn = [shares(rng.multinomial(n, np.full(n, 1.0 / n), step)) for step in steps]
        samples = np.concatenate(drawn)
        # Groups drawn twice look like classes of their own: the shares rise, and are moved back.
        ends = np.quantile(samples, [0.025, 0.975], axis=0) + means - samples.mean(axis=0)
        ends = np.clip([np.minimum(ends[0], means), np.maximum(ends[1], means)], 0.0, 1.0)
    return {
        block: Interval(float(means[i]), float(ends[0, i]), float(ends[1, i]), n)
        for i, block in enumerate(slices)
    }


def mutual_information(
    parts: Sequence[ArrayLike], labels: ArrayLike, groups: ArrayLike, seed: int = 0
) -> Information:
    """Mutual information of each part with the classes, and the gap between the best two.

    Ross' estimate with 3 neighbours among the rows of other groups: what recordings share with
    themselves is no information about a factor. Columns are scaled to equal variance. All pairs of
    rows are compared: meant for about a thousand. In many dimensions the estimate is low.

    Parts are ``(n, d)``, and one without columns has 0; the rest is as in `eta_squared`.

    Raises:
        DataError: One class, or a class with fewer than 3 rows in other groups.
    """
    (_, y), (_, group) = encode_labels(labels, "labels"), encode_labels(groups, "groups")
    entropy = -float(xlogy(np.bincount(y) / len(y), np.bincount(y) / len(y)).sum())
    if entropy == 0.0:
        raise DataError("only one class: nothing can be informative about it")
    other = group[:, None] != group[None, :]
    alike = other & (y[:, None] == y[None, :])
    if alike.sum(axis=1).min() < _NEIGHBORS:
        raise DataError(
            "rows have too few others of their class in other groups: add recordings, or draw more"
        )
    local = np.zeros((len(parts), len(y)))
    for i, part in enumerate(parts):
        values = np.asarray(part, np.float64)
        values = values[:, np.ptp(values, axis=0) > 0]
        if values.size:
            local[i] = _local_information(values / values.std(axis=0), other, alike) / entropy
    means = local.mean(axis=1)
    order = np.argsort(-means, kind="stable")
    shares = np.clip(means, 0.0, 1.0)
    rival = local[order[1]] if len(order) > 1 and means[order[1]] > 0 else np.zeros(len(y))
    gap = bootstrap_interval(local[order[0]] - rival, group, 2000, seed)
    best = float(shares[order[0]] - (shares[order[1]] if len(order) > 1 else 0.0))
    return Information(shares, int(order[0]), Interval(best, gap.low, gap.high, gap.n))


def dci_scores(importance: ArrayLike) -> dict[str, float]:
    """Disentanglement and completeness of importances ``(parts, K)``, in [0, 1].

    One minus a part's normalised entropy over the factors, weighted by its importance, and one
    minus a factor's over the parts, averaged. A factor that no part serves is incomplete.
    """
    table = np.asarray(importance, np.float64)
    parts = table.sum(axis=1) / max(float(table.sum()), 1e-300)
    factors = (table.sum(axis=0) > 0) / table.shape[1]
    return {
        "disentanglement": float(parts @ _concentration(table)),
        "completeness": float(factors @ _concentration(table.T)),
    }


def suggest_dimensions(
    values: ArrayLike, labels: ArrayLike, total: int, form: Literal["iin", "gyoza"] = "iin"
) -> list[int]:
    """Sizes of the residual and the factors' blocks from all pairs alike in a factor; a diagnostic.

    Args:
        values, labels: ``(n, D)`` latents and ``(n, K)`` classes.
        total: Dimensions to share out.
        form: ``"iin"``, the authors' program: a factor's score is the summed covariance of such
            pairs over the summed variance, the residual's 1. ``"gyoza"``, the paper's equation 11:
            correlations are summed, the residual's score is their number, and factors get little.

    Returns:
        ``K + 1`` sizes, the residual's first, that sum to `total`, each at least 1.

    Raises:
        ConfigError: `total` leaves a block without a dimension, or unknown form.
    """
    x, ys, _ = _checked(values, labels, np.arange(len(np.asarray(values))), None)
    if form not in ("iin", "gyoza") or total <= len(ys):
        raise ConfigError(f"form={form!r} must be iin or gyoza, and total={total} > {len(ys)}")
    scores = [1.0 if form == "iin" else float(x.shape[1])]
    for y in ys:
        sizes = np.bincount(y).astype(np.float64)
        if sizes.max() < 2:
            raise DataError("no two rows share a class: pairs that are alike need some")
        # Sums over all ordered pairs (a, b), a != b, of one class, without making them.
        pairs = float((sizes * (sizes - 1)).sum())
        centred = x - ((sizes[y] - 1) @ x) / pairs
        variance = ((sizes[y] - 1) @ centred**2) / pairs
        sums = _sums_by(y, centred, len(sizes))
        covariance = ((sums**2).sum(axis=0) - (centred**2).sum(axis=0)) / pairs
        some = variance > 0
        correlation = covariance[some] / variance[some]
        shared = covariance.sum() / max(variance.sum(), 1e-300)
        scores.append(float(shared if form == "iin" else correlation.sum()))
    shares = np.floor(total * softmax(scores)).astype(int)
    factors = np.maximum(1, shares[1:])
    while factors.sum() >= total:
        factors[np.argmax(factors)] -= 1
    return [int(total - factors.sum()), *factors.tolist()]


def round_trip_error(x: ArrayLike, back: ArrayLike) -> dict[str, float]:
    """``max`` and ``mean`` absolute error of ``(n, D)``, and ``relative``: max over largest value.

    Raises:
        DataError: Shapes differ, or values that came back are not finite.
    """
    before, after = np.asarray(x, np.float64), np.asarray(back, np.float64)
    if before.shape != after.shape or before.size == 0 or not np.isfinite(after).all():
        raise DataError(f"round trip: {before.shape} went in, {after.shape} finite must come back")
    error = np.abs(after - before)
    worst, largest = float(error.max()), max(float(np.abs(before).max()), 1e-300)
    return {"max": worst, "mean": float(error.mean()), "relative": worst / largest}


def _local_information(x: _Doubles, other: _Flags, alike: _Flags) -> _Doubles:
    """Each row's term ``(n,)`` of Ross' sum, in nats."""
    if x.shape[1] == 1:
        distance = np.abs(x - x.T)
    else:
        squares = (x**2).sum(axis=1)
        distance = squares[:, None] + squares[None, :] - 2.0 * (x @ x.T)
    among = np.where(alike, distance, np.inf)
    near = distance <= np.partition(among, _NEIGHBORS - 1, axis=1)[:, _NEIGHBORS - 1, None]
    # Ties widen the neighbourhood on both sides.
    counts = ((near & alike).sum(1), (near & other).sum(1), alike.sum(1), other.sum(1))
    nearby, within, same, all_of_them = (digamma(count) for count in counts)
    return all_of_them + nearby - same - within


def _forests(
    x: _Doubles, y: _Indices, folds: Sequence[Fold], parts: list[slice], max_rows: int, seed: int
) -> tuple[_Doubles, Interval]:
    """Importance of each part ``(parts,)`` to the folds' forests, and their accuracy.

    It is the chance of the true class that a permutation among test rows costs.
    """
    rng = np.random.default_rng(seed)
    importance, accuracy = np.zeros(len(parts)), np.zeros(len(folds))
    for i, fold in enumerate(folds):
        train, test = (rng.permutation(rows)[:max_rows] for rows in (fold.train, fold.test))
        forest = RandomForestClassifier(_TREES, min_samples_leaf=5, random_state=seed)
        forest.fit(x[train], y[train])
        truth = forest.classes_ == y[test][:, None]
        before = forest.predict_proba(x[test])
        accuracy[i] = truth[np.arange(len(test)), before.argmax(axis=1)].mean()
        for number, part in enumerate(parts):
            mixed = x[test]
            mixed[:, part] = x[rng.permutation(test), part]
            drop = ((before - forest.predict_proba(mixed)) * truth).sum(axis=1).mean()
            importance[number] += drop / len(folds)
    return np.maximum(importance, 0.0), fold_interval(accuracy, folds)


def _concentration(table: _Doubles) -> _Doubles:
    """One minus each row's normalised entropy; 1 for rows of one column."""
    if table.shape[1] == 1:
        return np.ones(len(table))
    p = table / np.maximum(table.sum(axis=1, keepdims=True), 1e-300)
    return 1.0 + xlogy(p, p).sum(axis=1) / np.log(table.shape[1])


def _sums_by(index: _Indices, values: _Doubles, count: int) -> _Doubles:
    """``(count, D)`` sums of the rows with each index."""
    sums = [np.bincount(index, weights=column, minlength=count) for column in values.T]
    return np.stack(sums, axis=1) if sums else np.zeros((count, 0))


def _checked(
    z: ArrayLike, labels: ArrayLike, groups: ArrayLike, slices: Mapping[str, slice] | None
) -> tuple[_Doubles, list[_Indices], _Indices]:
    """Code, classes of each factor and groups, as indices."""
    code, table = np.asarray(z, np.float64), np.asarray(labels)
    if code.ndim != 2 or table.ndim != 2 or len(code) != len(table) or code.size == 0:
        raise DataError(f"expected rows (n, D) and labels (n, K), got {code.shape}, {table.shape}")
    if not np.isfinite(code).all():
        raise DataError(f"row {int(np.argmin(np.isfinite(code).all(axis=1)))} is not finite")
    if slices is not None and len(slices) != table.shape[1] + 1:
        raise DataError(f"blocks {list(slices)} are not the residual and {table.shape[1]} factors")
    _, group = encode_labels(groups, "groups")
    if len(group) != len(code):
        raise DataError(f"{len(group)} groups for {len(code)} rows")
    return code, [encode_labels(column, "labels")[1] for column in table.T], group
