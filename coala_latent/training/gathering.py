"""Rows of all processes of a run, with gradient, for losses that compare items with each other."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Gathered", "gather_pairs", "processes"]


class Gathered(NamedTuple):
    """Pairs of all processes, one process after the other.

    Attributes:
        a: ``(all, dim)``, with gradient.
        b: ``(all, dim)``, with gradient.
        tags: ``(all, tags)``.
        share: This process' rows beside the mean over processes: a mean over its own rows times
            this, averaged over processes, is the mean over all rows.
    """

    a: Tensor
    b: Tensor
    tags: Tensor
    share: float


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_pairs(a: Tensor, b: Tensor, tags: Tensor) -> Gathered:
    """Pairs of all processes; those given where there is one process.

    Each process computes the whole loss, and the gradient of every row comes back summed over the
    processes. Averaged by data-parallel training, gradients of parameters are those of one process
    with the joined batch. Processes may have different numbers of rows, but all must call this.

    Args:
        a: ``(batch, dim)``, float.
        b: ``(batch, dim)``, of the same dtype.
        tags: ``(batch, tags)``.
    """
    if processes() == 1:
        return Gathered(a, b, tags, 1.0)
    # Torch may be built without it.
    from torch.distributed.nn.functional import all_gather

    counts = _counts(len(a), a.device)
    with torch.autocast(a.device.type, enabled=False):
        # Summing gradients of many processes in half precision would lose digits.
        pairs = torch.cat([a.to(_wide(a)), b.to(_wide(b))], dim=1)
        parts = all_gather(_filled(pairs, max(counts)))
        joined = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    given = _filled(tags, max(counts))
    others = [torch.empty_like(given) for _ in counts]
    dist.all_gather(others, given)
    every = torch.cat([part[:count] for part, count in zip(others, counts, strict=True)])
    share = len(a) * len(counts) / sum(counts)
    return Gathered(joined[:, : a.shape[1]], joined[:, a.shape[1] :], every, share)


def _wide(x: Tensor) -> torch.dtype:
    return x.dtype if x.element_size() >= 4 else torch.float32


def _counts(count: int, device: torch.device) -> list[int]:
    own = torch.tensor([count], device=device)
    found = [torch.empty_like(own) for _ in range(processes())]
    dist.all_gather(found, own)
    return [int(each) for each in torch.cat(found).tolist()]


def _filled(rows: Tensor, count: int) -> Tensor:
    """With rows of zeros at the end, so that all processes send the same shape."""
    return F.pad(rows, (0, 0, 0, count - len(rows))).contiguous()
