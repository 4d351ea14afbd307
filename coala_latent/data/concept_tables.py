"""Which recordings belong to which concepts: genres, moods, instruments, playlists, folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from coala_latent.data.layouts.files import read_table
from coala_latent.data.metadata import MetadataTable, Value, read_metadata
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "ConceptTable",
    "IntArray",
    "concepts_from_columns",
    "concepts_from_folders",
    "concepts_from_lists",
    "concepts_from_pairs",
    "random_concepts",
]

IntArray: TypeAlias = npt.NDArray[np.int64]

# The names of the two columns of a table of pairs.
_RANDOM = 7
RECORDING, CONCEPT = "recording", "concept"


@dataclass(frozen=True, eq=False)
class ConceptTable:
    """Recordings, concepts, and who belongs to whom.

    The readers sort recordings and concepts by name, so that a table does not depend on the order
    of its lines. A recording without concepts is a negative example of all of them.

    Attributes:
        recordings: Names, each once.
        concepts: Names, each once.
        members: ``(recordings, concepts)`` bool, sparse.
        groups: What each recording must stay together with in splits, such as its artist; the
            recording's own name where nothing is known.
        set_aside: Concepts that were left out, and why.

    Raises:
        DataError: A name is there twice, or shapes do not fit.
    """

    recordings: tuple[str, ...]
    concepts: tuple[str, ...]
    members: csr_array
    groups: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", self.recordings)
        for what, names in (("recording", self.recordings), ("concept", self.concepts)):
            if len(set(names)) < len(names):
                twice = next(one for one, other in pairwise(sorted(names)) if one == other)
                raise DataError(f"{what} {twice!r} is there twice (list every {what} once)")
        shape = (len(self.recordings), len(self.concepts))
        if self.members.shape != shape or len(self.groups) != shape[0]:
            raise DataError(
                f"{shape[0]} recordings and {shape[1]} concepts, but members are "
                f"{self.members.shape} and groups {len(self.groups)}"
            )

    def __len__(self) -> int:
        return len(self.concepts)

    @property
    def sizes(self) -> IntArray:
        """Recordings of each concept, ``(concepts,)``."""
        return np.bincount(self.members.indices, minlength=len(self)).astype(np.int64)

    def of_concept(self, concept: int) -> IntArray:
        """Places of a concept's recordings, ascending."""
        start, end = self._by_concept.indptr[concept : concept + 2]
        return np.asarray(self._by_concept.indices[start:end], dtype=np.int64)

    @cached_property
    def _by_concept(self) -> csr_array:
        """``(concepts, recordings)``."""
        found = csr_array(self.members.T)
        found.sort_indices()
        return found

    def keep(self, names: Iterable[str]) -> ConceptTable:
        """The table with the concepts of these names alone, in the table's order."""
        wanted = set(names)
        places = [place for place, name in enumerate(self.concepts) if name in wanted]
        return replace(
            self,
            concepts=tuple(self.concepts[place] for place in places),
            members=csr_array(self.members[:, places]),
        )

    def within(self, recordings: Sequence[str]) -> ConceptTable:
        """The table with the recordings that are among these alone, in the table's order.

        Raises:
            DataError: None is left.
        """
        wanted = set(recordings)
        places = [place for place, name in enumerate(self.recordings) if name in wanted]
        if not places:
            raise DataError(
                f"none of the table's {len(self.recordings)} recordings, such as "
                f"{self.recordings[:1]}, is among the {len(wanted)} that have embeddings"
            )
        return replace(
            self,
            recordings=tuple(self.recordings[place] for place in places),
            members=csr_array(self.members[places]),
            groups=tuple(self.groups[place] for place in places),
        )

    def with_groups(self, groups: Mapping[str, str]) -> ConceptTable:
        """The table with groups by recording; those not in the mapping stay as they are."""
        named = zip(self.recordings, self.groups, strict=True)
        return replace(self, groups=tuple(groups.get(name, old) for name, old in named))

    def select(self, least: int, most: int | None = None) -> ConceptTable:
        """The concepts of enough recordings; `set_aside` lists the others.

        Args:
            least: Fewest recordings of a concept; the original has 39.
            most: Most recordings of a concept; the original has 250. None for no bound.

        Raises:
            ConfigError: The bounds do not make sense.
        """
        if least < 1 or (most is not None and most < least):
            raise ConfigError(f"from {least} to {most} recordings a concept: use 1 or more")
        reasons = dict(self.set_aside)
        total = len(self.recordings)
        for name, size in zip(self.concepts, self.sizes.tolist(), strict=True):
            if size < least:
                reasons[name] = f"{size} recordings, fewer than {least}"
            elif most is not None and size > most:
                reasons[name] = f"{size} recordings, more than {most}"
            elif size == total:
                reasons[name] = f"all {total} recordings belong to it: there are no negatives"
        kept = self.keep(name for name in self.concepts if name not in reasons)
        return replace(kept, set_aside=reasons)


