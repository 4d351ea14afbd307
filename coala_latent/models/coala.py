"""COALA: co-aligned autoencoders of sounds and their tags.

Paper: Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", 2020 (arXiv 2006.08386). Original project: xavierfav/coala (MIT).

Layer order and parameter names are the original's, so its checkpoints load unchanged. Sizes are
parameters with the original's values as defaults: 96 x 96 patches, 128 channels, 1000 tags,
embedding 128 * 3 * 3 = 1152.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.models.layered import Layered, Step

__all__ = [
    "CNN",
    "AudioDecoder",
    "AudioEncoder",
    "Coala",
    "CoalaOutput",
    "CoalaTagger",
    "Flatten",
    "TagDecoder",
    "TagEncoder",
    "TagReader",
    "UnFlatten",
    "embedding_size",
]

BLOCKS = 5
DROPOUT = 0.25
PATCH = 96
GRID = PATCH // 2**BLOCKS


def embedding_size(channels: int) -> int:
    """Values of ``z`` of a stack with so many channels."""
    return channels * GRID * GRID


class Flatten(nn.Module):
    """``(batch, channels, height, width)`` to ``(batch, channels * height * width)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten all but the batch."""
        return x.flatten(1)


class UnFlatten(nn.Module):
    """``(batch, channels * 3 * 3)`` to ``(batch, channels, 3, 3)``."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Give the vector its grid back."""
        return x.reshape(-1, self.channels, GRID, GRID)


