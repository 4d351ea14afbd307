"""Scores of classes over time, for models that tell classes apart."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from coala_latent.embed.embedder import Embedder
from coala_latent.errors import ConfigError
from coala_latent.registry import Card, build_model
from coala_latent.types import Embedding, FloatArray

__all__ = ["Predictor", "Scores", "load_predictor"]


@dataclass(frozen=True)
class Scores:
    """Scores of one set of classes.

    Attributes:
        name: Of the set, such as ``"scenes"``.
        labels: Names of the classes.
        values: ``(n, classes)`` in [0, 1].
        start: ``(n,)`` seconds.
        end: ``(n,)`` seconds.
    """

    name: str
    labels: tuple[str, ...]
    values: FloatArray
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]

    def mean(self) -> FloatArray:
        """One score a class ``(classes,)``: the mean over time, by the seconds heard."""
        return Embedding(self.values, self.start, self.end).mean()

    def top(self, count: int, row: int | None = None) -> list[tuple[str, float]]:
        """The highest scores of a row, or of the mean, highest first; ties in class order."""
        scores = self.mean() if row is None else self.values[row]
        order = np.argsort(-scores, kind="stable")[:count]
        return [(self.labels[index], float(scores[index])) for index in order]


class Predictor:
    """Scores of one model's classes.

    Args:
        model: Has ``scored`` and ``score`` beside ``front_end`` and ``network``.
        card: Its card, with the names of the classes.
        scores: Sets of classes to score; all the model has by default.
        **options: Of `Embedder`, but for ``layer`` and ``pooling``.

    Raises:
        ConfigError: The model has no classes, or not these.
    """

    def __init__(
        self, model: nn.Module, card: Card, scores: Sequence[str] | None = None, **options: Any
    ) -> None:
        scored = getattr(model, "scored", {})
        names = tuple(scored) if scores is None else tuple(scores)
        if unknown := sorted(set(names) - set(scored)):
            known = ", ".join(scored) or "none"
            raise ConfigError(f"{card.name} has no scores {unknown[0]!r}; it has {known}")
        if not names:
            raise ConfigError(f"{card.name} tells no classes apart (embed it, or train a probe)")
        self.names = names
        layers = list(dict.fromkeys(scored[name] for name in names))
        self.embedder = Embedder(model, card, layer=layers, **options)
        self._model: Any = model
        self._labels = {name: _labels(card, name, scored[name]) for name in names}

    def __call__(self, waveform: Any, sample_rate: int | None = None) -> dict[str, Scores]:
        """Scores of an array, tensor or `Sound`; see `Embedder`."""
        return self._scores(self.embedder(waveform, sample_rate))

    def file(self, path: str | os.PathLike[str]) -> dict[str, Scores]:
        """Scores of a sound file."""
        return self._scores(self.embedder.file(path))

    @torch.inference_mode()
    def _scores(self, embedding: Embedding) -> dict[str, Scores]:
        layers = self.embedder.split(embedding)
        found = {}
        for name in self.names:
            hidden = torch.from_numpy(layers[self._model.scored[name]].values)
            values = self._model.score(name, hidden.to(self.embedder.device)).cpu().numpy()
            found[name] = Scores(name, self._labels[name], values, embedding.start, embedding.end)
        return found


def _labels(card: Card, name: str, layer: str) -> tuple[str, ...]:
    """Names of the classes; numbers where the card has none."""
    known = card.classes.get(name) or card.vocabulary
    return tuple(known) or tuple(f"class {index}" for index in range(card.layers[layer]))


def load_predictor(
    model: str | os.PathLike[str], scores: Sequence[str] | None = None, **options: Any
) -> Predictor:
    """A `Predictor` for a registered model or a ``.safetensors`` file with its card.

    Raises:
        ModelNotFoundError: No such model.
        ConfigError: It has no classes, or not these.
    """
    module, card = build_model(model)
    return Predictor(module, card, scores, **options)
