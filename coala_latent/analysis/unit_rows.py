"""Rows of unit length in blocks, from an array or from blocks that are read again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.errors import DataError
from coala_latent.types import FloatArray

__all__ = ["ArrayRows", "RowBlocks", "StreamRows", "UnitRows", "unit_rows"]

RowBlocks: TypeAlias = Callable[[], Iterable[FloatArray]]

BLOCK_ROWS = 16384


class UnitRows(Protocol):
    """``count`` rows of ``dim`` values, each of length 1.

    Attributes:
        count: How many.
        dim: Values in each.
        device: Where they are given out.
    """

    count: int
    dim: int
    device: torch.device

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """First row's number and ``(rows, dim)`` float32, in order."""

    def take(self, numbers: npt.NDArray[np.int64]) -> Tensor:
        """The rows with these ascending numbers, ``(len(numbers), dim)`` float32."""


def unit_rows(rows: npt.ArrayLike | Tensor, device: torch.device, first: int = 0) -> Tensor:
    """Divide rows ``(n, dim)`` by their lengths.

    Args:
        rows: Real numbers of any type; lengths may be as large or small as the type allows.
        device: Where to.
        first: Number of the first row, for messages.

    Returns:
        ``(n, dim)`` float32.

    Raises:
        DataError: No matrix, or a row that is not finite or is zero, which has no direction.
    """
    x = (rows if isinstance(rows, Tensor) else torch.from_numpy(_real(rows))).to(device)
    if x.ndim != 2 or x.shape[1] == 0:
        raise DataError(f"expected rows (n, dim), got shape {tuple(x.shape)}")
    if x.dtype != torch.float32:
        x = x.to(torch.float64)
    if not len(x):
        return x.to(torch.float32)
    # By the largest value first, so that squares stay in range.
    largest = x.abs().amax(dim=1, keepdim=True)
    usable = (torch.isfinite(largest) & (largest > 0))[:, 0]
    if not bool(usable.all()):
        row = int(torch.argmin(usable.to(torch.uint8)))
        what = "is zero and has no direction" if float(largest[row]) == 0 else "is not finite"
        raise DataError(f"row {first + row} {what}: leave it out, or embed it again")
    x = x / largest
    return (x / torch.linalg.vector_norm(x, dim=1, keepdim=True)).to(torch.float32)


def _real(rows: npt.ArrayLike) -> npt.NDArray[np.floating]:
    """A copy as float32 if it is that already, else as float64."""
    array = np.asarray(rows)
    if array.dtype.kind not in "fiub":
        raise DataError(f"rows must be real numbers, got {array.dtype}")
    return np.array(array, dtype=np.float32 if array.dtype == np.float32 else np.float64)


class ArrayRows:
    """Rows of an array, copied once: 4 bytes a value on the device.

    Args:
        rows: ``(n, dim)``.
        device: Where to.

    Raises:
        DataError: See `unit_rows`; or there are no rows.
    """

    def __init__(self, rows: npt.ArrayLike | Tensor, device: torch.device) -> None:
        source = rows if isinstance(rows, Tensor) else np.asarray(rows)
        if source.ndim != 2 or 0 in source.shape:
            raise DataError(f"expected rows (n, dim), got shape {tuple(source.shape)}")
        self.count, self.dim = int(source.shape[0]), int(source.shape[1])
        self.device = device
        self.values = torch.empty(source.shape, dtype=torch.float32, device=device)
        for begin in range(0, self.count, BLOCK_ROWS):
            end = begin + BLOCK_ROWS
            self.values[begin:end] = unit_rows(source[begin:end], device, begin)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """See `UnitRows`."""
        for begin in range(0, self.count, BLOCK_ROWS):
            yield begin, self.values[begin : begin + BLOCK_ROWS]

    def take(self, numbers: npt.NDArray[np.int64]) -> Tensor:
        """See `UnitRows`; the numbers may come in any order here."""
        return self.values[torch.from_numpy(numbers).to(self.device)]


class StreamRows:
    """Rows that are read anew on every pass; memory is bounded by their largest block.

    Args:
        read: Gives the same blocks ``(rows, dim)`` whenever it is called.
        device: Where to.

    Raises:
        DataError: See `unit_rows`; or there are no rows, or blocks of several widths.
    """

    def __init__(self, read: RowBlocks, device: torch.device) -> None:
        self._read = read
        self.device = device
        self.count, self.dim = 0, 0
        for begin, block in self._all():
            if self.dim and block.shape[1] != self.dim:
                raise DataError(f"rows of {block.shape[1]} values after rows of {self.dim}")
            self.count, self.dim = begin + len(block), block.shape[1]
        if not self.count:
            raise DataError("there are no rows")

    def _all(self) -> Iterator[tuple[int, Tensor]]:
        begin = 0
        for block in self._read():
            for first in range(0, len(block), BLOCK_ROWS):
                part = unit_rows(block[first : first + BLOCK_ROWS], self.device, begin)
                yield begin, part
                begin += len(part)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """See `UnitRows`.

        Raises:
            DataError: Another number of rows than on the first pass.
        """
        end = 0
        for begin, block in self._all():
            end = begin + len(block)
            if end > self.count:
                break
            yield begin, block
        if end != self.count:
            raise DataError(f"the stream had {self.count} rows on its first pass, now it differs")

    def take(self, numbers: npt.NDArray[np.int64]) -> Tensor:
        """See `UnitRows`; one pass."""
        found = []
        for begin, block in self.blocks():
            low, high = np.searchsorted(numbers, [begin, begin + len(block)])
            if high > low:
                places = torch.from_numpy(numbers[low:high] - begin).to(self.device)
                found.append(block[places])
        return torch.cat(found)
