"""Frames of many recordings: a folder of ``.npy`` files, or one HDF5 store.

The folder is laid out as sound-eval's: nested as the sounds are, one float32 ``(time, bands)``
array a recording, named after the whole sound file (``000/000002.mp3.npy``). `coala-latent
spectrify` adds ``spectrify.json`` (the settings) and ``spectrify.jsonl`` (a line for each
recording); folders without them, such as those of the original, open as well.

Source: the layout of sound-eval (B. Black, https://github.com/benblack769/sound-eval).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError
from coala_latent.store import Store
from coala_latent.store.schema import FAILED

__all__ = [
    "FRAMES_MODEL",
    "JOURNAL",
    "SETTINGS",
    "FrameFiles",
    "read_frames",
    "read_journal",
    "read_settings",
]

SETTINGS = "spectrify.json"
JOURNAL = "spectrify.jsonl"
# What a store of frames has as its model.
FRAMES_MODEL = "spectrify"

_Frames = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Listing:
    """What is known of the recordings before any frame is read."""

    names: list[str]
    lengths: list[int]
    durations: list[float | None]
    width: int
    settings: dict[str, Any]
    root: Path | None
    read: Callable[[int], npt.NDArray[Any]]


class FrameFiles:
    """Recordings with their frames, read when they are asked for.

    Args:
        path: A folder of ``.npy`` files, or a store (``.h5``). A store of any model will do: its
            rows are the frames.

    Attributes:
        path: As given.
        names: Of the recordings, relative and with ``/``, sorted: ``000/000002.mp3``.
        lengths: Frames of each; 0 for a recording shorter than a frame.
        durations: Seconds of each, None where they are not known.
        width: Values in a frame.
        settings: How the frames were computed, equal for folder and store; empty where nothing
            says so.
        root: Folder that the sounds were in, which the names are relative to; None where nothing
            says so.

    Raises:
        DataError: There is no such folder, nothing in it, or an array that is no table of frames
            or has another width than the first.
        StoreError: The store cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        listing = _open_folder(self.path) if self.path.is_dir() else _open_store(self.path)
        self.names = listing.names
        self.lengths = listing.lengths
        self.durations = listing.durations
        self.width = listing.width
        self.settings = listing.settings
        self.root = listing.root
        self._read = listing.read

    def __len__(self) -> int:
        return len(self.names)

    @property
    def music_list(self) -> list[str]:
        """The names as sound-eval's ``music_list.txt`` has them: ``./000/000002.mp3.npy``."""
        return [f"./{name}.npy" for name in self.names]

    def read(self, index: int) -> _Frames:
        """Frames of one recording: ``(time, width)`` float32.

        Raises:
            DataError: The array is damaged, has changed, or holds NaN or infinity.
        """
        values = self._read(index)
        if values.shape != (self.lengths[index], self.width):
            raise DataError(f"{self.path}: {self.names[index]} has changed since it was listed")
        frames = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(frames).all():
            raise DataError(f"{self.path}: {self.names[index]} holds NaN or infinity (remove it)")
        return frames

    def load(self) -> tuple[_Frames, npt.NDArray[np.int64]]:
        """All frames, one recording after the other.

        Returns:
            ``(sum of lengths, width)`` float32, and ``(n + 1,)`` int64: recording `i` has the rows
            from ``starts[i]`` to ``starts[i + 1]``.
        """
        starts = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64)
        frames = np.empty((int(starts[-1]), self.width), dtype=np.float32)
        for index in range(len(self)):
            frames[starts[index] : starts[index + 1]] = self.read(index)
        return frames, starts


def read_frames(path: str | os.PathLike[str]) -> FrameFiles:
    """Open the frames in a folder or a store; see `FrameFiles`."""
    return FrameFiles(path)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a folder of frames was written with; empty where it does not say.

    Raises:
        DataError: The file that says so is damaged.
    """
    return _described(folder)[0]


def _described(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """Settings of a folder of frames, and the folder of the sounds."""
    path = folder / SETTINGS
    try:
        found = json.loads(path.read_text("utf-8"))
        settings, root = found["settings"], found.get("root")
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not readable: {error} (restore it, or begin anew)") from error
    if not isinstance(settings, dict):
        raise DataError(f"{path}: has no settings (restore it, or begin anew)")
    return settings, _as_path(root)


def _as_path(root: Any) -> Path | None:
    return Path(root) if isinstance(root, str) and root else None


def read_journal(folder: Path) -> dict[str, dict[str, Any]]:
    """By name, the last line about each recording; lines that a kill cut short do not count."""
    try:
        lines = (folder / JOURNAL).read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{folder / JOURNAL}: not readable: {error.strerror}") from error
    entries: dict[str, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            entries[entry["path"]] = entry
    return entries


def _open_folder(folder: Path) -> _Listing:
    paths: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.endswith(".npy") and not name.startswith("."):
                path = Path(parent, name)
                paths[path.relative_to(folder).as_posix().removesuffix(".npy")] = path
    journal = read_journal(folder)
    for name, entry in journal.items():
        if entry.get("status") == FAILED:  # what is there of it is older than the sound
            paths.pop(name, None)
    if not paths:
        raise DataError(f"{folder}: no .npy files (make them with coala-latent spectrify)")
    names = sorted(paths)
    shapes = [_shape(paths[name]) for name in names]
    width = shapes[0][1]
    for name, shape in zip(names, shapes, strict=True):
        if shape[1] != width:
            raise DataError(
                f"{paths[name]}: {shape[1]} values in a frame, but {paths[names[0]]} has {width} "
                "(frames of one folder need the same settings)"
            )
    durations = [_seconds(journal.get(name, {})) for name in names]
    settings, root = _described(folder)
    return _Listing(
        names,
        [shape[0] for shape in shapes],
        durations,
        width,
        settings,
        root,
        lambda index: _array(paths[names[index]]),
    )


def _seconds(entry: Mapping[str, Any]) -> float | None:
    found = entry.get("duration")
    return float(found) if isinstance(found, int | float) else None


def _open_store(path: Path) -> _Listing:
    if not path.exists():
        raise DataError(f"{path}: no such folder or store")
    store = Store(path)
    identity = store.identity
    settings = (
        {**identity.front_end, "resampler": identity.resampler}
        if identity.model == FRAMES_MODEL
        else asdict(identity)
    )
    records = sorted(
        (record for record in store.files if record.status != FAILED),
        key=lambda record: record.path,
    )
    if not records:
        raise DataError(f"{path}: no recordings in the store")
    return _Listing(
        [record.path for record in records],
        [record.rows for record in records],
        [record.duration for record in records],
        identity.dim,
        settings,
        _as_path(store.metadata.get("root")),
        lambda index: store.rows_of(records[index].path).values,
    )


def _shape(path: Path) -> tuple[int, int]:
    """Shape of an array, from its header alone."""
    try:
        with path.open("rb") as file:
            major, _ = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if major == 1
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise _damaged(path, error) from error
    if len(shape) != 2 or dtype.kind not in "fiu" or shape[1] == 0:
        raise DataError(
            f"{path}: {dtype} of shape {shape}, not numbers of shape (time, bands) (a folder of "
            "frames holds no other arrays)"
        )
    return int(shape[0]), int(shape[1])


def _array(path: Path) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise _damaged(path, error) from error
    return found


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0]
    return DataError(f"{path}: not a readable array: {reason} (remove it and make it again)")
