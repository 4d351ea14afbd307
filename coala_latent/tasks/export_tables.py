"""A store as one table for other viewers: parquet, CSV or JSON Lines, a line for each point.

The columns are those that Embedding Atlas (``x``, ``y``, ``neighbors``) and Renumics Spotlight
(``embedding``, ``audio``, ``window``) understand.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from coala_latent.analysis.map_projections import map_projection, require_method
from coala_latent.data.latent_files import replace_file
from coala_latent.errors import ConfigError, DependencyError
from coala_latent.store import Store
from coala_latent.store.schema import printable_text
from coala_latent.tasks.map_columns import Value, point_columns
from coala_latent.tasks.map_sounds import find_recordings
from coala_latent.tasks.recordings import PointsBy, RecordingVectors, recording_vectors

__all__ = ["TABLE_SUFFIXES", "PointTable", "TableSummary", "export_table", "point_table"]

TABLE_SUFFIXES = (".parquet", ".csv", ".jsonl")

# What the table has of its own; a column of metadata with such a name gets another.
_OWN = ("path", "audio", "start", "end", "window", "x", "y", "embedding", "neighbors")


@dataclass(frozen=True, eq=False)
class PointTable:
    """Points with what is known about them.

    Attributes:
        path: ``(n,)`` names of the recordings, as the store has them.
        audio: ``(n,)`` absolute paths of their files, None where there is no such file.
        start: ``(n,)`` float64, seconds within the recording.
        end: ``(n,)`` float64.
        embedding: ``(n, d)`` float32.
        layout: ``(n, 2)`` float32, or None.
        neighbors: ``(n, k)`` int64 rows of the nearest others, nearest first, or None.
        distances: ``(n, k)`` float32, their cosine distances.
        metadata: More columns of n values.
    """

    path: list[str]
    audio: list[str | None]
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    embedding: npt.NDArray[np.float32]
    layout: npt.NDArray[np.float32] | None = None
    neighbors: npt.NDArray[np.int64] | None = None
    distances: npt.NDArray[np.float32] | None = None
    metadata: dict[str, list[Value]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.path)


@dataclass(frozen=True)
class TableSummary:
    """What was written.

    Attributes:
        output: The file.
        points: Lines.
        columns: Their headings.
        megabytes: Size of the file.
        missing: Recordings whose sound was not found, so that it cannot be heard.
        matched: By table of metadata, how many recordings it knows.
    """

    output: str
    points: int
    columns: list[str]
    megabytes: float
    missing: list[str]
    matched: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def export_table(
    store: Path,
    output: Path,
    *,
    by: PointsBy = "files",
    metadata: Sequence[Path] = (),
    key: str | None = None,
    audio_root: Path | None = None,
    projection: str | None = "tsne",
    neighbors: int = 10,
    seed: int = 0,
) -> TableSummary:
    """Write a store as a table.

    Args:
        store: The store, or a folder with ``store.h5`` in it.
        output: ``.parquet``, ``.csv`` or ``.jsonl``; replaced if it exists.
        by: A line is a recording (its mean vector) or a row of the store.
        metadata: Tables about the recordings; see `read_metadata`.
        key: Heading of the column that names the recordings in them.
        audio_root: Folder of the sounds; where they were encoded from by default.
        projection: ``"tsne"``, ``"pca"``, ``"umap"``, or None for no ``x`` and ``y``.
        neighbors: How many nearest others by cosine to list; 0 for none.
        seed: Of the projection.

    Raises:
        ConfigError: The file's suffix is another, or an option makes no sense.
        DependencyError: Parquet or UMAP is asked for, and the package for it is not installed.
        DataError: There are no points, or a table does not fit.
        StoreError: The store cannot be read.
    """
    write = _writer(output)
    if neighbors < 0:
        raise ConfigError(f"neighbors={neighbors} must not be negative")
    if projection is not None:
        require_method(projection)
    points = recording_vectors(store, by)
    known = point_columns(points, metadata, key=key, citation=None)
    columns = dict(known.columns)
    if known.citations is not None:
        columns["citation"] = [text or None for text in known.citations]
    table = point_table(
        points,
        columns,
        root=_root(points.store) if audio_root is None else audio_root,
        layout=None
        if projection is None
        else map_projection(points.values, projection, seed=seed).points,
        neighbors=neighbors,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, lambda file: write(table, file))
    lost = dict.fromkeys(
        path for path, audio in zip(table.path, table.audio, strict=True) if audio is None
    )
    return TableSummary(
        output=printable_text(str(output)),
        points=len(table),
        columns=[name for name, _ in _columns(table)],
        megabytes=output.stat().st_size / 1e6,
        missing=list(lost),
        matched=known.matched,
    )


def point_table(
    points: RecordingVectors,
    metadata: dict[str, list[Value]],
    *,
    root: Path | None = None,
    layout: npt.NDArray[np.float32] | None = None,
    neighbors: int = 0,
) -> PointTable:
    """Bring together what a table of points holds.

    Args:
        points: The points.
        metadata: Columns of one value a point.
        root: Folder of the sounds.
        layout: ``(n, 2)``.
        neighbors: How many nearest others to list, of those there are.
    """
    found = find_recordings(points.files, root)
    audio = [None if path is None else printable_text(os.path.abspath(path)) for path in found]  # noqa: PTH100 - resolve() would follow links
    near, distances = _nearest(points.values, min(neighbors, len(points) - 1))
    return PointTable(
        path=[printable_text(path) for path in points.paths],
        audio=[audio[number] for number in points.file.tolist()],
        start=points.start,
        end=points.end,
        embedding=points.values,
        layout=layout,
        neighbors=near,
        distances=distances,
        metadata=_renamed(metadata),
    )


def _root(store: Path) -> Path | None:
    with Store(store) as opened:
        root = opened.metadata.get("root")
    return Path(root) if isinstance(root, str) and root else None


def _renamed(metadata: dict[str, list[Value]]) -> dict[str, list[Value]]:
    """Columns under names that are not the table's own."""
    renamed: dict[str, list[Value]] = {}
    for name, values in metadata.items():
        wanted = name
        while wanted in (*_OWN, *renamed) or (wanted != name and wanted in metadata):
            wanted = f"{wanted} (metadata)"
        renamed[wanted] = values
    return renamed


