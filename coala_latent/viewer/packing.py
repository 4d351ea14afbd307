"""Numbers, texts and vectors in the form in which they travel within a page.

Arrays are base64 of little-endian typed arrays, texts that repeat are kept once, and vectors are
made as small as distances between them allow; what that costs is measured.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.types import FloatArray

__all__ = ["PackedVectors", "pack_array", "pack_texts", "pack_vectors"]

_NAMES = {"f2": "float16", "f4": "float32", "f8": "float64", "i1": "int8", "u4": "uint32"}
_BUDGET = 13_000_000  # bytes of vectors in a page, before base64: 100 000 of 128 values
_FEWEST, _MOST = 16, 64  # principal components, where vectors must be shortened
_BLOCK = 65536  # rows at a time
_PAIRS = 20000  # distances that are compared


def pack_array(values: npt.ArrayLike, kind: str) -> dict[str, str]:
    """An array for a script.

    Args:
        values: Any shape; read in C order.
        kind: ``"f2"``, ``"f4"``, ``"f8"``, ``"i1"`` or ``"u4"``.
    """
    array = np.ascontiguousarray(values, dtype=f"<{kind}")
    return {"type": _NAMES[kind], "base64": base64.b64encode(array.tobytes()).decode("ascii")}


def pack_texts(texts: Sequence[str | None]) -> dict[str, Any]:
    """Texts that repeat, once each, most frequent first.

    Returns:
        ``values``, and ``codes`` ``(n,)`` into them; None has the code ``len(values)``.
    """
    counts: dict[str, int] = {}
    for text in texts:
        if text is not None:
            counts[text] = counts.get(text, 0) + 1
    # Sorting is stable, so equally frequent ones stay in the order in which they came.
    values = sorted(counts, key=lambda text: -counts[text])
    codes: dict[str | None, int] = {text: code for code, text in enumerate(values)}
    codes[None] = len(values)
    return {"values": values, "codes": pack_array([codes[text] for text in texts], "u4")}


@dataclass(frozen=True, eq=False)
class PackedVectors:
    """Vectors as a page keeps them. Only their directions count.

    Attributes:
        values: ``(n, kept)`` float16 or int8; rows have no common scale.
        original: How many values a vector had.
        largest_error: Of a cosine distance, among pairs drawn at random; 0 without pairs.
        mean_error: Likewise.
        pairs: How many pairs that were.
    """

    values: npt.NDArray[Any]
    original: int
    largest_error: float
    mean_error: float
    pairs: int

    @property
    def about(self) -> str:
        """What was done, in words."""
        kind = "float16" if self.values.dtype == np.float16 else "int8"
        kept = (
            f"{self.original} values"
            if self.values.shape[1] == self.original
            else f"{self.values.shape[1]} principal components of {self.original} values"
        )
        if not self.pairs:
            return f"{kept}, {kind}"
        return (
            f"{kept}, {kind}; distances differ from exact ones by {self.mean_error:.1g} on average "
            f"and by at most {self.largest_error:.1g} ({self.pairs} random pairs)"
        )

    def to_dict(self) -> dict[str, Any]:
        """For a page's data."""
        kind = "f2" if self.values.dtype == np.float16 else "i1"
        return {"dim": int(self.values.shape[1]), **pack_array(self.values, kind)}


def pack_vectors(vectors: FloatArray, budget: int = _BUDGET) -> PackedVectors:
    """Make ``(n, d)`` vectors small enough for a page.

    Half precision where it fits, bytes where that fits, else bytes of principal components. These
    are not centred: they keep inner products of the unit vectors as well as so few values can.

    Args:
        vectors: Finite, ``(n, d)``. Rows of zeros stay zeros.
        budget: Bytes that they should not exceed.
    """
    n, d = vectors.shape
    units = _units(vectors)
    if n * d * 2 <= budget:
        values = units.astype(np.float16)
    else:
        if n * d > budget and d > _FEWEST:
            units_kept = _shortened(units, int(np.clip(budget // n, _FEWEST, min(_MOST, d))))
        else:
            units_kept = units
        largest = np.abs(units_kept).max(axis=1, keepdims=True)
        scaled = units_kept * (127 / np.where(largest > 0, largest, 1))
        values = np.round(scaled).astype(np.int8)
    largest_error, mean_error, pairs = _errors(units, values)
    return PackedVectors(values, d, largest_error, mean_error, pairs)


def _units(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    # Double precision and the largest value first, so that squares of any floats stay in range.
    units = np.empty(vectors.shape, dtype=np.float32)
    for first in range(0, len(vectors), _BLOCK):
        block = vectors[first : first + _BLOCK].astype(np.float64)
        largest = np.abs(block).max(axis=1, keepdims=True, initial=0)
        block /= np.where(largest > 0, largest, 1)
        length = np.linalg.norm(block, axis=1, keepdims=True)
        units[first : first + _BLOCK] = block / np.where(length > 0, length, 1)
    return units


def _shortened(units: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    gram = np.zeros((units.shape[1],) * 2)
    for first in range(0, len(units), _BLOCK):
        block = units[first : first + _BLOCK].astype(np.float64)
        gram += block.T @ block
    directions = np.linalg.eigh(gram)[1][:, ::-1][:, :count].astype(np.float32)
    return units @ directions


def _errors(units: npt.NDArray[np.float32], values: npt.NDArray[Any]) -> tuple[float, float, int]:
    """Largest and mean difference of cosine distances, among pairs without zero vectors."""
    known = np.flatnonzero(units.any(axis=1))
    if len(known) < 2:
        return 0.0, 0.0, 0
    one, other = np.random.default_rng(0).choice(known, (2, min(_PAIRS, len(known) ** 2)))
    kept = _units(values)
    exact = np.einsum("ij,ij->i", units[one], units[other], dtype=np.float64)
    shown = np.einsum("ij,ij->i", kept[one], kept[other], dtype=np.float64)
    difference = np.abs(exact - shown)
    return float(difference.max()), float(difference.mean()), len(one)
