"""Losses of pairs against densities, plain loops and autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from coala_latent.errors import ConfigError, DataError
from coala_latent.models.flows import FactorFlow, FactorSpec
from coala_latent.training.pair_losses import (
    JointPairLoss,
    MixturePairLoss,
    MixturePrior,
    WeightedPairLoss,
)

SPEC = FactorSpec({"residual": 3, "material": 2, "action": 1})
ONE = FactorSpec({"residual": 2, "material": 2})
MODES = {"material": [-10.0, -6.0, -2.0, 2.0, 6.0, 10.0], "action": [-1.0, 5.0]}


def pairs(count=8, spec=SPEC, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    alike = torch.rand(count, len(spec.factors), generator=generator) < 0.5
    return normal(count, spec.size), normal(count, spec.size), alike, normal(count), normal(count)


def negative_log_density(spec, a, b, correlations):
    """Of one pair, by scipy, without the constant."""
    size = spec.size
    covariance = np.eye(2 * size)
    for dimension, r in enumerate(correlations):
        covariance[dimension, size + dimension] = covariance[size + dimension, dimension] = r
    pair = np.concatenate([a.numpy(), b.numpy()])
    return -stats.multivariate_normal(np.zeros(2 * size), covariance).logpdf(
        pair
    ) - size * math.log(2 * math.pi)


@pytest.mark.parametrize("sigma", [0.9, {"action": 0.5, "material": 0.99}])
@pytest.mark.parametrize("graded", [False, True])
def test_the_joint_loss_is_the_density_of_pairs(sigma, graded):
    a, b, alike, log_det_a, log_det_b = pairs()
    if graded:
        alike = torch.rand(alike.shape, generator=torch.Generator().manual_seed(3)).double()
    sigmas = sigma if isinstance(sigma, dict) else dict.fromkeys(SPEC.factors, sigma)
    expected = []
    for i in range(len(a)):
        m, x = (float(alike[i, k]) * sigmas[name] for k, name in enumerate(SPEC.factors))
        density = negative_log_density(SPEC, a[i], b[i], [0, 0, 0, m, m, x])
        expected.append(density - float(log_det_a[i] + log_det_b[i]))
    found = JointPairLoss(SPEC, sigma)(a, b, alike, log_det_a, log_det_b)
    # Correlations are kept in float32.
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def weighted_by_loop(spec, sigma, a, b, alike, log_det_a, log_det_b, eps=1e-5):
    """Term by term, for factors that have alike and unlike pairs, and more than one factor."""
    count, total = len(a), 0.0
    like = alike.double()
    for f, name in enumerate(spec.factors):
        same, other = [], []
        for i in range(count):
            energy = 0.5 * float(a[i] @ a[i])
            for block, place in spec.slices.items():
                x, y = a[i, place], b[i, place]
                if like[i, f] and block == name:
                    energy += 0.5 * float((y - sigma * x) @ (y - sigma * x)) / (1 - sigma**2 + eps)
                else:
                    energy += 0.5 * float(y @ y)
            (same if like[i, f] else other).append(energy)
        change = float(log_det_a.mean() + log_det_b.mean())
        w = 1 - float(like[:, f].sum() / like.sum())
        v = 1 - float((1 - like[:, f]).sum() / ((1 - like).sum() + count))
        total += w * (np.mean(same) - change) + v * (np.mean(other) - change)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_the_weighted_loss_is_the_originals(seed):
    batch = pairs(12, seed=seed)
    assert 0 < batch[2].double().mean(0).min() <= batch[2].double().mean(0).max() < 1
    found = WeightedPairLoss(SPEC, 0.9)(*batch)
    assert float(found) == pytest.approx(weighted_by_loop(SPEC, 0.9, *batch), rel=1e-9)


@pytest.mark.parametrize("make", [JointPairLoss, WeightedPairLoss])
@pytest.mark.parametrize("value", [True, False])
def test_a_batch_of_one_kind_of_pairs_gives_a_number_and_gradients(make, value):
    a, b, alike, log_det_a, log_det_b = pairs()
    a.requires_grad_()
    log_det_a.requires_grad_()
    make(SPEC)(a, b, torch.full_like(alike, value), log_det_a, log_det_b).backward()
    for tensor in (a, log_det_a):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().sum() > 0


def test_weighted_without_alike_pairs_of_a_factor_keeps_the_rest():
    a, b, alike, log_det_a, log_det_b = pairs(12)
    alike[:, 0] = False
    found = WeightedPairLoss(SPEC)(a, b, alike, log_det_a, log_det_b)
    energy = (a.square().sum(1) + b.square().sum(1)) / 2
    change = log_det_a.mean() + log_det_b.mean()
    like = float(alike[:, 1].sum())
    # All alike pairs are alike in the second factor, so their weight there is 0.
    weights = 1 - 12 / (36 - like), 1 - (12 - like) / (36 - like)
    expected = weights[0] * (energy.mean() - change)
    expected += weights[1] * (energy[~alike[:, 1]].mean() - change)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("make", [JointPairLoss, WeightedPairLoss])
def test_a_single_factor_is_attracted(make):
    """The nearer two alike members are, the lower the loss; the original's weight is 0 here."""
    a, _, _, log_det, _ = pairs(spec=ONE)
    far, near = a.clone(), a.clone()
    far[:, 2:] *= -1
    alike = torch.ones(len(a), 1, dtype=torch.bool)
    loss = make(ONE)
    assert loss(a, near, alike, log_det, log_det) < loss(a, far, alike, log_det, log_det) - 1


