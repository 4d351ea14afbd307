"""Embeddings as serialised TensorFlow tensors, one a file, read without TensorFlow.

The data set of "Learning Unsupervised Hierarchies of Audio Concepts" (zenodo record 7382664) has a
``TensorProto`` a track, as ``tf.io.serialize_tensor`` writes it: ``<folder>/<song id>.tensor``, 29
steps of 128 float32 values. The message is a protocol buffer; its fields are in TensorFlow's
``tensor.proto`` and ``tensor_shape.proto``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError

__all__ = ["find_tensors", "parse_tensor", "read_tensor"]

FLOAT = 1  # tensorflow::DT_FLOAT
# Fields of TensorProto, of its shape and of a dimension.
_DTYPE, _SHAPE, _CONTENT, _FLOATS = 1, 2, 4, 5
_DIM, _UNKNOWN_RANK = 2, 3
_SIZE = 1
# Wire types.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DIMENSIONS = 8
_MAX_FILLED = 1 << 24

_Field: TypeAlias = "tuple[int, int, int | memoryview]"


class _DamagedError(Exception):
    """Why a message cannot be read."""


def parse_tensor(data: bytes, source: str | Path = "bytes") -> npt.NDArray[np.float32]:
    """The array of a serialised ``TensorProto``.

    Args:
        data: The message. Values are in ``tensor_content`` or in ``float_val``, packed or one by
            one; where fewer are given than the shape has, the last one fills the rest, as in
            TensorFlow. None at all, zeros there, is an error here.
        source: The file, for messages.

    Returns:
        Of the message's shape.

    Raises:
        DataError: The message is damaged, holds another type than float32, or values that are not
            finite.
    """
    try:
        values = _tensor(memoryview(data))
    except _DamagedError as error:
        raise DataError(f"{source}: not a tensor that can be read: {error}") from error
    if not np.isfinite(values).all():
        raise DataError(f"{source}: its values hold NaN or infinity (get the file again)")
    return values


def read_tensor(path: Path) -> npt.NDArray[np.float32]:
    """The array of a ``.tensor`` file.

    Raises:
        DataError: It cannot be opened, or see `parse_tensor`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return parse_tensor(data, path)


def find_tensors(folder: Path) -> dict[str, Path]:
    """The ``.tensor`` files of a folder and its subfolders, by song id.

    Args:
        folder: The data set: ``<subfolder>/<song id>.tensor``, in any depth.

    Returns:
        Sorted by song id.

    Raises:
        DataError: There is no such folder or no such file in it, or an id is there twice.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.tensor")):
        if path.stem in found:
            raise DataError(
                f"{path}: song {path.stem} is there twice, first as {found[path.stem]} "
                "(remove one of them)"
            )
        found[path.stem] = path
    if not found:
        raise DataError(f"{folder}: no .tensor files (give the folder of the unpacked data set)")
    return dict(sorted(found.items()))


def _tensor(message: memoryview) -> npt.NDArray[np.float32]:
    kind, shape = 0, None
    content: memoryview | None = None
    floats: list[bytes] = []
    for field, wire, value in _fields(message):
        if field == _DTYPE:
            kind = _number(field, wire, value)
        elif field == _SHAPE:
            shape = _shape(_message(field, wire, value))
        elif field == _CONTENT:
            content = _message(field, wire, value)
        elif field == _FLOATS:
            if wire not in (_BYTES, _FIXED32) or not isinstance(value, memoryview):
                raise _DamagedError(f"field {field} has wire type {wire}")
            if len(value) % 4:
                raise _DamagedError(f"{len(value)} bytes of float32 values")
            floats.append(bytes(value))
    if kind != FLOAT:
        raise _DamagedError(f"its type is {kind}, and only float32 ({FLOAT}) is read")
    return _values(shape or (), content, b"".join(floats))


def _values(
    shape: tuple[int, ...], content: memoryview | None, floats: bytes
) -> npt.NDArray[np.float32]:
    count = math.prod(shape)
    if content is not None and len(content):
        if floats:
            raise _DamagedError("it has values in tensor_content and in float_val")
        if len(content) != 4 * count:
            raise _DamagedError(f"{len(content)} bytes for {shape} values (is it cut off?)")
        return np.frombuffer(content, "<f4").reshape(shape).astype(np.float32)
    given = np.frombuffer(floats, "<f4").astype(np.float32)
    # A few bytes may stand for an array of any size; that of an embedding has bounds.
    if len(given) > count or (count and not len(given)) or count > max(len(given), _MAX_FILLED):
        raise _DamagedError(f"{len(given)} values for {shape} (is it cut off?)")
    last = given[-1:].repeat(count - len(given))
    return np.concatenate([given, last]).reshape(shape)


def _shape(message: memoryview) -> tuple[int, ...]:
    sizes = []
    for field, wire, value in _fields(message):
        if field == _UNKNOWN_RANK and _number(field, wire, value):
            raise _DamagedError("its shape is unknown")
        if field == _DIM:
            size = 0
            for inner, inner_wire, inner_value in _fields(_message(field, wire, value)):
                if inner == _SIZE:
                    size = _number(inner, inner_wire, inner_value)
            # A negative size, which means unknown, is a number of 64 bits here.
            if size >= 1 << 40:
                raise _DamagedError("a dimension of its shape is unknown or impossible")
            sizes.append(size)
    if len(sizes) > _MAX_DIMENSIONS:
        raise _DamagedError(f"{len(sizes)} dimensions")
    return tuple(sizes)


def _fields(message: memoryview) -> Iterator[_Field]:
    """Number, wire type and value of each field: numbers as they are, all else as bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        field, wire = key >> 3, key & 7
        if field == 0:
            raise _DamagedError(f"no field at byte {place}")
        if wire == _VARINT:
            number, place = _varint(message, place)
            yield field, wire, number
            continue
        if wire == _BYTES:
            length, place = _varint(message, place)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise _DamagedError(f"field {field} has the unknown wire type {wire}")
        if place + length > len(message):
            raise _DamagedError(f"field {field} ends after the message (is it cut off?)")
        yield field, wire, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise _DamagedError("it ends within a number (is it cut off?)")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, place
    raise _DamagedError(f"a number before byte {place} does not end")


def _number(field: int, wire: int, value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise _DamagedError(f"field {field} has wire type {wire}")
    return value


def _message(field: int, wire: int, value: int | memoryview) -> memoryview:
    if isinstance(value, int) or wire != _BYTES:
        raise _DamagedError(f"field {field} has wire type {wire}")
    return value
