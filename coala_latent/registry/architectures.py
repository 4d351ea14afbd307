"""Builders: from the plain values of a card to modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from coala_latent.audio.frontends import CoalaFrontEnd, CoalaLegacy, CoalaStandard, FrontEnd
from coala_latent.errors import ConfigError
from coala_latent.models.coala import (
    CNN,
    AudioDecoder,
    AudioEncoder,
    Coala,
    CoalaTagger,
    TagDecoder,
    TagEncoder,
)

__all__ = ["ARCHITECTURES", "FRONT_ENDS", "build_front_end", "build_module"]

FRONT_ENDS: dict[str, Callable[..., FrontEnd]] = {
    "coala_legacy": CoalaLegacy,
    "coala_standard": CoalaStandard,
}


def build_front_end(name: str, **settings: Any) -> FrontEnd:
    """A front end by name.

    Raises:
        ConfigError: Unknown name or setting.
    """
    if name not in FRONT_ENDS:
        raise ConfigError(f"no front end {name!r}; there are {', '.join(sorted(FRONT_ENDS))}")
    try:
        return FRONT_ENDS[name](**settings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"front end {name}: {error}") from error


def build_coala(
    front_end: CoalaFrontEnd,
    *,
    channels: int = 128,
    tags: int,
    hidden: int = 512,
    decoders: bool = True,
) -> Coala:
    """COALA's two autoencoders (`decoders=True`) or encoders alone."""
    embedding = 9 * channels
    return Coala(
        front_end,
        AudioEncoder(channels),
        TagEncoder(tags, embedding, hidden),
        AudioDecoder(channels) if decoders else None,
        TagDecoder(tags, embedding, hidden) if decoders else None,
    )


def build_coala_cnn(front_end: CoalaFrontEnd, *, channels: int = 128, tags: int) -> CoalaTagger:
    """The tag-supervised baseline."""
    return CoalaTagger(front_end, CNN(channels, tags))


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "coala": build_coala,
    "coala_cnn": build_coala_cnn,
}


def build_module(
    architecture: str, front_end: Mapping[str, Any], sizes: Mapping[str, Any]
) -> nn.Module:
    """A randomly initialised module from a card's values.

    Raises:
        ConfigError: Unknown architecture, front end or size.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"no architecture {architecture!r}; there are {', '.join(sorted(ARCHITECTURES))}"
        )
    heard = build_front_end(**front_end)
    try:
        return ARCHITECTURES[architecture](heard, **sizes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"architecture {architecture}: {error}") from error
