"""MusiCNN's networks in evaluation: the same values from a fraction of the arithmetic.

ReLU and batch norm after a convolution, ``scale * relu(x) + shift``, are one multiplication, which
the convolution can do, and one clamping: to `shift` from below where the scale is positive, from
above where it is negative. Which value is the largest does not depend on it, so it comes after the
pooling, where there are fewer values.

And weight decay has left many filters of the published networks with next to no weights (of the
MSD networks' tall kernels up to 190 of 204): whatever the input, their output is the same number.
Interval arithmetic proves which these are, for all log-mels from 0 to `LOUDEST`. They are not
computed. What the next convolution makes of them, at the edges too where its padding is 0, it
makes of one channel of ones.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.models.folding import folded_parameters
from coala_latent.models.layered import Layered, Step
from coala_latent.models.musicnn import POOLS, ConvNorm, MusicnnNetwork, PooledBlock, VggNetwork

__all__ = ["LOUDEST", "Clamped", "FoldedMusicnn", "FoldedVgg", "Span"]

# The largest power of a mel band is 1573 times the square of the largest sample: no samples below
# 1e6 come near.
LOUDEST = 20.0
# What varies by less is a constant.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Span:
    """Smallest and largest value that each channel can have, ``(channels,)`` float64."""

    low: Tensor
    high: Tensor

    @cached_property
    def varies(self) -> Tensor:
        """Which channels are not constant; the first one where all are, since none is no layer."""
        found = self.high - self.low > TOLERANCE
        found[0] |= ~found.any()
        return found

    @cached_property
    def live(self) -> Tensor:
        """Indices of the channels that vary."""
        return self.varies.nonzero()[:, 0]

    @cached_property
    def dead(self) -> Tensor:
        """Indices of the others."""
        return (~self.varies).nonzero()[:, 0]

    @cached_property
    def constants(self) -> Tensor:
        """The middle."""
        return (self.low + self.high) / 2

    def padded(self) -> Span:
        """With zeros beside the values."""
        return Span(self.low.clamp(max=0.0), self.high.clamp(min=0.0))

    def whole(self, live: Tensor) -> Tensor:
        """All channels from the live ones, ``(n, live, ...)``; what follows these is left away."""
        shape = (1, -1, *(1,) * (live.dim() - 2))
        constants = self.constants.to(live).reshape(shape)
        found = constants.repeat(len(live), 1, *live.shape[2:])
        found[:, self.live] = live[:, : len(self.live)]
        return found

    def parts(self, whole: Tensor) -> Tensor:
        """Live channels of ``(n, channels, ...)``, and ones if others are dead."""
        live = whole[:, self.live]
        return torch.cat([live, torch.ones_like(whole[:, :1])], dim=1) if len(self.dead) else live


class Clamped(nn.Module):
    """The live part of a convolution, its ReLU and its batch norm.

    Args:
        block: The whole.
        inputs: Of its input; it is given as `Span.parts` has it.
        ones: Whether the outputs, too, are to be as `Span.parts` has them; else live ones alone.
    """

    lower: Tensor
    upper: Tensor

    @torch.no_grad()
    def __init__(self, block: ConvNorm, inputs: Span, *, ones: bool) -> None:
        super().__init__()
        weight, bias = (values.double() for values in folded_parameters(block.conv, block.norm))
        lower, upper = _bounds(block.norm)
        low, high = _extremes(weight, inputs.padded())
        self.span = Span((low + bias).clamp(lower, upper), (high + bias).clamp(lower, upper))
        weight = _constants_joined(weight, inputs)
        live = self.span.live
        weight, bias, lower, upper = weight[live], bias[live], lower[live], upper[live]
        if ones and len(self.span.dead):
            weight = torch.cat([weight, torch.zeros_like(weight[:1])])
            bias, lower, upper = (_appended(values, 1.0) for values in (bias, lower, upper))
        self.pad = block.pad
        self.conv = _convolution(block.conv, weight, bias)
        across = (-1, *(1,) * (weight.dim() - 2))
        self.register_buffer("lower", lower.to(self.conv.weight).reshape(across))
        self.register_buffer("upper", upper.to(self.conv.weight).reshape(across))

    def forward(self, x: Tensor) -> Tensor:
        """The convolution; pooling may come between it and `clamp`."""
        found: Tensor = self.conv(F.pad(x, self.pad) if self.pad else x)
        return found

    def clamp(self, pooled: Tensor) -> Tensor:
        """The ReLU."""
        return torch.clamp(pooled, self.lower, self.upper)


class FoldedVgg(Layered):
    """`VggNetwork` in evaluation, with the weights it has now.

    Layers and shapes are the network's; see the module about the input's range.
    """

    def __init__(self, network: VggNetwork) -> None:
        super().__init__()
        rest = copy.deepcopy(network).eval().requires_grad_(False)
        self.blocks = nn.ModuleList()
        self._spans: dict[str, Span] = {}
        span = _input_span(rest.norm_input)
        for number in range(1, len(POOLS) + 1):
            block = rest.get_submodule(f"block{number}")
            assert isinstance(block, PooledBlock)
            clamped = Clamped(block, span, ones=number < len(POOLS))
            span = clamped.span
            self._spans[f"pool{number}"] = span
            self.blocks.append(clamped)
            rest.add_module(f"block{number}", nn.Identity())
        self.rest = rest

    def steps(self) -> dict[str, Step]:
        """``pool1`` .. ``pool5``, of each the live channels."""
        numbers = range(1, len(POOLS) + 1)
        return {f"pool{number}": partial(self._pooled, number=number) for number in numbers}

    def heads(self) -> dict[str, Step]:
        """``logits``."""
        return {"logits": self._logits}

    def activations(self, x: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """As in `Layered`."""
        found = super().activations(x, layers)
        return {
            name: self._spans[name].whole(values) if name in self._spans else values
            for name, values in found.items()
        }

    def resume(self, hidden: Tensor, layer: str) -> dict[str, Tensor]:
        """As in `Layered`."""
        live = self._spans[layer].parts(hidden) if layer in self._spans else hidden
        return super().resume(live, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Tag logits of patches."""
        return self.until(x, "logits")

    def _pooled(self, x: Tensor, number: int) -> Tensor:
        block = self.blocks[number - 1]
        assert isinstance(block, Clamped)
        pooled: Tensor = block.clamp(
            _largest(block(self.rest.norm_input(x) if number == 1 else x), number)
        )
        return pooled

    def _logits(self, live: Tensor) -> Tensor:
        return self.rest.heads()["logits"](self._spans[f"pool{len(POOLS)}"].whole(live))


