"""Probes on one fixed split into training and test items, and what may be said of a difference.

Folds scatter, one split does not: here the scatter comes from the test items, whose answers are
kept, and from the runs of probes that depend on a seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.classifiers import NEIGHBORS, SEEDED, fit_predict, make_probe
from coala_latent.analysis.folds import Fold, encode_labels
from coala_latent.analysis.probes import PROBES, ProbeResult, Progress
from coala_latent.analysis.statistics import (
    Interval,
    PairedComparison,
    bootstrap_interval,
    paired_comparison,
)
from coala_latent.errors import ConfigError, DataError

__all__ = ["HeldOutResult", "compare_folds", "compare_held_out", "run_held_out"]

Pairs = dict[tuple[str, str], dict[str, PairedComparison]]


@dataclass(frozen=True, eq=False)
class HeldOutResult:
    """A probe on one split.

    Attributes:
        result: As of a cross-validation with a single fold; its interval is the bootstrap over
            test items.
        correct: ``(n_test,)`` float64, in how many of the runs each test item was found, as share.
        over_groups: Bootstrap over whole groups of test items; None if every item is its own.
    """

    result: ProbeResult
    correct: npt.NDArray[np.float64] = field(repr=False)
    over_groups: Interval | None


def run_held_out(
    features: npt.ArrayLike,
    labels: npt.ArrayLike,
    split: Fold,
    probe: str,
    runs: int = 1,
    seed: int = 0,
    *,
    groups: npt.ArrayLike | None = None,
    progress: Progress | None = None,
) -> HeldOutResult:
    """Fit a probe on the training items and score the test items.

    Args:
        features: ``(n, dim)``, one row an item; converted to float64.
        labels: ``(n,)`` classes, of any sortable type.
        split: Training and test items.
        probe: One of `PROBES` but ``svm``, which chooses its penalty by folds.
        runs: Repetitions with seeds ``seed``, ``seed + 1``, ...; a deterministic probe runs once.
        seed: Seed of the first run and of the bootstrap.
        groups: ``(n,)`` ids of what belongs together.
        progress: Called with (fits done, fits in all) after each fit.

    Raises:
        DataError: Features are not finite or of another number, or a class is tested but not
            trained.
        ConfigError: Unknown probe, ``svm``, or ``runs`` below 1.
    """
    x = np.asarray(features, np.float64)
    classes, y = encode_labels(labels, "labels")
    _check(x, y, classes, split, probe, runs)
    repeats = runs if probe in SEEDED else 1
    confusion = np.zeros((len(classes), len(classes)))
    right = np.zeros((repeats, len(split.test)))
    unconverged = 0
    for run in range(repeats):
        predicted, converged = fit_predict(
            make_probe(probe, seed + run), x[split.train], y[split.train], x[split.test]
        )
        right[run] = predicted == y[split.test]
        np.add.at(confusion, (y[split.test], predicted), 1.0 / repeats)
        unconverged += not converged
        if progress is not None:
            progress(run + 1, repeats)
    correct = right.mean(axis=0)
    together = None if groups is None else np.asarray(groups)[split.test]
    grouped = together is not None and len(np.unique(together)) < len(split.test)
    result = ProbeResult(
        probe=probe,
        seed=seed,
        dim=x.shape[1],
        n=len(x),
        classes=tuple(classes.tolist()),
        folds=(split.name,),
        accuracy=right.mean(axis=1, keepdims=True),
        test_fraction=len(split.test) / (len(split.test) + len(split.train)),
        interval=bootstrap_interval(correct, seed=seed),
        interval_method="bootstrap over test items",
        chance=float(np.bincount(y[split.test]).max() / len(split.test)),
        confusion=confusion,
        fits=repeats,
        unconverged=unconverged,
    )
    return HeldOutResult(
        result=result,
        correct=correct,
        over_groups=bootstrap_interval(correct, together, seed=seed) if grouped else None,
    )


def compare_held_out(results: Mapping[str, HeldOutResult]) -> Pairs:
    """Every feature set minus every earlier one, on the same split.

    Returns:
        By names (later, earlier): ``items``, a paired t-test over the test items (runs averaged,
        the trained systems held fixed), and ``runs``, one over runs with equal seeds (the split
        held fixed), which says nothing of a probe that ran once.
    """
    return {
        (b, a): {
            "items": paired_comparison(results[b].correct, results[a].correct, 0.0),
            "runs": paired_comparison(
                results[b].result.accuracy[:, 0], results[a].result.accuracy[:, 0], 0.0
            ),
        }
        for a, b in combinations(results, 2)
    }


def compare_folds(results: Mapping[str, ProbeResult]) -> Pairs:
    """Every feature set minus every earlier one, on the same folds, runs averaged.

    Returns:
        By names (later, earlier): ``folds``, the corrected resampled t-test over the folds.
    """
    return {
        (b, a): {
            "folds": paired_comparison(
                results[b].accuracy.mean(axis=0),
                results[a].accuracy.mean(axis=0),
                results[b].test_fraction,
            )
        }
        for a, b in combinations(results, 2)
    }


def _check(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.intp],
    classes: npt.NDArray[Any],
    split: Fold,
    probe: str,
    runs: int,
) -> None:
    if probe not in PROBES:
        raise ConfigError(f"unknown probe {probe!r}: choose one of {', '.join(PROBES)}")
    if probe == "svm":
        raise ConfigError("svm chooses its penalty by folds, and this is one split: use linear_svm")
    if runs < 1:
        raise ConfigError(f"runs={runs} must be at least 1")
    if x.ndim != 2 or len(x) != len(y):
        raise DataError(f"features must be ({len(y)}, dim) for {len(y)} labels, got {x.shape}")
    if not np.isfinite(x).all():
        raise DataError("features are not finite: embed these items again or leave them out")
    known = np.unique(y[split.train])
    for unknown in np.setdiff1d(y[split.test], known):
        raise DataError(f"class {classes[unknown]} is tested but never trained")
    fewest = NEIGHBORS if probe == "knn" else 2
    if len(known) < 2 or len(split.train) < fewest:
        raise DataError(
            f"{len(split.train)} training items of {len(known)} class(es); this probe needs at "
            f"least {fewest} of 2"
        )
