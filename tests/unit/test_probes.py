from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from coala_latent.analysis.folds import Fold, fixed_folds, grouped_folds
from coala_latent.analysis.probes import (
    PROBES,
    make_probe,
    run_probe,
    run_probes,
)
from coala_latent.errors import ConfigError, DataError

N, CLASSES = 80, 4
LABELS = np.array(["bell", "dog", "rain", "säge"])[np.arange(N) % CLASSES]
FOLD_IDS = np.repeat(np.arange(1, 6), N // 5)
PERFECT = np.eye(CLASSES)[np.arange(N) % CLASSES]


def noisy(seed: int = 0, scale: float = 0.6, dim: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, dim))
    return centres[np.arange(N) % CLASSES] + scale * rng.normal(size=(N, dim))


@pytest.mark.parametrize("probe", PROBES)
def test_perfect_features_score_one(probe):
    result = run_probe(PERFECT, LABELS, fixed_folds(FOLD_IDS), probe)
    assert result.mean == 1.0
    assert (result.interval.low, result.interval.high) == (1.0, 1.0)
    np.testing.assert_array_equal(result.confusion, np.eye(CLASSES) * N / CLASSES)
    np.testing.assert_array_equal(result.recall, np.ones(CLASSES))


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.filterwarnings("error")
def test_features_without_information_score_at_chance(probe):
    features = np.random.default_rng(1).normal(size=(N, 6))
    result = run_probe(features, LABELS, fixed_folds(FOLD_IDS), probe)
    assert result.chance == 0.25
    assert result.chance in result.interval
    assert result.mean < 0.45


def test_chance_level_is_the_largest_class():
    labels = np.where(np.arange(N) % 4 == 0, "rare", "frequent")
    result = run_probe(np.ones((N, 2)), labels, fixed_folds(FOLD_IDS), "logistic")
    assert result.chance == result.mean == 0.75
    assert dict(zip(result.classes, result.recall, strict=True)) == {"frequent": 1, "rare": 0}


def test_mlp_is_the_original_protocol_written_out():
    features, folds = noisy().astype(np.float32), fixed_folds(FOLD_IDS)
    result = run_probe(features, LABELS, folds, "mlp", runs=2, seed=5)
    x = features.astype(np.float64)
    y = np.unique(LABELS, return_inverse=True)[1]
    for run in range(2):
        for i in range(5):
            test = np.equal(FOLD_IDS, i + 1)
            scaler = StandardScaler().fit(x[~test])
            mlp = MLPClassifier(hidden_layer_sizes=(256,), random_state=5 + run)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mlp.fit(scaler.transform(x[~test]), y[~test])
            assert result.accuracy[run, i] == mlp.score(scaler.transform(x[test]), y[test])
    assert result.runs == 2
    assert result.fits == 10


def test_logistic_equals_a_loop_written_out():
    x, folds = noisy(), fixed_folds(FOLD_IDS)
    result = run_probe(x, LABELS, folds, "logistic")
    for i in range(5):
        test = np.equal(FOLD_IDS, i + 1)
        mean, std = x[~test].mean(axis=0), x[~test].std(axis=0)
        model = LogisticRegression(C=0.1, max_iter=5000).fit((x[~test] - mean) / std, LABELS[~test])
        expected = model.score((x[test] - mean) / std, LABELS[test])
        assert result.accuracy[0, i] == pytest.approx(expected)
    assert 0.4 < result.mean < 1.0


def test_knn_is_the_cosine_of_rows_and_survives_zero_vectors():
    x = noisy()
    x *= np.random.default_rng(0).uniform(0.01, 100, size=(N, 1))  # length carries nothing
    x[[0, 5, 21, 79]] = 0.0
    result = run_probe(x, LABELS, fixed_folds(FOLD_IDS), "knn")
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    y = np.unique(LABELS, return_inverse=True)[1]
    for i in range(5):
        test = np.equal(FOLD_IDS, i + 1)
        sounding = np.linalg.norm(unit[test], axis=1) > 0
        near = np.argsort(-(unit[test] @ unit[~test].T), axis=1)[:, :5]
        votes = np.array([np.bincount(row, minlength=4).argmax() for row in y[~test][near]])
        right = (votes == y[test])[sounding].sum()
        assert right <= result.accuracy[0, i] * test.sum() <= right + (~sounding).sum()
    assert np.isfinite(result.accuracy).all()
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize("probe", ["logistic", "linear_svm", "knn"])
def test_deterministic_probes_run_once_and_say_so(probe):
    result = run_probe(noisy(), LABELS, fixed_folds(FOLD_IDS), probe, runs=10)
    assert result.accuracy.shape == (1, 5)
    assert result.deterministic
    assert result.to_dict()["runs"] == 1
    assert result.unconverged == 0


