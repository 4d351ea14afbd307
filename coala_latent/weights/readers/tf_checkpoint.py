"""Checkpoints of TensorFlow's second format (``NAME.index`` and ``NAME.data-00000-of-00001``).

The index is a sorted string table of protocol buffers: under the empty name what holds for the
whole checkpoint, and under each variable's name its type, shape, and place in the data files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import WeightsError
from coala_latent.weights.readers.crc32c import crc32c, unmasked
from coala_latent.weights.readers.sstable import Cursor, read_table

__all__ = ["find_index", "read_tf_checkpoint"]

INDEX = ".index"
# Of DataType in TensorFlow's types.proto.
DTYPES = {
    **{1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1"},
    **{17: "<u2", 19: "<f2", 22: "<u4", 23: "<u8"},
}
STRING = 7
# What object-based checkpoints say about Python's objects; no variable.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
MAX_DIMENSIONS = 32


def find_index(path: Path) -> Path | None:
    """The index of a checkpoint named by its index, by its prefix, or by the only one's folder."""
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX}"))
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise WeightsError(f"{path}: has {len(found)} checkpoints (name one: {names})")
        return found[0] if found else None
    if path.name.endswith(INDEX):
        return path
    beside = path.with_name(f"{path.name}{INDEX}")
    return beside if beside.is_file() else None


def read_tf_checkpoint(index: Path) -> dict[str, npt.NDArray[Any]]:
    """Every variable of a checkpoint by its name, such as ``conv2d/kernel``.

    Args:
        index: The ``.index`` file; the data files lie beside it.

    Returns:
        All variables, also the optimizer's.

    Raises:
        WeightsError: A file is missing or damaged (every checksum is looked at), or the checkpoint
            is compressed, big-endian, partitioned, or has other types than numbers.
    """
    try:
        entries = read_table(index.read_bytes(), str(index))
    except OSError as error:
        raise WeightsError(f"{index}: cannot be read: {error}") from error
    header = _message(entries.pop(b"", b""), str(index))
    shards, endianness = _number(header, 1, str(index)), _number(header, 2, str(index))
    if not 1 <= shards <= 100_000 or endianness != 0:
        raise WeightsError(f"{index}: not the index of a little-endian checkpoint")
    data = _Shards(index, shards)
    found = {}
    for key, value in entries.items():
        try:
            name = key.decode()
        except UnicodeDecodeError as error:
            raise WeightsError(f"{index}: {key!r} is no variable's name") from error
        if name != OBJECT_GRAPH:
            found[name] = _variable(name, value, data, str(index))
    return found


def _variable(name: str, value: bytes, data: _Shards, source: str) -> npt.NDArray[Any]:
    entry = _message(value, source)
    if entry.get(7):
        raise WeightsError(f"{source}: {name} is partitioned, which is not read")
    kind = _number(entry, 1, source)
    if kind not in DTYPES:
        what = "strings" if kind == STRING else f"TensorFlow's type {kind}"
        raise WeightsError(f"{source}: {name} is of {what}, which is not read")
    shape = _shape(entry, name, source)
    dtype = np.dtype(DTYPES[kind])
    size = _number(entry, 5, source)
    if size != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{source}: {name} {shape} does not have {size} bytes")
    raw = data.read(_number(entry, 3, source), _number(entry, 4, source), size, name)
    if crc32c(raw) != unmasked(_number(entry, 6, source)):
        raise WeightsError(f"{source}: the checksum of {name} is wrong (get the data file again)")
    flat = np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)
    return flat.reshape(shape)


def _shape(entry: dict[int, list[Any]], name: str, source: str) -> tuple[int, ...]:
    shape = []
    for message in _messages(entry, 2, source):
        if _number(message, 3, source):
            raise WeightsError(f"{source}: {name} has no shape")
        shape += [_number(axis, 1, source) for axis in _messages(message, 2, source)]
    # Negative numbers are stored as very large ones.
    if len(shape) > MAX_DIMENSIONS or any(size >= 1 << 40 for size in shape):
        raise WeightsError(f"{source}: the shape {shape} of {name} is impossible")
    return tuple(shape)


class _Shards:
    """The data files of a checkpoint."""

    def __init__(self, index: Path, count: int) -> None:
        self._prefix = index.name.removesuffix(INDEX)
        self._folder = index.parent
        self._count = count
        self._left: dict[int, int] = {}

    def read(self, shard: int, offset: int, size: int, name: str) -> bytes:
        """Some bytes of a data file; no more in total than it has."""
        path = self._folder / f"{self._prefix}.data-{shard:05d}-of-{self._count:05d}"
        try:
            with path.open("rb") as file:
                length = file.seek(0, 2)
                left = self._left.get(shard, length) - size
                if left < 0 or offset + size > length:
                    raise WeightsError(
                        f"{path}: {name} lies beyond its end, or its arrays overlap "
                        "(get the file again)"
                    )
                self._left[shard] = left
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise WeightsError(
                f"{path}: cannot be read: {error} (a checkpoint's files belong together)"
            ) from error


def _message(data: bytes | memoryview, source: str) -> dict[int, list[Any]]:
    """Fields of a protocol buffer by number: ints, and memoryviews of what has a length."""
    fields: dict[int, list[Any]] = {}
    cursor = Cursor(memoryview(data), source)
    for number, value in _fields(cursor, source):
        fields.setdefault(number, []).append(value)
    return fields


def _fields(cursor: Cursor, source: str) -> Iterator[tuple[int, Any]]:
    while cursor:
        number, wire = divmod(cursor.varint(), 8)
        if wire == 0:
            yield number, cursor.varint()
        elif wire == 1:
            yield number, cursor.fixed(8)
        elif wire == 2:
            yield number, cursor.take(cursor.varint())
        elif wire == 5:
            yield number, cursor.fixed(4)
        else:
            raise WeightsError(f"{source}: holds a damaged entry (get the file again)")


def _number(message: dict[int, list[Any]], field: int, source: str) -> int:
    """The last value of a field, as protocol buffers have it; 0 where there is none."""
    value = message.get(field, [0])[-1]
    if not isinstance(value, int):
        raise WeightsError(f"{source}: holds a damaged entry (get the file again)")
    return value


def _messages(
    message: dict[int, list[Any]], field: int, source: str
) -> Iterator[dict[int, list[Any]]]:
    for value in message.get(field, []):
        if isinstance(value, int):
            raise WeightsError(f"{source}: holds a damaged entry (get the file again)")
        yield _message(value, source)
