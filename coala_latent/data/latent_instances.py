"""Latents in one file an instance, as LatentAudio publishes them before its projection.

Source of the layout: Henry, LatentAudio, 2024, whose scripts keep the latents of a sound file as
``FILE_X_0.npy``, ``FILE_X_1.npy`` ..., and in its first generation the labels as ``FILE_Y_0.npy``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coala_latent.data.epochs import IntArray
from coala_latent.data.latent_files import read_array
from coala_latent.data.latents import LabelledLatents, numbered, read_latents
from coala_latent.errors import DataError

__all__ = ["FinishedLatents", "Instances", "from_instances", "read_instances"]

_INSTANCE = re.compile(r"(?P<file>.+)_X_(?P<number>\d+)\.npy", re.DOTALL)


class Instances(NamedTuple):
    """Instances of a folder.

    Attributes:
        values: ``(n, dim)`` float32.
        labels: ``(n, factors)`` int64.
        recording: ``(n,)`` int64, number of the sound file in `files`.
        number: ``(n,)`` int64, of the instance within its sound file, ascending.
        files: Names of the sound files, sorted.
    """

    values: npt.NDArray[np.float32]
    labels: IntArray
    recording: IntArray
    number: IntArray
    files: tuple[str, ...]


def read_instances(
    folder: str | os.PathLike[str], labels: Mapping[str, Sequence[int]] | None = None
) -> Instances:
    """Read a folder with one file an instance; a map becomes one row, of any shape.

    Args:
        folder: Where ``FILE_X_NUMBER.npy`` are.
        labels: Numbers of the classes by the beginning of a file's name, such as
            ``{"WT": [0, 0]}``; the longest that fits counts. None: in ``FILE_Y_NUMBER.npy``.

    Raises:
        DataError: There are none, a file has no label, or the files do not go together.
    """
    root = Path(folder)
    places: list[tuple[str, int, Path]] = []
    for path in root.iterdir() if root.is_dir() else ():
        if found := _INSTANCE.fullmatch(path.name):
            places.append((found["file"], int(found["number"]), path))
    if not places:
        raise DataError(f"{root}: no instances (files named FILE_X_NUMBER.npy)")
    places.sort(key=lambda place: place[:2])
    files = tuple(dict.fromkeys(file for file, _, _ in places))
    axes = tuple(range(1, 6))
    first = read_array(places[0][2], axes, np.float32).size
    values = np.empty((len(places), first), np.float32)
    rows: list[list[int]] = []
    for row, (file, _, path) in enumerate(places):
        value = read_array(path, axes, np.float32)
        if value.size != first:
            raise DataError(f"{path}: has {value.size} values, {places[0][2].name} has {first}")
        values[row] = value.ravel()
        if labels is None:
            label = read_array(root / f"{file}_Y_{path.stem.rsplit('_', 1)[1]}.npy", 1, np.int64)
            rows.append(label.tolist())
        else:
            rows.append(list(labels[_prefix(file, labels, path)]))
        if len(rows[row]) != len(rows[0]):
            raise DataError(f"{path}: has {len(rows[row])} labels, {files[0]} has {len(rows[0])}")
    index = {file: place for place, file in enumerate(files)}
    return Instances(
        values,
        np.array(rows, dtype=np.int64),
        np.array([index[file] for file, _, _ in places], dtype=np.int64),
        np.array([number for _, number, _ in places], dtype=np.int64),
        files,
    )


def _prefix(file: str, labels: Mapping[str, Sequence[int]], path: Path) -> str:
    fitting = [prefix for prefix in labels if file.startswith(prefix)]
    if not fitting:
        raise DataError(f"{path}: no labels for {file} (add the beginning of its name to the map)")
    return max(fitting, key=len)


def from_instances(
    folder: str | os.PathLike[str],
    labels: Mapping[str, Sequence[int]] | None = None,
    *,
    factors: Sequence[str] | None = None,
    classes: Sequence[Sequence[str]] | None = None,
    hop_seconds: float = 0.48,
    window_seconds: float = 0.96,
) -> LabelledLatents:
    """Latents of a folder with one file an instance, see `read_instances`.

    Args:
        folder: Where the files are.
        labels: See `read_instances`.
        factors: Names of the factors.
        classes: Names of each factor's classes.
        hop_seconds: From one instance of a sound file to the next.
        window_seconds: Length of an instance; ``0.96 + (n - 1) * 0.48`` for the mean of n patches.

    Raises:
        DataError: As `read_instances`, or the labels and names do not go together.
    """
    found = read_instances(folder, labels)
    tops = [int(column.max()) + 1 for column in found.labels.T]
    start = found.number.astype(np.float64) * hop_seconds
    return LabelledLatents(
        values=found.values,
        labels=found.labels,
        factors=tuple(factors or numbered("factor", len(tops))),
        classes=tuple(map(tuple, classes or [numbered("", top) for top in tops])),
        recording=found.recording,
        take=found.recording,
        start=start,
        end=start + window_seconds,
    )


class FinishedLatents:
    """Latents that were made before: a folder of `write_latents`, or of one file an instance.

    Args:
        root: The folder.
        factors: Names of the factors, instead of those in the folder.
        class_names: Names of each factor's classes, likewise.
        keep: Classes to keep, by factor, see `LabelledLatents.subset`; None for all.
        prefixes: Labels by the beginning of a file's name, see `read_instances`.
        hop_seconds: See `from_instances`, like the next.
        window_seconds: Length of an instance.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        factors: Sequence[str] | None = None,
        class_names: Sequence[Sequence[str]] | None = None,
        keep: Mapping[str, Sequence[str | int]] | None = None,
        prefixes: Mapping[str, Sequence[int]] | None = None,
        hop_seconds: float = 0.48,
        window_seconds: float = 0.96,
    ) -> None:
        self.root = Path(root)
        self.factors = factors
        self.class_names = class_names
        self.keep = keep
        self.prefixes = prefixes
        self.hop_seconds = hop_seconds
        self.window_seconds = window_seconds

    def load(self) -> LabelledLatents:
        """Read the rows to keep.

        Raises:
            DataError: The folder has no latents, or they do not go together.
        """
        if (self.root / "X.npy").exists() or not any(self.root.glob("*_X_*.npy")):
            latents = read_latents(self.root, factors=self.factors, classes=self.class_names)
        else:
            latents = from_instances(
                self.root,
                self.prefixes,
                factors=self.factors,
                classes=self.class_names,
                hop_seconds=self.hop_seconds,
                window_seconds=self.window_seconds,
            )
        return latents.subset(self.keep) if self.keep else latents

    def describe(self) -> dict[str, Any]:
        """What the latents are, as JSON-able values without paths."""
        kept = {factor: list(classes) for factor, classes in (self.keep or {}).items()}
        return {"name": "finished latents", **({"keep": kept} if kept else {})}