def concepts_from_lists(
    lists: Mapping[str, Iterable[str]],
    recordings: Iterable[str] = (),
    groups: Mapping[str, str] = MappingProxyType({}),
) -> ConceptTable:
    """A table from the recordings of each concept, such as playlists.

    Args:
        lists: Recordings by concept; a recording that is there twice counts once.
        recordings: Others, which belong to no concept.
        groups: See `ConceptTable`, by recording.

    Raises:
        DataError: There is no concept or no recording.
    """
    members: dict[str, set[str]] = {}
    for concept, listed in lists.items():
        # Names of concepts are written to JSON, which holds text; a folder's may be no text.
        text = concept.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        members.setdefault(text, set()).update(listed)
    names = tuple(sorted(set(recordings).union(*members.values())))
    concepts = tuple(sorted(members))
    if not names or not concepts:
        raise DataError(f"{len(concepts)} concepts of {len(names)} recordings: nothing to train")
    place = {name: number for number, name in enumerate(names)}
    indices = [sorted(place[name] for name in members[concept]) for concept in concepts]
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in indices])])
    flat = np.array([number for each in indices for number in each], dtype=np.int64)
    table = csr_array(
        (np.ones(len(flat), dtype=bool), flat, bounds), shape=(len(concepts), len(names))
    )
    owned = tuple(groups.get(name, name) for name in names)
    return ConceptTable(names, concepts, csr_array(table.T), owned)


def concepts_from_pairs(path: Path) -> ConceptTable:
    """A table from a CSV file with the columns ``recording`` and ``concept``, a line a pair.

    Raises:
        DataError: The file is missing or damaged, or lacks a column or a value.
    """
    lists: dict[str, list[str]] = {}
    for row in read_table(path, (RECORDING, CONCEPT)):
        lists.setdefault(row[CONCEPT].strip(), []).append(_name(row[RECORDING]))
    return concepts_from_lists(lists)


def concepts_from_columns(
    path: Path,
    columns: Sequence[str],
    *,
    key: str | None = None,
    group: str | None = None,
    separator: str = "[,;|]",
) -> ConceptTable:
    """A table from columns of tags, a line a recording.

    A column of nothing but 0 and 1 is one concept, with the column's name. Any other has texts,
    each of them one concept or several with a separator in between, and numbers, which are texts
    here. A concept's name is not that of its column, so that columns may share concepts.

    Args:
        path: See `read_metadata`.
        columns: Headings.
        key: Heading of the column that names the recordings.
        group: Heading of the column of groups, such as artists; None for none.
        separator: Regular expression of what is between the tags of a text; ``""`` for one tag a
            text.

    Raises:
        ConfigError: No column is named, or the separator is no expression.
        DataError: The table cannot be read, lacks a column, or has no concepts in them.
    """
    if not columns:
        raise ConfigError("name at least one column of tags")
    try:
        between = re.compile(separator) if separator else None
    except re.error as error:
        raise ConfigError(f"separator {separator!r} is no expression: {error}") from error
    table = read_metadata(path, key)
    lists: dict[str, list[str]] = {}
    for column in columns:
        values = table.column(column)
        if _is_flag(values):
            members = [name for name, value in zip(table.names, values, strict=True) if value]
            lists.setdefault(column, []).extend(members)
            continue
        for name, value in zip(table.names, values, strict=True):
            for tag in _tags(value, between):
                lists.setdefault(tag, []).append(name)
    if not lists:
        raise DataError(f"{path}: {', '.join(columns)}: no tags in these columns")
    return concepts_from_lists(lists, table.names, _groups(table, group))


