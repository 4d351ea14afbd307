"""Intervals for scores, and the comparison of two systems.

Three sources of scatter ask for three intervals: independent runs (`mean_interval`), folds that
share training data (`corrected_resampled_interval`), and the items of one test set
(`bootstrap_interval`).

Sources:
    Nadeau, Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003.
    Bouckaert, Frank, "Evaluating the Replicability of Significance Tests for Comparing Learning
    Algorithms", PAKDD 2004 (the same correction for cross-validation).
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3 (percentile interval).
    Field, Welsh, "Bootstrapping clustered data", JRSS B 69, 2007 (resampling whole clusters).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from coala_latent.errors import ConfigError, DataError

__all__ = [
    "Interval",
    "PairedComparison",
    "bootstrap_interval",
    "corrected_resampled_interval",
    "mean_interval",
    "paired_comparison",
]

_BLOCK_VALUES = 4_000_000  # resampling counts held at once, 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval. Never NaN.

    Attributes:
        mean: The estimate.
        low: Lower end; ``-inf`` where a single unit says nothing about scatter.
        high: Upper end; ``inf`` likewise.
        n: Number of independent units behind it: runs, folds, items or groups.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def bounded(self) -> bool:
        """Whether the scatter could be estimated, that is ``n > 1``."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, float | int | None]:
        """Values for JSON; an unbounded end is None."""
        return {
            "mean": self.mean,
            "low": self.low if math.isfinite(self.low) else None,
            "high": self.high if math.isfinite(self.high) else None,
            "n": self.n,
        }


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two systems measured on the same folds or runs.

    Attributes:
        difference: Mean of ``a - b``.
        interval: Its confidence interval.
        p_value: Two-sided, for the hypothesis of no difference; 1 where a single pair says nothing
            about scatter.
    """

    difference: float
    interval: Interval
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "difference": self.difference,
            "interval": self.interval.to_dict(),
            "p_value": self.p_value,
        }


def mean_interval(scores: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Student t interval of the mean of independent scores, such as runs with other seeds.

    Folds of a cross-validation are not independent: see `corrected_resampled_interval`.

    Args:
        scores: ``(n,)``. One score gives an unbounded interval; equal scores one of width 0.
        confidence: Coverage, between 0 and 1.

    Raises:
        DataError: No scores, or one that is not finite.
        ConfigError: ``confidence`` is out of range.
    """
    return corrected_resampled_interval(scores, 0.0, confidence)


def corrected_resampled_interval(
    scores: npt.ArrayLike, test_fraction: float, confidence: float = 0.95
) -> Interval:
    r"""Interval of the mean over folds or random splits, which share training data.

    Nadeau and Bengio's corrected variance of the mean of :math:`J` scores with sample variance
    :math:`s^2`, :math:`(1/J + n_\text{test}/n_\text{train})\,s^2`, with a t quantile of
    :math:`J - 1` degrees of freedom. Five folds: 1.5 times as wide as `mean_interval`.

    Args:
        scores: ``(J,)``, one a fold. Average repeated runs of a fold first: they share its data.
        test_fraction: Share of the items in a fold's test part, ``1 / k`` for k folds. 0 is the
            ordinary t interval.
        confidence: Coverage, between 0 and 1.

    Raises:
        DataError: No scores, or one that is not finite.
        ConfigError: ``test_fraction`` or ``confidence`` is out of range.
    """
    values = _checked(scores)
    mean, error = float(values.mean()), _standard_error(values, test_fraction)
    return _t_interval(mean, error, len(values), confidence)


