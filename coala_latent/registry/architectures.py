"""Builders: from the plain values of a card to modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from coala_latent.audio.frontends import CoalaFrontEnd, CoalaLegacy, CoalaStandard, FrontEnd
from coala_latent.audio.yamnet import YamnetFrontEnd
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
from coala_latent.models.yamnet import Yamnet, YamnetNetwork

__all__ = ["ARCHITECTURES", "FRONT_ENDS", "Architecture", "build_front_end", "build_module"]

FRONT_ENDS: dict[str, Callable[..., FrontEnd]] = {
    "coala_legacy": CoalaLegacy,
    "coala_standard": CoalaStandard,
    "yamnet": YamnetFrontEnd,
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


@dataclass(frozen=True)
class Architecture:
    """A kind of model.

    Attributes:
        build: Makes the module from a front end and the sizes of a card.
        hears: ``"patches"``: front end and network see one patch at a time; ``"sequence"``: the
            network runs along the waveform, and its layers have time steps of their own.
        default_layer: What is embedded unless another layer is named.
        short: What happens to sounds shorter than one row.
        paper: Reference.
        project: The original project.
    """

    build: Callable[..., nn.Module]
    hears: Literal["patches", "sequence"]
    default_layer: str
    short: Literal["pad", "tile", "error"]
    paper: str
    project: str


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


def build_yamnet(front_end: YamnetFrontEnd, *, channels: int = 32, classes: int = 521) -> Yamnet:
    """YAMNet."""
    return Yamnet(front_end, YamnetNetwork(channels, classes))


_COALA = Architecture(
    build=build_coala,
    hears="patches",
    default_layer="z",
    short="pad",
    paper="Favory, Drossos, Virtanen, Serra: COALA: Co-Aligned Autoencoders for Learning "
    "Semantically Enriched Audio Representations, 2020, arXiv 2006.08386",
    project="https://github.com/xavierfav/coala",
)

ARCHITECTURES: dict[str, Architecture] = {
    "coala": _COALA,
    "coala_cnn": replace(_COALA, build=build_coala_cnn),
    "yamnet": Architecture(
        build=build_yamnet,
        hears="patches",
        default_layer="embedding",
        short="pad",
        paper="Gemmeke et al.: Audio Set: An ontology and human-labeled dataset for audio events, "
        "ICASSP 2017; Howard et al.: MobileNets, 2017, arXiv 1704.04861",
        project="https://github.com/tensorflow/models/tree/master/research/audioset/yamnet",
    ),
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
        return ARCHITECTURES[architecture].build(heard, **sizes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"architecture {architecture}: {error}") from error
