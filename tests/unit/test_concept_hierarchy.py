"""Whole hierarchies: planted ones are found, shuffled labels give none, few concepts work."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from coala_latent.analysis.concept_baselines import flat_baselines
from coala_latent.analysis.concept_calibration import (
    calibrated_similarity,
    column_background,
    generality,
    significant_pairs,
)
from coala_latent.analysis.concept_graph import (
    HierarchySettings,
    concept_graph,
    graph_of_projections,
    sub_hierarchy,
)
from coala_latent.analysis.concept_projections import project_concepts
from coala_latent.analysis.concept_taxonomy import compare_taxonomies
from coala_latent.analysis.planted_concepts import planted_concepts
from coala_latent.errors import ConfigError, DataError

ORIGINAL = HierarchySettings(protocol="original")


def logistic_heads(rows, members):
    model = LogisticRegression(class_weight="balanced", max_iter=200)
    fitted = [model.fit(rows, of).__dict__.copy() for of in members.T]
    return np.array([f["coef_"][0] for f in fitted]), np.array([f["intercept_"][0] for f in fitted])


def mean_heads(rows, members):
    inside = (members.T @ rows) / members.sum(axis=0)[:, None]
    outside = (~members.T @ rows) / (~members).sum(axis=0)[:, None]
    weight = 20 * (inside - outside)
    return weight, -(weight * (inside + outside)).sum(axis=1) / 2


def projected(rows, members, heads, seed):
    """Train on 70 % of the recordings, project the rest."""
    held_out = np.random.default_rng(seed).random(len(rows)) < 0.3
    weight, bias = heads(rows[~held_out], members[~held_out])
    block = rows[held_out], np.arange(held_out.sum())
    return project_concepts([block], members[held_out], weight, bias)


def numbered(n):
    return [f"concept {i}" for i in range(n)]


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("branching", [(6, 3, 2), (4, 2, 6), (3, 4, 4)])
def test_planted_hierarchies_are_found_better_than_by_flat_graphs(branching, complete):
    planted = planted_concepts(branching, recordings=50, noise=0.3, complete=complete, seed=7)
    n = len(planted.parent)
    projections = projected(planted.embeddings, planted.membership, logistic_heads, 7)
    found = graph_of_projections(numbered(n), projections)
    f1 = compare_taxonomies(found.tree.edges, planted.edges, n).edges.f1
    assert f1 >= 0.9
    assert compare_taxonomies(found.tree.edges, planted.edges, n).ancestors.f1 >= 0.9
    original = graph_of_projections(numbered(n), projections, ORIGINAL)
    assert f1 >= compare_taxonomies(original.tree.edges, planted.edges, n).edges.f1
    for name, edges in flat_baselines(projections.similarity).items():
        flat = compare_taxonomies(edges, planted.edges, n)
        assert max(flat.edges.f1, flat.undirected.f1) < f1, name


def test_vectors_of_another_kind_give_the_planted_hierarchy_too():
    planted = planted_concepts(seed=3)
    projections = projected(planted.embeddings, planted.membership, mean_heads, 3)
    found = graph_of_projections(numbered(60), projections)
    assert compare_taxonomies(found.tree.edges, planted.edges, 60).edges.f1 >= 0.9
    # The original order, by betweenness above 0.5, depends on how steep the vectors are.
    original = graph_of_projections(numbered(60), projections, ORIGINAL)
    assert compare_taxonomies(original.tree.edges, planted.edges, 60).edges.f1 < 0.5


@pytest.mark.parametrize("heads", [logistic_heads, mean_heads])
def test_shuffled_labels_give_edges_no_oftener_than_stated(heads):
    planted = planted_concepts((4, 3), recordings=30, seed=0)
    rng = np.random.default_rng(0)
    runs, with_pairs, with_edges, untested = 40, 0, 0, 0
    for seed in range(runs):
        shuffled = planted.membership[rng.permutation(len(planted.membership))]
        projections = projected(planted.embeddings, shuffled, heads, seed)
        found = graph_of_projections(numbered(16), projections)
        with_pairs += bool(found.allowed.any())
        with_edges += len(found.tree.edges) > 0
        free = graph_of_projections(
            numbered(16), projections, HierarchySettings(false_edge_rate=None)
        )
        untested += len(free.tree.edges) > 0
    # 5 % of 40 are 2; more than 6 would happen by chance once in 300 times.
    assert with_edges <= with_pairs <= 6
    assert untested > 30  # without the test there are edges: it is what keeps them away


def test_the_test_is_passed_by_what_is_related():
    planted = planted_concepts((4, 3), recordings=30, seed=0)
    projections = projected(planted.embeddings, planted.membership, logistic_heads, 0)
    allowed = significant_pairs(projections)
    assert (allowed == allowed.T).all()
    assert not allowed.diagonal().any()
    assert allowed[planted.edges[:, 0], planted.edges[:, 1]].mean() > 0.9


def test_planted_recordings_are_as_stated():
    planted = planted_concepts((2, 3), recordings=5, noise=0.3, dim=32, seed=1)
    assert planted.parent.tolist() == [-1, -1, 0, 0, 0, 1, 1, 1]
    assert planted.membership.sum(axis=0).tolist() == [5] * 8
    np.testing.assert_allclose(np.linalg.norm(planted.embeddings, axis=1), 1)
    owner = planted.membership.argmax(axis=1)
    same = (planted.leaf == owner) | (planted.parent[planted.leaf] == owner)
    assert same.all()
    whole = planted_concepts((2, 3), recordings=5, complete=True, seed=1)
    assert whole.membership.sum(axis=0).tolist() == [15, 15, 5, 5, 5, 5, 5, 5]
    clean = planted_concepts((2, 3), recordings=5, noise=0.0, dim=32, seed=1)
    noisy = planted_concepts((2, 3), recordings=5, noise=0.3, dim=32, seed=1)
    np.testing.assert_allclose((clean.embeddings * noisy.embeddings).sum(axis=1), 0.7)
    np.testing.assert_array_equal(noisy.embeddings, planted.embeddings)
    for wrong in ({"branching": ()}, {"noise": 3.0}, {"recordings": 0}, {"dim": 1}):
        with pytest.raises(ConfigError):
            planted_concepts(**wrong)


def test_the_scale_is_background_to_own():
    S = np.array([[0.9, 0.5], [0.1, 0.6]])
    C = calibrated_similarity(S, [0.1, 0.2])
    np.testing.assert_allclose(C, [[1, 0.75], [0, 1]])
    np.testing.assert_allclose(generality(C), [0, 0.75])
    # A vector that knows its own recordings no better than others says nothing.
    np.testing.assert_array_equal(calibrated_similarity(S, [0.9, 0.7])[:, 1], 0)
    with pytest.raises(DataError, match="background"):
        calibrated_similarity(S, [0.1])
    with pytest.raises(DataError, match="too few"):
        column_background(S)


@pytest.mark.parametrize("protocol", ["calibrated", "original"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_concepts(n, protocol):
    settings = HierarchySettings(protocol=protocol, false_edge_rate=None)
    S = np.full((n, n), 0.6) + 0.3 * np.eye(n)
    found = concept_graph(numbered(n), S, background=np.full(n, 0.1), settings=settings)
    assert len(found.tree.edges) == n - 1
    assert json.loads(json.dumps(found.to_dict()))["tree"]["statistics"]["concepts"] == n


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_concepts_from_recordings(n):
    rng = np.random.default_rng(0)
    members = np.eye(n + 1, dtype=bool)[:, :n].repeat(10, axis=0)
    rows = rng.standard_normal((len(members), 8)) + members @ rng.standard_normal((n, 8))
    found = graph_of_projections(numbered(n), projected(rows, members, mean_heads, seed=1))
    assert len(found.tree.top) + len(found.tree.edges) == n


def test_a_single_concept_of_all_recordings_is_a_hierarchy_of_one():
    projections = project_concepts([(np.ones((3, 2)), [0, 1, 2])], np.ones((3, 1)), [[1, 0]], [0])
    assert graph_of_projections(["all"], projections).tree.top.tolist() == [0]


@pytest.mark.parametrize("protocol", ["calibrated", "original"])
def test_identical_concepts_are_a_circle_and_still_one_tree(protocol):
    planted = planted_concepts((3, 2), recordings=30, complete=True, seed=2)
    members = np.concatenate([planted.membership, planted.membership[:, [4, 4]]], axis=1)
    projections = projected(planted.embeddings, members, mean_heads, 2)
    found = graph_of_projections(numbered(11), projections, HierarchySettings(protocol=protocol))
    assert any({4, 9, 10} <= set(cycle) for cycle in found.cycles.cycles)
    assert found.cycles.mutual >= 3
    depth = found.tree.depth()
    assert (depth <= 11).all()  # everything hangs on the root, directly or not
    again = graph_of_projections(numbered(11), projections, HierarchySettings(protocol=protocol))
    np.testing.assert_array_equal(found.tree.edges, again.tree.edges)


@pytest.mark.parametrize("protocol", ["calibrated", "original"])
def test_equal_similarities(protocol):
    S = np.full((5, 5), 0.7)
    found = concept_graph(numbered(5), S, settings=HierarchySettings(protocol=protocol))
    # Nothing stands out of the background; the original takes the likeness for a hierarchy.
    assert len(found.tree.edges) == (0 if protocol == "calibrated" else 4)
    if protocol == "original":
        assert found.tree.order.tolist() == [4, 3, 2, 1, 0]
        assert found.cycles.cycles == ((0, 1, 2, 3, 4),)


@pytest.mark.parametrize("protocol", ["calibrated", "original"])
def test_values_that_are_not_finite_are_refused(protocol):
    S = np.full((5, 5), 0.7)
    S[2, 3] = np.nan
    with pytest.raises(DataError, match="concepts 2 and 3"):
        concept_graph(numbered(5), S, settings=HierarchySettings(protocol=protocol))


def test_names_must_fit_and_differ():
    with pytest.raises(DataError, match="names"):
        concept_graph(["a", "a"], np.eye(2), settings=ORIGINAL)
    with pytest.raises(DataError, match="names"):
        concept_graph(["a"], np.eye(2), settings=ORIGINAL)
    with pytest.raises(ConfigError, match="protocol"):
        HierarchySettings(protocol="best")
    with pytest.raises(ConfigError, match="orientation"):
        HierarchySettings(orientation="up")


def test_orientation_says_whose_recordings_are_heard():
    # Concept 0 is central; the recordings of 1 sound like 0, those of 0 not like 1.
    S = np.array([[0.9, 0.1, 0.6], [0.8, 0.9, 0.1], [0.6, 0.1, 0.9]])
    parents = concept_graph("abc", S, settings=ORIGINAL)
    assert parents.tree.parent.tolist() == [-1, -1, 0]
    children = concept_graph(
        "abc", S, settings=HierarchySettings(protocol="original", orientation="children")
    )
    assert children.tree.parent.tolist() == [-1, 0, 0]
    np.testing.assert_array_equal(children.tree.strength, [0.6, 0.8])


def test_the_original_keeps_a_chosen_density():
    S = np.random.default_rng(0).random((30, 30))
    found = concept_graph(
        numbered(30), S, settings=HierarchySettings(protocol="original", density=0.11)
    )
    assert found.density == pytest.approx(0.11, abs=1e-9)
    assert found.threshold > 0.8


def test_a_part_keeps_the_order_of_the_whole():
    planted = planted_concepts((3, 3), recordings=40, complete=True, seed=5)
    projections = projected(planted.embeddings, planted.membership, mean_heads, 5)
    whole = graph_of_projections(numbered(12), projections)
    chosen = [6, 0, 4, 3]
    part = sub_hierarchy(whole, chosen)
    assert part.names == ("concept 6", "concept 0", "concept 4", "concept 3")
    np.testing.assert_array_equal(part.centrality, whole.centrality[chosen])
    np.testing.assert_array_equal(part.links, whole.links[np.ix_(chosen, chosen)])
    np.testing.assert_array_equal(part.similarity, whole.similarity[np.ix_(chosen, chosen)])
    assert part.tree.parent.tolist() == [-1, -1, 1, 1]  # 3 and 4 lie in 0, 6 in what is left out
    for wrong in ([0, 0], [12], [-1]):
        with pytest.raises(DataError):
            sub_hierarchy(whole, wrong)


def test_intervals_must_be_of_the_edges():
    found = concept_graph("abc", np.full((3, 3), 0.7), settings=ORIGINAL)
    with pytest.raises(DataError, match="2 edges"):
        found.with_intervals(np.zeros(3), np.ones(3))
