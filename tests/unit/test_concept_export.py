"""Concept graphs as files: whatever the names are, other programs read the same graph."""

import csv
import io
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from coala_latent.errors import ConfigError
from coala_latent.tasks.concept_export import (
    FORMATS,
    csv_text,
    export_concepts,
    graphml_text,
    json_text,
    newick_text,
)
from coala_latent.viewer.concept_graph import ConceptPageData

NAMES = [
    'it\'s "quoted"',
    "a,b;(c):d[e]",
    "<b>&amp;</b>]]>",
    "Ünï 木 🔊",
    " spaces \t\r\n lines ",
    "",
]
XML = "{http://graphml.graphdrawing.org/xmlns}"


def graph(names=NAMES, edges=((0, 1), (0, 2), (2, 3), (4, 3)), **changes):
    n, m = len(names), len(edges)
    values = {
        "title": "a & <b>",
        "names": names,
        "edges": np.array(edges, dtype=np.int64).reshape(-1, 2),
        "strength": np.linspace(0.9, 0.3, m),
        "low": np.full(m, np.nan),
        "high": np.linspace(0.95, 0.35, m),
        "centrality": np.arange(n) / 7,
        "counts": np.arange(n) + 1,
        **changes,
    }
    return ConceptPageData(**values)


def read_graphml(text):
    """``(nodes, edges)`` by ElementTree alone."""
    root = ElementTree.fromstring(text.encode("utf-8", "backslashreplace"))

    def values(element):
        return {each.get("key"): each.text or "" for each in element.iter(f"{XML}data")}

    nodes = {node.get("id"): values(node) for node in root.iter(f"{XML}node")}
    edges = {
        (edge.get("source"), edge.get("target")): values(edge) for edge in root.iter(f"{XML}edge")
    }
    return nodes, edges


def parse_newick(text):
    """Nested ``(name, length, children)`` with quoted labels."""
    tokens = re.findall(r"'(?:[^']|'')*'|[(),;]|:[^(),;]+", text)
    assert "".join(tokens) + "\n" == text
    stack, done = [[]], None
    for token in tokens:
        if token == "(":
            stack.append([])
            done = None
        elif token == ")":
            done = ["", None, stack.pop()]
            stack[-1].append(done)
        elif token == ",":
            done = None
        elif token.startswith(":"):
            done[1] = float(token[1:])
        elif token.startswith("'"):
            name = token[1:-1].replace("''", "'")
            if done is None:
                done = [name, None, []]
                stack[-1].append(done)
            else:
                done[0] = name
    assert len(stack) == 1
    return stack[0]


def test_graphml_keeps_every_name_and_number():
    data = graph()
    nodes, edges = read_graphml(graphml_text(data))
    assert [nodes[str(i)]["label"] for i in range(6)] == NAMES
    assert [float(nodes[str(i)]["recordings"]) for i in range(6)] == [1, 2, 3, 4, 5, 6]
    assert all("accuracy" not in node for node in nodes.values())
    assert float(edges["2", "3"]["weight"]) == data.strength[2]
    assert float(edges["2", "3"]["high"]) == data.high[2]
    assert "low" not in edges["2", "3"]


def test_graphml_opens_in_networkx(tmp_path):
    networkx = pytest.importorskip("networkx")
    data = graph(accuracy=np.array([0.5, np.nan, 1, 1, 1, 1]))
    read = networkx.read_graphml(export_concepts(data, tmp_path / "a.graphml"))
    assert read.is_directed()
    assert [read.nodes[str(i)]["label"] for i in range(6)] == NAMES
    assert read.nodes["0"]["accuracy"] == 0.5
    assert "accuracy" not in read.nodes["1"]
    assert {(int(p), int(c)) for p, c in read.edges} == {(0, 1), (0, 2), (2, 3), (4, 3)}
    assert read.edges["0", "1"]["weight"] == 0.9


def test_json_opens_in_networkx(tmp_path):
    networkx = pytest.importorskip("networkx")
    path = export_concepts(graph(), tmp_path / "a.json")
    read = networkx.node_link_graph(json.loads(path.read_text("utf-8")), edges="edges")
    assert [read.nodes[i]["label"] for i in range(6)] == NAMES
    assert read.edges[4, 3]["weight"] == pytest.approx(0.3)


@pytest.mark.parametrize("character", ["\0", "\x08", "\x1b", "\ufffe", "\udfff"])
def test_what_xml_cannot_hold_is_spelled_out(character, tmp_path):
    path = export_concepts(graph([f"a{character}b", "c"], [(0, 1)]), tmp_path / "a.graphml")
    nodes, _ = read_graphml(path.read_text("utf-8"))
    assert nodes["0"]["label"] == f"a\\u{ord(character):04x}b"


def test_a_threshold_leaves_weak_edges_out_and_keeps_all_concepts():
    data = graph()
    nodes, edges = read_graphml(graphml_text(data, 0.6))
    assert len(nodes) == 6
    assert set(edges) == {("0", "1"), ("0", "2")}
    held = json.loads(json_text(data, 0.6))
    assert held["graph"]["threshold"] == 0.6
    assert len(held["edges"]) == 2
    assert csv_text(data, 0.6).count("\r\n") == 3


def test_newick_is_the_tree_of_strongest_parents():
    (root,) = parse_newick(newick_text(graph()))
    assert root[:2] == ["", None]
    tops = {each[0]: each for each in root[2]}
    assert set(tops) == {NAMES[0], " spaces   lines ", ""}
    first = tops[NAMES[0]]
    assert first[1] is None, "concepts at the root have no length"
    assert [each[0] for each in first[2]] == [NAMES[1], NAMES[2]]
    assert first[2][0][1] == pytest.approx(0.1)
    # 3 has two parents; the stronger one is taken.
    assert [each[0] for each in first[2][1][2]] == [NAMES[3]]
    assert tops[" spaces   lines "][2] == []


def test_newick_of_a_very_deep_tree():
    n = 5000
    edges = [(i, i + 1) for i in range(n - 1)]
    text = newick_text(graph([f"c{i}" for i in range(n)], edges))
    assert text.count("(") == text.count(")") == n
    assert text.startswith("(" * n + f"'c{n - 1}':")


@pytest.mark.parametrize(("names", "text"), [([], ";\n"), (["a"], "('a');\n")])
def test_newick_of_nothing_and_of_one(names, text):
    assert newick_text(graph(names, [])) == text


def test_newick_takes_no_circle():
    text = newick_text(graph(["a", "b"], [(0, 1), (1, 0)]))
    assert text == "(('b':0.1)'a');\n"


def test_csv_reads_back():
    rows = list(csv.DictReader(io.StringIO(csv_text(graph()), newline="")))
    assert [(row["parent"], row["child"]) for row in rows] == [
        (NAMES[p], NAMES[c]) for p, c in [(0, 1), (0, 2), (2, 3), (4, 3)]
    ]
    assert rows[0]["low"] == ""
    assert float(rows[1]["strength"]) == graph().strength[1]
    assert [rows[3]["parent_id"], rows[3]["child_id"]] == ["4", "3"]


@pytest.mark.parametrize("ending", FORMATS)
def test_files_appear_whole_in_folders_that_are_made(tmp_path, ending):
    path = tmp_path / "new, folder" / f"a=b 木{ending.upper()}"
    assert export_concepts(graph(), path) == path
    assert path.read_text("utf-8").strip()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.graphml, \.json, \.nwk, \.csv"):
        export_concepts(graph(), tmp_path / "a.gexf")
    assert not list(tmp_path.iterdir())
