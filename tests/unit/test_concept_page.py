"""What a concept page accepts, and what it holds."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from coala_latent.errors import DataError
from coala_latent.viewer.concept_graph import (
    ConceptPageData,
    concept_graph_page,
    strongest_parents,
)


def page_data(n=5, edges=((0, 1), (0, 2), (2, 3)), **changes):
    m = len(edges)
    values = {
        "title": "t",
        "names": [f"c{i}" for i in range(n)],
        "edges": np.asarray(edges) if m else np.zeros((0, 2), dtype=np.int64),
        "strength": np.linspace(0.9, 0.5, m),
        "low": np.linspace(0.8, 0.4, m),
        "high": np.full(m, np.nan),
        "centrality": np.arange(n) / 10,
        "counts": np.arange(n) + 1,
        "accuracy": None,
        "examples": [[("one", "a%20b.wav", 0.5, 1.0)]] * n,
        "settings": {"model": "noise"},
        **changes,
    }
    return ConceptPageData(**values)


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.data, self.inside, self.policy = [], "", False, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.inside = attrs.get("id") == "graph-data"
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]

    def handle_data(self, data):
        if self.inside:
            self.data += data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strength": np.ones(2)}, r"strength.*shape \(2,\), not \(3,\)"),
        ({"strength": np.array([1, np.nan, 1])}, "strength.*value 1 is nan"),
        ({"low": np.array([0.1, np.inf, 0.1])}, "low.*value 1 is inf"),
        ({"low": np.ones(3), "high": np.zeros(3)}, "interval goes from 1.0 to 0.0"),
        ({"centrality": np.array([0, 0, -1.0, 0, 0])}, "centrality.*value 2 is -1"),
        ({"counts": np.array(["a"] * 5)}, "counts.*must be numbers"),
        ({"counts": np.array([1, 2])}, "counts.*shape"),
        ({"accuracy": np.ones(4)}, "accuracy.*shape"),
        ({"edges": np.array([[0, 1], [1, 5], [2, 3]])}, r"edge 1 is \[1, 5\].*5 concepts"),
        ({"edges": np.array([[0, 1], [-1, 2], [2, 3]])}, r"edge 1 is \[-1, 2\]"),
        ({"edges": np.array([[0, 1], [2, 2], [2, 3]])}, "edge 1 leads from concept 2 to itself"),
        ({"edges": np.array([[0, 1], [2, 3], [2, 3]])}, "edge 1.*more than once"),
        ({"edges": np.array([[0.0, 1], [1, 2], [2, 3]])}, "must be .* integers"),
        ({"edges": np.array([0, 1, 2])}, "must be .* integers"),
        ({"examples": [[]]}, "examples for 1 concepts, and 5"),
        ({"examples": [[("a", "x.wav", 2.0, 1.0)], *[[]] * 4]}, "lasts from 2.0 to 1.0 s"),
        ({"examples": [[("a", "x.wav", 0.0, np.nan)], *[[]] * 4]}, "lasts from 0.0 to nan s"),
        ({"examples": [[("a", "x.wav", 0.0)], *[[]] * 4]}, "has 3 values"),
        ({"examples": [[("a", "javascript:alert(1)", 0.0, 1.0)], *[[]] * 4]}, "no address"),
        ({"examples": [[("a", "https://x.y/z.wav", 0.0, 1.0)], *[[]] * 4]}, "no address"),
        ({"examples": [[("a", "a b.wav", 0.0, 1.0)], *[[]] * 4]}, "no address"),
    ],
)
def test_what_cannot_be_shown_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        page_data(**changes)


def test_nothing_and_one_concept_are_pages():
    for n in (0, 1):
        html = concept_graph_page(page_data(n, edges=(), examples=())).html()
        held = json.loads(Elements(html).data)
        assert held["names"] == [f"c{i}" for i in range(n)]
        assert held["strength"] == []


def test_the_page_holds_the_graph():
    data = page_data(
        accuracy=np.array([0.5, np.nan, 1, 1, 1]),
        examples=[[("é", "a.wav", 0.0, 1.0), ("b", "a.wav", 1.0, 2.0)], [], [], [], []],
    )
    held = json.loads(Elements(concept_graph_page(data).html()).data)
    assert list(zip(held["parent"], held["child"], strict=True)) == [(0, 1), (0, 2), (2, 3)]
    assert held["high"] == [None] * 3
    assert held["accuracy"] == [0.5, None, 1, 1, 1]
    assert held["sounds"] == ["a.wav"]
    assert held["examples"][0] == [["é", 0, 0.0, 1.0], ["b", 0, 1.0, 2.0]]


def test_names_end_no_element_and_run_nothing():
    nasty = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\"'&<!--",
        "\u2028\ud800\0",
        "=cmd|' /C calc'!A0",
    ]
    data = page_data(
        names=nasty,
        title=nasty[0],
        examples=[[(nasty[1], "a.wav", 0.0, 0.0)]] * 5,
        settings={nasty[1]: nasty[2]},
    )
    elements = Elements(concept_graph_page(data).html())
    held = json.loads(elements.data)
    assert held["names"] == nasty
    assert held["examples"][0][0][0] == nasty[1]
    assert not [attrs for tag, attrs in elements.tags if tag == "img" and attrs.get("src")]
    scripts = [attrs for tag, attrs in elements.tags if tag == "script"]
    assert sum("type" not in attrs for attrs in scripts) == elements.policy.count("'sha256-") - (
        3  # styles: the page's, the map's and the graph's
    )


def test_the_page_asks_for_nothing():
    html = concept_graph_page(page_data()).html()
    policy = Elements(html).policy
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert not re.search(r"\b(eval|Function)\s*\(", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", html)


def test_parents_are_the_strongest_without_circles():
    edges = np.array([[0, 1], [1, 2], [2, 0], [3, 1]])
    parents = strongest_parents(4, edges, np.array([0.5, 0.9, 0.8, 0.4]))
    # 1 → 2 and 2 → 0 are kept; 0 → 1 would close the circle, so 1 hangs under 3.
    np.testing.assert_array_equal(parents, [2, 3, 1, -1])


def test_equal_edges_are_taken_in_their_order():
    edges = np.array([[0, 2], [1, 2], [2, 0]])
    np.testing.assert_array_equal(strongest_parents(3, edges, np.ones(3)), [-1, -1, 0])


def test_a_threshold_hangs_children_on_the_root():
    data = page_data()
    np.testing.assert_array_equal(data.parents(), [-1, 0, 0, 2, -1])
    np.testing.assert_array_equal(data.parents(0.7), [-1, 0, 0, -1, -1])
    np.testing.assert_array_equal(data.parents(2.0), [-1] * 5)


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_become_forests(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    edges = np.unique(rng.integers(0, n, (3 * n, 2)), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    strength = rng.integers(0, 4, len(edges)) / 4
    parents = strongest_parents(n, edges, strength)
    known = {(int(p), int(c)) for p, c in edges}
    for concept in range(n):
        seen = set()
        at = concept
        while at >= 0:
            assert at not in seen
            seen.add(at)
            assert parents[at] < 0 or (int(parents[at]), at) in known
            at = int(parents[at])
