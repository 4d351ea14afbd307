"""Recordings and their class of every factor: from file names, tables, folders.

LatentAudio (Henry, 2024) reads two factors from a file's name, ``<material><action>.wav``. Here any
number of factors comes from named groups of a regular expression, from the columns of a table or
from the levels of folders. A group, column or level named ``take`` is no factor: it says what must
stay on one side of a split, such as a session, an object or a microphone.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coala_latent.audio.io import find_audio
from coala_latent.data.layouts.files import read_text
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "TAKE",
    "FactorTable",
    "factors_from_builtin",
    "factors_from_folders",
    "factors_from_names",
    "factors_from_table",
    "parse_classes",
]

TAKE = "take"
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class FactorTable:
    """Recordings with labels.

    Attributes:
        root: The folder that `names` are relative to.
        names: Of the recordings, each once, with ``/``.
        paths: The files.
        factors: Names of the factors.
        classes: Names of each factor's classes.
        labels: ``(recordings, factors)`` int64, numbers of classes.
        takes: ``(recordings,)`` int64, what must stay on one side of a split. Recordings of one
            take number share it across all classes, so that holding a take out tests every class.
            A recording is a take of its own where no takes are known.
        unmatched: ``name: reason`` of files that were left out.

    Raises:
        DataError: Nothing is left, or a name is there twice.
    """

    root: Path
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    factors: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]
    labels: npt.NDArray[np.int64]
    takes: npt.NDArray[np.int64]
    unmatched: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            reasons = [f"{name}: {why}" for name, why in self.unmatched.items()]
            raise DataError(
                f"{self.root}: no recording with labels"
                + (f"; {len(reasons)} without, the first {reasons[0]}" if reasons else "")
            )
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(f"{self.root}: {twice} is there twice (list every recording once)")
        shapes = (len(self.paths), self.labels.shape, self.takes.shape)
        wanted = len(self.names)
        if shapes != (wanted, (wanted, len(self.factors)), (wanted,)):
            raise DataError(f"{self.root}: {wanted} names, but paths, labels, takes are {shapes}")

    def __len__(self) -> int:
        return len(self.names)

    def take_rows(self, keep: npt.NDArray[Any]) -> FactorTable:
        """The recordings at `keep`, numbers or a mask; labels and takes keep their numbers."""
        index = np.arange(len(self))[keep]
        return replace(
            self,
            names=tuple(self.names[row] for row in index),
            paths=tuple(self.paths[row] for row in index),
            labels=self.labels[index],
            takes=self.takes[index],
        )

    def subset(self, classes: Mapping[str, Sequence[str]]) -> FactorTable:
        """The recordings whose classes are among those wanted; labels are numbered in that order.

        Args:
            classes: Classes to keep by factor. Factors that are not named keep all of theirs.

        Raises:
            DataError: There is no such factor or class, or no recording is left.
        """
        labels, names = self.labels.copy(), list(self.classes)
        for factor, wanted in classes.items():
            if factor not in self.factors:
                raise DataError(f"no factor {factor!r}; there are {', '.join(self.factors)}")
            column = self.factors.index(factor)
            known = self.classes[column]
            if unknown := [name for name in wanted if name not in known]:
                raise DataError(f"{factor}: no class {unknown[0]!r}; there are {', '.join(known)}")
            if not wanted or len(set(wanted)) < len(wanted):
                raise DataError(f"{factor}: name at least one class, each once")
            place = {known.index(name): number for number, name in enumerate(wanted)}
            labels[:, column] = [place.get(label, -1) for label in self.labels[:, column]]
            names[column] = tuple(wanted)
        changed = replace(self, labels=labels, classes=tuple(names))
        return changed.take_rows((labels >= 0).all(axis=1))

    def missing(self) -> list[tuple[str, ...]]:
        """Combinations of classes that no recording has; none where the design is crossed."""
        found = {tuple(row) for row in self.labels.tolist()}
        return [
            tuple(names[label] for names, label in zip(self.classes, combination, strict=True))
            for combination in product(*(range(len(names)) for names in self.classes))
            if combination not in found
        ]

    def to_dict(self) -> dict[str, Any]:
        """What there is, for JSON."""
        return {
            "root": str(self.root),
            "recordings": len(self),
            "takes": len(np.unique(self.takes)),
            "factors": dict(zip(self.factors, map(list, self.classes), strict=True)),
            "missing": [list(combination) for combination in self.missing()],
            "unmatched": dict(self.unmatched),
        }


def factors_from_names(
    folder: Path,
    pattern: str,
    classes: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    *,
    match: Literal["name", "path"] = "name",
) -> FactorTable:
    """Factors from the names of the sound files below a folder.

    Args:
        folder: The folder.
        pattern: Regular expression that a whole name has to match. Each named group is a factor,
            ``(?P<material>[WMGSCP])(?P<action>[TRDW])`` for example, and ``(?P<take>...)`` the
            take.
        classes: By factor, what the group finds and the class it means, ``{"W": "wood"}``; classes
            are numbered in this order. What is not in it is no class. Factors without have the
            texts themselves as classes, sorted.
        match: ``"name"`` without folders and suffix, or ``"path"`` below the folder without suffix.

    Raises:
        ConfigError: The expression is none, names no factor, or `classes` names another one.
        DataError: No name matches.
        AudioNotFoundError: The folder does not exist.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"pattern {pattern!r} is no regular expression: {error}") from error
    factors = tuple(name for name in expression.groupindex if name != TAKE)
    if not factors:
        raise ConfigError(f"pattern {pattern!r} names no factor: write (?P<material>...)")
    if unknown := sorted(set(classes) - set(factors)):
        raise ConfigError(f"classes of {unknown[0]}, but the pattern names {', '.join(factors)}")
    if match not in ("name", "path"):
        raise ConfigError(f"match must be name or path, not {match!r}")
    entries = []
    for path in find_audio(folder):
        relative = path.relative_to(folder)
        text = path.stem if match == "name" else relative.with_suffix("").as_posix()
        found = expression.fullmatch(text)
        values = found.groupdict() if found else f"its name does not match {pattern}"
        entries.append((relative.as_posix(), path, values))
    return _table(Path(folder), entries, factors, classes)


