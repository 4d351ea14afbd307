"""What is known about the points of a map: folders, times, tables, clusters, citations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from coala_latent.data.metadata import read_metadata
from coala_latent.errors import DataError
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.recordings import RecordingVectors

__all__ = ["Joined", "PointColumns", "Value", "folder_columns", "join_table", "point_columns"]

Value: TypeAlias = str | float | None

_FOLDERS = ("folder", "subfolder", "subfolder 2", "subfolder 3")
_CITATION = "citation"
# Headings a citation is made of, as tables of music collections have them.
_ARTIST = ("artist", "artist_name", "artist.name", "author", "username")
_TITLE = ("title", "track_title", "track.title", "name")
_LICENCE = ("license", "licence", "license_title", "track_license", "track.license")


@dataclass(frozen=True)
class Joined:
    """A table, joined to the recordings.

    Attributes:
        table: The file.
        columns: By heading, one value a recording; only those with any value.
        citations: One a recording, "" where there is none; None where the table has no headings
            that a citation can be made of.
        matched: How many recordings have a line.
    """

    table: Path
    columns: dict[str, list[Value]]
    citations: list[str] | None
    matched: int


@dataclass
class PointColumns:
    """Columns of a map as they come together, one value a point.

    Attributes:
        columns: By name.
        citations: One a point, or None.
        matched: By table, how many recordings it knows.
    """

    columns: dict[str, list[Value]] = field(default_factory=dict)
    citations: list[str] | None = None
    matched: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, values: list[Value], source: str = "") -> None:
        """A column, under a name of its own; none where nothing is known."""
        if all(value is None for value in values):
            return
        wanted, number = name, 1
        while wanted in self.columns:
            number += 1
            wanted = f"{name} ({source})" if number == 2 and source else f"{name} ({number})"
        self.columns[wanted] = values


def point_columns(
    points: RecordingVectors, tables: Sequence[Path], *, key: str | None, citation: str | None
) -> PointColumns:
    """Columns that need no computing.

    Args:
        points: Of the map.
        tables: About recordings; the first that has citations gives them.
        key: Heading of the column that names the recordings, in every table.
        citation: Heading of the citations.

    Raises:
        DataError: A table cannot be read, knows none of the recordings, or no table has the column
            of citations that was asked for.
    """
    names = points.names
    found = PointColumns()

    def spread(values: Sequence[Value]) -> list[Value]:
        return [values[number] for number in points.file.tolist()]

    for name, texts in folder_columns(names).items():
        found.add(name, spread(texts))
    if points.by == "rows":
        found.add("recording", [printable(path) for path in points.paths])
    for table in tables:
        joined = join_table(table, names, key=key, citation=citation)
        found.matched[str(table)] = joined.matched
        for name, values in joined.columns.items():
            found.add(name, spread(values), table.stem)
        if joined.citations and found.citations is None:
            found.citations = [joined.citations[number] for number in points.file.tolist()]
    if citation is not None and found.citations is None:
        raise DataError(f"no column {citation!r} of citations in the tables given with --metadata")
    found.add("duration", spread([record.duration or None for record in points.files]))
    if points.by == "rows":
        found.add("time", [float(start) for start in points.start])
    return found


def folder_columns(names: Sequence[str]) -> dict[str, list[Value]]:
    """A column for each of the first four levels of folders that tells recordings apart."""
    folders = [PurePosixPath(printable(name)).parts[:-1] for name in names]
    columns: dict[str, list[Value]] = {}
    for level, name in enumerate(_FOLDERS):
        texts: list[Value] = [parts[level] if level < len(parts) else None for parts in folders]
        if len(set(texts)) > 1:
            columns[name] = texts
    return columns


def join_table(
    table: Path, names: Sequence[str], *, key: str | None = None, citation: str | None = None
) -> Joined:
    """Join a table to recordings.

    Args:
        table: CSV, TSV or JSON Lines; see `read_metadata`.
        names: Of the recordings.
        key: Heading of the column that names the recordings.
        citation: Heading of the citations; by default ``citation``, or they are made of artist,
            title and licence.

    Raises:
        DataError: It cannot be read, or knows none of the recordings.
    """
    read = read_metadata(table, key)
    matched = read.matched(names)
    if not matched:
        raise DataError(
            f"{table}: its column {read.key} names none of the {len(names)} recordings, such as "
            f"{names[0]} (name another column with --key, or give the table of these sounds)"
        )
    columns = read.joined(names)
    heading = _heading(columns, (citation,) if citation else (_CITATION,))
    if heading is not None:
        citations: list[str] | None = ["" if v is None else _text(v) for v in columns.pop(heading)]
    else:
        citations = None if citation else _made(columns)
    known = {name: values for name, values in columns.items() if any(v is not None for v in values)}
    return Joined(table, known, citations, matched)


def _made(columns: dict[str, list[Value]]) -> list[str] | None:
    """Citations of artist, title and licence, where the first two are there."""
    artist, title, licence = (_heading(columns, known) for known in (_ARTIST, _TITLE, _LICENCE))
    if artist is None or title is None:
        return None
    lines = zip(
        columns[artist],
        columns[title],
        columns[licence] if licence else [None] * len(columns[title]),
        strict=True,
    )
    return [_citation(*line) for line in lines]


def _citation(artist: Value, title: Value, licence: Value) -> str:
    about = ": ".join(_text(value) for value in (artist, title) if value is not None)
    return f"{about} ({_text(licence)})" if about and licence is not None else about


def _heading(columns: dict[str, list[Value]], known: Sequence[str]) -> str | None:
    """The first of some headings that a table has, in any case."""
    folded = {re.sub(r"[\s-]+", "_", name.strip().casefold()): name for name in columns}
    wanted = (re.sub(r"[\s-]+", "_", name.strip().casefold()) for name in known)
    return next((folded[name] for name in wanted if name in folded), None)


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
