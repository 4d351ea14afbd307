"""``coala-latent probe --layers``: how much a classifier reads from every layer of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from coala_latent.analysis.clips import Weighting, clip_vector
from coala_latent.analysis.folds import Fold
from coala_latent.analysis.layerwise import LayerCurve, constant_columns, probe_layers
from coala_latent.analysis.probes import ProbeResult, run_probe
from coala_latent.analysis.projection import Projection, project
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.labelled import (
    Folds,
    LabelledSounds,
    make_folds,
    printable,
    summary_of,
    usable,
)
from coala_latent.tasks.layer_pictures import draw_curves, draw_layouts
from coala_latent.tasks.pictures import require_matplotlib
from coala_latent.tasks.probe import default_weighting, embed_clips, mfcc_features, score_cell
from coala_latent.tasks.progress import progress_bar

__all__ = ["layer_features", "layer_tables", "layerwise", "spread"]

_LAYOUTS = 6  # layers drawn unless some are named


@dataclass(frozen=True)
class _Protocol:
    """How every feature set is scored."""

    labels: npt.NDArray[np.str_]
    folds: list[Fold]
    probes: Sequence[str]
    runs: int
    seed: int

    def baseline(self, features: npt.NDArray[np.floating]) -> dict[str, ProbeResult]:
        """Scores by probe."""
        return {
            kind: run_probe(features, self.labels, self.folds, kind, self.runs, self.seed)
            for kind in self.probes
        }

    def curves(
        self, features: Mapping[str, npt.NDArray[np.floating]], note: str, quiet: bool
    ) -> dict[str, LayerCurve]:
        """Scores of every layer by probe."""
        with progress_bar(quiet=quiet) as bar:
            total = len(self.probes) * len(features) * len(self.folds)
            task = bar.add_task("probe", total=total, note=note)

            def show(done: int, fits: int) -> None:
                bar.update(task, advance=len(self.folds) / fits)

            return {
                kind: probe_layers(
                    features, self.labels, self.folds, kind, self.runs, self.seed, show
                )
                for kind in self.probes
            }


def layerwise(
    sounds: LabelledSounds,
    embedders: Mapping[str, Embedder],
    folds: Folds = 5,
    *,
    probes: Sequence[str] = ("svm", "knn"),
    runs: int = 10,
    seed: int = 0,
    baseline: bool = True,
    weighting: Weighting | None = None,
    pictures: Path | None = None,
    tsne: Sequence[str] = (),
    quiet: bool = False,
) -> dict[str, Any]:
    """Embed every sound once at all of the embedders' layers, and run the probes on each layer.

    Args:
        sounds: What to classify.
        embedders: Models by the name in the table, each with the layers that are asked for.
        folds: Number of grouped folds, or what makes the folds.
        probes: See `analysis.probes.PROBES`.
        runs: Repetitions of the probes that depend on a seed.
        seed: Of folds, probes and pictures.
        baseline: Add the 120 MFCC statistics.
        weighting: How the rows of a clip count, see `clip_vector`; by default as in `probe`.
        pictures: Folder for ``layers_MODEL.png`` (accuracy over the layers) and ``tsne_MODEL.png``.
        tsne: Layers that the latter shows; by default six, evenly spread over the layers.
        quiet: No progress bars.

    Returns:
        JSON-able results: settings, sounds that were skipped, ``baseline`` by probe, and for each
        of ``models`` its ``layers`` and ``curves`` by probe; with pictures also their paths, the
        ``layouts``' figures, and the layers ``not_drawn`` with the reason.

    Raises:
        ConfigError: No model, or layers to draw that are not embedded or have no folder.
        DependencyError: Pictures without matplotlib.
        DataError: The sounds cannot be split or used.
    """
    _check(embedders, pictures, tsne)
    make_folds(sounds, folds, seed)  # so that what is wrong with them shows before the long work
    skipped: dict[str, str] = {}
    mfcc = None
    if baseline:
        mfcc, skipped = mfcc_features(sounds, quiet)
    features = {}
    for name, embedder in embedders.items():
        features[name], bad = layer_features(sounds, embedder, weighting, quiet)
        skipped |= bad
    keep = usable(sounds, skipped)
    used = sounds.take(keep)
    made = make_folds(used, folds, seed)
    protocol = _Protocol(used.labels, made, probes, runs, seed)
    beside = {} if mfcc is None else protocol.baseline(mfcc[keep])
    models: dict[str, Any] = {}
    for name, embedder in embedders.items():
        kept = {layer: values[keep] for layer, values in features[name].items()}
        curves = protocol.curves(kept, name, quiet)
        models[name] = _describe(embedder, kept, curves)
        if pictures is not None:
            title, file = f"{name}, {sounds.root.resolve().name}", _file_name(name, models)
            over_layers, of_clips = pictures / f"layers_{file}.png", pictures / f"tsne_{file}.png"
            draw_curves(over_layers, title, curves, beside)
            drawn = tsne or spread(list(kept), _LAYOUTS)
            layouts, flat = _layouts({layer: kept[layer] for layer in drawn}, seed)
            if layouts:
                draw_layouts(of_clips, title, layouts, used.labels)
            models[name] |= {
                "layouts": {layer: layout.to_dict() for layer, layout in layouts.items()},
                "not_drawn": flat,
                "pictures": [printable(over_layers), *([printable(of_clips)] if layouts else [])],
            }
    return {
        **summary_of(used, made, seed, skipped),
        "baseline": {kind: result.to_dict() for kind, result in beside.items()},
        "models": models,
    }


def _check(embedders: Mapping[str, Embedder], pictures: Path | None, tsne: Sequence[str]) -> None:
    if not embedders:
        raise ConfigError("no model whose layers could be scored: name one")
    if tsne and pictures is None:
        raise ConfigError(f"layers to draw ({', '.join(tsne)}), but no folder for the pictures")
    for name, embedder in embedders.items():
        if missing := [layer for layer in tsne if layer not in embedder.layers]:
            raise ConfigError(
                f"{name}: {', '.join(missing)} cannot be drawn, because only "
                f"{', '.join(embedder.layers)} are embedded"
            )
    if pictures is not None:
        require_matplotlib()


def layer_features(
    sounds: LabelledSounds,
    embedder: Embedder,
    weighting: Weighting | None = None,
    quiet: bool = False,
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, str]]:
    """One vector a clip and layer, by one pass through the network.

    A sound too short for the deepest layer is made longer for all of them, as the embedder's
    ``short`` says.

    Returns:
        ``(n, dim)`` by layer, NaN where a sound was skipped, and ``path: reason`` of those.
    """
    weighting = weighting or default_weighting(embedder)
    pooling = embedder.pooling
    # A layer without positions has nothing to pool within a row, only over time.
    halves = {
        layer: pooling in ("mean+max", "mean+std") and size == 2 * embedder.card.layers[layer]
        for layer, size in embedder.hearing.sizes.items()
    }
    vectors: dict[str, list[npt.NDArray[np.floating] | None]] = {
        layer: [None] * len(sounds.paths) for layer in embedder.layers
    }
    skipped = {}
    for number, found in embed_clips(sounds, embedder, quiet):
        if isinstance(found, str):
            skipped[str(sounds.paths[number])] = found
            continue
        for layer, rows in embedder.split(found).items():
            vectors[layer][number] = clip_vector(
                rows, pooling, pooled=halves[layer], weighting=weighting
            )
    return {layer: _stacked(found) for layer, found in vectors.items()}, skipped


def _stacked(vectors: Sequence[npt.NDArray[np.floating] | None]) -> npt.NDArray[np.float32]:
    dim = next((len(vector) for vector in vectors if vector is not None), 0)
    rows = np.full((len(vectors), dim), np.nan, np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    return rows


def spread(layers: Sequence[str], count: int) -> list[str]:
    """At most `count` of them, evenly spread, with the first and the last."""
    if len(layers) <= count:
        return list(layers)
    places = np.linspace(0, len(layers) - 1, count).round().astype(int)
    return [layers[place] for place in places]


def _describe(
    embedder: Embedder,
    features: Mapping[str, npt.NDArray[np.float32]],
    curves: Mapping[str, LayerCurve],
) -> dict[str, Any]:
    return {
        "model": embedder.card.name,
        "sha256": embedder.card.sha256,
        "pooling": embedder.pooling,
        "layers": {
            layer: {"values": values.shape[1], "constant": constant_columns(values)}
            for layer, values in features.items()
        },
        "curves": {kind: curve.to_dict() for kind, curve in curves.items()},
    }


def _file_name(name: str, models: Mapping[str, Any]) -> str:
    """The model's name as part of a file name; numbered, as several paths may end alike."""
    plain = re.sub(r"[^\w.-]+", "_", Path(name).name.removesuffix(".safetensors"))
    alike = [other for other in models if Path(other).name == Path(name).name]
    return plain if len(alike) == 1 else f"{plain}_{len(alike)}"


