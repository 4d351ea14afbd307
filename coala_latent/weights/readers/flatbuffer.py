"""FlatBuffers, read with a check of every position.

A table is a list of offsets to its fields, any of which may be absent; what a field is, the reader
has to know. Offsets that lead outside of the file, and files whose parts are used again and again
(which a small file could do without end), are errors.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import WeightsError

__all__ = ["FlatBuffer", "Table"]

# How often the bytes of a file may be read, on average; parts may be shared.
MAX_READS = 8


class FlatBuffer:
    """A file in memory.

    Args:
        data: The whole file.
        source: Its name, for messages.
    """

    def __init__(self, data: bytes, source: str) -> None:
        self.source = source
        self._data = data
        self._room = MAX_READS * len(data)

    def root(self) -> Table:
        """The outermost table."""
        return Table(self, self.number("<I", 0))

    def number(self, form: str, at: int) -> Any:
        """A number of `struct`'s format."""
        return struct.unpack(form, self.bytes(at, struct.calcsize(form)))[0]

    def bytes(self, at: int, count: int) -> memoryview:
        """Bytes of the file."""
        self._room -= count
        if at < 0 or count < 0 or at + count > len(self._data):
            raise WeightsError(f"{self.source}: leads beyond its end (get the file again)")
        if self._room < 0:
            raise WeightsError(f"{self.source}: uses its parts again and again (it is damaged)")
        return memoryview(self._data)[at : at + count]


class Table:
    """A table in a file.

    Fields are numbered as in the schema, from 0.
    """

    def __init__(self, buffer: FlatBuffer, at: int) -> None:
        self._buffer = buffer
        self._at = at
        self._fields = at - buffer.number("<i", at)
        self._end = buffer.number("<H", self._fields)

    def scalar(self, field: int, form: str, default: int = 0) -> Any:
        """A number, or its default where the field is absent."""
        at = self._place(field)
        return default if at is None else self._buffer.number(form, at)

    def string(self, field: int) -> str:
        """Text; empty where the field is absent."""
        return bytes(self.vector(field, "u1")).decode("utf-8", "replace")

    def vector(self, field: int, dtype: str) -> npt.NDArray[Any]:
        """Numbers; none where the field is absent."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(field)
        if not count:
            return np.empty(0, kind)
        return np.frombuffer(self._buffer.bytes(start, count * kind.itemsize), kind)

    def table(self, field: int) -> Table | None:
        """A table inside this one."""
        at = self._place(field)
        return None if at is None else Table(self._buffer, at + self._buffer.number("<I", at))

    def tables(self, field: int) -> list[Table]:
        """Tables inside this one; none where the field is absent."""
        start, count = self._vector(field)
        places = range(start, start + 4 * count, 4)
        return [Table(self._buffer, at + self._buffer.number("<I", at)) for at in places]

    def _vector(self, field: int) -> tuple[int, int]:
        """Where a vector's values begin, and how many there are."""
        at = self._place(field)
        if at is None:
            return 0, 0
        start = at + self._buffer.number("<I", at)
        return start + 4, self._buffer.number("<I", start)

    def _place(self, field: int) -> int | None:
        entry = 4 + 2 * field
        if entry + 2 > self._end:
            return None
        offset = self._buffer.number("<H", self._fields + entry)
        return self._at + offset if offset else None
