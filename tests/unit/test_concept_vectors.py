"""Concept vectors trained together are those trained alone, and find what was planted."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coala_latent.data.concept_samples import ConceptSampler, RecordingRows, stream_keys
from coala_latent.data.concept_splits import ConceptSplit, original_split, recording_split
from coala_latent.data.concept_tables import concepts_from_lists
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.concepts import ConceptVectors, concept_features
from coala_latent.training.concept_vectors import ConceptSettings, ConceptTraining

SMALL = {"epochs": 12, "steps": 10, "batch_size": 32, "learning_rate": 0.02, "patience": 3}


def planted(concepts=5, recordings=240, dim=12, seed=0, noise=0.7):
    """Rows of recordings, a table, and the direction behind each concept."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, recordings)
    middle = rng.normal(size=(recordings, dim))
    directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0][:concepts]
    names = np.array([f"r{number:03d}" for number in range(recordings)])
    heard = middle @ directions.T + noise * rng.normal(size=(recordings, concepts))
    found = {
        f"concept {place}": names[np.argsort(-heard[:, place])[: 40 + 10 * place]].tolist()
        for place in range(concepts)
    }
    values = np.repeat(middle, counts, axis=0) + 0.2 * rng.normal(size=(counts.sum(), dim))
    rows = RecordingRows(values.astype(np.float32), counts)
    return rows, concepts_from_lists(found, names.tolist()), directions


def run(training):
    while not training.finished:
        training.run_epoch()
    return training


@pytest.fixture(scope="module")
def data():
    return planted()


