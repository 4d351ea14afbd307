"""Factor specifications, operators on blocks, and what a flow is made of."""

from __future__ import annotations

import copy
import io
import json

import pytest
import torch
from nflows.transforms.lu import LULinear
from nflows.transforms.orthogonal import HouseholderSequence
from nflows.transforms.permutations import Permutation

from coala_latent.errors import ConfigError, DataError
from coala_latent.models.flow_stages import (
    ActNorm,
    AffineCoupling,
    Conditioner,
    Halves,
    Householder,
    LUMixing,
    SplineCoupling,
    make_coupling,
)
from coala_latent.models.flows import FactorFlow, FactorSpec

SPEC = FactorSpec({"residual": 3, 'Größe, = "x"': 2, "action": 1})
FIRST, SECOND = SPEC.factors


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_blocks_lie_one_behind_the_other():
    assert SPEC.names == ("residual", FIRST, SECOND)
    assert SPEC.size == 6
    assert SPEC.slices == {"residual": slice(0, 3), FIRST: slice(3, 5), SECOND: slice(5, 6)}
    assert SPEC.mask.dtype == torch.bool
    assert SPEC.mask.int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_a_specification_survives_json_with_sorted_keys():
    text = json.dumps(SPEC.to_dict(), sort_keys=True)
    again = FactorSpec.from_dict(json.loads(text))
    assert again == SPEC
    assert hash(again) == hash(SPEC)
    assert again.names == SPEC.names
    assert copy.deepcopy(SPEC) == SPEC


def test_a_specification_does_not_follow_the_mapping_it_was_made_from():
    dims = {"residual": 1, "a": 1}
    spec = FactorSpec(dims)
    dims["b"] = 5
    assert spec.size == 2


@pytest.mark.parametrize(
    "dims",
    [
        {},
        {"residual": 2},
        {"material": 1, "residual": 2},
        {"residual": 2, "material": 0},
        {"residual": 0, "material": 1},
        {"residual": 2, "material": -1},
        {"residual": 2, "material": 1.0},
        {"residual": 2, "material": True},
        {"residual": 2, "": 1},
        {"residual": 2, 3: 1},
    ],
)
def test_senseless_blocks_are_refused(dims):
    with pytest.raises(ConfigError):
        FactorSpec(dims)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"blocks": 3},
        {"blocks": [{"name": "residual"}]},
        {"blocks": [["residual", 1], ["a", 1]]},
        {"blocks": [{"name": "residual", "dims": 1}, *[{"name": "a", "dims": 1}] * 2]},
    ],
)
def test_what_is_no_specification_is_refused(values):
    with pytest.raises(ConfigError):
        FactorSpec.from_dict(values)


def test_blocks_are_swapped_row_by_row_and_nothing_else():
    z, donor = torch.arange(12.0).view(2, 6), -torch.arange(12.0).view(2, 6) - 1
    before = z.clone()
    edited = SPEC.swap(z, donor, [SECOND, "residual"])
    assert torch.equal(z, before)
    assert torch.equal(edited[:, 3:5], z[:, 3:5])
    assert torch.equal(edited[:, :3], donor[:, :3])
    assert torch.equal(edited[:, 5:], donor[:, 5:])
    assert torch.equal(SPEC.swap(z, donor, []), z)
    assert {name: tuple(block.shape) for name, block in SPEC.split(edited).items()} == {
        "residual": (2, 3),
        FIRST: (2, 2),
        SECOND: (2, 1),
    }
    with pytest.raises(DataError):
        SPEC.swap(z, donor[:1], [SECOND])
    with pytest.raises(KeyError, match="no block"):
        SPEC.swap(z, donor, ["colour"])
    with pytest.raises(DataError, match=r"\(n, 6\)"):
        SPEC.swap(z[:, :5], donor[:, :5], [SECOND])


@pytest.mark.parametrize(
    "value", [7.0, torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double()]
)
def test_a_block_is_set_to_one_value_for_all_or_one_a_row(value):
    z = torch.zeros(2, 6)
    edited = SPEC.set_value(z, FIRST, value)
    expected = torch.as_tensor(value).float().expand(2, 2)
    assert torch.equal(edited[:, 3:5], expected)
    assert edited[:, :3].any() == edited[:, 5:].any() == z.any()


