"""The concept graph: a page on which concepts hang under the concepts that contain them.

The page needs no server and no network. Examples that can be heard lie beside it, by relative path,
or are part of it as ``data:`` URLs. What it shows travels in one data element; the scripts that lay
it out and draw it are the package's own (``assets/concept_graph_*.js``, and those of the sound map
for colours, pointers, the view and the player).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError
from coala_latent.types import FloatArray
from coala_latent.viewer.page import Page
from coala_latent.viewer.sound_map import check_address

__all__ = ["GRAPHML", "ConceptPageData", "Example", "concept_graph_page", "strongest_parents"]

IndexArray = npt.NDArray[np.integer]
# The name space of GraphML; nothing is fetched from it.
GRAPHML = "http://graphml.graphdrawing.org/xmlns"

Example = tuple[str, str, float, float]

_SCRIPTS = (
    "sound_map_colors",
    "sound_map_view",
    "sound_map_input",
    "sound_map_player",
    "concept_graph_data",
    "concept_graph_tree",
    "concept_graph_force",
    "concept_graph_labels",
    "concept_graph_draw",
    "concept_graph_colors",
    "concept_graph_panel",
    "concept_graph_search",
    "concept_graph_export",
    "concept_graph_main",
)


@dataclass(frozen=True, eq=False)
class ConceptPageData:
    """What a page shows: n concepts and m edges from a concept to one that it contains.

    Attributes:
        title: Of the page.
        names: ``(n,)``; equal names are different concepts.
        edges: ``(m, 2)`` parent and child. Circles and several parents of a concept are allowed.
        strength: ``(m,)`` of each edge; the threshold of the page works on it.
        low: ``(m,)`` lower end of the strength's interval; NaN where it is not known.
        high: ``(m,)`` upper end.
        centrality: ``(n,)`` not negative.
        counts: ``(n,)`` recordings of each concept.
        accuracy: ``(n,)`` held-out accuracy; NaN where it is not known.
        examples: For each concept (label, address, start, end): what is shown, where the sound
            lies (relative to the page and percent-encoded, a ``data:`` URL, or "" for none), and
            its part in seconds. Empty where no concept has examples.
        settings: Shown at the foot: model, weights, seeds, versions.

    Raises:
        DataError: Lengths that do not agree, values that are not finite, edges, times or addresses
            that are none.
    """

    title: str
    names: Sequence[str]
    edges: IndexArray
    strength: FloatArray
    low: FloatArray
    high: FloatArray
    centrality: FloatArray
    counts: IndexArray
    accuracy: FloatArray | None = None
    examples: Sequence[Sequence[Example]] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, m = len(self.names), len(self.edges)
        _numbers("centrality", self.centrality, n, least=0.0)
        _numbers("counts", self.counts, n, least=0.0)
        if self.accuracy is not None:
            _numbers("accuracy", self.accuracy, n, missing=True)
        _numbers("strength", self.strength, m)
        _numbers("low", self.low, m, missing=True)
        _numbers("high", self.high, m, missing=True)
        _check_edges(np.asarray(self.edges), n)
        outside = np.flatnonzero(np.asarray(self.low) > np.asarray(self.high))
        if len(outside):
            edge = int(outside[0])
            raise DataError(
                f"edge {edge} of the concept graph: its interval goes from {self.low[edge]} to "
                f"{self.high[edge]} (low and high are exchanged)"
            )
        if len(self.examples) not in (0, n):
            raise DataError(
                f"the concept graph has examples for {len(self.examples)} concepts, and {n} "
                "concepts (give one list a concept, or none at all)"
            )
        for concept, examples in enumerate(self.examples):
            for example in examples:
                _check_example(self.names[concept], example)

    def __len__(self) -> int:
        return len(self.names)

    def kept(self, threshold: float | None = None) -> npt.NDArray[np.bool_]:
        """Which edges are at least that strong: ``(m,)``; all without a threshold."""
        strength = np.asarray(self.strength, dtype=np.float64)
        return np.ones(len(strength), bool) if threshold is None else strength >= threshold

    def parents(self, threshold: float | None = None) -> npt.NDArray[np.int64]:
        """The tree within the graph: ``(n,)`` a parent of each concept, -1 for the root."""
        kept = self.kept(threshold)
        return strongest_parents(
            len(self), np.asarray(self.edges).reshape(-1, 2)[kept], np.asarray(self.strength)[kept]
        )


def strongest_parents(n: int, edges: IndexArray, strength: FloatArray) -> npt.NDArray[np.int64]:
    """A forest within any directed graph.

    Edges are taken from the strongest to the weakest (equal ones in their order); one is left out
    where its child has a parent already, or where it would close a circle.

    Args:
        n: Number of concepts.
        edges: ``(m, 2)`` parent and child.
        strength: ``(m,)``.

    Returns:
        ``(n,)`` the parent of each concept, -1 for none.
    """
    parent = np.full(n, -1, dtype=np.int64)
    root = list(range(n))

    def top(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    order = np.argsort(-np.asarray(strength, dtype=np.float64), kind="stable")
    for above, below in np.asarray(edges).reshape(-1, 2)[order].tolist():
        # A concept without a parent is the top of its own tree.
        if parent[below] < 0 and top(above) != below:
            parent[below] = above
            root[below] = above
    return parent


def concept_graph_page(data: ConceptPageData) -> Page:
    """Build the page.

    Returns:
        The page, to be written. Relative addresses start at the folder it is written to.
    """
    page = Page(data.title, media=True)
    page.style("sound_map")
    page.style("concept_graph")
    page.markup("concept_graph")
    with page.details("About this graph"):
        page.pairs({"Concepts": len(data), "Edges": len(data.edges), **data.settings})
    page.data("graph-data", _payload(data))
    for script in _SCRIPTS:
        page.script(script)
    return page


def _payload(data: ConceptPageData) -> dict[str, Any]:
    edges = np.asarray(data.edges).reshape(-1, 2)
    sounds: dict[str, int] = {}
    examples = [
        [[str(label), sounds.setdefault(url, len(sounds)), float(start), float(end)]
         for label, url, start, end in each]
        for each in data.examples
    ]  # fmt: skip
    return {
        "title": data.title,
        "graphml": GRAPHML,
        "names": [str(name) for name in data.names],
        "parent": edges[:, 0].tolist(),
        "child": edges[:, 1].tolist(),
        "strength": _listed(data.strength),
        "low": _listed(data.low),
        "high": _listed(data.high),
        "centrality": _listed(data.centrality),
        "counts": np.asarray(data.counts).tolist(),
        "accuracy": None if data.accuracy is None else _listed(data.accuracy),
        "sounds": list(sounds),
        "examples": examples,
    }


def _listed(values: npt.ArrayLike) -> list[float | None]:
    """Numbers for JSON, which knows no NaN."""
    array = np.asarray(values, dtype=np.float64)
    return [None if np.isnan(value) else value for value in array.tolist()]


def _numbers(
    name: str,
    values: npt.ArrayLike,
    length: int,
    *,
    least: float | None = None,
    missing: bool = False,
) -> None:
    array = np.asarray(values)
    if array.shape != (length,):
        raise DataError(f"{name} of the concept graph: shape {array.shape}, not ({length},)")
    if not length:
        return
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise DataError(f"{name} of the concept graph must be numbers, not {array.dtype}")
    wrong = np.isinf(array) if missing else ~np.isfinite(array)
    if least is not None:
        wrong |= array < least
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(
            f"{name} of the concept graph: value {row} is {array[row]} ({int(wrong.sum())} such)"
        )


def _check_edges(edges: npt.NDArray[Any], n: int) -> None:
    if not edges.size:
        return
    if edges.ndim != 2 or edges.shape[1] != 2 or not np.issubdtype(edges.dtype, np.integer):
        raise DataError(
            f"edges of the concept graph must be (m, 2) integers, not {edges.dtype} {edges.shape}"
        )
    wrong = (edges < 0) | (edges >= n)
    if wrong.any():
        row = int(np.argmax(wrong.any(axis=1)))
        raise DataError(f"edge {row} is {edges[row].tolist()}, and there are {n} concepts")
    loops = edges[:, 0] == edges[:, 1]
    if loops.any():
        row = int(np.argmax(loops))
        raise DataError(f"edge {row} leads from concept {edges[row, 0]} to itself (leave it out)")
    _, first, number = np.unique(edges, axis=0, return_index=True, return_counts=True)
    if (number > 1).any():
        row = int(first[np.argmax(number > 1)])
        raise DataError(f"edge {row}, {edges[row].tolist()}, is there more than once")


def _check_example(name: str, example: Example) -> None:
    if len(example) != 4:
        raise DataError(
            f"an example of concept {name!r} has {len(example)} values, not label, address, "
            "start and end"
        )
    _, url, start, end = example
    if not (np.isfinite(start) and np.isfinite(end) and 0 <= start <= end):
        raise DataError(f"an example of concept {name!r} lasts from {start} to {end} s")
    check_address(url, "data:")
