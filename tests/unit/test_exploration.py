"""Layers compared on folds that do not leak, and on the original's, which do."""

import json

import numpy as np
import pytest
import scipy.stats
from sklearn.model_selection import StratifiedKFold

from coala_latent.analysis.exploration import (
    explore_layers,
    explore_original,
    factor_folds,
    swap_check,
    time_blocked_folds,
)
from coala_latent.analysis.folds import Fold
from coala_latent.errors import ConfigError, DataError

CLASSES, TAKES, ROWS = 3, 5, 12
RECORDING = np.repeat(np.arange(CLASSES * TAKES), ROWS)
LABELS = np.array(["glass", "métal, dry", "wood"])[RECORDING % CLASSES]
START = np.tile(np.arange(ROWS) * 0.48, CLASSES * TAKES)
END = START + 0.96
FOLDS = factor_folds(LABELS, RECORDING)


def layer(strength, own=1.0, seed=0):
    """Class centres times `strength`, levels of recordings times `own`, and noise."""
    rng = np.random.default_rng(seed)
    centres, levels = rng.normal(size=(CLASSES, 8)), rng.normal(size=(CLASSES * TAKES, 8))
    x = strength * centres[RECORDING % CLASSES] + own * levels[RECORDING]
    return x + 0.3 * rng.normal(size=x.shape)


# --- folds


def test_time_blocks_are_contiguous_and_keep_the_gap():
    folds = time_blocked_folds(RECORDING, START, END, LABELS, 4, 0.5)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(LABELS)))
    for fold in folds:
        assert set(LABELS[fold.train]) == set(LABELS)
        for recording in range(CLASSES * TAKES):
            test = fold.test[RECORDING[fold.test] == recording]
            train = fold.train[RECORDING[fold.train] == recording]
            assert np.array_equal(np.diff(test), np.ones(len(test) - 1))
            assert len(test) == 3
            for row in train:
                apart = max(START[test].min() - END[row], START[row] - END[test].max())
                assert apart >= 0.5 - 1e-9
            assert len(train) >= 3
    none = time_blocked_folds(RECORDING, START, END, LABELS, 4, 0.0)
    assert sum(len(f.train) for f in none) > sum(len(f.train) for f in folds)


def test_recordings_of_other_lengths_and_starts_are_split_by_their_own_time():
    recording = np.array(["a b", "ü"])[np.repeat([0, 1], [40, 8])]
    start = np.concatenate([100 + np.arange(40.0), np.arange(8.0)])
    folds = time_blocked_folds(recording, start, start + 1, recording, 4, 0.0)
    for i, fold in enumerate(folds):
        assert (recording[fold.test] == "a b").sum() == 10
        np.testing.assert_array_equal(start[fold.test][10:], [2 * i, 2 * i + 1])


def test_time_blocks_that_cannot_be_are_errors():
    with pytest.raises(ConfigError, match="n_folds=1"):
        time_blocked_folds(RECORDING, START, END, LABELS, 1)
    with pytest.raises(ConfigError, match="gap_seconds=-1"):
        time_blocked_folds(RECORDING, START, END, LABELS, 3, -1)
    with pytest.raises(DataError, match="an end after it"):
        time_blocked_folds(RECORDING, START, START, LABELS, 3)
    with pytest.raises(DataError, match="an end after it"):
        time_blocked_folds(RECORDING, START[1:], END[1:], LABELS, 3)
    one = RECORDING < 3
    with pytest.raises(DataError, match="fold 0: 0 training"):
        time_blocked_folds(RECORDING[one], START[one], END[one], LABELS[one], 3, 60.0)
    with pytest.raises(DataError, match="class 1 is tested but never trained"):
        time_blocked_folds([0] * 6, np.arange(6), np.arange(1, 7), [0, 0, 0, 0, 0, 1], 3, 0.0)
    with pytest.raises(DataError, match="fold 1"):  # two rows in three blocks
        time_blocked_folds([0, 0], [0, 9], [1, 10], [0, 0], 3, 0.0)


