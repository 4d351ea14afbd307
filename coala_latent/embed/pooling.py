"""Pooling: from a layer's activations to one vector a patch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from coala_latent.errors import ConfigError

__all__ = ["POOLINGS", "pool", "pooled_size"]


def _mean_std(values: Tensor) -> Tensor:
    return torch.cat([values.mean(-1), values.std(-1, unbiased=False)], dim=-1)


def _mean_max(values: Tensor) -> Tensor:
    return torch.cat([values.mean(-1), values.amax(-1)], dim=-1)


# Over the last axis of (batch, channels, positions).
POOLINGS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "mean": (lambda values: values.mean(-1), 1),
    "max": (lambda values: values.amax(-1), 1),
    "mean+max": (_mean_max, 2),
    "mean+std": (_mean_std, 2),
}


def _time_mean(activations: Tensor, time_axis: int) -> Tensor:
    if activations.dim() != 4:
        return activations.mean(2)
    # Band by band, with the channels of each beside each other.
    return activations.mean(time_axis).transpose(1, 2).flatten(1)


def check_pooling(pooling: str) -> None:
    """Raise `ConfigError` for an unknown pooling."""
    if pooling not in POOLINGS and pooling not in ("flatten", "time"):
        choices = ", ".join([*sorted(POOLINGS), "flatten", "time"])
        raise ConfigError(f"no pooling {pooling!r}; there are {choices}")


def pool(activations: Tensor, pooling: str, time_axis: int = 2) -> Tensor:
    """Pool ``(batch, channels, ...)`` over all positions to ``(batch, dim)``.

    A layer without positions, ``(batch, channels)``, has nothing to pool and is returned.
    ``"flatten"`` keeps every position, ``"time"`` every band, as the mean over time.

    Args:
        activations: Of a layer.
        pooling: One of `POOLINGS`, ``"flatten"`` or ``"time"``.
        time_axis: Which axis of a map ``(batch, channels, ., .)`` is time: 2 or 3.
    """
    if activations.dim() == 2 or pooling == "flatten":
        return activations.flatten(1)
    if pooling == "time":
        return _time_mean(activations, time_axis)
    return POOLINGS[pooling][0](activations.flatten(2))


def pooled_size(channels: int, positions: int, pooling: str) -> int:
    """Values in a row of a layer of that shape; `positions` is 0 for a layer without any."""
    if positions == 0:
        return channels
    if pooling == "time":  # steps along the waveform have no bands
        return channels
    return channels * (positions if pooling == "flatten" else POOLINGS[pooling][1])
