"""One vector a clip, from the rows of its embedding."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError, DataError
from coala_latent.types import Embedding, FloatArray

__all__ = ["Weighting", "clip_vector"]

Weighting = Literal["time", "rows"]


def clip_vector(
    embedding: Embedding,
    pooling: str = "mean",
    *,
    pooled: bool = False,
    weighting: Weighting = "time",
) -> FloatArray:
    """Pool the rows of a clip over time.

    Args:
        embedding: Rows ``(n, dim)``.
        pooling: ``"mean"``, ``"max"``, ``"mean+max"`` or ``"mean+std"`` over time; ``"flatten"``,
            with which each row holds all its positions, takes the rows' mean.
        pooled: Each row has been pooled over its positions already and holds both halves of
            ``"mean+max"`` or ``"mean+std"``; the clip's halves are then those of all positions:
            the largest maximum, and the deviation within and between rows.
        weighting: Rows count by the seconds they heard, or all alike. By time, rows that heard
            nothing, where a short sound was repeated, count for nothing.

    Returns:
        ``(dim,)`` float32, or ``(2 * dim,)`` for both halves of rows that were not `pooled`.

    Raises:
        DataError: The clip has no rows, or an odd number of columns where there are two halves.
        ConfigError: Unknown pooling or weighting.
    """
    if len(embedding) == 0:
        raise DataError("a clip without rows has no vector: leave it out")
    if weighting not in ("time", "rows"):
        raise ConfigError(f"weighting must be time or rows, not {weighting!r}")
    weights = embedding.end - embedding.start if weighting == "time" else np.ones(len(embedding))
    if not weights.sum() > 0:
        weights = np.ones(len(embedding))
    rows = embedding.values[weights > 0].astype(np.float64)
    weights = weights[weights > 0] / weights.sum()
    return _pool(rows, weights, pooling, pooled).astype(np.float32)


def _pool(
    rows: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], pooling: str, pooled: bool
) -> npt.NDArray[np.float64]:
    if pooling in ("mean", "flatten"):
        return weights @ rows
    if pooling == "max":
        return rows.max(axis=0)
    if pooling not in ("mean+max", "mean+std"):
        raise ConfigError(
            f"no pooling {pooling!r}; there are flatten, max, mean, mean+max, mean+std"
        )
    if pooled and rows.shape[1] % 2:
        raise DataError(f"rows of {rows.shape[1]} values are not two halves of {pooling}")
    first, second = np.split(rows, 2, axis=1) if pooled else (rows, None)
    mean = weights @ first
    if pooling == "mean+max":
        return np.concatenate([mean, (first if second is None else second).max(axis=0)])
    variance = weights @ (first - mean) ** 2
    if second is not None:
        variance += weights @ second**2
    return np.concatenate([mean, np.sqrt(variance)])
