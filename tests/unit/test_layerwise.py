"""Layer-wise probes: the choice of C, clip vectors, curves over layers."""

import json

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from coala_latent import load_model
from coala_latent.analysis.classifiers import SVM_GRID, choose_c, make_probe
from coala_latent.analysis.clips import clip_vector
from coala_latent.analysis.folds import Fold, fixed_folds, grouped_folds, inner_folds
from coala_latent.analysis.layerwise import constant_columns, probe_layers
from coala_latent.analysis.probes import run_probe
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.labelled import labelled_folder, usable
from coala_latent.tasks.layerwise import layer_features, spread
from coala_latent.types import Embedding

N, CLASSES = 80, 4
LABELS = np.array(["bell", "dog", "rain", "saw"])[np.arange(N) % CLASSES]
FOLDS = fixed_folds(np.repeat(np.arange(5), N // 5))


def noisy(scale, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(CLASSES, dim))
    return centres[np.arange(N) % CLASSES] + scale * rng.normal(size=(N, dim))


# --- inner folds


def test_inner_folds_split_the_training_items_alone():
    inner = inner_folds(FOLDS, 2)
    assert [fold.name for fold in inner] == ["2/0", "2/1", "2/3", "2/4"]
    for fold in inner:
        assert not set(fold.train) & set(fold.test)
        assert {*fold.train, *fold.test} == set(FOLDS[2].train)
    tested = np.concatenate([fold.test for fold in inner])
    assert sorted(tested) == sorted(FOLDS[2].train)


def test_inner_folds_keep_groups_together():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, N) * CLASSES + np.arange(N) % CLASSES
    folds = grouped_folds(LABELS, groups, 3)
    for index in range(3):
        for fold in inner_folds(folds, index):
            assert not set(groups[fold.train]) & set(groups[fold.test])


def test_two_folds_leave_nothing_to_choose_by():
    halves = fixed_folds(np.arange(N) // 4 % 2)
    for folds in (halves, halves[:1]):
        with pytest.raises(ConfigError, match="at least three folds, or linear_svm"):
            run_probe(noisy(0.5), LABELS, folds, "svm")
    assert run_probe(noisy(0.5), LABELS, halves, "linear_svm").mean > 0.5


# --- the SVM


@pytest.mark.parametrize("dim", [6, 300])
def test_c_is_the_best_of_a_search_written_out(dim):
    x = noisy(1.0, dim)
    y = np.unique(LABELS, return_inverse=True)[1]
    inner = inner_folds(FOLDS, 0)
    grid = (1.0, 1e-3, 1e-6)  # in any order
    right = dict.fromkeys(grid, 0)
    for fold in inner:
        scaler = StandardScaler().fit(x[fold.train])
        for c in grid:
            svm = LinearSVC(C=c, dual=True, max_iter=100_000, tol=1e-6, random_state=0)
            svm.fit(scaler.transform(x[fold.train]), y[fold.train])
            right[c] += (svm.predict(scaler.transform(x[fold.test])) == y[fold.test]).sum()
    best = max(right.values())
    assert choose_c(x, y, inner, grid) == min(c for c in grid if right[c] == best)


def test_c_does_not_see_the_tested_fold():
    x = noisy(1.5, 20)
    spoilt = x.copy()
    spoilt[FOLDS[3].test] = 1e6
    y = np.unique(LABELS, return_inverse=True)[1]
    inner = inner_folds(FOLDS, 3)
    assert choose_c(x, y, inner) == choose_c(spoilt, y, inner)
    clean, dirty = (run_probe(each, LABELS, FOLDS, "svm") for each in (x, spoilt))
    assert clean.chosen_c[3] == dirty.chosen_c[3]


def test_svm_is_the_linear_svm_with_the_chosen_c():
    x = noisy(1.2, 30)
    result = run_probe(x, LABELS, FOLDS, "svm")
    assert set(result.chosen_c) <= set(SVM_GRID)
    assert len(result.chosen_c) == len(FOLDS)
    for fold, c, accuracy in zip(FOLDS, result.chosen_c, result.accuracy[0], strict=True):
        svm = make_probe("linear_svm", svm_c=c).fit(x[fold.train], LABELS[fold.train])
        assert accuracy == pytest.approx(svm.score(x[fold.test], LABELS[fold.test]))
    assert result.to_dict()["chosen_c"] == list(result.chosen_c)
    assert run_probe(x, LABELS, FOLDS, "logistic").chosen_c == ()


def test_choosing_c_needs_something_to_choose_by():
    y = np.array([0, 0, 0, 1, 1, 1])
    one_class = [Fold("0", np.array([0, 1, 2]), np.array([3]))]
    for inner, grid in ((one_class, (1.0,)), ([], (1.0,)), (inner_folds(FOLDS, 0), ())):
        with pytest.raises(ConfigError, match="more folds, or linear_svm"):
            choose_c(np.eye(6), y if inner is one_class else np.arange(N) % 4, inner, grid)


def test_soundnets_classifier_does_not_standardise():
    x = noisy(0.3) * 100.0
    pipeline = make_probe("soundnet_svm")
    assert [type(step).__name__ for _, step in pipeline.steps] == ["LinearSVC"]
    svm = LinearSVC(C=0.01, dual="auto", max_iter=20_000, random_state=0)
    fold = FOLDS[0]
    expected = svm.fit(x[fold.train], LABELS[fold.train]).score(x[fold.test], LABELS[fold.test])
    assert run_probe(x, LABELS, FOLDS, "soundnet_svm").accuracy[0, 0] == pytest.approx(expected)


def test_constant_columns_and_wide_layers_are_taken():
    x = np.column_stack([noisy(0.1), np.zeros((N, 3)), np.full((N, 1), 1e9)])
    assert constant_columns(x) == 4
    assert run_probe(x, LABELS, FOLDS, "svm").mean > 0.9
    still = run_probe(np.ones((N, 5)), LABELS, FOLDS, "svm")
    assert still.mean == pytest.approx(still.chance)
    wide = (noisy(0.3) @ np.random.default_rng(0).normal(size=(6, 600))).astype(np.float32)
    assert run_probe(wide, LABELS, FOLDS, "svm").mean > 0.9


# --- curves


def test_a_curve_names_its_best_layer_and_how_far_the_others_are_behind():
    layers = {"early": noisy(3.0), "middle": noisy(0.2), "same": noisy(0.2), "late": noisy(1.0)}
    seen = []
    curve = probe_layers(layers, LABELS, FOLDS, "knn", progress=lambda *at: seen.append(at))
    assert list(curve.results) == list(layers)
    assert curve.best == "middle"  # the first of equals
    assert set(curve.behind) == {"early", "same", "late"}
    assert curve.behind["same"].difference == 0.0
    early = curve.behind["early"]
    assert early.difference == pytest.approx(curve.results["early"].mean - 1.0, abs=0.05)
    assert early.p_value < 0.05
    assert seen == [(done, 5) for _ in layers for done in range(1, 6)]
    loaded = json.loads(json.dumps(curve.to_dict(), allow_nan=False))
    assert loaded["layers"]["late"]["mean"] == curve.results["late"].mean


def test_a_curve_names_the_bad_layer():
    bad = noisy(0.5)
    bad[7, 0] = np.nan
    with pytest.raises(DataError, match="conv2: features: row 7"):
        probe_layers({"conv1": noisy(0.5), "conv2": bad}, LABELS, FOLDS, "knn")


# --- one vector a clip


def rows_of(positions, pooling):
    """Rows of ``(rows, positions, channels)``, pooled over the positions."""
    second = positions.max(1) if pooling == "mean+max" else positions.std(1)
    start = np.arange(len(positions), dtype=float)
    return Embedding(
        np.concatenate([positions.mean(1), second], axis=1).astype(np.float32), start, start + 1.0
    )


@pytest.mark.parametrize("pooling", ["mean+max", "mean+std"])
def test_pooled_rows_give_the_statistics_of_all_positions(pooling, rng):
    positions = rng.normal(1.0, 2.0, size=(5, 7, 3))
    found = clip_vector(rows_of(positions, pooling), pooling, pooled=True)
    flat = positions.reshape(-1, 3)
    second = flat.max(0) if pooling == "mean+max" else flat.std(0)
    np.testing.assert_allclose(found, np.concatenate([flat.mean(0), second]), rtol=1e-5)
    assert found.dtype == np.float32


def test_rows_without_positions_are_pooled_over_time(rng):
    values = rng.normal(size=(6, 3)).astype(np.float32)
    rows = Embedding(values, np.arange(6.0), np.arange(1.0, 7.0))
    mean, top, spread_ = values.mean(0), values.max(0), values.std(0)
    for pooling, expected in [
        ("mean", mean),
        ("flatten", mean),
        ("max", top),
        ("mean+max", np.concatenate([mean, top])),
        ("mean+std", np.concatenate([mean, spread_])),
    ]:
        np.testing.assert_allclose(clip_vector(rows, pooling), expected, rtol=1e-5)


def test_rows_count_by_what_they_heard():
    values = np.array([[1.0], [2.0], [9.0]], np.float32)
    rows = Embedding(values, np.array([0.0, 1.0, 1.5]), np.array([1.0, 1.5, 1.5]))
    assert clip_vector(rows) == pytest.approx(4 / 3)
    np.testing.assert_allclose(clip_vector(rows), rows.mean(), rtol=1e-6)
    assert clip_vector(rows, "max") == 2.0  # the last row heard nothing
    assert clip_vector(rows, weighting="rows") == 4.0
    assert clip_vector(rows, "max", weighting="rows") == 9.0
    silent = Embedding(values, np.zeros(3), np.zeros(3))
    assert clip_vector(silent) == 4.0


def test_clips_that_have_no_vector():
    none = Embedding(np.zeros((0, 4), np.float32), np.zeros(0), np.zeros(0))
    one = Embedding(np.zeros((1, 3), np.float32), np.zeros(1), np.ones(1))
    with pytest.raises(DataError, match="without rows"):
        clip_vector(none)
    with pytest.raises(DataError, match="3 values are not two halves"):
        clip_vector(one, "mean+std", pooled=True)
    with pytest.raises(ConfigError, match=r"there are flatten, max, mean"):
        clip_vector(one, "median")
    with pytest.raises(ConfigError, match="time or rows"):
        clip_vector(one, weighting="loudness")


# --- features of every layer


@pytest.fixture
def folder(tmp_path, write_sound):
    for number in range(4):
        write_sound("a.wav", 0.4 + number, 8000, seed=number, folder=tmp_path / f"class {number}")
    return tmp_path


@pytest.mark.parametrize("name", ["soundnet8-test", "yamnet-test", "coala-test"])
def test_all_layers_at_once_are_those_of_each_alone(folder, name):
    sounds = labelled_folder(folder)
    whole = load_model(name)
    layers = list(whole.card.layers)[-3:]
    features, skipped = layer_features(
        sounds, load_model(name, layer=layers, pooling="mean+max"), quiet=True
    )
    assert skipped == {}
    assert list(features) == layers
    for layer, values in features.items():
        assert values.shape == (4, 2 * whole.card.layers[layer])
        assert np.isfinite(values).all()
        mean, top = np.split(values, 2, axis=1)
        assert (mean <= top + 1e-6).all()
        alone, _ = layer_features(
            sounds, load_model(name, layer=layer, pooling="mean+max"), quiet=True
        )
        np.testing.assert_allclose(values, alone[layer], atol=1e-5)


def test_rows_that_layers_share_hold_every_step_of_them(folder):
    sounds = labelled_folder(folder)
    layers = ["conv2", "pool5", "conv6"]
    together, _ = layer_features(
        sounds, load_model("soundnet8-test", layer=layers, pooling="max"), quiet=True
    )
    for layer in layers:
        alone, _ = layer_features(
            sounds, load_model("soundnet8-test", layer=layer, pooling="max"), quiet=True
        )
        np.testing.assert_allclose(together[layer], alone[layer], atol=1e-5)


def test_mean_of_one_layer_is_the_embeddings_mean(folder):
    sounds = labelled_folder(folder)
    embedder = load_model("yamnet-test", layer=["layer3", "embedding"])
    features, _ = layer_features(sounds, embedder, quiet=True)
    for layer, values in features.items():
        for path, row in zip(sounds.paths, values, strict=True):
            alone = load_model("yamnet-test", layer=layer).file(path)
            np.testing.assert_allclose(row, alone.mean(), atol=1e-5)


def test_bad_sounds_are_nan_and_listed(folder):
    bad = folder / "class 1" / "b.wav"
    bad.write_text("no sound")
    sounds = labelled_folder(folder)
    embedder = load_model("yamnet-test", layer=["layer1", "logits"], pooling="mean+std")
    features, skipped = layer_features(sounds, embedder, quiet=True)
    assert list(skipped) == [str(bad)]
    keep = usable(sounds, skipped)
    assert keep.sum() == 4
    for values in features.values():
        assert np.isnan(values[~keep]).all()
        assert np.isfinite(values[keep]).all()


def test_layers_are_spread_evenly():
    layers = [f"layer{number}" for number in range(14)]
    assert spread(layers, 6) == ["layer0", "layer3", "layer5", "layer8", "layer10", "layer13"]
    assert spread(layers[:6], 6) == layers[:6]
    assert spread(layers[:1], 6) == ["layer0"]
