"""Write a store so that a run killed at any moment resumes without loss or duplicate.

HDF5 files do not survive a kill in the middle of a write. So a finished ``FILE.h5`` is only ever
replaced, and a run writes *parts* beside it, in the same layout: ``FILE.h5.parts/000001.h5``, ...
The open part ends in ``.tmp`` and gets its name when it is complete and on disk. `close` merges
``FILE.h5`` and the parts into a new file, renames it over ``FILE.h5``, and removes the parts. A
path that is met twice, because the run was killed before the parts were removed, is kept once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import StoreError
from coala_latent.store.layout import RowFile, iter_records, sync_folder
from coala_latent.store.merge import (
    clear_parts,
    lock_store,
    part_paths,
    parts_folder,
    write_merged,
)
from coala_latent.store.schema import (
    FileRecord,
    StoreIdentity,
    check_identity,
    encode_text,
    new_header,
    open_checked,
    printable_text,
)

__all__ = ["StoreWriter", "recover_store"]


_REAL_KINDS = "fiub"


@dataclass
class _Part:
    """The open part: rows being written, and the records committed to it."""

    file: RowFile
    number: int
    records: list[FileRecord] = field(default_factory=list)
    first_commit: float = 0.0

    @property
    def committed_rows(self) -> int:
        last = self.records[-1] if self.records else None
        return last.first_row + last.rows if last else 0


class StoreWriter:
    """Append files with their rows to a store; one writer at a time.

    The rows of a file are streamed in between `begin` and `commit`; only a fixed buffer of them
    is in memory. Committed files are on disk for good after `flush`, which happens by itself
    every ``commit_seconds`` or ``commit_rows``. As a context manager it closes at the end, after
    an exception too: what was committed is kept, the file that was open is not.

    Args:
        path: The store, made if it does not exist, otherwise appended to.
        identity: What the rows are; must equal that of an existing store.
        metadata: JSON values to keep with it; added to those of an existing store when rows are.
        commit_seconds: Longest time that committed files wait to be on disk.
        commit_rows: Most rows that committed files wait with.
        lock_timeout: Seconds to wait for another writer to end; negative waits for ever.

    Raises:
        StoreLockedError: Another process writes to it.
        StoreMismatchError: It was written with other settings.
        StoreFormatError: ``path`` exists and is not a store. It is left alone.
    """

    def __init__(
        self,
        path: str | Path,
        identity: StoreIdentity,
        *,
        metadata: Mapping[str, Any] | None = None,
        commit_seconds: float = 20.0,
        commit_rows: int = 200_000,
        lock_timeout: float = 0.0,
    ) -> None:
        # A link is followed, so that its lock and parts are those of the file it means.
        self.path = Path(os.path.realpath(path))
        self.identity = identity
        self._header = new_header(identity, metadata)
        self._commit_seconds = commit_seconds
        self._commit_rows = commit_rows
        self._done: dict[str, FileRecord] = {}
        self._forgotten: set[str] = set()
        self._part: _Part | None = None
        self._part_number = 0
        self._open_path: str | None = None
        self._closed = False
        if self.path.exists():
            open_checked(self.path)[0].close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock_store(self.path, lock_timeout)
        try:
            clear_parts(self.path)
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    def _recover(self) -> None:
        created = [self._header.created]
        metadata: dict[str, Any] = {}
        for source in self._sources():
            handle, header = open_checked(source)
            with handle:
                check_identity(source, header.identity, self.identity)
                for record in iter_records(handle):
                    held = self._done.get(record.path)
                    if held is None or record.rank > held.rank or record.rank == 0 == held.rank:
                        self._done[record.path] = record
            created.append(header.created)
            metadata.update(header.metadata)
        self._metadata = dict(metadata)
        metadata.update(self._header.metadata)
        self._header = replace(self._header, created=min(created), metadata=metadata)
        parts = part_paths(self.path)
        self._part_number = int(parts[-1].stem) if parts else 0

    def _sources(self) -> list[Path]:
        finished = [self.path] if self.path.exists() else []
        return finished + part_paths(self.path)

    @property
    def done(self) -> Mapping[str, FileRecord]:
        """Every committed file, failed ones too, by path.

        ``first_row`` counts in the part that holds the rows until `close` has merged it.
        """
        return MappingProxyType(self._done)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What an existing store has been keeping; empty for a new one."""
        return MappingProxyType(self._metadata)

    def begin(self, path: str) -> None:
        """Open a file of the corpus.

        Raises:
            StoreError: It is in the store already, another one is open, or its name cannot be
                stored.
        """
        self._check_usable()
        if self._open_path is not None:
            raise StoreError(f"{path}: {self._open_path} is open (commit it or roll it back)")
        self._check_new(path)
        encode_text(path, "path")
        self._flush_if_due()
        self._open_path = path

    def append(
        self,
        values: npt.ArrayLike,
        start: npt.ArrayLike,
        end: npt.ArrayLike,
    ) -> None:
        """Append rows to the open file.

        Args:
            values: ``(n, dim)``, finite.
            start: ``(n,)`` seconds.
            end: ``(n,)`` seconds, none before its start.

        Raises:
            StoreError: No file is open, or an array has a wrong shape, kind or value. Nothing
                was appended then.
        """
        self._check_usable()
        path = self._open_path
        if path is None:
            raise StoreError(f"{self.path}: append without an open file (call begin first)")
        rows = self._checked_values(path, values)
        begins, ends = _checked_times(path, start, end, len(rows))
        part = self._open_part()
        part.file.append(rows, begins, ends, len(part.records))

    def commit(self, record: FileRecord) -> None:
        """Take the open file into the store, or without an open file a record without rows.

        Args:
            record: About the open file; ``first_row`` and ``rows`` are filled in here.

        Raises:
            StoreError: It is about another file, cannot be stored, or says that a file with rows
                failed. The file stays open.
        """
        self._check_usable()
        if self._open_path is None:
            self._check_new(record.path)
        elif record.path != self._open_path:
            raise StoreError(f"{record.path}: commit, but {self._open_path} is open")
        part = self._open_part()
        record = replace(
            record,
            error=printable_text(record.error),
            first_row=part.committed_rows,
            rows=part.file.rows - part.committed_rows,
        )
        record.check()
        if not part.records:
            part.first_commit = time.monotonic()
        # From this line on the file is committed; before it, an interrupt leaves it open.
        part.records.append(record)
        self._open_path = None
        self._done[record.path] = record
        self._forgotten.discard(record.path)
        self._flush_if_due()

    def rollback(self) -> None:
        """Drop the open file and its rows; without an open file, do nothing."""
        if self._part is not None:
            self._part.file.truncate(self._part.committed_rows)
        self._open_path = None

    def forget(self, paths: Iterable[str]) -> None:
        """Drop the records of failed files, so that they can be tried again.

        If the run is killed before `close`, the old record stays until the path is committed
        again.

        Raises:
            StoreError: A path is not in the store, or has rows. Nothing was dropped then.
        """
        self._check_usable()
        dropped = list(paths)
        for path in dropped:
            record = self._done.get(path)
            if record is None:
                raise StoreError(f"{self.path}: nothing to forget, no record of {path!r}")
            if record.rank:
                raise StoreError(f"{self.path}: {path!r} did not fail, its rows are kept")
        for path in dropped:
            self._forgotten.add(path)
            self._done.pop(path, None)

    def flush(self) -> None:
        """Put all committed files on disk, safe from a kill and from a power cut.

        Raises:
            StoreError: A file is open.
        """
        self._check_usable()
        if self._open_path is not None:
            raise StoreError(f"{self.path}: flush, but {self._open_path} is open (commit it first)")
        self._seal()

    def close(self) -> None:
        """Drop the file that is open, merge the parts into the store and release the lock.

        If that fails the parts stay, and the next writer takes them up.
        """
        if self._closed:
            return
        try:
            self.rollback()
            self._seal()
            self._merge()
            clear_parts(self.path)
        finally:
            self._closed = True
            if self._part is not None:
                self._part.file.discard()
            self._lock.release()

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(f"{self.path}: the writer is closed (open a new one)")

    def _check_new(self, path: str) -> None:
        if path in self._done:
            raise StoreError(
                f"{path}: in the store already (skip what is in done, or forget what failed)"
            )

    def _open_part(self) -> _Part:
        if self._part is None:
            folder = parts_folder(self.path)
            folder.mkdir(exist_ok=True)
            self._part_number += 1
            name = folder / f"{self._part_number:06d}.h5.tmp"
            self._part = _Part(RowFile(name, self._header), self._part_number)
        return self._part

    def _flush_if_due(self) -> None:
        part = self._part
        if part is None or not part.records:
            return
        waited = time.monotonic() - part.first_commit
        if waited >= self._commit_seconds or part.committed_rows >= self._commit_rows:
            self._seal()

    def _seal(self) -> None:
        part = self._part
        if part is None:
            return
        if part.records:
            part.file.truncate(part.committed_rows)
            part.file.add_records(part.records[part.file.lines :])
            part.file.finish(parts_folder(self.path) / f"{part.number:06d}.h5")
        else:
            part.file.discard()
        self._part = None

    def _merge(self) -> None:
        sources = self._sources()
        if sources == [self.path] and not self._forgotten:
            return
        if len(sources) == 1 and self._is_whole(sources[0]):
            sources[0].replace(self.path)
            sync_folder(self.path.parent)
            return
        parts_folder(self.path).mkdir(exist_ok=True)
        write_merged(sources, self.path, self._header, forgotten=self._forgotten)
        # Oldest first: of what a kill leaves here, the latest word about a path survives.
        for part in part_paths(self.path):
            part.unlink()

    def _is_whole(self, source: Path) -> bool:
        """Whether the only part holds just what the merged store would."""
        handle, header = open_checked(source)
        with handle:
            lines = handle["files/path"].shape[0]
        return source != self.path and header == self._header and lines == len(self._done)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _checked_values(self, path: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
        array = np.asarray(values)
        identity = self.identity
        if array.ndim != 2 or array.shape[1] != identity.dim:
            raise StoreError(f"{path}: rows must be (n, {identity.dim}), got shape {array.shape}")
        if array.dtype.kind not in _REAL_KINDS:
            raise StoreError(f"{path}: rows must be real numbers, got {array.dtype}")
        with np.errstate(over="ignore"):
            cast = array.astype(identity.dtype, copy=False)
        if not np.isfinite(cast).all():
            if np.isfinite(array).all():
                raise StoreError(f"{path}: rows do not fit {identity.dtype} (store as float32)")
            raise StoreError(f"{path}: rows hold NaN or infinity (roll back and mark it failed)")
        return cast


def _checked_times(
    path: str, start: npt.ArrayLike, end: npt.ArrayLike, rows: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    begins, ends = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    if begins.shape != (rows,) or ends.shape != (rows,):
        raise StoreError(
            f"{path}: {rows} rows need start and end of shape ({rows},), "
            f"got {begins.shape} and {ends.shape}"
        )
    if not (np.isfinite(begins).all() and np.isfinite(ends).all() and (begins <= ends).all()):
        raise StoreError(f"{path}: times must be finite, and no row may end before it starts")
    return begins, ends


def recover_store(path: str | Path, *, lock_timeout: float = 0.0) -> None:
    """Merge what a killed run left beside a store, without going on with the run.

    Args:
        path: The store; it need not exist yet if its parts do.
        lock_timeout: Seconds to wait for a writer to end; negative waits for ever.

    Raises:
        StoreError: There is neither a store nor a part.
        StoreLockedError: The run is still going on.
    """
    target = Path(os.path.realpath(path))
    handle, header = open_checked(next(iter(part_paths(target)), target))
    handle.close()
    with StoreWriter(target, header.identity, lock_timeout=lock_timeout):
        pass
