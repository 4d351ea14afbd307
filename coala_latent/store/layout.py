"""The HDF5 layout of a store, written and read by blocks.

``values (n, dim)`` float32 or float16, ``start (n,)`` and ``end (n,)`` float64 seconds, ``file
(n,)`` int32 index into the group ``files``, whose datasets of equal length are the fields of
`FileRecord`. The rows of a file are neighbours, and files are in the order of their rows.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from coala_latent.store.schema import (
    FileRecord,
    Header,
    StoreIdentity,
    decode_text,
    encode_text,
    write_header,
)

__all__ = ["RowFile", "block_rows", "iter_records", "read_records", "sync_folder"]

BUFFER_BYTES = 4 * 2**20
_CHUNK_BYTES = 256 * 2**10
_CHUNK_LINES = 4096
_TABLE_BLOCK = 4096
_TEXT = ("path", "status", "error")
_NUMBERS = {
    "duration": "f8",
    "sample_rate": "i4",
    "channels": "i4",
    "bytes": "i8",
    "first_row": "i8",
    "rows": "i8",
}


def _chunk_rows(identity: StoreIdentity) -> int:
    row = identity.dim * np.dtype(identity.dtype).itemsize
    return int(np.clip(_CHUNK_BYTES // row, 1, _CHUNK_LINES))


def block_rows(identity: StoreIdentity, size: int = BUFFER_BYTES) -> int:
    """Return how many rows make about ``size`` bytes: whole chunks, and at least one."""
    chunk = _chunk_rows(identity)
    row = identity.dim * np.dtype(identity.dtype).itemsize
    return max(1, size // (row * chunk)) * chunk


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the platform lets a folder be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RowFile:
    """A file in the layout of a store, being written.

    Rows go through a fixed buffer. The only state is the pair (rows on disk, rows in the buffer),
    replaced in one assignment after the data are in place: an interrupt between any two
    statements leaves it consistent, and what lies beyond it is overwritten or cut off.

    Args:
        path: Made or overwritten.
        header: Its root attributes.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        identity = header.identity
        size = block_rows(identity)
        dtypes = {"start": "f8", "end": "f8", "file": "i4"}
        self._buffer: dict[str, npt.NDArray[Any]] = {
            "values": np.empty((size, identity.dim), identity.dtype),
            **{name: np.empty(size, dtype) for name, dtype in dtypes.items()},
        }
        self._size = size
        self._rows = (0, 0)
        self._lines = 0
        # Our own lock keeps other writers out.
        self._h5 = h5py.File(path, "w", locking=False, rdcc_nbytes=4 * _CHUNK_BYTES)
        write_header(self._h5, header)
        self._datasets: dict[str, h5py.Dataset] = {}
        self._datasets["values"] = self._h5.create_dataset(
            "values",
            (0, identity.dim),
            identity.dtype,
            maxshape=(None, identity.dim),
            chunks=(_chunk_rows(identity), identity.dim),
        )
        for name, dtype in dtypes.items():
            self._column(self._h5, name, dtype, _CHUNK_LINES)
        table = self._h5.create_group("files")
        for name in _TEXT:
            self._column(table, name, h5py.string_dtype("utf-8"), _CHUNK_LINES // 8)
        for name, dtype in _NUMBERS.items():
            self._column(table, name, dtype, _CHUNK_LINES // 8)

    def _column(self, group: h5py.Group, name: str, dtype: Any, chunk: int) -> None:
        self._datasets[name] = group.create_dataset(
            name, (0,), dtype, maxshape=(None,), chunks=(chunk,)
        )

    @property
    def rows(self) -> int:
        """Rows appended so far."""
        return sum(self._rows)

    def append(
        self,
        values: npt.NDArray[Any],
        start: npt.NDArray[Any],
        end: npt.NDArray[Any],
        file: npt.NDArray[Any] | int,
    ) -> None:
        """Append rows: ``(n, dim)``, ``(n,)``, ``(n,)`` and ``(n,)`` or one index for all."""
        index = np.broadcast_to(np.asarray(file, dtype=np.int32), start.shape)
        columns = {"values": values, "start": start, "end": end, "file": index}
        done = 0
        while done < len(values):
            written, filled = self._rows
            if filled == self._size:
                self._spill()
                continue
            taken = min(self._size - filled, len(values) - done)
            for name, column in columns.items():
                self._buffer[name][filled : filled + taken] = column[done : done + taken]
            self._rows = (written, filled + taken)
            done += taken

    @property
    def lines(self) -> int:
        """Lines of the file table written so far."""
        return self._lines

    def truncate(self, rows: int) -> None:
        """Forget all rows from ``rows`` on."""
        written = min(self._rows[0], rows)
        self._rows = (written, rows - written)

    def _spill(self) -> None:
        written, filled = self._rows
        for name, column in self._buffer.items():
            self._datasets[name].resize(written + filled, axis=0)
            if filled:
                self._datasets[name][written:] = column[:filled]
        self._rows = (written + filled, 0)

    def add_records(self, records: Sequence[FileRecord]) -> None:
        """Append lines to the file table."""
        for begin in range(0, len(records), _TABLE_BLOCK):
            self._add_block(records[begin : begin + _TABLE_BLOCK])

    def _add_block(self, records: Sequence[FileRecord]) -> None:
        begin, end = self._lines, self._lines + len(records)
        columns: dict[str, npt.NDArray[Any]] = {
            name: np.array([getattr(record, name) for record in records], dtype=dtype)
            for name, dtype in _NUMBERS.items()
        }
        for name in _TEXT:
            texts = [encode_text(getattr(record, name), name) for record in records]
            columns[name] = np.array(texts, dtype=object)
        for name, column in columns.items():
            self._datasets[name].resize(end, axis=0)
            self._datasets[name][begin:] = column
        self._lines = end

    def finish(self, path: Path) -> None:
        """Write what is left, close, and give the file its name: complete and on disk, or absent.

        After an interrupt it may be called again, and goes on where it was.

        Args:
            path: The final name, on the same file system; replaced if it exists.
        """
        if self._h5:
            self._spill()
            self._h5.close()
        if self.path.exists():
            with self.path.open("r+b") as stream:
                os.fsync(stream.fileno())
            self.path.replace(path)
        sync_folder(path.parent)
        if path.parent != self.path.parent:
            sync_folder(self.path.parent)

    def discard(self) -> None:
        """Close and remove the unfinished file."""
        self._h5.close()
        self.path.unlink(missing_ok=True)


def read_records(handle: h5py.File, begin: int, end: int) -> list[FileRecord]:
    """Read the lines ``begin`` to ``end`` of the file table."""
    table = handle["files"]
    columns: dict[str, list[Any]] = {
        name: [decode_text(text) for text in table[name][begin:end]] for name in _TEXT
    }
    columns.update({name: table[name][begin:end].tolist() for name in _NUMBERS})
    columns["status"] = [sys.intern(status) for status in columns["status"]]
    return [
        FileRecord(**dict(zip(columns, line, strict=True)))
        for line in zip(*columns.values(), strict=True)
    ]


def iter_records(handle: h5py.File) -> Iterator[FileRecord]:
    """Yield the file table, reading it in blocks."""
    lines = handle["files/path"].shape[0]
    for begin in range(0, lines, _TABLE_BLOCK):
        yield from read_records(handle, begin, min(begin + _TABLE_BLOCK, lines))
