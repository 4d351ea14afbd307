"""Pictures of concepts: that they show what they should, not only that they are drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from coala_latent.errors import DataError
from coala_latent.tasks import concept_pictures
from coala_latent.tasks.concept_pictures import (
    draw_activations,
    draw_concept_tree,
    draw_similarity,
    tree_order,
)
from coala_latent.tasks.pictures import figure_png
from coala_latent.viewer.concept_graph import ConceptPageData

pytest.importorskip("matplotlib")


def graph(n, edges, names=None):
    m = len(edges)
    return ConceptPageData(
        title="a $title$",
        names=names or [f"concept {i}" for i in range(n)],
        edges=np.array(edges, dtype=np.int64).reshape(-1, 2),
        strength=np.linspace(0.9, 0.4, m),
        low=np.full(m, np.nan),
        high=np.full(m, np.nan),
        centrality=np.zeros(n),
        counts=np.zeros(n, dtype=int),
    )


def random_tree(n, seed=0):
    rng = np.random.default_rng(seed)
    return [(int(rng.integers(0, i)), i) for i in range(1, n) if rng.random() > 0.1]


@pytest.fixture
def figures(monkeypatch):
    """Figures instead of files."""
    saved = []

    def save(figure, path):
        figure_png(figure)
        saved.append(figure)

    monkeypatch.setattr(concept_pictures, "save_picture", save)
    return saved


def written(figure):
    return {text.get_text(): text for axes in figure.axes for text in axes.texts}


def test_order_is_depth_first_with_large_branches_first():
    parent = [-1, -1, 1, 1, 3, -1, 0]
    assert tree_order(parent).tolist() == [1, 3, 4, 2, 0, 6, 5]
    assert tree_order([]).tolist() == []


def test_a_circle_of_parents_is_refused():
    with pytest.raises(DataError, match="2 concepts hang in a circle"):
        tree_order([1, 0, -1])


@pytest.mark.parametrize("n", [1, 2, 30, 100])
def test_small_trees_name_every_concept_once_and_none_over_another(figures, tmp_path, n):
    data = graph(n, random_tree(n))
    draw_concept_tree(data, tmp_path / "a.png")
    texts = written(figures[0])
    assert set(data.names) <= set(texts)
    renderer = figures[0].canvas.get_renderer()
    boxes = [texts[name].get_window_extent(renderer) for name in data.names]
    for i, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= figures[0].bbox.x1, "within the picture"
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_children_stand_to_the_right_of_their_parents(figures, tmp_path):
    data = graph(4, [(0, 1), (1, 2)], ["a long name for a parent", "b", "c", "d"])
    draw_concept_tree(data, tmp_path / "a.png")
    texts = written(figures[0])
    x = [texts[name].get_position()[0] for name in data.names]
    assert x[0] == x[3] < x[1] < x[2]


def test_large_trees_name_some_concepts_and_none_over_another(figures, tmp_path):
    data = graph(300, random_tree(300))
    draw_concept_tree(data, tmp_path / "a.png")
    renderer = figures[0].canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in written(figures[0]).values()]
    assert 20 <= len(boxes) <= 70
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_a_threshold_takes_weak_edges_out(figures, tmp_path):
    data = graph(3, [(0, 1), (1, 2)])
    draw_concept_tree(data, tmp_path / "a.png")
    draw_concept_tree(data, tmp_path / "a.png", threshold=0.6)
    lines = [sum(len(axes.patches) for axes in figure.axes) for figure in figures]
    assert lines == [2, 1]


def test_a_matrix_stands_in_the_order_of_the_tree(figures, tmp_path):
    similarity = np.arange(16.0).reshape(4, 4) / 20
    draw_similarity(["a", "b", "c", "d"], similarity, tmp_path / "a.png", parent=[-1, -1, 1, 1])
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "c", "d", "a"]
    order = [1, 2, 3, 0]
    np.testing.assert_array_equal(axes.images[0].get_array(), similarity[np.ix_(order, order)])
    assert len(axes.patches) == 1
    assert axes.patches[0].get_width() == 3


def test_a_matrix_without_a_tree_keeps_its_order(figures, tmp_path):
    similarity = np.array([[1.0, np.nan], [-3.0, 2.0]])
    draw_similarity(["$a$", "木"], similarity, tmp_path / "a.png")
    np.testing.assert_array_equal(figures[0].axes[0].images[0].get_array(), similarity)


def test_activations_are_the_highest_and_stand_at_their_times(figures, tmp_path):
    values = np.zeros((3, 5))
    values[1, 4], values[2, 2], values[0, 0] = 0.9, 0.8, 0.1
    start, end = np.array([0.0, 1.0, 2.0]), np.array([2.0, 3.0, 4.0])
    draw_activations(list("abcde"), values, start, end, tmp_path / "a.png", concepts=2)
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["e", "c"]
    np.testing.assert_allclose(axes.get_xlim(), (0.0, 4.0))
    draw_activations(
        list("abcde"), values, start, end, tmp_path / "a.png", [-1, -1, -1, -1, 2], concepts=2
    )
    labels = [label.get_text() for label in figures[1].axes[0].get_yticklabels()]
    assert labels == ["c", "e"], "in the order of the tree"


def test_one_moment_of_one_concept(tmp_path):
    path = tmp_path / "new" / "a.png"
    draw_activations(["x"], np.array([[0.5]]), np.zeros(1), np.ones(1), path)
    assert Image.open(io.BytesIO(path.read_bytes())).width > 500


@pytest.mark.filterwarnings("error")
def test_any_name_is_drawn_without_a_warning(tmp_path):
    names = ["$x^2$", "木 🔊", "a\nb\tc", "", "\ud800", "x" * 300, "\\frac{1}{2}", "%s {0}"]
    data = graph(8, [(i, i + 1) for i in range(7)], names)
    draw_concept_tree(data, tmp_path / "tree.png")
    draw_similarity(names, np.eye(8), tmp_path / "matrix.png", data.parents())
    draw_activations(names, np.eye(8), np.arange(8), np.arange(1, 9), tmp_path / "time.png")
    with Image.open(tmp_path / "tree.png") as image:
        assert image.width > 500
    assert {path.name for path in tmp_path.iterdir()} == {"tree.png", "matrix.png", "time.png"}


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: draw_concept_tree(graph(0, []), path),
        lambda path: draw_similarity([], np.zeros((0, 0)), path),
        lambda path: draw_similarity(["a"], np.zeros((2, 2)), path),
        lambda path: draw_similarity(["a"], np.zeros((1, 1)), path, parent=[0, 1]),
        lambda path: draw_activations(["a"], np.zeros((0, 1)), np.zeros(0), np.zeros(0), path),
        lambda path: draw_activations(["a"], np.zeros((1, 2)), np.zeros(1), np.ones(1), path),
        lambda path: draw_activations(["a"], np.full((1, 1), np.nan), [0.0], [1.0], path),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, draw):
    with pytest.raises(DataError, match=r"a\.png"):
        draw(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
