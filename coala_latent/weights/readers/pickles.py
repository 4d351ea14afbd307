"""The plain data of a pickle, read without running anything.

Python's unpickler calls whatever a pickle names. This reader is a machine of its own: it knows
lists, tuples, dictionaries, numbers, strings and NumPy arrays, and every other name or instruction
is an error. Arrays are made from their bytes here, so that NumPy's own restoring code, which trusts
its input, is not reached either. Memory is bounded by the size of the pickle.

Pickles of Python 2 and 3 (protocols 2 to 4) are read; strings of Python 2 are taken as latin-1.
"""

from __future__ import annotations

import enum
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import WeightsError

__all__ = ["array_of_bytes", "dtype_of", "read_pickle"]

MAX_DEPTH = 64
MAX_DIMENSIONS = 32
# Integers up to here differ in their hashes, so that no chosen keys make a dictionary slow.
MAX_KEY = 1 << 60

_DTYPE = re.compile(r"(?:f[248]|[iu][1248]|b1|[SU][1-9]\d{0,5})")


class _Name(enum.Enum):
    """The names a pickle may use."""

    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy.core.multiarray._reconstruct"
    SCALAR = "numpy.core.multiarray.scalar"


_NAMES = {
    "numpy ndarray": _Name.NDARRAY,
    "numpy dtype": _Name.DTYPE,
    # `numpy.core` is `numpy._core` since NumPy 2.
    **{
        f"{core}.multiarray _reconstruct": _Name.RECONSTRUCT
        for core in ("numpy.core", "numpy._core")
    },
    **{f"{core}.multiarray scalar": _Name.SCALAR for core in ("numpy.core", "numpy._core")},
}

_PUSH_ARGUMENT = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass
class _Dtype:
    code: str
    order: str = "="


@dataclass
class _Array:
    """An array being restored; `items` instead of `values` where it holds objects."""

    values: npt.NDArray[Any] | None = None
    items: list[Any] | None = None
    shape: tuple[int, ...] = ()


class _RefusedError(Exception):
    """Why a pickle is not read."""


def read_pickle(data: bytes, source: str) -> Any:
    """Read what a pickle holds.

    Args:
        data: The pickle; bytes after its end are ignored.
        source: The file, for messages.

    Returns:
        Lists, tuples, dictionaries (keys: strings and integers), strings, bytes, numbers, None and
        numeric or string arrays. An array of objects becomes nested lists, or its only item when
        it has no dimensions; a NumPy scalar becomes a Python one.

    Raises:
        WeightsError: It is damaged, or holds anything else. Nothing in it is ever run.
    """
    machine = _Machine(len(data))
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return _Plain(4 * len(data)).of(machine.result())
    except _RefusedError as error:
        reason = str(error)
    except (IndexError, KeyError):
        reason = "it takes values that are not there (the file is damaged)"
    except (ValueError, OverflowError, MemoryError) as error:
        reason = f"{error or type(error).__name__} (the file is damaged)"
    raise WeightsError(f"{source}: its pickle is not read: {reason}")


