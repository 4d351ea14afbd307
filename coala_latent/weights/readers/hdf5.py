"""Weights that Keras wrote as HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy.typing as npt

from coala_latent.errors import WeightsError

__all__ = ["is_hdf5", "read_hdf5"]

# Compressed data may claim this many times the bytes it takes in the file.
MAX_RATIO = 100
MAX_DEPTH = 64
# What HDF5 itself brings; others would be looked for as libraries on this machine.
FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}
# A damaged file can make h5py raise any of these.
_DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError, OverflowError)


def is_hdf5(path: Path) -> bool:
    """Whether a file's signature is HDF5's."""
    return bool(h5py.is_hdf5(path))


def read_hdf5(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every array of floats by its path in the file.

    Where there is a group ``model_weights``, as in whole models that Keras saved, only that is read
    and paths begin below it, which leaves the optimizer's state out. Arrays that are not of floats
    are not weights and are passed over.

    Raises:
        WeightsError: The file is missing or damaged, leads to other files, or claims more values
            than it holds.
    """
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(path)
            whole_model = isinstance(file.get("model_weights", getlink=True), h5py.HardLink)
            reader.visit(file["model_weights"] if whole_model else file, "", 0)
            return reader.found
    except _DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise WeightsError(
            f"{path}: not a readable HDF5 file: {reason} (get the file again)"
        ) from error


class _Reader:
    def __init__(self, path: Path) -> None:
        self.found: dict[str, npt.NDArray[Any]] = {}
        self._path = path
        self._seen: set[int] = set()

    def visit(self, node: Any, name: str, depth: int) -> None:
        """Read a group or an array."""
        # A group that is reached twice may hold itself.
        address = h5py.h5o.get_info(node.id).addr
        if address in self._seen or depth > MAX_DEPTH:
            raise WeightsError(f"{self._path}: {name} is there twice or too deep")
        self._seen.add(address)
        if isinstance(node, h5py.Dataset):
            if node.dtype.kind == "f":
                self.found[name] = self._values(node, name)
        elif isinstance(node, h5py.Group):
            for key in node:
                inner = f"{name}/{key}" if name else str(key)
                if not isinstance(node.get(key, getlink=True), h5py.HardLink):
                    raise WeightsError(
                        f"{self._path}: {inner} is a link, which is not followed "
                        "(save the weights themselves)"
                    )
                self.visit(node[key], inner, depth + 1)

    def _values(self, array: Any, name: str) -> npt.NDArray[Any]:
        if array.external or array.is_virtual:
            raise WeightsError(f"{self._path}: the values of {name} are in another file")
        properties = array.id.get_create_plist()
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if filters - FILTERS:
            raise WeightsError(f"{self._path}: {name} is compressed in an unknown way")
        stored = array.id.get_storage_size() * (MAX_RATIO if filters else 1)
        if array.shape is None or array.nbytes > stored:
            raise WeightsError(
                f"{self._path}: {name} {array.shape} has more values than the file holds "
                "(get the file again)"
            )
        values: npt.NDArray[Any] = array[()]
        return values.astype(values.dtype.newbyteorder("="), copy=False)
