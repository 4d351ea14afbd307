"""Measures of factor codes: against closed forms, and on codes that hold factors or do not."""

import json
import time

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_classif

from coala_latent.analysis.exploration import factor_folds
from coala_latent.analysis.factor_measures import (
    dci_scores,
    eta_squared,
    factor_report,
    mutual_information,
    round_trip_error,
    suggest_dimensions,
)
from coala_latent.errors import ConfigError, DataError

SLICES = {"residual": slice(0, 4), "material": slice(4, 6), "action": slice(6, 7)}


def coded(n=600, takes=4, noise=0.2, seed=0):
    """A code whose blocks hold 3 materials and 2 actions; recordings have levels of their own."""
    rng = np.random.default_rng(seed)
    recording = np.arange(n) % (6 * takes)
    condition = recording % 6
    labels = np.stack([condition % 3, condition // 3], axis=1)
    z = rng.normal(size=(n, 7)) + rng.normal(size=(6 * takes, 7))[recording]
    z[:, 4:6] = np.eye(3)[labels[:, 0]][:, :2] * 3 + noise * rng.normal(size=(n, 2))
    z[:, 6] = labels[:, 1] * 2 + noise * rng.normal(size=n)
    return z, labels, recording


def test_eta_squared_is_between_over_total():
    z, labels, recording = coded()
    found = eta_squared(z, labels[:, 0], SLICES, recording)
    for name, where in SLICES.items():
        part = z[:, where]
        means = np.stack([part[labels[:, 0] == c].mean(axis=0) for c in range(3)])
        between = ((means[labels[:, 0]] - part.mean(axis=0)) ** 2).sum()
        assert found[name].mean == pytest.approx(between / ((part - part.mean(axis=0)) ** 2).sum())
        assert found[name].low <= found[name].mean <= found[name].high
        assert found[name].n == 24
    assert found["material"].mean > 0.9
    assert found["action"].mean < 0.02


def test_eta_squared_does_not_depend_on_offset_scale_or_names_of_classes():
    z, labels, recording = coded()
    names = np.array(["wood, dry", "métal", "x=1"])[labels[:, 0]]
    one = eta_squared(z, labels[:, 0], SLICES, recording)
    other = eta_squared(1e4 + 7 * z, names, SLICES, recording.astype(str), seed=0)
    for name in SLICES:
        assert other[name].mean == pytest.approx(one[name].mean, abs=1e-7)


def test_recordings_widen_the_interval():
    z, labels, recording = coded()
    whole = eta_squared(z, labels[:, 0], SLICES, recording)["residual"]
    rows = eta_squared(z, labels[:, 0], SLICES, np.arange(len(z)))["residual"]
    assert whole.high - whole.low > 2 * (rows.high - rows.low)


def test_eta_squared_of_nothing_is_nothing():
    z = np.ones((6, 3))
    slices = {"a": slice(0, 3), "empty": slice(3, 3)}
    found = eta_squared(z, [0, 0, 1, 1, 2, 2], slices, np.arange(6))
    assert [found[name].mean for name in slices] == [0.0, 0.0]
    one = eta_squared(np.arange(6.0)[:, None], [0, 0, 0, 1, 1, 1], {"a": slice(0, 1)}, np.zeros(6))
    assert not one["a"].bounded
    assert one["a"].mean == pytest.approx(1 - 4 / 17.5)


def test_information_of_separate_classes_is_their_entropy_and_of_noise_nothing():
    rng = np.random.default_rng(0)
    y, group = np.arange(900) % 3, np.arange(900) % 30
    held = y[:, None] * 10 + rng.normal(size=(900, 1))
    noise = rng.normal(size=(900, 2))
    found = mutual_information([noise, held], y, group)
    assert found.top == 1
    assert found.shares[1] == pytest.approx(1.0, abs=0.02)
    assert found.shares[0] < 0.05
    assert found.gap.mean == pytest.approx(found.shares[1] - found.shares[0])
    assert found.gap.low > 0.8
    twice = mutual_information([held, held], y, group)
    assert twice.gap.mean == 0.0


def test_information_of_overlapping_classes_is_scikit_learns():
    rng = np.random.default_rng(0)
    y = np.arange(1000) % 2
    x = (2.0 * y + rng.normal(size=1000))[:, None]
    expected = mutual_info_classif(x, y, n_neighbors=3, random_state=0)[0] / np.log(2)
    assert mutual_information([x], y, np.arange(1000)).shares[0] == pytest.approx(
        expected, abs=0.005
    )


def test_recordings_that_only_know_themselves_are_not_informative():
    rng = np.random.default_rng(0)
    recording = np.arange(800) % 16
    y = recording % 2
    own = 20 * rng.normal(size=(16, 3))[recording] + rng.normal(size=(800, 3))
    assert mutual_information([own], y, recording).shares[0] < 0.3
    assert mutual_information([own], y, np.arange(800)).shares[0] > 0.8


def test_dci_of_a_permutation_is_one_and_of_even_use_nothing():
    perfect = dci_scores([[0, 1], [1, 0], [0, 0]])
    assert perfect == pytest.approx({"disentanglement": 1.0, "completeness": 1.0})
    even = dci_scores(np.ones((4, 3)))
    assert even == pytest.approx({"disentanglement": 0.0, "completeness": 0.0})
    spread = dci_scores([[1, 0], [1, 0], [0, 1], [0, 1]])
    assert spread == pytest.approx({"disentanglement": 1.0, "completeness": 0.5})
    assert dci_scores(np.zeros((3, 2))) == {"disentanglement": 0.0, "completeness": 0.0}
    assert dci_scores([[1.0], [0.0]]) == {"disentanglement": 1.0, "completeness": 1.0}


@pytest.mark.parametrize("form", ["iin", "gyoza"])
def test_block_sizes_are_those_of_all_pairs(form):
    z, labels, _ = coded(60)
    scores = [1.0 if form == "iin" else 7.0]
    for column in labels.T:
        a, b = np.nonzero((column[:, None] == column) & ~np.eye(60, dtype=bool))
        covariance = [np.cov(z[a, d], z[b, d], ddof=0) for d in range(7)]
        if form == "iin":
            scores.append(sum(c[0, 1] for c in covariance) / sum(c[0, 0] for c in covariance))
        else:
            scores.append(sum(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in covariance))
    shares = np.exp(scores) / np.exp(scores).sum()
    factors = np.maximum(1, np.floor(40 * shares[1:]).astype(int)).tolist()
    assert suggest_dimensions(z, labels, 40, form) == [40 - sum(factors), *factors]


def test_block_sizes_at_the_edge():
    z, labels, _ = coded(60)
    assert suggest_dimensions(z, labels, 3) == [1, 1, 1]
    assert sum(suggest_dimensions(z, labels, 64)) == 64
    with pytest.raises(ConfigError, match="total=2 > 2"):
        suggest_dimensions(z, labels, 2)
    with pytest.raises(ConfigError, match="form='other'"):
        suggest_dimensions(z, labels, 8, "other")
    with pytest.raises(DataError, match="no two rows share a class"):
        suggest_dimensions(z[:3], np.arange(3)[:, None], 8)


def test_round_trip_error():
    assert round_trip_error([[1.0, -4.0]], [[1.5, -4.0]]) == pytest.approx(
        {"max": 0.5, "mean": 0.25, "relative": 0.125}
    )
    for back in ([[1.0]], [[1.0, np.nan]]):
        with pytest.raises(DataError, match="round trip"):
            round_trip_error([[1.0, -4.0]], back)


def test_report_tells_a_good_code_from_a_rotated_one():
    z, labels, recording = coded()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    scaled = (z - z.mean(axis=0)) / z.std(axis=0)
    good = factor_report(
        scaled, labels, SLICES, recording, x=scaled @ turn, inverse=lambda c: c @ turn, max_rows=300
    )
    bad = factor_report(scaled @ turn, labels, SLICES, recording, max_rows=300)
    for k, factor in enumerate(("material", "action")):
        assert good.eta_squared[factor][factor].mean > 0.85
        assert good.eta_squared[("action", "material")[k]][factor].mean < 0.02
        assert list(SLICES)[good.information[factor].top] == factor
        assert good.information[factor].gap.low > 0.4
        assert good.informativeness[factor].mean > 0.95
        swap = good.swaps[factor].intervals
        assert swap["consistent"].mean > 0.9
        assert swap["inconsistent"].mean < good.chance[factor] + 0.15
    action = good.information_dims["action"]
    assert action.top == 6
    assert action.gap.low > 0.5 > bad.information_dims["action"].gap.mean
    assert good.dci["blocks"]["disentanglement"] > 0.8 > bad.dci["blocks"]["disentanglement"]
    assert good.dci["dims"]["disentanglement"] > bad.dci["dims"]["disentanglement"]
    assert good.round_trip["max"] < 1e-12
    assert bad.swaps == bad.round_trip == {}
    assert good.dims == {"residual": 4, "material": 2, "action": 1}
    assert good.importance.shape == (7, 2)
    assert good.importance[:, 0].argmax() in (4, 5)
    assert good.importance[:, 1].argmax() == 6
    values = json.loads(json.dumps(good.to_dict(), allow_nan=False))
    assert values["eta_squared"]["residual"]["action"]["n"] == 24
    again = factor_report(scaled @ turn, labels, SLICES, recording, max_rows=300)
    assert again.to_dict() == bad.to_dict()


def test_shuffled_labels_of_recordings_leave_nothing():
    z, labels, recording = coded(takes=10)
    shuffled = labels[np.random.default_rng(3).permutation(60)][recording]
    report = factor_report(z, shuffled, SLICES, recording, max_rows=300)
    for factor in ("material", "action"):
        assert report.eta_squared[factor][factor].mean < 0.15
        assert report.information[factor].gap.mean < 0.15
        assert report.informativeness[factor].mean < report.chance[factor] + 0.15


def test_what_cannot_be_measured_is_said():
    z, labels, recording = coded(120)
    with pytest.raises(DataError, match="row 3 is not finite"):
        factor_report(np.where(np.arange(120)[:, None] == 3, np.nan, z), labels, SLICES, recording)
    with pytest.raises(DataError, match="residual and 1 factors"):
        factor_report(z, labels[:, :1], SLICES, recording)
    with pytest.raises(DataError, match="groups for 120 rows"):
        factor_report(z, labels, SLICES, recording[:-1])
    with pytest.raises(DataError, match="only one class"):
        mutual_information([z], np.zeros(120), recording)
    with pytest.raises(DataError, match="too few others of their class in other groups"):
        mutual_information([z], recording % 2, recording % 2)
    with pytest.raises(DataError, match="1 group"):
        factor_report(z, labels, SLICES, labels[:, 0])
    folds = {
        name: factor_folds(labels[:, k], recording) for k, name in enumerate(["material", "action"])
    }
    assert factor_report(z, labels, SLICES, recording, folds=folds, max_rows=60).n == 120


def test_eta_squared_of_ten_thousand_rows_takes_less_than_a_second():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(10_000, 64)), rng.integers(0, 5, 10_000)
    began = time.process_time()
    eta_squared(z, y, {"a": slice(0, 40), "b": slice(40, 64)}, np.arange(10_000) % 60)
    assert time.process_time() - began < 1.0
