"""Reading HDF5 files of tagged patches: those of `PatchWriter`, and the published ones as they are.

Patches come back as unscaled log-mel, the inverse of what the file's scaling did, so that any
front end of the same bands and frames can scale them in its own way.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.audio.frontends import CoalaLegacy
from coala_latent.data.epochs import IntArray
from coala_latent.data.patch_files import (
    FORMAT,
    FORMAT_VERSION,
    GROUP,
    PatchHeader,
    analysis_of,
    published_scaling,
)
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError, DataError
from coala_latent.store.schema import decode_text

__all__ = ["Memory", "PatchFile", "read_vocabulary"]

Memory = Literal["auto", "always", "never"]

_LABEL_ROWS = 2048
_DATA_ROWS = 256


class PatchFile:
    """A file of patches, read row by row, or held in memory.

    It can be handed to a loader's workers: each process opens the file for itself. Forked workers
    share what is in memory; pickled copies (workers that are spawned) leave it behind and read from
    the file instead.

    Args:
        path: The file.
        vocabulary: JSON from number to tag. Needed for files that do not have their own, as the
            published ones; of others it must agree with what is in the file.
        memory: ``"always"`` and ``"never"`` hold all patches in memory; ``"auto"`` does where they
            do not take more than `memory_limit`.
        memory_limit: In bytes.

    Attributes:
        path: The file.
        header: What the patches are.
        ids: ``(n,)`` int64.
        sources: Where each patch comes from; its id in files that do not say.
        groups: Group of each patch; its id in files that do not say.
        published: Whether the file has no description of its own.
        in_memory: Whether patches are read from memory.

    Raises:
        DataError: The file is missing, damaged, or another kind of file, or its vocabulary is.
        ConfigError: A setting does not make sense.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        vocabulary: str | Path | None = None,
        memory: Memory = "auto",
        memory_limit: int = 4 << 30,
    ) -> None:
        if memory not in get_args(Memory):
            raise ConfigError(f"memory={memory!r}: use one of {', '.join(get_args(Memory))}")
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process = os.getpid()
        self._memory: npt.NDArray[np.float32] | None = None
        given = None if vocabulary is None else read_vocabulary(Path(vocabulary))
        try:
            with _open(self.path) as file:
                self._read_tables(file, given)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise _damaged(self.path, error) from error
        if memory == "always" or (memory == "auto" and self.data_bytes <= memory_limit):
            self._memory = self._load(np.arange(len(self)))
            self.close()

    def _read_tables(self, file: h5py.File, given: tuple[str, ...] | None) -> None:
        group = file[GROUP]
        count, *self._shape = group["data"].shape
        tags = group["label"].shape[-1]
        self.published = not _format(self.path, file)
        shapes = [group["id"].shape[:1], group["label"].shape]
        if len(self._shape) != 2 or shapes != [(count,), (count, tags)]:
            raise DataError(
                f"{self.path}: data {group['data'].shape}, id {group['id'].shape} and label "
                f"{group['label'].shape} do not belong together (build the data set again)"
            )
        if count == 0:
            raise DataError(f"{self.path}: no patches (build the data set again)")
        self.ids: IntArray = group["id"][:].reshape(count).astype(np.int64)
        if self.published:
            self.header = _published_header(self.path, self._shape, given, tags)
            self.sources = self.groups = tuple(map(str, self.ids.tolist()))
            self._frames: IntArray | None = None
        else:
            self.header = _header(file)
            self.sources, self.groups = _texts(group["source"]), _texts(group["group"])
            self._frames = group["frames"][:].astype(np.int64)
            if given is not None and given != self.header.vocabulary:
                raise DataError(
                    f"{self.path}: it has another vocabulary than was given (give none: the file "
                    "has its own)"
                )
            if len(self.sources) != count or len(self.header.vocabulary) != tags:
                raise DataError(f"{self.path}: its tables differ in length (build it again)")
        self._first, self._tags = _sparse_labels(self.path, group["label"])
        self.sha256 = str(file.attrs.get("sha256", "")) or self._digest()

    def _digest(self) -> str:
        """Of all but the patches, which are the larger part of many gigabytes."""
        digest = hashlib.sha256(f"{len(self)} {self._shape}".encode())
        for table in (self.ids, self._first, self._tags):
            digest.update(table.data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def in_memory(self) -> bool:
        """Whether patches are read from memory."""
        return self._memory is not None

    @property
    def data_bytes(self) -> int:
        """What all patches take in memory."""
        return 4 * len(self) * int(np.prod(self._shape))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tags, by number."""
        return self.header.vocabulary

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_memory": None}

    def close(self) -> None:
        """Close this process's file; it opens again when it is read."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _data(self) -> h5py.Dataset:
        if self._process != os.getpid():
            # A handle that came along with a fork must not be used in two processes.
            self.close()
            self._process = os.getpid()
        if self._file is None:
            self._file = _open(self.path)
        return self._file[f"{GROUP}/data"]

    def _load(self, rows: IntArray) -> npt.NDArray[np.float32]:
        """Stored values of rows in any order, read as runs of neighbours."""
        stored = np.empty((len(rows), *self._shape), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        breaks = np.flatnonzero(np.diff(rows[order]) != 1) + 1
        for run in np.split(order, breaks):
            for begin in range(0, len(run), _DATA_ROWS):
                part = run[begin : begin + _DATA_ROWS]
                stored[part] = self._neighbours(int(rows[part[0]]), len(part))
        return stored

    def _neighbours(self, first: int, count: int) -> npt.NDArray[np.float32]:
        try:
            block: npt.NDArray[np.float32] = self._data()[first : first + count]
        except (OSError, KeyError, ValueError) as error:
            raise _damaged(self.path, error) from error
        finite = np.isfinite(block).all(axis=(1, 2))
        if not finite.all():
            raise DataError(
                f"{self.path}: row {first + int(np.argmin(finite))} has values that are not finite "
                "(fetch or build the data set again)"
            )
        return block

    def scaled(self, rows: IntArray) -> npt.NDArray[np.float32]:
        """Patches ``(n, bands, frames)`` as they are stored."""
        if len(rows) == 0:
            return np.empty((0, *self._shape), dtype=np.float32)
        return self._load(rows) if self._memory is None else self._memory[rows]

    def patches(self, rows: IntArray) -> npt.NDArray[np.float32]:
        """Unscaled log-mel patches ``(n, bands, frames)``."""
        unscaled: npt.NDArray[np.float32] = self.scaled(rows)
        unscaled -= self.header.offset
        unscaled /= self.header.scale
        return unscaled

    def masks(self, rows: IntArray) -> npt.NDArray[np.bool_]:
        """``(n, frames)``, true where a frame is of the sound."""
        frames = self._shape[1]
        if self._frames is None:
            return np.ones((len(rows), frames), dtype=bool)
        return np.asarray(np.arange(frames) < self._frames[rows, None])

    def tag_numbers(self, row: int) -> IntArray:
        """Numbers of a patch's tags, ascending."""
        return self._tags[self._first[row] : self._first[row + 1]]

    def tags(self, rows: IntArray) -> Tensor:
        """Multi-hot ``(n, tags)`` float32."""
        hot = torch.zeros(len(rows), len(self.vocabulary))
        for line, row in zip(hot, rows.tolist(), strict=True):
            line[torch.from_numpy(self.tag_numbers(row))] = 1.0
        return hot

    def batch(self, rows: IntArray) -> PatchBatch:
        """Patches with masks and tags."""
        return PatchBatch(
            torch.from_numpy(self.patches(rows)),
            torch.from_numpy(self.masks(rows)),
            self.tags(rows),
            torch.from_numpy(rows),
        )

    def blocks(self, size: int = _DATA_ROWS) -> Iterator[IntArray]:
        """Numbers of all rows, in blocks of neighbours."""
        for first in range(0, len(self), size):
            yield np.arange(first, min(first + size, len(self)))


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Tags from JSON: an object from number to tag, a list, or a report with a ``vocabulary``.

    Raises:
        DataError: The file is missing or holds something else.
    """
    try:
        value = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file (a JSON object from number to tag)") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if isinstance(value, dict) and "vocabulary" in value:
        value = value["vocabulary"]
    if isinstance(value, dict):
        numbers = {str(number) for number in range(len(value))}
        if set(value) != numbers:
            raise DataError(f"{path}: its numbers do not count from 0 without gaps")
        value = [value[str(number)] for number in range(len(value))]
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag for tag in value):
        raise DataError(f"{path}: not an object from number to tag, nor a list of tags")
    if not value or len(set(value)) < len(value):
        raise DataError(f"{path}: no tags, or one twice")
    return tuple(value)


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise DataError(f"{path}: no such file (`coala-latent build-dataset` makes one)")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return DataError(
        f"{path}: not a whole HDF5 file of patches: {reason} (fetch it again, or build it with "
        "`coala-latent build-dataset`)"
    )


def _format(path: Path, file: h5py.File) -> str:
    """The format's name; empty for a file that does not say, as the published ones."""
    name = str(file.attrs.get("format", ""))
    version = int(file.attrs.get("format_version", 0))
    if name and (name, version) != (FORMAT, FORMAT_VERSION):
        raise DataError(
            f"{path}: format {name}, version {version}; {FORMAT}, version {FORMAT_VERSION}, is "
            "read (build the data set again)"
        )
    return name


def _header(file: h5py.File) -> PatchHeader:
    return PatchHeader(
        vocabulary=_texts(file["vocabulary"]),
        analysis=json.loads(file.attrs["analysis"]),
        scale=np.asarray(file.attrs["scale"], dtype=np.float32),
        offset=np.asarray(file.attrs["offset"], dtype=np.float32),
        details=json.loads(file.attrs["details"]),
    )


def _published_header(
    path: Path, shape: list[int], given: tuple[str, ...] | None, tags: int
) -> PatchHeader:
    analysis = analysis_of(CoalaLegacy())
    expected = [analysis["bands"], analysis["patch"]]
    if shape != expected:
        raise DataError(
            f"{path}: patches of {shape} in a file without a description; the published ones are "
            f"{expected} (build the data set with `coala-latent build-dataset`)"
        )
    if given is None:
        raise DataError(
            f"{path}: it does not say what its {tags} tags are (give their JSON with "
            "data.vocabulary=json/id2token_top_1000.json)"
        )
    if len(given) != tags:
        raise DataError(f"{path}: {tags} tags, but the vocabulary has {len(given)}")
    scale, offset = published_scaling()
    return PatchHeader(given, analysis, scale, offset)


def _sparse_labels(path: Path, label: h5py.Dataset) -> tuple[IntArray, IntArray]:
    """Where each row's tags begin, and the numbers of all tags that are present."""
    counts, present = [], []
    for first in range(0, len(label), _LABEL_ROWS):
        block = label[first : first + _LABEL_ROWS]
        if bool(((block != 0) & (block != 1)).any()):
            raise DataError(
                f"{path}: label has values other than 0 and 1 (build the data set again)"
            )
        rows, tags = np.nonzero(block)
        counts.append(np.bincount(rows, minlength=len(block)))
        present.append(tags)
    ends = np.concatenate([[0], *counts]).cumsum()
    return ends.astype(np.int64), np.concatenate(present).astype(np.int64)


def _texts(dataset: h5py.Dataset) -> tuple[str, ...]:
    return tuple(decode_text(bytes(text)) for text in dataset[:])
