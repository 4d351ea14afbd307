"""Pictures of a layer-wise probe: accuracy over the layers, and t-SNE of some of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.layerwise import LayerCurve
from coala_latent.analysis.probes import ProbeResult
from coala_latent.analysis.projection import Projection
from coala_latent.tasks.pictures import COLOURS, MARKERS, new_figure, plain, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curves", "draw_layouts"]


def draw_curves(
    path: Path,
    title: str,
    curves: Mapping[str, LayerCurve],
    baseline: Mapping[str, ProbeResult],
) -> None:
    """Accuracy over the layers, a line with 95 % intervals for each probe.

    Args:
        path: The PNG; its folder is made.
        title: Above the picture.
        curves: By probe, of the same layers.
        baseline: By probe; each is a dashed line in the probe's colour.
    """
    layers = list(next(iter(curves.values())).results)
    figure = new_figure(max(5.0, 1.9 + 0.62 * len(layers)), 4.3)
    axes = figure.add_subplot()
    shown: list[Any] = []
    for number, (probe, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        results = list(curve.results.values())
        mean = 100 * np.array([result.mean for result in results])
        ends = 100 * np.array([(r.interval.low, r.interval.high) for r in results])
        # Side by side, so that intervals do not hide each other.
        places = np.arange(len(layers)) + 0.12 * (number - (len(curves) - 1) / 2)
        line = axes.errorbar(
            places,
            mean,
            yerr=np.abs(ends.T - mean),
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            elinewidth=1,
            capsize=2.5,
            label=probe,
        )
        shown.append(line)
        if probe in baseline:
            level, label = 100 * baseline[probe].mean, f"{probe} of MFCC"
            shown.append(axes.axhline(level, color=colour, linestyle="--", lw=1, label=label))
    chance = 100 * next(iter(curves.values())).results[layers[0]].chance
    shown.append(axes.axhline(chance, color="#777777", linestyle=":", lw=1, label="largest class"))
    axes.set_xticks(range(len(layers)), layers, rotation=45, ha="right", rotation_mode="anchor")
    axes.set(
        xlim=(-0.5, len(layers) - 0.5), ylim=(0, 101), ylabel="accuracy in %", title=plain(title)
    )
    axes.grid(axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=shown, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9
    )
    save_picture(figure, path)


def draw_layouts(
    path: Path, title: str, layouts: Mapping[str, Projection], labels: npt.NDArray[np.str_]
) -> None:
    """Clips on a plane, a panel for each layer, coloured by class.

    Args:
        path: The PNG; its folder is made.
        title: Above the picture.
        layouts: By layer.
        labels: ``(n,)`` classes of the points.
    """
    columns = min(3, len(layouts))
    rows = -(-len(layouts) // columns)
    classes = sorted(set(labels.tolist()))
    legend_columns = -(-len(classes) // max(12, 18 * rows))
    figure = new_figure(3.3 * columns + 1.7 * legend_columns, 3.35 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (layer, layout) in zip(grid.flat, layouts.items(), strict=False):
        _panel(axes, layout, labels, classes)
        axes.set_title(layer, fontsize=11)
        axes.set_xlabel(
            f"trustworthiness {layout.trustworthiness:.2f}", fontsize=8, color="#555555"
        )
    for axes in grid.flat[len(layouts) :]:
        axes.set_axis_off()
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside right center",
        frameon=False,
        ncols=legend_columns,
        fontsize=9,
        markerscale=1.4,
    )
    figure.suptitle(plain(title))
    save_picture(figure, path)


def _panel(
    axes: Axes, layout: Projection, labels: npt.NDArray[np.str_], classes: Sequence[str]
) -> None:
    for number, label in enumerate(classes):
        points = layout.points[labels == label]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=18,
            color=COLOURS[number % len(COLOURS)],
            # Classes with the same colour differ in shape.
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            edgecolors="white",
            linewidths=0.3,
            label=_short(label),
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")


def _short(label: str) -> str:
    """Without the number that ESC's folders begin with; matplotlib skips a leading underscore."""
    return plain(re.sub(r"^\d+\s*-\s*", "", label).lstrip("_") or label)
