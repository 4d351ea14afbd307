"""Every family of flows can be undone, knows its change of volume, and learns everywhere."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.models.flows import FactorFlow, FactorSpec

COUPLINGS = ["additive", "affine", "spline"]
MIXINGS = ["householder", "lu"]
FAMILIES = list(itertools.product(COUPLINGS, MIXINGS))

families = st.sampled_from(FAMILIES)
sizes = st.sampled_from([2, 3, 4, 7, 16])


def spec(size: int) -> FactorSpec:
    if size == 2:
        return FactorSpec({"residual": 1, "material": 1})
    return FactorSpec({"residual": size - 2, "material": 1, "action": 1})


def trained(family, size, stages, seed=0, dtype=torch.float32) -> FactorFlow:
    """A flow away from its start, as training leaves it, and its ActNorms set."""
    flow = FactorFlow(
        spec(size), stages, 12, 2, coupling=family[0], mixing=family[1], seed=seed
    ).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    flow.initialise_(2 * torch.randn(64, size, generator=generator, dtype=dtype) + 1)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            size_of_step = 0.1 if "transform_net" in name else 0.03
            parameter += size_of_step * torch.randn(
                parameter.shape, generator=generator, dtype=dtype
            )
    return flow.eval()


def rows(count, size, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(count, size, generator=generator, dtype=dtype)


@settings(max_examples=30, deadline=None)
@given(families, sizes, st.integers(1, 4), st.integers(0, 5), st.integers(0, 100))
def test_a_flow_can_be_undone(family, size, stages, count, seed):
    flow, x = trained(family, size, stages, seed), rows(count, size, seed + 1)
    z, log_det = flow(x)
    back, inverse_log_det = flow.inverse(z)
    assert z.shape == x.shape
    assert log_det.shape == (count,)
    torch.testing.assert_close(back, x, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-3, rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(families, sizes, st.integers(1, 3), st.integers(0, 100), st.booleans())
def test_log_determinants_are_those_of_the_jacobian(family, size, stages, seed, double):
    dtype, tolerance = (torch.float64, 1e-9) if double else (torch.float32, 1e-3)
    flow = trained(family, size, stages, seed, dtype)
    x = rows(1, size, seed + 1, dtype)
    z, log_det = flow(x)
    for run, at, found in ((flow, x, log_det), (flow.inverse, z, flow.inverse(z)[1])):
        jacobian = torch.autograd.functional.jacobian(lambda v, run=run: run(v[None])[0][0], at[0])
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert abs(float((found[0] - expected).detach())) <= tolerance * (1 + abs(float(expected)))


@pytest.mark.parametrize("size", [2, 3, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_parameter_from_the_first_step_on(family, size):
    flow = FactorFlow(spec(size), 2, coupling=family[0], mixing=family[1])
    z, log_det = flow(rows(200, size))
    # The weights of dimensions are their own, so that no symmetry hides a gradient.
    (z.square() @ torch.rand(size) - log_det).mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_flow_is_the_same_after_loading(family, size):
    flow, x = trained(family, size, 2, seed=3), rows(9, size)
    other = FactorFlow(spec(size), 2, 12, 2, coupling=family[0], mixing=family[1], seed=8)
    assert not torch.equal(other.eval()(x)[0], flow(x)[0])
    other.load_state_dict(flow.state_dict())
    for left, right in zip(other(x), flow(x), strict=True):
        assert torch.equal(left, right)
    # The start from data is not taken again.
    assert torch.equal(other.train()(100 + x)[0], flow(100 + x)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_equals_training_after_the_start(family):
    flow, x = FactorFlow(spec(8), coupling=family[0], mixing=family[1]), rows(50, 8)
    first = flow.train()(x)
    for mode in (True, False):
        for left, right in zip(flow.train(mode)(x), first, strict=True):
            assert torch.equal(left, right)
    # A row by itself is what it is among others.
    alone = torch.cat([flow(row[None])[0] for row in x])
    torch.testing.assert_close(alone, first[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_double_precision_is_kept_and_exact(family):
    flow, x = trained(family, 64, 3, dtype=torch.float64), rows(20, 64, dtype=torch.float64)
    z, log_det = flow(x)
    back, _ = flow.inverse(z)
    assert z.dtype == log_det.dtype == back.dtype == torch.float64
    assert (back - x).abs().max() < 1e-9
    single, _ = trained(family, 64, 3, dtype=torch.float64).float()(x.float())
    assert (single - z).abs().max() < 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_training_and_inverting_gives_no_warning(family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (2, 3, 6):
            flow = FactorFlow(spec(size), 2, coupling=family[0], mixing=family[1])
            z, log_det = flow(rows(10, size))
            (z.sum() - log_det.sum()).backward()
            flow.eval().inverse(z.detach())
            for stage in flow.stages:
                if hasattr(stage.mixing, "weight_inverse"):
                    product = stage.mixing.weight_inverse() @ stage.mixing.weight()
                    torch.testing.assert_close(product, torch.eye(size), atol=1e-5, rtol=0)


@settings(max_examples=12, deadline=None)
@given(families, sizes, st.floats(1e-3, 1e4), st.floats(-1e3, 1e3), st.integers(0, 50))
def test_a_fresh_flow_standardises_and_keeps_volume_otherwise(family, size, scale, offset, seed):
    flow = FactorFlow(spec(size), 1, coupling=family[0], mixing=family[1], seed=seed)
    x = rows(100, size, seed).double() * scale + offset
    z = flow.double()(x)[0].detach()
    assert z.isfinite().all()
    # A rotation of standardised dimensions has their total variance.
    assert abs(float(z.var(0, correction=0).sum()) - size) < 1e-6 * size
    assert float(z.mean(0).abs().max()) < 1e-6


@settings(max_examples=12, deadline=None)
@given(families, st.floats(10, 1e6), st.integers(0, 20))
def test_far_away_rows_come_back(family, distance, seed):
    """Outside the splines and beyond all training data, in double precision."""
    flow = trained(family, 7, 2, seed, torch.float64)
    x = rows(5, 7, seed, torch.float64) * distance
    z, log_det = flow(x)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    torch.testing.assert_close(flow.inverse(z)[0], x, rtol=1e-6, atol=1e-6 * distance)
