"""Tables of concepts for the recordings of a store, from folders, tables or playlists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from coala_latent.data.concept_tables import (
    ConceptTable,
    concepts_from_columns,
    concepts_from_folders,
    concepts_from_pairs,
)
from coala_latent.errors import ConfigError, DataError
from coala_latent.store import Store
from coala_latent.tasks.concept_rows import match_recordings, playlist_concepts
from coala_latent.tasks.labelled import captured_group

__all__ = ["ConceptSource", "store_concepts"]


@dataclass(frozen=True)
class ConceptSource:
    """Where it stands which recording belongs to which concept.

    Attributes:
        labels: ``"folders"``, a table, or the published data set's playlists (``.npy``). A table
            with the columns ``recording`` and ``concept`` has a line a pair.
        columns: Of tags, in another table.
        key: Column that names the recordings, of such a table.
        group: Regular expression searched in names; recordings for which its first group captures
            the same stay in one part.
        group_column: Likewise a column of the table: the artist.
        separator: Between the tags of a text, see `concepts_from_columns`.
    """

    labels: Path | Literal["folders"]
    columns: tuple[str, ...] = ()
    key: str | None = None
    group: str | None = None
    group_column: str | None = None
    separator: str = "[,;|]"


def store_concepts(store: Path, source: ConceptSource) -> ConceptTable:
    """The table of a store's recordings that have rows, by the store's names for them.

    Raises:
        ConfigError: The source does not make sense, or a part of it would have no effect.
        DataError: It cannot be read, or names none of the recordings.
        StoreError: The store cannot be read.
    """
    if source.group is not None and source.group_column is not None:
        raise ConfigError("groups come from names or from a column: give one of them")
    with Store(store) as opened:
        names = [record.path for record in opened.files if record.rows]
    table = match_recordings(_read(source, names), names)
    if source.group is None:
        return table
    named = {name: captured_group(source.group, PurePosixPath(name)) for name in table.recordings}
    return table.with_groups(named)


def _read(source: ConceptSource, names: list[str]) -> ConceptTable:
    if source.labels == "folders":
        if source.columns or source.group_column:
            raise ConfigError("columns of folders: give a table as labels")
        return concepts_from_folders(names)
    path = Path(source.labels)
    if not source.columns and (source.key or source.group_column):
        raise ConfigError(
            f"{path}: a key or a column of groups goes with columns of tags (name these, or group "
            "recordings by their names)"
        )
    if path.suffix.lower() == ".npy":
        return playlist_concepts(path)
    if source.columns:
        return concepts_from_columns(
            path,
            source.columns,
            key=source.key,
            group=source.group_column,
            separator=source.separator,
        )
    try:
        return concepts_from_pairs(path)
    except DataError as error:
        raise DataError(f"{error} (or name columns of tags with --column)") from error