@pytest.mark.parametrize("protocol", ["recordings", "original"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_together_is_one_by_one(data, protocol, dropout):
    rows, table, _ = data
    split = recording_split(table) if protocol == "recordings" else original_split(table)
    settings = ConceptSettings(**SMALL, dropout=dropout, l1=1e-4, l2=1e-3)
    together = run(ConceptTraining(rows, split, settings))
    weight, bias = together.vectors()
    epochs = together.losses()[1]
    assert len(set(epochs.tolist())) > 1, "all concepts ended alike: the test would not tell"
    for place, name in enumerate(table.concepts):
        alone = run(ConceptTraining(rows, split.only([name]), settings))
        own_weight, own_bias = alone.vectors()
        assert alone.losses()[1][0] == epochs[place]
        assert (own_weight[0, 0] - weight[0, place]).abs().max() < 1e-4
        assert (own_bias[0, 0] - bias[0, place]).abs() < 1e-4


def test_planted_directions_are_found(data):
    rows, table, directions = data
    settings = ConceptSettings(**{**SMALL, "epochs": 30}, standardise=False)
    training = run(ConceptTraining(rows, recording_split(table), settings))
    weight = F.normalize(training.vectors()[0][0], dim=1).numpy()
    assert (np.einsum("cd,cd->c", weight, directions) > 0.8).all()
    assert (training.losses()[0] < np.log(2)).all()


def test_a_step_is_autograds_gradient_and_torchs_adam(data):
    rows, table, _ = data
    split = recording_split(table)
    settings = ConceptSettings(
        epochs=1, steps=3, batch_size=8, dropout=0.0, l1=0.01, l2=0.02, standardise=False, crop=2
    )
    training = run(ConceptTraining(rows, split, settings))
    names = table.concepts
    sampler = ConceptSampler(
        split,
        "train",
        rows,
        concept=np.arange(len(names)),
        keys=stream_keys(names, 0, "samples 0"),
        crop=2,
    )
    vectors = ConceptVectors(names, rows.dim)
    optimizer = torch.optim.Adam(vectors.parameters(), 1e-3, eps=1e-7)
    values, label = torch.from_numpy(rows.values), torch.tensor([1.0] * 4 + [0.0] * 4)
    for step in range(3):
        loss = 0.01 * vectors.weight.abs().sum() + 0.02 * vectors.weight.square().sum()
        drawn = sampler.draw(torch.arange(len(names)), step, 8)
        for place in range(len(names)):
            logits = vectors(values[drawn[place]].mean(1))[:, place]
            loss = loss + F.binary_cross_entropy_with_logits(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = training.vectors()
    assert (found[0][0] - vectors.weight).abs().max() < 1e-6
    assert (found[1][0] - vectors.bias).abs().max() < 1e-6


def test_a_run_goes_on_as_if_it_had_not_ended(data):
    rows, table, _ = data
    split, settings = recording_split(table), ConceptSettings(**SMALL)
    whole = run(ConceptTraining(rows, split, settings, replicas=1))
    first = ConceptTraining(rows, split, settings, replicas=1)
    for _ in range(6):
        first.run_epoch()
    second = ConceptTraining(rows, split, settings, replicas=1)
    second.restore({name: value.clone() for name, value in first.state().items()})
    run(second)
    for one, other in zip(whole.vectors(), second.vectors(), strict=True):
        assert torch.equal(one, other)
    other = ConceptTraining(rows, split.only(table.concepts[:2]), settings, replicas=1)
    with pytest.raises(ConfigError, match="other concepts"):
        other.restore(first.state())


def test_concepts_end_one_by_one_with_their_best_vectors(data):
    rows, table, _ = data
    settings = ConceptSettings(**{**SMALL, "epochs": 200, "learning_rate": 0.1}, plateau=2)
    training = ConceptTraining(rows, recording_split(table), settings)
    active = []
    while not training.finished:
        active.append(training.run_epoch().active)
    assert active[0] == 5
    assert len(set(active)) > 2
    assert training.epoch < 200
    weight, bias = training.vectors()
    # The losses are of the vectors that are given: for values as they are, not as trained on.
    split = recording_split(table)
    losses, _ = training.losses()
    for place in range(5):
        found = []
        for side, sign in ((split.positives, -1), (split.negatives, 1)):
            of_recording = [
                F.softplus(
                    sign
                    * (
                        torch.from_numpy(rows.values[first : first + count]) @ weight[0, place]
                        + bias[0, place]
                    )
                ).mean()
                for first, count in (
                    (rows.first[each], rows.counts[each]) for each in side("validation", place)
                )
            ]
            found.append(torch.stack(of_recording).mean())
        assert abs(float(sum(found)) / 2 - losses[place]) < 1e-5


def test_samples_are_balanced_and_of_the_right_recordings(data):
    rows, table, _ = data
    split = recording_split(table)
    owner = np.repeat(np.arange(len(rows.counts)), rows.counts)
    for found in (split, original_split(table)):
        sampler = ConceptSampler(
            found,
            "train",
            rows,
            concept=np.arange(5),
            keys=stream_keys(table.concepts, 0, "x"),
        )
        drawn = torch.cat([sampler.draw(torch.arange(5), step, 400) for step in range(20)], 1)
        for place in range(5):
            half = drawn[place, :, 0].view(20, 2, 200)
            for side, choose in enumerate((found.positives, found.negatives)):
                recordings = owner[half[:, side].flatten().numpy()]
                allowed = choose("train", place)
                # Every recording is drawn about equally often, and every one of its rows.
                assert set(recordings) == set(allowed)
                counts = np.bincount(recordings)[allowed]
                expected = 4000 / len(allowed)
                assert np.abs(counts - expected).max() < 6 * np.sqrt(expected)
        assert set(drawn.flatten().tolist()) == set(
            np.flatnonzero(np.isin(owner, found.recordings("train"))).tolist()
        )


def test_crops_are_neighbouring_rows_of_one_recording():
    rows = RecordingRows(np.zeros((9, 2), np.float32), np.array([1, 3, 5]))
    table = concepts_from_lists({"x": ["b"]}, ["a", "b", "c"])
    split = ConceptSplit(table, np.zeros(3, np.int64))
    sampler = ConceptSampler(
        split, "train", rows, concept=np.zeros(1, np.int64), keys=np.array([5]), crop=3
    )
    drawn = sampler.draw(torch.zeros(1, dtype=torch.int64), 0, 400)[0]
    assert {tuple(each) for each in drawn[:200].tolist()} == {(1, 2, 3)}
    assert {tuple(each) for each in drawn[200:].tolist()} == {
        (0, 0, 0),
        (4, 5, 6),
        (5, 6, 7),
        (6, 7, 8),
    }


def test_resamples_leave_out_a_third_of_the_recordings(data):
    rows, table, _ = data
    split = recording_split(table)
    sampler = ConceptSampler(
        split,
        "train",
        rows,
        concept=np.array([4, 4]),
        keys=np.array([1, 2]),
        resampled=np.array([0, 77]),
    )
    owner = np.repeat(np.arange(len(rows.counts)), rows.counts)
    drawn = torch.cat([sampler.draw(torch.arange(2), step, 400) for step in range(20)], 1)
    seen = [len(set(owner[each.view(20, 2, 200)[:, 0].flatten().numpy()])) for each in drawn]
    total = len(split.positives("train", 4))
    assert seen[0] == total
    assert 0.5 < seen[1] / total < 0.77


def test_replicas_do_not_change_the_vectors(data):
    rows, table, _ = data
    split, settings = recording_split(table), ConceptSettings(**SMALL)
    plain = run(ConceptTraining(rows, split, settings)).vectors()[0]
    copies = run(ConceptTraining(rows, split, settings, replicas=2)).vectors()[0]
    assert copies.shape == (3, 5, 12)
    assert (plain[0] - copies[0]).abs().max() < 1e-4
    cosine = F.cosine_similarity(copies[0], copies[1:], dim=-1)
    assert (cosine > 0.5).all()
    assert (cosine < 0.9999).all()


def test_threads_do_not_change_the_vectors(data):
    rows, table, _ = data
    split, settings = recording_split(table), ConceptSettings(**{**SMALL, "epochs": 3})
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(run(ConceptTraining(rows, split, settings, replicas=7)).vectors()[0])
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(1)
    assert (found[0] - found[1]).abs().max() < 1e-5


def test_dead_values_have_no_weight_and_scales_do_not_matter(data):
    rows, table, _ = data
    split, settings = recording_split(table), ConceptSettings(**SMALL, dropout=0.0)
    scale = np.logspace(-2, 2, 12).astype(np.float32)
    dead = np.full((len(rows.values), 1), 3, np.float32)
    wide = RecordingRows(np.hstack([rows.values * scale + 5, dead]), rows.counts)
    one = run(ConceptTraining(rows, split, settings)).vectors()
    other = run(ConceptTraining(wide, split, settings)).vectors()
    assert (other[0][..., -1] == 0).all()
    np.testing.assert_allclose(other[0][..., :-1] * torch.from_numpy(scale), one[0], atol=2e-3)


def test_settings_and_data_that_make_no_sense(data):
    rows, table, _ = data
    split = recording_split(table)
    for wrong in (
        {"batch_size": 3},
        {"dropout": 1.0},
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"l1": -1.0},
        {"factor": 0.0},
        {"l2": float("nan")},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ConceptSettings(**wrong)
    with pytest.raises(ConfigError, match="0 concepts"):
        ConceptTraining(rows, split.only([]), ConceptSettings())
    with pytest.raises(DataError, match="NaN"):
        RecordingRows(np.full((1, 2), np.nan, np.float32), np.ones(1, np.int64))
    with pytest.raises(DataError, match="at least one"):
        RecordingRows(np.zeros((1, 2), np.float32), np.array([1, 0]))
    with pytest.raises(DataError, match="has no recordings in the train part"):
        ConceptTraining(rows, ConceptSplit(table, np.full(240, 2)), ConceptSettings())
    few = RecordingRows(rows.values[:3], np.ones(3, np.int64))
    with pytest.raises(DataError, match="rows of 3 recordings"):
        ConceptTraining(few, split, ConceptSettings())


def test_the_module_is_a_linear_layer_with_names():
    vectors = ConceptVectors(["a", "b"], 3)
    vectors.assign_(torch.tensor([[3.0, 0, 4], [0, 0, 0]]), torch.tensor([1.0, -1]))
    assert torch.equal(vectors(torch.ones(2, 5, 3))[0, 0], torch.tensor([8.0, -1]))
    assert torch.allclose(vectors.directions(), torch.tensor([[0.6, 0, 0.8], [0, 0, 0]]))
    assert vectors.take([1, 0]).names == ("b", "a")
    assert torch.equal(vectors.take([1]).bias, torch.tensor([-1.0]))
    assert vectors.index("b") == 1
    with pytest.raises(KeyError, match="no concept 'c'"):
        vectors.index("c")
    with pytest.raises(ConfigError, match="'a' is there twice"):
        ConceptVectors(["a", "b", "a"], 3)
    with pytest.raises(ConfigError, match="values"):
        vectors.assign_(torch.zeros(2, 2), torch.zeros(2))


def test_features_are_means_over_time_band_by_band():
    maps = torch.randn(2, 3, 5, 4)  # channels, time, bands
    found = concept_features(maps)
    assert torch.allclose(found[1, 2 * 3 + 1], maps[1, 1, :, 2].mean())
    assert torch.allclose(concept_features(maps.transpose(2, 3), 3), found)
    assert concept_features(maps[..., 0]).shape == (2, 3)
    assert concept_features(maps[:, :, 0, 0]).shape == (2, 3)
    with pytest.raises(ConfigError):
        concept_features(torch.zeros(3))
