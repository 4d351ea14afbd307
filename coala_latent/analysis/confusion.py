"""Figures of a classifier from its confusion matrix, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.statistics import Interval, corrected_resampled_interval
from coala_latent.errors import DataError

__all__ = ["Confusion", "confusion_matrix", "f1", "macro_f1"]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_RESAMPLES = 2000
_TAIL = 0.025


def confusion_matrix(true: Indices, predicted: Indices, classes: int) -> Indices:
    """``(classes, classes)`` int64, true class by row."""
    table = np.bincount(true * classes + predicted, minlength=classes * classes)
    return table.reshape(classes, classes).astype(np.int64)


def f1(table: npt.ArrayLike) -> Doubles:
    """F1 of each class of confusion matrices ``(..., c, c)``; NaN for one neither met nor said."""
    counts = np.asarray(table, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    both = counts.sum(axis=-1) + counts.sum(axis=-2)
    return np.divide(2 * hits, both, out=np.full(both.shape, np.nan), where=both > 0)


def macro_f1(table: npt.ArrayLike) -> Doubles:
    """Mean F1 of the classes that were met or said."""
    return np.asarray(np.nanmean(f1(table), axis=-1))


@dataclass(frozen=True, eq=False)
class Confusion:
    """What was said about recordings of each class.

    Attributes:
        classes: Names, the order of rows (true) and columns (said).
        table: ``(classes, classes)`` int64, of all tested recordings.
        accuracy: Share that was right. Several folds: their mean with the corrected resampled t
            interval (Nadeau and Bengio, 2003); one test set: bootstrap over its recordings.
        macro_f1: Mean F1 of the classes, likewise.
    """

    classes: tuple[str, ...]
    table: Indices = field(repr=False)
    accuracy: Interval
    macro_f1: Interval

    @classmethod
    def of_folds(
        cls, classes: Sequence[str], tables: Sequence[Indices], test_fraction: float
    ) -> Confusion:
        """Of a cross-validation.

        Args:
            classes: Names.
            tables: One a fold.
            test_fraction: Mean share of a fold's recordings that are tested.
        """
        accuracy = [float(np.trace(table) / table.sum()) for table in tables]
        return cls(
            tuple(classes),
            np.sum(tables, axis=0),
            _within(corrected_resampled_interval(accuracy, test_fraction)),
            _within(corrected_resampled_interval(macro_f1(np.stack(tables)), test_fraction)),
        )

    @classmethod
    def of_test(cls, classes: Sequence[str], table: Indices, seed: int = 0) -> Confusion:
        """Of one test set, whose recordings are drawn again and again.

        Raises:
            DataError: It is empty.
        """
        n = int(table.sum())
        if n == 0:
            raise DataError("no recording to test: none has a label that the classifier knows")
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n, table.ravel() / n, size=_RESAMPLES).reshape(-1, *table.shape)
        shares = np.trace(drawn, axis1=1, axis2=2) / n
        return cls(
            tuple(classes),
            table,
            _percentiles(float(np.trace(table) / n), shares, n),
            _percentiles(float(macro_f1(table)), macro_f1(drawn), n),
        )

    @property
    def chance(self) -> float:
        """Accuracy of always saying the most frequent class."""
        return float(self.table.sum(axis=1).max() / self.table.sum())

    def per_class(self) -> list[dict[str, Any]]:
        """Precision, recall, F1 and support of each class; None where there is nothing to share."""
        hits, said = np.diagonal(self.table), self.table.sum(axis=0)
        support = self.table.sum(axis=1)
        return [
            {
                "class": name,
                "precision": _ratio(hit, all_said),
                "recall": _ratio(hit, all_met),
                "f1": _ratio(2 * hit, all_said + all_met),
                "support": all_met,
            }
            for name, hit, all_said, all_met in zip(
                self.classes, hits.tolist(), said.tolist(), support.tolist(), strict=True
            )
        ]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "classes": list(self.classes),
            "confusion": self.table.tolist(),
            "accuracy": self.accuracy.to_dict(),
            "macro_f1": self.macro_f1.to_dict(),
            "chance": self.chance,
            "per_class": self.per_class(),
        }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _within(interval: Interval) -> Interval:
    return replace(interval, low=max(0.0, interval.low), high=min(1.0, interval.high))


def _percentiles(value: float, drawn: Doubles, n: int) -> Interval:
    low, high = np.quantile(drawn, [_TAIL, 1 - _TAIL])
    return Interval(value, float(low), float(high), n)
