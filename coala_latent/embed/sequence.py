"""Sounds for networks that run along the waveform, and the rows their layers give.

Such a network has time steps of its own, at another rate in every layer. A row is one step of a
layer or a few together; where several layers are embedded at once, the one with the longest steps
sets the rows, and the steps of the others go to the row whose middle they are nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.audio.raw import RawWaveform
from coala_latent.embed.blocks import Block, WaveBlock, checked_samples, extend_short
from coala_latent.embed.pooling import pool
from coala_latent.models.geometry import Geometry
from coala_latent.models.streaming import StackStream
from coala_latent.types import Embedding

__all__ = ["SequenceRows", "SoundRows", "StepGrid", "WaveStream"]

Marker = TypeVar("Marker")


@dataclass(frozen=True)
class StepGrid:
    """Which time steps of which layer make a row.

    Attributes:
        layers: Name and geometry of each layer.
        patch: Steps in a row, of the layer with the longest steps.
        patch_hop: Steps between rows, of the same layer.
    """

    layers: Mapping[str, Geometry]
    patch: int = 1
    patch_hop: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.patch_hop <= self.patch:
            raise ValueError("patch_hop must be between 1 and patch, or samples would be unheard")

    @property
    def leading(self) -> Geometry:
        """Geometry of the layer that sets the rows."""
        return self.layers[self.leading_layer]

    @property
    def leading_layer(self) -> str:
        """The layer with the longest steps, of those the one that hears most in a step."""
        sizes = {layer: (each.stride, each.field) for layer, each in self.layers.items()}
        return max(sizes, key=lambda layer: sizes[layer])

    @property
    def minimum(self) -> int:
        """Samples that every layer needs for a first step."""
        return max(geometry.minimum for geometry in self.layers.values())

    def rows(self, steps: int) -> int:
        """Rows of that many steps of the leading layer; the last may be incomplete."""
        return 0 if steps == 0 else 1 + max(0, -(-(steps - self.patch) // self.patch_hop))

    def steps(self, row: int, geometry: Geometry) -> tuple[int, int]:
        """Steps ``[first, last)`` of a layer that are nearest to a row."""
        leading = self.leading
        # Twice the samples, so that the middle of a field is whole.
        middle = 2 * (leading.offset - geometry.offset) + leading.field - geometry.field
        begin = middle + (2 * row * self.patch_hop - 1) * leading.stride
        end = begin + 2 * self.patch * leading.stride
        step = 2 * geometry.stride
        return -(-begin // step), -(-end // step)

    def times(
        self, first: int, count: int, steps: int, sample_rate: int, duration: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Seconds that rows hear, given how many steps of the leading layer there are."""
        begin = (first + np.arange(count)) * self.patch_hop
        last = np.minimum(begin + self.patch, steps) - 1
        leading = self.leading
        start = (leading.offset + begin * leading.stride) / sample_rate
        end = (leading.offset + last * leading.stride + leading.field) / sample_rate
        return np.clip(start, 0.0, duration), np.clip(end, 0.0, duration)


class WaveStream:
    """Samples of one sound as its network wants them: long enough, and heard to the end.

    Args:
        front_end: Says rate and device.
        grid: The rows.
        short: What to do with a sound that is too short for the layers: extend it with silence,
            repeat it, or refuse it.
        source: Name of the sound for messages.
    """

    def __init__(
        self, front_end: RawWaveform, grid: StepGrid, short: str = "tile", source: str = "array"
    ) -> None:
        self._rate = front_end.sample_rate
        self._device = front_end.device
        self._grid = grid
        self._short = short
        self._source = source
        self._held = torch.zeros(0, device=self._device)
        self._started = False
        self._samples = 0

    def push(self, samples: npt.NDArray[np.floating] | Tensor) -> WaveBlock:
        """Add ``(time,)`` samples at the front end's rate.

        Raises:
            AudioValueError: Not one-dimensional, or samples that are NaN, infinite or beyond 1e6.
        """
        new = checked_samples(samples, self._device, self._source)
        self._samples += len(new)
        if not self._started:
            # Whether the sound is to be repeated is known when it is long enough.
            new = self._held = torch.cat([self._held, new])
            if len(new) < self._grid.minimum:
                return self._block(new[:0])
            self._started, self._held = True, new[:0]
        return self._block(new)

    def finish(self) -> WaveBlock:
        """What was held back, and silence where the network would not hear the sound's end.

        Raises:
            AudioTooShortError: The sound is too short and `short` is ``"error"``.
        """
        sound = self._held
        if not self._started:
            sound = extend_short(sound, self._grid.minimum, self._short, self._rate, self._source)
        length = max(self._samples, len(sound), self._grid.minimum)
        given = self._samples if self._started else 0
        missing = self._grid.leading.covering(length) - given - len(sound)
        return self._block(torch.nn.functional.pad(sound, (0, missing)), last=True)

    def _block(self, samples: Tensor, *, last: bool = False) -> WaveBlock:
        return WaveBlock(samples, self._samples / self._rate, last)


