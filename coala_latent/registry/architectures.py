"""Builders: from the plain values of a card to modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from torch import nn

from coala_latent.audio.frontends import CoalaFrontEnd, CoalaLegacy, CoalaStandard, FrontEnd
from coala_latent.audio.musicnn import MusicnnFrontEnd
from coala_latent.audio.raw import RawWaveform
from coala_latent.audio.yamnet import YamnetFrontEnd
from coala_latent.errors import ConfigError
from coala_latent.models.classifier import WaveformClassifier
from coala_latent.models.coala import (
    CNN,
    AudioDecoder,
    AudioEncoder,
    Coala,
    CoalaTagger,
    TagDecoder,
    TagEncoder,
)
from coala_latent.models.coala_resnet import AudioEncoderRes
from coala_latent.models.musicnn import Musicnn, MusicnnNetwork, VggNetwork
from coala_latent.models.soundnet import (
    OBJECTS,
    SCENES,
    SoundNet,
    SoundNetClassifier,
    SoundNetwork,
)
from coala_latent.models.tag_encoders import (
    NormedAudioEncoder,
    TagMeanEncoder,
    TagSelfAttentionEncoder,
)
from coala_latent.models.yamnet import Yamnet, YamnetNetwork

__all__ = [
    "ARCHITECTURES",
    "FRONT_ENDS",
    "VGG_FRONT_END",
    "Architecture",
    "build_front_end",
    "build_module",
]

FRONT_ENDS: dict[str, Callable[..., FrontEnd | RawWaveform]] = {
    "coala_legacy": CoalaLegacy,
    "coala_standard": CoalaStandard,
    "musicnn": MusicnnFrontEnd,
    "waveform": RawWaveform,
    "yamnet": YamnetFrontEnd,
}


def build_front_end(name: str, **settings: Any) -> Any:
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
    audio_encoder: Callable[[int], AudioEncoder | AudioEncoderRes] = AudioEncoder,
) -> Coala:
    """COALA's two autoencoders (`decoders=True`) or encoders alone."""
    embedding = 9 * channels
    return Coala(
        front_end,
        audio_encoder(channels),
        TagEncoder(tags, embedding, hidden),
        AudioDecoder(channels) if decoders else None,
        TagDecoder(tags, embedding, hidden) if decoders else None,
    )


def build_coala_mean_tags(
    front_end: CoalaFrontEnd,
    *,
    channels: int = 128,
    tags: int,
    words: int = 128,
    frozen_words: bool = False,
    decoders: bool = True,
) -> Coala:
    """The follow-up with the mean of words; `decoders` is the sound's alone."""
    return Coala(
        front_end,
        NormedAudioEncoder(channels, words),
        TagMeanEncoder(tags, words, frozen_words),
        AudioDecoder(channels) if decoders else None,
    )


def build_coala_attention(
    front_end: CoalaFrontEnd,
    *,
    channels: int = 128,
    tags: int,
    words: int = 128,
    heads: int = 4,
    mask_queries: bool = True,
    frozen_words: bool = False,
    decoders: bool = True,
) -> Coala:
    """The follow-up with self-attention of words; `decoders` is the sound's alone."""
    return Coala(
        front_end,
        NormedAudioEncoder(channels, words),
        TagSelfAttentionEncoder(tags, words, heads, mask_queries, frozen_words),
        AudioDecoder(channels) if decoders else None,
    )


def build_coala_cnn(front_end: CoalaFrontEnd, *, channels: int = 128, tags: int) -> CoalaTagger:
    """The tag-supervised baseline."""
    return CoalaTagger(front_end, CNN(channels, tags))


def build_yamnet(front_end: YamnetFrontEnd, *, channels: int = 32, classes: int = 521) -> Yamnet:
    """YAMNet."""
    return Yamnet(front_end, YamnetNetwork(channels, classes))


def build_musicnn(
    front_end: MusicnnFrontEnd,
    *,
    timbral: int = 204,
    temporal: int = 51,
    middle: int = 64,
    dense: int = 200,
    tags: int = 50,
) -> Musicnn:
    """The musically motivated network."""
    return Musicnn(front_end, MusicnnNetwork(timbral, temporal, middle, dense, tags))


