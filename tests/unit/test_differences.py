"""Paired differences of clustered rows: exact tests, intervals, and what they say of nothing."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats

from coala_latent.analysis.differences import (
    adjust_p_values,
    difference_family,
    difference_test,
    sign_flip_p,
    wilcoxon_p,
)
from coala_latent.errors import ConfigError, DataError


def signed_rank_by_enumeration(x):
    """Every pattern of signs of the ranks of the values that are not 0."""
    x = np.asarray(x)[np.asarray(x) != 0]
    ranks = scipy.stats.rankdata(np.abs(x))
    sums = [np.dot(s, ranks) for s in itertools.product([-1, 1], repeat=len(x))]
    return np.mean(np.abs(sums) >= abs(np.sum(np.sign(x) * ranks)) - 1e-9)


@pytest.mark.parametrize("n", [6, 12, 30, 50])
def test_signed_rank_test_is_scipys_exact_one(n):
    x = np.random.default_rng(n).normal(0.3, 1, n)
    expected = scipy.stats.wilcoxon(x, method="exact").pvalue
    assert wilcoxon_p(x) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_ties_and_zeros_have_the_exact_distribution(seed):
    x = np.random.default_rng(seed).integers(-3, 5, 11)
    assert wilcoxon_p(x) == pytest.approx(signed_rank_by_enumeration(x), rel=1e-10)


def test_many_values_are_near_the_exact_distribution():
    x = np.random.default_rng(0).normal(0.12, 1, 201)
    exact = scipy.stats.wilcoxon(x, method="exact").pvalue
    assert wilcoxon_p(x) == pytest.approx(exact, rel=0.02)
    # One huge sample of one sign must not underflow into an error.
    assert 0 <= wilcoxon_p(np.arange(1, 3000)) < 1e-100


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_fewer_than_six_values_cannot_be_significant(n):
    x = np.arange(1.0, n + 1)
    assert wilcoxon_p(x) == pytest.approx(2.0 ** (1 - n))
    assert sign_flip_p(x) == pytest.approx(2.0 ** (1 - n))
    assert difference_test(x, np.arange(n)).p_value > 0.05


def test_nothing_but_zeros_is_no_difference():
    test = difference_test(np.zeros(20), np.arange(20) // 2)
    assert (test.p_value, test.p_sign_flip, test.nonzero, test.n_groups) == (1.0, 1.0, 0, 10)
    assert test.rank_biserial.mean == test.rank_biserial.low == test.rank_biserial.high == 0.0
    assert test.standardised is None
    assert json.dumps(test.to_dict(), allow_nan=False)


def test_equal_differences_do_not_scatter_but_have_a_direction():
    test = difference_test(np.full(24, 0.1), np.arange(24) // 3)
    assert test.p_value == pytest.approx(2 / 2**8)
    assert test.rank_biserial.mean == 1.0
    assert test.standardised is None
    both = difference_test(np.full(16, 0.1), np.indices((4, 4)).reshape(2, -1).T)
    assert both.p_robust == 0.0
    assert both.p_value == pytest.approx(2 / 2**4)
    assert json.dumps(both.to_dict(), allow_nan=False)


def test_one_group_says_nothing():
    test = difference_test([1.0, 2.0, 3.0], ["a", "a", "a"])
    assert test.p_value == 1.0
    assert test.n_groups == 1
    assert not test.difference.bounded
    assert not test.rank_biserial.bounded
    assert json.dumps(test.to_dict(), allow_nan=False)


def test_rows_are_averaged_by_group_before_the_test():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(9), rng.integers(1, 30, 9))
    x = rng.normal(size=9)[groups] + 0.1 * rng.normal(size=len(groups))
    means = np.array([x[groups == g].mean() for g in range(9)])
    test = difference_test(x, groups)
    assert test.p_value == pytest.approx(scipy.stats.wilcoxon(means, method="exact").pvalue)
    assert test.difference.mean == pytest.approx(means.mean())
    hedges = (1 - 3 / (4 * 8 - 1)) * means.mean() / means.std(ddof=1)
    assert test.standardised.mean == pytest.approx(hedges)
    ranks = scipy.stats.rankdata(abs(means))
    assert test.rank_biserial.mean == pytest.approx(np.sum(np.sign(means) * ranks) / ranks.sum())
    shuffled = rng.permutation(len(x))
    again = difference_test(x[shuffled], groups[shuffled])
    assert again.p_value == test.p_value
    assert again.difference.low == pytest.approx(test.difference.low)


def test_sign_flips_are_exact_for_few_and_seeded_for_many():
    x = np.array([0.4, -0.1, 0.3, 0.2, 0.6, 0.5, -0.2])
    sums = [np.dot(s, x) for s in itertools.product([-1, 1], repeat=7)]
    assert sign_flip_p(x) == np.mean(np.abs(sums) >= abs(x.sum()) - 1e-12)
    many = np.random.default_rng(0).normal(0.3, 1, 40)
    assert sign_flip_p(many, seed=1) == sign_flip_p(many, seed=1) != sign_flip_p(many, seed=2)
    assert sign_flip_p(many, 20_000) == pytest.approx(
        scipy.stats.ttest_1samp(many, 0).pvalue, abs=0.01
    )
    assert sign_flip_p(np.ones(100), 99) == pytest.approx(1 / 100)


def test_equal_calls_give_equal_results():
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=60), rng.integers(0, 8, (60, 2))
    assert difference_test(x, groups, seed=3) == difference_test(x, groups, seed=3)
    assert difference_test(x, groups, seed=3) != difference_test(x, groups, seed=4)


def test_shuffled_labels_of_recordings_show_nothing():
    found = {"groups": 0, "rows": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        recording = np.repeat(np.arange(12), 25)
        level = rng.normal(size=12)[recording] + 0.3 * rng.normal(size=300)
        sign = rng.permutation(np.repeat([-1, 1], 6))[recording]
        found["groups"] += difference_test(level * sign, recording, n_resamples=50).p_value < 0.05
        found["rows"] += wilcoxon_p(level * sign) < 0.05
    assert found["groups"] <= 6
    assert found["rows"] > 20  # what taking rows for independent would have claimed


def test_donors_and_receptors_together_show_nothing_where_each_has_its_own_level():
    found = {"both": 0, "donor": 0}
    for seed in range(40):
        rng = np.random.default_rng(100 + seed)
        donor, receptor = rng.integers(0, 10, (2, 400))
        x = rng.normal(size=10)[donor] + 3 * rng.normal(size=10)[receptor] + rng.normal(size=400)
        both = np.stack([donor, 100 + receptor], axis=1)
        found["both"] += difference_test(x, both, n_resamples=50).p_value < 0.05
        found["donor"] += difference_test(x, donor, n_resamples=50).p_value < 0.05
    assert found["both"] <= 6
    assert found["donor"] > 6  # receptors that all donors share move all averages at once


def test_a_real_difference_is_found_with_its_size():
    rng = np.random.default_rng(0)
    donor, receptor = rng.integers(0, 12, (2, 500))
    x = 1.0 + 0.5 * rng.normal(size=12)[donor] + 0.5 * rng.normal(size=12)[receptor]
    test = difference_test(x + rng.normal(size=500), np.stack([donor, receptor], axis=1))
    assert test.p_value < 0.01
    assert test.difference.mean == pytest.approx(1.0, abs=0.5)
    assert test.rank_biserial.mean > 0.9
    assert test.standardised.low > 0.5
    assert 0.0 not in test.difference


def test_robust_interval_of_one_way_groups_covers():
    # Every row in a group of its own twice over: the ordinary t interval, but for n / (n - 1).
    x = np.random.default_rng(0).normal(size=50)
    test = difference_test(x, np.stack([np.arange(50), np.arange(50)], axis=1))
    low, high = scipy.stats.t.interval(0.95, 49, loc=x.mean(), scale=scipy.stats.sem(x))
    assert (test.difference.low, test.difference.high) == pytest.approx((low, high))


def test_corrections_are_the_textbooks():
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(adjust_p_values(p), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(adjust_p_values(p, "bonferroni"), [0.04, 0.16, 0.12, 0.02])
    np.testing.assert_allclose(adjust_p_values(p, "none"), p)
    np.testing.assert_allclose(adjust_p_values([0.9, 0.8], "holm"), [1.0, 1.0])
    assert adjust_p_values([]).shape == (0,)
    with pytest.raises(ConfigError, match="holm, bonferroni, none"):
        adjust_p_values(p, "fdr")
    with pytest.raises(DataError, match="between 0 and 1"):
        adjust_p_values([0.5, np.nan])


def test_family_states_its_correction():
    rng = np.random.default_rng(0)
    sets = {"a, swap=1": rng.normal(1, 1, 40), "größe": rng.normal(0, 1, 40)}
    groups = {name: np.arange(40) // 2 for name in sets}
    tests = difference_family(sets, groups)
    assert list(tests) == list(sets)
    for test in tests.values():
        assert (test.correction, test.family) == ("holm", 2)
        assert test.p_value <= test.p_corrected <= 1.0
    assert tests["a, swap=1"].p_corrected == 2 * tests["a, swap=1"].p_value
    with pytest.raises(DataError, match="größe: no groups"):
        difference_family(sets, {"a, swap=1": groups["größe"]})
    bad = np.where(np.arange(40) == 3, np.nan, sets["größe"])
    with pytest.raises(DataError, match="größe: difference 3 is not finite"):
        difference_family({"größe": bad}, groups)
    with pytest.raises(DataError, match="no differences"):
        difference_family({}, {})


@pytest.mark.parametrize(
    ("values", "groups", "message"),
    [
        ([], [], "list of numbers"),
        ([1.0, np.inf], [0, 1], "difference 1 is not finite"),
        ([1.0, 2.0], [0, 1, 2], r"groups must be \(2,\)"),
        ([1.0, 2.0], np.zeros((2, 0)), "groups must be"),
    ],
)
def test_unusable_input_is_a_data_error(values, groups, message):
    with pytest.raises(DataError, match=message):
        difference_test(values, groups)


def test_values_out_of_range_are_config_errors():
    with pytest.raises(ConfigError, match="n_resamples"):
        difference_test([1.0], [0], n_resamples=0)
    with pytest.raises(ConfigError, match="confidence"):
        difference_test([1.0], [0], confidence=95)
