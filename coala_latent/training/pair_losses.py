"""Losses of pairs of factorised latents that are known to be alike in some factors.

Papers: Esser, Rombach, Ommer, "A Disentangling Invertible Interpretation Network for Explaining
Latent Representations", CVPR 2020 (arXiv 2004.13166: the prior of pairs). The weighted form and
the mixture prior are those of gyoza 0.2.2 (MIT) and TimHenry1995/LatentAudio; what differs is
said at each.

All dimensions follow N(0, 1). In the block of a factor in which a pair is alike, the two members
correlate by ``sigma``; everything else is independent. Both losses treat the members alike, so
exchanging ``a`` and ``b`` changes nothing (but for the weighted form's ``eps``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from coala_latent.errors import ConfigError, DataError
from coala_latent.models.flows import FactorSpec

__all__ = [
    "JointPairLoss",
    "MixturePairLoss",
    "MixturePrior",
    "PairLoss",
    "WeightedPairLoss",
]


class PairLoss(nn.Module, ABC):
    """A loss of pairs of a flow's outputs.

    Attributes:
        spec: Blocks of the outputs.
    """

    def __init__(self, spec: FactorSpec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(
        self, a: Tensor, b: Tensor, alike: Tensor, log_det_a: Tensor, log_det_b: Tensor
    ) -> Tensor:
        """Loss of pairs.

        Args:
            a: Outputs ``(n, size)``.
            b: Outputs ``(n, size)``; row *i* is paired with row *i* of `a`.
            alike: ``(n, factors)``, bool or in [0, 1]: how far each pair is alike in each factor.
            log_det_a: Log-determinants of the flow, ``(n,)``.
            log_det_b: The same of `b`.

        Returns:
            A scalar, in nats per pair.

        Raises:
            DataError: Shapes do not fit.
        """

    def _check(self, a: Tensor, b: Tensor, alike: Tensor) -> Tensor:
        """`alike` in the outputs' precision."""
        size, factors = self.spec.size, len(self.spec.factors)
        shapes = (tuple(a.shape), tuple(b.shape), tuple(alike.shape))
        if not len(a) or shapes != ((len(a), size), (len(a), size), (len(a), factors)):
            raise DataError(
                f"pairs of shapes {shapes[0]} and {shapes[1]}, alike {shapes[2]}: expected n > 0 "
                f"rows of {size}, {size} and {factors}"
            )
        return alike.to(a.dtype)


class JointPairLoss(PairLoss):
    """Negative log-likelihood of pairs, exact but for the constant ``size ln(2 pi)``.

    With ``r_d = sigma_k alike_k`` for a dimension ``d`` of factor ``k``, and 0 in the residual:
    ``1/2 |a|^2 + sum_d [1/2 (b_d - r_d a_d)^2 / (1 - r_d^2) + 1/2 ln(1 - r_d^2)]`` minus both
    log-determinants, the mean over pairs. A pair that is alike in several factors counts once.

    Args:
        spec: Blocks of the outputs.
        sigma: Correlation of alike members, above 0 and below 1: one for all, or one a factor.

    Raises:
        ConfigError: `sigma` does not make sense.
    """

    correlation: Tensor

    def __init__(self, spec: FactorSpec, sigma: float | Mapping[str, float] = 0.9) -> None:
        super().__init__(spec)
        sigmas = torch.tensor(_sigmas(spec, sigma))
        # Only the factors' dimensions, which come last.
        owners = spec.mask[1:, spec.slices[spec.names[0]].stop :]
        self.register_buffer("correlation", owners * sigmas[:, None], persistent=False)

    def forward(
        self, a: Tensor, b: Tensor, alike: Tensor, log_det_a: Tensor, log_det_b: Tensor
    ) -> Tensor:
        """See `PairLoss`."""
        degree = self._check(a, b, alike)
        r = degree @ self.correlation.to(degree.dtype)
        begin = self.spec.size - r.shape[1]
        factor_a, factor_b = a[:, begin:], b[:, begin:]
        free = 1 - r.square()
        paired = (factor_b - r * factor_a).square() / free + free.log() - factor_b.square()
        energy = a.square().sum(1) + b.square().sum(1) + paired.sum(1)
        return (energy / 2 - log_det_a - log_det_b).mean()