def test_as_many_folds_as_the_poorest_class_has_takes():
    few = (RECORDING >= CLASSES * 2) | (LABELS != "wood")
    assert len(FOLDS) == 5
    assert len(factor_folds(LABELS[few], RECORDING[few])) == 3
    for fold in FOLDS:
        assert not set(RECORDING[fold.train]) & set(RECORDING[fold.test])
    with pytest.raises(DataError, match="1 group"):
        factor_folds(LABELS, RECORDING % CLASSES)
    with pytest.raises(DataError, match="groups for"):
        factor_folds(LABELS, RECORDING[1:])


# --- layers


@pytest.mark.parametrize("classifier", ["knn", "linear"])
def test_the_layer_that_knows_is_best(classifier):
    layers = {"conv 1": layer(0), "conv 9": layer(4), "conv 13": layer(0.8)}
    found = explore_layers(layers, LABELS, FOLDS, classifier)
    assert found.best == "conv 9"
    assert found.chosen == ("conv 9",) * 5
    assert found.chance == pytest.approx(1 / 3)
    assert not found.leaky
    assert not found.favours_best
    scores = found.scores
    assert scores.intervals["conv 9"].mean > 0.95
    assert scores.comparisons["first - best"].difference < -0.3
    assert classifier == "linear" or scores.p_corrected["first - best"] < 0.05
    assert scores.correction == "holm"
    assert json.dumps(found.to_dict(), allow_nan=False)
    again = explore_layers(layers, LABELS, FOLDS, classifier)
    assert again.to_dict() == found.to_dict()


def test_scalers_see_training_rows_alone():
    x = layer(2)
    x[FOLDS[0].test, 0] += 1e6  # would shrink the column for everybody
    found = explore_layers({"a": x}, LABELS, FOLDS[:1], choose="same")
    clean = np.delete(x, FOLDS[0].test, axis=0)
    scaled = (x - clean.mean(axis=0)) / clean.std(axis=0)
    by_hand = explore_layers({"a": scaled}, LABELS, FOLDS[:1], choose="same")
    assert found.scores.accuracy["a"] == by_hand.scores.accuracy["a"]


def test_choosing_within_favours_none_where_no_layer_knows_more():
    gain = {"inner": [], "same": []}
    folds = factor_folds(LABELS, RECORDING, 3)
    for seed in range(5):
        layers = {str(i): layer(0.4, seed=10 * seed + i) for i in range(5)}
        for choose in gain:
            found = explore_layers(layers, LABELS, folds, choose=choose)
            gain[choose].append(-found.scores.comparisons["first - best"].difference)
            assert found.favours_best == (choose == "same")
    assert np.mean(gain["same"]) > np.mean(gain["inner"]) + 0.02


def test_one_layer_is_first_best_and_last():
    found = explore_layers({"only": layer(3)}, LABELS, FOLDS)
    assert found.best == "only"
    assert set(found.scores.p_corrected.values()) == {1.0}


def test_labels_shuffled_between_recordings_show_nothing():
    significant = 0
    for seed in range(40):
        shuffled = np.random.default_rng(seed).permutation(LABELS[::ROWS])[RECORDING]
        layers = {"a": layer(2, seed=seed), "b": layer(2, seed=100 + seed)}
        folds = factor_folds(shuffled, RECORDING, 3, seed=seed)
        found = explore_layers(layers, shuffled, folds)
        significant += min(found.scores.p_corrected.values()) < 0.05
    assert significant <= 6


def test_too_few_folds_to_choose_within_and_other_mistakes():
    x = {"a": layer(1), "b": layer(2)}
    halves = factor_folds(LABELS, RECORDING, 2)
    with pytest.raises(ConfigError, match='use three, or choose="same"'):
        explore_layers(x, LABELS, halves)
    assert explore_layers(x, LABELS, halves, choose="same").best == "b"
    with pytest.raises(ConfigError, match="choose='best'"):
        explore_layers(x, LABELS, FOLDS, choose="best")
    with pytest.raises(ConfigError, match="no classifier 'svm'"):
        explore_layers(x, LABELS, FOLDS, "svm")
    with pytest.raises(DataError, match="no layers"):
        explore_layers({}, LABELS, FOLDS)
    with pytest.raises(DataError, match="b: expected finite features"):
        explore_layers({"a": x["a"], "b": x["b"] * np.nan}, LABELS, FOLDS)


