"""A front end and a network that tells classes apart, one of which is present."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from coala_latent.audio.raw import RawWaveform
from coala_latent.models.soundnet import SoundNetClassifier

__all__ = ["WaveformClassifier"]


class WaveformClassifier(nn.Module):
    """SoundNet, fine-tuned or trained from scratch on labelled sounds, from the waveform on.

    Args:
        front_end: Scales the waveform.
        network: Ends in ``classes``.

    Shape:
        - Input: ``(batch, time)`` or ``(time,)``, float in [-1, 1].
        - Output: logits ``(batch, classes, steps)``.
    """

    scored: ClassVar[Mapping[str, str]] = {"classes": "classes"}

    def __init__(self, front_end: RawWaveform, network: SoundNetClassifier) -> None:
        super().__init__()
        self.front_end = front_end
        self.network = network

    def score(self, name: str, hidden: Tensor) -> Tensor:
        """Logits ``(n, classes[, steps])`` to probabilities.

        Raises:
            KeyError: No such set of classes.
        """
        if name not in self.scored:
            raise KeyError(f"no classes {name!r}; there are {', '.join(self.scored)}")
        return torch.softmax(hidden, dim=1)

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits of whole waveforms; see the class.

        Raises:
            AudioTooShortError: Not one step comes of so short a sound.
        """
        logits: Tensor = self.network(self.front_end(waveform))
        return logits
