"""Similarities of concepts as a graph: thresholds, groups that contain each other, pruning.

A directed link from i to j says that the recordings of i sound like j: where j is wider than i, it
contains i. Concepts that contain each other in a circle cannot be ordered; they form a component.

Sources:
    Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
    (arXiv 2207.11231): the thresholded graph.
    Aho, Garey, Ullman, "The transitive reduction of a directed graph", SIAM J. Computing 1, 1972.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from coala_latent.analysis.concept_tree import checked_similarity
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "ComponentGraph",
    "adjacency",
    "component_graph",
    "density_threshold",
    "transitive_reduction",
    "undirected",
]

Indices = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ComponentGraph:
    """A directed graph with its circles drawn together.

    Attributes:
        label: ``(n,)``: the component of each concept, numbered by their lowest concepts.
        cycles: Components of more than one concept, each ascending: every concept of it leads to
            every other.
        mutual: Number of pairs that are linked both ways.
        edges: ``(m, 2)`` links between components, without circles.
    """

    label: Indices
    cycles: tuple[tuple[int, ...], ...]
    mutual: int
    edges: Indices = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "label": self.label.tolist(),
            "cycles": [list(cycle) for cycle in self.cycles],
            "mutual": self.mutual,
            "edges": self.edges.tolist(),
        }


def adjacency(similarity: npt.ArrayLike, threshold: float = 0.5) -> Booleans:
    """``(n, n)`` boolean: similarities greater than the threshold, the diagonal never.

    Raises:
        DataError: Similarities are not square or not finite.
    """
    links = checked_similarity(similarity) > threshold
    np.fill_diagonal(links, False)
    return links


def density_threshold(similarity: npt.ArrayLike, density: float) -> float:
    """The threshold at which a share of the matrix becomes links.

    Density is counted as in the original: links over n². Equal similarities cannot be told apart;
    the threshold then gives fewer links than asked for, never more.

    Args:
        similarity: ``(n, n)``.
        density: In (0, 1). The published graph of 3443 concepts had 0.110.

    Raises:
        DataError: Similarities are not square or not finite.
        ConfigError: ``density`` is out of range.
    """
    matrix = checked_similarity(similarity)
    if not 0.0 < density < 1.0:
        raise ConfigError(f"density={density} must lie between 0 and 1, as in 0.11")
    n = len(matrix)
    values = matrix[~np.eye(n, dtype=bool)]
    links = min(int(density * n * n), len(values))
    if links == len(values):
        return float(np.nextafter(values.min(initial=0.0), -np.inf))
    return float(np.partition(values, len(values) - links - 1)[len(values) - links - 1])


def undirected(links: Booleans) -> Booleans:
    """A link where there is one either way."""
    return np.asarray(links | links.T)


def component_graph(links: Booleans) -> ComponentGraph:
    """Strongly connected components of a directed graph, and the links between them."""
    matrix = np.asarray(links, dtype=bool)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"links must be (n, n), got shape {matrix.shape}")
    n = len(matrix)
    off = matrix & ~np.eye(n, dtype=bool)
    if n == 0:
        return ComponentGraph(np.zeros(0, np.int64), (), 0, np.zeros((0, 2), np.int64))
    _, found = connected_components(csr_array(off), directed=True, connection="strong")
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    label = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    members = [np.flatnonzero(label == i) for i in np.flatnonzero(np.bincount(label) > 1)]
    row, column = np.nonzero(off)
    between = np.stack([label[row], label[column]], axis=1)
    between = np.unique(between[between[:, 0] != between[:, 1]], axis=0)
    return ComponentGraph(
        label,
        tuple(tuple(group.tolist()) for group in members),
        int((off & off.T).sum()) // 2,
        between.astype(np.int64).reshape(-1, 2),
    )


def transitive_reduction(edges: npt.ArrayLike, nodes: int) -> Indices:
    """Edges that no longer way through the graph makes needless.

    The pruned graph leads from the same nodes to the same nodes. Of a graph of components
    (`component_graph`), or of a tree with several parents, it is the one smallest such graph.

    Args:
        edges: ``(m, 2)`` from and to, without circles.
        nodes: Number of nodes.

    Returns:
        ``(r, 2)`` of the given edges, in their order.

    Raises:
        DataError: The graph has a circle: prune its `component_graph`.
    """
    pairs = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    links = np.zeros((nodes, nodes), dtype=np.float32)
    links[pairs[:, 0], pairs[:, 1]] = 1.0
    if np.diagonal(links).any() or component_graph(links > 0).cycles:
        raise DataError("the graph has a circle, so it has no single reduction: use its components")
    # Ways of any length, by doubling: n by n products, about log2 of the longest way of them.
    reach = links
    while True:
        longer = np.minimum(reach + reach @ reach, 1.0)
        if (longer == reach).all():
            break
        reach = longer
    needless = (links @ reach) > 0
    return np.asarray(pairs[~needless[pairs[:, 0], pairs[:, 1]]])
