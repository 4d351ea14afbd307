"""Latents with labels of several factors: in memory, in files, from a store.

A folder of latents holds ``X.npy`` ``(n, dim)`` and ``Y.npy`` ``(n, factors)``, as LatentAudio
(Henry, 2024) lays them out after its projection, and beside them ``T.npy`` and ``latents.json``,
which that project does not have: recording, take and times of each row, and the names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.data.epochs import IntArray
from coala_latent.data.latent_files import read_array, replace_file
from coala_latent.errors import DataError
from coala_latent.store import Store

__all__ = [
    "LabelledLatents",
    "combinations",
    "from_store",
    "label_columns",
    "numbered",
    "read_latents",
    "write_latents",
]

FORMAT, VERSION = "coala_latent.latents", 1
_TIMES = ("recording", "take", "start", "end")

Wanted = Mapping[Any, Sequence[Any]]


@dataclass(frozen=True)
class LabelledLatents:
    """Rows of latents, each with its class of every factor.

    Attributes:
        values: ``(n, dim)`` float32; may be memory-mapped.
        labels: ``(n, factors)`` int64, numbers of classes.
        factors: Names of the factors, such as material and action.
        classes: Names of each factor's classes.
        recording: ``(n,)`` int64, the recording a row is from.
        take: ``(n,)`` int64, what must stay on one side of a split: rows of one take share the
            object, the room or the microphone. The recording, where nothing else is known.
        start: ``(n,)`` float64, seconds within the recording; NaN where it is not known.
        end: ``(n,)`` float64, seconds.
        source: What the values are (model, layer, hash of the weights), as JSON-able values.

    Raises:
        DataError: Shapes do not go together, or a label is none of its factor's classes.
    """

    values: npt.NDArray[np.float32]
    labels: IntArray
    factors: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    recording: IntArray
    take: IntArray
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows, factors = self.values.shape[:1], len(self.factors)
        if self.values.ndim != 2 or self.labels.shape != (*rows, factors):
            raise DataError(
                f"latents: values {self.values.shape} and labels {self.labels.shape} do not go "
                f"together (they must be (n, dim) and (n, {factors}))"
            )
        for name in _TIMES:
            if getattr(self, name).shape != rows:
                raise DataError(f"latents: {name} must be one number a row, {rows[0]} in all")
        if len(self.classes) != factors or len(set(self.factors)) != factors:
            raise DataError(
                f"latents: factors {', '.join(self.factors)} with classes of {len(self.classes)} "
                "(each factor needs a name of its own and a list of classes)"
            )
        for column, (name, classes) in enumerate(zip(self.factors, self.classes, strict=True)):
            found = self.labels[:, column]
            if len(found) and not 0 <= found.min() <= found.max() < len(classes):
                raise DataError(
                    f"latents: labels of {name} go from {found.min()} to {found.max()}, but it "
                    f"has {len(classes)} classes (count them from 0)"
                )

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Number of values in a row."""
        return int(self.values.shape[1])

    @property
    def conditions(self) -> IntArray:
        """``(n,)``: number of the combination of classes that a row has, from 0 on.

        Combinations that no row has are not counted.
        """
        return combinations(self.labels)[1]

    def take_rows(self, index: npt.NDArray[Any] | slice) -> LabelledLatents:
        """The rows at `index`: numbers, a mask ``(n,)`` or a slice; in memory."""
        return replace(
            self,
            values=np.array(self.values[index]),
            labels=np.array(self.labels[index]),
            recording=np.array(self.recording[index]),
            take=np.array(self.take[index]),
            start=np.array(self.start[index]),
            end=np.array(self.end[index]),
        )

    def with_values(
        self, values: npt.NDArray[np.floating], source: Mapping[str, Any] | None = None
    ) -> LabelledLatents:
        """The same rows after a transform.

        Args:
            values: ``(n, dim)`` of any dim.
            source: What they are now; by default as before.
        """
        kept = self.source if source is None else source
        return replace(self, values=np.asarray(values, np.float32), source=kept)

    def subset(self, classes: Wanted) -> LabelledLatents:
        """The rows whose classes are among those wanted; labels are numbered anew, in that order.

        Args:
            classes: By factor (name, or number as ``0`` or ``"0"``) the classes to keep (names or
                numbers). Factors that are not named keep all of theirs.

        Raises:
            DataError: There is no such factor or class, or no row is left.
        """
        labels = np.array(self.labels)
        names, keep = list(self.classes), np.ones(len(self), dtype=bool)
        for factor, wanted in classes.items():
            column = _number(factor, self.factors, "factor")
            chosen = [_number(each, self.classes[column], self.factors[column]) for each in wanted]
            if not chosen or len(set(chosen)) < len(chosen):
                raise DataError(f"{self.factors[column]}: name at least one class, each once")
            position = np.full(len(self.classes[column]), -1, dtype=np.int64)
            position[chosen] = np.arange(len(chosen))
            labels[:, column] = position[self.labels[:, column]]
            keep &= labels[:, column] >= 0
            names[column] = tuple(self.classes[column][number] for number in chosen)
        if not keep.any():
            raise DataError(f"no row has the classes {dict(classes)} (keep others)")
        labels[~keep] = 0
        return replace(self, labels=labels, classes=tuple(names)).take_rows(keep)


