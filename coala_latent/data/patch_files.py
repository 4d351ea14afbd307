"""HDF5 files of tagged patches, in the layout of the original project's published data set.

Group ``dataset``: ``id`` ``(n, 1)`` int32, ``data`` ``(n, bands, frames)`` float32 scaled per frame
of the patch, ``label`` ``(n, tags)`` int16 of 0 and 1. What is written here also says what it is:
attributes, the vocabulary, and for each patch its source, group and number of real frames;
`docs/datasets.md` has the table. `coala_latent.data.patch_reader` reads both kinds.

Source of the layout: Favory et al., "COALA", 2020 (arXiv 2006.08386), Zenodo record 3887261.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import coala_latent
from coala_latent.audio.coala_scaler import OFFSET, SCALE
from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.data.epochs import IntArray
from coala_latent.data.whole_files import WholeFile, write_text
from coala_latent.errors import DataError
from coala_latent.store.schema import printable_text
from coala_latent.types import FloatArray

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "GROUP",
    "PatchHeader",
    "PatchRows",
    "PatchWriter",
    "analysis_of",
    "published_scaling",
]

FORMAT = "coala_latent.patches"
FORMAT_VERSION = 1
GROUP = "dataset"
# Rows in a chunk of what is small per row.
_ROWS = 1024
_LABEL_ROWS = 64


def analysis_of(front_end: CoalaFrontEnd) -> dict[str, Any]:
    """What must be known of a front end to use its unscaled patches elsewhere."""
    framing = front_end.framing
    return {
        "sample_rate": front_end.sample_rate,
        "bands": front_end.bands,
        "patch": framing.patch,
        "window": framing.window,
        "hop": framing.hop,
        "eps": front_end.eps,
    }


def published_scaling() -> tuple[FloatArray, FloatArray]:
    """Scale and offset per frame, each ``(96,)`` float32, of the original's files."""
    return np.array(SCALE, dtype=np.float32), np.array(OFFSET, dtype=np.float32)


@dataclass(frozen=True)
class PatchHeader:
    """What a file's patches are.

    Attributes:
        vocabulary: The tags, by their column in ``label``.
        analysis: See `analysis_of`.
        scale: ``(frames,)`` float32; ``stored = log_mel * scale + offset``.
        offset: ``(frames,)`` float32.
        details: JSON-able values to keep with them: seed, how patches were chosen, and so on.
    """

    vocabulary: tuple[str, ...]
    analysis: Mapping[str, Any]
    scale: FloatArray
    offset: FloatArray
    details: Mapping[str, Any] = field(default_factory=dict)


class PatchRows(NamedTuple):
    """Patches to be written together.

    Attributes:
        ids: ``(n,)``, within int32.
        patches: Unscaled log-mel ``(n, bands, frames)``.
        frames: ``(n,)``, how many frames of each patch, from its first, are of the sound.
        tags: Numbers of each patch's tags.
        sources: Where each comes from.
        groups: Its group; one group is in one file only.
    """

    ids: IntArray
    patches: FloatArray
    frames: IntArray
    tags: Sequence[Sequence[int]]
    sources: Sequence[str]
    groups: Sequence[str]


