"""Concept graphs as files for other programs: GraphML, node-link JSON, Newick, edges as CSV.

The page of :mod:`coala_latent.viewer.concept_graph` exports the same GraphML and JSON.

Sources:
    Brandes, Eiglsperger, Lerner, Pich, "Graph Markup Language (GraphML)", 2013.
    Olsen, "Interpretation of the 'Newick's 8:45' Tree Format Standard", 1990.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError
from coala_latent.tasks.map_sounds import write_whole
from coala_latent.viewer.concept_graph import GRAPHML, ConceptPageData

__all__ = ["FORMATS", "csv_text", "export_concepts", "graphml_text", "json_text", "newick_text"]

# XML 1.0 has no way to write these at all, not even by number.
_IMPOSSIBLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")
_NAMED = {'"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
_KEYS = {
    "node": {"label": "string", "recordings": "double", "centrality": "double",
             "accuracy": "double"},
    "edge": {"weight": "double", "low": "double", "high": "double"},
}  # fmt: skip


def graphml_text(data: ConceptPageData, threshold: float | None = None) -> str:
    """GraphML, as Gephi, yEd and networkx read it.

    Names are the attribute ``label``, strengths ``weight``; numbers that are not known are left
    out. Characters that XML cannot hold (control characters, halves of surrogate pairs) are written
    as ``\\uXXXX``.

    Args:
        data: The graph.
        threshold: Edges below that strength are left out.
    """
    graph = _node_link(data, threshold)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>',
             f'<graphml xmlns="{GRAPHML}">']  # fmt: skip
    for kind, names in _KEYS.items():
        lines += [
            f'<key id="{name}" for="{kind}" attr.name="{name}" attr.type="{type_}"/>'
            for name, type_ in names.items()
        ]
    lines += [
        '<key id="title" for="graph" attr.name="title" attr.type="string"/>',
        '<graph id="concepts" edgedefault="directed">',
        f'<data key="title">{_xml(data.title)}</data>',
    ]
    lines += [f'<node id="{node["id"]}">{_values("node", node)}</node>' for node in graph["nodes"]]
    lines += [
        f'<edge id="e{number}" source="{edge["source"]}" target="{edge["target"]}">'
        f"{_values('edge', edge)}</edge>"
        for number, edge in enumerate(graph["edges"])
    ]
    return "\n".join([*lines, "</graph>", "</graphml>", ""])


def json_text(data: ConceptPageData, threshold: float | None = None) -> str:
    """Node-link JSON: ``networkx.node_link_graph(json.load(file), edges="edges")``.

    Numbers that are not known are null.

    Args:
        data: The graph.
        threshold: Edges below that strength are left out.
    """
    return json.dumps(_node_link(data, threshold), indent=1, allow_nan=False) + "\n"


def newick_text(data: ConceptPageData, threshold: float | None = None) -> str:
    """The tree within the graph (each concept under its strongest parent) in Newick's format.

    All names are quoted. The length of a branch is 1 - strength, and at least 0; concepts at the
    root have none. Line ends and other control characters become spaces, which the format's readers
    expect.

    Args:
        data: The graph.
        threshold: Edges below that strength are left out.
    """
    parent = data.parents(threshold)
    strength = {
        (int(above), int(below)): float(value)
        for (above, below), value in zip(
            np.asarray(data.edges).reshape(-1, 2).tolist(),
            np.asarray(data.strength).tolist(),
            strict=True,
        )
    }
    children: dict[int, list[int]] = {}
    for child, above in enumerate(parent.tolist()):
        children.setdefault(above, []).append(child)

    def label(node: int) -> str:
        above = int(parent[node])
        length = "" if above < 0 else f":{max(0.0, 1 - strength[above, node]):.6g}"
        return _newick_name(str(data.names[node])) + length

    # A stack, since a tree may be deeper than Python's calls: text, or a concept to be written.
    parts: list[str] = []
    waiting: list[str | int] = [-1]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, str):
            parts.append(entry)
            continue
        below = children.get(entry, [])
        waiting.append("" if entry < 0 else label(entry))
        if below:
            waiting.append(")")
            for place, child in enumerate(reversed(below)):
                waiting += [","] if place else []
                waiting.append(child)
            waiting.append("(")
    return "".join(parts) + ";\n"


def csv_text(data: ConceptPageData, threshold: float | None = None) -> str:
    """A table of edges (RFC 4180): parent, child, strength, low, high; numbers of both concepts.

    Names are as they are: a spreadsheet may take one that begins with ``=`` for a formula.

    Args:
        data: The graph.
        threshold: Edges below that strength are left out.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(["parent", "child", "strength", "low", "high", "parent_id", "child_id"])
    for edge in _node_link(data, threshold)["edges"]:
        above, below = edge["source"], edge["target"]
        numbers = [edge[key] for key in ("weight", "low", "high")]
        writer.writerow([data.names[above], data.names[below], *numbers, above, below])
    return buffer.getvalue()


FORMATS: dict[str, Callable[[ConceptPageData, float | None], str]] = {
    ".graphml": graphml_text,
    ".json": json_text,
    ".nwk": newick_text,
    ".csv": csv_text,
}


def export_concepts(
    data: ConceptPageData, path: str | os.PathLike[str], threshold: float | None = None
) -> Path:
    """Write a concept graph; the ending of the path chooses the format.

    Args:
        data: The graph.
        path: ``.graphml``, ``.json``, ``.nwk`` (Newick) or ``.csv``. The file appears whole or not
            at all.
        threshold: Edges below that strength are left out.

    Returns:
        The path.

    Raises:
        ConfigError: No format has that ending.
    """
    target = Path(path)
    text = FORMATS.get(target.suffix.lower())
    if text is None:
        raise ConfigError(f"{target}: no format of concept graphs ({', '.join(FORMATS)})")
    # Half a surrogate pair, as names that are not UTF-8 have, is spelled out.
    content = text(data, threshold).encode("utf-8", "backslashreplace")
    write_whole(target, content)
    return target


def _node_link(data: ConceptPageData, threshold: float | None) -> dict[str, Any]:
    kept = np.flatnonzero(data.kept(threshold)).tolist()
    edges = np.asarray(data.edges).reshape(-1, 2)
    centrality, strength, low, high = (
        _known(values) for values in (data.centrality, data.strength, data.low, data.high)
    )
    accuracy = [None] * len(data) if data.accuracy is None else _known(data.accuracy)
    counts = np.asarray(data.counts).tolist()
    return {
        "directed": True,
        "multigraph": False,
        "graph": {"title": data.title, "threshold": threshold},
        "nodes": [
            {"id": i, "label": str(data.names[i]), "recordings": counts[i],
             "centrality": centrality[i], "accuracy": accuracy[i]}
            for i in range(len(data))
        ],
        "edges": [
            {"source": int(edges[e, 0]), "target": int(edges[e, 1]), "weight": strength[e],
             "low": low[e], "high": high[e]}
            for e in kept
        ],
    }  # fmt: skip


def _known(values: npt.ArrayLike) -> list[float | None]:
    array = np.asarray(values, dtype=np.float64)
    return [None if np.isnan(value) else value for value in array.tolist()]


def _values(kind: str, of: dict[str, Any]) -> str:
    return "".join(
        f'<data key="{name}">{_xml(str(of[name]))}</data>'
        for name in _KEYS[kind]
        if of[name] is not None
    )


def _xml(text: str) -> str:
    possible = _IMPOSSIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return escape(possible, _NAMED)


def _newick_name(name: str) -> str:
    plain = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", name)
    return "'" + plain.replace("'", "''") + "'"