def test_results_repeat_with_their_seed():
    folds = fixed_folds(FOLD_IDS)
    x = noisy(scale=1.5)
    first, again, other = (run_probe(x, LABELS, folds, "mlp", seed=s) for s in (3, 3, 4))
    assert first.to_dict() == again.to_dict()
    assert not np.array_equal(first.confusion, other.confusion)
    assert not first.deterministic


@pytest.mark.filterwarnings("error")
def test_unconverged_fits_are_counted_and_not_printed():
    result = run_probe(noisy(scale=3.0), LABELS, fixed_folds(FOLD_IDS), "mlp")
    assert 0 < result.unconverged <= result.fits == 5


def test_confusion_is_averaged_over_runs_and_agrees_with_the_mean():
    result = run_probe(noisy(scale=2.0), LABELS, fixed_folds(FOLD_IDS), "mlp", runs=2)
    np.testing.assert_allclose(result.confusion.sum(axis=1), N / CLASSES)
    assert np.trace(result.confusion) / N == pytest.approx(result.mean)
    assert result.interval.mean == pytest.approx(result.mean)
    assert result.interval.n == 5
    assert result.interval_method == "corrected resampled t over folds"


def test_a_single_split_is_bootstrapped_over_its_test_items():
    fold = Fold("official", np.arange(40), np.arange(40, 80))
    result = run_probe(noisy(scale=1.5), LABELS, [fold], "mlp", runs=2)
    assert result.interval_method == "bootstrap over test items"
    assert result.interval.bounded
    assert result.interval.n == 40
    assert result.interval.low < result.mean < result.interval.high


def test_interval_of_an_accuracy_stays_between_0_and_1():
    labels = LABELS.copy()
    labels[0] = "dog"  # one item of one fold is wrong: the t interval would pass 1
    result = run_probe(PERFECT, labels, fixed_folds(FOLD_IDS), "knn")
    assert 0.9 < result.interval.low < result.mean < result.interval.high == 1.0
    one = run_probe(PERFECT, LABELS, [Fold("0", np.arange(40), np.array([40]))], "knn")
    assert (one.mean, one.interval.low, one.interval.high) == (1.0, 0.0, 1.0)


def test_result_is_plain_json():
    result = run_probe(noisy(), LABELS, fixed_folds(FOLD_IDS), "logistic")
    loaded = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert loaded["classes"] == ["bell", "dog", "rain", "säge"]
    assert loaded["folds"] == ["1", "2", "3", "4", "5"]
    assert loaded["mean"] == result.mean
    assert np.shape(loaded["accuracy"]) == (1, 5)


def test_a_class_that_is_never_tested_has_no_recall():
    test = np.flatnonzero((LABELS != "dog") & (np.arange(N) >= 40))
    result = run_probe(PERFECT, LABELS, [Fold("0", np.arange(40), test)], "logistic")
    assert np.isnan(result.recall[1])
    assert result.to_dict()["recall"] == [1.0, None, 1.0, 1.0]


def test_progress_counts_every_fit():
    seen: list[tuple[int, int]] = []
    run_probe(
        PERFECT, LABELS, fixed_folds(FOLD_IDS), "knn", progress=lambda i, n: seen.append((i, n))
    )
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_comparison_is_with_the_first_set():
    sets = {"noise": np.random.default_rng(0).normal(size=(N, 3)), "good": noisy(), "best": PERFECT}
    comparison = run_probes(sets, LABELS, fixed_folds(FOLD_IDS), "logistic")
    assert list(comparison.results) == ["noise", "good", "best"]
    assert list(comparison.differences) == ["good", "best"]
    best = comparison.differences["best"]
    assert best.difference == pytest.approx(1.0 - comparison.results["noise"].mean)
    assert best.p_value < 0.01
    assert best.interval.low > 0
    assert json.loads(json.dumps(comparison.to_dict()))["reference"] == "noise"


def test_comparison_names_the_bad_set():
    bad = PERFECT.copy()
    bad[3, 1] = np.nan
    with pytest.raises(DataError, match="learned: features: row 3"):
        run_probes({"mfcc": PERFECT, "learned": bad}, LABELS, fixed_folds(FOLD_IDS), "knn")
    with pytest.raises(DataError, match="no feature sets"):
        run_probes({}, LABELS, fixed_folds(FOLD_IDS), "knn")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_name_the_row(value):
    x = noisy()
    x[17, 2] = x[33, 0] = value
    with pytest.raises(DataError, match=r"row 17 .*2 of 80"):
        run_probe(x, LABELS, fixed_folds(FOLD_IDS), "knn")


def test_unknown_probe_lists_the_choices():
    choices = re.escape("'tree': choose one of mlp, logistic, linear_svm, knn")
    with pytest.raises(ConfigError, match=choices):
        make_probe("tree")
    with pytest.raises(ConfigError, match=choices):
        run_probe(PERFECT, LABELS, fixed_folds(FOLD_IDS), "tree")


