"""Streamed projections, intervals of edges and the test of false edges against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import expit

from coala_latent.analysis import concept_projections
from coala_latent.analysis.concept_calibration import pair_p_values, significant_pairs
from coala_latent.analysis.concept_graph import HierarchySettings, graph_of_projections
from coala_latent.analysis.concept_intervals import (
    edge_intervals,
    edge_samples,
    edge_support,
    recording_activations,
    similarity_draws,
)
from coala_latent.analysis.concept_projections import project_concepts, select_concepts
from coala_latent.errors import ConfigError, DataError


class Case:
    """Recordings of 1 to 12 slices that sound of their concepts; concept 1 lies inside 0."""

    def __init__(self, seed=0, recordings=40, concepts=6, dim=9):
        rng = np.random.default_rng(seed)
        self.sizes = rng.integers(1, 13, recordings)
        self.owner = np.repeat(rng.permutation(recordings), self.sizes)
        self.members = rng.random((recordings, concepts)) < 0.3
        self.members[:2] = True
        self.members[2] = False
        self.members[:, 0] |= self.members[:, 1]
        self.weight = rng.standard_normal((concepts, dim))
        self.rows = rng.standard_normal((len(self.owner), dim)) + self.members[self.owner] @ (
            0.5 * self.weight
        )
        self.bias = rng.standard_normal(concepts)

    def blocks(self, size):
        for begin in range(0, len(self.rows), size):
            yield self.rows[begin : begin + size], self.owner[begin : begin + size]

    def project(self, size=17):
        return project_concepts(self.blocks(size), self.members, self.weight, self.bias)


def slow_sums(case):
    n, k = case.members.shape[1], len(case.weight)
    sums = np.zeros((6, n, k))
    for i in range(n):
        for x in np.flatnonzero(case.members[:, i]):
            slices = case.rows[case.owner == x]
            for j in range(k):
                v = np.array([case.weight[j] @ h + case.bias[j] for h in slices])
                s = expit(v)
                means = [v.mean(), (v**2).mean(), s.mean(), (s**2).mean()]
                sums[:, i, j] += [*means, v.mean() ** 2, s.mean() ** 2]
    return sums


@pytest.mark.parametrize("size", [1, 3, 17, 10_000])
def test_sums_are_those_of_plain_loops_whatever_the_blocks(size, monkeypatch):
    monkeypatch.setattr(concept_projections, "_BLOCK_VALUES", 40)  # blocks are cut too
    case = Case()
    got = case.project(size)
    expected = slow_sums(case)
    for values, name in zip(
        expected,
        [
            "value",
            "value_squared",
            "probability",
            "probability_squared",
            "mean_value_squared",
            "mean_probability_squared",
        ],
        strict=True,
    ):
        np.testing.assert_allclose(getattr(got, name), values, rtol=1e-12, atol=1e-12)
    assert got.counts.tolist() == case.members.sum(axis=0).tolist()
    assert got.recordings == 40


def table_of(case):
    """(recordings, concepts) mean activations and probabilities."""
    logits = case.rows @ case.weight.T + case.bias
    pick = [np.flatnonzero(case.owner == x) for x in range(len(case.members))]
    return np.array([[logits[rows].mean(0), expit(logits[rows]).mean(0)] for rows in pick])


def test_similarities_errors_and_background_are_plain_means():
    case = Case(1)
    got = case.project()
    activation, probability = np.moveaxis(table_of(case), 1, 0)
    for i in range(6):
        mine = case.members[:, i]
        np.testing.assert_allclose(got.similarity[i], probability[mine].mean(0))
        np.testing.assert_allclose(got.activation[i], activation[mine].mean(0))
        # The jackknife of a mean.
        m = mine.sum()
        left = [np.delete(probability[mine], drop, 0).mean(0) for drop in range(m)]
        jackknife = np.sqrt((m - 1) * np.var(left, axis=0))
        np.testing.assert_allclose(got.similarity_error[i], jackknife, rtol=1e-8)
        error = activation[mine].std(0, ddof=1) / np.sqrt(m)
        np.testing.assert_allclose(got.activation_error[i], error, rtol=1e-8)
        np.testing.assert_allclose(got.background[i], activation[~mine, i].mean())


def test_sparse_and_dense_memberships_and_float32_rows():
    case = Case(2)
    dense = case.project()
    case.members = csr_array(case.members.astype(np.int8) * 3)  # any number is a membership
    np.testing.assert_array_equal(case.project().probability, dense.probability)
    case.rows = case.rows.astype(np.float32)
    np.testing.assert_allclose(case.project().similarity, dense.similarity, atol=1e-6)


def test_a_recording_alone_has_an_infinite_error():
    got = project_concepts([(np.ones((3, 2)), [0, 0, 1])], np.eye(2), np.eye(2), np.zeros(2))
    assert np.isinf(got.similarity_error).all()
    assert (pair_p_values(got) == 1).all()
    assert not significant_pairs(got).any()


def test_empty_blocks_are_passed_over():
    empty = (np.zeros((0, 2)), np.zeros(0))
    blocks = [empty, (np.ones((2, 2)), [0, 0]), empty, (np.ones((2, 2)), [0, 1]), empty]
    got = project_concepts(blocks, np.eye(2), np.eye(2), np.zeros(2))
    assert got.counts.tolist() == [1, 1]
    np.testing.assert_allclose(got.value, 1.0)


@pytest.mark.parametrize(
    ("block", "match"),
    [
        ((np.ones((3, 2)), [0, 1, 0]), "comes back"),
        ((np.ones((1, 2)), [2]), "recording 2"),
        ((np.ones((1, 2)), [-1]), "recording -1"),
        ((np.ones((1, 3)), [0]), "does not fit"),
        ((np.ones((2, 2)), [0]), "does not fit"),
        ((np.full((1, 2), np.nan), [1]), "recording 1: an embedding is not finite"),
    ],
)
def test_bad_blocks_are_named(block, match):
    with pytest.raises(DataError, match=match):
        project_concepts([block], np.eye(2), np.eye(2), np.zeros(2))


def test_a_recording_that_comes_back_in_a_later_block_is_refused():
    blocks = [(np.ones((1, 2)), [0]), (np.ones((1, 2)), [1]), (np.ones((1, 2)), [0])]
    with pytest.raises(DataError, match="recording 0 comes back"):
        project_concepts(blocks, np.eye(2), np.eye(2), np.zeros(2))


def test_concepts_without_recordings_or_with_all_are_named():
    got = project_concepts([(np.ones((1, 2)), [0])], np.eye(2), np.eye(2), np.zeros(2))
    with pytest.raises(DataError, match="concept 1 has no held-out recording"):
        _ = got.similarity
    with pytest.raises(DataError, match="concept 0 has every"):
        _ = got.background
    with pytest.raises(DataError, match="not finite"):
        project_concepts([], np.eye(2), [[np.nan, 0]], [0.0])


def test_filters_are_the_papers():
    counts = [38, 39, 250, 251, 100, 100]
    accuracy = [0.9, 0.9, 0.71, 0.9, 0.70, 0.2]
    got = select_concepts(counts, accuracy)
    assert got.kept.tolist() == [1, 2]
    assert got.too_few.tolist() == [0]
    assert got.too_many.tolist() == [3]
    assert got.inaccurate.tolist() == [4, 5]
    everything = select_concepts(
        counts, accuracy, min_recordings=1, max_recordings=None, min_accuracy=0.0
    )
    assert everything.to_dict()["kept"] == list(range(6))
    with pytest.raises(DataError, match="concept 1 is NaN"):
        select_concepts([50, 50], [0.9, np.nan])
    with pytest.raises(ConfigError):
        select_concepts([50], [0.9], min_recordings=50, max_recordings=50)


def graph(case, protocol):
    settings = HierarchySettings(protocol=protocol, min_similarity=0.0, false_edge_rate=None)
    return graph_of_projections([f"c{i}" for i in range(6)], case.project(), settings)


@pytest.mark.parametrize("protocol", ["original", "calibrated"])
def test_intervals_are_a_bootstrap_over_recordings(protocol):
    case = Case(3, recordings=60)
    found = graph(case, protocol)
    assert len(found.tree.edges)
    samples = edge_samples(case.blocks(11), case.members, case.weight, case.bias, found)
    background = case.project().background
    got = edge_intervals(found, samples, background, n_resamples=400, seed=5)
    assert (got.edge_low <= found.tree.strength + 1e-12).all()
    assert (got.edge_high >= found.tree.strength - 1e-12).all()
    # The same weights, by hand, over the table of all activations.
    table = table_of(case)[:, 1 if protocol == "original" else 0]
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(400):
        w = rng.standard_exponential(60)
        S = (case.members * w[:, None]).T @ table / (case.members.T @ w)[:, None]
        if protocol == "calibrated":
            own = np.diagonal(S)
            C = np.clip((S - background) / (own - background), 0, 1) * (own > background)
            S = np.sqrt(C * C.T)
        drawn.append(S[found.tree.edges[:, 0], found.tree.edges[:, 1]])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(got.edge_low, low, atol=1e-9)
    np.testing.assert_allclose(got.edge_high, high, atol=1e-9)


def test_samples_hold_only_what_edges_need():
    case = Case(4)
    found = graph(case, "original")
    samples = edge_samples(case.blocks(11), case.members, case.weight, case.bias, found)
    np.testing.assert_allclose(
        samples.means(), case.project().similarity[samples.pairs[:, 0], samples.pairs[:, 1]]
    )
    assert len(samples.pairs) <= 4 * len(found.tree.edges)
    other = graph(Case(5), "original")
    with pytest.raises(DataError, match="other edges"):
        edge_intervals(other, samples)


def test_support_counts_resampled_hierarchies():
    case = Case(6)
    found = graph(case, "calibrated")
    table = recording_activations(case.blocks(13), 40, case.weight, case.bias)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table, table_of(case)[:, 0], rtol=1e-5, atol=1e-6)
    support = edge_support(found, table, case.members, n_resamples=20, seed=1)
    assert ((support >= 0) & (support <= 1)).all()
    again = edge_support(found, table, case.members, n_resamples=20, seed=1)
    np.testing.assert_array_equal(support, again)
    whole = found.with_intervals(support, support, support).to_dict()
    assert whole["edges"][0]["support"] == support[0]


def test_draws_are_centred_on_the_estimates():
    case = Case(7)
    table = recording_activations(
        case.blocks(13), 40, case.weight, case.bias, out=np.empty((40, 6))
    )
    draws = list(similarity_draws(table, case.members, 300, seed=2))
    got = case.project()
    error = got.activation_error
    assert (np.abs(np.mean([d[0] for d in draws], 0) - got.activation) < 0.4 * error).all()
    spread = np.std([d[0] for d in draws], axis=0)
    assert ((spread > 0.6 * error) & (spread < 1.3 * error)).all()


def test_recordings_that_do_not_come_count_nowhere():
    case = Case(8)
    some = case.owner < 30
    table = recording_activations([(case.rows[some], case.owner[some])], 40, case.weight, case.bias)
    assert np.isnan(table[30:]).all()
    S, background = next(similarity_draws(table, case.members, 1))
    assert np.isfinite(S).all()
    assert np.isfinite(background).all()


def test_p_values_of_random_recordings_are_not_too_small():
    rng = np.random.default_rng(0)
    rejected, pairs = 0, 0
    for _ in range(40):
        rows = rng.standard_normal((150, 8))
        members = np.zeros((150, 10), bool)
        for concept in range(10):
            members[rng.choice(150, 12, replace=False), concept] = True
        got = project_concepts(
            [(rows, np.arange(150))], members, 5 * rng.standard_normal((10, 8)), np.zeros(10)
        )
        rejected += int((pair_p_values(got) < 0.01).sum())
        pairs += 100
    assert rejected / pairs < 0.012


def test_a_vector_that_few_recordings_set_off_is_no_evidence():
    # One recording of concept 0 is loud for vector 1; nine others are silent.
    rows = np.zeros((60, 2))
    rows[:10, 0] = 3 + 0.1 * np.arange(10)
    rows[0, 1] = 30
    rows[50:, 1] = 30
    members = np.zeros((60, 2), bool)
    members[:10, 0] = members[50:, 1] = True
    got = project_concepts([(rows, np.arange(60))], members, np.eye(2), np.zeros(2))
    assert pair_p_values(got)[0, 0] < 1e-6
    assert pair_p_values(got)[0, 1] > 0.1


def test_vectors_of_other_concepts_can_be_projected_but_make_no_hierarchy():
    got = project_concepts([(np.ones((4, 2)), range(4))], np.eye(4), np.ones((3, 2)), np.zeros(3))
    assert got.similarity.shape == (4, 3)
    with pytest.raises(DataError, match="4 concepts but 3 vectors"):
        _ = got.background
    with pytest.raises(DataError, match="4 concepts but 3 vectors"):
        significant_pairs(got)
    with pytest.raises(ConfigError):
        significant_pairs(got, 0.0)
