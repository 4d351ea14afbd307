"""The files of sound-eval's output folder: written, and read where the original wrote them.

Source: the layout of sound-eval (B. Black, https://github.com/benblack769/sound-eval).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from coala_latent.data.latent_files import replace_file
from coala_latent.errors import DataError
from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter

__all__ = [
    "CONFIG",
    "COSTS",
    "EPOCH",
    "MUSIC_LIST",
    "STORE",
    "WEIGHTS",
    "OriginalFolder",
    "VectorTable",
    "read_music_list",
    "read_numbers",
    "read_original",
    "recording_names",
    "vector_name",
    "weight_arrays",
    "write_array",
    "write_text",
    "write_vector_store",
]

MUSIC_LIST, EPOCH, CONFIG = "music_list.txt", "epoc_num.txt", "config.yaml"
COSTS, WEIGHTS, STORE = "cost_list.csv", "weights", "store.h5"

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class OriginalFolder:
    """What a folder of the original holds.

    Attributes:
        number: Of the last save.
        model: Networks and document vectors, in compat mode.
        music_list: A row of the table each.
        config: Its configuration; empty where there is none.
        costs: Number and mean loss of the saves.
    """

    number: int
    model: Doc2Vec
    music_list: list[str]
    config: dict[str, Any]
    costs: list[tuple[int, float]]


@dataclass(frozen=True)
class VectorTable:
    """Vectors of recordings, to become a store.

    Attributes:
        names: Of the recordings.
        values: ``(n, dim)`` float32.
        durations: Seconds ``(n,)``.
        lengths: Frames ``(n,)``; recordings without are listed as failed, and have no row.
        root: Folder of the sounds; None where it is not known.
    """

    names: Sequence[str]
    values: Array
    durations: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    root: str | None = None


def vector_name(number: int) -> str:
    """Name of the table of a save."""
    return f"vector_at_{number}.npy"


def recording_names(music_list: Sequence[str]) -> list[str]:
    """``./a/b.mp3.npy`` as ``a/b.mp3``."""
    return [line.removeprefix("./").removesuffix(".npy") for line in music_list]


def write_text(path: Path, text: str) -> None:
    """Write a text under a temporary name, then rename; bytes that are no UTF-8 are kept."""
    replace_file(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def write_array(path: Path, values: npt.NDArray[Any]) -> None:
    """Write a ``.npy`` file under a temporary name, then rename; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: np.save(file, values, allow_pickle=False))


def weight_arrays(model: Doc2Vec) -> dict[str, Array]:
    """The networks as the original names them, matrices ``(in, out)``.

    They hear unscaled frames: a standardisation becomes part of the first layer.
    """
    mean, std = model.mean.double().cpu(), model.std.double().cpu()
    found: dict[str, Array] = {}
    with torch.no_grad():
        for place, network in (("origin", model.origin), ("cross", model.cross)):
            weight = network.relu.weight.double().cpu() / std
            bias = network.relu.bias.double().cpu() - weight @ mean
            for kind, matrix, vector in (
                ("relu", weight, bias),
                ("soft", network.soft.weight.cpu(), network.soft.bias.cpu()),
            ):
                found[f"{kind}_{place}W"] = np.ascontiguousarray(matrix.T.float().numpy())
                found[f"{kind}_{place}b"] = vector.float().numpy()
    return found


def write_vector_store(
    path: Path, table: VectorTable, identity: StoreIdentity, metadata: Mapping[str, Any]
) -> None:
    """Write a new store with one row a recording, from 0 to its duration.

    Raises:
        StoreError: `path` exists with other contents, or a name cannot be stored.
    """
    about = dict(metadata) if table.root is None else {**metadata, "root": table.root}
    with StoreWriter(path, identity, metadata=about) as writer:
        for row, name in enumerate(table.names):
            duration = float(table.durations[row])
            if not table.lengths[row]:
                writer.commit(FileRecord(name, "failed", "no frames", duration=duration))
                continue
            writer.begin(name)
            writer.append(table.values[row : row + 1], [0.0], [duration])
            writer.commit(FileRecord(name, "ok", duration=duration))


def read_music_list(path: Path) -> list[str]:
    """Lines of ``music_list.txt``.

    Raises:
        DataError: There is no such file.
    """
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror} (a folder of document vectors has this list)"
        ) from error
    # Names may hold line separators of Unicode's, which splitlines() would split at.
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_original(folder: Path) -> OriginalFolder:
    """Read a folder that the original wrote: weights, vectors of the last save, and the list.

    Raises:
        DataError: A file is missing or damaged, or they do not fit together.
    """
    number = _number(folder / EPOCH)
    weights = {name: read_numbers(folder / WEIGHTS / f"{name}.npy") for name in _weight_names()}
    vectors = read_numbers(folder / vector_name(number))
    music_list = read_music_list(folder / MUSIC_LIST)
    (bands, hidden), dim = _shape(folder, weights, "relu_originW", 2), vectors.shape[-1]
    model = Doc2Vec(len(music_list), bands, hidden, dim, compat=True)
    state = {"documents": vectors}
    for place in ("origin", "cross"):
        for kind in ("relu", "soft"):
            state[f"{place}.{kind}.weight"] = weights[f"{kind}_{place}W"].T
            state[f"{place}.{kind}.bias"] = weights[f"{kind}_{place}b"]
    for name, value in model.state_dict().items():
        if name in state and tuple(value.shape) != state[name].shape:
            raise DataError(
                f"{folder}: {name} has shape {state[name].shape}, not {tuple(value.shape)} "
                f"(weights, {vector_name(number)} and {MUSIC_LIST} are not of one training)"
            )
    tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in state.items()}
    model.load_state_dict({**model.state_dict(), **tensors})
    return OriginalFolder(
        number, model.eval(), music_list, _config(folder / CONFIG), _costs(folder / COSTS)
    )


def _weight_names() -> list[str]:
    return [
        f"{kind}_{place}{what}"
        for kind in ("relu", "soft")
        for place in ("origin", "cross")
        for what in "Wb"
    ]


def _shape(folder: Path, arrays: Mapping[str, Array], name: str, axes: int) -> tuple[int, ...]:
    shape = arrays[name].shape
    if len(shape) != axes:
        raise DataError(f"{folder / WEIGHTS}: {name} has shape {shape}, not {axes} axes")
    return shape


def read_numbers(path: Path) -> Array:
    """A ``.npy`` file of finite numbers, as float32.

    Raises:
        DataError: It is missing, damaged, or holds something else.
    """
    try:
        with path.open("rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file (check the path)") from error
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a .npy file, or a damaged one: {reason}") from error
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise DataError(f"{path}: not finite numbers")
    return np.asarray(values, dtype=np.float32)


def _number(path: Path) -> int:
    try:
        number = int(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: {error} (it holds the number of the last save; if a save was interrupted, "
            "write the last one's there)"
        ) from error
    return number


def _config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not readable: {' '.join(str(error).split())}") from error
    return dict(found) if isinstance(found, dict) else {}


def _costs(path: Path) -> list[tuple[int, float]]:
    """Rows of the table of costs; lines that were cut short do not count."""
    if not os.path.lexists(path):
        return []
    costs = []
    for line in path.read_text("utf-8", "replace").splitlines()[1:]:
        number, _, cost = line.partition(",")
        try:
            costs.append((int(number), float(cost)))
        except ValueError:
            continue
    return costs
