"""Betweenness: how many shortest paths of a graph run through each node.

Exact values for thousands of nodes: Brandes' accumulation for many sources at once, as products of
matrices. A level of the search from a block of sources is one product with the adjacency, so a
dense graph, whose paths are short, costs a few multiplications of n by n matrices.

Sources:
    Brandes, "A faster algorithm for betweenness centrality", J. Mathematical Sociology 25, 2001.
    Brandes, Pich, "Centrality estimation in large networks", Int. J. Bifurcation and Chaos 17, 2007
    (pivots).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse

from coala_latent.errors import ConfigError, DataError

__all__ = ["Betweenness", "betweenness"]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Search = Callable[[Indices], Doubles]

_SOURCES = 512  # searched together: 14 MB an array at 3443 nodes
_DENSE = 0.01  # from this share of possible edges on, dense products are faster than sparse ones
_DIGITS = 12


@dataclass(frozen=True, eq=False)
class Betweenness:
    """Betweenness of each node.

    Attributes:
        values: ``(n,)``. Rounded to 12 digits of the largest, so that nodes which are equal by
            symmetry are equal here, whatever the order of additions was.
        standard_error: ``(n,)`` of values estimated from pivots; None where they are exact.
        sources: Nodes that paths were followed from; all of them for exact values.
    """

    values: Doubles = field(repr=False)
    standard_error: Doubles | None = field(repr=False)
    sources: int


def betweenness(
    adjacency: Any, *, pivots: int | None = None, seed: int = 0, normalized: bool = True
) -> Betweenness:
    r"""Betweenness of an undirected, unweighted graph.

    .. math:: b(v) = \sum_{s < t} \sigma_{st}(v) / \sigma_{st},

    with :math:`\sigma_{st}` shortest paths between two other nodes and :math:`\sigma_{st}(v)` of
    them through :math:`v`. Pairs that no path joins add nothing.

    Args:
        adjacency: ``(n, n)`` dense or sparse, symmetric; edges where it is not 0. The diagonal is
            not looked at.
        pivots: Estimate from paths of so many nodes, drawn without replacement; None: all.
        seed: Of that draw.
        normalized: Divide by the ``(n - 1)(n - 2) / 2`` pairs there are.

    Raises:
        DataError: The matrix is not square or not symmetric.
        ConfigError: ``pivots`` is not between 2 and n.
    """
    graph = _checked(adjacency)
    n = graph.shape[0]
    if pivots is not None and not 2 <= pivots <= n:
        raise ConfigError(f"pivots={pivots} must be at least 2 and at most the {n} nodes")
    scale = 1.0 / ((n - 1) * (n - 2)) if normalized and n > 2 else 0.5
    sources = np.arange(n)
    if pivots is not None and pivots < n:
        sources = np.sort(np.random.default_rng(seed).choice(n, pivots, replace=False))
    search = _dense_search(graph) if graph.nnz >= _DENSE * n * n else _sparse_search(graph)
    total, squares = np.zeros(n), np.zeros(n)
    for begin in range(0, len(sources), _SOURCES):
        dependency = search(sources[begin : begin + _SOURCES])
        total += dependency.sum(axis=0)
        squares += (dependency**2).sum(axis=0)
    error = None
    if len(sources) < n:
        k = len(sources)
        variance = np.maximum(squares - total**2 / k, 0.0) / (k - 1)
        error = scale * n * np.sqrt(variance / k * (1.0 - k / n))
        total *= n / k
    return Betweenness(_rounded(scale * total), error, len(sources))


def _dense_search(graph: csr_array) -> Search:
    matrix = graph.toarray()

    def dependencies(sources: Indices) -> Doubles:
        paths = np.zeros((len(sources), len(matrix)))
        paths[np.arange(len(sources)), sources] = 1.0
        level = np.where(paths > 0, 0, -1).astype(np.int32)
        frontier, depth = paths.copy(), 0
        while (level < 0).any():
            frontier = np.where(level < 0, frontier @ matrix, 0.0)
            fresh = frontier > 0
            if not fresh.any():
                break
            depth += 1
            level[fresh] = depth
            paths += frontier
        dependency = np.zeros_like(paths)
        for step in range(depth, 1, -1):
            here = level == step
            share = np.divide(1.0 + dependency, paths, out=np.zeros_like(paths), where=here)
            dependency += np.where(level == step - 1, paths * (share @ matrix), 0.0)
        return dependency

    return dependencies


def _sparse_search(graph: csr_array) -> Search:
    n = graph.shape[0]

    def dependencies(sources: Indices) -> Doubles:
        shape = (len(sources), n)
        paths, level = np.zeros(shape), np.full(shape, -1, dtype=np.int32)
        rows, columns = np.arange(len(sources)), sources
        paths[rows, columns], level[rows, columns] = 1.0, 0
        found = [(rows, columns)]
        while len(rows):
            reached = (csr_array((paths[rows, columns], (rows, columns)), shape) @ graph).tocoo()
            fresh = level[reached.row, reached.col] < 0
            rows, columns = reached.row[fresh], reached.col[fresh]
            level[rows, columns] = len(found)
            paths[rows, columns] = reached.data[fresh]
            found.append((rows, columns))
        dependency = np.zeros(shape)
        for step in range(len(found) - 1, 1, -1):
            rows, columns = found[step]
            share = (1.0 + dependency[rows, columns]) / paths[rows, columns]
            passed = (csr_array((share, (rows, columns)), shape) @ graph).tocoo()
            above = level[passed.row, passed.col] == step - 1
            rows, columns = passed.row[above], passed.col[above]
            dependency[rows, columns] = paths[rows, columns] * passed.data[above]
        return dependency

    return dependencies


def _rounded(values: Doubles) -> Doubles:
    peak = float(values.max(initial=0.0))
    return np.round(values / peak, _DIGITS) * peak if peak > 0 else values


def _checked(adjacency: Any) -> csr_array:
    matrix = adjacency if issparse(adjacency) else np.asarray(adjacency)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"an adjacency must be (n, n), got shape {matrix.shape}")
    links = csr_array(matrix != 0).tocoo()
    keep = links.row != links.col
    row, column = links.row[keep].astype(np.int64), links.col[keep].astype(np.int64)
    graph = csr_array((np.ones(len(row)), (row, column)), shape=matrix.shape)
    if (graph != graph.T).nnz:
        raise DataError(
            "betweenness is for undirected graphs, and this adjacency is not symmetric: join both "
            "directions first (undirected)"
        )
    return graph
