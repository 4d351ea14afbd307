"""Causal transfer: real flows and projections, and a network that hears known parts of the code."""

import json

import numpy as np
import pytest
import torch

from coala_latent.analysis.transfer import (
    LatentEditor,
    chosen_pairs,
    chosen_triplets,
    transfer_effects,
    triplet_effects,
)
from coala_latent.errors import DataError
from coala_latent.models.flows import FactorFlow, FactorSpec
from coala_latent.models.latent_scaling import (
    LatentProjection,
    PrincipalComponents,
    Standardise,
)

MATERIALS, ACTIONS, TAKES, ROWS = 3, 2, 4, 6
RECORDING = np.repeat(np.arange(MATERIALS * ACTIONS * TAKES), ROWS)
LABELS = np.stack([RECORDING % MATERIALS, RECORDING // MATERIALS % ACTIONS], axis=1)
SPEC = FactorSpec({"residual": 4, "material": 2, "action": 1})
FEATURES = 20
OUTPUTS = {"materials": [0, 1], "Glass": [0], "Rub": [2]}


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    flow = FactorFlow(SPEC, stages=2, hidden=16)
    flow.initialise_(torch.randn(256, SPEC.size))
    return flow.eval()


@pytest.fixture(scope="module")
def projection():
    rng = np.random.default_rng(1)
    components = np.linalg.qr(rng.normal(size=(FEATURES, SPEC.size)))[0].T.astype(np.float32)
    before = Standardise(
        rng.normal(size=FEATURES).astype(np.float32),
        rng.uniform(0.5, 2, FEATURES).astype(np.float32),
    )
    zeros, ones = np.zeros(FEATURES, np.float32), np.full(SPEC.size, 1 / SPEC.size, np.float32)
    principal = PrincipalComponents(zeros, components, ones)
    after = Standardise(np.zeros(SPEC.size, np.float32), np.full(SPEC.size, 1.5, np.float32))
    return LatentProjection(before, principal, after)


def code(strength=2.0, seed=0):
    """Blocks that hold material and action, recordings with levels of their own."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(MATERIALS * ACTIONS * TAKES, SPEC.size))[RECORDING]
    z = 0.3 * z + 0.3 * rng.normal(size=z.shape)
    z[:, 4:6] += strength * np.array([[1, 0], [-0.5, 0.9], [-0.5, -0.9]])[LABELS[:, 0]]
    z[:, 6] += strength * (LABELS[:, 1] - 0.5)
    return torch.as_tensor(z, dtype=torch.float32)


@pytest.fixture(scope="module")
def editor(flow, projection):
    """A network whose logits are the blocks of the factors and a little of the residual."""

    def resume(x):
        z = flow(projection(x))[0]
        return torch.cat([z[:, 4:], 0.2 * z[:, :4]], dim=1)

    return LatentEditor(flow, projection, resume, batch_size=50)


@pytest.fixture(scope="module")
def latents(flow, projection):
    with torch.no_grad():
        x = projection.inverse(flow.inverse(code())[0])
        outside = torch.as_tensor(np.random.default_rng(2).normal(size=x.shape)).float()
        return projection.edit(outside, projection(x))


@pytest.fixture(scope="module")
def report(editor, latents):
    slices = SPEC.slices
    return transfer_effects(
        editor, latents, LABELS, RECORDING, slices, n_pairs=150, outputs=OUTPUTS
    )


# --- pairs and triplets


@pytest.mark.parametrize("factor", [0, 1, None])
def test_pairs_differ_where_they_should_and_come_from_two_recordings(factor):
    donor, receptor = chosen_pairs(LABELS, RECORDING, factor, 240, seed=3)
    assert len(donor) == 240
    unlike = LABELS[donor] != LABELS[receptor]
    wanted = [True, True] if factor is None else [factor == 0, factor == 1]
    assert (unlike == wanted).all()
    assert (RECORDING[donor] != RECORDING[receptor]).all()
    kinds = np.concatenate([LABELS[donor], LABELS[receptor]], axis=1)
    counts = np.unique(kinds, axis=0, return_counts=True)[1]
    assert np.ptp(counts) == 0  # every ordered pair of conditions alike
    again = chosen_pairs(LABELS, RECORDING, factor, 240, seed=3)
    np.testing.assert_array_equal(donor, again[0])
    assert not np.array_equal(donor, chosen_pairs(LABELS, RECORDING, factor, 240, seed=4)[0])


def test_pairs_of_shared_takes_are_never_of_one_take():
    take = RECORDING // (MATERIALS * ACTIONS)
    donor, receptor = chosen_pairs(LABELS, take, 0, 300)
    assert (take[donor] != take[receptor]).all()
    assert len(donor) == 300
    with pytest.raises(DataError, match="factor 0 alone"):
        chosen_pairs(LABELS, np.zeros(len(LABELS)), 0, 10)


def test_fewer_pairs_than_conditions_and_no_pairs_at_all():
    assert len(chosen_pairs(LABELS, RECORDING, 0, 1)[0]) == 1
    one = LABELS.copy()
    one[:, 1] = 0
    with pytest.raises(DataError, match="every factor"):
        chosen_pairs(one, RECORDING, None, 10)
    with pytest.raises(DataError, match="factor 1 alone"):
        chosen_pairs(one, RECORDING, 1, 10)
    with pytest.raises(DataError, match="labels"):
        chosen_pairs(LABELS[:, 0], RECORDING, 0, 10)


def test_triplets_lie_at_both_ends_and_in_the_middle():
    block = code()[:, 4:6].numpy()
    own, between, other = chosen_triplets(block, LABELS, RECORDING, 0, 200)
    assert len(own) > 100
    assert (LABELS[own] == LABELS[between]).all()
    assert (LABELS[own, 1] == LABELS[other, 1]).all()
    assert (LABELS[own, 0] != LABELS[other, 0]).all()
    assert (RECORDING[own] != RECORDING[between]).all()
    towards = {}
    for name, rows in {"own": own, "between": between, "other": other}.items():
        at = []
        for row, p, q in zip(rows, own, other, strict=True):
            start, end = (block[(LABELS[i] == LABELS).all(axis=1)].mean(axis=0) for i in (p, q))
            at.append((block[row] - start) @ (end - start) / ((end - start) @ (end - start)))
        towards[name] = np.mean(at)
    assert abs(towards["own"]) < 0.05 < towards["between"] < towards["other"]
    assert towards["other"] == pytest.approx(1, abs=0.05)
    with pytest.raises(DataError, match="two recordings of a condition"):
        chosen_triplets(block, LABELS, LABELS @ [1, 10], 0, 50)


# --- the way back


def test_the_way_back_keeps_latents_and_changes_the_code_as_asked(editor, latents):
    z = editor.code(latents)
    torch.testing.assert_close(z, code(), atol=2e-4, rtol=1e-4)
    as_they_are, negative = editor.logits(latents)
    assert negative == 0.0
    back, negative = editor.logits(latents, z)
    torch.testing.assert_close(back, as_they_are, atol=1e-4, rtol=1e-4)
    assert negative == pytest.approx(float((latents < 0).float().mean()), abs=1e-3)
    wanted = z.clone()
    wanted[:, 4] += 1
    moved, _ = editor.logits(latents, wanted)
    torch.testing.assert_close(
        moved[:, 0] - as_they_are[:, 0], torch.ones(len(z)).double(), atol=1e-3, rtol=0
    )


def test_batches_do_not_change_the_answer_nor_the_mode(editor, latents):
    flow, projection = editor.flow, editor.projection
    flow.train()
    one = LatentEditor(flow, projection, editor.resume, batch_size=1)
    torch.testing.assert_close(one.code(latents[:7]), editor.code(latents[:7]))
    torch.testing.assert_close(
        one.logits(latents[:7])[0], editor.logits(latents[:7])[0], atol=1e-5, rtol=1e-5
    )
    assert flow.training
    flow.eval()
    assert not one.code(latents[:2]).requires_grad


def test_clamping_is_an_option(flow, projection, latents):
    seen = []

    def resume(x):
        seen.append(float(x.min()))
        return x

    for clamp in (False, True):
        editor = LatentEditor(flow, projection, resume, clamp=clamp)
        _, negative = editor.logits(latents, editor.code(latents))
        assert 0.1 < negative < 0.9
    assert seen[0] < 0
    assert min(seen[len(seen) // 2 :]) == 0.0


def test_a_flow_of_the_latents_themselves_needs_no_projection(flow):
    with torch.no_grad():
        x = flow.inverse(code())[0]
    editor = LatentEditor(flow, None, lambda h: flow(h)[0][:, 4:])
    found = transfer_effects(editor, x, LABELS, RECORDING, SPEC.slices, n_pairs=40)
    assert found.distance["material"]["swap"].mean < found.distance["material"]["before"].mean


def test_logits_that_are_not_finite_are_an_error(flow, projection, latents):
    editor = LatentEditor(flow, projection, lambda x: x * torch.inf)
    with pytest.raises(DataError, match="not finite"):
        editor.logits(latents)


# --- effects


def test_swaps_move_what_is_heard_and_controls_do_not(report):
    assert list(report.n) == ["material", "action", "all"]
    assert report.n["material"] == 150
    for condition in ("material", "action", "all"):
        distance, tests = report.distance[condition], report.tests[condition]
        assert distance["swap"].mean < 0.5 * distance["before"].mean
        assert distance["class_mean"].mean < distance["before"].mean
        assert distance["no_edit"].mean == pytest.approx(distance["before"].mean, abs=1e-3)
        assert abs(distance["residual"].mean / distance["before"].mean - 1) < 0.2
        assert report.no_edit_error[condition] < 1e-3
        for contrast in ("before - swap", "no_edit - swap", "residual - swap"):
            assert tests[contrast].p_corrected < 0.05
            assert tests[contrast].difference.low > 0
            assert tests[contrast].rank_biserial.mean > 0.9
        assert tests["own_class - other_class"].difference.mean > 0.5
    assert report.tests["material"]["own_class - other_class"].p_value < 0.05
    family = {test.family for tests in report.tests.values() for test in tests.values()}
    assert family == {sum(len(tests) for tests in report.tests.values())}


def test_named_outputs_move_for_their_own_factor(report):
    glass = report.changes["material"]["Glass"]
    assert glass["0"].mean > 1 > 0 > glass["1"].mean
    assert abs(report.changes["material"]["Rub"]["0"].mean) < 0.01
    assert report.changes["action"]["Rub"]["1"].mean > 1
    assert "all" not in report.changes
    assert report.tests["material"]["before - swap, materials"].difference.mean > 1
    assert abs(report.tests["action"]["before - swap, materials"].difference.mean) < 0.01


def test_interpolation_goes_all_the_way(report):
    for condition in report.n:
        curve = report.interpolation[condition]
        assert list(curve) == ["0", "0.25", "0.5", "0.75", "1"]
        means = [interval.mean for interval in curve.values()]
        assert means == sorted(means, reverse=True)
        assert means[0] == report.distance[condition]["no_edit"].mean
        assert means[-1] == report.distance[condition]["swap"].mean


def test_reports_are_plain_and_repeatable(report, editor, latents):
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["clamped"] is False
    again = transfer_effects(
        editor, latents, LABELS, RECORDING, SPEC.slices, n_pairs=150, outputs=OUTPUTS
    )
    assert again.to_dict() == report.to_dict()


def test_one_recording_a_condition_leaves_out_controls_that_need_more(editor, latents):
    once = RECORDING < MATERIALS * ACTIONS
    found = transfer_effects(
        editor, latents[once], LABELS[once], RECORDING[once], SPEC.slices, n_pairs=30
    )
    assert "own_class" not in found.distance["all"]
    assert "before - swap" in found.tests["all"]
    with pytest.raises(DataError, match="rows need labels"):
        transfer_effects(editor, latents[once], LABELS, RECORDING, SPEC.slices)


def test_triplets_move_to_their_own_end_and_to_the_other(editor, latents):
    found = triplet_effects(editor, latents, LABELS, RECORDING, SPEC.slices, n_triplets=100)
    for factor in ("material", "action"):
        distance = found.distance[factor]
        assert distance["to_own"].mean < distance["between"].mean < distance["to_other"].mean
        assert found.tests[factor]["between - to_other"].difference.mean < 0
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_shuffled_labels_of_recordings_show_no_class(flow):
    conditions = LABELS[::ROWS]
    spec = {"residual": slice(0, 4), "material": slice(4, 6)}
    significant, nearer = 0, 0
    for seed in range(40):
        with torch.no_grad():
            x = flow.inverse(code(strength=0.0, seed=seed))[0]
        editor = LatentEditor(flow, None, lambda h: flow(h)[0][:, 2:])
        shuffled = np.random.default_rng(seed).permutation(conditions)[RECORDING][:, :1]
        tests = transfer_effects(
            editor, x, shuffled, RECORDING, spec, n_pairs=60, weights=(), seed=seed
        ).tests["material"]
        significant += tests["own_class - other_class"].p_value < 0.05
        nearer += tests["before - swap"].p_value < 0.05
    assert significant <= 6
    assert nearer > 20  # a donor's values bring one nearer to it, whatever they stand for
