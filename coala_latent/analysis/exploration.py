"""Which layer knows a factor: neighbours and a linear classifier, on folds that do not leak.

Patches of one recording overlap and share its room and gain. Folds keep takes together, or at least
blocks of time apart; scalers see training rows alone; differences between layers are tested by the
corrected resampled t-test (Nadeau and Bengio, 2003). LatentAudio's protocol (TimHenry1995/
LatentAudio, no licence stated) is kept for comparison by `explore_original`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from coala_latent.analysis.classifiers import fit_predict, make_probe
from coala_latent.analysis.differences import Correction, adjust_p_values, plain
from coala_latent.analysis.folds import Fold, encode_labels, grouped_folds
from coala_latent.analysis.statistics import (
    Interval,
    PairedComparison,
    corrected_resampled_interval,
    mean_interval,
    paired_comparison,
)
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "FoldScores",
    "LayerExploration",
    "explore_layers",
    "explore_original",
    "factor_folds",
    "fold_interval",
    "score_folds",
    "swap_check",
    "time_blocked_folds",
]

Classifier = Literal["knn", "linear"]

_Doubles = NDArray[np.float64]
_LEAKS = (
    "rows are drawn with replacement and split at random: copies and overlapping neighbours of a "
    "test row are trained on, and folds are taken for independent"
)


@dataclass(frozen=True, eq=False)
class FoldScores:
    """Accuracies on the same folds, compared.

    Attributes:
        accuracy, intervals: ``(folds,)`` by name; 95 %, corrected resampled t, cut to [0, 1].
        comparisons: Corrected resampled t-tests of ``"one - other"``.
        p_corrected: Their p-values, corrected for their number.
        correction: ``"holm"``; in the original's protocol ``"bonferroni"``, with ordinary t-tests.
    """

    accuracy: dict[str, _Doubles]
    intervals: dict[str, Interval]
    comparisons: dict[str, PairedComparison]
    p_corrected: dict[str, float]
    correction: str

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return plain(self)


@dataclass(frozen=True, eq=False)
class LayerExploration:
    """Accuracy of one classifier for one factor over layers.

    Attributes:
        protocol: ``"held_out"`` or ``"original"``.
        leaky, why: Whether test rows have copies or neighbours among the training rows, and why.
        classifier: ``"knn"`` or ``"linear"``.
        scores: By layer; comparisons ``"first - best"``, ``"best - last"``, ``"first - last"``.
        chance: One over the number of classes.
        best: The layer with the highest mean; of several the first.
        chosen: The layer that stands for the best in each fold's comparisons.
        favours_best: Whether it was chosen on the very rows that it is compared on.
    """

    protocol: str
    leaky: bool
    why: str
    classifier: str
    scores: FoldScores
    chance: float
    best: str
    chosen: tuple[str, ...]
    favours_best: bool

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return plain(self)


def time_blocked_folds(
    recording: ArrayLike,
    start: ArrayLike,
    end: ArrayLike,
    labels: ArrayLike,
    n_folds: int = 5,
    gap_seconds: float = 1.0,
) -> list[Fold]:
    """Folds that test a contiguous block of each recording, with a gap to the training rows.

    They test new moments of known recordings: a classifier may know these instead of the class.

    Args:
        recording, start, end: ``(n,)`` ids, and the seconds each row heard.
        labels: ``(n,)`` or ``(n, K)`` classes.
        n_folds: Number of blocks of a recording; a row belongs to that of its middle.
        gap_seconds: Rows of a recording that come nearer than this to a row tested are left out.

    Raises:
        ConfigError: Fewer than two folds, or a negative gap.
        DataError: Times make no sense, or a fold tests nothing or a class it did not train.
    """
    if n_folds < 2 or not gap_seconds >= 0:
        raise ConfigError(f"n_folds={n_folds} must be at least 2, gap_seconds={gap_seconds} >= 0")
    _, source = encode_labels(recording, "recording")
    begin, stop = np.asarray(start, np.float64), np.asarray(end, np.float64)
    table = np.asarray(labels).reshape(len(source), -1)
    if not begin.shape == stop.shape == source.shape or not (stop > begin).all():
        raise DataError("each row needs a recording, a start, and an end after it")
    names = np.arange(source.max() + 1)
    first = np.array([begin[source == r].min() for r in names])[source]
    last = np.array([stop[source == r].max() for r in names])[source]
    part = ((begin + stop) / 2 - first) / (last - first) * n_folds
    block = np.minimum(part.astype(np.intp), n_folds - 1)
    folds = []
    for i in range(n_folds):
        tested = block == i
        # Blocks without a row have ends in the wrong order, which leave everything to training.
        low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
        np.minimum.at(low, source[tested], begin[tested])
        np.maximum.at(high, source[tested], stop[tested])
        near = (stop > low[source] - gap_seconds) & (begin < high[source] + gap_seconds)
        fold = Fold(str(i), np.flatnonzero(~tested & ~near), np.flatnonzero(tested))
        for column in table.T:
            unknown = np.setdiff1d(column[fold.test], column[fold.train])
            if len(unknown):
                raise DataError(
                    f"fold {i}: class {unknown[0]} is tested but never trained: use fewer folds, a "
                    f"gap below {gap_seconds} s, or longer recordings"
                )
        folds.append(fold)
    return folds


def factor_folds(
    labels: ArrayLike, groups: ArrayLike, n_folds: int = 5, seed: int = 0
) -> list[Fold]:
    """`grouped_folds`, up to `n_folds`, as many as the poorest class has groups (at least two)."""
    (_, y), (_, group) = encode_labels(labels, "labels"), encode_labels(groups, "groups")
    if len(y) != len(group):
        raise DataError(f"{len(group)} groups for {len(y)} labels")
    poorest = np.bincount(np.unique(np.stack([y, group]), axis=1)[0]).min()
    return grouped_folds(labels, groups, max(2, min(n_folds, int(poorest))), seed)


def fold_interval(accuracy: ArrayLike, folds: Sequence[Fold]) -> Interval:
    """Corrected resampled t interval of ``(folds,)`` accuracies, cut to [0, 1]."""
    found = corrected_resampled_interval(accuracy, _test_share(folds))
    return Interval(found.mean, max(0.0, found.low), min(1.0, found.high), found.n)


def score_folds(
    accuracy: dict[str, _Doubles],
    pairs: dict[str, tuple[_Doubles, _Doubles]],
    folds: Sequence[Fold] | None,
) -> FoldScores:
    """Intervals and tests of ``(folds,)`` accuracies; without folds by the ordinary t."""
    correction: Correction = "holm"
    if folds is None:
        correction = "bonferroni"
        comparisons = {name: _independent(a, b) for name, (a, b) in pairs.items()}
        intervals = {name: mean_interval(scores) for name, scores in accuracy.items()}
    else:
        share = _test_share(folds)
        comparisons = {name: paired_comparison(a, b, share) for name, (a, b) in pairs.items()}
        intervals = {name: fold_interval(scores, folds) for name, scores in accuracy.items()}
    corrected = adjust_p_values([test.p_value for test in comparisons.values()], correction)
    p_corrected = dict(zip(comparisons, corrected.tolist(), strict=True))
    return FoldScores(accuracy, intervals, comparisons, p_corrected, correction)


def explore_layers(
    features: Mapping[str, ArrayLike],
    labels: ArrayLike,
    folds: Sequence[Fold],
    classifier: Classifier = "knn",
    *,
    neighbors: int = 5,
    choose: Literal["inner", "same"] = "inner",
) -> LayerExploration:
    """Accuracy of each layer, and the first, best and last compared (Holm's correction for three).

    Args:
        features: ``(n, dim)`` by layer, first to last; standardised on the training rows.
        labels: ``(n,)`` classes of one factor.
        folds: From `factor_folds`, `grouped_folds` or `time_blocked_folds`.
        classifier: ``"knn"``, Euclidean, or ``"linear"``, logistic regression.
        neighbors: How many.
        choose: ``"inner"``: for each fold the best layer is found on its training rows alone, by
            the other folds' splits. ``"same"``: on the folds compared, which favours it.

    Raises:
        DataError: No layers, lengths that differ, or features that are not finite.
        ConfigError: Unknown `classifier` or `choose`, or too few folds to choose within.
    """
    layers, (classes, y) = _checked(features, labels), encode_labels(labels, "labels")
    if choose not in ("inner", "same"):
        raise ConfigError(f"choose={choose!r} must be inner or same")
    names = list(layers)
    table = np.stack([_accuracies(x, y, folds, classifier, neighbors) for x in layers.values()])
    best = int(np.argmax(table.mean(axis=1)))
    chosen = np.full(len(folds), best)
    if choose == "inner" and len(names) > 1:
        for i, outer in enumerate(folds):
            splits = _within(outer, folds)
            inner = [_accuracies(x, y, splits, classifier, neighbors) for x in layers.values()]
            chosen[i] = int(np.argmax(np.mean(inner, axis=1)))
    stand_in = table[chosen, np.arange(len(folds))]
    return LayerExploration(
        protocol="held_out",
        leaky=False,
        why="",
        classifier=classifier,
        scores=score_folds(dict(zip(names, table, strict=True)), _three(table, stand_in), folds),
        chance=1.0 / len(classes),
        best=names[best],
        chosen=tuple(names[i] for i in chosen),
        favours_best=choose == "same",
    )


def explore_original(
    features: Mapping[str, ArrayLike],
    labels: ArrayLike,
    sample_size: int = 2048,
    neighbors: int = 3,
    n_folds: int = 10,
    seed: int = 42,
) -> LayerExploration:
    """LatentAudio's protocol, which leaks: for comparison with its printed results alone.

    Rows are drawn with replacement, folds stratified and unshuffled, features taken as they are;
    fold accuracies are compared by the independent t-test, p times 3.

    Args:
        features, labels: As in `explore_layers`.
        sample_size: Rows drawn.
        neighbors, n_folds: 3 or 10, and 10, in the original.
        seed: Of the draw, the same for each layer.

    Raises:
        DataError: As in `explore_layers`, or a class with fewer rows drawn than folds.
    """
    layers, (classes, y) = _checked(features, labels), encode_labels(labels, "labels")
    drawn = np.random.RandomState(seed).randint(0, len(y), sample_size)
    if np.bincount(y[drawn], minlength=len(classes)).min() < n_folds:
        raise DataError(f"{sample_size} rows drawn leave a class fewer than {n_folds}: draw more")
    model = KNeighborsClassifier(neighbors)
    scores = [cross_val_score(model, x[drawn], y[drawn], cv=n_folds) for x in layers.values()]
    table = np.stack(scores)
    best = int(np.argmax(table.mean(axis=1)))
    return LayerExploration(
        protocol="original",
        leaky=True,
        why=_LEAKS,
        classifier="knn",
        scores=score_folds(dict(zip(layers, table, strict=True)), _three(table, table[best]), None),
        chance=1.0 / len(classes),
        best=[*layers][best],
        chosen=([*layers][best],) * n_folds,
        favours_best=True,
    )


def swap_check(
    x: ArrayLike,
    z: ArrayLike,
    labels: ArrayLike,
    block: slice,
    inverse: Callable[[_Doubles], ArrayLike],
    folds: Sequence[Fold],
    neighbors: int = 3,
    seed: int = 0,
) -> FoldScores:
    """Whether nearest neighbours follow a block's values when they move to another row.

    The block is permuted among a fold's test rows, the code inverted, and classified by neighbours
    among the unchanged training rows. Scores are of the ``"original"`` rows, of rows whose block
    came from another with the label that belongs to it (``"consistent"``), and of the same rows
    with labels permuted otherwise (``"inconsistent"``); neighbours in this list are compared.

    Args:
        x, z: ``(n, D)`` what was encoded, and its code.
        labels: ``(n,)`` classes of the block's factor.
        block: Where it lies in the code.
        inverse: Codes ``(m, D)`` to ``(m, D)`` rows like `x`.
        folds, neighbors, seed: Splits by group; of the classifier; of the permutations.
    """
    (rows, code), (_, y) = np.asarray([x, z], np.float64), encode_labels(labels, "labels")
    rng = np.random.default_rng(seed)
    names = ("original", "consistent", "inconsistent")
    table = np.zeros((3, len(folds)))
    for i, fold in enumerate(folds):
        moved, elsewhere = rng.permutation(fold.test), rng.permutation(fold.test)
        edited = code[fold.test]
        edited[:, block] = code[moved, block]
        tested = np.concatenate([rows[fold.test], np.asarray(inverse(edited), np.float64)])
        model = _classifier("knn", min(neighbors, len(fold.train)))
        found, _ = fit_predict(model, rows[fold.train], y[fold.train], tested)
        before, after = np.split(found, 2)
        truths = ((before, fold.test), (after, moved), (after, elsewhere))
        table[:, i] = [(heard == y[index]).mean() for heard, index in truths]
    pairs = {f"{names[i]} - {names[i + 1]}": (table[i], table[i + 1]) for i in range(2)}
    return score_folds(dict(zip(names, table, strict=True)), pairs, folds)


def _classifier(name: str, neighbors: int) -> Pipeline:
    if name == "knn":
        return make_pipeline(StandardScaler(), KNeighborsClassifier(neighbors))
    if name == "linear":
        return make_probe("logistic")
    raise ConfigError(f"no classifier {name!r}; there are knn and linear")


def _accuracies(
    x: _Doubles, y: NDArray[np.intp], folds: Sequence[Fold], name: str, neighbors: int
) -> _Doubles:
    """``(folds,)``; training rows of one class predict it for all."""
    found = np.zeros(len(folds))
    for i, fold in enumerate(folds):
        predicted = y[fold.train[:1]]
        if np.ptp(y[fold.train]) > 0:
            model = _classifier(name, min(neighbors, len(fold.train)))
            predicted, _ = fit_predict(model, x[fold.train], y[fold.train], x[fold.test])
        found[i] = (predicted == y[fold.test]).mean()
    return found


def _within(outer: Fold, folds: Sequence[Fold]) -> list[Fold]:
    """The other folds' splits of one fold's training rows, with the gaps of both."""
    splits = []
    for other in folds:
        train = np.intersect1d(outer.train, other.train)
        test = np.intersect1d(outer.train, other.test)
        if other is not outer and len(train) and len(test):
            splits.append(Fold(f"{outer.name}/{other.name}", train, test))
    if not splits:
        raise ConfigError('too few folds to choose a layer within: use three, or choose="same"')
    return splits


def _three(table: _Doubles, best: _Doubles) -> dict[str, tuple[_Doubles, _Doubles]]:
    pairs = {"first - best": (table[0], best), "best - last": (best, table[-1])}
    return pairs | {"first - last": (table[0], table[-1])}


def _independent(a: _Doubles, b: _Doubles) -> PairedComparison:
    """The ordinary two-sample t-test, also of scores that do not scatter."""
    if np.ptp(a) == np.ptp(b) == 0.0:
        return paired_comparison(a, b, 0.0)
    difference, freedom = float(a.mean() - b.mean()), 2 * len(a) - 2
    error = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)))
    half = error * float(stdtrit(freedom, 0.975))
    interval = Interval(difference, difference - half, difference + half, len(a))
    p_value = float(2.0 * stdtr(freedom, -abs(difference) / error))
    return PairedComparison(difference, interval, p_value)


def _test_share(folds: Sequence[Fold]) -> float:
    return float(np.mean([len(f.test) / (len(f.test) + len(f.train)) for f in folds]))


def _checked(features: Mapping[str, ArrayLike], labels: ArrayLike) -> dict[str, _Doubles]:
    if not features:
        raise DataError("no layers to explore")
    n, layers = len(np.asarray(labels)), {}
    for name, values in features.items():
        x = np.asarray(values, np.float64)
        if x.ndim != 2 or len(x) != n or not np.isfinite(x).all():
            raise DataError(f"{name}: expected finite features ({n}, dim), got shape {x.shape}")
        layers[name] = x
    return layers