def factors_from_folders(folder: Path, levels: Sequence[str]) -> FactorTable:
    """Factors from folders: ``wood/tap/1.wav`` for the levels material and action.

    Args:
        folder: The folder above them.
        levels: A name for each level of folders, ``take`` for the take's. Further folders below
            do not matter.

    Raises:
        ConfigError: No level is a factor.
        DataError: No sound lies so deep.
        AudioNotFoundError: The folder does not exist.
    """
    factors = _factor_names(levels)
    entries: list[_Entry] = []
    for path in find_audio(folder):
        relative = path.relative_to(folder)
        folders = relative.parts[:-1]
        deep = len(folders) >= len(levels)
        values = (
            dict(zip(levels, folders, strict=False))
            if deep
            else f"in {len(folders)} folder(s), not {len(levels)}"
        )
        entries.append((relative.as_posix(), path, values))
    return _table(Path(folder), entries, factors, {})


def factors_from_table(
    table: Path,
    folder: Path | None = None,
    *,
    factors: Sequence[str],
    path: str = "path",
    take: str | None = None,
) -> FactorTable:
    """Factors from the columns of a table.

    Args:
        table: A header and a line a recording; ``.tsv`` has tabs between fields, ``.jsonl`` an
            object a line, anything else commas.
        folder: What the table's paths are relative to; the table's own folder by default.
        factors: Names of the columns.
        path: Name of the column of files.
        take: Name of the column of takes.

    Raises:
        ConfigError: No factor is named.
        DataError: The table is missing or damaged, lacks a column, or no line can be used.
    """
    names = _factor_names(factors)
    root = Path(folder) if folder is not None else table.parent
    entries: list[_Entry] = []
    wanted = [path, *names, *([] if take is None else [take])]
    for line, row in _rows(table):
        if lacking := [name for name in wanted if name not in row]:
            raise DataError(
                f"{table}: line {line} has no column {lacking[0]!r}; it has {', '.join(row)}"
            )
        name = str(row[path] or "").strip()
        if not name:
            raise DataError(f"{table}: line {line} names no file")
        values: dict[str, str | None] | str = {each: _text(row[each]) for each in names}
        if take is not None and isinstance(values, dict):
            values[TAKE] = _text(row[take])
        file = root / name
        entries.append((name, file, values if file.is_file() else "no such file"))
    return _table(root, entries, names, {})


