"""``coala-latent search``: the sounds of a store that are nearest to tags or to other sounds."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from coala_latent.analysis.retrieval import By, nearest
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.tags import TagEmbedder
from coala_latent.errors import (
    AudioTooShortError,
    ConfigError,
    ModelNotFoundError,
    StoreMismatchError,
)
from coala_latent.registry import build_model
from coala_latent.store import FileRecord, Store, StoreIdentity
from coala_latent.tasks.labelled import printable
from coala_latent.types import FloatArray

__all__ = ["Found", "Query", "StoreModel", "search", "search_csv", "search_json", "search_table"]

_TAG_LAYER = "z_d"


@dataclass(frozen=True)
class Found:
    """One sound, or a part of one.

    Attributes:
        score: Cosine with the query, in [-1, 1].
        path: Of the file, as the store names it.
        start: Seconds.
        end: Seconds.
    """

    score: float
    path: str
    start: float
    end: float


@dataclass(frozen=True)
class Query:
    """What was looked for, and what was found, nearest first.

    Attributes:
        kind: ``"tags"`` or ``"sound"``.
        text: The tags as the vocabulary writes them, or the file.
        unknown: Tags that were passed over.
        found: The nearest.
    """

    kind: str
    text: str
    unknown: tuple[str, ...]
    found: tuple[Found, ...]


class StoreModel:
    """The model that wrote a store, hearing exactly as it did then.

    Args:
        identity: Of the store, or of what was made from one.
        path: Of it, for messages.
        model: Path of the model, where it is not registered under the name in the store.
        device: ``"cpu"``, ``"cuda"``, ``"auto"`` ...

    Raises:
        ModelNotFoundError: The store's model is not here.
        StoreMismatchError: The model found has other weights or settings than the store.
    """

    def __init__(
        self, identity: StoreIdentity, path: Path, model: str | None = None, device: str = "cpu"
    ) -> None:
        self.identity = identity
        self.path = path
        try:
            self._module, self.card = build_model(model or self.identity.model)
        except ModelNotFoundError as error:
            if model is not None:
                raise
            raise ModelNotFoundError(
                f"{path}: written by {self.identity.model!r}, which is not registered here "
                "(give its .safetensors file with --model)"
            ) from error
        self._device = device
        if self.card.sha256 != self.identity.weights_sha256:
            raise StoreMismatchError(
                f"{path}: written by {self.identity.model} with weights "
                f"{self.identity.weights_sha256[:12] or 'without hash'}, but those of "
                f"{self.card.name} here are {self.card.sha256[:12] or 'without hash'} "
                "(give the right file with --model, or encode again)"
            )

    def embedder(self) -> Embedder:
        """Same layer, pooling, framing, channels and precision as the store's.

        Raises:
            StoreMismatchError: The model cannot be set up as the store says.
        """
        said = self.identity.front_end
        # Patches of a spectrogram, or steps along the waveform.
        framing = said.get("framing", said)
        embedder = Embedder(
            self._module,
            self.card,
            layer=self.identity.layer.split("+"),
            pooling=self.identity.pooling,
            device=self._device,
            patch=said.get("patch"),
            patch_hop=framing.get("patch_hop"),
            short=said.get("short"),
            channels=said.get("channels", "mean"),
            precision=said.get("precision", "float32"),
        )
        # The same weights may go by another name.
        now = replace(embedder.identity(self.identity.dtype), model=self.identity.model)
        if differences := self.identity.differences(now):
            raise StoreMismatchError(
                f"{self.path}: {self.card.name} cannot hear as it did when the store was "
                f"written (stored, now): {'; '.join(differences)} (encode again)"
            )
        return embedder

    def tag_embedder(self) -> TagEmbedder:
        """Tags to vectors that the store's rows can be compared with.

        Raises:
            ConfigError: The model embeds no tags.
            StoreMismatchError: The store holds another layer.
        """
        found = TagEmbedder(self._module, self.card, device=self._device)
        size = self.card.layers[_TAG_LAYER]
        if self.identity.layer != _TAG_LAYER or self.identity.dim != size:
            raise StoreMismatchError(
                f"{self.path}: holds layer {self.identity.layer} with "
                f"{self.identity.pooling} pooling; tags can be compared with {_TAG_LAYER} alone "
                f"(encode again: coala-latent encode ... --model {self.card.name} "
                f"--layer {_TAG_LAYER})"
            )
        return found


def search(
    path: Path,
    *,
    tags: Sequence[str] = (),
    sounds: Sequence[Path] = (),
    top: int = 10,
    by: By | None = None,
    model: str | None = None,
    device: str = "cpu",
    ignore_unknown: bool = False,
) -> list[Query]:
    """Find the sounds of a store that are nearest to sets of tags and to sounds.

    Args:
        path: The store. For tags it must hold layer ``z_d`` of a COALA model.
        tags: Each a set of tags: ``"dog bark"``.
        sounds: Files; the mean row of each is looked for.
        top: How many to find for each.
        by: ``"rows"``, ``"files"`` (best row of each) or ``"mean"`` (mean row of each); by default
            files for tags, which may be heard for a moment only, and mean for sounds.
        model: Path of the store's model, where it is not registered.
        device: Of the model.
        ignore_unknown: Pass over tags that the model does not know.

    Returns:
        A query each, tags before sounds.

    Raises:
        ConfigError: Nothing to look for, or a model without tags.
        TagError: A tag is not in the vocabulary.
        AudioError: A sound cannot be used.
        StoreError: The store cannot be read, or does not fit the model.
    """
    if not (tags or sounds):
        raise ConfigError("nothing to look for: give --tags or --sound")
    with Store(path) as store:
        heard_by = StoreModel(store.identity, store.path, model, device)
        queries: list[Query] = []
        # All is embedded before the store is read, so that what is wrong shows at once.
        embedded = (
            heard_by.tag_embedder().embed(tags, ignore_unknown=ignore_unknown) if tags else None
        )
        if sounds:
            embedder = heard_by.embedder()
            vectors = np.stack([_sound_vector(embedder, sound) for sound in sounds])
        if embedded:
            found = _found(store, embedded.z_d, top, by or "files")
            for names, unknown, best in zip(embedded.tags, embedded.unknown, found, strict=True):
                queries.append(Query("tags", ", ".join(names), unknown, best))
        if sounds:
            found = _found(store, vectors, top, by or "mean")
            for sound, best in zip(sounds, found, strict=True):
                queries.append(Query("sound", str(sound), (), best))
        return queries


def _sound_vector(embedder: Embedder, sound: Path) -> FloatArray:
    rows = embedder.file(sound)
    if not len(rows):
        raise AudioTooShortError(sound, "too short for a single row", "give a longer sound")
    return rows.mean()


def _found(store: Store, vectors: FloatArray, top: int, by: By) -> Iterator[tuple[Found, ...]]:
    hits = nearest(vectors, store.iter_blocks(), top, by)
    for lines in zip(hits.scores, hits.rows, hits.files, strict=True):
        yield tuple(
            _in_words(store, float(score), int(row), store.files[file], by)
            for score, row, file in zip(*lines, strict=True)
        )


def _in_words(store: Store, score: float, row: int, record: FileRecord, by: By) -> Found:
    last = record.first_row + record.rows - 1 if by == "mean" else row
    return Found(score, record.path, float(store.start[row]), float(store.end[last]))


def search_json(path: Path, queries: Sequence[Query]) -> str:
    """Everything as JSON."""
    values: dict[str, Any] = {
        "store": printable(path),
        "queries": [
            {
                query.kind: printable(query.text),
                **(
                    {"unknown_tags": [printable(tag) for tag in query.unknown]}
                    if query.unknown
                    else {}
                ),
                "found": [
                    {
                        "score": found.score,
                        "file": printable(found.path),
                        "start": found.start,
                        "end": found.end,
                    }
                    for found in query.found
                ],
            }
            for query in queries
        ],
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def search_csv(queries: Sequence[Query]) -> str:
    """One line for each sound found."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["kind", "query", "rank", "score", "file", "start", "end"])
    for query in queries:
        for rank, found in enumerate(query.found, start=1):
            times = [f"{found.start:.4f}", f"{found.end:.4f}"]
            line = [rank, f"{found.score:.6f}", printable(found.path), *times]
            writer.writerow([query.kind, printable(query.text), *line])
    return out.getvalue()


def search_table(query: Query) -> Table:
    """What was found for one query."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("file", overflow="fold")
    for found in query.found:
        times = f"{found.start:.2f} .. {found.end:.2f}"
        table.add_row(f"{found.score:.3f}", times, Text(printable(found.path)))
    return table
