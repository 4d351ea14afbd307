"""Weights in TensorFlow Lite files, float or quantised.

A file holds a program: tensors, some of them constant, and operators that run in the order of the
file. Tensors are named after whatever was fused into them and differently by every converter, and
names may repeat or be missing, so arrays are named by the operator that uses them first:

    CONV_2D.3.weights:model/layer4/pointwise_conv/Conv2D

is the kernel of the fourth two-dimensional convolution, and after the colon follows the tensor's
own name. The bias of convolutions and of FULLY_CONNECTED is ``bias``; constants of other operators
are ``input0``, ``input1``, ... A constant that two operators use is there once for each.

Layouts are TensorFlow Lite's: CONV_2D ``(outputs, height, width, inputs)``, DEPTHWISE_CONV_2D
``(1, height, width, channels)``, FULLY_CONNECTED ``(outputs, inputs)``.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import WeightsError
from coala_latent.weights.readers.flatbuffer import FlatBuffer, Table

__all__ = ["TFLITE_MAGIC", "read_tflite"]

# At byte 4.
TFLITE_MAGIC = b"TFL3"
MAX_DIMENSIONS = 32
# Of BuiltinOperator and TensorType in TensorFlow Lite's schema.
OPERATORS = {
    **{0: "ADD", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED"},
    **{18: "MUL", 41: "SUB", 42: "DIV", 54: "PRELU", 67: "TRANSPOSE_CONV", 126: "BATCH_MATMUL"},
}
ROLES = {
    "CONV_2D": {1: "weights", 2: "bias"},
    "DEPTHWISE_CONV_2D": {1: "weights", 2: "bias"},
    "FULLY_CONNECTED": {1: "weights", 2: "bias"},
    "TRANSPOSE_CONV": {1: "weights", 3: "bias"},
}
FLOATS = {0: "f4", 1: "f2", 10: "f8"}
INTEGERS = {2: "i4", 3: "u1", 4: "i8", 7: "i2", 9: "i1"}

Array = npt.NDArray[np.float32]


def read_tflite(path: Path) -> dict[str, Array]:
    """Every constant of real numbers that an operator uses, in float32, by operator and role.

    Quantised constants become ``scale * (value - zero point)``, per tensor or per channel. Integers
    without a scale (shapes, axes, indices) are not weights and are passed over.

    Raises:
        WeightsError: The file is missing or damaged, or has several programs, sparse weights,
            weights outside of the file, or of a type that is not read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    if data[4:8] != TFLITE_MAGIC:
        raise WeightsError(f"{path}: not a TensorFlow Lite file (its first bytes are wrong)")
    model = FlatBuffer(data, str(path)).root()
    programs = model.tables(2)
    if len(programs) != 1:
        raise WeightsError(f"{path}: has {len(programs)} programs; files with one are read")
    tensors = _Tensors(programs[0].tables(0), model.tables(4), str(path))
    codes = [_code(code) for code in model.tables(1)]
    found: dict[str, Array] = {}
    counts: Counter[str] = Counter()
    for operator in programs[0].tables(3):
        index = operator.scalar(0, "<I")
        if index >= len(codes):
            raise WeightsError(f"{path}: an operator's kind is missing (get the file again)")
        kind, inputs = codes[index], operator.vector(1, "i4").tolist()
        if kind == "DEQUANTIZE":
            tensors.alias(operator.vector(2, "i4").tolist(), inputs)
        for position, tensor in enumerate([] if kind == "DEQUANTIZE" else inputs):
            role = ROLES.get(kind, {}).get(position, f"input{position}")
            values = tensors.constant(tensor, needed=not role.startswith("input"))
            if values is not None:
                found[f"{kind}.{counts[kind]}.{role}:{tensors.name(tensor)}"] = values
        counts[kind] += 1
    return found


def _code(code: Table) -> str:
    # Codes up to 127 were a byte once.
    number = max(code.scalar(0, "<b"), code.scalar(3, "<i"))
    return OPERATORS.get(number, f"OPERATOR_{number}")


