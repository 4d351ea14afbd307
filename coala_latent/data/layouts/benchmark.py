"""What a benchmark's reader hands on, and how listed names become files or a list of missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError

__all__ = ["TEST", "TRAIN", "Benchmark", "Item", "assemble"]

TRAIN, TEST = "train", "test"
_SHOWN = 3  # of the missing files, in a message


@dataclass(frozen=True)
class Item:
    """One sound as a benchmark lists it.

    Attributes:
        name: Path or name in the list.
        label: Its class.
        part: The fold that tests it, or `TRAIN` or `TEST`.
        group: Recording, source or instrument; items of a group resemble each other.
    """

    name: str
    label: str
    part: str
    group: str


@dataclass(frozen=True, eq=False)
class Benchmark:
    """The files of a data set with labels, and its own folds or split.

    Attributes:
        name: Of the data set.
        root: Where it was found.
        paths: Files, sounds or stored embeddings.
        labels: ``(n,)`` class of each.
        parts: ``(n,)``: the fold that tests each, or with `fixed` ``"train"`` or ``"test"``.
        groups: ``(n,)``, see `Item`.
        fixed: One split into training and test items rather than folds.
        missing: Listed names without a file.
        left_out: How many items do not take part, by reason.
        published: Sizes of the complete data set: ``"sounds"``, or by part.
    """

    name: str
    root: Path
    paths: list[Path]
    labels: npt.NDArray[np.str_]
    parts: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    fixed: bool
    missing: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    published: dict[str, int] = field(default_factory=dict)

    @property
    def found(self) -> dict[str, int]:
        """Sizes to compare with `published`."""
        parts = Counter(self.parts.tolist())
        return {key: len(self.paths) if key == "sounds" else parts[key] for key in self.published}


def assemble(
    name: str,
    root: Path,
    items: Sequence[Item],
    find: Callable[[Item], Path | None],
    *,
    fixed: bool,
    allow_missing: bool = False,
    left_out: Mapping[str, int] | None = None,
    published: Mapping[str, int] | None = None,
) -> Benchmark:
    """Look up every listed item.

    Args:
        name, root, fixed, left_out, published: See `Benchmark`.
        items: What the data set lists.
        find: An item's file, or None.
        allow_missing: Leave items without a file out instead of raising.

    Raises:
        DataError: Items without a file, no item at all, or a part of a fixed split without one.
    """
    files = [find(item) for item in items]
    missing = [item.name for item, file in zip(items, files, strict=True) if file is None]
    if missing and not allow_missing:
        more = ", ..." if len(missing) > _SHOWN else ""
        raise DataError(
            f"{name}: {len(missing)} of {len(items)} listed files are not below {root}: "
            f"{', '.join(missing[:_SHOWN])}{more} (get them, or leave them out with "
            "--allow-missing)"
        )
    there = [(item, file) for item, file in zip(items, files, strict=True) if file is not None]
    if not there:
        raise DataError(f"{name}: none of {len(items)} listed files is below {root}")
    for part in (TRAIN, TEST) if fixed else ():
        if not any(item.part == part for item, _ in there):
            raise DataError(f"{name}: nothing to {part} on below {root}")
    return Benchmark(
        name=name,
        root=root,
        paths=[file for _, file in there],
        labels=np.array([item.label for item, _ in there]),
        parts=np.array([item.part for item, _ in there]),
        groups=np.array([item.group for item, _ in there]),
        fixed=fixed,
        missing=missing,
        left_out={reason: count for reason, count in (left_out or {}).items() if count},
        published=dict(published or {}),
    )
