"""How good a graph of concepts is, by embeddings that had no part in it.

Sources:
    Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
    (arXiv 2207.11231; the notebook of https://github.com/deezer/concept_hierarchy): mean distance
    over edges. Its interval takes edges for independent, though concepts repeat in them.
    Snijders, Borgatti, "Non-parametric standard errors and tests for network statistics",
    Connections 22, 1999 (resampling of nodes).
    Mantel, "The detection of disease clustering", Cancer Research 27, 1967 (permuting one matrix).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from coala_latent.analysis.concept_baselines import checked_embeddings, embedding_similarity
from coala_latent.analysis.concept_tree import checked_similarity
from coala_latent.analysis.statistics import Interval
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "Chance",
    "Correlation",
    "EdgeScore",
    "against_chance",
    "checked_edges",
    "common_concepts",
    "edge_score",
    "edge_values",
    "matrix_correlation",
    "score_graphs",
    "similarity_correlation",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_NORMAL = 1.96
_BLOCK_VALUES = 4_000_000


@dataclass(frozen=True)
class EdgeScore:
    """Mean cosine or distance over the edges of a graph.

    Attributes:
        metric: ``"cosine"`` (higher is better) or ``"euclidean"`` (lower is better).
        mean: Over edges.
        std: Likewise.
        by_edges: The notebook's interval, ``1.96 std / sqrt(edges)``. Too narrow: its edges share
            concepts.
        by_nodes: Percentile interval of a bootstrap over concepts.
    """

    metric: str
    mean: float
    std: float
    by_edges: Interval
    by_nodes: Interval

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "metric": self.metric,
            "mean": self.mean,
            "std": self.std,
            "by_edges": self.by_edges.to_dict(),
            "by_nodes": self.by_nodes.to_dict(),
        }


@dataclass(frozen=True)
class Chance:
    """A statistic beside what it is by chance.

    Attributes:
        value: Of the graph.
        mean: Over graphs whose concepts were exchanged at random.
        high: The 95th percentile of them.
        p_value: One-sided, ``(1 + those at least as great) / (1 + all)``.
    """

    value: float
    mean: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """Values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of two matrices over pairs of concepts.

    Attributes:
        spearman: 0 where one of them is constant.
        p_value: One-sided, for a greater correlation, by exchanging concepts (Mantel's test).
        pairs: Number of pairs.
    """

    spearman: float
    p_value: float
    pairs: int

    def to_dict(self) -> dict[str, float | int]:
        """Values for JSON."""
        return dict(vars(self))


def edge_values(edges: npt.ArrayLike, embeddings: npt.ArrayLike, metric: str) -> Doubles:
    """``(m,)`` cosine (0 beside a vector of norm 0) or Euclidean distance along each edge.

    Raises:
        DataError: An edge is of an unknown concept, or embeddings are not a finite matrix.
        ConfigError: ``metric`` is unknown.
    """
    rows = checked_embeddings(embeddings, metric)
    links = checked_edges(edges, len(rows))
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    values = np.empty(len(links))
    step = max(1, _BLOCK_VALUES // max(1, rows.shape[1]))
    for begin in range(0, len(links), step):
        parent, child = rows[links[begin : begin + step].T]
        values[begin : begin + step] = (
            np.einsum("ed,ed->e", parent, child)
            if metric == "cosine"
            else np.linalg.norm(parent - child, axis=1)
        )
    return values


def edge_score(
    edges: npt.ArrayLike,
    embeddings: npt.ArrayLike,
    metric: str = "cosine",
    *,
    n_resamples: int = 200,
    seed: int = 0,
) -> EdgeScore:
    """The notebook's figure of a graph, with two intervals.

    Args:
        edges: ``(m, 2)``, at least one.
        embeddings: ``(n, dim)`` of the concepts.
        metric: ``"cosine"`` or ``"euclidean"``.
        n_resamples: Of concepts. One drawn so and so often gives its edges that weight, times the
            other end's.
        seed: Of the draws.

    Raises:
        DataError: No edges, or as `edge_values`.
        ConfigError: A setting is out of range.
    """
    values = edge_values(edges, embeddings, metric)
    n = len(np.asarray(embeddings))
    if not len(values):
        raise DataError("the graph has no edges, so nothing can be averaged over them")
    if n_resamples < 2:
        raise ConfigError(f"n_resamples={n_resamples} must be at least 2")
    links = checked_edges(edges, n)
    mean, std = float(values.mean()), float(values.std())
    half = _NORMAL * std / float(np.sqrt(len(values)))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_resamples):
        times = rng.multinomial(n, np.full(n, 1.0 / n)).astype(np.float64)
        weights = times[links[:, 0]] * times[links[:, 1]]
        # Of a graph of few edges a draw may leave none; it says nothing then.
        if weights.any():
            drawn.append(float(weights @ values / weights.sum()))
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn else (-np.inf, np.inf)
    return EdgeScore(
        metric,
        mean,
        std,
        Interval(mean, mean - half, mean + half, len(values)),
        Interval(mean, float(low), float(high), len(np.unique(links))),
    )


def score_graphs(
    graphs: Mapping[str, npt.ArrayLike],
    embeddings: Mapping[str, tuple[npt.ArrayLike, str]],
    *,
    n_resamples: int = 200,
    seed: int = 0,
) -> dict[str, dict[str, EdgeScore | None]]:
    """The notebook's table: every graph (row) by every kind of embedding (column).

    A tree scored in the embedding that it was made from is at an advantage.

    Args:
        graphs: Edges by name, all of the same concepts: see `common_concepts`.
        embeddings: Embeddings ``(n, dim)`` and metric by name.
        n_resamples: As for `edge_score`.
        seed: Likewise.

    Returns:
        Scores by graph and embedding; None for a graph without edges.
    """
    table: dict[str, dict[str, EdgeScore | None]] = {}
    for name, edges in graphs.items():
        empty = len(np.asarray(edges)) == 0
        table[name] = {
            kind: None
            if empty
            else edge_score(edges, rows, metric, n_resamples=n_resamples, seed=seed)
            for kind, (rows, metric) in embeddings.items()
        }
    return table


def common_concepts(*names: Sequence[str]) -> tuple[str, ...]:
    """Concepts that every list has, in the order of the first."""
    if not names:
        return ()
    shared = set(names[0]).intersection(*names[1:])
    return tuple(name for name in names[0] if name in shared)


def against_chance(
    statistic: Callable[[Indices], float],
    edges: npt.ArrayLike,
    concepts: int,
    *,
    n_permutations: int = 999,
    seed: int = 0,
) -> Chance:
    """A statistic of a graph, and of the same graph with its concepts exchanged at random.

    Depth and branching stay as they are, so a figure that only comes from the shape is chance.

    Args:
        statistic: Of edges ``(m, 2)``; greater is better.
        edges: Of the graph.
        concepts: Their number.
        n_permutations: How often they are exchanged.
        seed: Of that.

    Raises:
        DataError: An edge is of an unknown concept.
        ConfigError: ``n_permutations`` is out of range.
    """
    if n_permutations < 1:
        raise ConfigError(f"n_permutations={n_permutations} must be at least 1")
    links = checked_edges(edges, concepts)
    value = float(statistic(links))
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [statistic(rng.permutation(concepts)[links]) for _ in range(n_permutations)],
        dtype=np.float64,
    )
    # Equal graphs must count as equal though their edges were added up in another order.
    as_great = int((drawn >= value - 1e-12 * max(1.0, abs(value))).sum())
    return Chance(
        value,
        float(drawn.mean()),
        float(np.quantile(drawn, 0.95)),
        (1 + as_great) / (1 + n_permutations),
    )


def matrix_correlation(
    first: npt.ArrayLike, second: npt.ArrayLike, *, n_permutations: int = 199, seed: int = 0
) -> Correlation:
    """Spearman correlation of two symmetric matrices over pairs of concepts, with Mantel's test.

    Args:
        first: ``(n, n)``; only the upper triangle is looked at.
        second: ``(n, n)`` likewise.
        n_permutations: How often the concepts of the second are exchanged.
        seed: Of that.

    Raises:
        DataError: Shapes differ, a value is not finite, or fewer than three concepts.
    """
    a, b = checked_similarity(first), checked_similarity(second)
    if a.shape != b.shape or len(a) < 3:
        raise DataError(
            f"two matrices of the same three concepts or more are needed, got {a.shape}, {b.shape}"
        )
    upper = np.triu_indices(len(a), 1)
    x = _standard(rankdata(a[upper]))
    ranks = np.zeros_like(b)
    ranks[upper] = _standard(rankdata(b[upper]))
    ranks += ranks.T
    value = float(x @ ranks[upper])
    rng = np.random.default_rng(seed)
    as_great = 0
    for _ in range(n_permutations):
        order = rng.permutation(len(a))
        as_great += float(x @ ranks[order[upper[0]], order[upper[1]]]) >= value - 1e-12
    return Correlation(value, (1 + as_great) / (1 + n_permutations), len(x))


def similarity_correlation(
    similarity: npt.ArrayLike,
    embeddings: npt.ArrayLike,
    metric: str = "cosine",
    *,
    n_permutations: int = 199,
    seed: int = 0,
) -> Correlation:
    """Whether concepts that sound alike have names alike: S, both directions' mean, by embeddings.

    Args:
        similarity: ``(n, n)``.
        embeddings: ``(n, dim)``, such as word embeddings of the names.
        metric: As in `embedding_similarity`.
        n_permutations: Of Mantel's test.
        seed: Likewise.
    """
    matrix = checked_similarity(similarity)
    return matrix_correlation(
        (matrix + matrix.T) / 2,
        embedding_similarity(embeddings, metric),
        n_permutations=n_permutations,
        seed=seed,
    )


def checked_edges(edges: npt.ArrayLike, concepts: int) -> Indices:
    """``(m, 2)`` int64 of concepts that exist.

    Raises:
        DataError: An index is out of range, or the shape is another.
    """
    links = np.asarray(edges, dtype=np.int64)
    links = links.reshape(-1, 2) if links.size == 0 else links
    if links.ndim != 2 or links.shape[1] != 2:
        raise DataError(f"edges must be (m, 2), got shape {links.shape}")
    if links.size and (links.min() < 0 or links.max() >= concepts):
        raise DataError(f"an edge is of concept {int(links.max())}, but there are {concepts}")
    return links


def _standard(ranks: Doubles) -> Doubles:
    centred = ranks - ranks.mean()
    norm = float(np.linalg.norm(centred))
    return np.asarray(centred / norm if norm > 0 else centred)