# --- the original


def test_original_protocol_hears_recordings_and_says_that_it_leaks():
    x = {"a": layer(0, own=3), "b": layer(0, own=3, seed=1)}  # knows recordings, not classes
    leaky = explore_original(x, LABELS, 600)
    held_out = explore_layers(x, LABELS, FOLDS)
    assert leaky.leaky
    assert "with replacement" in leaky.why
    assert leaky.favours_best
    assert leaky.scores.intervals["a"].mean > 0.95
    assert held_out.scores.intervals["a"].mean < 0.7
    assert len(leaky.scores.accuracy["a"]) == 10
    assert leaky.scores.correction == "bonferroni"


def test_original_protocol_is_the_ordinary_t_test_times_three():
    x = {"a": layer(0.2, 0.1), "b": layer(0.1, 0.1, seed=1), "c": layer(0.1, 0.1, seed=2)}
    found = explore_original(x, LABELS, 200, neighbors=3)
    first, last = found.scores.accuracy["a"], found.scores.accuracy["c"]
    expected = scipy.stats.ttest_ind(first, last)
    assert found.scores.comparisons["first - last"].p_value == pytest.approx(expected.pvalue)
    three = min(1, 3 * expected.pvalue)
    assert found.scores.p_corrected["first - last"] == pytest.approx(three)
    drawn = np.random.RandomState(42).randint(0, len(LABELS), 200)
    train, test = next(StratifiedKFold(10).split(x["a"][drawn], LABELS[drawn]))
    distance = np.linalg.norm(x["a"][drawn][test][:, None] - x["a"][drawn][train], axis=2)
    near = LABELS[drawn][train][np.argsort(distance, axis=1, kind="stable")[:, :3]]
    votes = [max(sorted(set(n)), key=list(n).count) for n in near]
    assert first[0] == pytest.approx(np.mean(np.array(votes) == LABELS[drawn][test]))
    with pytest.raises(DataError, match="draw more"):
        explore_original(x, LABELS, 20)


def test_equal_layers_do_not_differ_in_the_original_protocol():
    found = explore_original({"a": layer(9, own=0), "b": layer(9, own=0)}, LABELS, 400)
    assert set(found.scores.p_corrected.values()) == {1.0}
    assert json.dumps(found.to_dict(), allow_nan=False)


# --- swaps


def test_swapped_blocks_are_heard_where_they_hold_the_factor():
    x = layer(5, own=0.1)
    z = np.concatenate([np.random.default_rng(1).normal(size=x.shape), x], axis=1)
    mixed = np.linalg.qr(np.random.default_rng(2).normal(size=(16, 16)))[0]
    held = swap_check(z @ mixed, z, LABELS, slice(8, 16), lambda c: c @ mixed, FOLDS)
    other = swap_check(z @ mixed, z, LABELS, slice(0, 8), lambda c: c @ mixed, FOLDS)
    assert held.intervals["original"].mean > 0.9
    assert held.intervals["consistent"].mean > 0.9
    assert held.intervals["inconsistent"].mean < 0.5
    assert held.p_corrected["consistent - inconsistent"] < 0.01
    assert other.intervals["consistent"].mean < 0.5  # the classes stayed where they were
    assert json.dumps(held.to_dict(), allow_nan=False)


def test_unequal_blocks_of_one_fold_give_no_claim():
    z = layer(3)
    fold = [Fold("only", np.arange(90), np.arange(90, 180))]
    check = swap_check(z, z, LABELS, slice(0, 8), lambda c: c, fold)
    assert set(check.p_corrected.values()) == {1.0}
    assert not check.intervals["original"].low < 0
