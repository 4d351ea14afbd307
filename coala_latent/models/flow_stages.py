"""Invertible stages of factor flows, on nflows' transforms.

Papers: Dinh, Krueger, Bengio, "NICE: Non-linear Independent Components Estimation", 2014 (arXiv
1410.8516: additive couplings); Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP",
2016 (arXiv 1605.08803: affine couplings); Durkan, Bekasov, Murray, Papamakarios, "Neural Spline
Flows", 2019 (arXiv 1906.04032); Kingma, Dhariwal, "Glow", 2018 (arXiv 1807.03039: ActNorm, LU);
Tomczak, Welling, "Improving Variational Auto-Encoders using Householder Flow", 2016 (arXiv
1611.09630). Built on bayesiains/nflows 0.14 (MIT), which nothing but this file imports.

A transform maps ``(n, size)`` and a context, always None here, to its output and the logarithms of
the Jacobian's absolute determinants ``(n,)``, by `forward` and by `inverse`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from nflows.transforms.coupling import (
    AdditiveCouplingTransform,
    AffineCouplingTransform,
    CouplingTransform,
    PiecewiseRationalQuadraticCouplingTransform,
)
from nflows.transforms.lu import LULinear
from nflows.transforms.normalization import ActNorm as NflowsActNorm
from nflows.transforms.orthogonal import HouseholderSequence
from nflows.transforms.permutations import Permutation
from nflows.transforms.splines.rational_quadratic import rational_quadratic_spline
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import ConfigError

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Conditioner",
    "ConditionerFactory",
    "Coupling",
    "CouplingName",
    "Halves",
    "Householder",
    "LUMixing",
    "MixingName",
    "SplineCoupling",
    "make_coupling",
    "make_mixing",
    "shuffle",
]

CouplingName = Literal["additive", "affine", "spline"]
MixingName = Literal["householder", "lu"]
ConditionerFactory: TypeAlias = Callable[[int, int], nn.Module]

# A dimension that varies less than this is moved to 0 but not stretched.
_MIN_DEVIATION = 1e-6
# The first output is then close to 0, and gradients reach every layer from the first step on.
_LAST_GAIN = 0.01


class Conditioner(nn.Module):
    """Perceptron from the kept half of a coupling to the parameters of the other half's map.

    Hidden layers are LeakyReLU of slope 0.3 from Glorot's uniform start; the last layer starts at
    a hundredth of it, so that a coupling starts next to the identity.

    Args:
        inputs: Dimensions of the kept half.
        outputs: Parameters of the other.
        hidden: Units of a hidden layer.
        depth: Hidden layers, at least 1.
        generator: Source of the initial weights.
    """

    def __init__(
        self, inputs: int, outputs: int, hidden: int, depth: int, generator: Generator
    ) -> None:
        super().__init__()
        # nflows' spline divides its logits by the root of this.
        self.hidden_features = hidden
        sizes = [inputs, *[hidden] * depth, outputs]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes)):
            last = number == depth
            linear = nn.utils.skip_init(nn.Linear, before, after)
            gain = _LAST_GAIN if last else 1.0
            nn.init.xavier_uniform_(linear.weight, gain, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear] if last else [linear, nn.LeakyReLU(0.3, inplace=True)]
        self.layers = nn.Sequential(*layers)

    @property
    def last(self) -> nn.Linear:
        """The layer without a nonlinearity."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """``(n, inputs)`` to ``(n, outputs)``."""
        outputs: Tensor = self.layers(x)
        return outputs


class Halves(NamedTuple):
    """How a coupling divides the dimensions.

    Attributes:
        size: Dimensions, at least 2; of an odd number the first half has one more.
        keep_first: Whether the first half stays and the second changes.
    """

    size: int
    keep_first: bool

    @property
    def sizes(self) -> list[int]:
        """Dimensions of both halves."""
        first = (self.size + 1) // 2
        return [first, self.size - first]

    @property
    def changed(self) -> Tensor:
        """``(size,)`` bool: which dimensions change."""
        return (torch.arange(self.size) >= self.sizes[0]) == self.keep_first


class Coupling(CouplingTransform):
    """One half of the dimensions, by a map whose parameters come from the other half.

    nflows gathers the halves by index, which costs as much as the conditioner; contiguous halves
    are views. Which dimensions meet in a half is the business of the shuffle before it.
    """

    halves: Halves

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Change a half."""
        kept, changed = self._split(inputs)
        parameters = self.transform_net(kept)
        changed, log_det = self._coupling_transform_forward(changed, parameters)
        return self._join(kept, changed), log_det

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward`."""
        kept, changed = self._split(inputs)
        parameters = self.transform_net(kept)
        changed, log_det = self._coupling_transform_inverse(changed, parameters)
        return self._join(kept, changed), log_det

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.halves.sizes, dim=1)
        return (first, second) if self.halves.keep_first else (second, first)

    def _join(self, kept: Tensor, changed: Tensor) -> Tensor:
        return torch.cat((kept, changed) if self.halves.keep_first else (changed, kept), dim=1)


class AdditiveCoupling(Coupling, AdditiveCouplingTransform):
    """``y = x + t(kept)``: volume is preserved.

    Args:
        halves: What stays and what changes.
        conditioner: Makes ``t`` from its numbers of inputs and outputs.
    """

    def __init__(self, halves: Halves, conditioner: ConditionerFactory) -> None:
        super().__init__(halves.changed, conditioner)
        self.halves = halves

    def _coupling_transform_forward(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        return inputs + transform_params, inputs.new_zeros(len(inputs))

    def _coupling_transform_inverse(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        return inputs - transform_params, inputs.new_zeros(len(inputs))


class AffineCoupling(Coupling, AffineCouplingTransform):
    """``y = exp(tanh(s(kept))) x + t(kept)``: shrinks and expands by up to e.

    nflows' own scale ends at 1.001, so that it can hardly expand.

    Args:
        halves: What stays and what changes.
        conditioner: Makes ``t`` and ``s`` as one network.
    """

    def __init__(self, halves: Halves, conditioner: ConditionerFactory) -> None:
        super().__init__(halves.changed, conditioner)
        self.halves = halves

    def _coupling_transform_forward(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(transform_params)
        return inputs * log_scale.exp() + shift, log_scale.sum(1)

    def _coupling_transform_inverse(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift, log_scale = self._shift_and_log_scale(transform_params)
        return (inputs - shift) * (-log_scale).exp(), -log_scale.sum(1)

    @staticmethod
    def _shift_and_log_scale(parameters: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = parameters.chunk(2, dim=1)
        return shift, scale.tanh()


class SplineCoupling(Coupling, PiecewiseRationalQuadraticCouplingTransform):
    """Monotone rational-quadratic splines within ``[-bound, bound]``, the identity outside.

    Args:
        halves: What stays and what changes.
        conditioner: Makes the network that gives widths, heights and slopes.
        bins: Pieces of a spline.
        bound: End of the splines; inputs should have a variance near 1.
    """

    def __init__(
        self, halves: Halves, conditioner: ConditionerFactory, bins: int, bound: float
    ) -> None:
        super().__init__(
            halves.changed, conditioner, num_bins=bins, tails="linear", tail_bound=bound
        )
        self.halves = halves
        # Slopes of 1 between equal pieces: the identity.
        slopes = self.transform_net.last.bias.detach().view(-1, 3 * bins - 1)[:, 2 * bins :]
        slopes.fill_(self._slope_of_1)

    def _coupling_transform_inverse(
        self, inputs: Tensor, transform_params: Tensor
    ) -> tuple[Tensor, Tensor]:
        # In float32 the root of the quadratic equation loses digits, and may come out imaginary.
        x, log_det = super()._coupling_transform_inverse(inputs.double(), transform_params.double())
        return x.to(inputs.dtype), log_det.to(inputs.dtype)

    def _coupling_transform(
        self, inputs: Tensor, transform_params: Tensor, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        # nflows picks the values within the bound, which is slow and fails on no rows. Here all go
        # through the spline, and those outside are put back.
        if not len(inputs):
            return inputs, inputs.new_zeros(0)
        bins, bound = self.num_bins, self.tail_bound
        parameters = transform_params.view(*inputs.shape, 3 * bins - 1)
        sizes = parameters[..., : 2 * bins] / math.sqrt(self.transform_net.hidden_features)
        inside = inputs.abs() <= bound
        outputs, log_slope = rational_quadratic_spline(
            torch.where(inside, inputs, 0.0),
            *sizes.chunk(2, dim=-1),
            F.pad(parameters[..., 2 * bins :], (1, 1), value=self._slope_of_1),
            inverse=inverse,
            **{"left": -bound, "right": bound, "bottom": -bound, "top": bound},
            min_derivative=self.min_derivative,
        )
        outputs = torch.where(inside, outputs, inputs)
        return outputs, torch.where(inside, log_slope, 0.0).sum(1)

    @property
    def _slope_of_1(self) -> float:
        """The parameter that gives a slope of 1."""
        return math.log(math.expm1(1 - self.min_derivative))


class ActNorm(NflowsActNorm):
    """``y = exp(log_scale) x + shift``, started so that the first training batch is standardised.

    Dimensions that do not vary in that batch are moved to 0 and not stretched, so a batch of one
    row is safe; nflows' start divides by 0. The flag ``initialized`` is part of the state.
    """

    def _initialize(self, inputs: Tensor) -> None:
        if not len(inputs):
            return
        with torch.no_grad():
            deviation, mean = torch.std_mean(inputs, dim=0, correction=0)
            deviation = torch.where(deviation > _MIN_DEVIATION, deviation, 1.0)
            self.log_scale.copy_(-deviation.log())
            self.shift.copy_(-mean / deviation)
            self.initialized.fill_(True)


class Householder(HouseholderSequence):
    """Product of reflections ``I - 2 v v^T / |v|^2``: a rotation or a reflection, volume 1.

    The product is applied at once, as ``x - x V T V^T`` with an upper triangular ``T`` (the
    compact WY form of Schreiber and Van Loan, 1989), instead of vector by vector. nflows starts
    with pairs of equal vectors, which cancel; here they are noise.

    Args:
        size: Dimensions.
        reflections: Vectors.
        generator: Source of the initial vectors.
    """

    def __init__(self, size: int, reflections: int, generator: Generator) -> None:
        super().__init__(size, reflections)
        nn.init.normal_(self.q_vectors, generator=generator)

    @staticmethod
    def _apply_transforms(inputs: Tensor, q_vectors: Tensor) -> tuple[Tensor, Tensor]:
        gram = q_vectors @ q_vectors.T
        inverse = gram.triu(1) + torch.diag(gram.diagonal() / 2)
        weights = torch.linalg.solve_triangular(inverse, q_vectors, upper=True)
        outputs = torch.addmm(inputs, inputs @ q_vectors.T, weights, alpha=-1)
        return outputs, inputs.new_zeros(len(inputs))


class LUMixing(LULinear):
    """``y = L U x + b`` with unit lower and positive upper triangle, the identity at the start.

    The inverse solves with the function that replaces the one nflows calls, which torch is to
    remove.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, identity_init=True)

    def inverse_no_cache(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward_no_cache`."""
        lower, upper = self._create_lower_upper()
        halfway = torch.linalg.solve_triangular(
            lower, (inputs - self.bias).T, upper=False, unitriangular=True
        )
        outputs = torch.linalg.solve_triangular(upper, halfway, upper=True).T
        return outputs, -self.logabsdet() * inputs.new_ones(len(inputs))

    def weight_inverse(self) -> Tensor:
        """``(L U)^-1``, ``(size, size)``."""
        lower, upper = self._create_lower_upper()
        identity = torch.eye(self.features, dtype=lower.dtype, device=lower.device)
        halfway = torch.linalg.solve_triangular(lower, identity, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, halfway, upper=True)


def shuffle(size: int, generator: Generator) -> Permutation:
    """A fixed random permutation, kept in the state."""
    return Permutation(torch.randperm(size, generator=generator))


def make_coupling(
    name: CouplingName,
    size: int,
    keep_first: bool,
    hidden: int,
    depth: int,
    generator: Generator,
    bins: int = 8,
    bound: float = 5.0,
) -> Coupling:
    """A coupling by name; `bins` and `bound` are the spline's.

    Raises:
        ConfigError: No such coupling.
    """
    halves = Halves(size, keep_first)

    def conditioner(inputs: int, outputs: int) -> Conditioner:
        return Conditioner(inputs, outputs, hidden, depth, generator)

    if name == "additive":
        return AdditiveCoupling(halves, conditioner)
    if name == "affine":
        return AffineCoupling(halves, conditioner)
    if name == "spline":
        return SplineCoupling(halves, conditioner, bins, bound)
    raise ConfigError(f"coupling={name!r}: use one of {', '.join(get_args(CouplingName))}")


def make_mixing(
    name: MixingName, size: int, reflections: int, generator: Generator
) -> Householder | LUMixing:
    """A mixing by name; `reflections` is Householder's.

    Raises:
        ConfigError: No such mixing.
    """
    if name == "householder":
        return Householder(size, reflections, generator)
    if name == "lu":
        return LUMixing(size)
    raise ConfigError(f"mixing={name!r}: use one of {', '.join(get_args(MixingName))}")