def _number(wanted: object, names: Sequence[str], what: str) -> int:
    """Place of a name in a list; a number, also written as text, is a place itself."""
    if wanted in names:
        return names.index(str(wanted))
    if str(wanted).isdecimal() and int(str(wanted)) < len(names):
        return int(str(wanted))
    raise DataError(f"{what}: no {wanted!r} (there are {', '.join(names)})")


def combinations(labels: IntArray) -> tuple[IntArray, IntArray]:
    """The combinations of classes that occur, and which of them each row has.

    Args:
        labels: ``(n, factors)``.

    Returns:
        ``(combinations, factors)`` in ascending order, and ``(n,)``.
    """
    found, which = np.unique(labels, axis=0, return_inverse=True)
    # NumPy 2.0 alone gives it another shape.
    return found, which.reshape(-1).astype(np.int64)


def label_columns(
    rows: Sequence[Sequence[str]], classes: Sequence[Sequence[str]] | None = None
) -> tuple[IntArray, tuple[tuple[str, ...], ...]]:
    """Numbers for names of classes.

    Args:
        rows: A name for each factor, by row; one row at least.
        classes: Each factor's classes in order; by default those that occur, sorted.

    Returns:
        ``(n, factors)``, and each factor's classes.

    Raises:
        DataError: A name is none of the classes.
    """
    columns = list(zip(*rows, strict=True))
    own = tuple(map(tuple, classes or (sorted(set(column)) for column in columns)))
    numbers = [
        [_number(name, names, "label") for name in column]
        for names, column in zip(own, columns, strict=True)
    ]
    return np.array(numbers, dtype=np.int64).T.copy(), own


