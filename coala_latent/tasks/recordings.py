"""Vectors of a store as points: one a recording, or one a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError, DataError
from coala_latent.store import FileRecord, Store, StoreIdentity

__all__ = ["PointsBy", "RecordingVectors", "recording_vectors", "store_file"]

PointsBy = Literal["files", "rows"]

_STORE_NAME = "store.h5"


@dataclass(frozen=True, eq=False)
class RecordingVectors:
    """Points for clusters, classifiers and maps.

    Attributes:
        store: The file that was read.
        by: What a point is.
        values: ``(n, d)`` float32.
        paths: ``(n,)`` recording of each point, as the store names it.
        file: ``(n,)`` int64, recording of each point as an index into `files`; never decreasing.
        start: ``(n,)`` float64, seconds within the recording.
        end: ``(n,)`` float64, seconds.
        identity: What the vectors are.
        files: Recordings that have vectors; their ``first_row`` counts within the store.
        failed: How many others there are, left out.
    """

    store: Path
    by: PointsBy
    values: npt.NDArray[np.float32]
    paths: list[str]
    file: npt.NDArray[np.int64]
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    identity: StoreIdentity
    files: list[FileRecord]
    failed: int

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> list[str]:
        """Recordings' paths, one for each of `files`."""
        return [record.path for record in self.files]


def store_file(path: Path) -> Path:
    """The store that a path means: itself, or ``store.h5`` in a folder of document vectors."""
    return path / _STORE_NAME if path.is_dir() else path


def recording_vectors(store: Path, by: PointsBy = "files") -> RecordingVectors:
    """Read a store as points.

    Args:
        store: A store, or a folder with ``store.h5`` in it.
        by: ``"files"``: one point a recording, the mean of its rows weighted by the seconds each
            heard, from the first row's start to the last end. ``"rows"``: every row.

    Raises:
        ConfigError: There is no such `by`.
        DataError: No recording has a vector.
        StoreError: The store cannot be read.
    """
    if by not in get_args(PointsBy):
        raise ConfigError(f"by must be one of {', '.join(get_args(PointsBy))}, not {by!r}")
    path = store_file(Path(store))
    with Store(path) as opened:
        failed = sum(not record.rows for record in opened.files)
        if not len(opened):
            raise DataError(
                f"{path}: none of {len(opened.files)} recordings has a vector (encode sounds first)"
            )
        start, end = opened.start[:], opened.end[:]
        if by == "files":
            values, files = opened.file_means()
            firsts = np.array([record.first_row for record in files])
            # Rows lie file after file, so each file's times are a slice.
            start, end = np.minimum.reduceat(start, firsts), np.maximum.reduceat(end, firsts)
            file = np.arange(len(files), dtype=np.int64)
        else:
            values = opened.values[:].astype(np.float32, copy=False)
            has_rows = np.array([record.rows > 0 for record in opened.files])
            files = [record for record in opened.files if record.rows]
            file = (np.cumsum(has_rows) - 1)[opened.file[:]].astype(np.int64)
        return RecordingVectors(
            store=path,
            by=by,
            values=values,
            paths=[files[number].path for number in file.tolist()],
            file=file,
            start=start,
            end=end,
            identity=opened.identity,
            files=files,
            failed=failed,
        )
