"""Folders with one sub-folder a class, their folds, and what of them cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.folds import Fold, fixed_folds, grouped_folds
from coala_latent.audio.io import find_audio
from coala_latent.data.layouts.esc import esc_name
from coala_latent.errors import DataError
from coala_latent.tasks.progress import console

__all__ = [
    "Folds",
    "LabelledSounds",
    "captured_group",
    "esc_folds",
    "labelled_folder",
    "make_folds",
    "printable",
    "report_skipped",
    "summary_of",
    "usable",
]


@dataclass(frozen=True)
class LabelledSounds:
    """A folder with one sub-folder a class.

    Attributes:
        root: The folder.
        paths: Sounds.
        labels: Class of each: the name of its sub-folder.
        groups: What must stay on one side of a split.
    """

    root: Path
    paths: list[Path]
    labels: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]

    def take(self, keep: npt.NDArray[np.bool_]) -> LabelledSounds:
        """Those where `keep` is true."""
        paths = [path for path, kept in zip(self.paths, keep, strict=True) if kept]
        return LabelledSounds(self.root, paths, self.labels[keep], self.groups[keep])


def labelled_folder(root: Path, group: str | None = None) -> LabelledSounds:
    """Sounds of a folder per class.

    Args:
        root: The folder.
        group: Regular expression searched in each file name (without suffix); what its first
            group captures, within the class, stays on one side of every split. None puts each
            file in a group of its own.

    Raises:
        DataError: Fewer than two classes, a wrong expression, or a name it does not match.
    """
    paths = [path for path in find_audio(root) if path.parent != root]
    labels = [path.relative_to(root).parts[0] for path in paths]
    if len(set(labels)) < 2:
        raise DataError(f"{root}: needs a sub-folder for each of two or more classes")
    if group is None:
        groups = [path.relative_to(root).as_posix() for path in paths]
    else:
        groups = [
            f"{label}/{captured_group(group, path)}"
            for path, label in zip(paths, labels, strict=True)
        ]
    return LabelledSounds(root, paths, np.array(labels), np.array(groups))


def captured_group(expression: str, path: PurePath) -> str:
    """What the first group of an expression captures in a file's name without suffix.

    Raises:
        DataError: It is no expression, has no group, or does not match.
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"group expression {expression!r}: {error}") from error
    if pattern.groups < 1:
        raise DataError(
            f"group expression {expression!r} captures nothing: put () around the group"
        )
    match = pattern.search(path.stem)
    if match is None:
        raise DataError(f"{path}: its name does not match the group expression {expression!r}")
    return match.group(1)


def esc_folds(sounds: LabelledSounds) -> list[Fold]:
    """The data set's own folds: the first digit of each file name.

    Raises:
        DataError: A name is not of the ESC pattern.
    """
    return fixed_folds([esc_name(path)["fold"] for path in sounds.paths])


Folds: TypeAlias = Callable[[LabelledSounds], list[Fold]] | int


def make_folds(sounds: LabelledSounds, folds: Folds, seed: int) -> list[Fold]:
    """That many grouped folds, or what the function makes."""
    if isinstance(folds, int):
        return grouped_folds(sounds.labels, sounds.groups, folds, seed)
    return folds(sounds)


def usable(sounds: LabelledSounds, skipped: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    """Which sounds are not among the skipped ones ``path: reason``.

    Raises:
        DataError: Nothing is left of a class.
    """
    keep = np.array([str(path) not in skipped for path in sounds.paths])
    for label in sorted(set(sounds.labels.tolist()) - set(sounds.labels[keep].tolist())):
        path = sounds.paths[int(np.flatnonzero(sounds.labels == label)[0])]
        raise DataError(
            f"no sound of class {label} can be used; the first, {path.name}: {skipped[str(path)]}"
        )
    return keep


def summary_of(
    sounds: LabelledSounds, folds: Collection[Fold], seed: int, skipped: Mapping[str, str]
) -> dict[str, Any]:
    """What a probe was run on, for JSON."""
    return {
        "root": printable(sounds.root),
        "sounds": len(sounds.paths),
        "classes": sorted(set(sounds.labels.tolist())),
        "folds": len(folds),
        "groups": len(set(sounds.groups.tolist())),
        "seed": seed,
        "skipped": {printable(path): printable(why) for path, why in skipped.items()},
    }


def printable(text: object) -> str:
    """As it can be written to a UTF-8 file: bytes of a name that are not text are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def report_skipped(result: Mapping[str, Any]) -> None:
    """Name the sounds that were left out."""
    for path, reason in result["skipped"].items():
        console().print(f"skipped {path}: {reason}", markup=False, soft_wrap=True)
