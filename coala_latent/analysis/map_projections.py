"""Vectors laid out on a plane for a map, by cosine, for any number of points.

The vectors are scaled to unit length first. The squared Euclidean distance of two of them is twice
their cosine distance, so that principal components and t-SNE follow the cosine, and a vector of
zeros stays at the origin, equally far from all others.

t-SNE takes time; of many points a part, the landmarks, is laid out by it, and every other point
stands among the landmarks that are nearest to it.

Sources:
    van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.
    Kobak, Berens, "The art of using t-SNE for single-cell transcriptomics", Nature Communications
    10, 2019 (initialisation by principal components; placing new points by their nearest
    neighbours in a reference layout).
    McInnes, Healy, Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
    Reduction", arXiv:1802.03426, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from coala_latent.analysis.projection import principal_components, tsne
from coala_latent.errors import ConfigError, DataError, DependencyError

__all__ = ["LANDMARKS", "MAP_METHODS", "MapProjection", "map_projection", "require_method"]

MAP_METHODS = ("tsne", "pca", "umap")
# Points laid out by t-SNE itself, unless more are asked for.
LANDMARKS = 10_000

_FEWEST = 4  # below that every layout is that of the principal components
_COMPONENTS = 50
_PLACED_BY = 10
_UMAP_NEIGHBORS = 15
_UMAP_DISTANCE = 0.1
_JUDGED = 2000
_JUDGED_NEIGHBORS = 5


@dataclass(frozen=True, eq=False)
class MapProjection:
    """A layout of a map.

    Attributes:
        method: One of `MAP_METHODS`.
        points: ``(n, 2)`` float32, finite.
        description: How it was made, in words, for who looks at the map.
        trustworthiness: Share in [0, 1] of neighbours on the plane that can be trusted to be
            neighbours by cosine too (Venna, Kaski 2001), of 2000 points at most; None for fewer
            points than `_FEWEST` or where all are equal.
    """

    method: str
    points: npt.NDArray[np.float32] = field(repr=False)
    description: str
    trustworthiness: float | None


def require_method(method: str) -> None:
    """Say at once whether a layout can be made.

    Raises:
        ConfigError: There is no such method.
        DependencyError: It needs a package that is not installed.
    """
    if method not in MAP_METHODS:
        raise ConfigError(f"no projection {method!r}; there are {', '.join(MAP_METHODS)}")
    if method == "umap":
        _umap_module()


def _umap_module() -> Any:
    try:
        return import_module("umap")
    except ImportError as error:
        raise DependencyError(
            "UMAP needs the package umap-learn (pip install 'coala-latent[umap]')"
        ) from error


def map_projection(
    vectors: npt.ArrayLike,
    method: str = "tsne",
    *,
    perplexity: float = 30.0,
    landmarks: int = LANDMARKS,
    seed: int = 0,
) -> MapProjection:
    """Lay out ``(n, dim)`` vectors on a plane, by cosine.

    Args:
        vectors: One a point; any number from one on. Equal ones and zeros are allowed.
        method: ``"tsne"``, ``"pca"`` or ``"umap"``.
        perplexity: Of t-SNE: about how many neighbours a point should stay close to; at most a
            third of the other points is used.
        landmarks: Of t-SNE: where there are more points, so many of them, drawn by the seed, are
            laid out, and the others are placed among the 10 landmarks nearest to them.
        seed: Of everything that is drawn.

    Raises:
        DataError: No points, or values that are not finite.
        ConfigError: Unknown method, a perplexity that is not above 1, fewer than 4 landmarks.
        DependencyError: UMAP is not installed.
    """
    require_method(method)
    if not perplexity > 1:
        raise ConfigError(f"perplexity={perplexity} must be above 1")
    if landmarks < _FEWEST:
        raise ConfigError(f"landmarks={landmarks} must be at least {_FEWEST}")
    unit = _unit_vectors(vectors)
    if (unit == unit[0]).all():
        text = "one point" if len(unit) == 1 else f"all {len(unit)} vectors have one direction"
        return MapProjection(method, np.zeros((len(unit), 2), np.float32), text, None)
    if method == "pca" or len(unit) < _FEWEST:
        plane, kept = principal_components(unit, 2)
        text = f"principal components of unit vectors, {100 * kept:.0f} % of the variance"
    elif method == "tsne":
        plane, text = _tsne(unit, perplexity, landmarks, seed)
    else:
        plane, text = _umap(unit, seed)
    points = (plane - plane.mean(axis=0)).astype(np.float32)
    return MapProjection(method, points, text, _trustworthiness(unit, points, seed))


def _unit_vectors(vectors: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Of length 1, or 0 where all values are 0."""
    x = np.array(vectors, dtype=np.float32)
    if x.ndim != 2 or not x.size:
        raise DataError(f"vectors of a map must be (n, dim), got shape {x.shape}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise DataError(
            f"vectors of a map: row {int(np.argmin(finite))} is not finite "
            f"({int((~finite).sum())} of {len(x)} rows): leave these points out"
        )
    # By the largest value first, so that squares stay in range.
    largest = np.abs(x).max(axis=1, keepdims=True)
    np.divide(x, largest, out=x, where=largest > 0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    np.divide(x, length, out=x, where=length > 0)
    return x


def _tsne(
    unit: npt.NDArray[np.float32], perplexity: float, landmarks: int, seed: int
) -> tuple[npt.NDArray[np.floating], str]:
    n = len(unit)
    reduced, _ = principal_components(unit, _COMPONENTS)
    about = f"t-SNE by cosine, seed {seed}"
    if n <= landmarks:
        plane, used = tsne(reduced, perplexity, seed)
        return plane, f"{about}, perplexity {used:g}"
    chosen = np.sort(np.random.default_rng(seed).choice(n, landmarks, replace=False))
    if (reduced[chosen] == reduced[chosen[0]]).all():
        raise DataError(
            f"the {landmarks} landmarks of t-SNE are all equal (ask for more, or for the "
            "projection pca)"
        )
    placed, used = tsne(reduced[chosen], perplexity, seed)
    others = np.setdiff1d(np.arange(n), chosen, assume_unique=True)
    plane = np.empty((n, 2), np.float32)
    plane[chosen] = placed
    plane[others] = _among_neighbors(reduced[chosen], placed, reduced[others])
    return plane, (
        f"{about}, perplexity {used:g}, of {landmarks} points drawn at random; each of the other "
        f"{len(others)} stands among the {min(_PLACED_BY, landmarks)} of these that are nearest"
    )


def _among_neighbors(
    known: npt.NDArray[np.floating],
    places: npt.NDArray[np.float32],
    new: npt.NDArray[np.floating],
) -> npt.NDArray[np.float32]:
    """Places ``(m, 2)`` of new rows: the mean of their nearest known rows' places.

    Weights fall with the fourth power of the distance: a row between two groups joins the nearer
    one rather than standing in the gap, and one equal to a known row stands where that does.
    """
    count = min(_PLACED_BY, len(known))
    finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(known)
    distances, neighbors = finder.kneighbors(new)
    tiny = np.finfo(np.float32).tiny
    weights = ((distances[:, :1] + tiny) / (distances + tiny)) ** 4
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("mk,mkc->mc", weights, places[neighbors]).astype(np.float32)


def _umap(unit: npt.NDArray[np.float32], seed: int) -> tuple[npt.NDArray[np.floating], str]:
    count = min(_UMAP_NEIGHBORS, len(unit) - 1)
    # One thread: with more its result is another every time.
    reducer = _umap_module().UMAP(
        n_neighbors=count,
        min_dist=_UMAP_DISTANCE,
        metric="cosine",
        init="pca",
        random_state=seed,
        n_jobs=1,
    )
    plane = np.asarray(reducer.fit_transform(unit))
    text = f"UMAP by cosine, {count} neighbours, least distance {_UMAP_DISTANCE}, seed {seed}"
    return plane, text


def _trustworthiness(
    unit: npt.NDArray[np.float32], points: npt.NDArray[np.float32], seed: int
) -> float | None:
    if len(unit) < _FEWEST:
        return None
    some: npt.NDArray[np.int64] | Sequence[int] = np.arange(len(unit))
    if len(unit) > _JUDGED:
        some = np.random.default_rng(seed).choice(len(unit), _JUDGED, replace=False)
    neighbors = min(_JUDGED_NEIGHBORS, (len(some) - 1) // 2)
    return float(trustworthiness(unit[some], points[some], n_neighbors=neighbors))
