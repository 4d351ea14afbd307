r"""What share of a concept's recordings belongs to another concept, and how general a concept is.

Mean activations of different vectors are on different scales, and a vector trained on as many
positives as negatives says "yes" too often of a mixed collection. :math:`V_{ij}`, the mean
activation of vector j over the recordings of concept i, is therefore put on the scale on which 0 is
what the vector says of recordings outside its concept and 1 what it says of its own. That is the
adjusted count of quantification, an estimate of the share of i's recordings that belong to j:

.. math:: C_{ij} = \operatorname{clip}\frac{V_{ij} - b_j}{V_{jj} - b_j}.

A concept inside another gives a pair :math:`C_{child, parent} \approx 1` and
:math:`C_{parent, child} \approx` its share of the parent. The geometric mean of both is high only
for the *nearest* container: a grandparent has a smaller share, a sibling none.

Means of :math:`\sigma(V)` can be put on that scale too, but saturate: planted hierarchies are found
less well.

Sources:
    Bella, Ferri, Hernández-Orallo, Ramírez-Quintana, "Quantification via probability estimators",
    ICDM 2010 (adjusted means).
    Benjamini, Hochberg, "Controlling the false discovery rate", JRSS B 57, 1995.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtr

from coala_latent.analysis.concept_projections import ConceptProjections
from coala_latent.analysis.concept_tree import checked_similarity
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "adjusted_share",
    "calibrated_similarity",
    "column_background",
    "generality",
    "mutual_similarity",
    "pair_p_values",
    "significant_pairs",
]

Doubles = npt.NDArray[np.float64]

_FEWEST = 4


def adjusted_share(value: Doubles, own: Doubles, background: Doubles) -> Doubles:
    """The scale of the module's formula; arrays of any shapes that broadcast.

    Args:
        value: Mean activation of a vector over some recordings.
        own: Over its own concept's recordings.
        background: Over recordings outside the concept.

    Returns:
        In [0, 1]; 0 for a vector that says no more of its own recordings than of others.
    """
    excess, width = np.broadcast_arrays(value - background, own - background)
    share = np.divide(excess, width, out=np.zeros(excess.shape), where=width > 0)
    return np.clip(share, 0.0, 1.0)


def calibrated_similarity(activation: npt.ArrayLike, background: npt.ArrayLike) -> Doubles:
    """Estimated share of i's recordings (rows) that belong to concept j (columns).

    Args:
        activation: ``(n, n)`` mean activations, or means of their logistic function: i's
            recordings, j's vector.
        background: ``(n,)`` each vector's mean activation over recordings outside its concept:
            `ConceptProjections.background`, or `column_background`.

    Raises:
        DataError: Shapes do not fit, or a value is not finite.
    """
    matrix = checked_similarity(activation)
    outside = np.asarray(background, dtype=np.float64)
    if outside.shape != (len(matrix),) or not np.isfinite(outside).all():
        raise DataError(
            f"background must be {len(matrix)} finite numbers, got shape {outside.shape}"
        )
    return adjusted_share(matrix, np.diagonal(matrix), outside)


def column_background(activation: npt.ArrayLike) -> Doubles:
    """``(n,)`` median of each column off the diagonal, where nothing but similarities is left.

    Right as long as most concepts have nothing to do with each other.

    Raises:
        DataError: Similarities are not finite, or fewer than four concepts, of which no majority
            could be unrelated.
    """
    matrix = checked_similarity(activation).copy()
    if len(matrix) < _FEWEST:
        raise DataError(
            f"{len(matrix)} concepts are too few to read the background from their similarities: "
            "give the background, or use the protocol original"
        )
    np.fill_diagonal(matrix, np.nan)
    return np.asarray(np.nanmedian(matrix, axis=0))


def generality(calibrated: Doubles) -> Doubles:
    """``(n,)`` mean share of the other concepts' recordings that belong to each concept."""
    n = len(calibrated)
    return np.asarray((calibrated.sum(axis=0) - np.diagonal(calibrated)) / max(1, n - 1))


def mutual_similarity(calibrated: Doubles) -> Doubles:
    """``(n, n)`` geometric mean of both directions; symmetric."""
    return np.sqrt(calibrated * calibrated.T)


def pair_p_values(projections: ConceptProjections) -> Doubles:
    r"""How likely recordings of no matter what concept would give as high a mean activation.

    One-sided, for each concept's recordings (rows) and vector (columns), the greater of two
    p-values: of the mean of :math:`n_i` recordings drawn from all without replacement (its exact
    mean and variance, normal), which is what shuffled labels do, and of a t-test by the scatter of
    the concept's own recordings, which is not fooled by a vector that few recordings set off.

    Returns:
        ``(n, k)``; 1 where a single recording, or no recording outside, gives no evidence.
    """
    activation, error = projections.activation, projections.activation_error
    sizes = projections.counts[:, None].astype(np.float64)
    everything = projections.recordings
    usual = projections.total / everything
    scatter = projections.total_squared / everything - usual**2
    free = max(everything - 1, 1)
    spread = np.sqrt(np.maximum(scatter, 0.0) * np.maximum(everything - sizes, 0.0) / free / sizes)
    excess = activation - usual
    # Rounding must not make evidence: differences below it are none.
    noise = 1e-12 * np.sqrt(projections.total_squared / everything)
    excess = np.where(excess > noise, excess, 0.0)
    drawn = ndtr(-_ratio(excess, spread))
    own = stdtr(np.maximum(sizes - 1, 1), -_ratio(excess, error))
    none = (sizes < 2) | (sizes >= everything) | (excess == 0)
    return np.where(none, 1.0, np.maximum(drawn, own))


def significant_pairs(projections: ConceptProjections, rate: float = 0.05) -> npt.NDArray[np.bool_]:
    """Pairs of concepts that may become edges.

    A pair's p-value is twice the smaller of its two directions' (`pair_p_values`), and
    Benjamini-Hochberg over all pairs decides. Of the accepted pairs a share of ``rate`` is expected
    to be false; where nothing is related, as with shuffled labels, that is the chance that any pair
    at all is accepted.

    Args:
        projections: Of n concepts on their own n vectors.
        rate: False discovery rate.

    Returns:
        ``(n, n)`` boolean, symmetric, false on the diagonal.

    Raises:
        ConfigError: ``rate`` is out of range.
        DataError: Concepts and vectors are not the same.
    """
    if not 0.0 < rate < 1.0:
        raise ConfigError(f"false edge rate {rate} must lie between 0 and 1, as in 0.05")
    directed = pair_p_values(projections)
    n = len(directed)
    if directed.shape != (n, n):
        raise DataError(f"{n} concepts but {directed.shape[1]} vectors: both must be the same")
    row, column = np.triu_indices(n, 1)
    p_values = np.minimum(1.0, 2.0 * np.minimum(directed[row, column], directed[column, row]))
    ranked = np.sort(p_values)
    passing = np.flatnonzero(ranked <= rate * np.arange(1, len(ranked) + 1) / max(1, len(ranked)))
    accepted = np.zeros((n, n), dtype=bool)
    if len(passing):
        accepted[row, column] = p_values <= ranked[passing[-1]]
    return accepted | accepted.T


def _ratio(excess: Doubles, spread: Doubles) -> Doubles:
    full = np.broadcast_to(spread, excess.shape)
    certain = np.where(excess > 0, np.inf, 0.0)
    return np.divide(excess, full, out=certain, where=full > 0)
