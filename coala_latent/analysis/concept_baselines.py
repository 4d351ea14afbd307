"""Graphs without a tree, and trees from other embeddings, to measure a hierarchy against.

Edges are rows (parent, child): rows of a similarity are the parent's, as in `concept_tree`. In the
original study the flat graph of each concept's best neighbour came out ahead of the tree, so none
of its figures should stand alone.

Sources:
    Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
    (arXiv 2207.11231; the notebook of https://github.com/deezer/concept_hierarchy). Its random
    graphs were not seeded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.concept_betweenness import betweenness
from coala_latent.analysis.concept_links import adjacency, density_threshold, undirected
from coala_latent.analysis.concept_tree import ConceptTree, checked_similarity, concept_tree
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "METRICS",
    "checked_embeddings",
    "embedding_similarity",
    "embedding_tree",
    "flat_baselines",
    "random_neighbors",
    "random_pairs",
    "similar_pairs",
    "top_neighbors",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

METRICS = ("cosine", "euclidean")

_SIMILAR, _MATCHING = 0.5, 0.66  # thresholds of the notebook's graphs
_RANDOM_DENSITY = 0.1
_MIN_SIMILARITY, _MIN_NEGATIVE = 0.2, -3.0  # of trees, for cosines and for negative distances


def flat_baselines(similarity: npt.ArrayLike, seed: int = 0) -> dict[str, Indices]:
    """The notebook's graphs without a tree, by name.

    Args:
        similarity: ``(n, n)`` mean probabilities.
        seed: Of the random ones.

    Returns:
        ``random_top`` (a random neighbour each), ``random_sim`` (a tenth of all pairs),
        ``similarity`` (above 0.5), ``matching`` (above 0.66), ``top_1`` (each row's best) and, not
        in the notebook, ``top_1_parent`` (each column's best: one parent a concept, as in a tree).
    """
    n = len(checked_similarity(similarity))
    return {
        "random_top": random_neighbors(n, seed),
        "random_sim": random_pairs(n, _RANDOM_DENSITY, seed),
        "similarity": similar_pairs(similarity, _SIMILAR),
        "matching": similar_pairs(similarity, _MATCHING),
        "top_1": top_neighbors(similarity),
        "top_1_parent": top_neighbors(similarity, of="columns"),
    }


def random_neighbors(n: int, seed: int = 0) -> Indices:
    """``(n, 2)``: each concept and another one drawn at random; none for fewer than two."""
    if n < 2:
        return np.zeros((0, 2), dtype=np.int64)
    other = np.random.default_rng(seed).integers(0, n - 1, n)
    each = np.arange(n)
    return np.stack([each, other + (other >= each)], axis=1)


def random_pairs(n: int, density: float = _RANDOM_DENSITY, seed: int = 0) -> Indices:
    """``(m, 2)``: each ordered pair of different concepts with probability ``density``.

    Raises:
        ConfigError: ``density`` is out of range.
    """
    if not 0.0 <= density <= 1.0:
        raise ConfigError(f"density={density} must lie between 0 and 1")
    drawn = np.random.default_rng(seed).random((n, n)) < density
    np.fill_diagonal(drawn, False)
    return np.argwhere(drawn)


def similar_pairs(similarity: npt.ArrayLike, threshold: float) -> Indices:
    """``(m, 2)``: all ordered pairs of different concepts above a threshold."""
    return np.argwhere(adjacency(similarity, threshold))


def top_neighbors(similarity: npt.ArrayLike, of: str = "rows") -> Indices:
    """The most similar other concept of each; the lower index among equals.

    Args:
        similarity: ``(n, n)``.
        of: ``"rows"``: of each row, as in the notebook: (row, best column). ``"columns"``: of each
            column: (best row, column).

    Returns:
        ``(n, 2)``; none for fewer than two concepts.

    Raises:
        ConfigError: ``of`` is unknown.
    """
    if of not in ("rows", "columns"):
        raise ConfigError(f"of={of!r} must be rows or columns")
    matrix = checked_similarity(similarity).copy()
    n = len(matrix)
    if n < 2:
        return np.zeros((0, 2), dtype=np.int64)
    np.fill_diagonal(matrix, -np.inf)
    each = np.arange(n)
    if of == "rows":
        return np.stack([each, matrix.argmax(axis=1)], axis=1)
    return np.stack([matrix.argmax(axis=0), each], axis=1)


def embedding_similarity(embeddings: npt.ArrayLike, metric: str = "cosine") -> Doubles:
    """Similarities of concepts by embeddings of another kind.

    Args:
        embeddings: ``(n, dim)``: of words, of titles, of who listens.
        metric: ``"cosine"`` (0 beside a vector of norm 0) or ``"euclidean"``: the negative
            *squared* distance, as the notebook builds graphs (it scores them by the plain one).

    Raises:
        DataError: Embeddings are not a finite matrix.
        ConfigError: ``metric`` is unknown.
    """
    rows = checked_embeddings(embeddings, metric)
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        return np.asarray(unit @ unit.T)
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0.0)
    np.fill_diagonal(distances, 0.0)
    return -distances


def embedding_tree(
    embeddings: npt.ArrayLike,
    metric: str = "cosine",
    *,
    threshold: float | None = None,
    density: float = 0.1,
    min_similarity: float | None = None,
    max_children: int = 20,
) -> ConceptTree:
    """A tree from other embeddings, made as the notebook makes them.

    Links are each concept's best neighbour and all pairs above a threshold; then betweenness and
    `concept_tree`.

    Args:
        embeddings: ``(n, dim)``.
        metric: As in `embedding_similarity`.
        threshold: Of links; None: what gives ``density``.
        density: Share of n² that become links, without those to best neighbours.
        min_similarity: Of a parent; None: 0.2, or -3 where the mean similarity is at most -0.5.
        max_children: A concept's limit.
    """
    similarity = embedding_similarity(embeddings, metric)
    if len(similarity) < 2:
        return concept_tree(similarity, np.zeros(len(similarity)))
    limit = density_threshold(similarity, density) if threshold is None else threshold
    links = adjacency(similarity, limit)
    best = top_neighbors(similarity)
    links[best[:, 0], best[:, 1]] = True
    if min_similarity is None:
        min_similarity = _MIN_NEGATIVE if similarity.mean() <= -0.5 else _MIN_SIMILARITY
    return concept_tree(
        similarity,
        betweenness(undirected(links)).values,
        min_similarity=min_similarity,
        max_children=max_children,
    )


def checked_embeddings(embeddings: npt.ArrayLike, metric: str) -> Doubles:
    """A finite matrix as float64, and a known metric.

    Raises:
        DataError: Embeddings are not a finite matrix.
        ConfigError: ``metric`` is unknown.
    """
    if metric not in METRICS:
        raise ConfigError(f"metric={metric!r} must be one of {', '.join(METRICS)}")
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2:
        raise DataError(f"embeddings must be (concepts, dim), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        bad = int(np.argmin(np.isfinite(rows).all(axis=1)))
        raise DataError(f"the embedding of concept {bad} is not finite; leave the concept out")
    return rows
