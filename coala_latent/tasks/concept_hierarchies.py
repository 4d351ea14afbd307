"""From projections to a hierarchy of concepts, its intervals, and how good it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.concept_baselines import flat_baselines
from coala_latent.analysis.concept_graph import (
    ConceptGraph,
    HierarchySettings,
    graph_of_projections,
)
from coala_latent.analysis.concept_intervals import edge_intervals, edge_samples
from coala_latent.analysis.concept_measures import (
    against_chance,
    score_graphs,
    similarity_correlation,
)
from coala_latent.analysis.concept_taxonomy import compare_taxonomies, edge_agreement
from coala_latent.data.latent_files import replace_file
from coala_latent.data.layouts.files import read_table
from coala_latent.errors import DataError
from coala_latent.tasks.concept_projecting import load_projected
from coala_latent.tasks.fitting import versions
from coala_latent.weights import write_json

__all__ = ["HIERARCHY", "edges_table", "hierarchy", "load_hierarchy", "load_similarity"]

HIERARCHY = "hierarchy.json"
_SIMILARITY = "similarity.npz"
_FEWEST = 3  # concepts that a correlation over pairs needs


def hierarchy(
    projections: Path,
    output: Path,
    settings: HierarchySettings,
    *,
    reference: Path | None = None,
    vectors: Mapping[str, Path] | None = None,
    intervals: bool = True,
) -> dict[str, Any]:
    """Write ``hierarchy.json``: the tree, its edges with intervals, and figures.

    Args:
        projections: Folder of `project`.
        output: Folder.
        settings: Of the hierarchy.
        reference: CSV of the columns ``parent`` and ``child``: what should be found. Concepts that
            are not in the hierarchy are left out.
        vectors: CSV files by name, a line a concept: its name, then numbers. The mean cosine of the
            edges' ends is told for the tree and for graphs without one.
        intervals: Go through the recordings once more for intervals of the edges' strengths.

    Raises:
        DataError: A file cannot be read or does not fit.
        ConfigError: A setting does not make sense.
    """
    found = load_projected(projections)
    graph = graph_of_projections(found.names, found.projections, settings)
    if intervals:
        samples = edge_samples(found.blocks(), found.members, found.weight, found.bias, graph)
        calibrated = settings.protocol == "calibrated" and len(graph) > 1
        background = found.projections.background if calibrated else None
        graph = edge_intervals(graph, samples, background, seed=settings.seed)
    graphs = {
        "tree": graph.tree.edges,
        **(flat_baselines(graph.similarity, settings.seed) if len(graph) > 1 else {}),
    }
    result = {
        "kind": "concept_hierarchy",
        **graph.to_dict(),
        **{name: found.info[name] for name in _KEPT},
        "comparison": None if reference is None else _compared(graphs, graph.names, reference),
        "vectors": {
            name: _scored(graphs, graph, path) for name, path in sorted((vectors or {}).items())
        },
        "versions": versions(),
    }
    output.mkdir(parents=True, exist_ok=True)
    replace_file(
        output / _SIMILARITY,
        lambda file: np.savez(file, allow_pickle=False, similarity=graph.similarity),
    )
    write_json(output / HIERARCHY, result)
    return result


_KEPT = ("counts", "accuracy", "examples", "store", "concepts", "part", "model", "layer")


def load_hierarchy(path: Path) -> dict[str, Any]:
    """Read what `hierarchy` wrote: the folder, or its file.

    Raises:
        DataError: It is none.
    """
    file = path / HIERARCHY if path.is_dir() else path
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: not readable: {error} (coala-latent concepts hierarchy makes it)"
        ) from error
    if not isinstance(found, dict) or found.get("kind") != "concept_hierarchy":
        raise DataError(f"{file}: is no hierarchy of concepts")
    return found


def load_similarity(folder: Path) -> npt.NDArray[np.float64]:
    """The similarities ``(n, n)`` of a hierarchy's folder: whose recordings, whose vector.

    Raises:
        DataError: They are not there.
    """
    try:
        with np.load(folder / _SIMILARITY, allow_pickle=False) as found:
            return np.asarray(found["similarity"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder / _SIMILARITY}: not readable: {error}") from error


def _compared(
    graphs: Mapping[str, npt.NDArray[np.int64]], names: Sequence[str], reference: Path
) -> dict[str, Any]:
    """Precision, recall and F1 of each graph, and what chance gives the tree."""
    place = {name: number for number, name in enumerate(names)}
    pairs = [
        (place[row["parent"]], place[row["child"]])
        for row in read_table(reference, ("parent", "child"))
        if row["parent"] in place and row["child"] in place
    ]
    if not pairs:
        raise DataError(f"{reference}: no edge between two concepts of the hierarchy")
    expected = np.array(pairs, dtype=np.int64)
    count = len(names)
    chance = against_chance(
        lambda edges: edge_agreement(edges, expected, count).f1, graphs["tree"], count
    )
    return {
        "graphs": {
            name: compare_taxonomies(edges, expected, count).to_dict()
            for name, edges in graphs.items()
        },
        "chance": chance.to_dict(),
    }


def _scored(
    graphs: Mapping[str, npt.NDArray[np.int64]], graph: ConceptGraph, path: Path
) -> dict[str, Any]:
    """Each graph in other vectors of the same concepts."""
    rows = _read_vectors(path)
    kept = [number for number, name in enumerate(graph.names) if name in rows]
    if len(kept) < _FEWEST:
        raise DataError(f"{path}: knows {len(kept)} of {len(graph)} concepts; {_FEWEST} are needed")
    table = np.stack([rows[graph.names[number]] for number in kept])
    place = np.full(len(graph), -1)
    place[kept] = np.arange(len(kept))
    inside = {}
    for name, edges in graphs.items():
        both = place[edges.reshape(-1, 2)]
        inside[name] = both[(both >= 0).all(axis=1)]
    scores = score_graphs(inside, {"vectors": (table, "cosine")}, seed=graph.settings.seed)
    square = np.ix_(kept, kept)
    return {
        "concepts": len(kept),
        "cosine": {
            name: None if found["vectors"] is None else found["vectors"].to_dict()
            for name, found in scores.items()
        },
        "correlation": similarity_correlation(graph.similarity[square], table).to_dict(),
    }


def _read_vectors(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    found: dict[str, npt.NDArray[np.float64]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for line in filter(None, reader):
                found[line[0]] = np.array([float(each) for each in line[1:]])
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable: {error}") from error
    except ValueError as error:
        raise DataError(
            f"{path}: line {reader.line_num}: {error} (a line is a name, then numbers; no header)"
        ) from error
    if len({len(each) for each in found.values()}) > 1:
        raise DataError(f"{path}: its lines have different numbers of values")
    return found


def edges_table(result: Mapping[str, Any], most: int) -> list[tuple[str, ...]]:
    """Lines of the strongest edges: parent, child, strength, interval."""
    edges = sorted(result["edges"], key=lambda edge: -edge["strength"])[:most]
    return [
        (
            edge["parent"],
            edge["child"],
            f"{edge['strength']:.2f}",
            "" if edge["low"] is None else f"{edge['low']:.2f} .. {edge['high']:.2f}",
        )
        for edge in edges
    ]
