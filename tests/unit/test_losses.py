"""Losses: values, extremes, half precision, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import ConfigError
from coala_latent.training.losses import (
    AlignmentLoss,
    ContrastiveLoss,
    OriginalAlignment,
    SigmoidAlignment,
    generalised_kl,
    nt_xent_original,
    tag_bce,
    tag_overlap,
)

TAGS = torch.eye(6)


def rows(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 8, generator=generator), torch.randn(6, 8, generator=generator)
    if kind == "zero":
        return torch.zeros_like(a), torch.zeros_like(b)
    if kind == "one zero row":
        a[2] = 0
    if kind == "tiny":
        return a * 1e-12, b * 1e-12
    if kind == "huge":
        return a * 1e12, b * 1e12
    if kind == "equal":
        return torch.ones_like(a), torch.ones_like(b)
    if kind == "opposite":
        return a, -a
    return a, b


LOSSES: dict[str, nn.Module] = {
    "original": OriginalAlignment(0.01),
    "stable": AlignmentLoss(0.01, learnable=False),
    "learnable": AlignmentLoss(0.01),
    "across": AlignmentLoss(0.01, same_modality=False),
    "pair": AlignmentLoss(0.01, positives="pair"),
    "shared": AlignmentLoss(0.01, positives="shared_tags"),
    "sigmoid": SigmoidAlignment(0.01),
    "sigmoid, fixed": SigmoidAlignment(0.01, learnable=False, positives="pair"),
}
KINDS = ["random", "zero", "one zero row", "tiny", "huge", "equal", "opposite"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LOSSES)
def test_alignment_is_finite_at_low_temperature(name: str, kind: str, dtype: torch.dtype) -> None:
    a, b = (side.to(dtype).requires_grad_() for side in rows(kind))
    module = LOSSES[name]
    loss = module(a, b, TAGS)
    loss.backward()
    assert torch.isfinite(loss)
    for side in (a, b, *module.parameters()):
        assert side.grad is not None
        assert torch.isfinite(side.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing(name: str) -> None:
    a, b = rows("random")
    plain = LOSSES[name](a, b, TAGS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = LOSSES[name](a, b, TAGS)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


@pytest.mark.parametrize("same_modality", [True, False])
@pytest.mark.parametrize("positives", ["pair", "same_tags", "shared_tags", "sigmoid"])
def test_gradients_are_those_of_finite_differences(positives: str, same_modality: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (
        torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    )
    tags = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]).float()
    loss: ContrastiveLoss
    if positives == "sigmoid":
        loss = SigmoidAlignment(0.3, bias=-0.5, positives="shared_tags").double()
    else:
        loss = AlignmentLoss(0.3, True, same_modality, positives).double()  # type: ignore[arg-type]
    given = [a, b, *loss.parameters()]
    assert torch.autograd.gradcheck(lambda x, y, *_: loss(x, y, tags), given)


def test_the_originals_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    a, b = (
        torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    )
    assert torch.autograd.gradcheck(lambda x, y: nt_xent_original(x, y, 0.3), (a, b))


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_a_batch_does_not_matter(name: str) -> None:
    a, b = rows("random")
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    tags = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0], [1, 1]]).float()
    found = LOSSES[name](a[order], b[order], tags[order])
    assert found.item() == pytest.approx(LOSSES[name](a, b, tags).item(), rel=1e-5)


def test_a_batch_of_one_has_nothing_to_tell_apart() -> None:
    a, b = torch.ones(1, 4, requires_grad=True), torch.ones(1, 4)
    for positives in ("pair", "same_tags", "shared_tags"):
        for same in (True, False):
            loss = AlignmentLoss(0.1, same_modality=same, positives=positives)
            assert loss(a, b, torch.ones(1, 3)).item() == pytest.approx(0.0, abs=1e-6)
    sigmoid = SigmoidAlignment(0.5, bias=-1.0)
    wanted = math.log1p(math.exp(-(1 / 0.5 - 1.0)))
    assert sigmoid(a, b, torch.zeros(1, 3)).item() == pytest.approx(wanted, rel=1e-5)


def test_high_and_low_temperatures_reach_their_limits() -> None:
    a, b = rows("random")
    uniform = AlignmentLoss(1e6, positives="pair")(a, b, TAGS)
    assert uniform.item() == pytest.approx(math.log(11), abs=1e-4)
    across = AlignmentLoss(1e6, same_modality=False, positives="pair")(a, b, TAGS)
    assert across.item() == pytest.approx(math.log(6), abs=1e-4)
    aligned = AlignmentLoss(0.01, positives="pair")(TAGS, TAGS, TAGS)
    assert aligned.item() == pytest.approx(0.0, abs=1e-6)


def test_overlap_of_worked_examples() -> None:
    tags = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(tag_overlap(tags, "pair"), torch.eye(5))
    same = [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]
    assert tag_overlap(tags.to(torch.int16), "same_tags").tolist() == same
    shared = torch.tensor(same).float()
    shared[:2, 2] = shared[2, :2] = 1 / 4
    torch.testing.assert_close(tag_overlap(tags.double(), "shared_tags"), shared)


def test_without_common_tags_all_kinds_of_positives_agree() -> None:
    a, b = rows("random")
    for make in (AlignmentLoss, SigmoidAlignment):
        found = [
            make(0.1, positives=kind)(a, b, TAGS) for kind in ("pair", "same_tags", "shared_tags")
        ]
        assert torch.allclose(torch.stack(found), found[0])


def test_shared_tags_are_soft_targets() -> None:
    a, b = rows("random")
    tags = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [0, 1], [1, 0]]).float()
    overlap = tag_overlap(tags, "shared_tags")
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.2
    share = overlap / overlap.sum(1, keepdim=True)
    wanted = (F.cross_entropy(logits, share) + F.cross_entropy(logits.T, share)) / 2
    loss = AlignmentLoss(0.2, same_modality=False, positives="shared_tags")
    assert loss(a, b, tags).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_items_that_share_a_tag_are_not_pushed_apart_within_their_modality() -> None:
    tags = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    b = torch.ones(2, 2)
    gradients = []
    for same in (True, False):
        AlignmentLoss(0.2, same_modality=same, positives="shared_tags")(a, b, tags).backward()
        assert a.grad is not None
        gradients.append(a.grad.clone())
        a.grad = None
    torch.testing.assert_close(*gradients)


def test_the_sigmoid_form_is_siglips() -> None:
    a, b = rows("random")
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T * 10 - 10
    sign = 2 * torch.eye(6) - 1
    wanted = -F.logsigmoid(sign * logits).sum() / 6
    assert SigmoidAlignment(positives="pair")(a, b, TAGS).item() == pytest.approx(wanted.item())


def test_the_sigmoid_form_learns_temperature_and_bias() -> None:
    loss = SigmoidAlignment()
    assert {name for name, _ in loss.named_parameters()} == {"log_temperature", "bias"}
    loss(*rows("random"), TAGS).backward()
    assert all(p.grad is not None and p.grad.abs() > 0 for p in loss.parameters())
    fixed = SigmoidAlignment(learnable=False)
    assert not list(fixed.parameters())
    assert set(fixed.state_dict()) == {"log_temperature", "bias"}
    with pytest.raises(ConfigError, match="bias"):
        SigmoidAlignment(bias=math.nan)


def test_stable_form_is_cross_entropy_over_the_other_rows() -> None:
    a, b = rows("random")
    unit = F.normalize(torch.cat([a, b]), dim=1)
    logits = (unit @ unit.T / 0.2).fill_diagonal_(-math.inf)
    expected = F.cross_entropy(logits, torch.arange(12).roll(6))
    loss = AlignmentLoss(0.2, positives="pair")
    assert loss(a, b, TAGS).item() == pytest.approx(expected.item(), abs=1e-6)


def test_stable_form_without_same_modality_is_clips_form() -> None:
    a, b = rows("random")
    logits = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / 0.2
    target = torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    loss = AlignmentLoss(0.2, same_modality=False, positives="pair")
    assert loss(a, b, TAGS).item() == pytest.approx(expected.item(), abs=1e-6)


def test_original_and_stable_forms_agree_where_the_epsilon_is_small() -> None:
    a, b = rows("random")
    stable = AlignmentLoss(1.0, positives="pair")(a, b, TAGS)
    assert nt_xent_original(a, b, 1.0).item() == pytest.approx(stable.item(), abs=1e-3)


def test_uninformed_value_and_ceiling_of_the_original() -> None:
    ones = torch.ones(128, 4)
    assert nt_xent_original(ones, ones, 0.1).item() == pytest.approx(math.log(255), abs=1e-2)
    a = torch.eye(4)
    assert nt_xent_original(a, -a, 0.01).item() == pytest.approx(-math.log(1e-5), rel=1e-3)


def test_items_with_the_same_tags_are_no_negatives() -> None:
    tags = torch.eye(3).repeat(2, 1)
    b = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).repeat(2, 1)
    aligned = b.clone()
    shared = AlignmentLoss(0.05, positives="same_tags")(aligned, b, tags)
    pair = AlignmentLoss(0.05, positives="pair")(aligned, b, tags)
    # Perfectly aligned classes: what is left is the choice between equals.
    assert shared.item() == pytest.approx(math.log(2), abs=1e-3)
    assert pair.item() > shared.item() + 0.3


def test_without_repeated_tags_both_kinds_of_positives_agree() -> None:
    a, b = rows("random")
    pair, same = (AlignmentLoss(0.1, positives=kind) for kind in ("pair", "same_tags"))
    assert torch.allclose(pair(a, b, TAGS), same(a, b, TAGS))


def test_temperature_is_learned_and_kept_above_its_minimum() -> None:
    loss = AlignmentLoss(0.1)
    loss(*rows("random"), TAGS).backward()
    assert loss.log_temperature.grad is not None
    assert loss.log_temperature.grad.abs() > 0
    with torch.no_grad():
        loss.log_temperature.fill_(-20.0)
    assert loss.temperature.item() == pytest.approx(0.01)
    assert not list(AlignmentLoss(0.1, learnable=False).parameters())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_impossible_temperatures_are_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        AlignmentLoss(temperature)
    with pytest.raises(ConfigError, match="temperature"):
        OriginalAlignment(temperature)


def test_unknown_positives_are_refused() -> None:
    with pytest.raises(ConfigError, match="same_tags"):
        AlignmentLoss(positives="all")  # type: ignore[arg-type]


def test_bce_with_logits_equals_bce_of_probabilities() -> None:
    logits = torch.linspace(-4, 4, 12).reshape(3, 4)
    targets = (torch.arange(12).reshape(3, 4) % 3 == 0).float()
    expected = F.binary_cross_entropy(torch.sigmoid(logits), targets)
    assert tag_bce(logits, targets).item() == pytest.approx(expected.item(), abs=1e-6)


def test_bce_is_finite_where_probabilities_saturate() -> None:
    logits = torch.tensor([[1e4, -1e4]], dtype=torch.bfloat16, requires_grad=True)
    loss = tag_bce(logits, torch.tensor([[0, 1]], dtype=torch.int16))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_generalised_kl_is_zero_only_for_equal_patches_and_finite_at_zero() -> None:
    x = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    assert generalised_kl(x, x).item() == pytest.approx(0, abs=1e-6)
    assert generalised_kl(x.flip(-1), x).item() > 0
    zero = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16, requires_grad=True)
    loss = generalised_kl(zero, torch.ones(1, 1, 3, 3))
    loss.backward()
    assert zero.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(zero.grad).all()
    assert generalised_kl(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0


def test_generalised_kl_sums_over_time_and_averages_the_rest() -> None:
    x, y = torch.full((2, 1, 3, 4), 0.4), torch.full((2, 1, 3, 4), 0.5)
    assert generalised_kl(y.repeat(1, 1, 1, 2), x.repeat(1, 1, 1, 2)).item() == pytest.approx(
        2 * generalised_kl(y, x).item(), rel=1e-5
    )
    assert generalised_kl(y.repeat(3, 1, 2, 1), x.repeat(3, 1, 2, 1)).item() == pytest.approx(
        generalised_kl(y, x).item(), rel=1e-5
    )
