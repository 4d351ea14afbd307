"""What a model answers to three synthetic sounds, short enough for its card.

A hash of rounded outputs: it stays the same on every machine and with every version of torch, and
changes when weights, front end or network do. Rounding borders are laid where no value is near one,
so that the last digits of an arithmetic cannot tip a value over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.audio.frontends import FrontEnd
from coala_latent.errors import WeightsError
from coala_latent.registry.card import Card

__all__ = ["STEP", "check_fingerprint", "fingerprint"]

_GROUPS = 16
STEP = 0.02
_OFFSETS = np.arange(50) / 50


def synthetic_sounds(samples: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """A rising tone, noise, and clicks: ``(3, samples)``."""
    time = np.arange(samples) / sample_rate
    length = samples / sample_rate
    tone = 0.5 * np.sin(2 * np.pi * (100.0 * time + 0.1 * sample_rate * time**2 / length))
    # A linear congruential generator in whole numbers, the same for ever.
    state, noise = 1, np.empty(samples)
    for index in range(samples):
        state = (1103515245 * state + 12345) % 2**31
        noise[index] = state / 2**30 - 1.0
    clicks = np.where(np.arange(samples) % (sample_rate // 7) < 8, 0.8, 0.0)
    return np.stack([tone, 0.2 * noise, clicks]).astype(np.float32)


def fingerprint(module: Any, card: Card) -> dict[str, Any]:
    """Hash, and the rounding it was made with.

    Args:
        module: In evaluation mode, with ``front_end`` and ``network``.
        card: Says rate and default layer.
    """
    values = _answers(module, card)
    margins = [_margin(values, offset) for offset in _OFFSETS]
    offset = float(_OFFSETS[int(np.argmax(margins))])
    return {"step": STEP, "offset": offset, "sha256": _hash(values, STEP, offset)}


def check_fingerprint(module: Any, card: Card) -> None:
    """Raise `WeightsError` when a model does not answer as its card says."""
    said: Mapping[str, Any] = card.fingerprint
    if not said:
        raise WeightsError(f"card of {card.name}: has no fingerprint (save the model again)")
    found = _hash(_answers(module, card), float(said["step"]), float(said["offset"]))
    if found != said["sha256"]:
        raise WeightsError(
            f"{card.name} answers {found[:12]}... to the test sounds, its card says "
            f"{said['sha256'][:12]}... (weights, front end or network are not those of the card)"
        )


@torch.inference_mode()
def _answers(module: Any, card: Card) -> npt.NDArray[np.float64]:
    """Means over `_GROUPS` groups of channels of three sounds, the largest of each layer 1.

    Layers are the default one and the network's outputs, so that every weight has a part in them.
    """
    device = next(module.parameters()).device
    least = [int(timing["min_samples"]) for timing in card.timing.values()]
    length = max([card.min_samples, *least]) + card.sample_rate
    sounds = torch.from_numpy(synthetic_sounds(length, card.sample_rate)).to(device)
    heard = module.front_end(sounds)
    if isinstance(module.front_end, FrontEnd):
        heard = heard.flatten(0, 1)[:, None]
    layers = dict.fromkeys((card.default_layer, *module.network.outputs))
    found = module.network.activations(heard, tuple(layers))
    return np.concatenate([_group_means(found[layer].double().cpu()) for layer in layers])


def _group_means(layer: torch.Tensor) -> npt.NDArray[np.float64]:
    # To (sound, patch, channel, position), then a mean over patches and positions.
    layer = layer.reshape(3, -1, layer.shape[1], layer[0, 0].numel()).mean((1, 3))
    groups = np.array_split(layer.numpy(), _GROUPS, axis=1)
    means = np.stack([group.mean(axis=1) for group in groups if group.shape[1]])
    largest = np.abs(means).max()
    return means.ravel() / (largest if largest > 0 else 1.0)


def _margin(values: npt.NDArray[np.float64], offset: float) -> float:
    place = (values / STEP + offset) % 1.0
    return float(np.minimum(place, 1.0 - place).min())


def _hash(values: npt.NDArray[np.float64], step: float, offset: float) -> str:
    rounded = np.floor(values / step + offset).astype("<i4")
    return hashlib.sha256(rounded.tobytes()).hexdigest()
