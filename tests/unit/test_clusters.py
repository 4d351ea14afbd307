"""Choice of k, agreement with labels, words and typical sounds of clusters."""

import math

import numpy as np
import pytest
from sklearn import metrics

from coala_latent.analysis.clusters import (
    agreement,
    choose_k,
    frequent_words,
    nmi,
    purity,
    rand,
    typical,
)
from coala_latent.errors import ConfigError, DataError


def mixture(n=240, dim=6, components=4, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    middles = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:components]
    labels = np.arange(n) % components
    return middles[labels] + spread * rng.normal(size=(n, dim)), labels


def table_of(a, b):
    return metrics.cluster.contingency_matrix(a, b)


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(4, size=50), rng.integers(3, size=50)
    b = np.where(rng.random(50) < 0.2 * seed, a, b)
    table = table_of(a, b)
    assert nmi(table) == pytest.approx(metrics.normalized_mutual_info_score(a, b))
    assert rand(table) == pytest.approx(metrics.adjusted_rand_score(a, b))
    wanted = sum(np.bincount(a[b == c]).max() for c in np.unique(b)) / 50
    assert purity(table) == pytest.approx(wanted)
    stacked = np.stack([table, table[::-1]])
    np.testing.assert_allclose(nmi(stacked), [nmi(table)] * 2)
    np.testing.assert_allclose(rand(stacked), [rand(table)] * 2)


def test_the_same_partition_under_other_names_agrees_completely():
    labels = ["b", "a", "c", "a", "b", "c"] * 5
    clusters = [{"a": 2, "b": 0, "c": 1}[label] for label in labels]
    found = agreement(labels, clusters, 3)
    for name in ("nmi", "ari", "purity"):
        assert found.measures[name].interval.mean == pytest.approx(1)
        assert found.measures[name].p_value < 0.002
    assert found.classes == ("a", "b", "c")
    assert found.contingency.tolist() == [[0, 0, 10], [10, 0, 0], [0, 10, 0]]


def test_labels_at_random_agree_no_better_than_by_chance():
    rng = np.random.default_rng(1)
    labels = [str(number) for number in rng.integers(5, size=60)]
    found = agreement(labels, rng.integers(6, size=60), 6)
    assert found.measures["nmi"].chance > 0.1  # why chance has to be told
    assert found.measures["nmi"].p_value > 0.05
    assert abs(found.measures["ari"].chance) < 0.02
    assert 0 in found.measures["ari"].interval
    assert found.measures["purity"].interval.mean == pytest.approx(
        found.measures["purity"].chance, abs=0.1
    )


def test_chance_is_that_of_permuted_labels():
    rng = np.random.default_rng(2)
    a, b = rng.integers(3, size=40), rng.integers(4, size=40)
    permuted = [nmi(table_of(rng.permutation(a), b)) for _ in range(2000)]
    found = agreement([str(label) for label in a], b, 4)
    assert found.measures["nmi"].chance == pytest.approx(np.mean(permuted), abs=0.01)


def test_intervals_are_as_wide_as_the_scatter_of_new_samples():
    rng = np.random.default_rng(3)

    def draw():
        a = rng.integers(3, size=200)
        return a, np.where(rng.random(200) < 0.6, a, rng.integers(3, size=200))

    scatter = np.std([rand(table_of(*draw())) for _ in range(300)])
    a, b = draw()
    interval = agreement([str(x) for x in a], b, 3).measures["ari"].interval
    assert (interval.high - interval.low) / 2 / 1.96 == pytest.approx(scatter, rel=0.3)


def test_items_without_label_or_cluster_are_left_out():
    found = agreement(["a", None, "b", "a", "b"], [0, 0, 1, -1, 1], 3)
    assert found.contingency.tolist() == [[1, 0, 0], [0, 2, 0]]
    assert found.to_dict()["items"] == 3
    with pytest.raises(DataError, match="1 item"):
        agreement(["a", None], [0, 1], 2)
    with pytest.raises(DataError, match="2 labels"):
        agreement(["a", "b"], [0], 2)


def test_a_single_class_and_a_single_cluster_have_finite_figures():
    for labels, clusters, k in ((["a"] * 4, [0, 1, 0, 1], 2), (["a", "b"] * 2, [0] * 4, 1)):
        for measure in agreement(labels, clusters, k).measures.values():
            values = (*measure.interval.to_dict().values(), measure.chance, measure.p_value)
            assert all(math.isfinite(value) for value in values)


def test_intervals_stay_where_the_measures_can_be():
    found = agreement(["a", "a", "b", "b", "c"], [0, 1, 0, 1, 1], 2, tables=10).measures
    for name, lowest in (("nmi", 0.0), ("purity", 0.0), ("ari", -1.0)):
        assert found[name].interval.low >= lowest
        assert found[name].interval.high <= 1.0
    assert found["ari"].interval.low < 0.0


def test_the_number_of_components_is_found_and_stable():
    rows, labels = mixture()
    choice, found = choose_k(rows, range(2, 8), restarts=3)
    assert choice.best == found.k == 4
    assert choice.ks == (2, 3, 4, 5, 6, 7)
    assert choice.stability[2] == pytest.approx(1)
    assert choice.stability[5] < 0.95
    assert (np.diff(choice.mean_cosines) > 0).all()
    wanted = metrics.silhouette_score(rows, labels, metric="cosine")
    assert choice.silhouettes[2] == pytest.approx(wanted)
    again, _ = choose_k(rows, [7, 2, 3, 4, 5, 6], restarts=3)
    assert again.to_dict() == choice.to_dict()


def test_numbers_that_cannot_be_chosen_from_are_refused():
    rows, _ = mixture(n=10)
    for ks in ([], [1, 2], [10]):
        with pytest.raises(ConfigError, match="from 2 to 9"):
            choose_k(rows, ks)
    choice, _ = choose_k(rows, [9])  # halves of 5 rows have no 9 clusters
    assert math.isnan(choice.stability[0])


def test_words_of_a_cluster_are_frequent_there_and_not_everywhere():
    words = [["the", "dog", "dog"], ["the", "dog"], ["the", "cat"], ["the"], ["the", "odd"]]
    clusters = [0, 0, 1, 1, -1]
    first, second, third = frequent_words(words, clusters, 3)
    assert [(word.text, word.count, word.share, word.lift) for word in first] == [
        ("dog", 2, 1.0, 2.0)
    ]
    assert [(word.text, word.share, word.lift) for word in second] == [("cat", 0.5, 2.0)]
    assert third == []


def test_frequent_words_come_before_rare_ones():
    words = [["often"]] * 8 + [["rare", "often"]] + [[]] * 10
    (word, other), _ = frequent_words(words, [0] * 9 + [1] * 10, 2)
    assert (word.text, other.text) == ("often", "rare")
    assert len(frequent_words([list("abcdefg"), []], [0, 1], 2, top=3)[0]) == 3


def test_typical_rows_are_nearest_and_of_different_recordings():
    clusters = np.array([0, 0, 0, 1, 0, -1])
    cosines = np.array([0.5, 0.9, 0.8, 0.1, 0.7, 1.0], np.float32)
    items = np.array([0, 1, 1, 2, 3, 4])
    assert typical(clusters, cosines, items, 3, top=2) == [[1, 4], [3], []]