class WeightedPairLoss(PairLoss):
    """The loss of gyoza 0.2.1 and 0.2.2, in the value that it effectively has.

    For each factor the mean over pairs that are alike in it, whatever they are in others, plus the
    mean over pairs that are not, each weighted by how rare it is among all. Log-determinants are
    averaged over all pairs. Two things differ from gyoza: a batch without alike (or without
    unlike) pairs in a factor gives 0 for that term, not NaN; and with a single factor, whose
    weight of alike pairs would always be 0, that weight is 1. A degree of likeness in between
    counts by that share on either side.

    Args:
        spec: Blocks of the outputs.
        sigma: See `JointPairLoss`.
        eps: Added to ``1 - sigma^2``.

    Raises:
        ConfigError: A setting does not make sense.
    """

    def __init__(
        self, spec: FactorSpec, sigma: float | Mapping[str, float] = 0.9, eps: float = 1e-5
    ) -> None:
        super().__init__(spec)
        if not 0 <= eps < 1:
            raise ConfigError(f"eps={eps}: use a small number (1e-5 is usual)")
        self.sigmas = _sigmas(spec, sigma)
        self.eps = eps

    def forward(
        self, a: Tensor, b: Tensor, alike: Tensor, log_det_a: Tensor, log_det_b: Tensor
    ) -> Tensor:
        """See `PairLoss`."""
        degree = self._check(a, b, alike)
        like, unlike = degree.sum(0), (1 - degree).sum(0)
        # The residual counts as unlike in every pair.
        like_weight = 1 - like / like.sum().clamp(min=1e-12)
        if len(like) == 1:
            like_weight = torch.ones_like(like)
        unlike_weight = 1 - unlike / (unlike.sum() + len(a))
        change = log_det_a.mean() + log_det_b.mean()
        independent = (a.square().sum(1) + b.square().sum(1)) / 2
        total = a.new_zeros(())
        for k, (name, sigma) in enumerate(zip(self.spec.factors, self.sigmas, strict=True)):
            place = self.spec.slices[name]
            spread = 1 - sigma**2 + self.eps
            distance = (b[:, place] - sigma * a[:, place]).square().sum(1) / spread
            paired = independent + (distance - b[:, place].square().sum(1)) / 2
            terms = (
                (like_weight[k], degree[:, k], paired),
                (unlike_weight[k], 1 - degree[:, k], independent),
            )
            for weight, share, energy in terms:
                pairs = share.sum()
                mean = (share * energy).sum() / pairs.clamp(min=1e-12) - change
                total = total + torch.where(pairs > 0, weight * mean, 0.0)
        return total


