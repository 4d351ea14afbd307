"""Concept vectors: a logistic regression a concept, all on the same embeddings.

Paper: Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
(arXiv 2207.11231). Original project: deezer/concept_hierarchy (MIT). The vectors themselves: Kim et
al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept Activation
Vectors", ICML 2018 (arXiv 1711.11279).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import ConfigError

__all__ = ["ConceptVectors", "concept_features"]


class ConceptVectors(nn.Module):
    """One vector and one bias a concept; a positive logit says that the concept is heard.

    Args:
        names: Of the concepts, each once.
        dim: Values in an embedding.

    Attributes:
        names: Of the concepts.
        weight: ``(concepts, dim)``; 0 at first.
        bias: ``(concepts,)``; 0 at first.

    Shape:
        - Input: embeddings ``(..., dim)``.
        - Output: logits ``(..., concepts)``.

    Raises:
        ConfigError: A name is there twice, or there are no values.
    """

    def __init__(self, names: Sequence[str], dim: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self._place = {name: place for place, name in enumerate(self.names)}
        if len(self._place) < len(self.names):
            twice = next(name for place, name in enumerate(names) if self._place[name] != place)
            raise ConfigError(f"concept {twice!r} is there twice (give every concept its own name)")
        if dim < 1:
            raise ConfigError(f"dim={dim}: embeddings have at least one value")
        self.weight = nn.Parameter(torch.zeros(len(self.names), dim))
        self.bias = nn.Parameter(torch.zeros(len(self.names)))

    @property
    def dim(self) -> int:
        """Values in an embedding."""
        return self.weight.shape[1]

    def __len__(self) -> int:
        return len(self.names)

    def forward(self, h: Tensor) -> Tensor:
        """Logits; see the class."""
        return F.linear(h, self.weight, self.bias)

    def index(self, name: str) -> int:
        """Place of a concept.

        Raises:
            KeyError: There is none of that name.
        """
        if name not in self._place:
            raise KeyError(f"no concept {name!r} among {len(self)}, such as {self.names[:3]}")
        return self._place[name]

    def directions(self) -> Tensor:
        """The vectors at length 1, ``(concepts, dim)``; one without length stays 0."""
        return F.normalize(self.weight.detach(), dim=1)

    def take(self, places: Sequence[int]) -> ConceptVectors:
        """A copy of some concepts, in that order."""
        kept = torch.as_tensor(places, dtype=torch.int64, device=self.weight.device)
        taken = ConceptVectors([self.names[place] for place in kept.tolist()], self.dim)
        return taken.to(self.weight).assign_(self.weight[kept], self.bias[kept])

    @torch.no_grad()
    def assign_(self, weight: Tensor, bias: Tensor) -> ConceptVectors:
        """Copy vectors ``(concepts, dim)`` and biases ``(concepts,)`` in; returns the module.

        Raises:
            ConfigError: Their shapes are others.
        """
        if weight.shape != self.weight.shape or bias.shape != self.bias.shape:
            raise ConfigError(
                f"vectors {tuple(weight.shape)} and biases {tuple(bias.shape)} for {len(self)} "
                f"concepts of {self.dim} values"
            )
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        return self


def concept_features(activations: Tensor, time_axis: int = 2) -> Tensor:
    """What concept vectors are trained on: the mean over time, with what is left put in a row.

    The order is the published vectors': band by band, with the channels of each beside each other.
    The embedder's pooling ``"time"`` gives the same.

    Args:
        activations: ``(n, channels)``, ``(n, channels, time)`` or a map with time and bands.
        time_axis: Which axis of a map ``(n, channels, ., .)`` is time: 2 or 3.

    Returns:
        ``(n, channels)``, for maps ``(n, bands * channels)``.

    Raises:
        ConfigError: The activations have another number of axes.
    """
    if activations.dim() == 4:
        return activations.mean(time_axis).transpose(1, 2).flatten(1)
    if activations.dim() == 3:
        return activations.mean(2)
    if activations.dim() == 2:
        return activations
    raise ConfigError(
        f"activations {tuple(activations.shape)}: use (n, channels), (n, channels, time) or "
        "(n, channels, ., .)"
    )
