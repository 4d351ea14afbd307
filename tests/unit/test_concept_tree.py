"""The greedy tree against a slow one written from its description, and the graph beneath it."""

from __future__ import annotations

import numpy as np
import pytest

from coala_latent.analysis.concept_betweenness import betweenness
from coala_latent.analysis.concept_links import (
    adjacency,
    component_graph,
    density_threshold,
    transitive_reduction,
    undirected,
)
from coala_latent.analysis.concept_taxonomy import ancestor_pairs, tree_distances
from coala_latent.analysis.concept_tree import concept_tree
from coala_latent.errors import ConfigError, DataError


def slow_tree(S, centrality, max_children=20, parents_per_node=1, min_sim=0.2, extra=0.2):
    """(n + 1) x n matrix, the last row the root, with plain loops."""
    n = len(S)
    order = sorted(range(n), key=lambda i: centrality[i])  # stable
    order.reverse()
    table = [[False] * n for _ in range(n + 1)]
    inserted = []
    for c in order:
        if not inserted:
            table[n][c] = True
            inserted.append(c)
            continue
        candidates = []
        for p in sorted(inserted):
            if sum(table[p]) < max_children:
                candidates.append((S[p][c], p))
        candidates.sort(key=lambda pair: -pair[0])  # stable: the lower index first among equals
        best = candidates[0][0] if candidates else None
        linked = False
        for s, p in candidates[:parents_per_node]:
            if s > min_sim and s > best - extra:
                table[p][c] = True
                linked = True
            else:
                table[n][c] = True
        if not linked:
            table[n][c] = True
        inserted.append(c)
    return np.array(table)


def slow_betweenness(links):
    """Normalised, by listing all shortest paths of every pair."""
    n = len(links)
    neighbours = [np.flatnonzero(links[i] & (np.arange(n) != i)).tolist() for i in range(n)]
    score = np.zeros(n)
    for s in range(n):
        for t in range(s + 1, n):
            paths, found = [[s]], []
            visited = {s}
            while paths and not found:
                longer = [[*p, q] for p in paths for q in neighbours[p[-1]] if q not in visited]
                visited |= {p[-1] for p in longer}
                found = [p for p in longer if p[-1] == t]
                paths = longer
            for path in found:
                for v in path[1:-1]:
                    score[v] += 1 / len(found)
    return score * 2 / ((n - 1) * (n - 2)) if n > 2 else score


def random_similarity(rng, n, levels):
    S = rng.random((n, n))
    return np.round(S * levels) / levels if levels else S


