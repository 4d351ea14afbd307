"""From labelled recordings to latents: any layers of a network, in full or projected.

A patch at all fourteen convolutions of YAMNet is 383 000 values (1.5 MB), so there are two ways. To
explore all layers, `project_layers` listens to the recordings three times (mean and variance,
components, projection) and keeps nothing in between; for the layer that is worked on,
`extract_latents` puts full rows into a store, of which `coala_latent.tasks.stored_latents` makes
latents.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.streaming_pca import ColumnMoments, StreamingPca, projection_arrays
from coala_latent.audio.io import AudioReader
from coala_latent.data.factor_sounds import Level
from coala_latent.data.factor_tables import FactorTable
from coala_latent.data.latents import LabelledLatents
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import AudioError, DataError
from coala_latent.models.latent_scaling import LatentProjection
from coala_latent.store import FileRecord, StoreWriter
from coala_latent.tasks.latent_rows import RowChoice, layer_embedder, layer_identity, recording_rows
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.stored_latents import GatheredRows, apply_projection, make_projection
from coala_latent.types import Embedding

__all__ = [
    "LayerStores",
    "ProjectedLayers",
    "extract_latents",
    "project_layers",
]


@dataclass(frozen=True)
class LayerStores:
    """What `extract_latents` wrote.

    Attributes:
        paths: Store of each layer.
        sizes: Values in a row of each layer.
        rows: Rows in each store.
        skipped: ``name: reason`` of recordings that cannot be used.
    """

    paths: dict[str, Path]
    sizes: dict[str, int]
    rows: int
    skipped: dict[str, str] = field(default_factory=dict)


def extract_latents(
    table: FactorTable,
    model: Embedder | str | Path,
    folder: Path,
    layers: Sequence[str] | None = None,
    *,
    choice: RowChoice | None = None,
    level: Level = "none",
    dtype: str = "float32",
    quiet: bool = False,
) -> LayerStores:
    """Full rows of layers, one store a layer, in one pass of the network.

    A recording takes ``rows * sizes[layer] * 4`` bytes in a store (half with float16): an hour at
    YAMNet's ``layer10`` is 7500 rows of 12 288 values, 370 MB, and at all layers 11.5 GB. A run
    that was killed goes on where it was; a recording that cannot be used is listed.

    Args:
        table: The recordings.
        model: An embedder, or what `load_model` takes; then layers are flattened.
        folder: For the stores, ``LAYER.h5``.
        layers: Names; of an embedder its own by default, else the card's default layer.
        choice: Which rows; all by default.
        level: See `level_gain`.
        dtype: ``"float32"`` or ``"float16"`` in the stores.
        quiet: No progress bar.

    Raises:
        CoalaLatentError: The run cannot start or go on.
    """
    embedder, choice = layer_embedder(model, layers), choice or RowChoice()
    paths = {layer: folder / f"{layer}.h5" for layer in embedder.layers}
    pairs = list(zip(table.names, table.paths, strict=True))
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        writers = {
            layer: stack.enter_context(
                StoreWriter(
                    path,
                    layer_identity(embedder, layer, choice, level, dtype),
                    metadata={"card": embedder.card.to_dict(), "root": str(table.root)},
                )
            )
            for layer, path in paths.items()
        }
        bar = stack.enter_context(progress_bar(quiet=quiet))
        for name, path in bar.track(pairs, description="latents"):
            todo = {layer: store for layer, store in writers.items() if name not in store.done}
            if todo:
                _store_recording(name, path, embedder, todo, choice, level)
            record = writers[embedder.layers[0]].done[name]
            if not record.rows:
                skipped[name] = record.error
        rows = sum(record.rows for record in writers[embedder.layers[0]].done.values())
    return LayerStores(paths, dict(embedder.hearing.sizes), rows, skipped)


def _store_recording(
    name: str,
    path: Path,
    embedder: Embedder,
    writers: Mapping[str, StoreWriter],
    choice: RowChoice,
    level: Level,
) -> None:
    for writer in writers.values():
        writer.begin(name)
    try:
        with AudioReader(path, allow_truncated=embedder.allow_truncated) as reader:
            info = reader.info
        for rows in recording_rows(path, embedder, choice, level):
            parts = embedder.split(rows)
            for layer, writer in writers.items():
                writer.append(parts[layer].values, rows.start, rows.end)
    except AudioError as error:
        for writer in writers.values():
            writer.rollback()
            writer.commit(FileRecord(name, "failed", str(error)))
        return
    for writer in writers.values():
        writer.commit(
            FileRecord(
                name,
                "ok",
                duration=info.duration,
                sample_rate=info.sample_rate,
                channels=info.channels,
                bytes=path.stat().st_size,
            )
        )


@dataclass(frozen=True, eq=False)
class ProjectedLayers:
    """Latents of several layers.

    Attributes:
        latents: By layer; the same rows at each.
        projections: By layer.
        sizes: Values in a row of each layer before projection.
        fitted_rows: Rows that the projections were fitted on.
        skipped: ``name: reason`` of recordings that cannot be used.
    """

    latents: dict[str, LabelledLatents]
    projections: dict[str, LatentProjection]
    sizes: dict[str, int]
    fitted_rows: int
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Dimensionality and explained variance of each layer, for JSON."""
        layers = {
            layer: {
                "values": self.sizes[layer],
                "explained_variance_ratio": projection.explained_variance_ratio.tolist(),
                "explained": float(projection.explained_variance_ratio.sum()),
            }
            for layer, projection in self.projections.items()
        }
        return {"fitted_rows": self.fitted_rows, "skipped": self.skipped, "layers": layers}


