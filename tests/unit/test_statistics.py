from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.stats

from coala_latent.analysis.statistics import (
    Interval,
    bootstrap_interval,
    corrected_resampled_interval,
    mean_interval,
    paired_comparison,
)
from coala_latent.errors import ConfigError, DataError

SCORES = [0.91, 0.88, 0.95, 0.9, 0.86]
OTHERS = [0.85, 0.86, 0.9, 0.89, 0.8]


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_mean_interval_is_scipys(confidence):
    got = mean_interval(SCORES, confidence)
    low, high = scipy.stats.t.interval(
        confidence, 4, loc=np.mean(SCORES), scale=scipy.stats.sem(SCORES)
    )
    assert (got.mean, got.low, got.high) == pytest.approx((0.9, low, high), abs=1e-12)
    assert got.n == 5


def test_five_folds_are_half_as_wide_again_as_independent_runs():
    plain, corrected = mean_interval(SCORES), corrected_resampled_interval(SCORES, 1 / 5)
    width = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert width == pytest.approx(1.5)  # sqrt((1/5 + 1/4) / (1/5))
    assert corrected.mean == plain.mean


@pytest.mark.parametrize(
    "interval",
    [mean_interval([0.5]), corrected_resampled_interval([0.5], 0.2), bootstrap_interval([0.5])],
)
def test_one_score_gives_an_unbounded_interval_without_nan(interval):
    assert interval == Interval(0.5, -np.inf, np.inf, 1)
    assert not interval.bounded
    assert json.loads(json.dumps(interval.to_dict(), allow_nan=False))["low"] is None


def test_equal_scores_give_width_zero():
    equal = mean_interval([0.7, 0.7, 0.7])
    assert equal.low == equal.mean == equal.high == pytest.approx(0.7)
    assert bootstrap_interval(np.ones(30)) == Interval(1.0, 1.0, 1.0, 30)


def test_interval_knows_what_it_contains():
    interval = Interval(0.5, 0.4, 0.6, 5)
    assert 0.4 in interval
    assert 0.61 not in interval
    assert interval.bounded


@pytest.mark.parametrize("scores", [[], [0.1, np.nan], [np.inf], [[0.1, 0.2]]])
@pytest.mark.parametrize(
    "function",
    [mean_interval, bootstrap_interval, lambda s: corrected_resampled_interval(s, 0.2)],
)
def test_unusable_scores_are_data_errors(scores, function):
    with pytest.raises(DataError, match="score"):
        function(scores)


def test_values_out_of_range_are_config_errors():
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(ConfigError, match="confidence"):
            mean_interval(SCORES, confidence)
        with pytest.raises(ConfigError, match="confidence"):
            bootstrap_interval(SCORES, confidence=confidence)
    for fraction in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="test_fraction"):
            corrected_resampled_interval(SCORES, fraction)
    with pytest.raises(ConfigError, match="n_resamples"):
        bootstrap_interval(SCORES, n_resamples=0)
    with pytest.raises(DataError, match="groups"):
        bootstrap_interval(SCORES, groups=[1, 2])


def test_mean_interval_covers_95_percent_of_independent_scores():
    draws = np.random.default_rng(0).normal(0.8, 0.05, size=(1500, 5))
    covered = np.mean([0.8 in mean_interval(row) for row in draws])
    assert 0.935 < covered < 0.965  # 2.7 standard deviations


def test_correction_restores_coverage_of_scores_that_share_training_data():
    # Nadeau and Bengio's model: the folds' scores correlate by the share of test items.
    rng = np.random.default_rng(1)
    share = 0.2
    draws = np.sqrt(share) * rng.normal(size=(1500, 1))
    draws = draws + np.sqrt(1 - share) * rng.normal(size=(1500, 5))
    corrected = np.mean([0.0 in corrected_resampled_interval(row, share) for row in draws])
    plain = np.mean([0.0 in mean_interval(row) for row in draws])
    assert 0.935 < corrected < 0.965
    assert plain < 0.89


def test_bootstrap_equals_drawing_items_one_by_one():
    rng = np.random.default_rng(0)
    scores = rng.random(40)
    got = bootstrap_interval(scores, n_resamples=20_000)
    means = scores[rng.integers(0, 40, size=(20_000, 40))].mean(axis=1)
    np.testing.assert_allclose([got.low, got.high], np.quantile(means, [0.025, 0.975]), atol=5e-3)
    assert got.mean == pytest.approx(scores.mean())


