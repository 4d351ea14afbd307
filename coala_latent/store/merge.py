"""Several stores, or a store and the parts of a run, become one file."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from coala_latent.errors import StoreError, StoreLockedError
from coala_latent.store.layout import RowFile, block_rows, iter_records, read_records
from coala_latent.store.schema import (
    FileRecord,
    Header,
    StoreIdentity,
    check_identity,
    new_header,
    open_checked,
)

__all__ = [
    "MERGE_NAME",
    "clear_parts",
    "lock_store",
    "merge_stores",
    "part_paths",
    "parts_folder",
    "write_merged",
]

MERGE_NAME = "merged.tmp"
_Mask = npt.NDArray[np.bool_]
_Place = tuple[int, int]  # number of the source, line of its file table
_Twin = tuple[_Place, _Place]
_TABLE_BATCH = 4096


def parts_folder(path: Path) -> Path:
    """Return the folder that holds the parts of a run that writes ``path``."""
    return path.with_name(path.name + ".parts")


def part_paths(path: Path) -> list[Path]:
    """Return the complete parts beside ``path``, in the order they were written."""
    folder = parts_folder(path)
    parts = [part for part in folder.glob("*.h5") if part.stem.isdecimal()]
    return sorted(parts, key=lambda part: int(part.stem))


def lock_store(path: Path, timeout: float) -> FileLock:
    """Take the lock against a second writer.

    The system drops it when its process ends in any way, so a lock file left by a killed run
    does not block.

    Args:
        path: The store.
        timeout: Seconds to wait; negative waits for ever.

    Returns:
        The lock, taken. Its caller releases it.

    Raises:
        StoreLockedError: Another writer holds it.
    """
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise StoreLockedError(
            f"{path}: another process is writing to it (wait for it to end, choose another "
            "output, or write shards and merge them)"
        ) from error
    except NotImplementedError as error:
        raise StoreLockedError(
            f"{path}: this file system has no locks (write on a local disk and move the file)"
        ) from error
    return lock


def clear_parts(path: Path) -> None:
    """Remove unfinished files beside ``path``, and their folder if it is then empty.

    Only who holds the lock may call it. Files of other names are left alone.
    """
    folder = parts_folder(path)
    for temporary in (*folder.glob("*.h5.tmp"), folder / MERGE_NAME):
        temporary.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def write_merged(
    sources: Sequence[Path],
    target: Path,
    header: Header,
    *,
    forgotten: Collection[str] = (),
    compare: bool = False,
) -> None:
    """Write the sources' files and rows, in order, each path once, and replace ``target``.

    Of several records of a path the one with the highest rank is kept; of equals the first, or
    the last if they have no rows. Reads and writes blocks of rows.

    Args:
        sources: Stores or parts, all of the identity in ``header``.
        target: Replaced when all is written; its parts folder exists.
        header: The result's root attributes.
        forgotten: Paths whose records are dropped where they have no rows.
        compare: Whether equals must hold the same rows.

    Raises:
        StoreError: With ``compare``, two records of a path differ.
    """
    masks, twins = _choose(sources, forgotten)
    if compare:
        _check_twins(sources, twins)
    block = block_rows(header.identity)
    result = RowFile(parts_folder(target) / MERGE_NAME, header)
    try:
        for source, mask in zip(sources, masks, strict=True):
            handle, _ = open_checked(source)
            with handle:
                _copy(handle, mask, result, block)
        result.finish(target)
    except BaseException:
        result.discard()
        raise


def _choose(sources: Sequence[Path], forgotten: Collection[str]) -> tuple[list[_Mask], list[_Twin]]:
    """Return which lines of each source are kept, and pairs of lines that should be equal."""
    places: dict[str, _Place] = {}
    ranks: list[bytearray] = []
    twins: list[_Twin] = []
    for number, source in enumerate(sources):
        ranks.append(bytearray())
        handle, _ = open_checked(source)
        with handle:
            for line, record in enumerate(iter_records(handle)):
                ranks[number].append(record.rank)
                if record.rank == 0 and record.path in forgotten:
                    continue
                held = places.get(record.path)
                held_rank = -1 if held is None else ranks[held[0]][held[1]]
                if record.rank > held_rank or record.rank == 0 == held_rank:
                    places[record.path] = (number, line)
                elif held is not None and record.rank == held_rank:
                    twins.append((held, (number, line)))
    masks: list[_Mask] = [np.zeros(len(lines), dtype=np.bool_) for lines in ranks]
    for number, line in places.values():
        masks[number][line] = True
    return masks, twins


def _copy(handle: h5py.File, mask: _Mask, result: RowFile, block: int) -> None:
    new_index = np.cumsum(mask) - 1 + result.lines
    total = handle["file"].shape[0]
    first_row = result.rows
    for begin in range(0, total, block):
        rows = slice(begin, min(begin + block, total))
        file = handle["file"][rows]
        kept = mask[file]
        if not kept.any():
            continue
        values, start, end = (handle[name][rows] for name in ("values", "start", "end"))
        if not kept.all():
            values, start, end, file = values[kept], start[kept], end[kept], file[kept]
        result.append(values, start, end, new_index[file])
    batch: list[FileRecord] = []
    for record, keep in zip(iter_records(handle), mask, strict=True):
        if keep:
            batch.append(replace(record, first_row=first_row))
            first_row += record.rows
        if len(batch) == _TABLE_BATCH:
            result.add_records(batch)
            batch = []
    result.add_records(batch)


def _check_twins(sources: Sequence[Path], twins: Sequence[_Twin]) -> None:
    def pair(twin: _Twin) -> tuple[int, int]:
        return twin[0][0], twin[1][0]

    for (one, two), group in groupby(sorted(twins, key=pair), key=pair):
        left, header = open_checked(sources[one])
        with left:
            right, _ = open_checked(sources[two])
            with right:
                for (_, line), (_, other_line) in group:
                    record = read_records(left, line, line + 1)[0]
                    other = read_records(right, other_line, other_line + 1)[0]
                    if not _same_rows(left, record, right, other, header.identity):
                        raise StoreError(
                            f"{record.path}: in {sources[one]} and, different, in {sources[two]} "
                            "(encode the folders from one root, so that names differ)"
                        )


def _same_rows(
    left: h5py.File,
    record: FileRecord,
    right: h5py.File,
    other: FileRecord,
    identity: StoreIdentity,
) -> bool:
    """Whether two records and their rows agree, up to what another machine computes."""
    if replace(record, first_row=0, error="") != replace(other, first_row=0, error=""):
        return False
    tolerance = 1e-5 if identity.dtype == "float32" else 2e-3
    block = block_rows(identity)
    for begin in range(0, record.rows, block):
        end = min(begin + block, record.rows)
        here = slice(record.first_row + begin, record.first_row + end)
        there = slice(other.first_row + begin, other.first_row + end)
        values = left["values"][here].astype(np.float32)
        apart = np.abs(values - right["values"][there].astype(np.float32)).max()
        if apart > tolerance * np.abs(values).max():
            return False
        if any(not np.array_equal(left[t][here], right[t][there]) for t in ("start", "end")):
            return False
    return True


def merge_stores(inputs: Sequence[Path], output: Path, *, overwrite: bool = False) -> Path:
    """Merge shards into one store.

    A path that several inputs hold is kept once: ``"ok"`` beats other words, rows beat none, and
    records that are equal in this must be equal in everything.

    Args:
        inputs: Stores with one identity, at least one.
        output: The result; it may be one of the inputs.
        overwrite: Replace ``output`` if it is a store.

    Returns:
        ``output``.

    Raises:
        StoreMismatchError: An input has another identity than the first.
        StoreLockedError: Somebody writes to ``output``.
        StoreError: No inputs, ``output`` exists, an input is being written or its run was
            interrupted, or two inputs hold different rows for one path.
        StoreFormatError: An input, or an existing ``output``, is not a store.
    """
    if not inputs:
        raise StoreError("nothing to merge: give at least one store")
    sources = [Path(os.path.realpath(path)) for path in inputs]
    target = Path(os.path.realpath(output))
    header = _common_header(sources)
    if target.exists():
        open_checked(target)[0].close()
        if not overwrite:
            raise StoreError(f"{output}: exists already (choose another name, or overwrite it)")
    target.parent.mkdir(parents=True, exist_ok=True)
    with lock_store(target, 0.0):
        _refuse_unfinished(target)
        parts_folder(target).mkdir(exist_ok=True)
        try:
            write_merged(sources, target, header, compare=True)
        finally:
            clear_parts(target)
    return Path(output)


def _common_header(sources: Sequence[Path]) -> Header:
    headers = []
    for source in sources:
        _refuse_unfinished(source)
        handle, header = open_checked(source)
        handle.close()
        headers.append(header)
        check_identity(source, header.identity, headers[0].identity)
    first = headers[0]
    metadata: dict[str, object] = {}
    for header in reversed(headers):
        metadata.update(header.metadata)
    return replace(new_header(first.identity, metadata), created=min(h.created for h in headers))


def _refuse_unfinished(path: Path) -> None:
    if part_paths(path):
        raise StoreError(
            f"{path}: a run that writes it goes on, or was interrupted, and left its rows in "
            f"{parts_folder(path)} (wait, run it again, or call recover_store)"
        )
