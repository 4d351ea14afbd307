"""Readers of published weight files: arrays by name, without running anything in the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from coala_latent.errors import WeightsError
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.files import read_weights
from coala_latent.weights.readers.hdf5 import is_hdf5, read_hdf5
from coala_latent.weights.readers.npy_pickle import NPY_MAGIC, read_named_npy, read_object_npy
from coala_latent.weights.readers.npz import members, read_npz
from coala_latent.weights.readers.sstable import TABLE_MAGIC
from coala_latent.weights.readers.tf_checkpoint import find_index, read_tf_checkpoint
from coala_latent.weights.readers.tflite import TFLITE_MAGIC, read_tflite

__all__ = ["read_arrays", "read_object_npy"]

Reader = Callable[[Path], dict[str, npt.NDArray[Any]]]

ZIP_MAGIC = b"PK\x03\x04"
FORMATS = (
    ".npz, .npy with named arrays, Keras .h5, .tflite, TensorFlow checkpoints (.index), PyTorch "
    ".pt and .pth, .safetensors"
)


def read_arrays(path: str | os.PathLike[str]) -> Arrays:
    """Read the arrays of a published weights file of any format.

    The format is told from the file's bytes, and from its suffix where they leave it open.

    Args:
        path: A file of one of the formats: .npz; .npy with a dictionary of arrays; Keras' .h5;
            .tflite; a TensorFlow checkpoint by its .index file, its prefix, or the folder that has
            only this one; PyTorch's .pt or .pth; .safetensors.

    Returns:
        The arrays by the names the file gives them. Names of nested dictionaries and groups are
        joined by a slash; see `tflite` for TensorFlow Lite's.

    Raises:
        WeightsError: The file is missing, damaged, of another format, or holds something else than
            arrays of numbers.
    """
    file = Path(path)
    try:
        index = find_index(file)
        reader = read_tf_checkpoint if index is not None else _reader(file)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: cannot be read: {error} (check the path)") from error
    return Arrays(reader(file if index is None else index), file)


def _reader(file: Path) -> Reader:
    if not file.is_file():
        what = "no checkpoint in this folder" if file.is_dir() else "no such weights file"
        raise WeightsError(f"{file}: {what} (check the path)")
    with file.open("rb") as opened:
        start = opened.read(16)
        opened.seek(max(0, opened.seek(0, 2) - len(TABLE_MAGIC)))
        end = opened.read()
    suffix = file.suffix.lower()
    if start.startswith(NPY_MAGIC):
        return read_named_npy
    if start.startswith(ZIP_MAGIC):
        # PyTorch's files are archives too.
        return read_npz if all(name.endswith(".npy") for name in members(file)) else _read_torch
    if start[4:8] == TFLITE_MAGIC:
        return read_tflite
    if is_hdf5(file):
        return read_hdf5
    if suffix in (".pt", ".pth", ".safetensors"):
        return _read_torch
    hint = ""
    if ".data-" in file.name:
        hint = "; of a checkpoint, name the .index file"
    elif end == TABLE_MAGIC:
        hint = "; checkpoints of TensorFlow's first format are not"
    raise WeightsError(f"{file}: not a known format of weights; read are {FORMATS}{hint}")


def _read_torch(path: Path) -> dict[str, npt.NDArray[Any]]:
    found = {}
    for name, value in read_weights(path).items():
        tensor = value.detach()
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
            raise WeightsError(f"{path}: {name} is not a dense tensor of real numbers")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name} has more values than the file holds")
        # NumPy has no such type.
        found[name] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found