class PatchWriter(WholeFile):
    """Writes a file block by block; it gets its name when it is complete.

    As a context manager it closes at the end; after an exception, or without a single patch, no
    file is left and one that was there stays.

    Args:
        path: The file; one of that name is replaced at the end.
        header: What the patches are.

    Attributes:
        sha256: Hash of all numbers in it, once it is closed.

    Raises:
        DataError: The header does not fit together.
    """

    def __init__(self, path: str | Path, header: PatchHeader) -> None:
        self.header = header
        self.bands, self.frames = int(header.analysis["bands"]), int(header.analysis["patch"])
        self._scale = np.asarray(header.scale, dtype=np.float32)
        self._offset = np.asarray(header.offset, dtype=np.float32)
        if self._scale.shape != (self.frames,) or self._offset.shape != (self.frames,):
            raise DataError(
                f"{path}: scale and offset are {self._scale.shape} and {self._offset.shape}; "
                f"give one of each for the {self.frames} frames of a patch"
            )
        if not header.vocabulary or len(set(header.vocabulary)) < len(header.vocabulary):
            raise DataError(f"{path}: the vocabulary is empty or has a tag twice")
        self.sha256 = ""
        self._digest = hashlib.sha256()
        self._sources: list[str] = []
        self._groups: list[str] = []
        super().__init__(path)

    def _lay_out(self) -> None:
        header = self.header
        self._file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            package_version=coala_latent.__version__,
            analysis=json.dumps(dict(header.analysis)),
            scale=self._scale,
            offset=self._offset,
            details=printable_text(json.dumps(dict(header.details), ensure_ascii=False)),
        )
        write_text(self._file, "vocabulary", header.vocabulary)
        group, tags = self._file.create_group(GROUP), len(header.vocabulary)
        patch = (self.bands, self.frames)
        # A patch to a chunk, because training reads them in any order.
        for name, shape, kind, rows in (
            ("id", (1,), "i4", _ROWS),
            ("data", patch, "f4", 1),
            ("label", (tags,), "i2", _LABEL_ROWS),
            ("frames", (), "i4", _ROWS),
        ):
            group.create_dataset(
                name, (0, *shape), kind, chunks=(rows, *shape), maxshape=(None, *shape)
            )

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, rows: PatchRows) -> None:
        """Append patches; what is refused leaves the file as it was.

        Raises:
            DataError: Shapes do not fit, a value is not finite, or a number is out of its range.
        """
        count, group = len(rows.ids), self._file[GROUP]
        patches = np.asarray(rows.patches, dtype=np.float32)
        self._check(rows, patches)
        label = np.zeros((count, len(self.header.vocabulary)), dtype=np.int16)
        for line, tags in zip(label, rows.tags, strict=True):
            line[list(tags)] = 1
        blocks = {
            "id": np.asarray(rows.ids, dtype=np.int32)[:, None],
            "data": patches * self._scale + self._offset,
            "label": label,
            "frames": np.asarray(rows.frames, dtype=np.int32),
        }
        for name, block in blocks.items():
            group[name].resize(len(self) + count, axis=0)
            group[name][len(self) :] = block
            self._digest.update(np.ascontiguousarray(block).data)
        self._sources += map(printable_text, rows.sources)
        self._groups += map(printable_text, rows.groups)

    def _check(self, rows: PatchRows, patches: npt.NDArray[np.float32]) -> None:
        count = len(rows.ids)
        if patches.shape != (count, self.bands, self.frames):
            raise DataError(
                f"{self.path}: patches are {patches.shape}; give "
                f"({count}, {self.bands}, {self.frames})"
            )
        if any(len(part) != count for part in rows):
            raise DataError(f"{self.path}: {count} ids, but {[len(part) for part in rows]} entries")
        finite = np.isfinite(patches).all(axis=(1, 2))
        if not finite.all():
            raise DataError(
                f"{rows.sources[int(np.argmin(finite))]}: a value of its patch is not finite "
                "(leave the sound out)"
            )
        bounds = np.iinfo(np.int32)
        ids, frames = np.asarray(rows.ids), np.asarray(rows.frames)
        if count and not (bounds.min <= ids.min() and ids.max() <= bounds.max):
            raise DataError(f"{self.path}: an id is not within int32 (give other numbers)")
        if count and not (frames.min() >= 1 and frames.max() <= self.frames):
            raise DataError(f"{self.path}: frames must be from 1 to {self.frames}")
        if any(not 0 <= tag < len(self.header.vocabulary) for tags in rows.tags for tag in tags):
            raise DataError(f"{self.path}: a tag's number is outside the vocabulary")

    def _complete(self) -> None:
        if not self._sources:
            raise DataError(f"{self.path}: not written, because it has no patches")
        write_text(self._file[GROUP], "source", self._sources)
        write_text(self._file[GROUP], "group", self._groups)
        self.sha256 = self._digest.hexdigest()
        self._file.attrs["sha256"] = self.sha256
