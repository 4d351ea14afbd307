"""Sorted string tables, LevelDB's file format, in which TensorFlow keeps a checkpoint's index.

A table is a row of blocks of sorted keys, each stored as what differs from the one before; a block
that lists the others; and a footer that says where that one is.
"""

from __future__ import annotations

from collections.abc import Iterator

from coala_latent.errors import WeightsError
from coala_latent.weights.readers.crc32c import crc32c, unmasked

__all__ = ["TABLE_MAGIC", "Cursor", "read_table"]

TABLE_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER = 48
# Kind of compression, and checksum.
TRAILER = 5
MAX_KEY = 4096


class Cursor:
    """Reads numbers and bytes one after the other, and never beyond the end.

    Args:
        data: What is read.
        source: The file, for messages.
    """

    def __init__(self, data: memoryview, source: str) -> None:
        self._data = data
        self._source = source
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes."""
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise WeightsError(f"{self._source}: ends too early (get the file again)")
        self._at += count
        return taken

    def fixed(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """An unsigned number of up to 64 bits, seven to a byte."""
        value = 0
        for shift in range(0, 64, 7):
            byte = self.fixed(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
        raise WeightsError(f"{self._source}: holds an impossible number (get the file again)")


def read_table(data: bytes, source: str) -> dict[bytes, bytes]:
    """All entries of a table.

    Args:
        data: The whole file.
        source: The file, for messages.

    Raises:
        WeightsError: It is damaged (every block's checksum is looked at), or compressed.
    """
    if len(data) < FOOTER or data[-len(TABLE_MAGIC) :] != TABLE_MAGIC:
        raise WeightsError(f"{source}: not a checkpoint's index, or cut off (get the file again)")
    view = memoryview(data)
    footer = Cursor(view[-FOOTER:], source)
    for _ in range(2):
        footer.varint()
    entries: dict[bytes, bytes] = {}
    end = 0
    for _, handle in _entries(_block(view, footer, source), source):
        place = Cursor(memoryview(handle), source)
        start, size = place.varint(), place.varint()
        if start < end:
            # Otherwise a small file could name one block many times.
            raise WeightsError(f"{source}: its blocks overlap (get the file again)")
        end = start + size
        place = Cursor(memoryview(handle), source)
        for key, value in _entries(_block(view, place, source), source):
            if key in entries:
                raise WeightsError(f"{source}: {key!r} is there twice (get the file again)")
            entries[key] = value
    return entries


def _block(data: memoryview, place: Cursor, source: str) -> memoryview:
    start, size = place.varint(), place.varint()
    stored = data[start : start + size + TRAILER]
    if len(stored) < size + TRAILER:
        raise WeightsError(f"{source}: ends too early (get the file again)")
    checksum = int.from_bytes(stored[size + 1 :], "little")
    if crc32c(stored[: size + 1]) != unmasked(checksum):
        raise WeightsError(f"{source}: a block's checksum is wrong (get the file again)")
    if stored[size] != 0:
        raise WeightsError(
            f"{source}: its blocks are compressed, which is not read (save the checkpoint with "
            "TensorFlow's own Saver)"
        )
    return stored[:size]


def _entries(block: memoryview, source: str) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; its end lists the keys that are stored in full."""
    restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else 0
    end = len(block) - 4 * (restarts + 1)
    if not restarts or end < 0:
        raise WeightsError(f"{source}: a block is damaged (get the file again)")
    cursor = Cursor(block[:end], source)
    key = b""
    while cursor:
        shared, added, length = cursor.varint(), cursor.varint(), cursor.varint()
        if shared > len(key) or shared + added > MAX_KEY:
            raise WeightsError(f"{source}: a block's keys are damaged (get the file again)")
        key = key[:shared] + bytes(cursor.take(added))
        yield key, bytes(cursor.take(length))