class MixturePrior(nn.Module):
    """Maps factors that follow a mixture of normals, one for a class, to standard normal ones.

    ``u = Phi^-1(eps + (1 - 2 eps) mean_j Phi((z - m_j) / s))`` for each dimension of a factor's
    block; the residual stays. The logarithm of its derivative is part of the density of ``z``;
    LatentAudio leaves it out. Far out, where ``u`` runs against its limit of ``-+Phi^-1(eps)``,
    the log-determinant is still exact, from the logarithms of the densities.

    Args:
        spec: Blocks of the outputs.
        modes: Means ``m_j`` for each factor; LatentAudio has -10, -6, -2, 2, 6, 10 for its six
            materials. Factors that are not named stay.
        scale: Standard deviation ``s`` of every normal.
        eps: Keeps ``u`` finite.

    Raises:
        ConfigError: A setting does not make sense.
    """

    def __init__(
        self,
        spec: FactorSpec,
        modes: Mapping[str, Sequence[float]],
        scale: float = 1.0,
        eps: float = 1e-7,
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ConfigError(f"scale={scale}: use a number above 0")
        if not 1e-30 <= eps < 0.5:
            raise ConfigError(f"eps={eps}: use a small number above 0 (1e-7 is usual)")
        unknown = set(modes) - set(spec.factors)
        if unknown:
            raise ConfigError(f"modes of {', '.join(sorted(unknown))}: no such factor")
        for name, means in modes.items():
            if not len(means) or not all(math.isfinite(mean) for mean in means):
                raise ConfigError(f"modes of {name!r}: use a number for each class")
            self.register_buffer(
                f"modes_{spec.factors.index(name)}",
                torch.tensor([float(mean) for mean in means]),
                persistent=False,
            )
        self.spec, self.scale, self.eps = spec, scale, eps
        self.names = [name for name in spec.factors if name in modes]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """``z (n, size)`` to ``u (n, size)`` and ``ln|det du/dz| (n,)``."""
        blocks, log_det = self.spec.split(z), z.new_zeros(len(z))
        for name in self.names:
            modes = self.get_buffer(f"modes_{self.spec.factors.index(name)}").to(z.dtype)
            blocks[name], slope = self._map(blocks[name], modes)
            log_det = log_det + slope.sum(1)
        return torch.cat(list(blocks.values()), dim=1), log_det

    def _map(self, z: Tensor, modes: Tensor) -> tuple[Tensor, Tensor]:
        """Of a block: ``u`` and ``ln(du/dz)``, both of the block's shape."""
        distance = (z[..., None] - modes) / self.scale
        # Of the two tails the lighter: its share keeps its digits, 1 minus it would not.
        with torch.no_grad():
            below = torch.special.ndtr(distance).mean(-1) <= 0.5
            side = torch.where(below, 1.0, -1.0).to(z.dtype)
        tail = torch.special.ndtr(distance * side[..., None]).mean(-1)
        u = side * torch.special.ndtri(self.eps + (1 - 2 * self.eps) * tail)
        # ln of the mixture's density over that of N(0, 1) at u; sqrt(2 pi) falls away.
        density = torch.logsumexp(-distance.square() / 2, dim=-1)
        slope = density + u.square() / 2
        constant = math.log1p(-2 * self.eps) - math.log(len(modes) * self.scale)
        return u, slope + constant


class MixturePairLoss(PairLoss):
    """A loss of pairs after a mixture prior.

    Args:
        prior: Maps outputs to standard normal ones.
        loss: Of what comes out.

    Raises:
        ConfigError: They are of different blocks.
    """

    def __init__(self, prior: MixturePrior, loss: PairLoss) -> None:
        super().__init__(loss.spec)
        if prior.spec != loss.spec:
            raise ConfigError(f"a prior of {prior.spec}, but a loss of {loss.spec}")
        self.prior, self.loss = prior, loss

    def forward(
        self, a: Tensor, b: Tensor, alike: Tensor, log_det_a: Tensor, log_det_b: Tensor
    ) -> Tensor:
        """See `PairLoss`."""
        mapped_a, change_a = self.prior(a)
        mapped_b, change_b = self.prior(b)
        value: Tensor = self.loss(
            mapped_a, mapped_b, alike, log_det_a + change_a, log_det_b + change_b
        )
        return value


def _sigmas(spec: FactorSpec, sigma: float | Mapping[str, float]) -> list[float]:
    """A correlation for each factor, checked."""
    if isinstance(sigma, Mapping):
        if set(sigma) != set(spec.factors):
            raise ConfigError(
                f"sigma for {', '.join(sigma)}: expected one for each of {', '.join(spec.factors)}"
            )
        found = {name: float(sigma[name]) for name in spec.factors}
    else:
        found = dict.fromkeys(spec.factors, float(sigma))
    for name, value in found.items():
        if not 0 < value < 1:
            raise ConfigError(f"sigma={value} for {name!r}: use a number above 0 and below 1")
    return list(found.values())