def concepts_from_folders(names: Iterable[str], levels: Sequence[int] = ()) -> ConceptTable:
    """A table from the folders that recordings are in: every folder above one is a concept.

    Args:
        names: Recordings' relative paths, with ``/``.
        levels: Which levels of folders count, 0 the topmost; all of them by default.

    Returns:
        Concepts go by the folders' own names, whichever folder these are in themselves.

    Raises:
        DataError: No recording is in such a folder.
    """
    lists: dict[str, list[str]] = {}
    listed = list(names)
    for name in listed:
        parts = PurePosixPath(name).parts[:-1]
        for level, folder in enumerate(parts):
            if not levels or level in levels:
                lists.setdefault(folder, []).append(name)
    if not lists:
        raise DataError(f"none of {len(listed)} recordings is in a folder that could be a concept")
    return concepts_from_lists(lists, listed)


def random_concepts(table: ConceptTable, count: int, seed: int = 0) -> ConceptTable:
    """Concepts of random recordings, what real ones are to be told from.

    Args:
        table: Whose recordings, and whose concepts' sizes, each size as often as it is there.
        count: How many.
        seed: Of the choice.

    Returns:
        Concepts ``random 1``, ``random 2``, ... of the same recordings and groups.

    Raises:
        ConfigError: `count` is below 1.
        DataError: The table has no concepts.
    """
    if count < 1:
        raise ConfigError(f"{count} random concepts: use 1 or more")
    if not len(table):
        raise DataError("a table without concepts has no sizes that random ones could have")
    rng = np.random.default_rng([seed, _RANDOM])
    sizes = rng.permuted(np.resize(np.sort(table.sizes), count))
    names = sorted(table.recordings)
    width = len(str(count))
    lists = {
        f"random {number:0{width}d}": [names[place] for place in chosen]
        for number, chosen in enumerate(
            (rng.choice(len(names), size, replace=False) for size in sizes.tolist()), 1
        )
    }
    made = concepts_from_lists(lists, names, dict(zip(table.recordings, table.groups, strict=True)))
    order = np.argsort(np.argsort(np.array(table.recordings, dtype=object)))
    return replace(
        made,
        recordings=table.recordings,
        members=csr_array(made.members[order]),
        groups=table.groups,
    )


def _name(text: str) -> str:
    return text.strip().replace("\\", "/").removeprefix("./")


def _is_flag(values: Sequence[Value]) -> bool:
    written = {value for value in values if value is not None}
    return bool(written) and written <= {0.0, 1.0}


def _tags(value: Value, between: re.Pattern[str] | None) -> list[str]:
    if value is None:
        return []
    if isinstance(value, float):
        return [str(int(value)) if value.is_integer() else repr(value)]
    parts = [value] if between is None else between.split(value)
    # Groups of the expression come back as parts, perhaps as None.
    return [part.strip() for part in parts if part and part.strip()]


def _groups(table: MetadataTable, column: str | None) -> dict[str, str]:
    if column is None:
        return {}
    values: Sequence[Any] = table.column(column)
    return {
        name: f"{column}: {value}"
        for name, value in zip(table.names, values, strict=True)
        if value is not None
    }