def _layouts(
    features: Mapping[str, npt.NDArray[np.floating]], seed: int
) -> tuple[dict[str, Projection], dict[str, str]]:
    """Layouts by layer, and the reasons why others have none, such as equal features."""
    layouts, flat = {}, {}
    for layer, values in features.items():
        try:
            layouts[layer] = project(values, seed=seed)
        except DataError as error:
            flat[layer] = str(error)
    return layouts, flat


def layer_tables(result: Mapping[str, Any]) -> list[Table]:
    """One table a model: one row a layer, one column a probe, the best of each in bold."""
    return [_table(name, model, result) for name, model in result["models"].items()]


def _table(name: str, model: Mapping[str, Any], result: Mapping[str, Any]) -> Table:
    curves = model["curves"]
    chance = next(iter(next(iter(curves.values()))["layers"].values()))["chance"]
    over = "bootstrap over test items" if result["folds"] == 1 else f"over {result['folds']} folds"
    table = Table(
        title=(
            f"{name}, {model['pooling']}: accuracy in %, mean and 95 % interval "
            f"{over}; {result['sounds']} sounds, {len(result['classes'])} classes"
        ),
        caption=f"largest class: {100 * chance:.1f} %; constant: values equal for all sounds",
    )
    table.add_column("layer", no_wrap=True)
    for heading in ("values", "constant", *curves):
        table.add_column(heading, justify="right")
    if result["baseline"]:
        cells = [score_cell(result["baseline"][kind]) for kind in curves]
        table.add_row("[dim]mfcc[/dim]", "120", "", *cells, end_section=True)
    for layer, about in model["layers"].items():
        cells = []
        for curve in curves.values():
            cell = score_cell(curve["layers"][layer])
            cells.append(f"[bold]{cell}[/bold]" if layer == curve["best"] else cell)
        table.add_row(layer, str(about["values"]), str(about["constant"] or ""), *cells)
    return table
