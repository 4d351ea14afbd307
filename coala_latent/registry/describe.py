"""Cards of freshly built models: what follows from front end and sizes is worked out here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from coala_latent.audio.frontends import FrontEnd
from coala_latent.errors import ConfigError
from coala_latent.registry.architectures import ARCHITECTURES, build_module
from coala_latent.registry.card import Card

__all__ = ["describe_model"]


def describe_model(
    name: str,
    description: str,
    *,
    architecture: str,
    front_end: Mapping[str, Any],
    sizes: Mapping[str, Any],
    default_layer: str | None = None,
    vocabulary: tuple[str, ...] = (),
    classes: Mapping[str, tuple[str, ...]] | None = None,
    licence: str = "",
    origin: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Card:
    """The card of a model, without building its weights.

    Args:
        name: Registry name.
        description: One sentence.
        architecture: Key of `ARCHITECTURES`.
        front_end: ``{"name": ..., **settings}``.
        sizes: Arguments of the architecture's builder.
        default_layer: Layer to embed by default; the architecture's own unless given.
        vocabulary: Tags of a model that embeds tags.
        classes: Names of the classes behind each of the model's sets of scores.
        licence: Of the weights.
        origin: Where converted weights come from.
        training: Of the run that made the weights.

    Raises:
        ConfigError: Parts or sizes that do not exist.
    """
    heard = _work_out(architecture, _frozen(front_end), _frozen(sizes))
    kind = ARCHITECTURES[architecture]
    layer = default_layer or kind.default_layer
    if layer not in heard.layers:
        raise ConfigError(f"{name} has no layer {layer!r}; it has {', '.join(heard.layers)}")
    timing = heard.timing[layer]
    return Card(
        name=name,
        architecture=architecture,
        description=description,
        front_end=dict(front_end),
        sizes=dict(sizes),
        sample_rate=heard.sample_rate,
        layers=dict(heard.layers),
        default_layer=layer,
        hop_seconds=timing["hop_seconds"],
        window_seconds=timing["window_seconds"],
        min_samples=int(timing["min_samples"]),
        short=kind.short,
        drops=heard.drops,
        paper=kind.paper,
        project=kind.project,
        licence=licence,
        vocabulary=vocabulary,
        latency_seconds=timing["latency_seconds"],
        classes=dict(classes or {}),
        timing=heard.timing if kind.hears == "sequence" else {},
        origin=dict(origin or {}),
        training=dict(training or {}),
    )


class _Heard:
    """What a module says about itself."""

    def __init__(self, module: Any, drops: str) -> None:
        self.sample_rate: int = module.front_end.sample_rate
        self.drops = drops
        network = module.network
        with torch.inference_mode():
            shapes = network.activations(_example(module), network.layers)
        self.layers = {layer: int(shapes[layer].shape[1]) for layer in network.layers}
        self.timing = {layer: self._timing(module, layer) for layer in network.layers}

    def _timing(self, module: Any, layer: str) -> dict[str, float]:
        rate = self.sample_rate
        if isinstance(module.front_end, FrontEnd):
            framing = module.front_end.framing
            hop, window, latest = framing.patch_step, framing.heard_samples, framing.patch_samples
            least = framing.row_samples
        else:
            geometry = module.network.geometry(layer)
            hop, window, least = geometry.stride, geometry.field, geometry.minimum
            latest = window
        return {
            "hop_seconds": hop / rate,
            "window_seconds": window / rate,
            "latency_seconds": latest / rate,
            "min_samples": least,
        }


def _example(module: Any) -> torch.Tensor:
    """Input of the smallest usable size, without values."""
    front_end, network = module.front_end, module.network
    if isinstance(front_end, FrontEnd):
        return torch.empty(1, 1, *front_end.patch_shape, device="meta")
    longest = max(network.geometry(layer).minimum for layer in network.layers)
    return torch.empty(1, 1, longest, device="meta")


_Frozen = tuple[tuple[str, Any], ...]


def _frozen(settings: Mapping[str, Any]) -> _Frozen:
    return tuple(
        (name, tuple(value) if isinstance(value, list) else value)
        for name, value in settings.items()
    )


def _thawed(settings: _Frozen) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings}


@lru_cache(maxsize=64)
def _work_out(architecture: str, front_end: _Frozen, sizes: _Frozen) -> _Heard:
    with torch.device("meta"):
        module: Any = build_module(architecture, _thawed(front_end), _thawed(sizes)).eval()
    return _Heard(module, getattr(module.front_end, "drops", ""))