def _nearest(
    vectors: npt.NDArray[np.float32], count: int
) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float32] | None]:
    """The nearest others by cosine, and their distances."""
    if count < 1:
        return None, None
    # Of no query: every point but itself.
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(vectors)
    distances, rows = search.kneighbors()
    return rows.astype(np.int64), np.maximum(distances, 0).astype(np.float32)


def _columns(table: PointTable) -> Iterator[tuple[str, Sequence[Any] | npt.NDArray[Any]]]:
    """All but the structured columns come as they are written."""
    yield "path", table.path
    yield "audio", table.audio
    yield "start", table.start
    yield "end", table.end
    yield "window", np.stack([table.start, table.end], axis=1)
    if table.layout is not None:
        yield "x", table.layout[:, 0]
        yield "y", table.layout[:, 1]
    yield from table.metadata.items()
    yield "embedding", table.embedding
    if table.neighbors is not None:
        yield "neighbors", table.neighbors


def _writer(output: Path) -> Callable[[PointTable, IO[bytes]], None]:
    suffix = output.suffix.lower()
    if suffix == ".parquet":
        _pyarrow()
        return _write_parquet
    if suffix == ".csv":
        return _write_csv
    if suffix == ".jsonl":
        return _write_jsonl
    raise ConfigError(f"{output}: a table is written as {', '.join(TABLE_SUFFIXES)}")


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise DependencyError(
            "parquet needs the package pyarrow (pip install 'coala-latent[tables]'), or write "
            ".csv or .jsonl"
        ) from error


def _write_parquet(table: PointTable, file: IO[bytes]) -> None:
    arrow, parquet = _pyarrow()

    def lists(rows: npt.NDArray[Any]) -> Any:
        offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
        return arrow.LargeListArray.from_arrays(offsets, np.ascontiguousarray(rows).ravel())

    columns: dict[str, Any] = {}
    for name, values in _columns(table):
        if name == "neighbors":
            assert table.neighbors is not None
            assert table.distances is not None
            parts = [lists(table.neighbors), lists(table.distances)]
            columns[name] = arrow.StructArray.from_arrays(parts, ["ids", "distances"])
        elif isinstance(values, np.ndarray) and values.ndim == 2:
            columns[name] = lists(values)
        elif isinstance(values, np.ndarray):
            columns[name] = arrow.array(values)
        else:
            numbers = all(value is None or isinstance(value, float) for value in values)
            empty = all(value is None for value in values)
            kind = arrow.float64() if numbers and not empty else arrow.string()
            columns[name] = arrow.array(values, kind)
    parquet.write_table(arrow.table(columns), file, compression="zstd")


def _lines(table: PointTable) -> Iterator[dict[str, Any]]:
    """Every point as plain values."""
    columns = dict(_columns(table))
    for row in range(len(table)):
        line = {
            name: values[row].tolist() if isinstance(values, np.ndarray) else values[row]
            for name, values in columns.items()
        }
        # float32 in the digits it has, not in those of the float64 nearest to it.
        for name in ("embedding", "x", "y"):
            if name in line:
                line[name] = _short(columns[name][row])
        if table.neighbors is not None and table.distances is not None:
            line["neighbors"] = {
                "ids": table.neighbors[row].tolist(),
                "distances": _short(table.distances[row]),
            }
        yield line


def _short(values: npt.NDArray[np.float32] | np.float32) -> Any:
    """Float32 numbers in the fewest digits that tell them apart."""
    if np.ndim(values):
        return [float(str(value)) for value in np.asarray(values)]
    return float(str(values))


def _write_jsonl(table: PointTable, file: IO[bytes]) -> None:
    for line in _lines(table):
        file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _write_csv(table: PointTable, file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    names = [name for name, _ in _columns(table)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for line in _lines(table):
        writer.writerow(
            json.dumps(value) if isinstance(value, (list, dict)) else value
            for value in line.values()
        )
    text.flush()
    text.detach()
