"""Which sounds of a folder go into a data set, and which are left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from coala_latent.data.tag_tables import (
    TableColumns,
    TaggedFile,
    find_group,
    folder_tags,
    read_excluded,
    read_table,
)
from coala_latent.data.tag_words import clean_tags
from coala_latent.errors import DataError

__all__ = ["ChosenSound", "Skipped", "TagSource", "choose_sounds", "escaped"]


@dataclass(frozen=True)
class TagSource:
    """Where tags come from, and what is left out because of them.

    Attributes:
        table: CSV, TSV or JSON Lines; None for the names of folders.
        columns: Of the table.
        group_pattern: Expression whose first group, found in a sound's name, is its group where the
            table gives none.
        exclude: File of ids, names or groups that must not be in the data set.
    """

    table: Path | None = None
    columns: TableColumns = field(default_factory=TableColumns)
    group_pattern: str | None = None
    exclude: Path | None = None


@dataclass(frozen=True)
class ChosenSound:
    """A sound on its way into a data set.

    Attributes:
        entry: What is said about it.
        words: Its tags, cleaned.
        frames: Of its patch, how many are of the sound; 0 before it was analysed.
        seconds: How much of it was looked at.
    """

    entry: TaggedFile
    words: tuple[str, ...]
    frames: int = 0
    seconds: float = 0.0

    @property
    def group(self) -> str:
        """Sounds of one group are never split apart."""
        return self.entry.group or self.entry.name


class Skipped:
    """What is left out, and why.

    Attributes:
        entries: ``name``, ``kind`` and ``reason`` of each.
    """

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []

    def add(self, kind: str, name: str, reason: str) -> None:
        """Leave a sound out."""
        self.entries.append({"name": escaped(name), "kind": kind, "reason": escaped(reason)})

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return dict(Counter(entry["kind"] for entry in self.entries))

    def summary(self) -> str:
        """Counts and the first reason, for a message."""
        counted = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        first = self.entries[0]
        return f"{counted}; the first, {first['name']}: {first['reason']}"


def choose_sounds(folder: Path, tags: TagSource, skipped: Skipped) -> list[ChosenSound]:
    """Sounds that are worth opening, each file once.

    Args:
        folder: Of the sounds.
        tags: What is said about them.
        skipped: Is told of those that are not.

    Raises:
        DataError: There are none, or the table cannot be used.
        AudioNotFoundError: The folder is missing.
    """
    entries = (
        folder_tags(folder) if tags.table is None else read_table(tags.table, folder, tags.columns)
    )
    excluded = read_excluded(tags.exclude) if tags.exclude else frozenset()
    seen: set[Path] = set()
    chosen = []
    for entry in entries:
        group = entry.group
        if group is None and tags.group_pattern:
            group = find_group(entry.name, tags.group_pattern)
        sound = ChosenSound(replace(entry, group=group), clean_tags(entry.tags))
        if excluded & _called(sound.entry):
            skipped.add("excluded", entry.name, "on the list of what to exclude")
        elif entry.path is None:
            skipped.add("missing", entry.name, "no sound file of that name, or several")
        elif entry.path in seen:
            skipped.add("twice", entry.name, "listed before")
        elif not sound.words:
            skipped.add("no tags", entry.name, "no tag is left of it after cleaning")
        else:
            seen.add(entry.path)
            chosen.append(sound)
    if not chosen:
        raise DataError(f"{folder}: not one sound is left: {skipped.summary()}")
    return chosen


def _called(entry: TaggedFile) -> set[str]:
    """All that a list of what to exclude may call a sound."""
    path = Path(entry.name)
    number = [] if entry.number is None else [str(entry.number)]
    return {entry.name, path.name, path.stem, *number, *filter(None, [entry.group])}


def escaped(text: str) -> str:
    """As UTF-8 can hold it: bytes of a name that are no text are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
