"""``.npz`` archives of named arrays."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from coala_latent.errors import WeightsError
from coala_latent.weights.readers.npy_pickle import plain_array

__all__ = ["members", "read_npz"]

# Weights hardly compress; an archive that claims more would only fill the memory.
MAX_RATIO = 100

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, LookupError, NotImplementedError, RuntimeError, MemoryError, OverflowError),
)


def members(path: Path) -> list[str]:
    """Names in an archive.

    Raises:
        WeightsError: It is damaged, or would unpack to far more than its size.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    limit = MAX_RATIO * path.stat().st_size
    if sum(info.file_size for info in infos) > limit:
        raise WeightsError(f"{path}: would unpack to more than {MAX_RATIO} times its size")
    return [info.filename for info in infos]


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an archive by name.

    Raises:
        WeightsError: It is damaged, or a member is not an array of numbers.
    """
    names = members(path)
    if len(set(names)) < len(names):
        raise WeightsError(f"{path}: has members of the same name")
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                if not name.endswith(".npy"):
                    raise WeightsError(f"{path}: {name} is not an array")
                found[name.removesuffix(".npy")] = plain_array(
                    archive.read(name), f"{path}: {name}"
                )
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return found


def _damaged(path: Path, error: BaseException) -> WeightsError:
    reason = str(error) or type(error).__name__
    return WeightsError(f"{path}: not a readable .npz archive: {reason} (get the file again)")
