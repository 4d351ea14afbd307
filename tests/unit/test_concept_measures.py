"""Figures of graphs: over edges, against chance, beside a taxonomy, in other embeddings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from coala_latent.analysis.concept_baselines import (
    embedding_similarity,
    embedding_tree,
    flat_baselines,
    random_neighbors,
    random_pairs,
    similar_pairs,
    top_neighbors,
)
from coala_latent.analysis.concept_measures import (
    against_chance,
    common_concepts,
    edge_score,
    edge_values,
    matrix_correlation,
    score_graphs,
    similarity_correlation,
)
from coala_latent.analysis.concept_taxonomy import (
    ancestor_pairs,
    compare_taxonomies,
    edge_agreement,
    parent_group_accuracy,
    tree_correlation,
)
from coala_latent.analysis.concept_tree import concept_tree
from coala_latent.analysis.planted_concepts import planted_concepts
from coala_latent.errors import ConfigError, DataError


def words(seed=0, n=30, dim=6):
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    rows[3] = 0
    return rows


def test_values_are_those_of_the_notebook():
    rows, edges = words(), random_pairs(30, 0.3, seed=1)
    cosine = []
    for p, c in edges:
        norms = np.linalg.norm(rows[p]) * np.linalg.norm(rows[c])
        cosine.append(rows[p] @ rows[c] / norms if norms else 0.0)
    np.testing.assert_allclose(edge_values(edges, rows, "cosine"), cosine, atol=1e-12)
    plain = [np.linalg.norm(rows[p] - rows[c]) for p, c in edges]
    np.testing.assert_allclose(edge_values(edges, rows, "euclidean"), plain)
    score = edge_score(edges, rows)
    assert score.mean == pytest.approx(np.mean(cosine))
    half = 1.96 * np.std(cosine) / np.sqrt(len(edges))
    assert score.by_edges.high - score.mean == pytest.approx(half)
    json.dumps(score.to_dict())


def test_the_interval_by_nodes_knows_that_edges_share_concepts():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 3))
    pairs = random_pairs(200, 0.5, seed=0)  # 20 000 edges, but 200 concepts
    score = edge_score(pairs, rows, "euclidean")
    by_edges = score.by_edges.high - score.by_edges.low
    assert score.by_nodes.high - score.by_nodes.low > 3 * by_edges
    assert score.mean in score.by_nodes
    assert edge_score(pairs, rows, "euclidean", seed=0) == score


def test_edges_must_exist():
    rows = words()
    with pytest.raises(DataError, match="no edges"):
        edge_score(np.zeros((0, 2)), rows)
    with pytest.raises(DataError, match="concept 30"):
        edge_values([[0, 30]], rows, "cosine")
    with pytest.raises(DataError, match="not finite"):
        edge_values([[0, 1]], np.full((2, 2), np.nan), "cosine")
    with pytest.raises(ConfigError, match="metric"):
        edge_values([[0, 1]], rows, "manhattan")


def test_one_edge_has_a_score():
    score = edge_score([[0, 1]], words())
    assert score.std == 0
    assert score.by_edges.low == score.mean


def test_baselines_are_seeded_and_without_loops():
    S = np.random.default_rng(0).random((40, 40))
    graphs = flat_baselines(S, seed=4)
    assert set(graphs) == {
        "random_top",
        "random_sim",
        "similarity",
        "matching",
        "top_1",
        "top_1_parent",
    }
    for name, edges in graphs.items():
        assert (edges[:, 0] != edges[:, 1]).all(), name
        np.testing.assert_array_equal(edges, flat_baselines(S, seed=4)[name])
    assert 0.05 < len(graphs["random_sim"]) / 1600 < 0.15
    assert len(graphs["similarity"]) == (S - np.eye(40) > 0.5).sum()
    assert len(graphs["matching"]) < len(graphs["similarity"])
    np.testing.assert_array_equal(graphs["random_top"][:, 0], np.arange(40))
    assert (random_neighbors(40, 5) != graphs["random_top"]).any()
    seen = np.concatenate([random_neighbors(3, seed)[:1, 1] for seed in range(60)])
    assert set(seen.tolist()) == {1, 2}


def test_the_best_neighbour_of_rows_and_of_columns():
    S = np.array([[0.9, 0.5, 0.5], [0.1, 0.9, 0.2], [0.3, 0.6, 0.1]])
    assert top_neighbors(S).tolist() == [[0, 1], [1, 2], [2, 1]]
    assert top_neighbors(S, of="columns").tolist() == [[2, 0], [2, 1], [0, 2]]
    with pytest.raises(ConfigError):
        top_neighbors(S, of="cells")


@pytest.mark.parametrize("n", [0, 1])
def test_graphs_of_no_pair_are_empty(n):
    assert all(len(edges) == 0 for edges in flat_baselines(np.ones((n, n))).values())
    assert len(similar_pairs(np.ones((n, n)), 0.5)) == 0
    assert len(embedding_tree(np.ones((n, 3))).edges) == 0


def test_similarities_of_embeddings():
    rows = words()
    cosine = embedding_similarity(rows)
    assert cosine[3].tolist() == [0.0] * 30
    assert cosine[0, 1] == pytest.approx(edge_values([[0, 1]], rows, "cosine")[0])
    squared = embedding_similarity(rows, "euclidean")
    assert squared[0, 1] == pytest.approx(-(edge_values([[0, 1]], rows, "euclidean")[0] ** 2))


def test_trees_of_embeddings_score_well_in_their_own():
    rows = np.random.default_rng(0).standard_normal((60, 4))
    for metric, sign in (("cosine", 1), ("euclidean", -1)):
        tree = embedding_tree(rows, metric, density=0.1)
        assert len(tree.edges) > 40
        mine = edge_score(tree.edges, rows, metric).mean
        chance = edge_score(random_neighbors(60), rows, metric).mean
        assert sign * mine > sign * chance


def test_the_table_has_every_graph_by_every_embedding():
    planted = planted_concepts((3, 3), recordings=20, complete=True, seed=0)
    S = embedding_similarity(planted.membership.T.astype(float) @ planted.embeddings)
    graphs = {"tree": concept_tree(S, S.sum(0)).edges, "none": [], **flat_baselines(S)}
    table = score_graphs(graphs, {"words": (words(n=12), "cosine"), "use": (S, "euclidean")})
    assert set(table) == set(graphs)
    assert table["none"] == {"words": None, "use": None}
    assert table["tree"]["use"].mean < table["random_top"]["use"].mean


def test_common_concepts_keep_the_first_order():
    assert common_concepts(["c", "a", "b"], ["b", "c"], ["c", "b", "d"]) == ("c", "b")
    assert common_concepts() == ()


def test_agreement_counts_pairs_once():
    got = edge_agreement([[0, 1], [0, 1], [1, 2], [2, 3]], [[0, 1], [1, 2], [1, 3], [1, 4]], 5)
    assert (got.precision, got.recall) == (2 / 3, 0.5)
    assert got.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    nothing = edge_agreement([], [[0, 1]], 2)
    assert (nothing.precision, nothing.recall, nothing.f1) == (0, 0, 0)
    json.dumps(nothing.to_dict())


def test_a_child_one_level_too_high_keeps_its_ancestor():
    reference = [[0, 1], [1, 2], [1, 3]]
    got = compare_taxonomies([[0, 1], [0, 2], [3, 1]], reference, 4)
    assert got.edges.f1 == pytest.approx(1 / 3)
    assert got.undirected.f1 == pytest.approx(2 / 3)
    assert got.ancestors.precision == pytest.approx(2 / 3)
    assert got.ancestors.recall == pytest.approx(2 / 5)


def test_ancestors_of_a_graph_with_a_circle_end():
    found = ancestor_pairs([[0, 1], [1, 0], [1, 2]], 3)
    assert found.tolist() == [[0, 1], [0, 2], [1, 0], [1, 2]]


def test_parents_of_the_same_group():
    groups = ["animals", "animals", "water", "water", "animals"]
    assert parent_group_accuracy([-1, 0, -1, 2, 2], groups) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="no concept has a parent"):
        parent_group_accuracy([-1, -1], ["a", "b"])
    with pytest.raises(DataError, match="one length"):
        parent_group_accuracy([-1], ["a", "b"])


def test_chance_keeps_the_shape_and_exchanges_the_concepts():
    planted = planted_concepts((4, 4), seed=0)

    def f1(edges):
        return edge_agreement(edges, planted.edges, 20).f1

    right = against_chance(f1, planted.edges, 20, n_permutations=199)
    assert right.value == 1
    assert right.p_value == 1 / 200
    assert right.mean < 0.2
    wrong = np.random.default_rng(1).permutation(20)[planted.edges]
    assert against_chance(f1, wrong, 20, n_permutations=199).p_value > 0.05
    # A statistic of the shape alone is chance.
    assert against_chance(len, planted.edges, 20, n_permutations=19).p_value == 1


def test_p_values_of_chance_are_uniform():
    rows = np.random.default_rng(0).standard_normal((25, 4))
    found = [
        against_chance(
            lambda edges: float(edge_values(edges, rows, "cosine").mean()),
            random_neighbors(25, seed),
            25,
            n_permutations=39,
            seed=seed,
        ).p_value
        for seed in range(100)
    ]
    assert np.mean(np.array(found) <= 0.05) < 0.13
    assert 0.4 < np.mean(found) < 0.6


def test_correlation_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.random((12, 12)), np.round(rng.random((12, 12)) * 3)
    a, b = a + a.T, b + b.T
    b += 3 * a
    upper = np.triu_indices(12, 1)
    got = matrix_correlation(a, b)
    assert got.spearman == pytest.approx(spearmanr(a[upper], b[upper]).statistic)
    assert got.p_value == 1 / 200
    assert got.pairs == 66
    assert matrix_correlation(a, np.ones((12, 12))).spearman == 0
    with pytest.raises(DataError, match="three"):
        matrix_correlation(np.eye(2), np.eye(2))


def test_concepts_that_sound_alike_and_are_named_alike_correlate():
    planted = planted_concepts((4, 4), recordings=10, complete=True, seed=0)
    means = planted.membership.T.astype(float) @ planted.embeddings
    S = embedding_similarity(means)
    named = means + np.random.default_rng(1).standard_normal(means.shape)
    assert similarity_correlation(S, named).p_value == 1 / 200
    assert similarity_correlation(S, words(n=20)).p_value > 0.01
    tree = concept_tree(S, S.sum(axis=0))
    assert tree_correlation(tree, means).spearman > 0.3
