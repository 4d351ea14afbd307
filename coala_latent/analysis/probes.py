"""Probes: how much a simple classifier finds in frozen embeddings.

Everything that is fitted or chosen sees training items alone. The classifiers are in `classifiers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.classifiers import (
    NEIGHBORS,
    PROBES,
    SEEDED,
    choose_c,
    fit_predict,
    make_probe,
)
from coala_latent.analysis.folds import Fold, encode_labels, inner_folds
from coala_latent.analysis.statistics import (
    Interval,
    PairedComparison,
    bootstrap_interval,
    corrected_resampled_interval,
    paired_comparison,
)
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "PROBES",
    "ProbeComparison",
    "ProbeResult",
    "make_probe",
    "run_probe",
    "run_probes",
]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """Scores of one probe on one feature set. A deterministic probe ran once, whatever was asked.

    Attributes:
        probe: Name of the probe.
        seed: Seed of the first run; run ``r`` has ``seed + r``.
        dim: Length of a feature vector.
        n: Number of items given.
        classes: Labels, sorted; the order of ``recall`` and ``confusion``.
        folds: Names of the folds.
        accuracy: ``(runs, folds)``.
        test_fraction: Mean share of a fold's items that are test items.
        interval: 95 % interval of `mean`. Several folds: corrected resampled t interval (Nadeau
            and Bengio, 2003) over the folds, runs averaged first, because runs share all their data
            and folds share training data. One fold: bootstrap over its test items, which says
            nothing about other training sets. Cut to [0, 1].
        interval_method: Which of the two.
        chance: Accuracy of always answering the test items' most frequent class.
        confusion: ``(classes, classes)`` float64, true class by row: test items summed over the
            folds and averaged over the runs.
        fits: Number of classifiers that were fitted.
        unconverged: How many of them stopped early; the MLP's 200 iterations often do.
        chosen_c: ``svm``: the C that was chosen for each fold, among its training items.
    """

    probe: str
    seed: int
    dim: int
    n: int
    classes: tuple[Any, ...]
    folds: tuple[str, ...]
    accuracy: npt.NDArray[np.float64]
    test_fraction: float
    interval: Interval
    interval_method: str
    chance: float
    confusion: npt.NDArray[np.float64] = field(repr=False)
    fits: int
    unconverged: int
    chosen_c: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Unweighted mean of the folds' accuracies, averaged over the runs."""
        return float(self.accuracy.mean())

    @property
    def runs(self) -> int:
        """How often the probe ran."""
        return len(self.accuracy)

    @property
    def deterministic(self) -> bool:
        """Whether the probe gives one answer whatever the seed, and so ran once."""
        return self.probe not in SEEDED

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """``(classes,)``: share of a class's test items that were found; NaN if it has none."""
        total = self.confusion.sum(axis=1)
        empty = np.full(len(total), np.nan)
        return np.divide(np.diagonal(self.confusion), total, out=empty, where=total > 0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON; the recall of an untested class is None."""
        return {
            "probe": self.probe,
            "settings": PROBES[self.probe],
            "seed": self.seed,
            "runs": self.runs,
            "deterministic": self.deterministic,
            "dim": self.dim,
            "n": self.n,
            "classes": list(self.classes),
            "folds": list(self.folds),
            "accuracy": self.accuracy.tolist(),
            "mean": self.mean,
            "interval": self.interval.to_dict(),
            "interval_method": self.interval_method,
            "chance": self.chance,
            "recall": [None if math.isnan(r) else r for r in self.recall.tolist()],
            "confusion": self.confusion.tolist(),
            "fits": self.fits,
            "unconverged": self.unconverged,
            "chosen_c": list(self.chosen_c),
        }


@dataclass(frozen=True, eq=False)
class ProbeComparison:
    """Several feature sets under the same probe and folds.

    Attributes:
        results: By name of the feature set, in the order given.
        differences: Each set minus the first: accuracy by fold, runs averaged.
    """

    results: dict[str, ProbeResult]
    differences: dict[str, PairedComparison]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "results": {name: result.to_dict() for name, result in self.results.items()},
            "reference": next(iter(self.results)),
            "differences": {name: d.to_dict() for name, d in self.differences.items()},
        }


def run_probe(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    folds: Sequence[Fold],
    probe: str,
    runs: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> ProbeResult:
    """Fits a probe on every fold's training items and scores its test items.

    Args:
        features: ``(n, dim)``, one row an item; converted to float64.
        labels: ``(n,)`` classes, of any sortable type.
        folds: From `fixed_folds` or `grouped_folds`, or one's own.
        probe: One of `PROBES`.
        runs: Repetitions with seeds ``seed``, ``seed + 1``, ... A deterministic probe runs once.
        seed: Seed of the first run.
        progress: Called with (fits done, fits in all) after each fit.

    Raises:
        DataError: Features are not finite, shapes do not agree, or a fold's training part lacks a
            class that it tests.
        ConfigError: Unknown probe, ``runs`` below 1, or ``svm`` with too few folds to choose C by.
    """
    x = _checked_features(features)
    classes, y = encode_labels(labels, "labels")
    if probe not in PROBES:
        raise ConfigError(f"unknown probe {probe!r}: choose one of {', '.join(PROBES)}")
    if runs < 1:
        raise ConfigError(f"runs={runs} must be at least 1")
    if len(x) != len(y):
        raise DataError(f"{len(x)} rows of features but {len(y)} labels")
    _check_folds(folds, y, classes, NEIGHBORS if probe == "knn" else 2)

    repeats = runs if probe in SEEDED else 1
    fits = repeats * len(folds)
    accuracy = np.empty((repeats, len(folds)))
    confusion = np.zeros((len(classes), len(classes)))
    hits = [np.zeros(len(fold.test)) for fold in folds]
    unconverged = 0
    chosen: list[float] = []
    for run in range(repeats):
        for i, fold in enumerate(folds):
            svm_c = 1.0
            if probe == "svm":
                svm_c = choose_c(x, y, inner_folds(folds, i), seed=seed)
                chosen.append(svm_c)
            classifier = make_probe(probe, seed + run, svm_c=svm_c)
            predicted, converged = fit_predict(
                classifier, x[fold.train], y[fold.train], x[fold.test]
            )
            right = predicted == y[fold.test]
            accuracy[run, i] = right.mean()
            hits[i] += right
            np.add.at(confusion, (y[fold.test], predicted), 1.0)
            unconverged += not converged
            if progress is not None:
                progress(run * len(folds) + i + 1, fits)

    confusion /= repeats
    sizes = [(len(fold.test), len(fold.train)) for fold in folds]
    test_fraction = float(np.mean([test / (test + train) for test, train in sizes]))
    if len(folds) > 1:
        method = "corrected resampled t over folds"
        interval = corrected_resampled_interval(accuracy.mean(axis=0), test_fraction)
    else:
        method = "bootstrap over test items"
        interval = bootstrap_interval(hits[0] / repeats, seed=seed)
    return ProbeResult(
        probe=probe,
        seed=seed,
        dim=x.shape[1],
        n=len(x),
        classes=tuple(classes.tolist()),
        folds=tuple(fold.name for fold in folds),
        accuracy=accuracy,
        test_fraction=test_fraction,
        interval=replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high)),
        interval_method=method,
        chance=float(confusion.sum(axis=1).max() / confusion.sum()),
        confusion=confusion,
        fits=fits,
        unconverged=unconverged,
        chosen_c=tuple(chosen),
    )


def run_probes(
    features_by_name: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    folds: Sequence[Fold],
    probe: str,
    runs: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> ProbeComparison:
    """Compares feature sets of the same items on the same folds, each with the first.

    The differences are tested by the corrected resampled t-test over the folds; a single fold
    gives no p-value below 1.

    Args:
        features_by_name: ``(n, dim)`` by name; dims may differ. The first is the reference.
        labels, folds, probe, runs, seed: As in `run_probe`, and so its errors.
        progress: Called with (fits done, fits in all) of each feature set in turn.

    Raises:
        DataError: No feature sets; or as in `run_probe`, naming the set.
    """
    if not features_by_name:
        raise DataError("no feature sets to compare")
    results: dict[str, ProbeResult] = {}
    for name, features in features_by_name.items():
        try:
            results[name] = run_probe(features, labels, folds, probe, runs, seed, progress)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    reference, *others = results
    base = results[reference].accuracy.mean(axis=0)
    differences = {
        name: paired_comparison(
            results[name].accuracy.mean(axis=0), base, results[name].test_fraction
        )
        for name in others
    }
    return ProbeComparison(results, differences)


def _checked_features(features: npt.ArrayLike) -> npt.NDArray[np.float64]:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.size == 0:
        raise DataError(
            f"features must be (n, dim), got shape {x.shape}: one row an item, "
            "average the patches of a file first"
        )
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise DataError(
            f"features: row {int(np.argmax(bad))} is not finite ({int(bad.sum())} of {len(x)} "
            "rows): embed these items again or leave them out"
        )
    return x


def _check_folds(
    folds: Sequence[Fold], y: npt.NDArray[np.intp], classes: npt.NDArray[Any], fewest: int
) -> None:
    if len(folds) == 0:
        raise DataError("no folds to run the probe on")
    if len(classes) < 2:
        raise DataError(f"only the class {classes[0]}: a probe needs at least two")
    for fold in folds:
        used = np.concatenate([fold.train, fold.test])
        if used.min() < 0 or used.max() >= len(y):
            raise DataError(f"fold {fold.name}: an index is outside the {len(y)} items")
        known = np.unique(y[fold.train])
        unknown = np.setdiff1d(y[fold.test], known)
        if len(unknown):
            raise DataError(
                f"fold {fold.name}: class {classes[unknown[0]]} is tested but never trained; "
                "use fewer folds or leave the class out"
            )
        if len(fold.train) < fewest or len(known) < 2:
            raise DataError(
                f"fold {fold.name}: {len(fold.train)} training items of {len(known)} class(es); "
                f"this probe needs at least {fewest} of 2"
            )
