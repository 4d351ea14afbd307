"""Does a wav file hold all the samples it declares?

libsndfile quietly shortens a wav whose samples were cut off; a corpus run wants to know.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

__all__ = ["declared_data_shortfall"]

_CHUNK_HEADER = struct.Struct("<4sI")
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)  # written by recorders that stream


def declared_data_shortfall(path: Path) -> int:
    """Bytes of a RIFF file's ``data`` chunk that are missing at its end; 0 for other files."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF" or file.read(8)[4:] != b"WAVE":
            return 0
        while header := file.read(_CHUNK_HEADER.size):
            if len(header) < _CHUNK_HEADER.size:
                return 0
            name, length = _CHUNK_HEADER.unpack(header)
            if name == b"data":
                present = size - file.tell()
                return 0 if length in _UNKNOWN_SIZES else max(0, length - present)
            file.seek(length + length % 2, os.SEEK_CUR)
    return 0