def factors_from_builtin(folder: Path) -> FactorTable:
    """Material, action and take of the built-in sounds, as `write_builtin` wrote them.

    Raises:
        DataError: There is no ``tags.csv``, or it is damaged.
    """
    return factors_from_table(folder / "tags.csv", factors=("material", "action"), take=TAKE)


def parse_classes(texts: Iterable[str]) -> dict[str, list[str]]:
    """``["material=wood,metal", "action=tap"]`` as `FactorTable.subset` takes it.

    Raises:
        ConfigError: A text is not of this form, or a factor is there twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        factor, equals, classes = text.partition("=")
        names = [name.strip() for name in classes.split(",")]
        if not equals or not factor.strip() or not all(names):
            raise ConfigError(f"{text!r}: write FACTOR=CLASS,CLASS such as material=wood,metal")
        if factor.strip() in found:
            raise ConfigError(f"{text!r}: {factor.strip()} is named twice")
        found[factor.strip()] = names
    return found


_Entry = tuple[str, Path, Mapping[str, str | None] | str]


def _factor_names(names: Sequence[str]) -> tuple[str, ...]:
    factors = tuple(name for name in names if name != TAKE)
    if not factors or len(set(names)) < len(names) or not all(names):
        raise ConfigError(f"factors {list(names)}: name at least one, each once, besides take")
    return factors


def _table(
    root: Path,
    entries: Sequence[_Entry],
    factors: tuple[str, ...],
    meanings: Mapping[str, Mapping[str, str]],
) -> FactorTable:
    """Entries with the texts of their factors, or the reason why there are none."""
    kept: list[tuple[str, Path, Mapping[str, str]]] = []
    unmatched = {}
    for name, path, values in entries:
        read = values if isinstance(values, str) else _meant(values, factors, meanings)
        if isinstance(read, str):
            unmatched[name] = read
        else:
            kept.append((name, path, read))
    found = [{read[factor] for _, _, read in kept} for factor in factors]
    classes = tuple(
        _ordered(texts, meanings.get(factor, _NOTHING))
        for factor, texts in zip(factors, found, strict=True)
    )
    labels = [
        [names.index(read[factor]) for factor, names in zip(factors, classes, strict=True)]
        for _, _, read in kept
    ]
    takes = [("take", read[TAKE]) if TAKE in read else ("file", name) for name, _, read in kept]
    numbers = {take: number for number, take in enumerate(sorted(set(takes)))}
    return FactorTable(
        root=root,
        names=tuple(name for name, _, _ in kept),
        paths=tuple(path for _, path, _ in kept),
        factors=factors,
        classes=classes,
        labels=np.array(labels, dtype=np.int64).reshape(-1, len(factors)),
        takes=np.array([numbers[take] for take in takes], dtype=np.int64),
        unmatched=unmatched,
    )


def _meant(
    values: Mapping[str, str | None],
    factors: Sequence[str],
    meanings: Mapping[str, Mapping[str, str]],
) -> dict[str, str] | str:
    """Class of each factor, and the take if there is one; or what is wrong."""
    read = {}
    for name in (*factors, TAKE):
        text = values.get(name)
        if text:
            if name in meanings and text not in meanings[name]:
                known = ", ".join(meanings[name])
                return f"{name} {text!r} is none of {known}"
            read[name] = meanings.get(name, _NOTHING).get(text, text)
        elif name != TAKE or name in values:
            return f"no {name}"
    return read


def _ordered(found: set[str], meanings: Mapping[str, str]) -> tuple[str, ...]:
    listed = [name for name in dict.fromkeys(meanings.values()) if name in found]
    return tuple(listed) if meanings else tuple(sorted(found))


def _text(value: Any) -> str | None:
    """A label as text; None where there is none."""
    return None if value is None else str(value).strip()


def _rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = read_text(table)
    if table.suffix == ".jsonl":
        # Not splitlines, which also splits at characters that JSON strings may hold.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, _json_object(line, f"{table}: line {number}")
        return
    delimiter = "\t" if table.suffix == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{table}: line {reader.line_num} has more or fewer fields than the header"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num}: {error}") from error


def _json_object(line: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} is not an object")
    return value
