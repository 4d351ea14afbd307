"""Pictures of concepts: their tree, their similarities in its order, and activations over time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError
from coala_latent.tasks.pictures import COLOURS, new_figure, plain, save_picture
from coala_latent.types import FloatArray
from coala_latent.viewer.concept_graph import ConceptPageData

__all__ = [
    "draw_activations",
    "draw_concept_tree",
    "draw_similarity",
    "tree_order",
]

_READABLE = 100  # concepts of a tree whose names all stand beside each other
_MOST_NAMES = 70  # of a matrix, and of a radial tree
_LONGEST = 40
_ROW = 0.2  # inches
_FONT = 8.5
_GREY = "#8f949b"
Indices = npt.NDArray[np.int64]


def tree_order(parent: npt.ArrayLike) -> Indices:
    """Concepts depth first, larger branches first; equal ones in their order.

    Args:
        parent: ``(n,)`` the parent of each concept, -1 for none. Without circles.

    Returns:
        ``(n,)`` concepts, parents before their children.

    Raises:
        DataError: There is a circle.
    """
    order, _, _ = _tree(np.asarray(parent, dtype=np.int64))
    return order


def draw_concept_tree(data: ConceptPageData, path: Path, threshold: float | None = None) -> None:
    """The tree within a concept graph, each concept under its strongest parent.

    From left to right with all names for up to 100 concepts, in rings with the names of the largest
    branches for more. Colours are branches; lines are the thicker, the stronger an edge.

    Args:
        data: The graph.
        path: PNG to write.
        threshold: Edges below that strength are left out.

    Raises:
        DependencyError: matplotlib is not installed.
        DataError: There is no concept.
    """
    if not len(data):
        raise DataError(f"{path}: a tree without concepts cannot be drawn")
    parent = data.parents(threshold)
    order, depth, size = _tree(parent)
    draw = _readable if len(data) <= _READABLE else _rings
    with _any_script():
        save_picture(draw(data, parent, order, depth, size), path)


def draw_similarity(
    names: Sequence[str],
    similarity: FloatArray,
    path: Path,
    parent: npt.ArrayLike | None = None,
    title: str = "Similarity of concepts",
) -> None:
    """A similarity matrix in the order of a tree, with lines around its branches.

    Args:
        names: ``(n,)``; written for up to 70 concepts.
        similarity: ``(n, n)``: rows are recordings of a concept, columns concept vectors. NaN is
            left white.
        path: PNG to write.
        parent: ``(n,)`` the parent of each concept, -1 for none; in the given order without.
        title: Above the picture.

    Raises:
        DependencyError: matplotlib is not installed.
        DataError: No concepts, another number of names, or a circle among the parents.
    """
    matrix = np.asarray(similarity, dtype=np.float64)
    n = len(names)
    if not n or matrix.shape != (n, n):
        raise DataError(f"{path}: {n} names, and similarities of shape {matrix.shape}")
    above = np.full(n, -1, dtype=np.int64) if parent is None else np.asarray(parent, np.int64)
    if above.shape != (n,):
        raise DataError(f"{path}: {n} names, and parents of shape {above.shape}")
    order, _, size = _tree(above)
    if parent is None:
        order = np.arange(n)
    side = float(np.clip(2.5 + 0.16 * n, 4.5, 11.0))
    figure = new_figure(side + 1.0, side)
    axes = figure.subplots()
    known = matrix[np.isfinite(matrix)]
    shares = known.size and known.min() >= 0 and known.max() <= 1
    shades = axes.imshow(
        matrix[np.ix_(order, order)],
        cmap="viridis",
        interpolation="nearest" if n <= 400 else "antialiased",
        **({"vmin": 0.0, "vmax": 1.0} if shares else {}),
    )
    if n <= _MOST_NAMES:
        labels = [_short(names[i], 24) for i in order]
        axes.set_xticks(range(n), labels, rotation=90, fontsize=_FONT - 1)
        axes.set_yticks(range(n), labels, fontsize=_FONT - 1)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    if parent is not None:
        for i in np.flatnonzero((above < 0) & (size > 1)):
            axes.add_patch(_square(float(place[i]) - 0.5, float(size[i])))
    axes.set_xlabel("concept vector")
    axes.set_ylabel("recordings of")
    axes.set_title(plain(title), loc="left")
    figure.colorbar(shades, ax=axes, label="mean activation" if shares else "similarity")
    with _any_script():
        save_picture(figure, path)


def draw_activations(
    names: Sequence[str],
    values: FloatArray,
    start: FloatArray,
    end: FloatArray,
    path: Path,
    parent: npt.ArrayLike | None = None,
    title: str = "Concepts over time",
    concepts: int = 20,
) -> None:
    """Activations of concepts over the time of a recording, as shades.

    Args:
        names: ``(n,)``.
        values: ``(rows, n)``, usually in [0, 1].
        start: ``(rows,)`` seconds, ascending.
        end: ``(rows,)`` seconds.
        path: PNG to write.
        parent: ``(n,)`` the parent of each concept, -1 for none: what is shown stands in the order
            of the tree, otherwise the highest mean first.
        title: Above the picture.
        concepts: How many to show, those with the highest peaks.

    Raises:
        DependencyError: matplotlib is not installed.
        DataError: Lengths that do not agree, nothing to show, or values that are not finite.
    """
    shown = np.asarray(values, dtype=np.float64)
    begin, stop = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    rows = len(begin)
    if shown.shape != (rows, len(names)) or stop.shape != (rows,) or not shown.size:
        raise DataError(
            f"{path}: activations of shape {shown.shape} for {rows} times and {len(names)} concepts"
        )
    if not np.isfinite(shown).all():
        raise DataError(f"{path}: activations that are not finite")
    chosen = np.argsort(-shown.max(axis=0), kind="stable")[: max(1, concepts)]
    if parent is None:
        chosen = chosen[np.argsort(-shown[:, chosen].mean(axis=0), kind="stable")]
    else:
        chosen = tree_order(parent)[np.isin(tree_order(parent), chosen)]
    # Two rows that overlap share the time between their middles.
    middles = (begin + stop) / 2
    borders = np.concatenate([begin[:1], (middles[1:] + middles[:-1]) / 2, [stop.max()]])
    figure = new_figure(9.5, 1.5 + 0.26 * len(chosen))
    axes = figure.subplots()
    highest = float(shown.max())
    shades = axes.pcolormesh(
        borders,
        np.arange(len(chosen) + 1),
        shown[:, chosen].T,
        cmap="magma",
        vmin=min(0.0, float(shown.min())),
        vmax=1.0 if 0 < highest <= 1 else None,
    )
    axes.set_yticks(np.arange(len(chosen)) + 0.5, [_short(names[i]) for i in chosen])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(plain(title), loc="left")
    figure.colorbar(shades, ax=axes, label="activation")
    with _any_script():
        save_picture(figure, path)


def _readable(
    data: ConceptPageData, parent: Indices, order: Indices, depth: Indices, size: Indices
) -> Any:
    """From left to right: a row for every leaf, a column for every depth."""
    row = _rows(parent, order)
    names = [_short(name) for name in data.names]
    figure = new_figure(8.0, 1.0)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    renderer = figure.canvas.get_renderer()
    bold = [parent[i] < 0 and size[i] > 1 for i in range(len(data))]
    texts = [
        axes.text(0, 0, names[i], fontsize=_FONT, va="center", weight="bold" if bold[i] else None)
        for i in range(len(data))
    ]
    inches = [text.get_window_extent(renderer).width / figure.dpi for text in texts]
    column = [0.3]
    for level in range(int(depth.max()) + 1):
        widest = max(inches[i] for i in range(len(data)) if depth[i] == level)
        column.append(column[-1] + widest + 0.65)
    width, height = max(3.0, column[-1] - 0.3), _ROW * (float(row.max()) + 1) + 0.65
    figure.set_size_inches(width, height)
    axes.set(xlim=(0, width), ylim=(-height + 0.55, 0.55))
    axes.axis("off")
    axes.text(0.2, 0.3, plain(data.title), fontsize=11, va="center", weight="bold")
    colours, thickness = _colours(parent, order, size), _thickness(data)
    for i in order.tolist():
        x, y = column[depth[i]], -_ROW * row[i]
        axes.plot([x], [y], "o", ms=4.5, color=colours[i])
        texts[i].set_position((x + 0.1, y))
        if parent[i] >= 0:
            above = int(parent[i])
            from_x = column[depth[above]] + inches[above] + 0.17
            _curve(
                axes,
                [(from_x, -_ROW * row[above]), (from_x + 0.25, -_ROW * row[above])],
                [(x - 0.25, y), (x - 0.07, y)],
                colours[i],
                thickness[above, i],
            )
    return figure


def _rings(
    data: ConceptPageData, parent: Indices, order: Indices, depth: Indices, size: Indices
) -> Any:
    """Around the root: an angle for every leaf, a ring for every depth."""
    row = _rows(parent, order)
    angle = np.pi / 2 - 2 * np.pi * row / (float(row.max()) + 1)
    # Rings of few concepts stand close.
    share = np.bincount(depth) / np.bincount(depth).max()
    radius = np.cumsum(np.clip(1.5 * np.sqrt(share), 0.42, 1.0))[depth]
    radius /= radius.max()
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    figure = new_figure(10.0, 10.4)
    axes = figure.subplots()
    colours, thickness = _colours(parent, order, size), _thickness(data)
    slim = float(np.clip(300 / len(data), 0.25, 1))
    for i in order.tolist():
        above = int(parent[i])
        if above < 0:
            continue
        ring = (radius[above] + radius[i]) / 2
        bends = [(ring * np.cos(angle[k]), ring * np.sin(angle[k])) for k in (above, i)]
        _curve(
            axes,
            [(x[above], y[above]), bends[0]],
            [bends[1], (x[i], y[i])],
            colours[i],
            slim * thickness[above, i],
        )
    counts = np.asarray(data.counts, dtype=np.float64)
    area = 90 * slim * (0.12 + counts / max(1.0, float(counts.max())))
    axes.scatter(x, y, s=area, c=colours, linewidths=0, zorder=3)
    edges = [(float(each.min()) - 0.1, float(each.max()) + 0.1) for each in (x, y)]
    spans = [high - low for low, high in edges]
    figure.set_size_inches(10.0 * spans[0] / max(spans) + 0.5, 10.0 * spans[1] / max(spans) + 0.7)
    axes.set(xlim=edges[0], ylim=edges[1], aspect="equal")
    axes.axis("off")
    axes.set_title(plain(data.title), loc="left", weight="bold")
    figure.draw_without_rendering()
    _name(figure, axes, data, np.lexsort((-counts, -size)), x, y)
    return figure


def _name(figure: Any, axes: Any, data: ConceptPageData, order: Indices, x: Any, y: Any) -> None:
    """Names of the first concepts of an order, as long as none lies over another."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer = figure.canvas.get_renderer()
    taken: list[Any] = []
    for i in order[: 6 * _MOST_NAMES].tolist():
        text = axes.annotate(
            _short(data.names[i]), (x[i], y[i]), xytext=(0, 6), textcoords="offset points",
            ha="center", fontsize=_FONT, zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip
        box = text.get_window_extent(renderer).padded(3)
        if len(taken) >= _MOST_NAMES or any(Bbox.intersection(box, other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _tree(parent: Indices) -> tuple[Indices, Indices, Indices]:
    """Order depth first, depth and size of each concept's branch."""
    n = len(parent)
    children: list[list[int]] = [[] for _ in range(n)]
    waiting: list[int] = []
    for i, above in enumerate(parent.tolist()):
        (waiting if above < 0 else children[above]).append(i)
    depth, size = np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.int64)
    tops, levels = list(waiting), []
    while waiting:
        i = waiting.pop()
        levels.append(i)
        for child in children[i]:
            depth[child] = depth[i] + 1
            waiting.append(child)
    if len(levels) < n:
        raise DataError(f"{n - len(levels)} concepts hang in a circle of parents")
    for i in reversed(levels):
        if parent[i] >= 0:
            size[parent[i]] += size[i]
    order: list[int] = []
    waiting = sorted(tops, key=lambda i: -size[i])[::-1]
    while waiting:
        i = waiting.pop()
        order.append(i)
        waiting += sorted(children[i], key=lambda child: -size[child])[::-1]
    return np.array(order, dtype=np.int64), depth, size


def _rows(parent: Indices, order: Indices) -> npt.NDArray[np.float64]:
    """A row for every leaf; others in the middle of their first and last child."""
    first, last = np.full(len(parent), np.inf), np.full(len(parent), -np.inf)
    row = np.zeros(len(parent))
    has_children = np.isin(np.arange(len(parent)), parent)
    leaves = np.flatnonzero(~has_children[order])
    row[order[leaves]] = np.arange(len(leaves))
    for i in order[::-1].tolist():
        if has_children[i]:
            row[i] = (first[i] + last[i]) / 2
        if parent[i] >= 0:
            first[parent[i]] = min(first[parent[i]], row[i])
            last[parent[i]] = max(last[parent[i]], row[i])
    return row


def _colours(parent: Indices, order: Indices, size: Indices) -> list[str]:
    colours = [_GREY] * len(parent)
    named = 0
    for i in order.tolist():
        if parent[i] >= 0:
            colours[i] = colours[parent[i]]
        elif size[i] > 1 and named < len(COLOURS) - 1:
            colours[i] = COLOURS[named]
            named += 1
    return colours


def _thickness(data: ConceptPageData) -> dict[tuple[int, int], float]:
    strength = np.asarray(data.strength, dtype=np.float64)
    low, high = (strength.min(), strength.max()) if len(strength) else (0.0, 1.0)
    share = (strength - low) / (high - low or 1.0)
    edges = np.asarray(data.edges).reshape(-1, 2).tolist()
    return {(p, c): 0.7 + 1.8 * float(s) for (p, c), s in zip(edges, share, strict=True)}


def _curve(axes: Any, begin: list[Any], end: list[Any], colour: str, width: float) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
    outline = Outline([*begin, *end], codes)
    axes.add_patch(PathPatch(outline, fc="none", ec=colour, lw=width, alpha=0.75, zorder=1))


def _square(corner: float, side: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((corner, corner), side, side, fill=False, edgecolor="#e8e8e8", linewidth=1.25)


def _short(name: object, longest: int = _LONGEST) -> str:
    text = " ".join(str(name).split())
    return plain(text if len(text) <= longest else text[: longest - 1] + "\u2026")


@contextmanager
def _any_script() -> Iterator[None]:
    """matplotlib draws a box for what its font lacks; the warning a letter says nothing more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
