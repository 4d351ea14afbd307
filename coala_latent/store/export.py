"""Write a store's rows as NumPy files, for tools that read no HDF5."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from coala_latent.errors import StoreError
from coala_latent.store.layout import block_rows
from coala_latent.store.reader import Store

__all__ = ["export_npy", "export_npz"]


def export_npy(store: Store, folder: str | Path, *, keep_suffix: bool = True) -> list[Path]:
    """Write one ``(rows, dim)`` array a sound, in the sub-folders the sounds are in.

    Files without rows are left out; existing arrays are replaced.

    Args:
        store: Where the rows are.
        folder: Root of the arrays, made if it does not exist.
        keep_suffix: ``a/b.wav`` becomes ``a/b.wav.npy``; otherwise ``a/b.npy``.

    Returns:
        The written files, in the store's order.

    Raises:
        StoreError: A path would leave ``folder``, or two would become one. Nothing was written
            then.
    """
    root = Path(folder)
    records = [record for record in store.files if record.rows]
    targets: dict[Path, str] = {}
    for record in records:
        target = _target(root, record.path, keep_suffix)
        if target in targets:
            raise StoreError(
                f"{record.path} and {targets[target]} would both be {target} (keep the suffixes)"
            )
        targets[target] = record.path
    for target, record in zip(targets, records, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{os.getpid()}.npy.tmp"
        try:
            with temporary.open("wb") as stream:
                rows = range(record.first_row, record.first_row + record.rows)
                _write_rows(stream, store.values, rows, block_rows(store.identity))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return list(targets)


def _target(root: Path, path: str, keep_suffix: bool) -> Path:
    relative = PurePath(*PurePosixPath(path).parts)
    if relative.anchor or not relative.name or ".." in relative.parts:
        raise StoreError(f"{path}: would be written outside {root} (encode from a corpus root)")
    name = relative.name if keep_suffix else relative.stem
    target = root / relative.with_name(f"{name}.npy")
    # A link inside the folder may lead out of it too.
    if not target.resolve().is_relative_to(root.resolve()):
        raise StoreError(f"{path}: a link in {root} leads outside it (remove the link)")
    return target


def export_npz(store: Store, file: str | Path) -> Path:
    """Write the whole store as one ``.npz``, readable without pickle.

    Its arrays are ``values``, ``start``, ``end`` and ``file`` as in the store, the file table's
    columns ``path``, ``status``, ``error``, ``duration``, ``sample_rate``, ``channels``,
    ``bytes``, ``first_row`` and ``rows``, and ``header``: identity and metadata as JSON.

    Args:
        store: Where the rows are.
        file: Replaced if it exists.

    Returns:
        ``file``.
    """
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name in ("values", "start", "end", "file"):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    dataset = getattr(store, name)
                    _write_rows(stream, dataset, range(len(store)), block_rows(store.identity))
            for name, array in _table(store):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _table(store: Store) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name in ("path", "status", "error"):
        yield name, np.array([getattr(record, name) for record in store.files], dtype=np.str_)
    kinds = {"duration": "f8", "sample_rate": "i4", "channels": "i4"}
    for name in ("duration", "sample_rate", "channels", "bytes", "first_row", "rows"):
        column = [getattr(record, name) for record in store.files]
        yield name, np.array(column, dtype=kinds.get(name, "i8"))
    header = {**asdict(store.identity), "metadata": store.metadata}
    yield "header", np.array(json.dumps(header))


def _write_rows(stream: IO[bytes], dataset: h5py.Dataset, rows: range, block: int) -> None:
    shape = (len(rows), *dataset.shape[1:])
    header = {"descr": dataset.dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    for begin in range(rows.start, rows.stop, block):
        stream.write(dataset[begin : min(begin + block, rows.stop)].tobytes())