def test_interpolation_goes_along_one_block():
    z, other = torch.zeros(3, 6), torch.ones(3, 6)
    weights = torch.tensor([0.0, 0.25, 2.0])
    edited = SPEC.interpolate(z, other, FIRST, weights)
    assert torch.equal(edited[:, 3], weights)
    assert torch.equal(edited[:, 4], weights)
    assert not edited[:, [0, 1, 2, 5]].any()
    assert torch.equal(SPEC.interpolate(z, other, FIRST, 1), SPEC.swap(z, other, [FIRST]))


def test_a_seed_decides_everything_and_the_global_one_nothing():
    torch.manual_seed(1)
    left = FactorFlow(SPEC, seed=5).state_dict()
    untouched = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(untouched, torch.rand(1))
    right, other = FactorFlow(SPEC, seed=5).state_dict(), FactorFlow(SPEC, seed=6).state_dict()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name
    changed = {name.split(".", 2)[2] for name in left if not torch.equal(left[name], other[name])}
    assert {"shuffle._permutation", "mixing.q_vectors"} <= changed
    assert {f"first.transform_net.layers.{layer}.weight" for layer in (0, 2, 4, 6)} <= changed


def test_a_flow_has_the_originals_size():
    """33 920 parameters a stage in the original, whose networks see zeros for the other half."""
    flow = FactorFlow(FactorSpec({"residual": 62, "material": 1, "action": 1}), stages=1)
    unseen = 2 * (32 * 64 + 64 * 32 + 32)
    assert sum(p.numel() for p in flow.parameters()) == 33_920 - unseen


def test_coupling_halves_is_the_originals_alternation_behind_a_shuffle():
    """Even dimensions by odd ones, neighbours swapped, the same again, and swapped back."""
    flow, size = FactorFlow(SPEC, stages=1), SPEC.size
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=seeded())
    stage = flow.stages[0]
    x = torch.randn(4, size, generator=seeded(1))
    halves, _ = stage.first(x)
    halves, _ = stage.second(halves)

    place = torch.arange(size).view(2, -1).T.flatten()
    kept_is_odd = torch.arange(size).view(-1, 2).flip(1).flatten()
    swap = Permutation(kept_is_odd)
    alternating = x[:, place[kept_is_odd]]
    for net in (stage.first.transform_net, stage.second.transform_net):
        shift = torch.zeros_like(alternating)
        shift[:, 0::2] = net(alternating[:, 1::2])
        alternating, _ = swap(alternating + shift)
    assert torch.allclose(alternating, halves[:, place[kept_is_odd]], atol=1e-6)


def test_actnorm_is_set_by_the_first_training_batch_alone():
    norm, x = ActNorm(3), torch.randn(50, 3, generator=seeded()) * 7 + 4
    assert torch.equal(norm.eval()(x)[0], x)
    norm.train()(x[:0])
    assert not norm.initialized
    z, log_det = norm(x)
    assert torch.allclose(z.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(z.std(0, correction=0), torch.ones(3), atol=1e-5)
    assert torch.allclose(log_det, -x.std(0, correction=0).log().sum().expand(50), atol=1e-4)
    assert torch.equal(norm.train()(10 * x)[0], norm.eval()(10 * x)[0])


@pytest.mark.parametrize("rows", [1, 5])
def test_dimensions_that_do_not_vary_are_not_stretched(rows):
    x = torch.tensor([[3.0, 1e-12]]).repeat(rows, 1)
    norm = ActNorm(2)
    z, log_det = norm.train()(x)
    assert torch.equal(z, torch.zeros(rows, 2))
    assert not log_det.any()
    back, _ = norm.inverse(z)
    assert torch.allclose(back, x)


def test_the_start_is_taken_once_and_leaves_the_mode():
    flow = FactorFlow(SPEC).eval()
    x = torch.randn(40, 6, generator=seeded()) * 3
    flow.initialise_(x)
    assert not flow.training
    assert all(stage.norm.initialized for stage in flow.stages)
    scales = [stage.norm.log_scale.detach().clone() for stage in flow.stages]
    flow.initialise_(100 * x)
    for stage, scale in zip(flow.stages, scales, strict=True):
        assert torch.equal(stage.norm.log_scale, scale)


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 3), (5, 8), (9, 2)])
def test_reflections_at_once_are_reflections_one_by_one(size, count):
    mixing, x = Householder(size, count, seeded()), torch.randn(6, size, generator=seeded(1))
    plain = HouseholderSequence(size, count)
    plain.load_state_dict(mixing.state_dict())
    for ours, theirs in ((mixing(x), plain(x)), (mixing.inverse(x), plain.inverse(x))):
        assert torch.allclose(ours[0], theirs[0], atol=1e-5)
        assert torch.equal(ours[1], theirs[1])
    matrix = mixing.matrix()
    assert torch.allclose(matrix @ matrix.T, torch.eye(size), atol=1e-5)
    assert not torch.allclose(matrix, torch.eye(size), atol=1e-2)


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
def test_lu_is_undone_as_nflows_does_it():
    mixing, x = LUMixing(5).double(), torch.randn(4, 5, generator=seeded()).double()
    assert torch.allclose(mixing(x)[0], x)
    with torch.no_grad():
        for parameter in mixing.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=seeded(1))
    plain = LULinear(5).double()
    plain.load_state_dict(mixing.state_dict())
    for ours, theirs in zip(mixing.inverse(x), plain.inverse(x), strict=True):
        assert torch.allclose(ours, theirs)


