"""Document vectors of sound: a vector a recording, learned from which frames occur near each other.

Source: sound-eval (B. Black, https://github.com/benblack769/sound-eval), of which this keeps the
facts and no code. It carries negative sampling (Mikolov et al., "Distributed Representations of
Words and Phrases and their Compositionality", 2013, arXiv 1310.4546, section 2.2) and document
vectors (Le, Mikolov, "Distributed Representations of Sentences and Documents", 2014, arXiv
1405.4053) from words to frames of a spectrogram.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import ConfigError

__all__ = ["Doc2Vec", "FrameNetwork", "words_heard"]

# The original's exponent of the number of inputs, probably meant to be 0.5.
_FAN_IN_POWER = math.sqrt(0.5)
_COMPAT_SCALE = 0.1
# Words and contexts start small, so that logits do, and no vector has to be unlearned first.
_OUTPUT_GAIN = 0.5


class FrameNetwork(nn.Module):
    """A frame's vector: one hidden layer with ReLU, and a linear one.

    Args:
        bands: Values in a frame.
        hidden: Of the hidden layer.
        dim: Of the vector.
    """

    def __init__(self, bands: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.relu = nn.Linear(bands, hidden)
        self.soft = nn.Linear(hidden, dim)

    def forward(self, frames: Tensor) -> Tensor:
        """Vectors ``(..., dim)`` of frames ``(..., bands)``."""
        vectors: Tensor = self.soft(F.relu(self.relu(frames)))
        return vectors


class Doc2Vec(nn.Module):
    """Two networks of frames, and a table of document vectors.

    With the word ``f(a)`` of a frame of recording `s`, its document vector ``v_s`` and the context
    ``g(b)`` of another frame, the logit that `b` is a neighbour of `a` is
    ``(f(a) + v_s) . g(b) / sqrt(dim)``. What the word says of its neighbourhood is the same in
    every recording; the rest, what is of this recording, is left to ``v_s``.

    The original's logit is ``0.1 mean((f(a) + v_s) * g(b))`` and is that of `b` being a frame from
    *anywhere*, so that neighbours have negative products. ``compat`` has this logit, unscaled
    frames and the original's first weights. `scores` are those of being a neighbour either way.

    Args:
        documents: Recordings; there may be none.
        bands: Values in a frame.
        hidden: Of the networks' hidden layers.
        dim: Of words, contexts and document vectors.
        compat: The original's model.
        seed: Of the first weights.

    Attributes:
        origin: Network of words.
        cross: Network of contexts.
        documents: ``(documents, dim)``.
        mean: ``(bands,)``, what is subtracted from frames; 0 for `compat`.
        std: ``(bands,)``, what they are then divided by; 1 for `compat`.

    Raises:
        ConfigError: A size does not make sense.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        documents: int,
        bands: int,
        hidden: int = 128,
        dim: int = 32,
        *,
        compat: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if documents < 0 or min(bands, hidden, dim) < 1:
            raise ConfigError(
                f"documents={documents}, bands={bands}, hidden={hidden}, dim={dim}: sizes must be "
                "1 or more"
            )
        self.compat = compat
        self.origin = FrameNetwork(bands, hidden, dim)
        self.cross = FrameNetwork(bands, hidden, dim)
        self.documents = nn.Parameter(torch.zeros(documents, dim))
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("std", torch.ones(bands))
        self._initialise(torch.Generator().manual_seed(seed))

    @property
    def bands(self) -> int:
        """Values in a frame."""
        return self.origin.relu.in_features

    @property
    def hidden(self) -> int:
        """Size of the hidden layers."""
        return self.origin.relu.out_features

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return self.origin.soft.out_features

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator) -> None:
        for network in (self.origin, self.cross):
            for layer, gain in ((network.relu, math.sqrt(2)), (network.soft, _OUTPUT_GAIN)):
                if self.compat:
                    std = layer.in_features**-_FAN_IN_POWER
                    nn.init.normal_(layer.bias, std=1.0, generator=generator)
                else:
                    std = gain * layer.in_features**-0.5
                    nn.init.zeros_(layer.bias)
                nn.init.normal_(layer.weight, std=std, generator=generator)
        # Otherwise they start at 0: all that is in them is then learned.
        if self.compat:
            nn.init.normal_(self.documents, std=1 / self.dim, generator=generator)

    @torch.no_grad()
    def standardise_(self, mean: Tensor, std: Tensor) -> Doc2Vec:
        """Set what frames are scaled by, both ``(bands,)``; returns the model.

        Raises:
            ConfigError: The model is a `compat` one, which has unscaled frames.
        """
        if self.compat:
            raise ConfigError("compat: the original does not scale frames (use compat=False)")
        self.mean.copy_(mean)
        self.std.copy_(std)
        return self

    def word_vectors(self, frames: Tensor) -> Tensor:
        """Words ``(..., dim)`` of unscaled frames ``(..., bands)``."""
        words: Tensor = self.origin(self._scaled(frames))
        return words

    def context_vectors(self, frames: Tensor) -> Tensor:
        """Contexts ``(..., dim)`` of unscaled frames ``(..., bands)``."""
        contexts: Tensor = self.cross(self._scaled(frames))
        return contexts

    def _scaled(self, frames: Tensor) -> Tensor:
        return frames if self.compat else (frames - self.mean) / self.std

    def document_vectors(self, index: Tensor) -> Tensor:
        """Vectors ``(n, dim)`` of documents ``(n,)`` int64.

        Their gradient is sparse except in a `compat` model: a step then costs the same whatever
        the number of documents.
        """
        return F.embedding(index, self.documents, sparse=not self.compat)

    def scores(self, origins: Tensor, contexts: Tensor) -> Tensor:
        """Logits of being neighbours, in float32.

        Args:
            origins: Words with document vectors ``f(a) + v_s``, ``(..., n, dim)``.
            contexts: ``g(b)``, ``(..., m, dim)``.

        Returns:
            ``(..., n, m)``, of every origin with every context.
        """
        scale = -_COMPAT_SCALE / self.dim if self.compat else self.dim**-0.5
        with torch.autocast(origins.device.type, enabled=False):
            return scale * origins.float() @ contexts.float().transpose(-1, -2)

    def pair_scores(self, origins: Tensor, contexts: Tensor) -> Tensor:
        """`scores` of pairs alone: ``(n, dim)`` and ``(n, dim)`` to ``(n,)``."""
        scale = -_COMPAT_SCALE / self.dim if self.compat else self.dim**-0.5
        return scale * (origins.float() * contexts.float()).sum(-1)

    def original_loss(self, document: Tensor, frames: Tensor, contexts: Tensor) -> Tensor:
        """The original's loss: binary cross-entropy of "this context is from anywhere".

        Args:
            document: Recording of each frame ``(batch,)`` int64.
            frames: ``(batch, bands)``.
            contexts: ``(batch, bands)``: neighbours in the first half, frames from anywhere in the
                second.

        Returns:
            A scalar; ``ln 2`` where nothing is known.
        """
        origins = self.word_vectors(frames) + self.document_vectors(document)
        logits = -self.pair_scores(origins, self.context_vectors(contexts))
        target = torch.zeros_like(logits)
        target[len(target) // 2 :] = 1
        return F.binary_cross_entropy_with_logits(logits, target)

    def loss(
        self,
        document: Tensor,
        frames: Tensor,
        contexts: Tensor,
        *,
        group: int = 16,
        word_dropout: float = 0.0,
        prior: float = 0.0,
    ) -> Tensor:
        """Binary cross-entropy of "this context is a neighbour", true and false counting half each.

        Every context is its frame's neighbour. The false pairs are a frame and the contexts of the
        `group` - 1 others in its group that are of other recordings: several a frame, from the
        distribution that neighbours have, and at the cost of products alone. The best logit is
        then the pointwise mutual information of (frame, recording) and context.

        Args:
            document: Recording of each frame ``(batch,)`` int64.
            frames: ``(batch, bands)``.
            contexts: ``(batch, bands)``.
            group: Pairs in a group; divides `batch`.
            word_dropout: Share of the pairs, evenly spread, whose word is left out: a document
                vector has to tell its neighbours alone (the paper's distributed bag of words).
                Otherwise words that know the recordings leave nothing to the document vectors.
            prior: Weight of half the mean squared length of the batch's document vectors.

        Returns:
            A scalar; ``ln 2`` without the prior where nothing is known.
        """
        near, far, other, vectors = self.grouped_scores(
            document, frames, contexts, group, word_dropout
        )
        false = (F.softplus(far) * other).sum() / other.sum().clamp(min=1)
        loss = (F.softplus(-near).mean() + false) / 2
        return loss + prior / 2 * vectors.square().sum(1).mean() if prior else loss

    def grouped_scores(
        self,
        document: Tensor,
        frames: Tensor,
        contexts: Tensor,
        group: int,
        word_dropout: float = 0.0,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `loss` compares.

        Returns:
            Scores of the neighbours ``(batch,)``, those of all pairs ``(groups, group, group)``,
            which of the latter are of two recordings, and the document vectors ``(batch, dim)``.
        """
        vectors = self.document_vectors(document)
        heard = words_heard(len(document), word_dropout, document.device)
        origins = heard[:, None] * self.word_vectors(frames) + vectors
        shape = (len(document) // group, group)
        every = self.scores(
            origins.view(*shape, -1), self.context_vectors(contexts).view(*shape, -1)
        )
        recording = document.view(shape)
        other = recording[:, :, None] != recording[:, None, :]
        return every.diagonal(dim1=1, dim2=2).flatten(), every, other, vectors


def words_heard(pairs: int, word_dropout: float, device: torch.device) -> Tensor:
    """Which pairs have their word: ``(pairs,)`` bool, false for an evenly spread share."""
    steps = torch.arange(pairs + 1, dtype=torch.float64, device=device) * word_dropout
    return steps.floor().diff() == 0
