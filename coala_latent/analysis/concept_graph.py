"""A hierarchy of concepts from what their vectors say of each other's recordings.

Two protocols. Both end in the same greedy tree (`concept_tree`); they differ in what it is given:

- ``calibrated`` (default): similarities are shares of recordings (`concept_calibration`), both
  directions together, concepts come by generality, and pairs must be more alike than recordings
  drawn at random.
- ``original``: mean probabilities as they are, the parent's recordings under the child's vector;
  concepts come by betweenness in the graph of probabilities above 0.5. As published.

Sources:
    Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
    (arXiv 2207.11231; https://github.com/deezer/concept_hierarchy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.concept_betweenness import betweenness
from coala_latent.analysis.concept_calibration import (
    calibrated_similarity,
    column_background,
    generality,
    mutual_similarity,
    significant_pairs,
)
from coala_latent.analysis.concept_links import (
    ComponentGraph,
    adjacency,
    component_graph,
    density_threshold,
    undirected,
)
from coala_latent.analysis.concept_projections import ConceptProjections
from coala_latent.analysis.concept_tree import ConceptTree, checked_similarity, concept_tree
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "ORIENTATIONS",
    "PROTOCOLS",
    "ConceptGraph",
    "HierarchySettings",
    "concept_graph",
    "graph_of_projections",
    "sub_hierarchy",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

PROTOCOLS = ("calibrated", "original")
ORIENTATIONS = ("parents", "children")


@dataclass(frozen=True)
class HierarchySettings:
    """How a hierarchy is made.

    Attributes:
        protocol: ``"calibrated"`` or ``"original"``.
        threshold: Similarities above it are links of the graph: for betweenness (original) and for
            the report of circles (both).
        density: Choose the threshold so that this share of n² becomes links; None: ``threshold``.
        max_children: A concept's limit; the root has none.
        parents: Most parents of a concept.
        min_similarity: A parent's similarity must be greater.
        margin: And greater than the best candidate's less this.
        orientation: Of the original protocol: ``"parents"``: the parent's recordings under the
            child's vector, as published; ``"children"``: the child's recordings under the parent's
            vector. The calibrated protocol uses both.
        false_edge_rate: Expected share of accepted pairs that are false (`significant_pairs`), of
            the calibrated protocol; None: no test.
        pivots: Estimate betweenness from so many nodes; None: exactly.
        seed: Of the draw of pivots.

    Raises:
        ConfigError: Protocol or orientation is unknown.
    """

    protocol: str = "calibrated"
    threshold: float = 0.5
    density: float | None = None
    max_children: int = 20
    parents: int = 1
    min_similarity: float = 0.2
    margin: float = 0.2
    orientation: str = "parents"
    false_edge_rate: float | None = 0.05
    pivots: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol={self.protocol!r} must be one of {', '.join(PROTOCOLS)}")
        if self.orientation not in ORIENTATIONS:
            raise ConfigError(
                f"orientation={self.orientation!r} must be one of {', '.join(ORIENTATIONS)}"
            )


@dataclass(frozen=True, eq=False)
class ConceptGraph:
    """Concepts, how alike they are, and which lies under which.

    Attributes:
        names: Of the n concepts.
        settings: How it was made.
        similarity: ``(n, n)`` mean probabilities: rows whose recordings, columns whose vector.
        affinity: ``(n, n)`` what the tree compared: rows parents, columns children.
        allowed: ``(n, n)`` pairs that passed the test of false edges; None: not tested.
        centrality: ``(n,)`` what ordered the concepts: generality or betweenness.
        tree: The hierarchy; the strength of an edge is its ``affinity``.
        threshold: Of the links.
        links: ``(n, n)`` boolean: recordings of i (rows) sound like j (columns).
        cycles: Circles of the links: concepts that contain each other, of which the tree shows one
            order among several.
        edge_low: ``(edges,)`` lower ends of the strengths' intervals; None before
            `with_intervals`.
        edge_high: Upper ends.
        edge_support: ``(edges,)`` share of resampled hierarchies that have the edge; None where
            that was not asked for.
    """

    names: tuple[str, ...]
    settings: HierarchySettings
    similarity: Doubles = field(repr=False)
    affinity: Doubles = field(repr=False)
    allowed: Booleans | None = field(repr=False)
    centrality: Doubles = field(repr=False)
    tree: ConceptTree = field(repr=False)
    threshold: float
    links: Booleans = field(repr=False)
    cycles: ComponentGraph = field(repr=False)
    edge_low: Doubles | None = field(default=None, repr=False)
    edge_high: Doubles | None = field(default=None, repr=False)
    edge_support: Doubles | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def density(self) -> float:
        """Share of n² that are links."""
        return float(self.links.mean()) if self.links.size else 0.0

    def with_intervals(
        self, low: Doubles, high: Doubles, support: Doubles | None = None
    ) -> ConceptGraph:
        """The same graph with intervals of its strengths (`concept_intervals`).

        Raises:
            DataError: Their number is not that of the edges.
        """
        given = [low, high] if support is None else [low, high, support]
        if any(values.shape != self.tree.strength.shape for values in given):
            raise DataError(f"intervals must be of {len(self.tree.edges)} edges, one each")
        return replace(self, edge_low=low, edge_high=high, edge_support=support)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; the matrices are left out."""
        return {
            "names": list(self.names),
            "settings": asdict(self.settings),
            "threshold": self.threshold,
            "density": self.density,
            "centrality": self.centrality.tolist(),
            "tree": self.tree.to_dict(),
            "cycles": [[self.names[i] for i in cycle] for cycle in self.cycles.cycles],
            "mutual_links": self.cycles.mutual,
            "edges": [
                {
                    "parent": self.names[parent],
                    "child": self.names[child],
                    "strength": strength,
                    "low": _listed(self.edge_low, number),
                    "high": _listed(self.edge_high, number),
                    "support": _listed(self.edge_support, number),
                }
                for number, ((parent, child), strength) in enumerate(
                    zip(self.tree.edges.tolist(), self.tree.strength.tolist(), strict=True)
                )
            ],
        }


