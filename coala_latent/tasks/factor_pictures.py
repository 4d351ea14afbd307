"""Pictures of latents and their factors: layers, blocks, and what an edit of a block does.

Each function takes arrays and returns a matplotlib figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.statistics import Interval
from coala_latent.tasks.pictures import COLOURS, MARKERS, new_figure, plain

__all__ = [
    "draw_block_shares",
    "draw_blocks",
    "draw_dimensions",
    "draw_distances",
    "draw_explained",
    "draw_interpolation",
    "draw_layer_boxes",
    "draw_losses",
    "draw_planes",
    "draw_stage_parts",
]

_Array = npt.NDArray[np.floating]
_Labels = npt.NDArray[np.int64]
_GREY = "#777777"


def draw_dimensions(dims: Mapping[str, int]) -> Any:
    """Values in a row of each layer, on a logarithmic scale."""
    figure = new_figure(max(4.0, 1.2 + 0.5 * len(dims)), 3.0)
    axes = figure.add_subplot()
    axes.bar(range(len(dims)), list(dims.values()), color=COLOURS[0])
    axes.set_yscale("log")
    _layer_ticks(axes, list(dims))
    axes.set_ylabel("values a row")
    return figure


def draw_explained(ratios: Mapping[str, _Array]) -> Any:
    """Share of the variance that each principal component keeps, stacked, for each layer.

    Args:
        ratios: ``(components,)`` by layer, largest first.
    """
    figure = new_figure(max(4.0, 1.2 + 0.5 * len(ratios)), 3.2)
    axes = figure.add_subplot()
    shades = ("#0072b2", "#8ec3e6")
    for place, found in enumerate(ratios.values()):
        for number, (low, share) in enumerate(zip(np.cumsum(found) - found, found, strict=True)):
            axes.bar(place, share, bottom=low, color=shades[number % 2], width=0.8)
        axes.text(place, found.sum() + 0.01, f"{found.sum():.2f}", ha="center", fontsize=7)
    axes.set_ylim(0, 1.05)
    _layer_ticks(axes, list(ratios))
    axes.set_ylabel("share of the variance")
    return figure


def draw_layer_boxes(
    scores: Mapping[str, Mapping[str, _Array]],
    chance: Mapping[str, float],
    best: Mapping[str, str],
    different: Mapping[str, Sequence[tuple[str, str]]],
) -> Any:
    """Accuracy by fold, a panel for each factor and a box for each layer.

    Args:
        scores: By factor and layer, ``(folds,)``.
        chance: By factor; a dotted line.
        best: By factor, the layer with a coloured box.
        different: By factor, pairs of layers joined by a bar with a star: corrected p < 0.05.
    """
    layers = list(next(iter(scores.values())))
    figure = new_figure(max(5.0, 1.2 + 0.5 * len(layers)), 2.9 * len(scores))
    panels = figure.subplots(len(scores), 1, squeeze=False)[:, 0]
    for axes, (factor, found) in zip(panels, scores.items(), strict=True):
        boxes = axes.boxplot(
            [100 * found[layer] for layer in layers], patch_artist=True, widths=0.6
        )
        for box, layer in zip(boxes["boxes"], layers, strict=True):
            box.set_facecolor(COLOURS[4] if layer == best[factor] else "#dddddd")
        for line in boxes["medians"]:
            line.set_color("#000000")
        axes.axhline(100 * chance[factor], color=_GREY, linestyle=":", lw=1)
        height = 104.0
        for one, other in different[factor]:
            places = sorted((layers.index(one) + 1, layers.index(other) + 1))
            axes.plot(places, [height, height], color="#000000", lw=1)
            axes.text(sum(places) / 2, height, "*", ha="center", va="bottom", fontsize=9)
            height += 7
        axes.set_ylim(0, max(103.0, height + 3))
        axes.set_yticks(range(0, 101, 25))
        _layer_ticks(axes, layers, first=1)
        axes.set_ylabel("accuracy in %")
        axes.set_title(plain(factor), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_planes(
    planes: Mapping[str, _Array], labels: _Labels, factors: Mapping[str, Sequence[str]]
) -> Any:
    """Points on a plane, a column for each layer and a row for each factor.

    Args:
        planes: ``(n, 2)`` by layer.
        labels: ``(n, factors)``.
        factors: Class names by factor.
    """
    figure = new_figure(2.7 * len(planes) + 1.3, 2.7 * len(factors))
    grid = figure.subplots(len(factors), len(planes), squeeze=False)
    for number, (factor, classes) in enumerate(factors.items()):
        for axes, (layer, points) in zip(grid[number], planes.items(), strict=True):
            _scatter(axes, points, labels[:, number], classes)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("#cccccc")
            if number == 0:
                axes.set_title(plain(layer), fontsize=10)
        _legend(grid[number, -1], factor)
    return figure


def draw_losses(train: _Array, validation: _Array) -> Any:
    """Loss over epochs, a band of two standard errors around each mean.

    Args:
        train: ``(epochs, 3)``: epoch, mean over batches, standard error.
        validation: The same for the validation part; may have other epochs.
    """
    figure = new_figure(5.5, 3.0)
    axes = figure.add_subplot()
    for name, colour, found in (
        ("training", COLOURS[0], train),
        ("validation", COLOURS[1], validation),
    ):
        epoch, mean, error = found.T
        axes.plot(epoch, mean, color=colour, label=name, lw=1.2)
        axes.fill_between(epoch, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.25, lw=0)
    axes.set(xlabel="epoch", ylabel="loss a pair")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def draw_blocks(
    blocks: Mapping[str, _Array], labels: _Labels, factors: Mapping[str, Sequence[str]]
) -> Any:
    """The first dimension of two blocks against each other, with boxes by class at the margins.

    Args:
        blocks: Two blocks, each ``(n, dims)``, named as their factors.
        labels: ``(n, factors)``, columns as in `factors`.
        factors: Class names by factor; a panel each.
    """
    (across, x), (up, y) = ((name, values[:, 0]) for name, values in blocks.items())
    figure = new_figure(4.9 * len(factors), 4.4)
    for column, (factor, parts) in enumerate(
        zip(factors, figure.subfigures(1, len(factors), squeeze=False)[0], strict=True)
    ):
        classes, own = factors[factor], labels[:, column]
        grid = parts.subplots(
            2, 2, width_ratios=(4, 1.3), height_ratios=(1.3, 4), sharex="col", sharey="row"
        )
        _scatter(grid[1, 0], np.stack([x, y], axis=1), own, classes)
        grid[1, 0].set(xlabel=plain(f"{across} block"), ylabel=plain(f"{up} block"))
        _class_boxes(grid[0, 0], x, own, classes, vertical=False)
        _class_boxes(grid[1, 1], y, own, classes, vertical=True)
        grid[0, 1].set_axis_off()
        handles, names = grid[1, 0].get_legend_handles_labels()
        grid[0, 1].legend(handles, names, frameon=False, fontsize=7, loc="center")
        parts.suptitle(plain(f"coloured by {factor}"), fontsize=10)
    return figure


def draw_block_shares(shares: Mapping[str, Mapping[str, Interval]], title: str) -> Any:
    """A bar with its interval for each block, a panel for each factor.

    Args:
        shares: By block and factor.
        title: Of the value.
    """
    factors = list(next(iter(shares.values())))
    figure = new_figure(1.4 + 1.9 * len(factors), 2.9)
    panels = figure.subplots(1, len(factors), squeeze=False, sharey=True)[0]
    for axes, factor in zip(panels, factors, strict=True):
        for place, (block, found) in enumerate(shares.items()):
            each = found[factor]
            colour = COLOURS[2] if block == factor else "#bbbbbb"
            axes.bar(place, each.mean, color=colour, width=0.7)
            if each.bounded:
                ends = [[each.mean - each.low], [each.high - each.mean]]
                axes.errorbar(
                    place, each.mean, yerr=np.clip(ends, 0, None), color="#000000", capsize=3, lw=1
                )
        axes.set_xticks(
            range(len(shares)), [plain(block) for block in shares], rotation=30, ha="right"
        )
        axes.set_title(plain(factor), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel=title, ylim=(0, 1))
    return figure


def draw_distances(distances: Mapping[str, Mapping[str, Interval]]) -> Any:
    """Distance to the donor by kind of receptor, a panel for each condition.

    Args:
        distances: By condition and kind; the kind ``swap`` is coloured.
    """
    kinds = list(next(iter(distances.values())))
    figure = new_figure(1.4 + 2.5 * len(distances), 3.4)
    panels = figure.subplots(1, len(distances), squeeze=False, sharey=True)[0]
    for axes, (condition, found) in zip(panels, distances.items(), strict=True):
        for place, kind in enumerate(kinds):
            if kind in found:
                colour = COLOURS[2] if kind == "swap" else COLOURS[9]
                _point(axes, place, found[kind], colour)
        axes.set_xticks(
            range(len(kinds)),
            [kind.replace("_", " ") for kind in kinds],
            rotation=40,
            ha="right",
            rotation_mode="anchor",
            fontsize=8,
        )
        axes.set_title(plain(condition), fontsize=10)
        axes.grid(axis="y", color="#e5e5e5")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("distance of logits to the donor's")
    return figure


def draw_interpolation(curves: Mapping[str, Mapping[str, Interval]]) -> Any:
    """Distance to the donor by weight of its values, a line for each condition."""
    figure = new_figure(5.0, 3.0)
    axes = figure.add_subplot()
    for number, (condition, found) in enumerate(curves.items()):
        weights = [float(weight) for weight in found]
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(weights, [each.mean for each in found.values()], color=colour, lw=1.2)
        for weight, each in zip(weights, found.values(), strict=True):
            _point(axes, weight + 0.006 * number, each, colour)
        axes.plot([], [], color=colour, marker="o", label=plain(condition))
    axes.set(xlabel="weight of the donor's block", ylabel="distance of logits to the donor's")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _point(axes: Any, place: float, found: Interval, colour: str) -> None:
    axes.plot(place, found.mean, color=colour, marker="o", markersize=5)
    if found.bounded:
        axes.plot([place, place], [found.low, found.high], color=colour, lw=1.5)


def draw_stage_parts(affine: _Array, remainder: _Array) -> Any:
    """Length of what each stage does to a point: its affine part, and the rest.

    Args:
        affine: ``(stages,)`` mean norm of the stage's tangent at 0, minus the point itself.
        remainder: ``(stages,)`` mean norm of what the tangent does not explain.
    """
    figure = new_figure(1.6 + 0.8 * len(affine), 2.8)
    axes = figure.add_subplot()
    places = np.arange(len(affine))
    axes.bar(places - 0.2, affine, width=0.38, color=COLOURS[0], label="affine part")
    axes.bar(places + 0.2, remainder, width=0.38, color=COLOURS[1], label="remainder")
    axes.set_xticks(places, [str(number + 1) for number in places])
    axes.set(xlabel="stage", ylabel="mean length")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _layer_ticks(axes: Any, layers: Sequence[str], first: int = 0) -> None:
    axes.set_xticks(
        range(first, first + len(layers)),
        [plain(layer) for layer in layers],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )


def _scatter(axes: Any, points: _Array, own: _Labels, classes: Sequence[str]) -> None:
    for number, name in enumerate(classes):
        chosen = points[own == number]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=9,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            edgecolors="none",
            alpha=0.7,
            label=plain(name),
        )


def _class_boxes(
    axes: Any, values: _Array, own: _Labels, classes: Sequence[str], *, vertical: bool
) -> None:
    """Boxes by class, in the order of their medians."""
    present = [number for number in range(len(classes)) if np.any(own == number)]
    present.sort(key=lambda number: float(np.median(values[own == number])))
    boxes = axes.boxplot(
        [values[own == number] for number in present],
        orientation="vertical" if vertical else "horizontal",
        patch_artist=True,
        showfliers=False,
        widths=0.7,
    )
    for box, number in zip(boxes["boxes"], present, strict=True):
        box.set_facecolor(COLOURS[number % len(COLOURS)])
    for line in boxes["medians"]:
        line.set_color("#000000")
    axes.set_axis_off()


def _legend(axes: Any, title: str) -> None:
    axes.legend(
        title=plain(title),
        frameon=False,
        fontsize=7,
        title_fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
