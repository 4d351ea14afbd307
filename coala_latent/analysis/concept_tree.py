r"""The greedy tree: concepts, the most central first, each hung under the most similar one above.

Sources:
    Heymann, Garcia-Molina, "Collaborative Creation of Communal Hierarchical Taxonomies in Social
    Tagging Systems", Stanford InfoLab 2006-10.
    Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
    (arXiv 2207.11231): the limit of children, the margin and several parents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError, DataError

__all__ = ["ConceptTree", "TreeStatistics", "checked_similarity", "concept_tree"]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TreeStatistics:
    """The shape of a tree.

    Attributes:
        concepts: Number of nodes.
        edges: Links between concepts; those to the root are not counted.
        top: Concepts that hang on the root.
        leaves: Concepts without children.
        depth: Of the deepest concept; 1 for a child of the root, 0 for an empty tree.
        mean_depth: Over concepts.
        branching: Mean number of children of concepts that have any; 0 where none has.
        max_branching: Most children of a concept, the root not counted.
    """

    concepts: int
    edges: int
    top: int
    leaves: int
    depth: int
    mean_depth: float
    branching: float
    max_branching: int

    def to_dict(self) -> dict[str, int | float]:
        """Values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, eq=False)
class ConceptTree:
    """Concepts under concepts; with several parents each, a graph without cycles.

    Attributes:
        parent: ``(n,)`` int64: the most similar parent of each concept, -1 for none.
        order: ``(n,)`` int64: concepts as they were inserted. A parent comes before its children.
        edges: ``(m, 2)`` int64: parent and child, in the order of the insertion; a child's most
            similar parent first. Links to the root are not among them.
        strength: ``(m,)`` float64: the similarity that made each edge.
        top: Concepts that hang on the root, ascending. With several parents asked for, a concept
            may hang on the root and on concepts.
    """

    parent: Indices
    order: Indices
    edges: Indices = field(repr=False)
    strength: Doubles = field(repr=False)
    top: Indices

    def __len__(self) -> int:
        return len(self.parent)

    def matrix(self) -> npt.NDArray[np.bool_]:
        """``(n + 1, n)``: row p is true at the children of p; the last row is the root."""
        table = np.zeros((len(self) + 1, len(self)), dtype=bool)
        table[self.edges[:, 0], self.edges[:, 1]] = True
        table[-1, self.top] = True
        return table

    def depth(self) -> Indices:
        """``(n,)``: steps from the root along the shortest way; 1 for its children."""
        depth = np.full(len(self), len(self) + 1, dtype=np.int64)
        depth[self.top] = 1
        # Edges are in the order of insertion, so a parent's depth is final when it is used.
        for parent, child in self.edges.tolist():
            depth[child] = min(depth[child], depth[parent] + 1)
        return depth

    def statistics(self) -> TreeStatistics:
        """Depth and branching."""
        children = np.bincount(self.edges[:, 0], minlength=len(self))
        depth = self.depth()
        inner = children[children > 0]
        return TreeStatistics(
            concepts=len(self),
            edges=len(self.edges),
            top=len(self.top),
            leaves=int((children == 0).sum()),
            depth=int(depth.max(initial=0)),
            mean_depth=float(depth.mean()) if len(depth) else 0.0,
            branching=float(inner.mean()) if len(inner) else 0.0,
            max_branching=int(children.max(initial=0)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "parent": self.parent.tolist(),
            "order": self.order.tolist(),
            "edges": self.edges.tolist(),
            "strength": self.strength.tolist(),
            "top": self.top.tolist(),
            "statistics": self.statistics().to_dict(),
        }


def concept_tree(
    similarity: npt.ArrayLike,
    centrality: npt.ArrayLike,
    *,
    max_children: int = 20,
    parents: int = 1,
    min_similarity: float = 0.2,
    margin: float = 0.2,
    allowed: npt.ArrayLike | None = None,
) -> ConceptTree:
    """Hang every concept under the most similar concept that is already there.

    Concepts come by descending centrality; among equals the higher index first (a stable ascending
    sort, reversed). The first hangs on the root. For each next one c, concepts p of the tree with
    fewer than ``max_children`` children are candidates, by ``similarity[p, c]``; the best
    ``parents`` of them are taken, the lower index first among equals. One that is not similar
    enough is refused, and then c hangs on the root, beside parents that were accepted. Where there
    is no candidate, c hangs on the root.

    Args:
        similarity: ``(n, n)``; rows are parents, columns children. With the mean activations S of
            the paper: the parent's recordings under the child's vector. Do not transpose it to get
            the paper's tree.
        centrality: ``(n,)``.
        max_children: A concept's limit; the root has none.
        parents: Most parents of a concept.
        min_similarity: A parent's similarity must be greater.
        margin: And greater than the best candidate's less this. With a margin of 0 the best
            candidate itself is refused.
        allowed: ``(n, n)`` boolean: pairs that may become edges; others are no candidates. None:
            all.

    Raises:
        DataError: Shapes do not fit, or a value is NaN or infinite.
        ConfigError: A setting is out of range.
    """
    matrix = checked_similarity(similarity)
    n = len(matrix)
    rank = np.asarray(centrality, dtype=np.float64)
    if rank.shape != (n,) or not np.isfinite(rank).all():
        raise DataError(
            f"centrality must be {n} finite numbers, one a concept; got shape {rank.shape}"
        )
    if (
        max_children < 1
        or parents < 1
        or margin < 0
        or not np.isfinite([min_similarity, margin]).all()
    ):
        raise ConfigError(
            f"max_children={max_children} and parents={parents} must be at least 1, "
            f"margin={margin} at least 0, min_similarity={min_similarity} a number"
        )
    candidates = matrix.T.copy()  # a child's candidates side by side in memory
    if allowed is not None:
        may = np.asarray(allowed, dtype=bool)
        if may.shape != (n, n):
            raise DataError(f"allowed must be ({n}, {n}), got {may.shape}")
        candidates[~may.T] = -np.inf

    order = np.argsort(rank, kind="stable")[::-1].astype(np.int64)
    closed = np.ones(n, dtype=bool)  # not in the tree yet, or full
    children = np.zeros(n, dtype=np.int64)
    parent = np.full(n, -1, dtype=np.int64)
    edges: list[tuple[int, int]] = []
    top: list[int] = []
    for child in order.tolist():
        scores = candidates[child]
        scores[closed] = -np.inf
        accepted, refused = _parents(scores, parents, min_similarity, margin)
        for chosen in accepted:
            edges.append((chosen, child))
            children[chosen] += 1
            closed[chosen] = children[chosen] >= max_children
        if accepted:
            parent[child] = accepted[0]
        if refused or not accepted:
            top.append(child)
        closed[child] = False
    links = np.array(edges, dtype=np.int64).reshape(-1, 2)
    strength = matrix[links[:, 0], links[:, 1]]
    return ConceptTree(parent, order, links, strength, np.sort(np.array(top, dtype=np.int64)))


def checked_similarity(similarity: npt.ArrayLike) -> Doubles:
    """A square matrix of finite numbers as float64.

    Raises:
        DataError: It is not.
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"similarities must be (n, n), got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0].tolist()
        raise DataError(
            f"similarity of concepts {row} and {column} is not finite: a concept without held-out "
            "recordings or a vector that diverged; leave it out"
        )
    return matrix


def _parents(
    scores: Doubles, most: int, min_similarity: float, margin: float
) -> tuple[list[int], bool]:
    """Accepted parents, best first, and whether a candidate among the best was refused."""
    accepted: list[int] = []
    refused = False
    limit = -np.inf
    for number in range(most):
        chosen = int(scores.argmax())  # the first of equals: the lower index
        score = scores[chosen]
        if score == -np.inf:
            break
        if number == 0:
            limit = max(min_similarity, score - margin)
        if score > limit:
            accepted.append(chosen)
        else:
            refused = True
        scores[chosen] = -np.inf
    return accepted, refused
