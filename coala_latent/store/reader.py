"""Read a store: lazily, by file, by blocks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from coala_latent.errors import StoreError
from coala_latent.store.layout import block_rows, iter_records
from coala_latent.store.merge import part_paths, parts_folder
from coala_latent.store.schema import FileRecord, StoreIdentity, open_checked
from coala_latent.types import Embedding

__all__ = ["RowBlock", "Store"]

_BLOCK_BYTES = 16 * 2**20


class RowBlock(NamedTuple):
    """Neighbouring rows of a store.

    Attributes:
        values: ``(n, dim)`` float32.
        start: ``(n,)`` float64, seconds.
        end: ``(n,)`` float64, seconds.
        file: ``(n,)`` int32, index into `Store.files`.
    """

    values: npt.NDArray[np.float32]
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    file: npt.NDArray[np.int32]


class Store:
    """A finished store, open for reading.

    A writer may work on the same path meanwhile: it replaces the file, and this object goes on
    reading the one it opened. ``len`` is the number of rows. Pickles as its path.

    Args:
        path: The store.

    Attributes:
        identity: What the rows are.
        metadata: What else was kept with them.
        created: ISO 8601, UTC.
        package_version: Of the package that wrote it.

    Raises:
        StoreError: It does not exist or cannot be read.
        StoreFormatError: It is not a store, is damaged, or has a later format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists() and part_paths(self.path):
            raise StoreError(
                f"{path}: not finished, its run goes on or was interrupted and left its rows in "
                f"{parts_folder(self.path)} (wait, run it again, or call recover_store)"
            )
        self._h5, header = open_checked(self.path)
        self.identity: StoreIdentity = header.identity
        self.metadata: dict[str, Any] = header.metadata
        self.created = header.created
        self.package_version = header.package_version

    @cached_property
    def files(self) -> list[FileRecord]:
        """The file table."""
        return list(iter_records(self._h5))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {record.path: number for number, record in enumerate(self.files)}

    def __len__(self) -> int:
        return int(self._h5["values"].shape[0])

    @property
    def values(self) -> h5py.Dataset:
        """``(n, dim)`` as stored; a slice of it is read when it is taken."""
        return self._h5["values"]

    @property
    def start(self) -> h5py.Dataset:
        """``(n,)`` float64, seconds."""
        return self._h5["start"]

    @property
    def end(self) -> h5py.Dataset:
        """``(n,)`` float64, seconds."""
        return self._h5["end"]

    @property
    def file(self) -> h5py.Dataset:
        """``(n,)`` int32, index into `files`."""
        return self._h5["file"]

    def rows_of(self, file: str | int) -> Embedding:
        """Return the rows of one file.

        Args:
            file: Its path, or its index in `files`.

        Returns:
            ``(rows, dim)`` float32; no rows if the file failed.

        Raises:
            StoreError: There is no such file in the store.
        """
        number = self._index.get(file, -1) if isinstance(file, str) else int(file)
        if not 0 <= number < len(self.files):
            raise StoreError(f"{self.path}: no file {file!r} in the store (see its list of files)")
        record = self.files[number]
        block = self._block(record.first_row, record.first_row + record.rows)
        return Embedding(block.values, block.start, block.end)

    def iter_blocks(self, rows: int | None = None) -> Iterator[RowBlock]:
        """Yield all rows in order.

        Args:
            rows: Rows in a block; about 16 MiB of them if not given.
        """
        step = block_rows(self.identity, _BLOCK_BYTES) if rows is None else rows
        if step < 1:
            raise StoreError(f"{self.path}: a block needs at least one row, not {rows}")
        for begin in range(0, len(self), step):
            yield self._block(begin, min(begin + step, len(self)))

    def _block(self, begin: int, end: int) -> RowBlock:
        return RowBlock(
            self.values[begin:end].astype(np.float32, copy=False),
            self.start[begin:end],
            self.end[begin:end],
            self.file[begin:end],
        )

    def file_means(self) -> tuple[npt.NDArray[np.float32], list[FileRecord]]:
        """Return one vector a file: the mean of its rows, weighted by the time each covers.

        Reads blocks, and sums in double precision.

        Returns:
            ``(files, dim)`` float32, and the records of these files: those that have rows.
        """
        places = [number for number, record in enumerate(self.files) if record.rows]
        means = np.empty((len(places), self.identity.dim), dtype=np.float32)
        for line, mean in enumerate(self._iter_means()):
            means[line] = mean
        return means, [self.files[number] for number in places]

    def _iter_means(self) -> Iterator[npt.NDArray[np.float64]]:
        current, total = -1, _Total(self.identity.dim)
        for block in self.iter_blocks(block_rows(self.identity)):
            bounds = [0, *(np.flatnonzero(np.diff(block.file)) + 1).tolist(), len(block.file)]
            for begin, end in pairwise(bounds):
                if block.file[begin] != current:
                    if current >= 0:
                        yield total.mean()
                    current, total = int(block.file[begin]), _Total(self.identity.dim)
                total.add(block.values[begin:end], (block.end - block.start)[begin:end])
        if current >= 0:
            yield total.mean()

    def close(self) -> None:
        """Close the file; datasets taken from it cannot be read any more."""
        self._h5.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return type(self), (self.path,)


class _Total:
    """A sum of rows that grows, with and without weights."""

    def __init__(self, dim: int) -> None:
        self.weighted = np.zeros(dim)
        self.plain = np.zeros(dim)
        self.weight = 0.0
        self.rows = 0

    def add(self, values: npt.NDArray[np.float32], weights: npt.NDArray[np.float64]) -> None:
        exact = values.astype(np.float64)
        self.weighted += weights @ exact
        self.plain += exact.sum(axis=0)
        self.weight += float(weights.sum())
        self.rows += len(values)

    def mean(self) -> npt.NDArray[np.float64]:
        # Rows that cover no time count equally, as in Embedding.mean.
        return self.weighted / self.weight if self.weight > 0 else self.plain / self.rows