def mixed(loss=None):
    return MixturePairLoss(MixturePrior(SPEC, MODES), loss or JointPairLoss(SPEC))


@pytest.mark.parametrize("make", [JointPairLoss, WeightedPairLoss, lambda spec: mixed()])
def test_members_can_be_exchanged(make):
    a, b, alike, log_det_a, log_det_b = pairs()
    one = make(SPEC)(a, b, alike, log_det_a, log_det_b)
    other = make(SPEC)(b, a, alike, log_det_b, log_det_a)
    assert float(one) == pytest.approx(float(other), rel=1e-3)


@pytest.mark.parametrize("make", [JointPairLoss, WeightedPairLoss, lambda spec: mixed()])
def test_single_precision_and_similarities_as_numbers(make):
    a, b, alike, log_det_a, log_det_b = pairs()
    exact = make(SPEC)(a, b, alike, log_det_a, log_det_b)
    single = make(SPEC)(a.float(), b.float(), alike.float(), log_det_a.float(), log_det_b.float())
    assert single.dtype == torch.float32
    assert single.ndim == 0
    assert float(single) == pytest.approx(float(exact), rel=1e-4)


def test_the_mixture_map_is_the_quantile_of_its_mixture():
    z = torch.linspace(-12, 12, 90, dtype=torch.float64).view(-1, 6)
    u, _ = MixturePrior(SPEC, MODES)(z)
    assert torch.equal(u[:, :3], z[:, :3])
    for place, modes in ((slice(3, 5), MODES["material"]), (slice(5, 6), MODES["action"])):
        share = stats.norm.cdf(z[:, place].numpy()[..., None] - np.array(modes)).mean(-1)
        expected = stats.norm.ppf(1e-7 + (1 - 2e-7) * share)
        np.testing.assert_allclose(u[:, place].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_mixtures_log_determinant_is_autograds(scale):
    prior = MixturePrior(SPEC, MODES, scale)
    z = 4 * torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, log_det = prior(z)
    for row, found in zip(z, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: prior(v[None])[0][0], row)
        assert float(found) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet))


def test_the_mixture_gives_the_density_of_the_mixture():
    """N(0, 1) at u times the slope is (1 - 2 eps) times the mixture's density, in every tail."""
    prior = MixturePrior(SPEC, {"action": MODES["action"]})
    grid = torch.linspace(-50, 50, 401)
    z = torch.zeros(401, 6)
    z[:, 5] = grid
    z.requires_grad_()
    u, log_det = prior(z)
    energy = u[:, 5].square() / 2 - log_det
    energy.sum().backward()
    distances = torch.stack([grid.double() - mode for mode in MODES["action"]])
    expected = -torch.logsumexp(-distances.square() / 2, 0) + math.log(2)
    assert u.dtype == torch.float32
    assert torch.allclose(energy.detach().double(), expected, rtol=1e-4, atol=1e-4)
    pull = (distances * torch.softmax(-distances.square() / 2, 0)).sum(0)
    assert torch.allclose(z.grad[:, 5].double(), pull, rtol=1e-3, atol=1e-2)
    assert (u[1:, 5] >= u[:-1, 5] - 1e-6).all()


