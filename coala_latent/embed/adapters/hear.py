"""The interface of HEAR, the Holistic Evaluation of Audio Representations.

This module is one of HEAR's modules as it stands: ``hear-validator
coala_latent.embed.adapters.hear -m yamnet``. A module with settings of its own takes two lines::

    from coala_latent.embed.adapters.hear import *
    load_model = model_loader("soundnet8:conv4", batch_size=64)

Rules: https://hearbenchmark.com/hear-api.html (Turian et al., "HEAR: Holistic Evaluation of Audio
Representations", 2022, arXiv 2203.03022).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from coala_latent.embed.adapters.centred import CentredModel
from coala_latent.embed.adapters.spec import parse_spec
from coala_latent.errors import ConfigError

__all__ = [
    "HearModel",
    "get_scene_embeddings",
    "get_timestamp_embeddings",
    "load_model",
    "model_loader",
]

# The sample rates that HEAR's data come in: 22 050 Hz is the nearest to COALA's 22 000.
_DEFAULT = "coala-esc10@22050"


class HearModel(nn.Module):
    """A registered model with the attributes that HEAR asks for.

    Attributes:
        sample_rate: Of the audio, in Hz.
        scene_embedding_size: Values in a scene embedding.
        timestamp_embedding_size: Values in a timestamp embedding.

    Args:
        spec: ``MODEL[:LAYER[:POOLING]][@RATE]``; model is a registry name or a ``.safetensors``
            file, rate that of the audio where the model's own is none that HEAR's data come in.
        hop_ms: The largest distance between timestamps; HEAR suggests 50 ms. See `CentredModel`
            for what it costs, and for networks that run along the waveform.
        batch_size: Patches in one pass of the network.

    Raises:
        ModelNotFoundError: No such model.
        ConfigError: No such layer or pooling, or a hop that is no time.
    """

    def __init__(self, spec: str = _DEFAULT, *, hop_ms: float = 50.0, batch_size: int = 32) -> None:
        super().__init__()
        self.centred = CentredModel(parse_spec(spec), hop_ms=hop_ms, batch_size=batch_size)
        self.sample_rate = self.centred.rate
        self.scene_embedding_size = self.centred.dim
        self.timestamp_embedding_size = self.centred.dim
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        """Scene embeddings."""
        return self.centred.means(audio)


def load_model(model_file_path: str = "") -> HearModel:
    """A model for HEAR.

    Args:
        model_file_path: See `HearModel`; the COALA that comes with the library unless given, for
            audio of 22 050 Hz.
    """
    return HearModel(model_file_path or _DEFAULT)


def model_loader(
    spec: str, *, hop_ms: float = 50.0, batch_size: int = 32
) -> Callable[[str], HearModel]:
    """A ``load_model`` with another default and with settings; see `HearModel`."""

    def load_model(model_file_path: str = "") -> HearModel:
        return HearModel(model_file_path or spec, hop_ms=hop_ms, batch_size=batch_size)

    return load_model


def get_timestamp_embeddings(audio: Tensor, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Embeddings at regular intervals, each of the sound around its timestamp.

    Args:
        audio: ``(n_sounds, n_samples)`` float, in [-1, 1], at the model's sample rate.
        model: From `load_model`.

    Returns:
        Embeddings ``(n_sounds, T, timestamp_embedding_size)`` float32 and timestamps
        ``(n_sounds, T)`` float32 in milliseconds, both on the audio's device.

    Raises:
        AudioError: The audio cannot be used.
    """
    rows, instants = _checked(model).centred.rows(audio)
    return rows, instants.to(torch.float32).repeat(len(audio), 1)


def get_scene_embeddings(audio: Tensor, model: nn.Module) -> Tensor:
    """One embedding for each sound.

    Args:
        audio: ``(n_sounds, n_samples)`` float, in [-1, 1], at the model's sample rate.
        model: From `load_model`.

    Returns:
        ``(n_sounds, scene_embedding_size)`` float32, on the audio's device.

    Raises:
        AudioError: The audio cannot be used.
    """
    return _checked(model).centred.means(audio)


def _checked(model: nn.Module) -> HearModel:
    if not isinstance(model, HearModel):
        raise ConfigError(f"{type(model).__name__} is not a model of this module's load_model")
    return model