class FoldedMusicnn(Layered):
    """`MusicnnNetwork` in evaluation, with the weights it has now.

    Layers and shapes are the network's; see the module about the input's range.
    """

    def __init__(self, network: MusicnnNetwork) -> None:
        super().__init__()
        rest = copy.deepcopy(network).eval().requires_grad_(False)
        span = _input_span(rest.norm_input)
        self.kernels = nn.ModuleList(
            Clamped(_conv_norm(kernel), span, ones=False)
            for kernel in (*rest.timbral, *rest.temporal)
        )
        spans = [kernel.span for kernel in self._clamped()]
        self._front = Span(
            torch.cat([span.low for span in spans]), torch.cat([span.high for span in spans])
        )
        self.first = Clamped(_conv_norm(rest.middle[0]), self._front, ones=False)
        rest.timbral, rest.temporal = nn.ModuleList(), nn.ModuleList()
        self.rest = rest

    def steps(self) -> dict[str, Step]:
        """As in `MusicnnNetwork`."""
        return {**self.rest.steps(), "frontend": self._frontend, "middle1": self._middle1}

    def heads(self) -> dict[str, Step]:
        """``logits``."""
        return self.rest.heads()

    def forward(self, x: Tensor) -> Tensor:
        """Tag logits of patches."""
        return self.until(x, "logits")

    def _clamped(self) -> list[Clamped]:
        return [kernel for kernel in self.kernels if isinstance(kernel, Clamped)]

    def _frontend(self, x: Tensor) -> Tensor:
        normal = self.rest.norm_input(x)
        # The bounds are for images.
        found = [
            kernel.clamp(kernel(normal).amax(3, keepdim=True))[..., 0] for kernel in self._clamped()
        ]
        return self._front.whole(torch.cat(found, dim=1))

    def _middle1(self, front: Tensor) -> Tensor:
        live = self.first.clamp(self.first(self._front.parts(front)))
        return torch.cat([front, self.first.span.whole(live)], dim=1)


def _conv_norm(module: nn.Module) -> ConvNorm:
    assert isinstance(module, ConvNorm)
    return module


def _largest(x: Tensor, number: int) -> Tensor:
    """Pooling of block `number`."""
    if number > 1:
        return F.max_pool2d(x, *POOLS[number - 1])
    # Of 4 frames every 2: pairs, and pairs of successive pairs; ten times as quick.
    even = x[:, :, : x.shape[2] // 2 * 2]
    pairs = torch.maximum(even[:, :, ::2], even[:, :, 1::2])
    return torch.maximum(pairs[:, :, :-1], pairs[:, :, 1:])


def _input_span(norm: nn.BatchNorm2d) -> Span:
    scale, shift = _scale_and_shift(norm)
    ends = torch.stack([shift, LOUDEST * scale + shift])
    return Span(ends.amin(0), ends.amax(0))


@torch.no_grad()
def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _bounds(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What the ReLU before the norm is after it: smallest and largest value."""
    scale, shift = _scale_and_shift(norm)
    return (
        shift.masked_fill(scale < 0, -torch.inf),
        shift.masked_fill(scale > 0, torch.inf),
    )


def _extremes(weight: Tensor, inputs: Span) -> tuple[Tensor, Tensor]:
    """Smallest and largest sum that each kernel can give."""
    shape = (1, -1, *(1,) * (weight.dim() - 2))
    ends = weight * inputs.low.reshape(shape), weight * inputs.high.reshape(shape)
    return (
        torch.minimum(*ends).flatten(1).sum(1),
        torch.maximum(*ends).flatten(1).sum(1),
    )


def _constants_joined(weight: Tensor, inputs: Span) -> Tensor:
    """Weights of the live inputs, and of a channel of ones in place of the dead ones."""
    if not len(inputs.dead):
        return weight
    across = (1, -1, *(1,) * (weight.dim() - 2))
    constants = (weight * inputs.constants.reshape(across))[:, inputs.dead].sum(1, keepdim=True)
    return torch.cat([weight[:, inputs.live], constants], dim=1)


def _appended(values: Tensor, value: float) -> Tensor:
    return torch.cat([values, values.new_full((1,), value)])


def _convolution(
    like: nn.Conv1d | nn.Conv2d, weight: Tensor, bias: Tensor
) -> nn.Conv1d | nn.Conv2d:
    conv = copy.deepcopy(like)
    conv.out_channels, conv.in_channels = weight.shape[:2]
    exact = weight.to(like.weight)
    if exact.dim() == 4 and exact.shape[1] > 1:
        exact = exact.contiguous(memory_format=torch.channels_last)
    conv.weight = nn.Parameter(exact, requires_grad=False)
    conv.bias = nn.Parameter(bias.to(like.weight), requires_grad=False)
    return conv
