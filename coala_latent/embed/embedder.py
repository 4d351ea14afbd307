"""`load_model` and `Embedder`: any sound to an `Embedding`."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.io import AudioInfo, Channels
from coala_latent.audio.resample import resampler_settings
from coala_latent.embed.batching import batches
from coala_latent.embed.pooling import check_pooling, pool
from coala_latent.embed.sources import FileEnd, as_sound, file_patches, sound_patches
from coala_latent.embed.stream import PatchBlock, Short
from coala_latent.errors import ConfigError
from coala_latent.registry import Card, build_model
from coala_latent.store import StoreIdentity
from coala_latent.types import Embedding, Sound

__all__ = ["Embedder", "load_model", "pick_device"]


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
    """Embeds sounds with one model, layer and pooling.

    Args:
        model: Has ``front_end`` and ``network`` (with ``layers`` and ``until``); is moved to the
            device and put in evaluation mode.
        card: The model's card.
        layer: Layer to embed; the card's default by default.
        pooling: How a layer with positions becomes a vector: ``mean``, ``max``, ``mean+max``,
            ``mean+std`` or ``flatten``.
        device: ``"cpu"``, ``"cuda"``, ``"auto"`` ...
        batch_size: Patches in one pass of the network.
        patch_hop: Frames between patches; the front end's by default.
        short: What to do with sounds shorter than a patch; the card's policy by default.
        channels: ``"mean"`` or ``"first"``.
        allow_truncated: Use what is there of files that end too early.

    Raises:
        ConfigError: No such layer, pooling or device, or another option that makes no sense.
    """

    def __init__(
        self,
        model: nn.Module,
        card: Card,
        *,
        layer: str | None = None,
        pooling: str = "mean",
        device: str | torch.device = "cpu",
        batch_size: int = 32,
        patch_hop: int | None = None,
        short: Short | None = None,
        channels: Channels = "mean",
        allow_truncated: bool = False,
    ) -> None:
        check_pooling(pooling)
        if channels not in ("mean", "first"):
            raise ConfigError(f"channels must be mean or first, not {channels!r}")
        if short not in (None, "pad", "tile", "error"):
            raise ConfigError(f"short must be pad, tile or error, not {short!r}")
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, not {batch_size}")
        self.card = card
        self.layer = layer or card.default_layer
        if self.layer not in card.layers:
            raise ConfigError(
                f"{card.name} has no layer {self.layer!r}; it has {', '.join(card.layers)}"
            )
        self.pooling = pooling
        self.batch_size = batch_size
        self.short: Short = short or card.short
        self.channels = channels
        self.allow_truncated = allow_truncated
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        # A copy that shares the buffers, so that a patch hop stays this embedder's own.
        self.front_end: FrontEnd = copy.copy(self.model.front_end)  # type: ignore[assignment]
        self.network: Any = self.model.network
        if patch_hop is not None:
            try:
                self.front_end.framing = replace(self.front_end.framing, patch_hop=patch_hop)
            except ValueError as error:
                raise ConfigError(f"patch_hop={patch_hop}: {error}") from error

    @property
    def sample_rate(self) -> int:
        """Rate that sounds are resampled to, in Hz."""
        return self.front_end.sample_rate

    @property
    def dim(self) -> int:
        """Values in one row."""
        framing = self.front_end.framing
        silence = torch.zeros(1, self.front_end.bands, framing.patch, device=self.device)
        return int(self.rows(silence).shape[1])

    def __call__(self, waveform: Any, sample_rate: int | None = None) -> Embedding:
        """Embed an array or tensor ``(time,)`` or ``(channels, time)``, or a `Sound`.

        Raises:
            AudioError: The samples cannot be used.
        """
        return self._embed(self._blocks(as_sound(waveform, sample_rate)))

    def file(self, path: str | os.PathLike[str]) -> Embedding:
        """Embed a sound file.

        Raises:
            AudioError: The file cannot be read.
        """
        return self._embed(self._blocks(path))

    def batch(self, sounds: Sequence[Sound | str | os.PathLike[str]]) -> list[Embedding]:
        """Embed sounds and files of any lengths together; full batches go through the network.

        Raises:
            AudioError: One of them cannot be used; `embed_files` goes on after bad files.
        """
        if not sounds:
            return []
        counts = [0] * len(sounds)

        def blocks() -> Iterator[PatchBlock]:
            for index, sound in enumerate(sounds):
                for block in self._blocks(sound):
                    counts[index] += len(block)
                    yield block

        joined = self._embed(blocks())
        borders = np.cumsum(counts)[:-1]
        parts = (np.split(part, borders) for part in (joined.values, joined.start, joined.end))
        return [Embedding(*rows) for rows in zip(*parts, strict=True)]

    def _blocks(self, sound: Sound | str | os.PathLike[str]) -> Iterator[PatchBlock]:
        if isinstance(sound, Sound):
            return sound_patches(
                as_sound(sound, None), self.front_end, short=self.short, channels=self.channels
            )
        return (block for block in self.file_blocks(sound) if isinstance(block, PatchBlock))

    def file_blocks(
        self, path: str | os.PathLike[str]
    ) -> Iterator[PatchBlock | AudioInfo | FileEnd]:
        """The header of a file, its patches, and its end; see `file_patches`."""
        return file_patches(
            path,
            self.front_end,
            short=self.short,
            channels=self.channels,
            allow_truncated=self.allow_truncated,
        )

    def _embed(self, blocks: Iterable[PatchBlock]) -> Embedding:
        start, end = [], []

        def patches() -> Iterator[Tensor]:
            for block in blocks:
                start.append(block.start)
                end.append(block.end)
                yield block.patches

        values = [self.rows(batch).cpu().numpy() for batch in batches(patches(), self.batch_size)]
        return Embedding(
            np.concatenate(values) if values else np.zeros((0, self.dim), np.float32),
            np.concatenate(start) if start else np.zeros(0),
            np.concatenate(end) if end else np.zeros(0),
        )

    @torch.inference_mode()
    def rows(self, patches: Tensor) -> Tensor:
        """Rows ``(n, dim)`` of scaled patches ``(n, bands, frames)``."""
        hidden = self.network.until(patches[:, None].to(self.device), self.layer)
        return pool(hidden, self.pooling).float()

    def identity(self, dtype: str = "float32") -> StoreIdentity:
        """What a store must agree on to hold this embedder's rows."""
        return StoreIdentity(
            model=self.card.name,
            weights_sha256=self.card.sha256,
            front_end={
                **self.card.front_end,
                "framing": asdict(self.front_end.framing),
                "short": self.short,
                "channels": self.channels,
            },
            resampler={**resampler_settings(), "target_rate": self.sample_rate},
            layer=self.layer,
            pooling=self.pooling,
            dim=self.dim,
            dtype=dtype,  # type: ignore[arg-type]
        )


def load_model(
    model: str | os.PathLike[str],
    layer: str | None = None,
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
