"""Embeddings for a table of concepts: from a store, or from the published data set's tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from coala_latent.data.concept_samples import RecordingRows, stream_keys
from coala_latent.data.concept_tables import ConceptTable, IntArray, concepts_from_lists
from coala_latent.data.metadata import MetadataTable
from coala_latent.data.tensor_protos import read_tensor
from coala_latent.errors import ConfigError, DataError
from coala_latent.store import Store
from coala_latent.weights.readers.playlists import read_playlists

__all__ = ["match_recordings", "playlist_concepts", "rows_of_store", "rows_of_tensors"]


def match_recordings(table: ConceptTable, names: list[str]) -> ConceptTable:
    """The table with the store's names for its recordings.

    A recording is found by its path, its name without suffix, or a number, as in
    `MetadataTable.rows`.

    Args:
        table: Recordings as its author names them.
        names: Recordings of a store.

    Raises:
        DataError: The table names none of them.
    """
    lines = MetadataTable({}, list(table.recordings), "recording").rows(names)
    pairs = zip(names, lines, strict=True)
    found = sorted((name, line) for name, line in pairs if line is not None)
    if not found:
        raise DataError(
            f"the table's {len(table.recordings)} recordings, such as {table.recordings[0]!r}, are "
            f"none of the {len(names)} that have embeddings, such as {names[:1]} (give the table "
            "of these sounds)"
        )
    places = [line for _, line in found]
    return replace(
        table,
        recordings=tuple(name for name, _ in found),
        members=csr_array(table.members[places]),
        groups=tuple(table.groups[place] for place in places),
    )


def rows_of_store(
    store: Path, table: ConceptTable, *, max_rows: int | None = None, seed: int = 0
) -> tuple[RecordingRows, ConceptTable]:
    """Read the embeddings of a table's recordings, block by block.

    Args:
        store: The store; recordings that the table does not name are not kept.
        table: Of concepts.
        max_rows: Rows of each recording that are kept, at most, chosen at random; None for all.
        seed: Of that choice.

    Returns:
        Their rows, and the table of the recordings that have some, as the store names them.

    Raises:
        ConfigError: `max_rows` is not 1 or more.
        DataError: The table names none of the store's recordings.
        StoreError: The store cannot be read.
    """
    if max_rows is not None and max_rows < 1:
        raise ConfigError(f"max_rows={max_rows}: use 1 or more, or null")
    with Store(store) as opened:
        files = {record.path: number for number, record in enumerate(opened.files) if record.rows}
        found = match_recordings(table, list(files))
        numbers = [files[name] for name in found.recordings]
        total = np.array([opened.files[number].rows for number in numbers])
        counts = total if max_rows is None else np.minimum(total, max_rows)
        ends = np.cumsum(counts)
        keys = stream_keys(found.recordings, seed, "rows")
        # By row of the store, where it is kept; -1: it is not.
        target = np.full(len(opened), -1, dtype=np.int64)
        for number, count, end, key in zip(numbers, counts, ends, keys, strict=True):
            record = opened.files[number]
            rows = record.first_row + _chosen(record.rows, int(count), int(key))
            target[rows] = np.arange(end - count, end)
        values = np.empty((int(ends[-1]), opened.identity.dim), dtype=np.float32)
        begin = 0
        for block in opened.iter_blocks():
            places = target[begin : begin + len(block.values)]
            values[places[places >= 0]] = block.values[places >= 0]
            begin += len(block.values)
    return RecordingRows(values, counts.astype(np.int64)), found


def rows_of_tensors(
    files: Mapping[str, Path], table: ConceptTable
) -> tuple[RecordingRows, ConceptTable]:
    """Read the published data set's embeddings of a table's recordings.

    Args:
        files: By song id, see `find_tensors`.
        table: Of concepts, see `playlist_concepts`.

    Returns:
        Their rows, and the table of the recordings that have a file.

    Raises:
        DataError: No recording has a file, or one cannot be read, is no ``(steps, dim)`` or has
            another `dim`.
    """
    found = table.within(list(files))
    arrays: list[npt.NDArray[np.float32]] = []
    for name in found.recordings:
        array = read_tensor(files[name])
        if array.ndim != 2 or not array.size or array.shape[1] != (arrays or [array])[0].shape[1]:
            raise DataError(
                f"{files[name]}: {array.shape} where (steps, dim) is expected, like in "
                f"{files[found.recordings[0]]}"
            )
        arrays.append(array)
    counts: IntArray = np.array([len(array) for array in arrays], dtype=np.int64)
    return RecordingRows(np.concatenate(arrays), counts), found


def playlist_concepts(path: Path) -> ConceptTable:
    """The published data set's playlists as concepts.

    Args:
        path: ``deezer_playlists.npy``.

    Returns:
        Concepts by title; where several playlists have one, each is ``title (number)``.

    Raises:
        WeightsError: The file is missing, damaged, or of another form.
        DataError: There are no playlists or no tracks.
    """
    playlists = read_playlists(path)
    counts = Counter(each.title for each in playlists)
    return concepts_from_lists(
        {
            f"{each.title} ({each.number})" if counts[each.title] > 1 else each.title: each.tracks
            for each in playlists
        }
    )


def _chosen(total: int, count: int, key: int) -> IntArray:
    if count == total:
        return np.arange(total)
    return np.sort(np.random.default_rng(key % (1 << 63)).choice(total, count, replace=False))