def bootstrap_interval(
    correct: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of the mean over the items of a test set.

    It holds the trained system fixed and asks what other test items would have given. Items of one
    recording rise and fall together; with ``groups`` whole groups are resampled, and the mean is
    taken over the items drawn. With fewer than about 20 groups it is somewhat too narrow.

    Args:
        correct: ``(n,)``: 0 and 1, or any score an item.
        groups: ``(n,)`` ids of any type that say which items belong together; None: none do.
        n_resamples: Number of bootstrap samples.
        seed: Seed of the draws.
        confidence: Coverage, between 0 and 1.

    Returns:
        Interval whose ``n`` counts groups (items without groups); unbounded for a single one.

    Raises:
        DataError: No items, a value that is not finite, or ``groups`` of another length.
        ConfigError: ``confidence`` or ``n_resamples`` is out of range.
    """
    values = _checked(correct)
    _check_confidence(confidence)
    if n_resamples < 1:
        raise ConfigError(f"n_resamples={n_resamples} must be at least 1")
    units = np.arange(len(values)) if groups is None else _group_index(groups, len(values))
    sizes = np.bincount(units)
    sums = np.bincount(units, weights=values)
    mean = float(values.mean())
    if len(sizes) == 1:
        return Interval(mean, -math.inf, math.inf, 1)

    # Units with the same sum and size are exchangeable, so drawing units with replacement is a
    # multinomial draw over the distinct pairs: two for right and wrong items, however many items.
    distinct, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)
    rng = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _BLOCK_VALUES // len(counts))
    for begin in range(0, n_resamples, step):
        rows = min(step, n_resamples - begin)
        drawn = rng.multinomial(len(sizes), counts / len(sizes), size=rows)
        means[begin : begin + rows] = (drawn @ distinct[0]) / (drawn @ distinct[1])
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high), len(sizes))


def paired_comparison(
    a: npt.ArrayLike, b: npt.ArrayLike, test_fraction: float, confidence: float = 0.95
) -> PairedComparison:
    """Corrected resampled t-test (Nadeau and Bengio) of two systems on the same folds.

    Args:
        a: ``(J,)`` scores of the first system, one a fold.
        b: ``(J,)`` scores of the second on the same folds in the same order.
        test_fraction: As in `corrected_resampled_interval`; 0 is the ordinary paired t-test, for
            pairs that share no data.
        confidence: Coverage of the interval.

    Returns:
        Mean of ``a - b``, its interval and p. Pairs that all differ by the same amount give an
        interval of width 0 and a p of 0, or 1 where they do not differ.

    Raises:
        DataError: Other lengths, no pairs, or a score that is not finite.
        ConfigError: ``test_fraction`` or ``confidence`` is out of range.
    """
    first, second = _checked(a), _checked(b)
    if len(first) != len(second):
        raise DataError(
            f"paired_comparison: {len(first)} and {len(second)} scores; both systems need one "
            "score for each of the same folds"
        )
    differences = first - second
    mean, error = float(differences.mean()), _standard_error(differences, test_fraction)
    interval = _t_interval(mean, error, len(differences), confidence)
    if mean == 0.0 or math.isinf(error):
        p_value = 1.0
    elif error == 0.0:
        p_value = 0.0
    else:
        p_value = float(2.0 * stdtr(len(differences) - 1, -abs(mean) / error))
    return PairedComparison(mean, interval, p_value)


def _standard_error(values: npt.NDArray[np.float64], test_fraction: float) -> float:
    """Corrected standard error of the mean; infinite for a single value, exactly 0 for equal."""
    if not 0.0 <= test_fraction < 1.0:
        raise ConfigError(f"test_fraction={test_fraction} must be at least 0 and below 1")
    n = len(values)
    if n == 1:
        return math.inf
    # Rounding in the mean must not turn equal differences into a tiny scatter and a huge t.
    scatter = np.ptp(values)
    if scatter <= 8.0 * np.finfo(np.float64).eps * max(1.0, float(np.abs(values).max())):
        return 0.0
    ratio = test_fraction / (1.0 - test_fraction)
    return math.sqrt((1.0 / n + ratio) * float(values.var(ddof=1)))


def _t_interval(mean: float, error: float, n: int, confidence: float) -> Interval:
    _check_confidence(confidence)
    if math.isinf(error):
        return Interval(mean, -math.inf, math.inf, n)
    half = error * float(stdtrit(n - 1, 0.5 + confidence / 2.0))
    return Interval(mean, mean - half, mean + half, n)


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence={confidence} must lie between 0 and 1, as in 0.95")


def _checked(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"scores must be a list of at least one number, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise DataError(f"score {int(np.argmin(np.isfinite(values)))} is not finite")
    return values


def _group_index(groups: npt.ArrayLike, n: int) -> npt.NDArray[np.intp]:
    ids = np.asarray(groups)
    if ids.shape != (n,):
        raise DataError(f"groups must have one id for each of the {n} items, got {ids.shape}")
    return np.unique(ids, return_inverse=True)[1]
