"""The clusters of a map's points: found, or read from a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.spherical_kmeans import spherical_kmeans
from coala_latent.data.layouts.files import read_text
from coala_latent.data.metadata import KEYS, read_metadata
from coala_latent.errors import DataError
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.map_columns import Value, join_table
from coala_latent.tasks.recordings import RecordingVectors

__all__ = ["cluster_column"]

_COLUMN = "cluster"
_RESTARTS = 3
_SAME_TIME = 1e-3  # seconds; tables round


def cluster_column(points: RecordingVectors, wanted: int | Path, seed: int = 0) -> list[Value]:
    """A cluster for each point, as text: the numbers of clusters are no amounts.

    Args:
        points: Of the map.
        wanted: How many to find by spherical k-means, or a CSV with a column ``cluster``: a line a
            recording, or where points are rows and it has a column ``start``, a line a row.
        seed: Of k-means.

    Returns:
        Names; ``K1``, the largest, and so on where they are found. None where a table knows none,
        and for vectors of zeros, which have no direction.

    Raises:
        ConfigError: More clusters than points.
        DataError: The table has no such column, or knows no point.
    """
    if isinstance(wanted, int):
        return _found(points.values, wanted, seed)
    if points.by == "rows" and (found := _by_time(points, wanted)) is not None:
        return found
    columns = join_table(wanted, points.names).columns
    if _COLUMN not in columns:
        raise DataError(f"{wanted}: no column {_COLUMN!r}; there are {', '.join(columns)}")
    if points.by == "files" and "start" in columns and read_metadata(wanted).dropped:
        raise DataError(
            f"{wanted}: has clusters of rows, several of a recording (use --by rows, or a table of "
            "coala-latent clusters --by files)"
        )
    return [_text(columns[_COLUMN][number]) for number in points.file.tolist()]


def _found(values: npt.NDArray[np.float32], k: int, seed: int) -> list[Value]:
    directed = np.flatnonzero((values != 0).any(axis=1))
    clusters = spherical_kmeans(values[directed], k, seed=seed, restarts=_RESTARTS)
    by_size = np.argsort(-clusters.counts, kind="stable")
    place = np.empty_like(by_size)
    place[by_size] = np.arange(k)
    digits = len(str(k))
    names: list[Value] = [None] * len(values)
    for row, label in zip(directed.tolist(), place[clusters.labels].tolist(), strict=True):
        names[row] = f"K{label + 1:0{digits}d}"
    return names


def _text(value: Value) -> Value:
    return f"{value:g}" if isinstance(value, float) else value


def _by_time(points: RecordingVectors, table: Path) -> list[Value] | None:
    """Clusters of rows by recording and start; None where the table has no such columns."""
    lines = list(csv.reader(io.StringIO(read_text(table), newline="")))
    headings = [name.strip().casefold() for name in lines[0]] if lines else []
    key = next((name for name in KEYS if name in headings), None)
    if key is None or "start" not in headings or _COLUMN not in headings:
        return None
    places = headings.index(key), headings.index("start"), headings.index(_COLUMN)
    known: dict[tuple[str, int], str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        try:
            name, start, cluster = (line[place] for place in places)
            known[name, round(float(start) / _SAME_TIME)] = cluster.strip()
        except (IndexError, ValueError) as error:
            raise DataError(f"{table}: line {number} has no {key}, start and cluster") from error
    steps = [round(start / _SAME_TIME) for start in points.start.tolist()]
    names = map(printable, points.paths)
    found = [known.get(place) or None for place in zip(names, steps, strict=True)]
    if not any(found):
        raise DataError(f"{table}: knows none of the {len(points)} rows (is it of another store?)")
    return list(found)
