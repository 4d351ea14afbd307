"""A convolution and the batch normalisation after it, as one convolution.

In evaluation a batch norm is one multiplication and one addition per channel, which the
convolution before it can do for nothing.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["folded", "folded_parameters", "scale_and_shift"]

Convolution = TypeVar("Convolution", nn.Conv1d, nn.Conv2d)


def folded_parameters(
    conv: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    """Weight and bias that do what `conv` and then `norm` in evaluation do.

    Computed in float64 and rounded once.

    Returns:
        Weight of the convolution's shape and bias ``(channels,)``, both of the convolution's dtype
        and on its device, without gradient.

    Raises:
        ValueError: The norm keeps no running statistics, or normalises other channels.
    """
    scale, shift = _exact(conv, norm)
    by_channel = scale.reshape(-1, *(1,) * (conv.weight.dim() - 1))
    weight = conv.weight.detach().to(scale) * by_channel
    return weight.to(conv.weight), shift.to(conv.weight)


def scale_and_shift(
    conv: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    """What bias and `norm` in evaluation do to the output of `conv` without its bias.

    Where weights are many and outputs are few, scaling the outputs is less work than scaling the
    weights.

    Returns:
        Factor and summand, each ``(channels,)``; computed as in `folded_parameters`.

    Raises:
        ValueError: As in `folded_parameters`.
    """
    scale, shift = _exact(conv, norm)
    return scale.to(conv.weight), shift.to(conv.weight)


def folded(conv: Convolution, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Convolution:
    """A new convolution, with bias, that does what `conv` and then `norm` in evaluation do.

    Args:
        conv: A convolution; stride, padding, dilation and groups are kept.
        norm: The batch norm of its output channels, with running statistics.

    Returns:
        Of the same type, dtype and device, not requiring gradients; `conv` is left as it is.

    Raises:
        ValueError: As in `folded_parameters`.
    """
    weight, bias = folded_parameters(conv, norm)
    fused = copy.deepcopy(conv)
    fused.weight = nn.Parameter(weight, requires_grad=False)
    fused.bias = nn.Parameter(bias, requires_grad=False)
    return fused


@torch.no_grad()
def _exact(
    conv: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d
) -> tuple[Tensor, Tensor]:
    """Scale and shift in float64, on the CPU where the device has no such numbers."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    if norm.num_features != conv.out_channels:
        raise ValueError(
            f"the norm has {norm.num_features} channels, the convolution {conv.out_channels}"
        )
    device = torch.device("cpu") if conv.weight.device.type == "mps" else conv.weight.device
    mean, variance = (
        values.to(device, torch.float64) for values in (norm.running_mean, norm.running_var)
    )
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.to(device, torch.float64)
    shift = -mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.to(device, torch.float64)
    if conv.bias is not None:
        shift = shift + conv.bias.to(device, torch.float64) * scale
    return scale, shift
