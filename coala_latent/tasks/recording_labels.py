"""Labels of recordings: from a table, from their folders, and words from their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from coala_latent.data.metadata import Value, read_metadata
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.labelled import printable

__all__ = ["LabelSource", "folder_labels", "name_words", "recording_labels", "table_labels"]

LabelSource: TypeAlias = Path | Literal["folders"]

_WORD = re.compile(r"[^\W\d_]{2,}")


def recording_labels(
    names: Sequence[str], source: LabelSource, column: str | None = None, key: str | None = None
) -> list[str | None]:
    """A label for each recording, or None; bytes of folders that are not text are escaped.

    Args:
        names: Recordings' relative paths.
        source: A table, see `read_metadata`, or ``"folders"``.
        column: Of the table; may be left out where it has but one.
        key: Heading of the table's column that names the recordings.

    Raises:
        ConfigError: A column of folders, or none of a table with several.
        DataError: The table cannot be read, lacks the column or knows none of the recordings; or
            the folders tell no recordings apart.
    """
    if source == "folders":
        if column is not None:
            raise ConfigError(f"column {column!r} of folders: give a table as labels")
        return folder_labels(names)
    assert isinstance(source, Path)
    return table_labels(names, source, column, key)


def table_labels(
    names: Sequence[str], table: Path, column: str | None = None, key: str | None = None
) -> list[str | None]:
    """Labels from a column of a table; numbers as texts. See `recording_labels`."""
    read = read_metadata(table, key)
    if column is None:
        if len(read.columns) != 1:
            raise ConfigError(
                f"{table}: name the column of labels with --column; there are "
                f"{', '.join(read.columns) or 'none'}"
            )
        column = next(iter(read.columns))
    if column not in read.columns:
        raise DataError(f"{table}: no column {column!r}; there are {', '.join(read.columns)}")
    rows = read.rows(names)
    if all(row is None for row in rows):
        raise DataError(
            f"{table}: its column {read.key} names none of the {len(names)} recordings, such as "
            f"{names[0]} (give the table of these sounds)"
        )
    values = read.columns[column]
    labels = [None if row is None else _text(values[row]) for row in rows]
    if all(label is None for label in labels):
        raise DataError(f"{table}: column {column!r} is empty for all of these recordings")
    return labels


def _text(value: Value) -> str | None:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return None if value is None else printable(value)


def folder_labels(names: Sequence[str]) -> list[str | None]:
    """Labels from the topmost level of folders that differ; None for recordings in no folder.

    Raises:
        DataError: They are all in one folder.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    deepest = max(map(len, folders), default=0)
    for level in range(deepest):
        labels = [printable(parts[level]) if level < len(parts) else None for parts in folders]
        if len({label for label in labels if label is not None}) > 1:
            return labels
    raise DataError(
        f"the {len(names)} recordings are not in several folders: give a table with --labels"
    )


def name_words(name: str) -> set[str]:
    """Words of a recording's path without suffix: letters in a row, at least two, in lower case."""
    path = PurePosixPath(name)
    return {word.lower() for word in _WORD.findall((path.parent / path.stem).as_posix())}
