"""COALA from the original project's checkpoints.

The original saved each network on its own: ``audio_encoder_epoch_200.pt``, ``tag_encoder_...``,
``audio_decoder_...``, ``tag_decoder_...``, and the whole tag-supervised CNN as
``audio_encoder_epoch_20.pt`` in a folder ``cnn``. Layers have the same names here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from coala_latent.errors import WeightsError
from coala_latent.models.coala import CNN, AudioDecoder, AudioEncoder, TagDecoder, TagEncoder
from coala_latent.weights.arrays import Arrays

__all__ = ["CoalaWeights", "coala_cnn_from_checkpoint", "coala_from_checkpoints"]


class CoalaWeights(NamedTuple):
    """A converted model.

    Attributes:
        state: State dictionary of `coala_latent.models.coala.Coala` or ``CoalaTagger``.
        sizes: What the checkpoints' shapes say about the model, as a card has it.
    """

    state: dict[str, Tensor]
    sizes: dict[str, Any]


def coala_from_checkpoints(
    audio_encoder: Arrays,
    tag_encoder: Arrays,
    audio_decoder: Arrays | None = None,
    tag_decoder: Arrays | None = None,
    *,
    front_end: nn.Module | None = None,
) -> CoalaWeights:
    """The two autoencoders, or the encoders alone.

    Args:
        audio_encoder: Arrays of its checkpoint.
        tag_encoder: Likewise.
        audio_decoder: Likewise; None for a model without decoders.
        tag_decoder: Likewise; both decoders are given or neither.
        front_end: What the model will hear with (for these checkpoints ``CoalaLegacy``), whose
            buffers then are in the state; None for the networks alone.

    Returns:
        The state, and ``channels``, ``tags``, ``hidden`` and ``decoders``.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes, or the checkpoints do not
            belong to one model.
    """
    if (audio_decoder is None) != (tag_decoder is None):
        given = audio_decoder or tag_decoder or audio_encoder
        raise WeightsError(f"{given.source}: one decoder alone (give both decoders, or neither)")
    channels = _size(audio_encoder, "audio_encoder.0.weight", 0)
    hidden = _size(tag_encoder, "tag_encoder.0.weight", 0)
    tags = _size(tag_encoder, "tag_encoder.0.weight", 1)
    embedding = 9 * channels
    state = _front_end(front_end)
    state |= _taken(audio_encoder, "audio_encoder", lambda: AudioEncoder(channels))
    state |= _taken(tag_encoder, "tag_encoder", lambda: TagEncoder(tags, embedding, hidden))
    if audio_decoder is not None and tag_decoder is not None:
        state |= _taken(audio_decoder, "audio_decoder", lambda: AudioDecoder(channels))
        state |= _taken(tag_decoder, "tag_decoder", lambda: TagDecoder(tags, embedding, hidden))
    sizes = {"channels": channels, "tags": tags, "hidden": hidden}
    return CoalaWeights(state, {**sizes, "decoders": audio_decoder is not None})


def coala_cnn_from_checkpoint(
    arrays: Arrays, *, front_end: nn.Module | None = None
) -> CoalaWeights:
    """The tag-supervised CNN.

    Args:
        arrays: Of its checkpoint.
        front_end: As in `coala_from_checkpoints`.

    Returns:
        The state, and ``channels`` and ``tags``.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes.
    """
    channels = _size(arrays, "encoder.0.weight", 0)
    tags = _size(arrays, "fc.2.weight", 0)
    state = _front_end(front_end) | _taken(arrays, "cnn", lambda: CNN(channels, tags))
    return CoalaWeights(state, {"channels": channels, "tags": tags})


def _front_end(module: nn.Module | None) -> dict[str, Tensor]:
    held = {} if module is None else module.state_dict()
    return {f"front_end.{name}": value for name, value in held.items()}


def _size(arrays: Arrays, name: str, axis: int) -> int:
    shape = arrays.shape(name)
    if len(shape) <= axis or 0 in shape:
        raise WeightsError(f"{arrays.source}: {name} is {shape} (is it another model's file?)")
    return shape[axis]


def _taken(arrays: Arrays, prefix: str, build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Everything that a network has, and nothing else."""
    # Shapes alone, without memory.
    with torch.device("meta"):
        expected = build().state_dict()
    state = {}
    for name, value in expected.items():
        found = arrays.take(name, tuple(value.shape))
        if name.endswith("running_var") and (found < 0).any():
            raise WeightsError(f"{arrays.source}: {name} is negative (get the file again)")
        state[f"{prefix}.{name}"] = torch.from_numpy(found).to(value.dtype)
    arrays.finish()
    return state
