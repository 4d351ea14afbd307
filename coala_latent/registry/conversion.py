"""From files as they were published to a model of this library and its card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coala_latent.errors import WeightsError
from coala_latent.registry.architectures import build_front_end, build_module
from coala_latent.registry.card import Card
from coala_latent.registry.describe import describe_model
from coala_latent.registry.fingerprint import STEP, check_fingerprint
from coala_latent.registry.known import KnownWeights
from coala_latent.weights import file_sha256, load_into
from coala_latent.weights.readers import read_arrays

__all__ = ["Published", "assemble", "read_published"]

RATE = 16000
_PART_ENDINGS = (".pt", ".pth", ".safetensors")
_INDEX = ".index"


@dataclass(frozen=True)
class Published:
    """What was read of published files.

    Attributes:
        state: State dictionary of the model.
        sizes: Arguments of the architecture's builder.
        classes: How many names belong to each set of classes or words.
        files: SHA-256 of each file that was read, by name.
        source: The files, for messages.
        converter: What made the state dictionary.
    """

    state: Mapping[str, Tensor]
    sizes: Mapping[str, Any]
    classes: Mapping[str, int]
    files: Mapping[str, str]
    source: str
    converter: str


def read_published(known: KnownWeights, files: Sequence[Path]) -> Published:
    """Read published weights; everything in them is used once and has the right shape.

    Args:
        known: What they should be.
        files: The files, or the folder they are in.

    Raises:
        WeightsError: The files are missing, others, or damaged.
    """
    if known.join is not None:
        return _read_parts(known, files)
    path, ending = _one_file(known, files)
    converter = known.converters[ending]
    return Published(
        state=converter(read_arrays(path)),
        sizes=known.sizes,
        classes=known.classes,
        files=_hashes([path]),
        source=str(path),
        converter=converter.__name__,
    )


def _read_parts(known: KnownWeights, files: Sequence[Path]) -> Published:
    assert known.join is not None
    paths = _parts(known, files)
    arrays = {part: read_arrays(path) for part, path in paths.items()}
    joined = known.join(**arrays, front_end=build_front_end(**known.front_end))
    return Published(
        state=joined.state,
        sizes=joined.sizes,
        classes={"tags": joined.sizes["tags"]},
        files=_hashes(list(paths.values())),
        source=", ".join(map(str, paths.values())),
        converter=known.join.__name__,
    )


def _candidates(files: Sequence[Path], endings: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Files, and those in folders, that end in one of the ways."""
    for given in files:
        if not given.exists():
            raise WeightsError(f"{given}: no such file or folder (check the path)")
        for path in sorted(given.iterdir()) if given.is_dir() else [given]:
            if ending := next((end for end in endings if path.name.endswith(end)), ""):
                yield path, ending


def _one_file(known: KnownWeights, files: Sequence[Path]) -> tuple[Path, str]:
    """The one file that there is a converter for, and the ending it is known by."""
    found = list(_candidates(files, tuple(known.converters)))
    if len(found) != 1:
        listed = ", ".join(str(path) for path, _ in found) or ", ".join(map(str, files))
        kinds = ", ".join(f"*{ending}" for ending in known.converters)
        raise WeightsError(
            f"{listed}: {'more than one file' if found else 'no file'} of {known.name} "
            f"(give one of {kinds})"
        )
    return found[0]


def _parts(known: KnownWeights, files: Sequence[Path]) -> dict[str, Path]:
    """The file of each part, told by its name; a lone part may have any name."""
    found: dict[str, Path] = {}
    for path, _ in _candidates(files, _PART_ENDINGS):
        fitting = [part for part in known.parts if part in path.name or len(known.parts) == 1]
        if len(fitting) != 1:
            raise WeightsError(
                f"{path}: is it one of {', '.join(known.parts)}? (name it so, or leave it out)"
            )
        if fitting[0] in found:
            raise WeightsError(
                f"{path}: {found[fitting[0]].name} is the same part (give the files of one model)"
            )
        found[fitting[0]] = path
    needed = [part for part, is_needed in known.parts.items() if is_needed and part not in found]
    if needed:
        missing = "no checkpoint" if len(known.parts) == 1 else f"no {' and no '.join(needed)}"
        raise WeightsError(
            f"{', '.join(map(str, files))}: {missing} of {known.name} "
            f"({', '.join(f'*{ending}' for ending in _PART_ENDINGS)})"
        )
    return found


def _hashes(paths: Sequence[Path]) -> dict[str, str]:
    read = set(paths)
    for path in paths:
        if path.name.endswith(_INDEX):  # the values are in the files it names
            read |= set(path.parent.glob(f"{path.name.removesuffix(_INDEX)}.data-*"))
    return {file.name: file_sha256(file) for file in sorted(read)}


def assemble(
    known: KnownWeights,
    published: Published,
    names: Mapping[str, tuple[str, ...]],
    origin: Mapping[str, Any],
) -> tuple[nn.Module, Card]:
    """The model in evaluation mode, with the weights in it, and its card.

    Args:
        known: What the weights are.
        published: What was read.
        names: Names of every set of classes or words.
        origin: Where the files come from, for the card.

    Raises:
        WeightsError: The weights do not fit the model, or it does not hear what it should.
    """
    card = describe_model(
        known.name,
        known.description,
        architecture=known.architecture,
        front_end=known.front_end,
        sizes=published.sizes,
        vocabulary=names["tags"] if known.vocabulary else (),
        classes={} if known.vocabulary else names,
        licence=known.licence,
        origin={**origin, "files": published.files, "converter": published.converter},
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        module = build_module(card.architecture, card.front_end, card.sizes).eval()
    load_into(module, published.state, published.source)
    _check_answers(known, module, published.source)
    if known.fingerprint is not None:
        digest, offset = known.fingerprint
        expected = {"step": STEP, "offset": offset, "sha256": digest}
        check_fingerprint(module, replace(card, fingerprint=expected))
    return module, card


def _check_answers(known: KnownWeights, module: nn.Module, source: str) -> None:
    """Three sounds whose class is beyond doubt must be among the ten highest scores."""
    time = torch.arange(3 * RATE) / RATE
    noise = torch.rand(len(time), generator=torch.Generator().manual_seed(0)) * 2 - 1
    sounds = {
        "silence": torch.zeros_like(time),
        "noise": noise,
        "tone": torch.sin(2 * torch.pi * 440 * time),
    }
    for sound, expected in known.answers.items():
        with torch.inference_mode():
            highest = module(sounds[sound]).scores.mean(0).topk(10).indices.tolist()
        if expected not in highest:
            raise WeightsError(
                f"{source}: the converted network does not recognise {sound}: its ten highest "
                f"classes are {highest}, without {expected} (are the weights damaged?)"
            )