def test_affine_couplings_expand_and_shrink_by_e():
    net = Conditioner(1, 2, 4, 1, seeded())
    coupling = AffineCoupling(Halves(2, True), lambda *_: net)
    for bias, scale in ((20.0, torch.e), (-20.0, 1 / torch.e), (0.0, 1.0)):
        with torch.no_grad():
            net.last.weight.zero_()
            net.last.bias.copy_(torch.tensor([0.0, bias]))
        z, log_det = coupling(torch.ones(1, 2))
        assert float(z[0, 1].detach()) == pytest.approx(scale)
        assert float(log_det.detach()) == pytest.approx(bias / 20)


def test_splines_are_the_identity_outside_and_at_the_start():
    coupling = make_coupling("spline", 4, True, 8, 1, seeded(), bins=5, bound=2.0)
    assert isinstance(coupling, SplineCoupling)
    x = torch.linspace(-4, 4, 400).view(-1, 4)
    z, log_det = coupling(x)
    assert torch.allclose(z, x, atol=0.05)
    assert log_det.abs().max() < 0.05
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter += torch.randn(parameter.shape, generator=seeded(1))
    z, _ = coupling(x)
    outside = x.abs() > 2
    assert torch.equal(z[outside], x[outside])
    assert not torch.allclose(z, x, atol=0.1)
    nothing = torch.full((2, 4), torch.nan)
    assert coupling(nothing)[0].isnan().all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"stages": 0}, "stages=0"),
        ({"hidden": 0}, "hidden=0"),
        ({"depth": 0}, "depth=0"),
        ({"reflections": 0}, "reflections=0"),
        ({"bins": 1}, "bins=1"),
        ({"bound": 0.0}, "bound=0"),
        ({"bound": float("nan")}, "bound=nan"),
        ({"coupling": "cubic"}, "additive, affine, spline"),
        ({"mixing": "qr"}, "householder, lu"),
    ],
)
def test_senseless_settings_are_refused(settings, named):
    with pytest.raises(ConfigError, match=named):
        FactorFlow(SPEC, **settings)


@pytest.mark.parametrize("shape", [(6,), (2, 5), (2, 7), (2, 1, 6)])
def test_rows_of_another_size_are_refused(shape):
    flow = FactorFlow(SPEC)
    for run in (flow, flow.inverse, flow.factors):
        with pytest.raises(DataError, match=r"expected \(n, 6\)"):
            run(torch.zeros(shape))


def test_state_can_be_read_without_running_code():
    flow, stream = FactorFlow(SPEC), io.BytesIO()
    torch.save(flow.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    assert state.keys() == flow.state_dict().keys()
    assert "stages.0.norm.initialized" in state


def test_nan_stays_in_its_row():
    x = torch.randn(5, 6, generator=seeded())
    x[2, 1] = torch.nan
    for coupling in ("additive", "affine", "spline"):
        z, _ = FactorFlow(SPEC, coupling=coupling).eval()(x)
        assert z[2].isnan().any()
        assert z[[0, 1, 3, 4]].isfinite().all()
