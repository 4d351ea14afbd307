"""Cutting a flow of patches into equal batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["batches"]


def batches(patches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Batches of exactly `size` rows from tensors of any number of rows; the last may be smaller.

    A batch is given out as soon as it is full, so that no more than one is ever waiting.
    """
    waiting: list[Tensor] = []
    count = 0
    for some in patches:
        if len(some):
            waiting.append(some)
            count += len(some)
        while count >= size:
            joined = torch.cat(waiting)
            yield joined[:size]
            waiting = [joined[size:]] if count > size else []
            count -= size
    if waiting:
        yield torch.cat(waiting)