def _convolution_stack(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for block in range(BLOCKS):
        layers += [
            nn.Conv2d(1 if block == 0 else channels, channels, 4, stride=2, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
        ]
    return nn.Sequential(*layers, Flatten())


class _PatchEncoder(Layered):
    """A convolution stack and a head on the embedding."""

    time_axis = 3
    head: str

    @abstractmethod
    def _stack(self) -> nn.Sequential: ...

    @abstractmethod
    def _head(self, z: Tensor) -> Tensor: ...

    def steps(self) -> dict[str, Step]:
        """``conv1`` .. ``conv5`` (after the ReLU), ``z``, and the head's output."""
        stack = self._stack()
        blocks: dict[str, Step] = {
            # A block ends with its ReLU; its dropout begins the next one.
            f"conv{block + 1}": stack[max(0, 4 * block - 1) : 4 * block + 3]
            for block in range(BLOCKS)
        }
        return {**blocks, "z": stack[4 * BLOCKS - 1 :], self.head: self._head}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embed patches; see the class."""
        z = self._stack()(x)
        return z, self._head(z)


class AudioEncoder(_PatchEncoder):
    """Log-mel patches to an embedding.

    Args:
        channels: Channels of every convolution; the embedding has ``9 * channels`` values.

    Shape:
        - Input: ``(batch, 1, 96 bands, 96 frames)``.
        - Output: ``z`` ``(batch, 9 * channels)``, non-negative in evaluation, used downstream;
          and ``z_d`` of the same shape, the projection that is aligned with tags.
    """

    head = "z_d"

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        size = embedding_size(channels)
        self.audio_encoder = _convolution_stack(channels)
        self.fc_audio = nn.Sequential(nn.Linear(size, size, bias=False), nn.Dropout(DROPOUT))

    def _stack(self) -> nn.Sequential:
        return self.audio_encoder

    def _head(self, z: Tensor) -> Tensor:
        projected: Tensor = self.fc_audio(z)
        return projected


class CNN(_PatchEncoder):
    """The tag-supervised baseline: the same stack with a tag classifier on top.

    Args:
        channels: As in `AudioEncoder`.
        tags: Size of the vocabulary.

    Shape:
        - Input: ``(batch, 1, 96, 96)``.
        - Output: ``z`` ``(batch, 9 * channels)`` and tag probabilities ``(batch, tags)``.
    """

    head = "tags"

    def __init__(self, channels: int = 128, tags: int = 1000) -> None:
        super().__init__()
        size = embedding_size(channels)
        self.encoder = _convolution_stack(channels)
        self.fc = nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Linear(size, tags), nn.Sigmoid()
        )

    def _stack(self) -> nn.Sequential:
        return self.encoder

    def _head(self, z: Tensor) -> Tensor:
        probabilities: Tensor = self.fc(z)
        return probabilities


class AudioDecoder(nn.Module):
    """Embedding ``z`` ``(batch, 9 * channels)`` to a patch ``(batch, 1, 96, 96)`` in (0, 1)."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = [UnFlatten(channels)]
        for _ in range(BLOCKS - 1):
            layers += [
                nn.Dropout(DROPOUT),
                nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
        layers += [
            nn.ConvTranspose2d(channels, 1, 4, stride=2, padding=1),
            nn.BatchNorm2d(1),
            nn.Sigmoid(),
        ]
        self.audio_decoder = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` (not ``z_d``)."""
        decoded: Tensor = self.audio_decoder(z)
        return decoded


class TagReader(nn.Module):
    """Multi-hot tags ``(batch, tags)`` to ``(z, z_d)``, whatever is in between.

    Attributes:
        tags: Size of the vocabulary.
    """

    tags: int


class TagEncoder(TagReader):
    """Multi-hot tags to an embedding.

    Args:
        tags: Size of the vocabulary.
        embedding: Size of the embedding, the audio encoder's.
        hidden: Size of the hidden layers.

    Shape:
        - Input: ``(batch, tags)`` float, 1 where a tag is present.
        - Output: ``z`` and ``z_d``, both ``(batch, embedding)``.
    """

    def __init__(self, tags: int = 1000, embedding: int = 1152, hidden: int = 512) -> None:
        super().__init__()
        self.tags = tags
        layers: list[nn.Module] = []
        for inputs, outputs in ((tags, hidden), (hidden, hidden), (hidden, embedding)):
            layers += [
                nn.Linear(inputs, outputs),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
                nn.Dropout(DROPOUT),
            ]
        self.tag_encoder = nn.Sequential(*layers)
        self.fc_tag = nn.Sequential(
            nn.Linear(embedding, embedding, bias=False), nn.Dropout(DROPOUT)
        )

    def forward(self, tags: Tensor) -> tuple[Tensor, Tensor]:
        """Embed multi-hot tags."""
        z = self.tag_encoder(tags)
        return z, self.fc_tag(z)


class TagDecoder(nn.Module):
    """Tag embedding ``z`` ``(batch, embedding)`` to tag probabilities ``(batch, tags)``."""

    def __init__(self, tags: int = 1000, embedding: int = 1152, hidden: int = 512) -> None:
        super().__init__()
        self.tag_decoder = nn.Sequential(
            nn.Linear(embedding, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, tags),
            nn.BatchNorm1d(tags),
            nn.Sigmoid(),
        )

    def logits(self, z: Tensor) -> Tensor:
        """Before the sigmoid, for a loss that is stable in half precision."""
        scores: Tensor = self.tag_decoder[:-1](z)
        return scores

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` (not ``z_d``)."""
        return torch.sigmoid(self.logits(z))


class CoalaOutput(NamedTuple):
    """What `Coala` returns; decoders' outputs are None where a model has no decoders."""

    audio_z: Tensor
    audio_z_d: Tensor
    tag_z: Tensor
    tag_z_d: Tensor
    patches: Tensor | None
    tag_logits: Tensor | None


class Coala(nn.Module):
    """A front end and the two autoencoders side by side.

    Args:
        front_end: Waveforms to scaled patches.
        audio_encoder: Patches to ``(z, z_d)``, with these as its last layers.
        tag_encoder: Multi-hot tags to ``(z, z_d)``; knows the number of ``tags``.
        audio_decoder: ``z`` to patches in (0, 1); None for encoders only.
        tag_decoder: ``z`` to tag probabilities; None for encoders only.
    """

    scored: ClassVar[Mapping[str, str]] = {"tags": "z_d"}

    def __init__(
        self,
        front_end: CoalaFrontEnd,
        audio_encoder: Layered,
        tag_encoder: TagReader,
        audio_decoder: AudioDecoder | None = None,
        tag_decoder: TagDecoder | None = None,
    ) -> None:
        super().__init__()
        self.front_end = front_end
        self.audio_encoder = audio_encoder
        self.tag_encoder = tag_encoder
        self.audio_decoder = audio_decoder
        self.tag_decoder = tag_decoder

    @property
    def network(self) -> Layered:
        """What embeds patches."""
        return self.audio_encoder

    def score(self, name: str, hidden: Tensor) -> Tensor:
        """How near sounds are to each tag, of which none need have been heard with a label.

        Args:
            name: ``"tags"``.
            hidden: ``z_d`` of sounds, ``(n, 9 * channels)``.

        Returns:
            ``(n, tags)`` in [0, 1]: cosine similarity with each tag by itself, 0 standing for
            opposite and 1 for equal directions.
        """
        if name not in self.scored:
            raise KeyError(f"no scores {name!r}; there are {', '.join(self.scored)}")
        first = next(self.tag_encoder.parameters())
        alone = torch.eye(self.tag_encoder.tags, dtype=first.dtype, device=first.device)
        tags = functional.normalize(self.tag_encoder(alone)[1], dim=1)
        return (1 + functional.normalize(hidden, dim=1) @ tags.T) / 2

    def forward(self, patches: Tensor, tags: Tensor) -> CoalaOutput:
        """Embed and reconstruct pairs: ``(batch, 1, 96, 96)`` and ``(batch, tags)``."""
        audio_z, audio_z_d = self.audio_encoder(patches)
        tag_z, tag_z_d = self.tag_encoder(tags)
        return CoalaOutput(
            audio_z,
            audio_z_d,
            tag_z,
            tag_z_d,
            None if self.audio_decoder is None else self.audio_decoder(audio_z),
            None if self.tag_decoder is None else self.tag_decoder.logits(tag_z),
        )


class CoalaTagger(nn.Module):
    """A front end and the tag-supervised `CNN`.

    Args:
        front_end: Waveforms to scaled patches.
        cnn: Patches to ``(z, tag probabilities)``.
    """

    scored: ClassVar[Mapping[str, str]] = {"tags": "tags"}

    def __init__(self, front_end: CoalaFrontEnd, cnn: CNN) -> None:
        super().__init__()
        self.front_end = front_end
        self.cnn = cnn

    @property
    def network(self) -> CNN:
        """What embeds patches."""
        return self.cnn

    def score(self, name: str, hidden: Tensor) -> Tensor:
        """The network's tag probabilities ``(n, tags)`` as they are."""
        if name not in self.scored:
            raise KeyError(f"no scores {name!r}; there are {', '.join(self.scored)}")
        return hidden

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """``(batch, 1, 96, 96)`` to ``z`` and tag logits ``(batch, tags)``."""
        z = self.cnn.until(patches, "z")
        logits: Tensor = self.cnn.fc[:-1](z)
        return z, logits
