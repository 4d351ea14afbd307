"""Tables about recordings, and which line of them belongs to which sound.

CSV, TSV, JSON Lines, and the tables of FMA (Defferrard et al., "FMA: A Dataset For Music Analysis",
2017): ``tracks.csv`` with its three lines of headings, ``raw_tracks.csv``, and sound-eval's
``track_info.csv``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from coala_latent.audio.io import AUDIO_SUFFIXES
from coala_latent.data.layouts.files import read_text
from coala_latent.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

__all__ = ["KEYS", "MetadataTable", "Value", "read_metadata"]

Value: TypeAlias = str | float | None

# Headings that name the recording, the first found is used.
KEYS = ("filename", "file", "path", "id", "track_id")

_DELIMITERS = (",", "\t", ";")
# Of FMA's groups of columns, those about the recording itself need no prefix.
_OWN_GROUPS = ("track", "set")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*|(?=\.[0-9]))(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_DIGITS = re.compile(r"[0-9]{1,18}")
_MISSING = frozenset({"", "nan"})
_SUFFIXES = AUDIO_SUFFIXES | {".npy"}

_T = TypeVar("_T")


@dataclass(frozen=True)
class MetadataTable:
    """What a table says about recordings.

    Attributes:
        columns: By heading, one value a recording: floats in a column of numbers, else text; None
            where nothing is written. The column of names is not among them.
        names: Of the recordings: relative paths with ``/``, or ids; each once.
        key: Heading of the column that the names come from.
        dropped: Lines left out, because their recording was there already or has no name.
    """

    columns: dict[str, list[Value]]
    names: list[str]
    key: str
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def column(self, name: str) -> list[Value]:
        """The values of a column.

        Raises:
            DataError: There is none of that name.
        """
        if name not in self.columns:
            raise DataError(f"no column {name!r}; there are {', '.join(self.columns)}")
        return self.columns[name]

    def rows(self, paths: Sequence[str]) -> list[int | None]:
        """The line of each recording, or None.

        A line is found by the relative path, else by the path without suffix, the file name, the
        name without suffix, or a number: track 2 is ``000/000002.mp3``. A file name, a bare name or
        a number counts only where one line and one of the recordings has it, and no line counts for
        recordings that have different paths without suffix.

        Args:
            paths: Relative paths of the recordings; a path may be there more than once.
        """
        wanted = list(dict.fromkeys(map(_normal, paths)))
        names = [_normal(name) for name in self.names]
        found: dict[str, int] = {}
        for step in _STEPS:
            lines = _unambiguous((step.of_name(name), row) for row, name in enumerate(names))
            sounds = _unambiguous((step.of_path(path), _bare(path)) for path in wanted)
            taken = frozenset() if step.shared else frozenset(found.values())
            for path in wanted:
                key = step.of_path(path)
                row = lines.get(key)
                alone = step.shared or key in sounds
                if path not in found and row is not None and row not in taken and alone:
                    found[path] = row
        return [found.get(_normal(path)) for path in paths]

    def joined(self, paths: Sequence[str]) -> dict[str, list[Value]]:
        """Every column with one value for each path; None where the table has no line for it."""
        rows = self.rows(paths)
        return {
            name: [None if row is None else values[row] for row in rows]
            for name, values in self.columns.items()
        }

    def matched(self, paths: Sequence[str]) -> int:
        """How many of the paths have a line."""
        return sum(row is not None for row in self.rows(paths))


def read_metadata(path: Path, key: str | None = None) -> MetadataTable:
    """Read a table: ``.csv`` (with commas, tabs or semicolons), ``.tsv``, ``.jsonl`` or ``.json``.

    Args:
        path: UTF-8, with or without byte order mark.
        key: Heading of the column that names the recordings; by default the first there is of
            `KEYS`, in any case.

    Raises:
        DataError: It cannot be read, names no recordings, or a line does not fit.
    """
    text = read_text(path)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        headings, lines = _json_lines(path, text)
        column = _key_column(headings, key)
    else:
        headings, lines, column = _csv_lines(path, text, key)
    if column is None:
        wanted = repr(key) if key is not None else " or ".join(KEYS)
        raise DataError(
            f"{path}: no column {wanted} that names the recordings; there are "
            f"{', '.join(headings) or 'none'} (name one of them with --key)"
        )
    return _table(headings, lines, column)


def _table(headings: list[str], lines: Iterable[list[str]], column: int) -> MetadataTable:
    names: dict[str, str] = {}
    kept: list[list[str]] = []
    total = 0
    for line in lines:
        total += 1
        name = line[column].strip().replace("\\", "/").removeprefix("./")
        identity = _normal(name)
        if name and identity not in names:
            names[identity] = name
            kept.append(line)
    columns = {
        heading: _column([line[place] for line in kept])
        for place, heading in enumerate(headings)
        if place != column
    }
    return MetadataTable(columns, list(names.values()), headings[column], total - len(kept))


def _column(texts: Iterable[str]) -> list[Value]:
    """Floats where all that is written are numbers, else the texts."""
    stripped = [text.strip() for text in texts]
    written = [text for text in stripped if text.lower() not in _MISSING]
    # 007 is a name, and 1e999 no number that a float can hold.
    if all(_NUMBER.fullmatch(text) and math.isfinite(float(text)) for text in written):
        return [None if text.lower() in _MISSING else float(text) for text in stripped]
    return [text or None for text in stripped]


def _key_column(headings: Sequence[str], key: str | None) -> int | None:
    if key is not None:
        return headings.index(key) if key in headings else None
    folded = [heading.casefold() for heading in headings]
    return next((folded.index(name) for name in KEYS if name in folded), None)


def _csv_lines(
    path: Path, text: str, key: str | None
) -> tuple[list[str], list[list[str]], int | None]:
    """Headings, lines as long as these, and the place of the key."""
    tabs = path.suffix.lower() in (".tsv", ".tab")
    try:
        for delimiter in ("\t",) if tabs else _DELIMITERS:
            headings, used = _headings(_reader(text, delimiter))
            column = 0 if used == 3 and key is None else _key_column(headings, key)
            if column is not None:
                break
        else:
            headings, _ = _headings(_reader(text, "\t" if tabs else _DELIMITERS[0]))
            return headings, [], None
        reader = _reader(text, delimiter)
        lines = []
        for number, line in enumerate(reader):
            if number < used or not line:
                continue
            if len(line) > len(headings):
                raise DataError(
                    f"{path}: line {reader.line_num} has {len(line)} values for "
                    f"{len(headings)} columns (quote values that contain {delimiter!r})"
                )
            lines.append(line + [""] * (len(headings) - len(line)))
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table: {error}") from error
    return headings, lines, column


def _reader(text: str, delimiter: str) -> CsvReader:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _headings(lines: Iterable[list[str]]) -> tuple[list[str], int]:
    """The headings, and how many lines they take: three in FMA's ``tracks.csv``."""
    first, second, third = (*islice(lines, 3), [], [], [])[:3]
    if third[:1] == ["track_id"] and not any(third[1:]) and first[:1] == [""]:
        groups = zip_longest(first, second, fillvalue="")
        names = [
            name if group in _OWN_GROUPS else ".".join(filter(None, (group, name)))
            for group, name in groups
        ]
        return _distinct(["track_id", *names[1:]]), 3
    return _distinct([name.strip() for name in first]), 1


