"""How a model is listened with: what its sounds are cut into, and how these become rows."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from coala_latent.audio.frontends import FrontEnd
from coala_latent.embed.blocks import Block
from coala_latent.embed.pooling import pool
from coala_latent.embed.rows import PatchRows, RowMaker
from coala_latent.embed.sources import Cutter
from coala_latent.embed.stream import PatchStream, Short
from coala_latent.errors import ConfigError
from coala_latent.types import Embedding

__all__ = ["Hearing", "Listen", "PatchHearing", "arithmetic_of", "joined"]

Listen: TypeAlias = Callable[[Block], Embedding]


def joined(pieces: Sequence[Embedding], dim: int) -> Embedding:
    """Pieces of one sound's rows, each of `dim` values, put together."""
    some = [piece for piece in pieces if len(piece)]
    if not some:
        return Embedding(np.zeros((0, dim), np.float32), np.zeros(0), np.zeros(0))
    return Embedding(
        np.concatenate([piece.values for piece in some]),
        np.concatenate([piece.start for piece in some]),
        np.concatenate([piece.end for piece in some]),
    )


class Hearing(ABC):
    """One model, some of its layers, one pooling.

    Attributes:
        layers: Names of the layers, in the order of their columns.
        sizes: Columns of each layer.
        latency_seconds: From a row's first sample until the row, in a stream.
    """

    layers: tuple[str, ...]
    sizes: dict[str, int]
    latency_seconds: float

    @abstractmethod
    def cutter(self, short: Short) -> Cutter:
        """Sounds to blocks."""

    @abstractmethod
    def rows(self) -> RowMaker:
        """Blocks of many sounds to rows."""

    @abstractmethod
    def listen(self) -> Listen:
        """Blocks of one sound to rows, each at once."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What of the framing is not in the card."""


class PatchHearing(Hearing):
    """Patches of a spectrogram, each a row.

    Args:
        model: Has a `FrontEnd` and a network.
        layers: To embed.
        pooling: Over the positions of a layer.
        batch_size: Patches in one pass.
        patch_hop: Frames between patches; the front end's own by default.
        precision: Of the network's arithmetic.
    """

    def __init__(
        self,
        model: Any,
        layers: Sequence[str],
        pooling: str,
        *,
        batch_size: int,
        patch_hop: int | None,
        precision: torch.dtype,
    ) -> None:
        self.layers = tuple(layers)
        # A copy that shares the buffers, so that a patch hop stays this embedder's own.
        self.front_end: FrontEnd = copy.copy(model.front_end)
        # The form that is fastest in evaluation, where the network has one of its own.
        fold = getattr(model.network, "folded", None)
        self._network = model.network if fold is None else fold()
        self._pooling = pooling
        self._batch_size = batch_size
        self._precision = precision
        if patch_hop is not None:
            try:
                self.front_end.framing = replace(self.front_end.framing, patch_hop=patch_hop)
            except ValueError as error:
                raise ConfigError(f"patch_hop={patch_hop}: {error}") from error
        self.latency_seconds = self.front_end.framing.patch_samples / self.front_end.sample_rate
        silence = self.front_end.window.new_zeros(1, *self.front_end.patch_shape)
        parts = self._parts(silence)
        self.sizes = {layer: part.shape[1] for layer, part in parts.items()}

    def cutter(self, short: Short) -> Cutter:
        """Patches as their last samples come."""
        return Cutter(
            self.front_end.sample_rate,
            lambda source: PatchStream(self.front_end, short=short, source=source),
        )

    def rows(self) -> RowMaker:
        """Batches across sounds."""
        return PatchRows(self.embed, self._batch_size)

    def listen(self) -> Listen:
        """Each block by itself."""
        rows = self.rows()
        return lambda block: joined([found for _, found in rows([(0, block)])], 0)

    def embed(self, patches: Tensor) -> Tensor:
        """Rows ``(n, dim)`` of patches ``(n, *patch_shape)``."""
        return torch.cat(list(self._parts(patches).values()), dim=1)

    @torch.inference_mode()
    def _parts(self, patches: Tensor) -> dict[str, Tensor]:
        patches = patches.to(self.front_end.window.device)
        with arithmetic_of(patches.device, self._precision):
            found = self._network.activations(patches[:, None], self.layers)
        axis = self._network.time_axis
        return {layer: pool(found[layer].float(), self._pooling, axis) for layer in self.layers}

    def settings(self) -> dict[str, Any]:
        """The framing."""
        return {"framing": asdict(self.front_end.framing)}


def arithmetic_of(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """Context in which a network computes in that precision."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=precision)
