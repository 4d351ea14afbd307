"""From blocks of sound to rows, for a network that sees one patch at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from coala_latent.embed.blocks import Block, PatchBlock
from coala_latent.types import Embedding, FloatArray

__all__ = ["PatchRows", "RowMaker"]

Marker = TypeVar("Marker")


class RowMaker(Protocol):
    """Turns the blocks of sounds, one sound after the other, into rows.

    Items are ``(number of the sound, block)``. Anything else than a block is handed on as soon as
    the rows before it have been.
    """

    def __call__(
        self, items: Iterable[tuple[int, Block | Marker]]
    ) -> Iterator[tuple[int, Embedding | Marker]]:
        """Rows of each sound in order, in pieces."""
        ...


class PatchRows:
    """Patches of successive sounds share batches.

    Args:
        network: Patches ``(n, *patch_shape)`` to rows ``(n, dim)``.
        batch_size: Patches in one pass of the network.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], batch_size: int) -> None:
        self._network = network
        self._batch_size = batch_size

    def __call__(
        self, items: Iterable[tuple[int, Block | Marker]]
    ) -> Iterator[tuple[int, Embedding | Marker]]:
        """Rows whenever a batch is full, and at the end."""
        waiting: deque[tuple[int, Block | Marker]] = deque()
        patches: list[Tensor] = []
        count = 0
        ready: FloatArray = np.zeros((0, 0), np.float32)
        for number, item in items:
            waiting.append((number, item))
            if isinstance(item, PatchBlock) and len(item):
                patches.append(item.patches)
                count += len(item)
            while count >= self._batch_size:
                joined = torch.cat(patches)
                ready = self._add(ready, joined[: self._batch_size])
                patches, count = [joined[self._batch_size :]], count - self._batch_size
            ready = yield from _give(waiting, ready)
        if count:
            ready = self._add(ready, torch.cat(patches))
        yield from _give(waiting, ready)

    def _add(self, ready: FloatArray, patches: Tensor) -> FloatArray:
        rows = self._network(patches).cpu().numpy()
        return np.concatenate([ready, rows]) if len(ready) else rows


def _give(
    waiting: deque[tuple[int, Block | Marker]], ready: FloatArray
) -> Generator[tuple[int, Embedding | Marker], None, FloatArray]:
    """Take what is complete from the front; returns the rows that are left."""
    used = 0
    while waiting:
        number, item = waiting[0]
        if isinstance(item, PatchBlock):
            if used + len(item) > len(ready):
                break
            if len(item):
                yield number, Embedding(ready[used : used + len(item)], item.start, item.end)
            used += len(item)
        else:
            yield number, item  # type: ignore[misc]
        waiting.popleft()
    return ready[used:]