def _distinct(names: Iterable[str]) -> list[str]:
    """Every column with a name of its own."""
    found: list[str] = []
    for place, name in enumerate(names, start=1):
        wanted = name or f"column {place}"
        number = 2
        while wanted in found:
            wanted, number = f"{name or f'column {place}'} ({number})", number + 1
        found.append(wanted)
    return found


def _json_lines(path: Path, text: str) -> tuple[list[str], list[list[str]]]:
    """Headings and values as text, of an object a line or of one list of objects."""
    try:
        if path.suffix.lower() == ".json":
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(records, list) or not all(isinstance(line, dict) for line in records):
        raise DataError(f"{path}: not a list of objects, one for each recording")
    headings = list(dict.fromkeys(str(name) for line in records for name in line))
    return headings, [[_text(line.get(name)) for name in headings] for line in records]


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _normal(path: str) -> str:
    """A path as others may write it: one kind of slash, composed letters, without ``./``."""
    composed = path if path.isascii() else unicodedata.normalize("NFC", path)
    parts = composed.replace("\\", "/").split("/")
    normal = "/".join(part for part in parts if part not in ("", "."))
    inner = normal.removesuffix(".npy")
    # The frames of a sound go by the name of the sound.
    return inner if _suffix(inner) else normal


def _suffix(path: str) -> str:
    """The suffix of a sound or an array; any other dot belongs to the name."""
    stem, dot, letters = path.rpartition("/")[2].rpartition(".")
    suffix = dot + letters
    return suffix if stem and suffix.lower() in _SUFFIXES else ""


def _bare(path: str) -> str:
    """The path without suffix."""
    return path.removesuffix(_suffix(path))


def _file_name(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return _file_name(_bare(path))


def _number_named(name: str) -> int | None:
    """The number that is all of a line's name: an id."""
    stem = _stem(name)
    return int(stem) if _DIGITS.fullmatch(stem) else None


def _number_within(path: str) -> int | None:
    """The only number in a file's name."""
    numbers = _DIGITS.findall(_stem(path))
    return int(numbers[0]) if len(numbers) == 1 else None


@dataclass(frozen=True)
class _Step:
    """One way to find a line: equal keys of its name and of a path.

    `shared`: the key says which recording it is, so that several files may have it.
    """

    of_name: Callable[[str], Hashable]
    of_path: Callable[[str], Hashable]
    shared: bool = False


_STEPS = (
    _Step(str, str, shared=True),
    _Step(_bare, _bare, shared=True),
    _Step(_file_name, _file_name),
    _Step(_stem, _stem),
    _Step(_number_named, _number_within),
)


def _unambiguous(pairs: Iterable[tuple[Hashable, _T]]) -> dict[Hashable, _T]:
    """What a key stands for, where that is only one thing; None is no key."""
    found: dict[Hashable, _T] = {}
    several: set[Hashable] = {None}
    for key, value in pairs:
        if found.setdefault(key, value) != value:
            several.add(key)
    return {key: value for key, value in found.items() if key not in several}
