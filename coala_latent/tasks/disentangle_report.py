"""Reading what the stages wrote, drawing it, and putting it on a page."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.statistics import Interval
from coala_latent.tasks import factor_pictures as draw
from coala_latent.tasks.fitting import versions
from coala_latent.tasks.pictures import figure_png
from coala_latent.tasks.stages import Folders
from coala_latent.viewer.factor_report import factor_page
from coala_latent.weights import write_json

__all__ = ["write_report"]

_SIGNIFICANT = 0.05


def write_report(folder: Path, stages: Folders, settings: Mapping[str, Any]) -> None:
    """Write ``report.html``, ``results.json`` and the figures as ``figures/NAME.png``.

    Args:
        folder: To write to.
        stages: Folders of the finished stages.
        settings: Of the analysis.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    results = {
        "recordings": _read(stages, "recordings", "table.json"),
        "layers": _read(stages, "layers", "layers.json"),
        "exploration": _read(stages, "exploration", "exploration.json"),
        "flow": _read(stages, "flow", "disentangler.json"),
        "measures": _read(stages, "measures", "measures.json"),
        "transfer": _read(stages, "transfer", "transfer.json"),
        "settings": dict(settings),
        "stages": {name: _read(stages, name, "stage.json") for name in stages},
        "versions": versions(),
    }
    figures = {name: figure_png(figure) for name, figure in _figures(stages, results).items()}
    (folder / "figures").mkdir(exist_ok=True)
    for name, png in figures.items():
        (folder / "figures" / f"{name}.png").write_bytes(png)
    factor_page(results, figures).write(folder / "report.html")
    write_json(folder / "results.json", results)


def _read(stages: Folders, name: str, file: str) -> Any:
    if name not in stages:
        return None
    return json.loads((stages[name] / file).read_text("utf-8"))


def _figures(stages: Folders, results: Mapping[str, Any]) -> dict[str, Any]:
    layers, measures = results["layers"]["layers"], results["measures"]
    classes = results["flow"]["classes"]
    made = {"layers": _layer_boxes(results["exploration"]), "planes": _planes(stages, classes)}
    if results["recordings"] is not None:
        made["dimensions"] = draw.draw_dimensions(
            {name: each["values"] for name, each in layers.items()}
        )
        made["explained"] = draw.draw_explained(
            {name: np.array(each["explained_variance_ratio"]) for name, each in layers.items()}
        )
    made["eta"] = draw.draw_block_shares(_intervals(measures["eta_squared"]), "eta squared")
    made["stages"] = draw.draw_stage_parts(
        *(np.array(measures["stages"][name]) for name in ("affine", "remainder"))
    )
    losses = _losses(stages["flow"])
    if losses is not None:
        made["losses"] = draw.draw_losses(*losses)
    blocks = _blocks(stages, results)
    if len(blocks) > 1:
        first_two = dict(list(blocks.items())[:2])
        made["blocks"] = draw.draw_blocks(first_two, _arrays(stages["measures"])["labels"], classes)
    transfer = results["transfer"]
    if transfer is not None and "left_out" not in transfer:
        made["distances"] = draw.draw_distances(_intervals(transfer["pairs"]["distance"]))
        made["interpolation"] = draw.draw_interpolation(
            _intervals(transfer["pairs"]["interpolation"])
        )
    return made


def _layer_boxes(exploration: Mapping[str, Any]) -> Any:
    knn = {factor: about["knn"] for factor, about in exploration.items()}
    different: dict[str, list[tuple[str, str]]] = {factor: [] for factor in knn}
    for factor, each in knn.items():
        layers = list(each["scores"]["accuracy"])
        ends = {"first": layers[0], "best": each["best"], "last": layers[-1]}
        for name, p_value in each["scores"]["p_corrected"].items():
            one, other = (ends[part] for part in name.split(" - "))
            if p_value < _SIGNIFICANT and one != other:
                different[factor].append((one, other))
    return draw.draw_layer_boxes(
        {
            factor: {name: np.array(a) for name, a in each["scores"]["accuracy"].items()}
            for factor, each in knn.items()
        },
        {factor: each["chance"] for factor, each in knn.items()},
        {factor: each["best"] for factor, each in knn.items()},
        different,
    )


def _planes(stages: Folders, classes: Mapping[str, list[str]]) -> Any:
    order = _read(stages, "exploration", "planes.json")["order"]
    with np.load(stages["exploration"] / "planes.npz", allow_pickle=False) as file:
        planes = {name: file[f"points_{number}"] for number, name in enumerate(order)}
        return draw.draw_planes(planes, file["labels"], classes)


def _arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(folder / "code.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _blocks(stages: Folders, results: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Code of each factor's block, held out."""
    z, begin, found = _arrays(stages["measures"])["z"], 0, {}
    for number, block in enumerate(results["flow"]["spec"]["blocks"]):
        if number:
            found[block["name"]] = z[:, begin : begin + block["dims"]]
        begin += block["dims"]
    return found


def _intervals(tree: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    """From JSON, where an end without bound is None."""
    return {
        outer: {
            name: Interval(
                each["mean"],
                -np.inf if each["low"] is None else each["low"],
                np.inf if each["high"] is None else each["high"],
                each["n"],
            )
            for name, each in inner.items()
        }
        for outer, inner in tree.items()
    }


def _losses(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Rows ``(epoch, mean, standard error)`` of both parts, from the run's log."""
    log = folder / "run" / "logs" / "csv" / "metrics.csv"
    if not log.is_file():
        return None
    with log.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    parts = []
    for part in ("train", "validation"):
        rows = [
            [float(line[name] or 0) for name in ("epoch", f"{part}/total", f"{part}/error")]
            for line in lines
            if line.get(f"{part}/total")
        ]
        parts.append(np.array(rows))
    return parts[0], parts[1]