def build_musicnn_vgg(
    front_end: MusicnnFrontEnd, *, channels: int = 128, tags: int = 50
) -> Musicnn:
    """The VGG that came with it, backbone of the concept hierarchies."""
    return Musicnn(front_end, VggNetwork(channels, tags))


def build_soundnet(
    front_end: RawWaveform,
    *,
    depth: Literal[5, 8] = 8,
    widths: Sequence[int] | None = None,
    objects: int = OBJECTS,
    scenes: int = SCENES,
) -> SoundNet:
    """SoundNet of 8 or 5 layers."""
    return SoundNet(front_end, SoundNetwork(depth, widths, objects, scenes))


def build_soundnet_classifier(
    front_end: RawWaveform,
    *,
    depth: Literal[5, 8] = 8,
    widths: Sequence[int] | None = None,
    classes: int,
    kernel: int = 4,
) -> WaveformClassifier:
    """SoundNet's trunk and a convolution to other classes."""
    # Heads that are not used are not worth building.
    trunk = SoundNetwork(depth, widths, objects=1, scenes=1)
    return WaveformClassifier(front_end, SoundNetClassifier(trunk, classes, kernel))


_COALA = Architecture(
    build=build_coala,
    hears="patches",
    default_layer="z",
    short="pad",
    paper="Favory, Drossos, Virtanen, Serra: COALA: Co-Aligned Autoencoders for Learning "
    "Semantically Enriched Audio Representations, 2020, arXiv 2006.08386",
    project="https://github.com/xavierfav/coala",
)

_FOLLOW_UP = replace(
    _COALA,
    paper="Favory, Drossos, Virtanen, Serra: Learning Contextual Tag Embeddings for Cross-Modal "
    "Alignment of Audio and Tags, ICASSP 2021, arXiv 2010.14171",
    project="https://github.com/xavierfav/ae-w2v-attention",
)

# The VGG's poolings drop the last frames of a patch of 187: two time steps of its last layer, 64
# frames each, are all it has, and they hear no further than frame 160.
VGG_FRONT_END = {"name": "musicnn", "patch_hop": 128, "heard": 160}

_MUSICNN = Architecture(
    build=build_musicnn,
    hears="patches",
    default_layer="penultimate",
    short="pad",
    paper="Pons, Serra: musicnn: Pre-trained convolutional neural networks for music audio "
    "tagging, ISMIR 2019 late-breaking, arXiv 1909.06654",
    project="https://github.com/jordipons/musicnn",
)

_SOUNDNET = Architecture(
    build=build_soundnet,
    hears="sequence",
    default_layer="pool5",
    short="tile",
    paper="Aytar, Vondrick, Torralba: SoundNet: Learning Sound Representations from Unlabeled "
    "Video, NeurIPS 2016, arXiv 1610.09001",
    project="https://github.com/cvondrick/soundnet",
)

ARCHITECTURES: dict[str, Architecture] = {
    "coala": _COALA,
    "coala_attention": replace(_FOLLOW_UP, build=build_coala_attention),
    "coala_cnn": replace(_COALA, build=build_coala_cnn),
    "coala_mean_tags": replace(_FOLLOW_UP, build=build_coala_mean_tags),
    "coala_resnet": replace(_COALA, build=partial(build_coala, audio_encoder=AudioEncoderRes)),
    "yamnet": Architecture(
        build=build_yamnet,
        hears="patches",
        default_layer="embedding",
        short="pad",
        paper="Gemmeke et al.: Audio Set: An ontology and human-labeled dataset for audio events, "
        "ICASSP 2017; Howard et al.: MobileNets, 2017, arXiv 1704.04861",
        project="https://github.com/tensorflow/models/tree/master/research/audioset/yamnet",
    ),
    "musicnn": _MUSICNN,
    "musicnn_vgg": replace(_MUSICNN, build=build_musicnn_vgg, default_layer="pool5"),
    "soundnet": _SOUNDNET,
    "soundnet_classifier": replace(
        _SOUNDNET, build=build_soundnet_classifier, default_layer="classes"
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
