"""How far concept vectors can be trusted: held-out scores, stability, random controls.

Intervals come from formulas that stay open where a bootstrap closes: five of five right recordings
say little about the next one. Intervals of shares are Wilson's, those of balanced accuracy join two
of them (Newcombe, "Interval estimation for the difference between independent proportions", 1998,
method 10), those of the area under the ROC curve solve for Hanley and McNeil's variance ("The
meaning and use of the area under a ROC curve", 1982) as Newcombe does (2006).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import rankdata

from coala_latent.analysis.differences import Correction, adjust_p_values
from coala_latent.analysis.statistics import Interval
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "ConceptScores",
    "ControlTest",
    "Stability",
    "against_controls",
    "concept_scores",
    "vector_stability",
]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ConceptScores:
    """What a concept vector says of recordings it was not trained on.

    Attributes:
        accuracy: Share of right rows, averaged over recordings, positives and negatives as they
            occur.
        balanced_accuracy: Mean of the shares among positives and among negatives. The original's
            accuracy, which it measures on as many of the one as of the other.
        auc: Chance that a positive's mean logit is above a negative's.
        positives: Recordings.
        negatives: Recordings.
    """

    accuracy: Interval
    balanced_accuracy: Interval
    auc: Interval
    positives: int
    negatives: int

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "accuracy": self.accuracy.to_dict(),
            "balanced_accuracy": self.balanced_accuracy.to_dict(),
            "auc": self.auc.to_dict(),
            "positives": self.positives,
            "negatives": self.negatives,
        }


def concept_scores(
    logits: npt.ArrayLike,
    shares: npt.ArrayLike,
    members: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> ConceptScores:
    """Scores of one concept on held-out recordings, which are the units of the intervals.

    Args:
        logits: ``(recordings,)``, the mean over each recording's rows.
        shares: ``(recordings,)``, the share of rows with a logit above 0.
        members: ``(recordings,)`` bool, whether the concept is there.
        groups: ``(recordings,)`` ids of what belongs together, such as artists: intervals widen as
            far as recordings of a group are alike. None: each is on its own.
        confidence: Coverage of the intervals, between 0 and 1.

    Raises:
        ConfigError: `confidence` is out of range.
        DataError: Lengths differ, a value is not finite, or there are no positives or no negatives.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence} must lie between 0 and 1, as in 0.95")
    logit, share = np.asarray(logits, np.float64), np.asarray(shares, np.float64)
    member = np.asarray(members, bool)
    group = np.arange(len(logit)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if not logit.shape == share.shape == member.shape == group.shape == (len(logit),):
        raise DataError(
            f"scores of {logit.shape}, {share.shape}, {member.shape} and groups {group.shape} "
            "recordings: give one of each a recording"
        )
    if not np.isfinite(logit).all() or not np.isfinite(share).all():
        raise DataError("logits hold NaN or infinity")
    if member.all() or not member.any():
        raise DataError(
            f"{int(member.sum())} of {len(member)} held-out recordings belong to the concept: "
            "scores need both kinds"
        )
    z = float(ndtri(0.5 + confidence / 2))
    right = np.where(member, share, 1 - share)
    hit, rejected = (_share_interval(right[side], group[side], z) for side in (member, ~member))
    units = [len(np.unique(group[side])) for side in (member, ~member)]
    return ConceptScores(
        accuracy=_share_interval(right, group, z),
        balanced_accuracy=_mean_of_two(hit, rejected),
        auc=_auc_interval(_auc(logit, member), units[0], units[1], z),
        positives=int(member.sum()),
        negatives=int((~member).sum()),
    )


def _share_interval(right: Doubles, group: npt.NDArray[np.intp], z: float) -> Interval:
    """Wilson's interval of a mean of values in [0, 1], with as many units as its scatter shows."""
    n, mean = len(right), float(right.mean())
    units = np.unique(group, return_inverse=True)[1]
    sizes = np.bincount(units)
    count = len(sizes)
    effective = float(count)
    if count > 1:
        residual = np.bincount(units, weights=right - mean)
        variance = float(np.square(residual).sum()) / n**2 * count / (count - 1)
        if variance > 1e-12:
            effective = min(max(mean * (1 - mean) / variance, 1.0), float(n))
    middle = (mean + z * z / (2 * effective)) / (1 + z * z / effective)
    half = mean * (1 - mean) / effective + z * z / (4 * effective**2)
    half = z * math.sqrt(half) / (1 + z * z / effective)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(mean, min(low, mean), max(high, mean), count)


def _mean_of_two(one: Interval, other: Interval) -> Interval:
    """Of the mean of two independent shares."""
    mean = (one.mean + other.mean) / 2
    below = math.hypot(one.mean - one.low, other.mean - other.low) / 2
    above = math.hypot(one.high - one.mean, other.high - other.mean) / 2
    return Interval(mean, max(0.0, mean - below), min(1.0, mean + above), one.n + other.n)


def _auc(logits: Doubles, member: npt.NDArray[np.bool_]) -> float:
    positives = int(member.sum())
    ranks = rankdata(logits)[member].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * (len(member) - positives)))