def test_bootstrap_of_right_and_wrong_answers_is_the_binomial():
    correct = np.repeat([1, 0], [300, 100])
    got = bootstrap_interval(correct, n_resamples=20_000)
    low, high = scipy.stats.binom.ppf([0.025, 0.975], 400, 0.75) / 400
    np.testing.assert_allclose([got.low, got.high], [low, high], atol=2.6e-3)  # one item
    assert got.n == 400


def test_bootstrap_draws_whole_groups_of_unequal_size():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(12), rng.integers(1, 9, size=12))
    scores = rng.random(12)[groups] + 0.1 * rng.random(len(groups))
    got = bootstrap_interval(scores, groups=[f"ünit {g}" for g in groups], n_resamples=20_000)
    parts = [scores[groups == g] for g in range(12)]
    means = [
        np.concatenate([parts[i] for i in rng.integers(0, 12, size=12)]).mean() for _ in range(5000)
    ]
    np.testing.assert_allclose([got.low, got.high], np.quantile(means, [0.025, 0.975]), atol=0.02)
    assert got.n == 12
    assert got.high - got.low > 1.5 * np.subtract(
        *np.quantile([rng.choice(scores, len(scores)).mean() for _ in range(2000)], [0.975, 0.025])
    )


def test_bootstrap_by_group_covers_where_items_alone_do_not():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 5)
    clustered = alone = 0
    for _ in range(200):
        correct = rng.random(200) < np.repeat(rng.choice([0.5, 1.0], size=40), 5)
        clustered += 0.75 in bootstrap_interval(correct, groups, n_resamples=500)
        alone += 0.75 in bootstrap_interval(correct, n_resamples=500)
    assert 0.89 < clustered / 200 < 0.99
    assert alone < clustered - 10


def test_bootstrap_repeats_with_its_seed_and_scales():
    correct = np.random.default_rng(0).random(100_000) < 0.9
    first = bootstrap_interval(correct, seed=7)
    assert first == bootstrap_interval(correct, seed=7)
    assert first != bootstrap_interval(correct, seed=8)
    assert first.high - first.low == pytest.approx(2 * 1.96 * np.sqrt(0.09 / 1e5), rel=0.05)


def test_one_group_says_nothing():
    assert bootstrap_interval([0, 1, 1], groups=["a", "a", "a"]) == Interval(
        2 / 3, -np.inf, np.inf, 1
    )


def test_paired_comparison_without_shared_data_is_the_paired_t_test():
    got = paired_comparison(SCORES, OTHERS, test_fraction=0.0)
    reference = scipy.stats.ttest_rel(SCORES, OTHERS)
    interval = reference.confidence_interval(0.95)
    assert got.difference == pytest.approx(0.04)
    assert got.p_value == pytest.approx(reference.pvalue)
    assert (got.interval.low, got.interval.high) == pytest.approx((interval.low, interval.high))


def test_paired_comparison_of_folds_is_corrected():
    got = paired_comparison(SCORES, OTHERS, test_fraction=0.2)
    t = scipy.stats.ttest_rel(SCORES, OTHERS).statistic / 1.5
    assert got.p_value == pytest.approx(2 * scipy.stats.t.sf(t, 4))
    assert (got.p_value < 0.05) == (0.0 not in got.interval)
    mirrored = paired_comparison(OTHERS, SCORES, test_fraction=0.2)
    assert mirrored.difference == -got.difference
    assert mirrored.p_value == pytest.approx(got.p_value)


def test_paired_comparison_has_no_nan_at_its_edges():
    same = paired_comparison(SCORES, SCORES, 0.2)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    shifted = paired_comparison(np.add(SCORES, 0.1), SCORES, 0.2)
    assert shifted.difference == pytest.approx(0.1)
    assert shifted.p_value == 0.0
    single = paired_comparison([0.9], [0.8], 0.2)
    assert (single.p_value, single.interval.bounded) == (1.0, False)
    for result in (same, shifted, single):
        json.dumps(result.to_dict(), allow_nan=False)


def test_paired_comparison_refuses_other_lengths():
    with pytest.raises(DataError, match="5 and 4"):
        paired_comparison(SCORES, OTHERS[:4], 0.2)