def test_a_mixture_of_one_standard_normal_changes_nothing():
    batch = pairs()
    prior = MixturePrior(SPEC, {"material": [0.0], "action": [0.0]}, eps=1e-12)
    u, log_det = prior(batch[0])
    assert torch.allclose(u, batch[0], atol=1e-6)
    assert torch.allclose(log_det, torch.zeros(8, dtype=torch.float64), atol=1e-5)
    plain = JointPairLoss(SPEC)
    found = MixturePairLoss(prior, plain)(*batch)
    assert float(found) == pytest.approx(float(plain(*batch)), abs=1e-5)


@pytest.mark.parametrize("make", [JointPairLoss, WeightedPairLoss])
@pytest.mark.parametrize(
    "sigma", [0.0, 1.0, -0.5, math.nan, {"material": 0.9}, {"material": 0.9, "action": 2.0}]
)
def test_senseless_correlations_are_refused(make, sigma):
    with pytest.raises(ConfigError, match="sigma"):
        make(SPEC, sigma)


@pytest.mark.parametrize(
    "settings",
    [
        {"modes": {"colour": [0.0]}},
        {"modes": {"material": []}},
        {"modes": {"material": [math.inf]}},
        {"modes": {}, "scale": 0.0},
        {"modes": {}, "eps": 0.0},
        {"modes": {}, "eps": 0.5},
    ],
)
def test_senseless_mixtures_are_refused(settings):
    with pytest.raises(ConfigError):
        MixturePrior(SPEC, **settings)
    with pytest.raises(ConfigError):
        WeightedPairLoss(SPEC, eps=-1)
    with pytest.raises(ConfigError, match="a prior of"):
        MixturePairLoss(MixturePrior(SPEC, MODES), JointPairLoss(ONE))


@pytest.mark.parametrize("make", [JointPairLoss, WeightedPairLoss])
def test_shapes_that_do_not_fit_are_refused(make):
    a, b, alike, log_det_a, log_det_b = pairs()
    for wrong in ((a[:, :5], b, alike), (a, b[:3], alike), (a, b, alike[:, :1]), (a, b, alike[0])):
        with pytest.raises(DataError, match="expected n > 0"):
            make(SPEC)(*wrong, log_det_a, log_det_b)
    with pytest.raises(DataError, match="expected n > 0"):
        make(SPEC)(a[:0], b[:0], alike[:0], log_det_a[:0], log_det_b[:0])


@pytest.mark.parametrize("loss", [JointPairLoss(SPEC, 0.95), WeightedPairLoss(SPEC, 0.95)])
def test_training_separates_factors(loss):
    """Two factors of two classes, mixed by a nonlinear map: each ends in its own block."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (600, 2), generator=generator)
    hidden = 0.3 * torch.randn(600, 6, generator=generator)
    hidden[:, :2] += 2.0 * labels - 1
    mixing = torch.randn(6, 6, generator=generator)
    values = hidden @ mixing
    values = values + 0.5 * (values @ torch.randn(6, 6, generator=generator)).tanh()
    values = (values - values.mean(0)) / values.std(0)
    flow = FactorFlow(SPEC, 2, 16, 1)
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(100):
        i, j = torch.randint(400, (2, 64), generator=generator)
        z, log_det = flow(torch.cat([values[i], values[j]]))
        value = loss(*z.chunk(2), labels[i] == labels[j], *log_det.chunk(2))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    with torch.no_grad():
        blocks = flow.eval().factors(flow(values[400:])[0])

    def eta_squared(block, classes):
        centred = block - block.mean(0)
        between = sum(
            (classes == c).sum() * centred[classes == c].mean(0).square().sum() for c in (0, 1)
        )
        return float(between / centred.square().sum())

    for own, name in enumerate(SPEC.factors):
        assert eta_squared(blocks[name], labels[400:, own]) > 0.5
        assert eta_squared(blocks[name], labels[400:, 1 - own]) < 0.1