def test_options_of_make_probe_reach_the_classifier():
    assert make_probe("mlp", 9, hidden_layer_sizes=(8, 4))[-1].hidden_layer_sizes == (8, 4)
    assert make_probe("mlp", 9)[-1].random_state == 9
    assert make_probe("logistic", logistic_c=3.0)[-1].C == 3.0
    assert make_probe("linear_svm", svm_c=0.5)[-1].C == 0.5
    assert make_probe("knn", n_neighbors=1)[-1].n_neighbors == 1


def test_inputs_that_do_not_agree_are_typed_errors():
    folds = fixed_folds(FOLD_IDS)
    for features, labels, splits, message in [
        (PERFECT[:-1], LABELS, folds, "79 rows"),
        (PERFECT[:, 0], LABELS, folds, "one row an item"),
        (np.zeros((0, 4)), LABELS[:0], folds, "one row an item"),
        (PERFECT, np.full(N, "dog"), folds, "only the class dog"),
        (PERFECT, LABELS, [], "no folds"),
        (PERFECT, LABELS, [Fold("x", np.arange(40), np.array([80]))], "outside"),
        (PERFECT, LABELS, [Fold("x", np.arange(40), np.array([-1]))], "outside"),
        (PERFECT, LABELS, [Fold("x", np.arange(4), np.arange(4, 8))], "at least 5"),
        (PERFECT, LABELS, [Fold("x", np.array([0, 4, 8, 12, 16]), np.array([20]))], "1 class"),
        (PERFECT, LABELS, [Fold("x", np.arange(0, 78, 2), np.array([1, 3]))], "never trained"),
    ]:
        with pytest.raises(DataError, match=message):
            run_probe(features, labels, splits, "knn")
    with pytest.raises(ConfigError, match="runs"):
        run_probe(PERFECT, LABELS, folds, "mlp", runs=0)


def test_a_fold_cannot_hold_an_item_on_both_sides():
    with pytest.raises(DataError, match="item 3 is in both"):
        Fold("leak", np.array([1, 2, 3]), np.array([3, 4]))
    with pytest.raises(DataError, match="0 test items"):
        Fold("empty", np.array([1, 2, 3]), np.array([], dtype=int))


def test_fixed_folds_are_one_an_id():
    folds = fixed_folds(["5-a.ogg"[0], "1", "5", "2"])
    assert [f.name for f in folds] == ["1", "2", "5"]
    assert [f.test.tolist() for f in folds] == [[1], [3], [0, 2]]
    assert [f.train.tolist() for f in folds] == [[0, 2, 3], [0, 1, 2], [1, 3]]
    with pytest.raises(DataError, match="at least two"):
        fixed_folds([1, 1, 1])
    with pytest.raises(DataError, match="fold_ids"):
        fixed_folds([])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_folds=st.integers(2, 4), seed=st.integers(0, 2**32 - 1))
def test_a_group_is_never_on_both_sides(data, n_folds, seed):
    sources = data.draw(st.lists(st.integers(n_folds, 7), min_size=2, max_size=4))
    labels, groups = [], []
    for label, count in enumerate(sources):
        for source in range(count):
            clips = data.draw(st.integers(1, 6))
            labels += [f"class {label}"] * clips
            groups += [f"source {label}/{source}"] * clips
    order = np.random.default_rng(seed).permutation(len(labels))
    labels, groups = np.array(labels)[order], np.array(groups)[order]
    folds = grouped_folds(labels, groups, n_folds, seed)
    assert len(folds) == n_folds
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert len(fold.train) + len(fold.test) == len(labels)
    assert sorted(np.concatenate([f.test for f in folds])) == list(range(len(labels)))


def test_grouped_folds_are_balanced_and_repeat_with_their_seed():
    groups = np.arange(N) // 8 * 4 + np.arange(N) % 4  # 10 sources a class, 2 clips each
    first, again, other = (grouped_folds(LABELS, groups, 5, seed=s) for s in (0, 0, 1))
    for fold in first:
        assert np.unique(LABELS[fold.test], return_counts=True)[1].tolist() == [4, 4, 4, 4]
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(first, other, strict=True))


def test_too_few_sources_of_a_class_are_an_error_with_a_cure():
    groups = np.arange(N)
    groups[LABELS == "rain"] %= 3
    with pytest.raises(DataError, match=r"class rain comes from 3 group.*use n_folds=3"):
        grouped_folds(LABELS, groups, 5)
    assert len(grouped_folds(LABELS, groups, 3)) == 3
    groups[LABELS == "rain"] = 1000
    with pytest.raises(DataError, match="leave the class out"):
        grouped_folds(LABELS, groups, 2)
    with pytest.raises(ConfigError, match="n_folds=1"):
        grouped_folds(LABELS, groups, 1)
    with pytest.raises(DataError, match="80 labels but 3 groups"):
        grouped_folds(LABELS, [1, 2, 3], 2)
