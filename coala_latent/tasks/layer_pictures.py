"""Pictures of a layer-wise probe: accuracy over the layers, and t-SNE of some of them.

Needs matplotlib (``pip install 'coala-latent[pictures]'``). Figures are made without pyplot, so no
window, backend or style of the caller's is touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.layerwise import LayerCurve
from coala_latent.analysis.probes import ProbeResult
from coala_latent.analysis.projection import Projection
from coala_latent.errors import DependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves", "draw_layouts", "require_matplotlib"]

_DPI = 110
_MARKERS = "os^Dv<>pPX"
# Okabe and Ito's colours, told apart by colour-blind readers too, and two greys.
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#b8a800", "#000000", "#8c5a2b", "#999999"),
)


def require_matplotlib() -> None:
    """Say at once whether pictures can be drawn.

    Raises:
        DependencyError: matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "pictures need matplotlib: pip install 'coala-latent[pictures]'"
        ) from error


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
    figure = _figure(max(5.0, 1.9 + 0.62 * len(layers)), 4.3)
    axes = figure.add_subplot()
    shown: list[Any] = []
    for number, (probe, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
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
            marker=_MARKERS[number % len(_MARKERS)],
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
        xlim=(-0.5, len(layers) - 0.5), ylim=(0, 101), ylabel="accuracy in %", title=_plain(title)
    )
    axes.grid(axis="y", color="#e5e5e5")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        handles=shown, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9
    )
    _save(figure, path)


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
    figure = _figure(3.3 * columns + 1.7 * legend_columns, 3.35 * rows + 0.4)
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
    figure.suptitle(_plain(title))
    _save(figure, path)


def _panel(
    axes: Axes, layout: Projection, labels: npt.NDArray[np.str_], classes: Sequence[str]
) -> None:
    for number, label in enumerate(classes):
        points = layout.points[labels == label]
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=18,
            color=_COLOURS[number % len(_COLOURS)],
            # Classes with the same colour differ in shape.
            marker=_MARKERS[number // len(_COLOURS) % len(_MARKERS)],
            edgecolors="white",
            linewidths=0.3,
            label=_short(label),
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#cccccc")


def _short(label: str) -> str:
    """Without the number that ESC's folders begin with; matplotlib skips a leading underscore."""
    return _plain(re.sub(r"^\d+\s*-\s*", "", label).lstrip("_") or label)


def _plain(text: str) -> str:
    """As matplotlib shows it letter by letter: dollars begin no formula, odd bytes are escaped."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    """A picture is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=_DPI)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
