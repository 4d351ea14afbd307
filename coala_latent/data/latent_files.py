"""Arrays in ``.npy`` files: read with care, written atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError

__all__ = ["read_array", "replace_file"]


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then give it its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_array(
    path: Path,
    ndim: int | tuple[int, ...],
    dtype: type[np.generic],
    *,
    mmap: bool = False,
    finite: bool = True,
) -> npt.NDArray[Any]:
    """Read a ``.npy`` file of numbers.

    Args:
        path: The file.
        ndim: Number of axes it must have, or may have.
        dtype: What the array becomes; for integers the numbers must be whole.
        mmap: Leave it on disk; it must have that dtype already, and is not searched for NaN.
        finite: NaN and infinity are an error.

    Raises:
        DataError: The file is missing, damaged, holds objects, or has another shape or numbers.
    """
    try:
        found = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file (latents are X.npy and Y.npy in a folder)"
        ) from error
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}: not a readable array: {reason} (write it with np.save)"
        ) from error
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if not isinstance(found, np.ndarray) or found.ndim not in allowed:
        wanted = " or ".join(map(str, allowed))
        raise DataError(f"{path}: has shape {np.shape(found)}, not {wanted} axes")
    if found.dtype.kind not in "iufb":
        raise DataError(f"{path}: holds {found.dtype}, not numbers")
    if mmap:
        if found.dtype != dtype:
            raise DataError(
                f"{path}: holds {found.dtype}, and only {np.dtype(dtype)} can stay on disk (read "
                "it into memory, or write it anew)"
            )
        return found
    if finite and not np.isfinite(found).all():
        raise DataError(f"{path}: has NaN or infinite values (remove these rows)")
    converted = found.astype(dtype, copy=False)
    if np.issubdtype(dtype, np.integer) and not np.array_equal(converted, found):
        raise DataError(f"{path}: has numbers that are not whole")
    return converted
