"""A found hierarchy beside a reference taxonomy.

Links to the root are not compared: a concept at the top has no parent to be right about. Ancestors
reward a concept that hangs one level too high, edges do not.

Sources:
    Bordea, Lefever, Buitelaar, "SemEval-2016 Task 13: Taxonomy Extraction Evaluation (TExEval-2)",
    SemEval 2016 (edges).
    Mao, Ren, Shen, Gu, Han, "End-to-End Reinforcement Learning for Automatic Taxonomy Induction",
    ACL 2018 (ancestors).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from coala_latent.analysis.concept_baselines import embedding_similarity
from coala_latent.analysis.concept_measures import (
    Correlation,
    checked_edges,
    matrix_correlation,
)
from coala_latent.analysis.concept_tree import ConceptTree
from coala_latent.errors import DataError

__all__ = [
    "Agreement",
    "TaxonomyComparison",
    "ancestor_pairs",
    "compare_taxonomies",
    "edge_agreement",
    "parent_group_accuracy",
    "tree_correlation",
    "tree_distances",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Found pairs beside reference pairs.

    Attributes:
        precision: Share of the found pairs that are in the reference; 0 where none was found.
        recall: Share of the reference pairs that were found; 0 where there is none.
        f1: Their harmonic mean; 0 where both are 0.
        found: Number of found pairs.
        reference: Number of reference pairs.
    """

    precision: float
    recall: float
    f1: float
    found: int
    reference: int

    def to_dict(self) -> dict[str, float | int]:
        """Values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class TaxonomyComparison:
    """A graph of concepts beside a reference taxonomy of the same concepts.

    Attributes:
        edges: Parent and child.
        undirected: The same, whichever is the parent: for graphs that know no direction.
        ancestors: Ancestor and descendant, however far.
    """

    edges: Agreement
    undirected: Agreement
    ancestors: Agreement

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "edges": self.edges.to_dict(),
            "undirected": self.undirected.to_dict(),
            "ancestors": self.ancestors.to_dict(),
        }


def compare_taxonomies(
    found: npt.ArrayLike, reference: npt.ArrayLike, concepts: int
) -> TaxonomyComparison:
    """Compare edges (parent, child) of two graphs of the same concepts.

    Args:
        found: ``(m, 2)``: a tree's edges, or a baseline's.
        reference: ``(r, 2)``.
        concepts: Their number.

    Raises:
        DataError: An edge is of an unknown concept.
    """
    mine, theirs = checked_edges(found, concepts), checked_edges(reference, concepts)
    return TaxonomyComparison(
        edge_agreement(mine, theirs, concepts),
        edge_agreement(np.sort(mine, axis=1), np.sort(theirs, axis=1), concepts),
        edge_agreement(ancestor_pairs(mine, concepts), ancestor_pairs(theirs, concepts), concepts),
    )


def edge_agreement(found: npt.ArrayLike, reference: npt.ArrayLike, concepts: int) -> Agreement:
    """Precision, recall and F1 of ordered pairs; repeated pairs count once."""
    key = np.array([concepts, 1])
    mine = np.unique(checked_edges(found, concepts) @ key)
    theirs = np.unique(checked_edges(reference, concepts) @ key)
    hits = len(np.intersect1d(mine, theirs, assume_unique=True))
    return Agreement(
        hits / len(mine) if len(mine) else 0.0,
        hits / len(theirs) if len(theirs) else 0.0,
        2 * hits / (len(mine) + len(theirs)) if hits else 0.0,
        len(mine),
        len(theirs),
    )


def ancestor_pairs(edges: npt.ArrayLike, concepts: int) -> Indices:
    """``(a, 2)`` ancestor and descendant of a graph, which may have circles; none of itself."""
    links = checked_edges(edges, concepts)
    reach = np.zeros((concepts, concepts), dtype=np.float32)
    reach[links[:, 0], links[:, 1]] = 1.0
    while True:
        longer = np.minimum(reach + reach @ reach, 1.0)
        if (longer == reach).all():
            break
        reach = longer
    np.fill_diagonal(reach, 0.0)
    return np.argwhere(reach > 0)


def parent_group_accuracy(parent: npt.ArrayLike, groups: Sequence[Hashable]) -> float:
    """Share of concepts with a parent whose parent is of their own group.

    Args:
        parent: ``(n,)``: -1 for concepts without one; they count neither way.
        groups: ``(n,)`` group of each concept, such as "animals". A concept that *is* a group, of
            a hierarchy of classes and groups, is given as its own member.

    Raises:
        DataError: Lengths differ, or no concept has a parent.
    """
    above = np.asarray(parent, dtype=np.int64)
    if above.shape != (len(groups),):
        raise DataError(f"parent {above.shape} and {len(groups)} groups must be of one length")
    child = np.flatnonzero(above >= 0)
    if not len(child):
        raise DataError("no concept has a parent, so no parent is right or wrong")
    return float(np.mean([groups[c] == groups[above[c]] for c in child.tolist()]))


def tree_distances(tree: ConceptTree) -> Doubles:
    """``(n, n)`` steps between concepts along the tree, over the root if need be."""
    n = len(tree)
    top = np.stack([np.full(len(tree.top), n), tree.top], axis=1)
    links = np.concatenate([tree.edges, top])
    graph = csr_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n + 1, n + 1))
    return np.asarray(shortest_path(graph, directed=False, unweighted=True)[:n, :n])


def tree_correlation(
    tree: ConceptTree,
    embeddings: npt.ArrayLike,
    metric: str = "cosine",
    *,
    n_permutations: int = 199,
    seed: int = 0,
) -> Correlation:
    """Spearman correlation of distance in the tree with distance between embeddings.

    Args:
        tree: A hierarchy.
        embeddings: ``(n, dim)`` of its concepts.
        metric: As in `embedding_similarity`.
        n_permutations: Of Mantel's test.
        seed: Likewise.

    Raises:
        DataError: Shapes do not fit, or fewer than three concepts.
    """
    return matrix_correlation(
        tree_distances(tree),
        -embedding_similarity(embeddings, metric),
        n_permutations=n_permutations,
        seed=seed,
    )
