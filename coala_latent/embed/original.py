"""The original COALA project's `encode` functions, with its call forms and return values.

What differs: errors are raised instead of printed; nothing is read at import; arrays, tensors and
safetensors files are accepted beside paths and ``.pt`` files; and pad noise, which the original
drew unseeded for every file up to 10 s, is only added when a seed is given.

A bare module loaded from a ``.pt`` file hears with the original's front end (`CoalaLegacy`). A
module of this library follows its card.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coala_latent.audio.frontends import CoalaLegacy, FrontEnd
from coala_latent.audio.io import read_audio
from coala_latent.audio.resample import resample
from coala_latent.embed.batching import batches
from coala_latent.embed.blocks import PatchBlock
from coala_latent.embed.embedder import pick_device
from coala_latent.embed.sources import Cutter, as_sound, file_blocks, sound_blocks
from coala_latent.embed.stream import PatchStream, Short
from coala_latent.errors import ModelNotFoundError, TagError, WeightsError
from coala_latent.models.modes import evaluating
from coala_latent.registry import Card, build_model, list_models, load_checkpoint
from coala_latent.types import Sound

__all__ = [
    "extract_audio_embedding",
    "extract_audio_embedding_chunks",
    "extract_tag_embedding",
    "return_loaded_model",
]

Factory = Callable[[], nn.Module]
Vocabulary = Sequence[str] | Mapping[str, str] | str | os.PathLike[str]

_BATCH = 32
# Where the original kept its vocabulary, below the current directory.
_ORIGINAL_VOCABULARY = Path("json/id2token_top_1000.json")


def return_loaded_model(
    model: Factory | None,
    checkpoint: str | os.PathLike[str],
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Build a model and load its weights, in evaluation mode.

    Args:
        model: A class (`AudioEncoder`, `TagEncoder`, `CNN` ...) or function without arguments
            that makes the module. For a registry name or a library file its type says which part
            of the model is wanted; None takes the part that embeds sound.
        checkpoint: A ``.pt`` state dictionary, a ``.safetensors`` file, or a registry name.
        device: Where to put it.

    Raises:
        ModelNotFoundError: No such name or file.
        WeightsError: The weights are damaged or do not fit.
    """
    path = Path(checkpoint)
    has_card = path.suffix == ".safetensors" and path.with_suffix(".json").is_file()
    if has_card or str(checkpoint) in list_models():
        module = _library_part(model, checkpoint)
    elif not path.is_file():
        raise ModelNotFoundError(
            f"{checkpoint}: no such checkpoint file or model name; the models are "
            f"{', '.join(list_models())}"
        )
    elif model is None:
        raise WeightsError(f"{checkpoint}: has no card; name the class it belongs to")
    else:
        module = model()
        load_checkpoint(module, path)
    return module.to(pick_device(device)).eval()


def _library_part(model: Factory | None, checkpoint: str | os.PathLike[str]) -> nn.Module:
    whole, card = build_model(checkpoint)
    if model is None:
        part: nn.Module = whole.network  # type: ignore[assignment]
    else:
        kind = model if isinstance(model, type) else type(model())
        parts = [module for module in whole.modules() if type(module) is kind]
        if not parts:
            raise WeightsError(f"{checkpoint}: the model has no {kind.__name__}")
        part = parts[0]
    part.card = card  # type: ignore[assignment]
    # Not a registered sub-module: the part's own state_dict must stay the original's.
    part.__dict__["front_end"] = whole.front_end
    return part


