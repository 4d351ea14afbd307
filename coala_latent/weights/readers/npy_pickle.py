"""``.npy`` files, with the pickles that NumPy writes for arrays of objects.

SoundNet's published weights (``sound8.npy``) are a dictionary of dictionaries of arrays in an array
of objects without dimensions. See `pickles` for how such files are read without running them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import WeightsError
from coala_latent.weights.readers.pickles import array_of_bytes, dtype_of, read_pickle

__all__ = ["NPY_MAGIC", "plain_array", "read_named_npy", "read_object_npy"]

NPY_MAGIC = b"\x93NUMPY"
# NumPy's own limit.
MAX_HEADER = 10_000
# A dictionary in Python's notation, which NumPy always writes like this; sizes were 3L in Python 2.
_HEADER = re.compile(
    r"""\{'descr':\ ?'(?P<descr>[^'\\]{1,12})',
    \ ?'fortran_order':\ ?(?P<order>True|False),
    \ ?'shape':\ ?\((?P<shape>|\d{1,18}L?,|\d{1,18}L?(,\ ?\d{1,18}L?)+,?)\),?\s*\}\s*""",
    re.VERBOSE,
)


def read_object_npy(path: Path) -> Any:
    """Read any ``.npy`` file that holds numbers, strings, arrays, lists and dictionaries.

    Returns:
        A numeric or string array as it is. An array of objects as nested lists, or as its only item
        when it has no dimensions, which is how NumPy saves a dictionary; arrays inside it stay
        arrays.

    Raises:
        WeightsError: The file is missing, damaged, or needs more than NumPy's array names.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    descr, fortran, shape, start = _header(data, str(path))
    if descr == "O":
        return read_pickle(data[start:], str(path))
    return _values(memoryview(data)[start:], descr, fortran, shape, str(path))


def read_named_npy(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a ``.npy`` file that holds a dictionary of arrays.

    Returns:
        Numeric arrays; of nested dictionaries, names are joined as in ``conv1/weights``.

    Raises:
        WeightsError: As in `read_object_npy`, or it holds something else than named arrays.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    content = read_object_npy(path)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: holds a {type(content).__name__} instead of arrays with names "
            "(is it a file of weights?)"
        )
    _flatten(content, "", found, str(path))
    return found


def plain_array(data: bytes, source: str) -> npt.NDArray[Any]:
    """The array in the bytes of a ``.npy`` file without objects.

    Raises:
        WeightsError: They are damaged, or hold objects.
    """
    descr, fortran, shape, start = _header(data, source)
    return _values(memoryview(data)[start:], descr, fortran, shape, source)


def _flatten(
    content: dict[Any, Any], prefix: str, found: dict[str, npt.NDArray[Any]], source: str
) -> None:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            _flatten(value, f"{name}/", found, source)
        elif not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            raise WeightsError(f"{source}: {name} is not an array of numbers")
        elif name in found:
            raise WeightsError(f"{source}: {name} is there twice")
        else:
            found[name] = value


def _header(data: bytes, source: str) -> tuple[str, bool, tuple[int, ...], int]:
    """Type (``"O"`` for objects), whether in Fortran order, shape, and where the values begin."""
    # Versions 2 and 3 have four bytes of length instead of two.
    width = 2 if data[6:7] == b"\x01" else 4
    start = 8 + width
    length = int.from_bytes(data[8:start], "little")
    if data[:6] != NPY_MAGIC or data[6:7] not in (b"\1", b"\2", b"\3") or len(data) < start:
        raise WeightsError(f"{source}: not a .npy file (its first bytes are wrong)")
    if length > MAX_HEADER or len(data) < start + length:
        raise WeightsError(f"{source}: the .npy header is cut off or too long (get the file again)")
    text = data[start : start + length].decode("latin-1")
    header = _HEADER.fullmatch(text)
    if header is None:
        raise WeightsError(
            f"{source}: the .npy header {text[:60]!r} is damaged, or of a kind that is not read"
        )
    shape = tuple(int(size) for size in re.findall(r"\d+", header["shape"]))
    descr = "O" if header["descr"] in ("O", "|O") else header["descr"]
    return descr, header["order"] == "True", shape, start + length


def _values(
    raw: memoryview, descr: str, fortran: bool, shape: tuple[int, ...], source: str
) -> npt.NDArray[Any]:
    try:
        return array_of_bytes(raw, dtype_of(descr), shape, fortran)
    except (ValueError, OverflowError, MemoryError) as error:
        raise WeightsError(f"{source}: {error} (the file is damaged)") from error
