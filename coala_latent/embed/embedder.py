"""`load_model` and `Embedder`: any sound to an `Embedding`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.io import AudioInfo, Channels
from coala_latent.audio.resample import resampler_settings
from coala_latent.embed.blocks import Block, PatchBlock, WaveBlock
from coala_latent.embed.hearing import Hearing, PatchHearing, joined
from coala_latent.embed.live import StreamEncoder
from coala_latent.embed.pooling import check_pooling
from coala_latent.embed.sequence_hearing import SequenceHearing
from coala_latent.embed.sources import FileEnd, as_sound, file_blocks, sound_blocks
from coala_latent.embed.stream import Short
from coala_latent.errors import ConfigError
from coala_latent.registry import Card, build_model
from coala_latent.store import StoreIdentity
from coala_latent.types import Embedding, Sound

__all__ = ["Embedder", "Precision", "load_model", "pick_device"]

Precision = Literal["float32", "bfloat16", "float16"]

_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def pick_device(device: str | torch.device) -> torch.device:
    """A device; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: The device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.zeros(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"no device {str(device)!r} here: {str(error).splitlines()[0]} (use cpu or auto)"
        ) from error
    return chosen


class Embedder:
    """Embeds sounds with one model, one pooling, and one layer or several.

    The weights are those the model has when the embedder is made.

    Args:
        model: Has ``front_end`` and ``network`` (see `coala_latent.models.layered`); is moved to
            the device and put in evaluation mode.
        card: The model's card.
        layer: Layer to embed, or several, whose columns are put beside each other (`split` takes
            them apart); the card's default by default.
        pooling: How a layer with positions becomes a vector: ``mean``, ``max``, ``mean+max``,
            ``mean+std`` or ``flatten``.
        device: ``"cpu"``, ``"cuda"``, ``"auto"`` ...
        batch_size: Patches in one pass of the network.
        patch: Time steps in a row, for a network that runs along the waveform; others have the
            patches they were trained with.
        patch_hop: Frames between patches (the front end's by default), or time steps between rows
            (`patch` by default).
        short: What to do with sounds shorter than one row; the card's policy by default.
        channels: ``"mean"`` or ``"first"``.
        allow_truncated: Use what is there of files that end too early.
        precision: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` for the network's arithmetic;
            rows are float32 all the same.

    Raises:
        ConfigError: No such layer, pooling or device, or another option that makes no sense.
    """

    def __init__(
        self,
        model: nn.Module,
        card: Card,
        *,
        layer: str | Sequence[str] | None = None,
        pooling: str = "mean",
        device: str | torch.device = "cpu",
        batch_size: int = 32,
        patch: int | None = None,
        patch_hop: int | None = None,
        short: Short | None = None,
        channels: Channels = "mean",
        allow_truncated: bool = False,
        precision: Precision = "float32",
    ) -> None:
        check_pooling(pooling)
        if channels not in ("mean", "first"):
            raise ConfigError(f"channels must be mean or first, not {channels!r}")
        if short not in (None, "pad", "tile", "error"):
            raise ConfigError(f"short must be pad, tile or error, not {short!r}")
        if precision not in _PRECISIONS:
            choices = ", ".join(_PRECISIONS)
            raise ConfigError(f"precision must be one of {choices}, not {precision!r}")
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        self.card = card
        self.layers = _layers(card, layer)
        self.pooling = pooling
        self.batch_size = batch_size
        self.short: Short = short or card.short
        self.channels = channels
        self.allow_truncated = allow_truncated
        self.precision = precision
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.hearing = self._hearing(patch, patch_hop)

    def _hearing(self, patch: int | None, patch_hop: int | None) -> Hearing:
        precision = _PRECISIONS[self.precision]
        if isinstance(self.model.front_end, FrontEnd):
            if patch is not None:
                raise ConfigError(
                    f"{self.card.name} has patches of a fixed length: leave patch out"
                )
            return PatchHearing(
                self.model,
                self.layers,
                self.pooling,
                batch_size=self.batch_size,
                patch_hop=patch_hop,
                precision=precision,
            )
        return SequenceHearing(
            self.model,
            self.card,
            self.layers,
            self.pooling,
            patch=1 if patch is None else patch,
            patch_hop=patch_hop,
            precision=precision,
        )

    @property
    def layer(self) -> str:
        """The layer, or the layers joined by ``+``."""
        return "+".join(self.layers)

    @property
    def sample_rate(self) -> int:
        """Rate that sounds are resampled to, in Hz."""
        return self.card.sample_rate

    @property
    def dim(self) -> int:
        """Values in one row."""
        return sum(self.hearing.sizes.values())

    def __call__(self, waveform: Any, sample_rate: int | None = None) -> Embedding:
        """Embed an array or tensor ``(time,)`` or ``(channels, time)``, or a `Sound`.

        Raises:
            AudioError: The samples cannot be used.
        """
        return self._embed([as_sound(waveform, sample_rate)])[0]

    def file(self, path: str | os.PathLike[str]) -> Embedding:
        """Embed a sound file.

        Raises:
            AudioError: The file cannot be read.
        """
        return self._embed([path])[0]

    def batch(self, sounds: Sequence[Any], sample_rate: int | None = None) -> list[Embedding]:
        """Embed sounds of any lengths together; full batches go through the network.

        Args:
            sounds: Paths, `Sound`, and arrays or tensors ``(time,)`` or ``(channels, time)``.
            sample_rate: Of the arrays and tensors, in Hz.

        Raises:
            ConfigError: A single path instead of several.
            AudioError: One of them cannot be used; `embed_files` goes on after bad files.
        """
        if isinstance(sounds, (str, os.PathLike)):
            raise ConfigError(f"{os.fspath(sounds)}: one path; use file(), or give a list")
        return self._embed(
            [
                sound if isinstance(sound, (str, os.PathLike)) else as_sound(sound, sample_rate)
                for sound in sounds
            ]
        )

    def stream(self, sample_rate: int) -> StreamEncoder:
        """Embed a sound while it arrives."""
        return StreamEncoder(self.hearing, self.short, self.channels, sample_rate)

    def split(self, embedding: Embedding) -> dict[str, Embedding]:
        """The columns of each layer.

        Raises:
            ValueError: The rows are not of this embedder's size.
        """
        if embedding.dim != self.dim:
            raise ValueError(f"rows of {embedding.dim} values, this embedder's have {self.dim}")
        borders = np.cumsum(list(self.hearing.sizes.values()))[:-1]
        parts = np.split(embedding.values, borders, axis=1)
        return {
            layer: Embedding(part, embedding.start, embedding.end)
            for layer, part in zip(self.layers, parts, strict=True)
        }

    def file_blocks(self, path: str | os.PathLike[str]) -> Iterator[Block | AudioInfo | FileEnd]:
        """The header of a file, its blocks, and its end; see `sources.file_blocks`."""
        return file_blocks(
            path,
            self.hearing.cutter(self.short),
            self.channels,
            allow_truncated=self.allow_truncated,
        )

    def _embed(self, sounds: Sequence[Sound | str | os.PathLike[str]]) -> list[Embedding]:
        found: list[list[Embedding]] = [[] for _ in sounds]
        items = (
            (number, block) for number, sound in enumerate(sounds) for block in self._blocks(sound)
        )
        for number, rows in self.hearing.rows()(items):
            found[number].append(rows)
        return [joined(pieces, self.dim) for pieces in found]

    def _blocks(self, sound: Sound | str | os.PathLike[str]) -> Iterator[Block]:
        if isinstance(sound, Sound):
            cutter = self.hearing.cutter(self.short)
            yield from sound_blocks(as_sound(sound, None), cutter, self.channels)
            return
        for item in self.file_blocks(sound):
            if isinstance(item, (PatchBlock, WaveBlock)):
                yield item

    def identity(self, dtype: str = "float32") -> StoreIdentity:
        """What a store must agree on to hold this embedder's rows."""
        exact = {} if self.precision == "float32" else {"precision": self.precision}
        return StoreIdentity(
            model=self.card.name,
            weights_sha256=self.card.sha256,
            front_end={
                **self.card.front_end,
                **self.hearing.settings(),
                "short": self.short,
                "channels": self.channels,
                **exact,
            },
            resampler={**resampler_settings(), "target_rate": self.sample_rate},
            layer=self.layer,
            pooling=self.pooling,
            dim=self.dim,
            dtype=dtype,  # type: ignore[arg-type]
        )


def _layers(card: Card, layer: str | Sequence[str] | None) -> tuple[str, ...]:
    if layer is None:
        return (card.default_layer,)
    layers = (layer,) if isinstance(layer, str) else tuple(layer)
    for name in layers:
        if name not in card.layers:
            raise ConfigError(f"{card.name} has no layer {name!r}; it has {', '.join(card.layers)}")
    if not layers or len(set(layers)) < len(layers):
        raise ConfigError(f"layers must be one or more, each once, not {list(layers)}")
    return layers


def load_model(
    model: str | os.PathLike[str],
    layer: str | Sequence[str] | None = None,
    pooling: str = "mean",
    **options: Any,
) -> Embedder:
    """An `Embedder` for a registered model or a ``.safetensors`` file with its card.

    Args:
        model: Name (see `list_models`) or path.
        layer: See `Embedder`.
        pooling: See `Embedder`.
        **options: The other arguments of `Embedder`.
    """
    module, card = build_model(model)
    return Embedder(module, card, layer=layer, pooling=pooling, **options)
