"""Does an uncompressed sound file hold all the samples it declares?

libsndfile quietly shortens wav, aiff, au, w64 and rf64 files whose samples were cut off; a corpus
run wants to know.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["declared_data_shortfall"]

_CHUNK_HEADER = struct.Struct("<4sI")
# Written by recorders that stream and never come back to the header: ffmpeg, sox, arecord.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000)
_LONGEST_HEAD = 28


def declared_data_shortfall(path: Path) -> int:
    """Bytes that the header declares and that are missing at the file's end; 0 if it says none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEAD)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return _wav_shortfall(file, size)
    return max(0, _declared_size(head.ljust(_LONGEST_HEAD, b"\0")) - size)


def _wav_shortfall(file: BinaryIO, size: int) -> int:
    """By the ``data`` chunk, since much software gets the length of the whole file wrong."""
    file.seek(12)
    while len(header := file.read(_CHUNK_HEADER.size)) == _CHUNK_HEADER.size:
        name, length = _CHUNK_HEADER.unpack(header)
        if name == b"data":
            present = size - file.tell()
            return 0 if length in _UNKNOWN_SIZES else max(0, length - present)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _declared_size(head: bytes) -> int:
    """Length of the whole file, 0 where the format is another or the length was left open."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        (length,) = struct.unpack_from(">I", head, 4)
        return 0 if length in _UNKNOWN_SIZES else 8 + int(length)
    if head[:4] == b".snd":
        offset, length = struct.unpack_from(">II", head, 4)
        return 0 if length in _UNKNOWN_SIZES else int(offset) + int(length)
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return 8 + int(struct.unpack_from("<Q", head, 20)[0])
    if head[:4] == b"riff":
        return int(struct.unpack_from("<Q", head, 16)[0])
    return 0