def _auc_interval(auc: float, positives: int, negatives: int, z: float) -> Interval:
    def distance(true: float, sign: int) -> float:
        two_positives = true / (2 - true) - true**2
        two_negatives = 2 * true**2 / (1 + true) - true**2
        variance = true * (1 - true)
        variance += (positives - 1) * two_positives + (negatives - 1) * two_negatives
        return sign * (true - auc) - z * math.sqrt(max(variance, 0.0) / (positives * negatives))

    # At 0 and 1 the variance is 0 and both are solutions, which are not the ones sought.
    inner = min(max(auc, 1e-9), 1 - 1e-9)
    low = 0.0 if auc <= 0 else brentq(distance, 0.0, inner, args=(-1,))
    high = 1.0 if auc >= 1 else brentq(distance, inner, 1.0, args=(1,))
    return Interval(auc, float(low), float(high), positives + negatives)


@dataclass(frozen=True, eq=False)
class Stability:
    """How alike vectors of bootstrap resamples are, by cosine; each ``(concepts,)``.

    Attributes:
        mean: Of a resample's vector and the vector of all recordings.
        low: The lowest 2.5 % of these; the lowest of all where there are fewer than 40.
        between: Mean of pairs of resamples; NaN for a single resample.
    """

    mean: Doubles
    low: Doubles
    between: Doubles


def vector_stability(vectors: npt.ArrayLike, resamples: npt.ArrayLike) -> Stability:
    """Compare vectors of all recordings with those of bootstrap resamples.

    Args:
        vectors: ``(concepts, dim)``.
        resamples: ``(resamples, concepts, dim)``, at least one resample. A vector of length 0 has
            cosine 0 with all.

    Raises:
        DataError: Shapes do not fit, or a value is not finite.
    """
    one, many = np.asarray(vectors, np.float64), np.asarray(resamples, np.float64)
    if many.ndim != 3 or not len(many) or one.shape != many.shape[1:]:
        raise DataError(f"vectors {one.shape} and resamples {many.shape} do not fit together")
    if not (np.isfinite(one).all() and np.isfinite(many).all()):
        raise DataError("vectors hold NaN or infinity")
    one, many = _unit(one), _unit(many)
    cosines = np.einsum("rcd,cd->rc", many, one)
    count = len(many)
    # The sum of all pairs is the squared length of the sum, less each with itself.
    own = np.square(many).sum(axis=(0, 2))
    pairs = np.square(many.sum(axis=0)).sum(axis=1) - own
    between = pairs / (count * (count - 1)) if count > 1 else np.full(len(one), np.nan)
    return Stability(
        cosines.mean(axis=0), np.quantile(cosines, 0.025, axis=0, method="lower"), between
    )


def _unit(vectors: Doubles) -> Doubles:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


@dataclass(frozen=True, eq=False)
class ControlTest:
    """Values of concepts beside those of random concepts.

    Attributes:
        p_value: Of each value, of the shape given; at least ``1 / (controls + 1)``.
        adjusted: The same after correction for the number of values.
        mean: Of the controls.
        deviation: Of the controls.
    """

    p_value: Doubles
    adjusted: Doubles
    mean: Doubles
    deviation: Doubles


def against_controls(
    values: npt.ArrayLike,
    controls: npt.ArrayLike,
    *,
    two_sided: bool = False,
    correction: Correction = "holm",
) -> ControlTest:
    """Whether values are further out than those of concepts whose recordings are random.

    The p-value is the rank among the controls, the value itself counted with them, so that it
    assumes nothing of their distribution. With correction, ``m`` values can only be significant at
    5 % with at least ``20 m - 1`` controls.

    Args:
        values: ``(..., concepts)``, accuracies or TCAV scores.
        controls: ``(..., controls)``, the same of random concepts.
        two_sided: Count distances from the controls' mean on both sides, as for TCAV scores; else
            how many controls are as large.
        correction: ``"holm"``, ``"bonferroni"`` or ``"none"``, over all values.

    Raises:
        ConfigError: There is no such correction.
        DataError: There are no controls, shapes do not fit, or a value is not finite.
    """
    value, control = np.asarray(values, np.float64), np.asarray(controls, np.float64)
    if not control.ndim or control.shape[-1] < 1 or value.shape[:-1] != control.shape[:-1]:
        raise DataError(f"values {value.shape} and controls {control.shape} do not fit together")
    if not (np.isfinite(value).all() and np.isfinite(control).all()):
        raise DataError("values hold NaN or infinity")
    mean = control.mean(axis=-1, keepdims=True)
    if two_sided:
        value, control = np.abs(value - mean), np.abs(control - mean)
    # Values that differ by rounding alone count as equal.
    slack = 1e-12
    ordered = np.sort(control, axis=-1)
    above = np.empty(value.shape)
    for line in np.ndindex(value.shape[:-1]):
        found = np.searchsorted(ordered[line], value[line] - slack)
        above[line] = control.shape[-1] - found
    p_value = (1 + above) / (1 + control.shape[-1])
    adjusted = adjust_p_values(p_value.ravel(), correction).reshape(p_value.shape)
    deviation = np.asarray(controls, np.float64).std(axis=-1)
    return ControlTest(p_value, adjusted, mean[..., 0], deviation)
