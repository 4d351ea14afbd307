"""Scores, intervals, stability, controls and TCAV of concept vectors."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from coala_latent.analysis.concept_tests import against_controls, concept_scores, vector_stability
from coala_latent.analysis.tcav import tcav_scores, tcav_test
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.concepts import concept_features
from coala_latent.models.layered import Layered


def test_scores_are_those_of_their_definitions(rng):
    logits = rng.normal(size=60).round(1)
    shares, members = rng.random(60), rng.random(60) < 0.3
    found = concept_scores(logits, shares, members)
    right = np.where(members, shares, 1 - shares)
    assert found.accuracy.mean == pytest.approx(right.mean())
    balanced = (right[members].mean() + right[~members].mean()) / 2
    assert found.balanced_accuracy.mean == pytest.approx(balanced)
    assert found.auc.mean == pytest.approx(roc_auc_score(members, logits))
    assert (found.positives, found.negatives) == (members.sum(), (~members).sum())
    for interval in (found.accuracy, found.balanced_accuracy, found.auc):
        assert interval.low < interval.mean < interval.high


def test_intervals_stay_open_where_all_is_right():
    members = np.array([True] * 5 + [False] * 40)
    found = concept_scores(members * 2.0 - 1, members.astype(float), members)
    assert found.balanced_accuracy.mean == found.auc.mean == 1
    assert found.balanced_accuracy.high == found.auc.high == 1
    assert 0.6 < found.balanced_accuracy.low < 0.9
    assert 0.5 < found.auc.low < 0.95
    wrong = concept_scores(1 - members * 2.0, 1.0 - members, members)
    assert wrong.auc.low == wrong.balanced_accuracy.low == 0
    assert wrong.auc.high < 0.5


@pytest.mark.parametrize(("positives", "negatives"), [(8, 60), (25, 25)])
def test_intervals_cover_the_truth_as_often_as_they_say(positives, negatives):
    rng = np.random.default_rng(0)
    members = np.arange(positives + negatives) < positives
    hit = 0.8413447  # of a positive, normal with mean 1
    area = 0.9213504  # of normals whose means differ by 2
    inside = np.zeros(2)
    for _ in range(400):
        logits = rng.normal(size=len(members)) + np.where(members, 1, -1)
        found = concept_scores(logits, (logits > 0).astype(float), members)
        inside += [hit in found.balanced_accuracy, area in found.auc]
    assert (inside / 400 > 0.91).all(), inside / 400


def test_recordings_of_one_group_count_as_what_they_are():
    rng = np.random.default_rng(1)
    right = (rng.random(30) < 0.8).repeat(10).astype(float)
    members = np.tile([True, False], 150)
    groups = np.arange(30).repeat(10)
    shares = np.where(members, right, 1 - right)
    alone = concept_scores(shares - 0.5, shares, members)
    grouped = concept_scores(shares - 0.5, shares, members, groups)
    width = [each.accuracy.high - each.accuracy.low for each in (alone, grouped)]
    assert width[1] > 2.5 * width[0]
    assert grouped.accuracy.n == 30


def test_scores_that_make_no_sense():
    with pytest.raises(DataError, match="both kinds"):
        concept_scores([1.0], [1.0], [True])
    with pytest.raises(DataError, match="NaN"):
        concept_scores([np.nan, 1], [1.0, 1], [True, False])
    with pytest.raises(DataError, match="one of each"):
        concept_scores([1.0, 1], [1.0], [True, False])
    with pytest.raises(ConfigError, match="confidence"):
        concept_scores([1.0, 0], [1.0, 0], [True, False], confidence=1)


def test_stability_is_the_cosine_of_resamples():
    vectors = np.array([[2.0, 0], [1, 1], [0, 0]])
    resamples = np.array([[[3.0, 0], [1, -1], [1, 0]], [[0, 5.0], [2, 2], [1, 0]]])
    found = vector_stability(vectors, resamples)
    np.testing.assert_allclose(found.mean, [0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(found.low, [0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(found.between, [0, 0, 1], atol=1e-12)
    assert np.isnan(vector_stability(vectors, resamples[:1]).between).all()
    with pytest.raises(DataError):
        vector_stability(vectors, resamples[:, :2])


def test_controls_give_ranks_and_correction():
    controls = np.arange(99) / 99
    found = against_controls([2.0, 0.5, 0.0], controls)
    np.testing.assert_allclose(found.p_value, [0.01, 0.5, 1.0], atol=0.01)
    np.testing.assert_allclose(found.adjusted, [0.03, 1, 1], atol=0.01)
    low = against_controls([-1.0], controls, two_sided=True)
    assert low.p_value == pytest.approx(0.01)
    assert against_controls([-1.0], controls).p_value == 1
    many = against_controls(np.zeros((2, 3)), np.ones((2, 9)))
    assert many.p_value.shape == (2, 3)
    with pytest.raises(ConfigError, match="correction"):
        against_controls([1.0], controls, correction="bh")
    with pytest.raises(DataError):
        against_controls(np.zeros((2, 3)), np.ones((3, 9)))
    with pytest.raises(DataError):
        against_controls([1.0], [])


def test_p_values_of_random_values_are_uniform():
    rng = np.random.default_rng(0)
    found = [against_controls(rng.random(1), rng.random(19)).p_value[0] for _ in range(500)]
    assert np.mean(np.array(found) <= 0.05) < 0.08
    assert 0.45 < np.mean(found) < 0.6


class Toy(Layered):
    """A map of 2 channels, 3 steps, 4 bands; two classes, which read it linearly and squared."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(24, 2)

    def steps(self):
        return {"map": lambda x: x}

    def heads(self):
        return {"logits": self._logits}

    def _logits(self, x):
        flat = x.flatten(1)
        return torch.stack([self.linear(flat)[:, 0], self.linear(flat.square())[:, 1]], 1)


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        ("mean", lambda x: x.flatten(2).mean(2)),
        ("time", concept_features),
        ("flatten", lambda x: x.flatten(1)),
    ],
)
def test_derivatives_are_those_along_the_vector(pooling, pool):
    network = Toy().eval().double()
    x = torch.randn(7, 2, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    dim = pool(x).shape[1]
    vectors = torch.randn(5, dim, generator=torch.Generator().manual_seed(2)).double()
    found = tcav_scores(network, x, "map", [1, 0], vectors, pooling=pooling, batch_size=3)
    assert found.score.shape == found.mean.shape == (2, 5)
    # Along the shift of all pooled positions, by differences.
    unit = torch.nn.functional.normalize(vectors, dim=1)
    for place in range(5):
        if pooling == "mean":
            shift = unit[place].view(1, 2, 1, 1).expand_as(x)
        elif pooling == "time":
            shift = unit[place].view(1, 4, 2).transpose(1, 2)[:, :, None].expand_as(x)
        else:
            shift = unit[place].view(1, 2, 3, 4).expand_as(x)
        step = 1e-6
        change = network.resume(x + step * shift, "map")["logits"]
        change = (change - network.resume(x - step * shift, "map")["logits"]) / (2 * step)
        for line, number in enumerate((1, 0)):
            expected = change[:, number].detach().numpy()
            assert found.score[line, place] == (expected > 0).mean()
            assert found.mean[line, place] == pytest.approx(expected.mean(), abs=1e-6)
    # A linear class rises for all inputs or for none.
    assert set(found.score[1]) <= {0.0, 1.0}


def test_tcav_tells_a_used_direction_from_random_ones():
    network = Toy().eval()
    x = torch.randn(40, 2, 3, 4, generator=torch.Generator().manual_seed(1)).abs()
    used = network.linear.weight.detach()[1:]
    random = torch.randn(99, 24, generator=torch.Generator().manual_seed(3))
    scores, controls = (
        tcav_scores(network, x, "map", [1], each, pooling="flatten") for each in (used, random)
    )
    test = tcav_test(scores, controls)
    assert scores.score[0, 0] == 1
    assert test.p_value.shape == (1, 1)
    assert scores.mean[0, 0] > np.abs(controls.mean).max()


def test_what_tcav_cannot_do_is_told():
    network, x = Toy(), torch.zeros(2, 2, 3, 4)
    cases = [
        ({"pooling": "max"}, torch.zeros(1, 2), "max"),
        ({}, torch.zeros(1, 3), "3 values"),
        ({"output": "classes"}, torch.zeros(1, 2), "no output"),
    ]
    for options, vectors, message in cases:
        with pytest.raises(ConfigError, match=message):
            tcav_scores(network, x, "map", [0], vectors, **options)
    with pytest.raises(ConfigError, match="there are 2"):
        tcav_scores(network, x, "map", [2], torch.zeros(1, 2))
    with pytest.raises(DataError, match="at least one"):
        tcav_scores(network, x[:0], "map", [0], torch.zeros(1, 2))