class _Tensors:
    """The tensors of a program, and the values of those that are constant."""

    def __init__(self, tensors: list[Table], buffers: list[Table], source: str) -> None:
        self._tensors = tensors
        self._buffers = buffers
        self._source = source
        self._done: dict[int, Array | None] = {}
        self._dequantised: dict[int, int] = {}

    def alias(self, outputs: list[int], inputs: list[int]) -> None:
        """Note that an operator only turns a tensor into floats."""
        for output, origin in zip(outputs, inputs, strict=False):
            self._dequantised[output] = origin

    def name(self, index: int) -> str:
        """A tensor's own name."""
        return self._tensor(index).string(3)

    def constant(self, index: int, *, needed: bool) -> Array | None:
        """Values of a tensor; None where it is computed, absent, or of plain integers.

        Args:
            index: In the program; -1 for an input that is left out.
            needed: Whether plain integers and unknown types are an error.
        """
        index = self._dequantised.get(index, index)
        if index == -1:
            return None
        if index not in self._done:
            self._done[index] = self._values(self._tensor(index), index, needed)
        return self._done[index]

    def _tensor(self, index: int) -> Table:
        index = self._dequantised.get(index, index)
        if not 0 <= index < len(self._tensors):
            raise WeightsError(f"{self._source}: tensor {index} is missing (get the file again)")
        return self._tensors[index]

    def _values(self, tensor: Table, index: int, needed: bool) -> Array | None:
        buffer = tensor.scalar(2, "<I")
        if buffer >= len(self._buffers):
            raise WeightsError(f"{self._source}: the values of tensor {index} are missing")
        stored = self._buffers[buffer]
        # 1 stands for "outside", and real places are larger.
        if stored.scalar(1, "<Q") or tensor.table(6) is not None:
            raise WeightsError(f"{self._source}: tensor {index} is sparse or outside of the file")
        raw = stored.vector(0, "u1")
        if not len(raw):
            return None
        kind = tensor.scalar(1, "<b")
        if kind in FLOATS:
            return self._shaped(raw, FLOATS[kind], tensor, index).astype(np.float32)
        quantisation = tensor.table(4)
        scale = np.empty(0) if quantisation is None else quantisation.vector(2, "f4")
        if quantisation is not None and kind in INTEGERS and len(scale):
            integers = self._shaped(raw, INTEGERS[kind], tensor, index)
            return self._dequantise(integers, scale, quantisation, index)
        if needed:
            raise WeightsError(
                f"{self._source}: weights of type {kind} (tensor {index}) are not read"
            )
        return None

    def _shaped(
        self, raw: npt.NDArray[Any], dtype: str, tensor: Table, index: int
    ) -> npt.NDArray[Any]:
        shape = tensor.vector(0, "i4").tolist()
        kind = np.dtype(dtype).newbyteorder("<")
        impossible = len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape)
        if impossible or math.prod(shape) * kind.itemsize != len(raw):
            raise WeightsError(
                f"{self._source}: tensor {index} {shape} does not have {len(raw)} bytes"
            )
        return raw.view(kind).reshape(shape)

    def _dequantise(
        self, values: npt.NDArray[Any], scale: npt.NDArray[Any], quantisation: Table, index: int
    ) -> Array:
        zero = quantisation.vector(3, "i8")
        axis = quantisation.scalar(6, "<i")
        per_channel = len(scale) > 1
        if len(zero) not in (0, 1, len(scale)) or (
            per_channel and (not 0 <= axis < values.ndim or values.shape[axis] != len(scale))
        ):
            raise WeightsError(
                f"{self._source}: the scales of tensor {index} do not fit {values.shape}"
            )
        along = [-1 if dimension == axis else 1 for dimension in range(values.ndim)]
        shape = along if per_channel else [1] * values.ndim
        zeros = np.broadcast_to(zero if len(zero) else 0, scale.shape).astype(np.float64)
        # In float64 the product is exact, so that it is rounded once.
        with np.errstate(over="ignore", invalid="ignore"):
            centred = values.astype(np.float64) - zeros.reshape(shape)
            return (centred * scale.astype(np.float64).reshape(shape)).astype(np.float32)
