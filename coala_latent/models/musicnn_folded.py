"""MusiCNN's networks in evaluation: the same values from a fraction of the arithmetic.

Two facts make them quick. ReLU and batch norm after a convolution are one multiplication, which
the convolution can do, and one clamping: ``scale * relu(x) + shift`` is ``scale * x + shift``, not
below `shift` where the scale is positive, not above it where it is negative. Clamping changes
nothing about which value is largest, so it comes after the pooling, where there are fewer values.

And weight decay has left many filters of the published networks without weights (in the MSD
networks up to 190 of 204): whatever the input, their output is a constant. Interval arithmetic
proves which these are, for log-mels from 0 to `LOUDEST`. They are not computed; what the next
convolution makes of the constants is kept exactly, zeros of its padding included, by one channel of
ones.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.models.layered import Layered, Step
from coala_latent.models.musicnn import ConvNorm, MusicnnNetwork, VggNetwork

__all__ = ["LOUDEST", "FoldedMusicnn", "FoldedVgg"]

# No sound below 1e6 comes near: 1573 * 1e6 ** 2 is the largest power of a mel band.
LOUDEST = 20.0
# A channel that varies by less is a constant.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Span:
    """Smallest and largest values that channels can have: ``(channels,)`` float64."""

    low: Tensor
    high: Tensor

    @property
    def live(self) -> Tensor:
        """Which channels are no constants: indices."""
        return (self.high - self.low > TOLERANCE).nonzero()[:, 0]

    @property
    def dead(self) -> Tensor:
        """The others."""
        return (self.high - self.low <= TOLERANCE).nonzero()[:, 0]

    @property
    def constants(self) -> Tensor:
        """What a channel is if it is a constant."""
        return (self.low + self.high) / 2


class Clamped(nn.Module):
    """Convolution, ReLU and batch norm, with a pooling in between: what is live of it.

    Args:
        block: Of the network.
        inputs: Spans of its input channels. The input has the live ones, and after them ones if
            there are dead ones.
        outputs: Spans of its output channels. Live ones are computed.
        ones: Append a channel of ones if there are dead outputs.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, block: ConvNorm, inputs: Span, outputs: Span, *, ones: bool) -> None:
        super().__init__()
        scale, shift = _scale_and_shift(block.norm)
        weight, bias = _parameters(block)
        weight = weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))
        bias = bias * scale + shift
        minus, plus = bias.new_tensor(-torch.inf), bias.new_tensor(torch.inf)
        lower, upper = torch.where(scale > 0, shift, minus), torch.where(scale > 0, plus, shift)
        weight = _with_ones(weight, inputs)
        live = outputs.live
        weight, bias, lower, upper = weight[live], bias[live], lower[live], upper[live]
        if ones and len(outputs.dead):
            weight = torch.cat([weight, torch.zeros_like(weight[:1])])
            bias, lower, upper = _and(bias, 1.0), _and(lower, -torch.inf), _and(upper, torch.inf)
        self.conv = _convolution(block.conv, weight, bias)
        self.pad = block.pad
        by_channel = (-1, *(1,) * (weight.dim() - 2))
        self.register_buffer("lower", lower.to(self.conv.weight).reshape(by_channel))
        self.register_buffer("upper", upper.to(self.conv.weight).reshape(by_channel))

    def forward(self, x: Tensor) -> Tensor:
        """The convolution alone; pool it, then `clamp` it."""
        found: Tensor = self.conv(F.pad(x, self.pad) if self.pad else x)
        return found

    def clamp(self, pooled: Tensor) -> Tensor:
        """ReLU and what is left of the batch norm."""
        return torch.clamp(pooled, self.lower, self.upper)