def write_latents(folder: str | os.PathLike[str], latents: LabelledLatents) -> Path:
    """Write a folder of latents; each file appears whole, ``Y.npy`` as the last.

    Args:
        folder: Made if missing; latents in it are replaced.
        latents: What to write.

    Returns:
        The folder.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    # Without it nothing in the folder counts, so an interrupted run leaves no mixture.
    (root / "Y.npy").unlink(missing_ok=True)
    times = np.stack([getattr(latents, name).astype(np.float64) for name in _TIMES], axis=1)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "factors": latents.factors,
        "classes": latents.classes,
        "source": dict(latents.source),
    }
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    for name, values in (("X", latents.values), ("T", times)):
        replace_file(root / f"{name}.npy", partial(np.save, arr=values, allow_pickle=False))
    replace_file(root / "latents.json", lambda file: file.write(text.encode("utf-8")))
    replace_file(root / "Y.npy", partial(np.save, arr=latents.labels, allow_pickle=False))
    return root


def read_latents(
    folder: str | os.PathLike[str],
    *,
    mmap: bool = False,
    factors: Sequence[str] | None = None,
    classes: Sequence[Sequence[str]] | None = None,
) -> LabelledLatents:
    """Read a folder of latents; one with ``X.npy`` and ``Y.npy`` alone will do.

    Of such a one, recordings and times are not known: every combination of classes counts as one
    recording, as in the original's data, and times are NaN.

    Args:
        folder: Where the files are.
        mmap: Leave the values on disk until rows are taken. They must be float32 then, and are not
            searched for NaN.
        factors: Names of the factors, instead of those in ``latents.json``.
        classes: Names of each factor's classes, likewise.

    Raises:
        DataError: A file is missing or damaged, or the files do not go together.
    """
    root = Path(folder)
    values = read_array(root / "X.npy", 2, np.float32, mmap=mmap)
    labels = read_array(root / "Y.npy", (1, 2), np.int64)
    labels = labels[:, None] if labels.ndim == 1 else labels
    if len(labels) != len(values):
        raise DataError(
            f"{root}: X.npy has {len(values)} rows and Y.npy {len(labels)} (write them together)"
        )
    about = _about(root / "latents.json")
    names = tuple(factors or about.get("factors") or numbered("factor", labels.shape[1]))
    known = classes or about.get("classes")
    tops = [int(column.max(initial=0)) + 1 for column in labels.T]
    own = tuple(map(tuple, known)) if known else tuple(numbered("", top) for top in tops)
    times = _times(root / "T.npy", labels)
    try:
        return LabelledLatents(values, labels, names, own, *times, about.get("source") or {})
    except DataError as error:
        raise DataError(f"{root}: {error}") from error


Times = tuple[IntArray, IntArray, npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _times(path: Path, labels: IntArray) -> Times:
    if not path.exists():
        condition, unknown = combinations(labels)[1], np.full(len(labels), np.nan)
        return condition, condition, unknown, unknown
    times = read_array(path, 2, np.float64, finite=False)
    shape = (len(labels), len(_TIMES))
    if times.shape != shape or not np.isfinite(times[:, :2]).all():
        raise DataError(
            f"{path}: must be {shape}: recording, take, start and end of each row (write the "
            "latents again, or remove it)"
        )
    recording, take = times[:, :2].astype(np.int64).T.copy()
    start, end = times[:, 2:].T.copy()
    return recording, take, start, end


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """Names for what has none: ``factor1``, ``factor2``; without a prefix ``0``, ``1``."""
    return tuple(f"{prefix}{number + bool(prefix)}" for number in range(count))


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error} (write the latents again)") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise DataError(f"{path}: does not describe latents (remove it, or write them again)")
    if about.get("version") != VERSION:
        raise DataError(
            f"{path}: version {about.get('version')}, this package reads {VERSION} (use a later "
            "package, or write the latents again)"
        )
    return about


def from_store(
    path: str | os.PathLike[str],
    table: Mapping[str, Sequence[str]],
    factors: Sequence[str],
    takes: Mapping[str, str] | None = None,
    classes: Sequence[Sequence[str]] | None = None,
) -> LabelledLatents:
    """Rows of an embedding store with the classes of their files.

    Args:
        path: The store.
        table: Classes of each file, one a factor, by the path that the store has. Files that are
            only in the table are left out.
        factors: Names of the factors.
        takes: Take of each file; by default each file is one.
        classes: Each factor's classes in the order they are numbered in; by default those that
            occur, sorted.

    Raises:
        DataError: A file with rows is not in the table, or has not one class a factor.
        StoreError: The store cannot be read.
    """
    with Store(Path(path)) as store:
        with_rows = [number for number, record in enumerate(store.files) if record.rows]
        names = [store.files[number].path for number in with_rows]
        for name in names:
            if name not in table:
                raise DataError(f"{path}: {name} is not in the table of labels (add it)")
            if len(table[name]) != len(factors):
                raise DataError(
                    f"{path}: {name} has {len(table[name])} labels for {len(factors)} factors"
                )
        if not names:
            raise DataError(f"{path}: has no rows (encode some sounds)")
        labels, names_of = label_columns([table[name] for name in names], classes)
        place = np.full(len(store.files), -1, dtype=np.int64)
        place[with_rows] = np.arange(len(with_rows))
        recording = place[store.file[:]]
        if takes is not None and (missing := sorted(set(names) - set(takes))):
            raise DataError(f"{path}: no take of {missing[0]} (name one for every file)")
        own = [name if takes is None else takes[name] for name in names]
        take = np.unique(own, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return LabelledLatents(
            values=store.values[:].astype(np.float32, copy=False),
            labels=labels[recording],
            factors=tuple(factors),
            classes=names_of,
            recording=recording,
            take=take[recording],
            start=store.start[:],
            end=store.end[:],
            source=asdict(store.identity),
        )