@pytest.mark.parametrize("parents", [1, 2])
def test_200_random_matrices_give_the_tree_of_plain_loops(parents):
    ties = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 30))
        S = random_similarity(rng, n, levels=[0, 3, 8][seed % 3])
        centrality = betweenness(undirected(adjacency(S, 0.5))).values
        if seed % 2:
            centrality = np.round(rng.random(n) * 4)
        children = [2, 3, 20][seed % 3]
        margin = [0.2, 0.0, 0.05][seed // 3 % 3]
        limit = [0.2, 0.7][seed % 2]
        tree = concept_tree(
            S,
            centrality,
            max_children=children,
            parents=parents,
            min_similarity=limit,
            margin=margin,
        )
        expected = slow_tree(S, centrality, children, parents, limit, margin)
        np.testing.assert_array_equal(tree.matrix(), expected, err_msg=f"seed {seed}")
        ties += len(np.unique(S)) < S.size
        # The original counts root links as edges: n of them for a single parent.
        assert parents > 1 or tree.matrix().sum() == n
    assert ties > 100


def test_more_central_concepts_are_above_and_ties_go_to_the_higher_index():
    S = np.full((3, 3), 0.9)
    tree = concept_tree(S, [1.0, 2.0, 1.0])
    assert tree.order.tolist() == [1, 2, 0]
    # Equally similar candidates 1 and 2: the lower index is the parent.
    assert tree.parent.tolist() == [1, -1, 1]


def test_limits_are_strict():
    S = np.array([[0.0, 0.5], [0.0, 0.0]])
    assert concept_tree(S, [1, 0], min_similarity=0.5).parent.tolist() == [-1, -1]
    assert concept_tree(S, [1, 0], min_similarity=0.49).parent.tolist() == [-1, 0]
    # A margin of 0 refuses the best candidate itself.
    assert concept_tree(S, [1, 0], margin=0.0).parent.tolist() == [-1, -1]


def test_a_refused_second_parent_adds_the_root():
    S = np.array([[0, 0.1, 0.9], [0, 0, 0.3], [0, 0, 0]], dtype=float)
    tree = concept_tree(S, [3, 2, 1], parents=2)
    assert tree.edges.tolist() == [[0, 2]]
    assert tree.top.tolist() == [0, 1, 2]
    assert tree.depth().tolist() == [1, 1, 1]


def test_a_full_concept_takes_no_more_children():
    S = np.full((4, 4), 0.3)
    S[0] = 0.9
    tree = concept_tree(S, [4, 3, 2, 1], max_children=1)
    assert tree.parent.tolist() == [-1, 0, 1, 2]
    stats = tree.statistics()
    assert (stats.depth, stats.max_branching, stats.leaves, stats.top) == (4, 1, 1, 1)
    assert stats.mean_depth == 2.5
    assert stats.to_dict()["branching"] == 1.0


def test_pairs_that_are_not_allowed_are_no_candidates():
    S = np.full((3, 3), 0.9)
    allowed = np.ones((3, 3), bool)
    allowed[2, 0] = False
    assert concept_tree(S, [0, 1, 2], allowed=allowed).parent.tolist() == [1, 2, -1]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_concepts(n):
    tree = concept_tree(np.zeros((n, n)), np.zeros(n))
    assert len(tree.edges) == 0
    assert tree.top.tolist() == list(range(n))
    assert tree.statistics().concepts == n


def test_strengths_are_the_similarities_of_the_edges():
    S = np.random.default_rng(0).random((12, 12))
    tree = concept_tree(S, S.sum(axis=0), parents=2, min_similarity=0.0)
    np.testing.assert_array_equal(tree.strength, S[tree.edges[:, 0], tree.edges[:, 1]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_similarities_and_centralities_must_be_finite(bad):
    S = np.zeros((3, 3))
    with pytest.raises(DataError, match="centrality"):
        concept_tree(S, [0, bad, 0])
    S[1, 2] = bad
    with pytest.raises(DataError, match="concepts 1 and 2"):
        concept_tree(S, [0, 0, 0])


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"max_children": 0},
        {"parents": 0},
        {"margin": -0.1},
        {"min_similarity": np.nan},
    ):
        with pytest.raises(ConfigError):
            concept_tree(np.zeros((2, 2)), [0, 0], **wrong)
    with pytest.raises(DataError, match="allowed"):
        concept_tree(np.zeros((2, 2)), [0, 0], allowed=np.ones((3, 3)))


@pytest.mark.parametrize("density", [0.0, 0.1, 0.25, 0.6, 1.0])
def test_betweenness_is_that_of_listed_paths(density):
    rng = np.random.default_rng(int(density * 100))
    links = undirected(np.triu(rng.random((14, 14)) < density, 1))
    np.testing.assert_allclose(betweenness(links).values, slow_betweenness(links), atol=1e-12)


@pytest.mark.parametrize(("n", "density"), [(150, 0.004), (150, 0.02), (120, 0.2)])
def test_betweenness_is_that_of_networkx(n, density):
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(n)
    links = undirected(np.triu(rng.random((n, n)) < density, 1))
    graph = networkx.from_numpy_array(links)
    for normalized in (True, False):
        theirs = networkx.betweenness_centrality(graph, normalized=normalized)
        mine = betweenness(links, normalized=normalized).values
        np.testing.assert_allclose(mine, [theirs[i] for i in range(n)], rtol=1e-9, atol=1e-9)


def test_betweenness_of_a_long_path_in_the_sparse_search():
    n = 250
    links = np.eye(n, k=1, dtype=bool) | np.eye(n, k=-1, dtype=bool)
    inner = np.arange(n) * (n - 1 - np.arange(n))
    got = betweenness(links, normalized=False)
    np.testing.assert_allclose(got.values, inner, rtol=1e-10)
    assert got.sources == n
    assert got.standard_error is None


def test_nodes_equal_by_symmetry_have_equal_betweenness():
    n = 60  # a ring with chords: every node looks the same
    links = np.zeros((n, n), bool)
    for step in (1, 7, 13):
        links |= np.roll(np.eye(n, dtype=bool), step, axis=1)
    assert len(np.unique(betweenness(undirected(links)).values)) == 1


def test_pivots_estimate_within_their_error():
    rng = np.random.default_rng(1)
    links = undirected(np.triu(rng.random((300, 300)) < 0.03, 1))
    exact = betweenness(links).values
    draws = [betweenness(links, pivots=100, seed=seed) for seed in range(12)]
    error = np.sqrt(np.mean([(draw.values - exact) ** 2 for draw in draws]))
    stated = np.sqrt(np.mean([draw.standard_error**2 for draw in draws]))
    assert 0.85 < error / stated < 1.15
    mean = np.mean([draw.values for draw in draws], axis=0)
    assert np.abs(mean - exact).mean() < 0.5 * np.abs(draws[3].values - exact).mean()
    assert betweenness(links, pivots=300).standard_error is None
    np.testing.assert_array_equal(draws[3].values, betweenness(links, pivots=100, seed=3).values)
    with pytest.raises(ConfigError):
        betweenness(links, pivots=1)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_betweenness_of_few_nodes_is_zero(n):
    assert betweenness(np.ones((n, n), bool)).values.tolist() == [0.0] * n


def test_betweenness_wants_an_undirected_graph():
    with pytest.raises(DataError, match="symmetric"):
        betweenness(np.eye(4, k=1))


def test_density_threshold_never_gives_more_links_than_asked_for():
    rng = np.random.default_rng(0)
    S = rng.random((40, 40))
    for density in (0.01, 0.11, 0.5):
        links = adjacency(S, density_threshold(S, density))
        assert links.sum() == int(density * 1600)
    tied = np.round(S * 3) / 3
    assert adjacency(tied, density_threshold(tied, 0.3)).mean() <= 0.3
    equal = np.ones((5, 5))
    assert adjacency(equal, density_threshold(equal, 0.5)).sum() == 0
    assert adjacency(S, density_threshold(S, 0.999)).sum() == 40 * 39
    with pytest.raises(ConfigError):
        density_threshold(S, 1.0)


def test_circles_are_found_and_numbered_by_their_lowest_concept():
    links = np.zeros((7, 7), bool)
    for a, b in [(5, 1), (1, 3), (3, 5), (0, 2), (2, 0), (2, 1), (6, 4), (4, 4)]:
        links[a, b] = True
    found = component_graph(links)
    assert found.cycles == ((0, 2), (1, 3, 5))
    assert found.mutual == 1
    assert found.label.tolist() == [0, 1, 0, 1, 2, 1, 3]
    assert found.edges.tolist() == [[0, 1], [3, 2]]
    assert component_graph(np.zeros((0, 0))).cycles == ()


def test_reduction_keeps_what_leads_where():
    rng = np.random.default_rng(4)
    upper = np.argwhere(np.triu(rng.random((15, 15)) < 0.4, 1))
    kept = transitive_reduction(upper, 15)
    np.testing.assert_array_equal(ancestor_pairs(kept, 15), ancestor_pairs(upper, 15))
    for skip in range(len(kept)):  # and not one edge more than needed
        fewer = np.delete(kept, skip, axis=0)
        assert len(ancestor_pairs(fewer, 15)) < len(ancestor_pairs(kept, 15))
    with pytest.raises(DataError, match="circle"):
        transitive_reduction([[0, 1], [1, 0]], 2)


def test_reduction_prunes_a_grandparent_of_a_tree_with_two_parents():
    assert transitive_reduction([[0, 1], [1, 2], [0, 2]], 3).tolist() == [[0, 1], [1, 2]]
    assert transitive_reduction(np.zeros((0, 2)), 3).shape == (0, 2)


def test_distances_in_a_tree_go_over_the_root():
    S = np.zeros((4, 4))
    S[0, 1] = S[1, 2] = 0.9
    distances = tree_distances(concept_tree(S, [4, 3, 2, 1]))
    assert distances[2].tolist() == [2, 1, 0, 4]