def project_layers(
    table: FactorTable,
    model: Embedder | str | Path,
    layers: Sequence[str] | None = None,
    *,
    k: int = 64,
    train: npt.NDArray[np.bool_] | None = None,
    choice: RowChoice | None = None,
    level: Level = "none",
    quiet: bool = False,
) -> ProjectedLayers:
    """Latents of many layers without storing their full rows.

    Listens three times: for the mean and variance of every value, for the components, and to
    project. Memory holds ``k`` + 64 directions and 128 rows of each layer, about 1 GB for all of
    YAMNet's convolutions.

    Args:
        table: The recordings.
        model: An embedder, or what `load_model` takes; then layers are flattened.
        layers: See `extract_latents`.
        k: Components of each layer; fewer at a layer with fewer values.
        train: ``(recordings,)`` which recordings projections are fitted on; all by default.
        choice: Which rows; all by default.
        level: See `level_gain`.
        quiet: No progress bar.

    Raises:
        DataError: Too few rows to fit on, or no recording can be used.
        ConfigError: The layers are not the embedder's.
    """
    embedder, choice = layer_embedder(model, layers), choice or RowChoice()
    sizes = dict(embedder.hearing.sizes)
    fitted = np.ones(len(table), bool) if train is None else np.asarray(train, bool)
    if fitted.shape != (len(table),):
        raise DataError(f"train of shape {fitted.shape} for {len(table)} recordings")
    skipped: dict[str, str] = {}

    def listen(what: str, wanted: npt.NDArray[np.bool_]) -> Iterator[_Heard]:
        numbers = [
            number
            for number in np.flatnonzero(wanted).tolist()
            if table.names[number] not in skipped
        ]
        with progress_bar(quiet=quiet) as bar:
            for number in bar.track(numbers, description=what):
                try:
                    for rows in recording_rows(table.paths[number], embedder, choice, level):
                        yield number, embedder.split(rows)
                except AudioError as error:
                    skipped[table.names[number]] = str(error)

    moments = _moments(listen, fitted, embedder.layers, skipped)
    rows = next(iter(moments.values())).count
    components = {layer: min(k, int((~found.constant).sum())) for layer, found in moments.items()}
    if rows <= k or not min(components.values()):
        raise DataError(
            f"{table.root}: {rows} rows to fit {k} components on (give more recordings, or ask for "
            "fewer components)"
        )
    fits = {
        layer: StreamingPca(components[layer], mean=found.mean, scale=found.scale)
        for layer, found in moments.items()
    }
    for _, parts in listen("components", fitted):
        for layer, pca in fits.items():
            pca.partial_fit(parts[layer].values)
    projections = {
        layer: make_projection(projection_arrays(moments[layer], fits.pop(layer)))
        for layer in embedder.layers
    }
    gathered = {layer: GatheredRows() for layer in embedder.layers}
    for number, parts in listen("projection", np.ones(len(table), bool)):
        for layer, part in parts.items():
            values = apply_projection(projections[layer], part.values)
            gathered[layer].add(values, np.full(len(part), number), part.start, part.end)
    usable = np.array([name not in skipped for name in table.names])
    latents = {}
    for layer, found in gathered.items():
        source = asdict(layer_identity(embedder, layer, choice, level, "float32"))
        every = found.labelled(table, source)
        latents[layer] = every.take_rows(usable[every.recording])
    return ProjectedLayers(latents, projections, sizes, rows, skipped)


_Heard = tuple[int, dict[str, Embedding]]


def _moments(
    listen: Callable[[str, npt.NDArray[np.bool_]], Iterable[_Heard]],
    fitted: npt.NDArray[np.bool_],
    layers: Sequence[str],
    skipped: Collection[str],
) -> dict[str, ColumnMoments]:
    """Moments of each layer over the recordings that can be used from end to end."""
    while True:
        before = len(skipped)
        moments = {layer: ColumnMoments() for layer in layers}
        for _, parts in listen("mean and variance", fitted):
            for layer, part in parts.items():
                moments[layer].partial_fit(part.values)
        # What breaks off in the middle has left rows behind: once more without it.
        if len(skipped) == before:
            return moments
