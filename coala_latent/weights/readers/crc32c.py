"""CRC-32C (Castagnoli), the checksum of TensorFlow's checkpoints, at NumPy's speed.

The checksum is linear: that of two halves is the first one's, moved on by the length of the second,
plus the second one's. So neighbours are joined pairwise, all pairs of a level at once, which takes
about as many vector operations as the length has bits.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

__all__ = ["crc32c", "unmasked"]

Words = npt.NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78
WORD = 4
MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of some bytes."""
    if len(data) < WORD:
        state = 0xFFFFFFFF
        for byte in data:
            state = (state >> 8) ^ int(_byte_table()[(state ^ byte) & 0xFF])
        return state ^ 0xFFFFFFFF
    # The register begins with ones, which is the same as inverted first bytes and a register of
    # zeros; and with zeros in the register, zeros in front change nothing.
    padded = np.zeros(-(-len(data) // WORD) * WORD, dtype=np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, dtype=np.uint8)
    padded[start : start + WORD] ^= 0xFF
    words: Words = padded.view("<u4").astype(np.uint32, copy=False)
    level = 0
    while len(words) > 1:
        if len(words) % 2:
            words = np.concatenate([np.zeros(1, dtype=np.uint32), words])
        words = _moved(words[::2], _tables(level)) ^ words[1::2]
        level += 1
    return int(_moved(words, _tables(0))[0]) ^ 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """The checksum that TensorFlow stores in another form, so that it may be checksummed itself."""
    rotated = (stored - MASK_DELTA) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def _moved(words: Words, tables: Words) -> Words:
    """Apply a linear map, given as its values for each byte of a word ``(4, 256)``."""
    moved = tables[0][words & 0xFF]
    for byte in range(1, WORD):
        moved ^= tables[byte][(words >> np.uint32(8 * byte)) & 0xFF]
    return moved


@functools.cache
def _byte_table() -> Words:
    """How the register moves on by one byte of zeros, by its lowest byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return table


@functools.cache
def _tables(level: int) -> Words:
    """How the register moves on by ``4 * 2 ** level`` bytes of zeros."""
    moved: Words = (
        np.arange(256, dtype=np.uint32) << (8 * np.arange(WORD, dtype=np.uint32))[:, None]
    ).ravel()
    if level == 0:
        for _ in range(WORD):
            moved = (moved >> np.uint32(8)) ^ _byte_table()[moved & 0xFF]
    else:
        half = _tables(level - 1)
        moved = _moved(_moved(moved, half), half)
    return moved.reshape(WORD, 256)
