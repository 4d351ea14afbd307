"""Latents of a layer whose full rows are in a store: projection, and labels of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.analysis.streaming_pca import fit_projection
from coala_latent.data.factor_tables import FactorTable
from coala_latent.data.latents import LabelledLatents
from coala_latent.errors import DataError
from coala_latent.models.latent_scaling import (
    LatentProjection,
    PrincipalComponents,
    Standardise,
)
from coala_latent.store import Store

__all__ = [
    "GatheredRows",
    "apply_projection",
    "fit_layer_projection",
    "make_projection",
    "project_layer",
    "stored_labels",
]

_Values = npt.NDArray[np.float32]


def make_projection(arrays: Mapping[str, npt.NDArray[np.floating]]) -> LatentProjection:
    """A module of what `coala_latent.analysis.streaming_pca.fit_projection` found, in float32."""
    single = {name: torch.from_numpy(values).float() for name, values in arrays.items()}
    return LatentProjection(
        Standardise(single["pre_mean"], single["pre_scale"]),
        PrincipalComponents(
            single["pca_mean"], single["components"], single["explained_variance_ratio"]
        ),
        Standardise(single["post_mean"], single["post_scale"]),
    )


@torch.inference_mode()
def apply_projection(projection: LatentProjection, rows: npt.NDArray[np.floating]) -> _Values:
    """``(n, dim)`` to ``(n, components)``."""
    found: _Values = projection(torch.from_numpy(np.ascontiguousarray(rows, np.float32))).numpy()
    return found


def fit_layer_projection(
    store: Store,
    k: int,
    recordings: Collection[str] | None = None,
    *,
    rows: npt.NDArray[np.integer] | None = None,
) -> LatentProjection:
    """Scalers and components of a stored layer, in bounded memory.

    Args:
        store: Of one layer.
        k: Components.
        recordings: Names of those to fit on: training recordings, so that nothing of the others is
            known before they are tested. All by default.
        rows: Numbers of the rows to fit on, among these; all by default.

    Raises:
        DataError: A recording is not in the store, or there are too few rows.
    """
    known = {record.path for record in store.files}
    if recordings is not None and (unknown := sorted(set(recordings) - known)):
        raise DataError(f"{store.path}: no recording {unknown[0]} in it")
    wanted = np.array([recordings is None or record.path in recordings for record in store.files])
    chosen = np.ones(len(store), bool)
    if rows is not None:
        chosen[:] = False
        chosen[rows] = True

    def blocks() -> Iterator[_Values]:
        begin = 0
        for block in store.iter_blocks():
            end = begin + len(block.values)
            yield block.values[wanted[block.file] & chosen[begin:end]]
            begin = end

    return make_projection(fit_projection(blocks, k))


def project_layer(
    store: Store, projection: LatentProjection, table: FactorTable
) -> LabelledLatents:
    """Latents of a stored layer with the labels of a table.

    Args:
        store: Of one layer; recordings that are not in the table are left out.
        projection: Of rows of that layer.
        table: Its recordings' numbers are the latents'.

    Raises:
        DataError: No recording of the table has rows in the store.
    """
    number_of = _numbers(store, table)
    found = GatheredRows()
    for block in store.iter_blocks():
        recording = number_of[block.file]
        keep = recording >= 0
        if keep.any():
            values = apply_projection(projection, block.values[keep])
            found.add(values, recording[keep], block.start[keep], block.end[keep])
    return found.labelled(table, asdict(store.identity))


def stored_labels(store: Store, table: FactorTable) -> LabelledLatents:
    """The labels and times of all rows of a store, with a single 0 for values.

    For splitting before anything is fitted.

    Raises:
        DataError: A recording of the store is not in the table.
    """
    recording = _numbers(store, table)[store.file[:]]
    if (recording < 0).any():
        raise DataError(f"{store.path}: has recordings that the table has not (extract them again)")
    found = GatheredRows()
    values = np.zeros((len(recording), 1), np.float32)
    found.add(values, recording, store.start[:], store.end[:])
    return found.labelled(table, {})


def _numbers(store: Store, table: FactorTable) -> npt.NDArray[np.int64]:
    """Number of each of the store's files in the table; -1 where it is not there."""
    places = {name: number for number, name in enumerate(table.names)}
    return np.array([places.get(record.path, -1) for record in store.files], dtype=np.int64)


class GatheredRows:
    """Projected rows and where they are from."""

    def __init__(self) -> None:
        self._parts: list[tuple[npt.NDArray[Any], ...]] = []

    def add(self, *arrays: npt.NDArray[Any]) -> None:
        """Values, recording, start and end of some rows."""
        self._parts.append(arrays)

    def labelled(self, table: FactorTable, source: Mapping[str, Any]) -> LabelledLatents:
        """All rows, with the labels of their recordings.

        Raises:
            DataError: There are none.
        """
        if not self._parts:
            raise DataError(f"{table.root}: no recording of the table has rows")
        values, recording, start, end = map(np.concatenate, zip(*self._parts, strict=True))
        return LabelledLatents(
            values=values.astype(np.float32, copy=False),
            labels=table.labels[recording],
            factors=table.factors,
            classes=table.classes,
            recording=recording,
            take=table.takes[recording],
            start=start,
            end=end,
            source=source,
        )
