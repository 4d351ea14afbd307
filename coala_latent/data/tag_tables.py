"""Which sounds there are and what people say about them: tables, or the names of folders."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coala_latent.audio.io import find_audio
from coala_latent.errors import ConfigError, DataError

__all__ = ["TableColumns", "TaggedFile", "find_group", "folder_tags", "read_excluded", "read_table"]

_SEPARATORS = re.compile(r"[;|,]")


@dataclass(frozen=True)
class TaggedFile:
    """A sound and what is said about it, before anything was opened.

    Attributes:
        name: As the table has it, or relative to the folder, for messages and records.
        path: The file; None where the table's entry has none.
        tags: As people wrote them.
        group: Sounds of one group are never split apart; None for a group of its own.
        number: Its id where that is a number.
    """

    name: str
    path: Path | None
    tags: tuple[str, ...]
    group: str | None
    number: int | None


@dataclass(frozen=True)
class TableColumns:
    """Names of a table's columns; None where the usual names are looked for.

    Attributes:
        path: File names below the folder; ``path``, ``file`` or ``filename``.
        id: Names of files without their suffix; ``id`` or ``fs_id``.
        tags: ``tags`` or ``tag``.
        group: Recording, uploader, pack; no column unless named.
    """

    path: str | None = None
    id: str | None = None
    tags: str | None = None
    group: str | None = None


_USUAL = {
    "path": ("path", "file", "filename"),
    "id": ("id", "fs_id"),
    "tags": ("tags", "tag"),
    "group": (),
}


def read_table(table: Path, folder: Path, columns: TableColumns) -> list[TaggedFile]:
    """The entries of a CSV, TSV or JSON Lines table, in its order.

    Args:
        table: ``.jsonl`` has an object a line, ``.tsv`` tabs between fields, anything else commas.
        folder: Where the sounds are; a table that has ids finds ``12.wav`` by ``12``, in any of its
            sub-folders.
        columns: Names of the columns.

    Raises:
        DataError: The table is missing, damaged, has no usable column or no entry.
        AudioNotFoundError: The folder is missing.
    """
    try:
        text = table.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such file (or give --tags folders)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: not readable: {error} (save it as UTF-8)") from error
    rows = list(_json_lines(text, table) if table.suffix == ".jsonl" else _csv_rows(text, table))
    if not rows:
        raise DataError(f"{table}: no entries (a header, then a line a sound)")
    known = {key for _, row in rows for key in row}
    names = {what: _column(what, getattr(columns, what), known, table) for what in _USUAL}
    if names["tags"] is None:
        raise DataError(f"{table}: no column tags (name it with --tags-column)")
    if names["path"] is None and names["id"] is None:
        raise DataError(f"{table}: no column path or id (name one with --path-column)")
    stems = _Stems(folder) if names["path"] is None else None
    return [_entry(row, f"{table}: line {line}", names, folder, stems) for line, row in rows]


def _csv_rows(text: str, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter="\t" if table.suffix == ".tsv" else ",",
        strict=True,
    )
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{table}: line {reader.line_num} has more or fewer fields than the header "
                    "(put quotes around tags with commas between them)"
                )
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise DataError(f"{table}: line {reader.line_num}: {error}") from error


def _json_lines(text: str, table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines, which also splits at characters that JSON strings may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{table}: line {number} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{table}: line {number} is not an object with tags")
        yield number, value


def _column(what: str, named: str | None, known: Collection[str], table: Path) -> str | None:
    if named is not None:
        if named not in known:
            raise DataError(f"{table}: no column {named!r}; there are {', '.join(sorted(known))}")
        return named
    return next((name for name in _USUAL[what] if name in known), None)


class _Stems:
    """Sound files of a folder by their name without suffix."""

    def __init__(self, folder: Path) -> None:
        self.found: dict[str, Path | None] = {}
        for path in find_audio(folder):
            # Two files of one name say nothing about which is meant.
            self.found[path.stem] = None if path.stem in self.found else path


def _entry(
    row: Mapping[str, Any],
    where: str,
    names: Mapping[str, str | None],
    folder: Path,
    stems: _Stems | None,
) -> TaggedFile:
    values = {what: row.get(name) if name else None for what, name in names.items()}
    identity = None if values["id"] is None else str(values["id"]).strip()
    number = int(identity) if identity and re.fullmatch(r"-?\d+", identity) else None
    path: Path | None
    if stems is None:
        name = str(values["path"] or "")
        path = folder / name
    else:
        name = identity or ""
        path = stems.found.get(name)
    if not name:
        raise DataError(f"{where}: neither a path nor an id")
    group = values["group"]
    return TaggedFile(
        name=name,
        path=path,
        tags=_written_tags(values["tags"], where),
        group=None if group in (None, "") else str(group),
        number=number,
    )


def _written_tags(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(_SEPARATORS.split(value) if _SEPARATORS.search(value) else value.split())
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(value)
    raise DataError(f"{where}: tags are neither text nor a list of texts")


def folder_tags(folder: Path) -> list[TaggedFile]:
    """Sounds in sub-folders; the names of all folders above a sound are its tags.

    Raises:
        DataError: There are none.
        AudioNotFoundError: The folder is missing.
    """
    found = [
        TaggedFile(relative.as_posix(), path, relative.parts[:-1], None, None)
        for path in find_audio(folder)
        if len((relative := path.relative_to(folder)).parts) > 1
    ]
    if not found:
        raise DataError(
            f"{folder}: no sound files in sub-folders (put each kind into its own folder, or give "
            "a table with --tags)"
        )
    return found


def find_group(name: str, pattern: str) -> str | None:
    """What the first parentheses of an expression find in a name; None where nothing is found.

    Raises:
        ConfigError: The expression is not one, or has no parentheses.
    """
    try:
        match = re.search(pattern, name)
        return match[1] if match else None
    except (re.error, IndexError) as error:
        raise ConfigError(
            f"group pattern {pattern!r}: {error} (one pair of parentheses, as in ^(\\d+)-)"
        ) from error


def read_excluded(path: Path) -> frozenset[str]:
    """Ids, names or groups that must not be in a data set: a JSON list, or one a line.

    Raises:
        DataError: The file is missing or not readable.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as a list to exclude: {error}") from error
    if not text.lstrip().startswith("["):
        return frozenset(line.strip() for line in text.splitlines() if line.strip())
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as a JSON list: {error}") from error
    return frozenset(map(str, values))