def extract_audio_embedding(
    model: nn.Module,
    filename: Any,
    sample_rate: int | None = None,
    *,
    pad_noise_seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Embed the first patch of a sound (2.2 s).

    Args, returns and errors as `extract_audio_embedding_chunks`, with one row.
    """
    for block in _blocks(model, filename, sample_rate, pad_noise_seed):
        if len(block):
            return _run(model, iter([block.patches[:1]]))
    raise AssertionError("a finished sound has at least one patch")


def extract_audio_embedding_chunks(
    model: nn.Module,
    filename: Any,
    sample_rate: int | None = None,
    *,
    pad_noise_seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Embed every patch of a sound.

    Args:
        model: From `return_loaded_model`, or any module that maps ``(batch, 1, 96, 96)`` to a
            pair.
        filename: A path, or an array or tensor ``(time,)`` or ``(channels, time)``, or a `Sound`.
        sample_rate: Of an array or tensor, in Hz.
        pad_noise_seed: Add the original's pad noise, drawn from this seed (legacy front end, and
            sounds up to 10 s).

    Returns:
        ``z (n, 1152)`` and the model's second output: the projection ``z_d (n, 1152)`` of an
        `AudioEncoder`, or the tag probabilities ``(n, 1000)`` of a `CNN`; float32 on the CPU.
        With the legacy front end n is 4 for sounds up to 10 s.

    Raises:
        AudioError: The sound cannot be read.
    """
    blocks = _blocks(model, filename, sample_rate, pad_noise_seed)
    return _run(model, (block.patches for block in blocks))


def _front_end(model: nn.Module) -> FrontEnd:
    found = model.__dict__.get("front_end")
    return found if isinstance(found, FrontEnd) else CoalaLegacy()


def _blocks(
    model: nn.Module, source: Any, sample_rate: int | None, pad_noise_seed: int | None
) -> Iterator[PatchBlock]:
    device = next(model.parameters()).device
    front_end = _front_end(model).to(device)
    card = getattr(model, "card", None)
    short: Short = card.short if isinstance(card, Card) else "pad"
    cutter = Cutter(
        front_end.sample_rate, lambda name: PatchStream(front_end, short=short, source=name)
    )
    is_path = isinstance(source, (str, os.PathLike))
    if pad_noise_seed is not None and isinstance(front_end, CoalaLegacy):
        sound = read_audio(source) if is_path else as_sound(source, sample_rate)
        source, is_path = _with_pad_noise(sound, front_end, pad_noise_seed), False
    if is_path:
        found: Iterator[Any] = file_blocks(source, cutter, "mean")
    else:
        found = sound_blocks(as_sound(source, sample_rate), cutter, "mean")
    return (block for block in found if isinstance(block, PatchBlock))


def _with_pad_noise(sound: Sound, front_end: CoalaLegacy, seed: int) -> Sound:
    mono = sound.samples if sound.samples.ndim == 1 else sound.samples.mean(axis=0)
    samples = torch.from_numpy(resample(mono, sound.sample_rate, front_end.sample_rate))
    noisy = front_end.add_pad_noise(samples, torch.Generator().manual_seed(seed))
    return Sound(noisy.numpy(), front_end.sample_rate, sound.source)


def _run(model: nn.Module, patches: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    with evaluating(model):
        pairs = [model(batch[:, None]) for batch in batches(patches, _BATCH)]
        first, second = zip(*pairs, strict=True)
        return torch.cat(first).float().cpu(), torch.cat(second).float().cpu()


def extract_tag_embedding(
    model: nn.Module, tag: str | Sequence[str], vocabulary: Vocabulary | None = None
) -> Tensor:
    """Embed a tag, or a set of tags, with a tag encoder.

    Args:
        model: A `TagEncoder` from `return_loaded_model`.
        tag: A tag of the vocabulary, or several.
        vocabulary: Tags by index: a sequence, a mapping ``{"0": tag}``, or the path of such a
            JSON file. By default the model's card; for a bare module
            ``json/id2token_top_1000.json`` below the current directory, as in the original.

    Returns:
        ``z (1, 1152)`` float32 on the CPU.

    Raises:
        TagError: A tag is not in the vocabulary (close ones are suggested), none was given,
            there is no vocabulary, or it is not this model's.
    """
    first = next(model.parameters())
    if first.dim() != 2:
        raise TagError(f"{type(model).__name__} does not embed tags: give a TagEncoder")
    index = _tag_index(model, vocabulary, size=first.shape[1])
    names = [tag] if isinstance(tag, str) else list(tag)
    if not names:
        raise TagError("no tag given")
    for name in names:
        if name not in index:
            close = difflib.get_close_matches(str(name), index, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"there are {len(index)}"
            raise TagError(f"no tag {name!r} in the vocabulary; {hint}")
    hot = torch.zeros(1, first.shape[1], device=first.device)
    hot[0, [index[name] for name in names]] = 1.0
    with evaluating(model):
        z: Tensor = model(hot)[0]
    return z.float().cpu()


def _tag_index(model: nn.Module, vocabulary: Vocabulary | None, size: int) -> dict[str, int]:
    """Tags with their places among the model's `size` inputs."""
    card = getattr(model, "card", None)
    if vocabulary is None and isinstance(card, Card):
        if not card.vocabulary:
            raise TagError(f"the card of {card.name} has no vocabulary; give vocabulary=")
        vocabulary = card.vocabulary
    if vocabulary is None:
        vocabulary = _ORIGINAL_VOCABULARY
    entries: Any = vocabulary
    if isinstance(vocabulary, (str, os.PathLike)):
        try:
            entries = json.loads(Path(vocabulary).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise TagError(
                f"{vocabulary}: no readable vocabulary ({error}); give vocabulary="
            ) from error
    if isinstance(entries, (str, bytes)) or not isinstance(entries, (Mapping, Sequence)):
        raise TagError("the vocabulary must be a list of tags or a mapping from index to tag")
    pairs = entries.items() if isinstance(entries, Mapping) else enumerate(entries)
    try:
        index = {str(token): int(place) for place, token in pairs}
    except ValueError as error:
        raise TagError(f"the vocabulary must map an index to a tag: {error}") from error
    if len(entries) != size or not all(0 <= place < size for place in index.values()):
        raise TagError(
            f"the vocabulary has {len(entries)} tags, the model takes {size}: it is another model's"
        )
    return index