class _Machine:
    """The stack machine of `pickle`, without calls.

    Args:
        room: Bytes that all arrays together may take.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._special: dict[str, Callable[[Any], None]] = {
            **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda _: None),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), self._get),
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "MARK": lambda _: self._marks.append(len(self._stack)),
            "EMPTY_LIST": lambda _: self._stack.append([]),
            "EMPTY_DICT": lambda _: self._stack.append({}),
            "TUPLE": lambda _: self._stack.append(tuple(self._since_mark())),
            "LIST": lambda _: self._stack.append(self._since_mark()),
            "DICT": lambda _: self._stack.append(_set_items({}, self._since_mark())),
            "APPEND": lambda _: self._append(self._pop(1)),
            "APPENDS": lambda _: self._append(self._since_mark()),
            "SETITEM": lambda _: self._set(self._pop(2)),
            "SETITEMS": lambda _: self._set(self._since_mark()),
            "GLOBAL": lambda name: self._stack.append(_named(name)),
            "STACK_GLOBAL": lambda _: self._stack.append(_named(" ".join(map(str, self._pop(2))))),
            "REDUCE": lambda _: self._reduce(*self._pop(2)),
            "BUILD": lambda _: self._build(*self._pop(1)),
        }

    def step(self, name: str, argument: Any) -> None:
        """Obey one instruction."""
        if name in _PUSH_ARGUMENT:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _SMALL_TUPLES:
            self._stack.append(tuple(self._pop(_SMALL_TUPLES[name])))
        elif name in self._special:
            self._special[name](argument)
        else:
            raise _RefusedError(
                f"instruction {name} is not needed for arrays (nothing in the file was run)"
            )

    def result(self) -> Any:
        """What is left at the end."""
        if len(self._stack) != 1:
            raise _RefusedError(f"it ends with {len(self._stack)} values (the file is damaged)")
        return self._stack[0]

    def _pop(self, count: int) -> list[Any]:
        # Values below a mark belong to an outer list.
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) - count < floor:
            raise IndexError
        popped = self._stack[-count:]
        del self._stack[-count:]
        return popped

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        popped = self._stack[start:]
        del self._stack[start:]
        return popped

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _append(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise _RefusedError("items are appended to what is not a list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], dict):
            raise _RefusedError("items are set in what is not a dictionary")
        _set_items(self._stack[-1], items)

    def _reduce(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _RefusedError("it calls what is not a name (nothing in it was run)")
        made: Any
        match (function, arguments):
            case (_Name.RECONSTRUCT, (_Name.NDARRAY, _, _)):
                made = _Array()
            case (_Name.DTYPE, (str(code), *_)):
                made = _Dtype(code)
            case (_Name.SCALAR, (_Dtype() as dtype, bytes() | str() as raw)):
                made = self._values(raw, dtype, (), False).item()
            case _:
                raise _RefusedError(
                    f"it uses {function.value} in an unusual way (nothing in it was run)"
                )
        self._stack.append(made)

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        match (target, state):
            case (_Dtype(), (_, "<" | ">" | "|" | "=" as order, None, None, None, *_)):
                target.order = order
            case (
                _Array(values=None, items=None),
                (_, tuple(shape), _Dtype() as dtype, order, raw),
            ):
                _check_shape(shape)
                target.shape = shape
                if re.fullmatch(r"O[48]?", dtype.code):
                    if not isinstance(raw, list) or len(raw) != math.prod(shape):
                        raise _RefusedError(f"an array {shape} of objects has not as many items")
                    target.items = raw
                else:
                    target.values = self._values(raw, dtype, shape, bool(order))
            case _:
                raise _RefusedError("it restores something else than a plain NumPy array")

    def _values(
        self, raw: Any, dtype: _Dtype, shape: tuple[int, ...], fortran: bool
    ) -> npt.NDArray[Any]:
        if isinstance(raw, str):
            raw = raw.encode("latin-1")
        if not isinstance(raw, bytes):
            raise _RefusedError("an array's values are not bytes")
        self._room -= len(raw)
        if self._room < 0:
            raise _RefusedError("its arrays share bytes, which grows without limit")
        return array_of_bytes(raw, dtype_of(dtype.order + dtype.code), shape, fortran)


def _named(name: str) -> _Name:
    if name not in _NAMES:
        raise _RefusedError(
            f"it asks for {name.replace(' ', '.')!r} (nothing in it was run; files with NumPy "
            "arrays, lists and dictionaries alone are read)"
        )
    return _NAMES[name]


def _set_items(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _RefusedError("a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str) and (type(key) is not int or abs(key) >= MAX_KEY):
            raise _RefusedError(f"a dictionary has a key of type {type(key).__name__}")
        target[key] = value
    return target


def _check_shape(shape: tuple[Any, ...]) -> None:
    if len(shape) > MAX_DIMENSIONS or any(type(size) is not int or size < 0 for size in shape):
        raise _RefusedError("an array's shape is impossible")


def dtype_of(code: str) -> np.dtype[Any]:
    """A numeric or string type from codes such as ``"<f4"``.

    Raises:
        ValueError: It is of another kind: objects, structures, dates.
    """
    if not code or code[0] not in "<>|=" or not _DTYPE.fullmatch(code[1:]):
        raise ValueError(f"arrays of type {code!r} are not read")
    return np.dtype(code)


def array_of_bytes(
    raw: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool = False
) -> npt.NDArray[Any]:
    """An array from its bytes, copied to the machine's byte order.

    Raises:
        ValueError: There are more or fewer bytes than the shape needs.
    """
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array {shape} of {dtype} does not have {len(raw)} bytes")
    flat = np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)
    shaped = flat.reshape(shape, order="F" if fortran else "C")
    return np.array(shaped, dtype=dtype.newbyteorder("="), order="C")


class _Plain:
    """Turn what the machine made into plain values.

    A pickle of a few bytes can hold a list that holds another one twice, which holds another one
    twice: small in memory, and endless for whoever walks through it.

    Args:
        room: Values there may be, counting shared ones each time.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._done: dict[int, tuple[Any, int] | None] = {}

    def of(self, value: Any) -> Any:
        """The plain value."""
        return self._convert(value, 0)[0]

    def _convert(self, value: Any, depth: int) -> tuple[Any, int]:
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value, 1
        if isinstance(value, _Array) and value.values is not None:
            return value.values, 1
        if depth > MAX_DEPTH:
            raise _RefusedError(f"it is nested more than {MAX_DEPTH} deep")
        key = id(value)
        if key in self._done:
            done = self._done[key]
            if done is None:
                raise _RefusedError("a container holds itself")
            return done
        self._done[key] = None
        if isinstance(value, dict):
            parts = list(value.values())
        elif isinstance(value, list | tuple):
            parts = list(value)
        elif isinstance(value, _Array) and value.items is not None:
            parts = value.items
        else:
            raise _RefusedError(f"it holds {value}, which is not a value")
        converted = [self._convert(part, depth + 1) for part in parts]
        count = 1 + sum(size for _, size in converted)
        if count > self._room:
            raise _RefusedError("its containers share parts, which grows without limit")
        result = _container(value, [part for part, _ in converted]), count
        self._done[key] = result
        return result


def _container(original: Any, parts: list[Any]) -> Any:
    if isinstance(original, dict):
        return dict(zip(original, parts, strict=True))
    if isinstance(original, _Array):
        cells = np.empty(len(parts), dtype=object)
        for index, part in enumerate(parts):
            cells[index] = part
        return cells.reshape(original.shape).tolist()
    return type(original)(parts)