def graph_of_projections(
    names: Sequence[str],
    projections: ConceptProjections,
    settings: HierarchySettings | None = None,
) -> ConceptGraph:
    """The hierarchy of concepts that were projected on their own vectors.

    Args:
        names: Of the concepts.
        projections: Of held-out recordings.
        settings: None: the defaults.

    Raises:
        DataError: Names and projections do not fit, or a concept gives no similarity.
    """
    chosen = settings or HierarchySettings()
    activation, background, allowed = None, None, None
    if chosen.protocol == "calibrated" and len(names) > 1:
        activation, background = projections.activation, projections.background
        if chosen.false_edge_rate is not None:
            allowed = significant_pairs(projections, chosen.false_edge_rate)
    return concept_graph(
        names,
        projections.similarity,
        activation=activation,
        background=background,
        allowed=allowed,
        settings=chosen,
    )


def concept_graph(
    names: Sequence[str],
    similarity: npt.ArrayLike,
    *,
    activation: npt.ArrayLike | None = None,
    background: npt.ArrayLike | None = None,
    allowed: npt.ArrayLike | None = None,
    settings: HierarchySettings | None = None,
) -> ConceptGraph:
    """The hierarchy of a matrix of similarities.

    Args:
        names: Of the concepts.
        similarity: ``(n, n)`` mean probabilities: i's recordings (rows), j's vector (columns).
        activation: ``(n, n)`` mean activations before the logistic function, for the calibrated
            protocol; None: it takes the similarities, and finds a little less.
        background: ``(n,)`` means of the same kind outside each concept, for the calibrated
            protocol; None: the columns' medians (`column_background`).
        allowed: ``(n, n)`` boolean pairs that may become edges; None: all.
        settings: None: the defaults.

    Raises:
        DataError: Shapes do not fit, a value is not finite, or names repeat.
    """
    chosen = settings or HierarchySettings()
    matrix = checked_similarity(similarity)
    labels = tuple(str(name) for name in names)
    if len(labels) != len(matrix) or len(set(labels)) != len(labels):
        raise DataError(f"{len(matrix)} concepts need as many different names, got {len(labels)}")
    may = None if allowed is None else np.asarray(allowed, dtype=bool)
    if chosen.protocol == "original":
        directed, affinity = matrix, matrix if chosen.orientation == "parents" else matrix.T
    else:
        directed = _calibrated(matrix if activation is None else activation, background)
        affinity = mutual_similarity(directed)
    threshold = chosen.threshold
    if chosen.density is not None and len(matrix) > 1:
        threshold = density_threshold(directed, chosen.density)
    links = adjacency(directed, threshold)
    if chosen.protocol == "original":
        centrality = betweenness(undirected(links), pivots=chosen.pivots, seed=chosen.seed).values
    else:
        centrality = generality(directed)
    return ConceptGraph(
        names=labels,
        settings=chosen,
        similarity=matrix,
        affinity=affinity,
        allowed=may,
        centrality=centrality,
        tree=_tree(affinity, centrality, may, chosen),
        threshold=threshold,
        links=links,
        cycles=component_graph(links),
    )


def sub_hierarchy(graph: ConceptGraph, concepts: npt.ArrayLike) -> ConceptGraph:
    """The tree of some concepts, ordered by their centrality among all.

    Circles are those of the links between them.

    Args:
        graph: Of all concepts.
        concepts: Their indices; the result numbers them in this order.

    Raises:
        DataError: An index is out of range or comes twice.
    """
    chosen = np.asarray(concepts, dtype=np.int64).reshape(-1)
    inside = (chosen >= 0) & (chosen < len(graph))
    if not inside.all() or len(np.unique(chosen)) < len(chosen):
        raise DataError(f"concepts must be different indices from 0 to {len(graph) - 1}")
    square = np.ix_(chosen, chosen)
    allowed = None if graph.allowed is None else graph.allowed[square]
    affinity, centrality = graph.affinity[square], graph.centrality[chosen]
    links = graph.links[square]
    return replace(
        graph,
        names=tuple(graph.names[i] for i in chosen.tolist()),
        similarity=graph.similarity[square],
        affinity=affinity,
        allowed=allowed,
        centrality=centrality,
        tree=_tree(affinity, centrality, allowed, graph.settings),
        links=links,
        cycles=component_graph(links),
        edge_low=None,
        edge_high=None,
        edge_support=None,
    )


def _calibrated(activation: npt.ArrayLike, background: npt.ArrayLike | None) -> Doubles:
    matrix = checked_similarity(activation)
    if len(matrix) < 2:  # nothing to compare: the scale does not matter
        return np.ones_like(matrix)
    return calibrated_similarity(
        matrix, column_background(matrix) if background is None else background
    )


def _tree(
    affinity: Doubles, centrality: Doubles, allowed: Booleans | None, settings: HierarchySettings
) -> ConceptTree:
    return concept_tree(
        affinity,
        centrality,
        max_children=settings.max_children,
        parents=settings.parents,
        min_similarity=settings.min_similarity,
        margin=settings.margin,
        allowed=allowed,
    )


def _listed(values: Doubles | None, number: int) -> float | None:
    return None if values is None else float(values[number])
