"""The follow-up of COALA: tags as words with vectors, averaged or attended to.

Paper: Favory, Drossos, Virtanen, Serra, "Learning Contextual Tag Embeddings for Cross-Modal
Alignment of Audio and Tags", ICASSP 2021 (arXiv 2010.14171). Original project:
xavierfav/ae-w2v-attention (MIT).

Parameter names are the original's. There, vectors of tags are learned beforehand by Word2Vec and
stay as they are; here they are learned with the rest unless they are to be frozen. The encoders
take multi-hot tags like `coala_latent.models.coala.TagEncoder`, and look the words up themselves.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from coala_latent.models.coala import DROPOUT, AudioEncoder, TagReader, embedding_size

__all__ = [
    "MAX_TAGS",
    "NormedAudioEncoder",
    "TagMeanEncoder",
    "TagSelfAttentionEncoder",
    "tag_words",
]

MAX_TAGS = 10
TAG_DROPOUT = 0.1
NORM_EPS = 1e-6


def tag_words(tags: Tensor, slots: int = MAX_TAGS) -> Tensor:
    """Rows of a table of words for multi-hot tags.

    Args:
        tags: ``(batch, tags)``, above 0.5 where a tag is present.
        slots: How many tags of a set are kept: the first of the vocabulary.

    Returns:
        ``(batch, slots)`` int64: number of the tag + 1, ascending, then 0 as padding.
    """
    count = tags.shape[1]
    number = torch.arange(count, device=tags.device)
    # Absent tags sort behind all that are present.
    key = torch.where(tags > 0.5, number, count)
    first = key.topk(min(slots, count), dim=1, largest=False, sorted=True).values
    words = torch.where(first < count, first + 1, 0)
    return functional.pad(words, (0, slots - words.shape[1]))


class _WordEncoder(TagReader):
    """Looks up the words of a set and makes one vector of theirs.

    Args:
        tags: Size of the vocabulary.
        words: Size of a word's vector, and of the embedding.
        frozen: Leave the table of words as it is.
    """

    def __init__(self, tags: int, words: int, frozen: bool) -> None:
        super().__init__()
        self.tags = tags
        self.embeddings = nn.Embedding(tags + 1, words, padding_idx=0)
        self.embeddings.weight.requires_grad_(not frozen)
        self.dropout = nn.Dropout(TAG_DROPOUT)
        self.layer_norm = nn.LayerNorm(words, eps=NORM_EPS)

    @abstractmethod
    def _pooled(self, vectors: Tensor, present: Tensor) -> Tensor:
        """``(batch, slots, words)`` and ``(batch, slots)`` bool to ``(batch, words)``."""

    def forward(self, tags: Tensor) -> tuple[Tensor, Tensor]:
        """Embed multi-hot tags ``(batch, tags)``; both results are the same."""
        words = tag_words(tags)
        z = self.layer_norm(self._pooled(self.embeddings(words), words > 0))
        return z, z


class TagMeanEncoder(_WordEncoder):
    """The mean of the words of a set, projected and normalised.

    Args:
        tags: Size of the vocabulary.
        words: Size of a word's vector, and of the embedding; the original has 128 and 1152.
        frozen: Leave the table of words as it is.

    Shape:
        - Input: ``(batch, tags)`` float, 1 where a tag is present; the first ten of a set count.
        - Output: ``z`` and ``z_d``, both ``(batch, words)`` and here the same.
    """

    def __init__(self, tags: int = 1000, words: int = 128, frozen: bool = False) -> None:
        super().__init__(tags, words, frozen)
        self.fc = nn.Linear(words, words, bias=False)

    def _pooled(self, vectors: Tensor, present: Tensor) -> Tensor:
        inside = present[..., None].to(vectors.dtype)
        count = inside.sum(1).clamp(min=1.0)
        pooled: Tensor = self.dropout((self.fc(vectors) * inside).sum(1) / count)
        return pooled


class TagSelfAttentionEncoder(_WordEncoder):
    """Words of a set attend to each other; the sum of what they find, normalised.

    Args:
        tags: Size of the vocabulary.
        words: Size of a word's vector, of the embedding, and of each head; the original has 128
            and 1152.
        heads: Heads of attention, 1 or more; the original has 1 and 4.
        mask_queries: Leave out what the empty slots find. The original masks them as keys only and
            adds to the sum, for each empty slot, an answer that depends on how many there are.
        frozen: Leave the table of words as it is.

    Raises:
        ValueError: There is no head.

    Shape:
        - Input: ``(batch, tags)`` float, 1 where a tag is present; the first ten of a set count.
        - Output: ``z`` and ``z_d``, both ``(batch, words)`` and here the same.
    """

    def __init__(
        self,
        tags: int = 1000,
        words: int = 128,
        heads: int = 4,
        mask_queries: bool = True,
        frozen: bool = False,
    ) -> None:
        super().__init__(tags, words, frozen)
        if heads < 1:
            raise ValueError(f"heads={heads}: use 1 or more")
        self.heads = heads
        self.mask_queries = mask_queries
        self.w_qs = nn.Linear(words, heads * words, bias=False)
        self.w_ks = nn.Linear(words, heads * words, bias=False)
        self.w_vs = nn.Linear(words, heads * words, bias=False)
        self.fc = nn.Linear(heads * words, words, bias=False)

    def _heads(self, projection: nn.Linear, vectors: Tensor) -> Tensor:
        """``(batch, heads, slots, words)``."""
        projected: Tensor = projection(vectors)
        return projected.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _pooled(self, vectors: Tensor, present: Tensor) -> Tensor:
        query, key, value = (
            self._heads(each, vectors) for each in (self.w_qs, self.w_ks, self.w_vs)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(vectors.shape[2])
        # Not -inf: without any key the shares would be NaN.
        hidden = scores.masked_fill(~present[:, None, None, :], torch.finfo(scores.dtype).min)
        # The original drops shares of attention with the rate of everything else.
        found = self.dropout(hidden.softmax(dim=-1)) @ value
        answers: Tensor = self.dropout(self.fc(found.transpose(1, 2).flatten(2)))
        if self.mask_queries:
            answers = answers * present[..., None].to(answers.dtype)
        return answers.sum(1)


class NormedAudioEncoder(AudioEncoder):
    """COALA's audio encoder with a normalised ``z`` and a projection to the size of words.

    Args:
        channels: As in `AudioEncoder`.
        size_w_rep: Size of ``z_d``; that of ``z`` unless given.

    Shape:
        - Input: ``(batch, 1, 96 bands, 96 frames)``.
        - Output: ``z`` ``(batch, 9 * channels)``, of both signs, and ``z_d``
          ``(batch, size_w_rep)``.
    """

    def __init__(self, channels: int = 128, size_w_rep: int | None = None) -> None:
        super().__init__(channels)
        size = embedding_size(channels)
        self.audio_encoder.append(nn.LayerNorm(size, eps=NORM_EPS))
        self.fc_audio = nn.Sequential(
            nn.Linear(size, size_w_rep or size, bias=False), nn.Dropout(DROPOUT)
        )
