"""Sets of tags to the vectors that sounds are compared with."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coala_latent.embed.embedder import pick_device
from coala_latent.errors import ConfigError, TagError
from coala_latent.models.modes import evaluating
from coala_latent.registry import Card, build_model
from coala_latent.types import FloatArray

__all__ = ["TagEmbedder", "TagEmbedding", "TagVocabulary", "load_tag_embedder"]

_BATCH = 256
_SHORTEST_PLURAL = 4  # "gas" and "bus" are no plurals
_SEPARATORS = re.compile(r"[\s_-]+")


@dataclass(frozen=True, eq=False)
class TagEmbedding:
    """Vectors of sets of tags.

    Attributes:
        tags: Of each set the tags that were embedded, as the vocabulary writes them.
        unknown: Of each set the tags that were passed over.
        z: ``(n, dim)`` float32, what the tag decoder takes.
        z_d: ``(n, dim)`` float32, the projection whose cosine with a sound's ``z_d`` is their
            similarity.
    """

    tags: tuple[tuple[str, ...], ...]
    unknown: tuple[tuple[str, ...], ...]
    z: FloatArray
    z_d: FloatArray

    def __len__(self) -> int:
        return len(self.tags)


class TagVocabulary:
    """Finds tags as people write them.

    A tag is looked for as it is, then without regard to case, Unicode form and what separates its
    words, then as the English plural or singular of a tag. Each step must lead to one tag alone:
    nothing is guessed.

    Args:
        tags: In the order of the model's inputs.
    """

    def __init__(self, tags: Sequence[str]) -> None:
        self.tags = tuple(tags)
        self._exact = {tag: place for place, tag in enumerate(self.tags)}
        self._written: dict[str, set[int]] = defaultdict(set)
        self._singular: dict[str, set[int]] = defaultdict(set)
        for place, tag in enumerate(self.tags):
            written = _normal(tag)
            self._written[written].add(place)
            for form in _singulars(written):
                self._singular[form].add(place)

    def find(self, tag: str) -> int | None:
        """Place of a tag, or None where there is none, or more than one."""
        if tag in self._exact:
            return self._exact[tag]
        written = _normal(tag)
        places = self._written.get(written)
        if places is None:
            singulars = [self._written.get(form, set()) for form in _singulars(written)]
            places = self._singular.get(written, set()).union(*singulars)
        return next(iter(places)) if len(places) == 1 else None

    def split(self, text: str) -> list[str]:
        """Tags in a text: the text itself where it is a tag, else what is between its commas.

        A part that is no tag falls into its words.
        """
        if self.find(text) is not None:
            return [text]
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [
            word
            for part in parts
            for word in ([part] if self.find(part) is not None else part.split())
        ]

    def close(self, tag: str, count: int = 3) -> list[str]:
        """Tags that are spelled like this one."""
        found = difflib.get_close_matches(_normal(tag), self._written, n=count)
        return [self.tags[place] for form in found for place in sorted(self._written[form])][:count]


def _normal(tag: str) -> str:
    folded = unicodedata.normalize("NFKC", tag).casefold()
    return _SEPARATORS.sub(" ", folded).strip()


def _singulars(word: str) -> set[str]:
    """What a word may be the plural of."""
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return set()
    forms = {word[:-1]}
    if word.endswith("ies"):
        forms.add(word[:-3] + "y")
    elif word.endswith(("ses", "xes", "zes", "ches", "shes")):
        forms.add(word[:-2])
    return forms


class TagEmbedder:
    """Embeds sets of tags with a COALA model.

    Args:
        model: Has a ``tag_encoder``, multi-hot ``(batch, tags)`` to ``(z, z_d)``; is moved to the
            device.
        card: The model's card, with its vocabulary.
        device: ``"cpu"``, ``"cuda"``, ``"auto"`` ...

    Raises:
        ConfigError: The model embeds no tags, its card has no vocabulary, or there is no such
            device.
    """

    def __init__(self, model: nn.Module, card: Card, *, device: str | torch.device = "cpu") -> None:
        encoder = getattr(model, "tag_encoder", None)
        if not isinstance(encoder, nn.Module):
            raise ConfigError(f"{card.name} embeds no tags: take a COALA model with a tag encoder")
        if not card.vocabulary:
            raise ConfigError(f"the card of {card.name} has no vocabulary: its tags have no names")
        self.card = card
        self.vocabulary = TagVocabulary(card.vocabulary)
        self.device = pick_device(device)
        self._encoder = encoder.to(self.device)

    def embed(
        self, sets: Iterable[str | Iterable[str]], *, ignore_unknown: bool = False
    ) -> TagEmbedding:
        """Embed sets of tags: ``embed([["dog", "bark"], "rain"])``.

        Args:
            sets: Each a collection of tags, or a text of tags between commas or spaces. Order and
                repetition do not matter.
            ignore_unknown: Pass over tags that the model does not know, and list them, as long as
                one of the set is known.

        Returns:
            A row for each set.

        Raises:
            TagError: A tag is not in the vocabulary (close ones are suggested), or a set is empty.
        """
        known, unknown = [], []
        for tags in sets:
            places, missing = self._look_up(tags, ignore_unknown)
            known.append(places)
            unknown.append(missing)
        z, z_d = self._run(known)
        names = tuple(tuple(self.vocabulary.tags[place] for place in places) for places in known)
        return TagEmbedding(names, tuple(unknown), z, z_d)

    def _look_up(
        self, tags: str | Iterable[str], ignore_unknown: bool
    ) -> tuple[list[int], tuple[str, ...]]:
        words = self.vocabulary.split(tags) if isinstance(tags, str) else list(tags)
        if not words:
            raise TagError("a set without tags has no embedding: name at least one")
        places = {word: self.vocabulary.find(word) for word in words}
        missing = tuple(word for word, place in places.items() if place is None)
        found = sorted({place for place in places.values() if place is not None})
        if missing and not (ignore_unknown and found):
            raise TagError(self._not_found(missing))
        return found, missing

    def _not_found(self, missing: Sequence[str]) -> str:
        count = len(self.vocabulary.tags)
        lines = []
        for tag in missing:
            close = self.vocabulary.close(tag)
            hint = f"did you mean {', '.join(close)}?" if close else f"it has {count} tags"
            lines.append(f"no tag {tag!r} in the vocabulary of {self.card.name}; {hint}")
        return "; ".join(lines)

    def _run(self, sets: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray]:
        pairs = []
        with evaluating(self._encoder):
            # One empty batch where there are no sets, so that rows have their size all the same.
            for begin in range(0, max(1, len(sets)), _BATCH):
                batch = sets[begin : begin + _BATCH]
                hot = torch.zeros(len(batch), len(self.vocabulary.tags), device=self.device)
                for row, places in zip(hot, batch, strict=True):
                    row[list(places)] = 1.0
                pairs.append([part.float().cpu().numpy() for part in self._encoder(hot)])
        z, z_d = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        return z, z_d


def load_tag_embedder(
    model: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> TagEmbedder:
    """A `TagEmbedder` for a registered COALA model or a ``.safetensors`` file with its card.

    Raises:
        ModelNotFoundError: No such model.
        ConfigError: It embeds no tags; see `TagEmbedder`.
    """
    module, card = build_model(model)
    return TagEmbedder(module, card, device=device)
