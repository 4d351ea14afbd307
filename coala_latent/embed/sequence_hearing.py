"""How a network that runs along the waveform is listened with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from coala_latent.audio.raw import RawWaveform
from coala_latent.embed.blocks import Block, WaveBlock
from coala_latent.embed.hearing import Hearing, Listen, arithmetic_of
from coala_latent.embed.pooling import pooled_size
from coala_latent.embed.rows import RowMaker
from coala_latent.embed.sequence import SequenceRows, SoundRows, StepGrid, WaveStream
from coala_latent.embed.sources import Cutter
from coala_latent.embed.stream import Short
from coala_latent.errors import ConfigError
from coala_latent.models.streaming import StackStream
from coala_latent.registry import Card
from coala_latent.types import Embedding

__all__ = ["SequenceHearing"]


class SequenceHearing(Hearing):
    """Time steps of a network that runs along the waveform, one or a few a row.

    Args:
        model: Has a `RawWaveform` and a network with ``geometry``.
        card: Says how many channels the layers have.
        layers: To embed.
        pooling: Over the steps of a row.
        patch: Steps in a row, of the layer with the longest steps.
        patch_hop: Steps between rows; `patch` by default.
        precision: Of the network's arithmetic.
    """

    def __init__(
        self,
        model: Any,
        card: Card,
        layers: Sequence[str],
        pooling: str,
        *,
        patch: int,
        patch_hop: int | None,
        precision: torch.dtype,
    ) -> None:
        self.layers = tuple(layers)
        self._model = model
        self._pooling = pooling
        self._precision = precision
        geometries = {layer: model.network.geometry(layer) for layer in layers}
        hop = patch if patch_hop is None else patch_hop
        try:
            self.grid = StepGrid(geometries, patch, hop)
        except ValueError as error:
            raise ConfigError(f"patch={patch}, patch_hop={hop}: {error}") from error
        leading, several = self.grid.leading, len(geometries) > 1
        # Where layers have steps of other lengths, a row is complete when the next one is.
        span = leading.field + (patch - 1 + several * hop) * leading.stride
        self.latency_seconds = span / model.front_end.sample_rate
        if pooling == "flatten" and len({each.stride for each in geometries.values()}) > 1:
            raise ConfigError("pooling='flatten' needs layers with equally long time steps")
        self.sizes = {layer: pooled_size(card.layers[layer], patch, pooling) for layer in layers}

    def cutter(self, short: Short) -> Cutter:
        """The waveform, long enough and to its end."""
        front_end: RawWaveform = self._model.front_end
        return Cutter(
            front_end.sample_rate,
            lambda source: WaveStream(front_end, self.grid, short=short, source=source),
        )

    def rows(self) -> RowMaker:
        """Rows of one sound after the other."""
        return SequenceRows(self.listen)

    def listen(self) -> Listen:
        """One sound."""
        device = self._model.front_end.device
        rows = SoundRows(
            self._model.front_end,
            StackStream(self._model.network, self.layers),
            self.grid,
            self._pooling,
        )

        def listen(block: Block) -> Embedding:
            if not isinstance(block, WaveBlock):
                raise TypeError(f"{type(block).__name__} is not a piece of a waveform")
            with arithmetic_of(device, self._precision):
                return rows.push(block)

        return listen

    def settings(self) -> dict[str, Any]:
        """Steps of a row."""
        return {"patch": self.grid.patch, "patch_hop": self.grid.patch_hop}
