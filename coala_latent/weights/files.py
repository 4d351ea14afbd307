"""Reading and writing weight files.

safetensors files and ``.pt`` state dictionaries are read; safetensors are written. A ``.pt`` file
is opened with ``weights_only=True``, so nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from coala_latent.errors import WeightsError

__all__ = ["file_sha256", "load_into", "read_weights", "write_json", "write_weights"]

# The last line: what torch's restricted unpickler stumbles over in bytes that are no pickle.
_UNREADABLE = (
    *(SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError),
    *(LookupError, ValueError, TypeError, AttributeError, AssertionError),
    *(ArithmeticError, MemoryError, struct.error),
)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Parameters and buffers by name, on the CPU.

    Args:
        path: A ``.safetensors`` file, or a ``.pt`` / ``.pth`` state dictionary of any torch
            version.

    Raises:
        WeightsError: The file is missing, damaged, or holds anything but tensors.
    """
    file = Path(path)
    if not os.path.isfile(file):  # noqa: PTH113 - Path.is_file raises on names that are too long
        raise WeightsError(f"{file}: no such weights file (check the path)")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # torch goes on with how to run the file's code all the same.
        reason = reason.split(". This file can still be loaded")[0]
        raise WeightsError(
            f"{file}: not a readable weights file: {reason} (only safetensors and plain "
            "state dictionaries are read, and no code in them is run)"
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise WeightsError(f"{file}: not a state dictionary of tensors (save model.state_dict())")
    return dict(loaded)


def load_into(module: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy `weights` into `module`; every name must be used once and every shape must fit.

    Raises:
        WeightsError: Names are missing or left over, or shapes differ.
    """
    expected = module.state_dict()
    missing = sorted(set(expected) - set(weights))
    surplus = sorted(set(weights) - set(expected))
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, the model has {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    problems = [
        f"{label}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
        for label, names in (("missing", missing), ("not in the model", surplus), ("shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(
            f"{source}: weights do not fit {type(module).__name__}: {'; '.join(problems)} "
            "(is it a checkpoint of another model or of other sizes?)"
        )
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise WeightsError(f"{source}: {error} (save plain, dense tensors)") from error


def write_weights(path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write safetensors under a temporary name, then rename.

    Returns:
        The file's SHA-256.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    contiguous = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in weights.items()
    }
    try:
        # Not safetensors' own file writing, which makes files that only their owner may read.
        temporary.write_bytes(save(contiguous, dict(metadata)))
        digest = file_sha256(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