class SequenceRows:
    """Rows of successive sounds.

    Args:
        begin: Makes what turns the blocks of one sound into rows.
    """

    def __init__(self, begin: Callable[[], Callable[[Block], Embedding]]) -> None:
        self._begin = begin

    def __call__(
        self, items: Iterable[tuple[int, Block | Marker]]
    ) -> Iterator[tuple[int, Embedding | Marker]]:
        """Rows as soon as the samples they hear have come."""
        current, rows = None, self._begin()
        for number, item in items:
            if isinstance(item, WaveBlock):
                if number != current:
                    current, rows = number, self._begin()
                found = rows(item)
                if len(found):
                    yield number, found
            else:
                yield number, item  # type: ignore[misc]


class SoundRows:
    """Rows of one sound.

    Args:
        front_end: Scales the waveform.
        stream: The network, evaluated piece by piece.
        grid: The rows.
        pooling: How the steps of a row become a vector.
    """

    def __init__(
        self, front_end: RawWaveform, stream: StackStream, grid: StepGrid, pooling: str
    ) -> None:
        self._front_end = front_end
        self._stream = stream
        self._grid = grid
        self._pooling = pooling
        self._given = 0
        # Of each layer the steps that later rows need, and the index of the first of them.
        self._steps: dict[str, Tensor] = {}
        self._first = dict.fromkeys(grid.layers, 0)
        self._leading = grid.leading_layer

    @torch.inference_mode()
    def push(self, block: WaveBlock) -> Embedding:
        """Rows that a block completes."""
        self._append(self._stream.push(self._front_end(block.samples)))
        if block.last:
            self._append(self._stream.finish())
        count = self._total() if block.last else self._complete()
        rows = [
            self._row(row, last=block.last and row == count - 1)
            for row in range(self._given, count)
        ]
        start, end = self._grid.times(
            self._given,
            len(rows),
            self._count(self._leading),
            self._front_end.sample_rate,
            block.duration,
        )
        self._given = max(count, self._given)
        self._forget()
        values = torch.cat(rows).float().cpu().numpy() if rows else np.zeros((0, 0), np.float32)
        return Embedding(values, start, end)

    def _append(self, steps: Mapping[str, Tensor]) -> None:
        for layer, new in steps.items():
            before = self._steps.get(layer)
            self._steps[layer] = new if before is None else torch.cat([before, new], dim=-1)

    def _count(self, layer: str) -> int:
        return self._first[layer] + self._steps[layer].shape[-1]

    def _total(self) -> int:
        return self._grid.rows(self._count(self._leading))

    def _complete(self) -> int:
        """Rows that nothing to come can change."""
        count = self._total()
        while count > self._given and not self._is_complete(count - 1):
            count -= 1
        return count

    def _is_complete(self, row: int) -> bool:
        # The last row takes in what is left of the faster layers: it may not be given too soon.
        if len(self._grid.layers) > 1 and row == self._total() - 1:
            return False
        return all(
            self._grid.steps(row, geometry)[1] <= self._count(layer)
            for layer, geometry in self._grid.layers.items()
        )

    def _row(self, row: int, *, last: bool) -> Tensor:
        parts = []
        for layer, geometry in self._grid.layers.items():
            available = self._count(layer)
            begin, end = self._grid.steps(row, geometry)
            # The first and the last row take what lies beyond them.
            begin = 0 if row == 0 else min(begin, available - 1)
            end = available if last else max(end, begin + 1)
            first = self._first[layer]
            steps = self._steps[layer][..., begin - first : end - first]
            if self._pooling == "flatten":
                missing = self._grid.patch - steps.shape[-1]
                steps = torch.nn.functional.pad(steps, (0, missing))
            parts.append(pool(steps, self._pooling))
        return torch.cat(parts, dim=1)

    def _forget(self) -> None:
        """Let go of steps that no later row needs."""
        for layer, geometry in self._grid.layers.items():
            # One step is kept for a last row that has none of its own.
            needed = min(self._grid.steps(self._given, geometry)[0], self._count(layer) - 1)
            drop = max(0, needed - self._first[layer]) if self._given else 0
            self._steps[layer] = self._steps[layer][..., drop:].clone()
            self._first[layer] += drop
