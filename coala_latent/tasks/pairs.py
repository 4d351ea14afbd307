"""``coala-latent pairs``: a picture of sounds and their tags in the space they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.projection import Projection, project
from coala_latent.analysis.retrieval import cosines
from coala_latent.data.sources import class_tags
from coala_latent.data.tag_tables import TableColumns, read_table
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.tags import TagEmbedder
from coala_latent.errors import DataError
from coala_latent.registry import build_model
from coala_latent.tasks.labelled import LabelledSounds, labelled_folder, printable
from coala_latent.tasks.pictures import new_figure, save_picture
from coala_latent.tasks.probe import clip_features
from coala_latent.types import FloatArray

__all__ = ["pairs"]

_LAYER = "z_d"
_MARKERS = "osD^v<>pPX"
_LEGEND = 24  # sets of tags that can be named beside the picture


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Sounds and sets of tags.

    Attributes:
        sounds: ``(n, dim)``.
        tags: ``(sets, dim)``.
        own: ``(n,)``, index of each sound's set of tags.
        names: Of the sets.
    """

    sounds: FloatArray
    tags: FloatArray
    own: npt.NDArray[np.int64]
    names: Sequence[str]


def pairs(
    folder: Path,
    model: str,
    png: Path,
    *,
    table: Path | None = None,
    method: str = "tsne",
    seed: int = 0,
    device: str = "cpu",
    quiet: bool = False,
) -> dict[str, Any]:
    """Lay out sounds and their tags by cosine of ``z_d``, and join each sound with its tags.

    Args:
        folder: Without a table, with a sub-folder a class, the words of whose name are the tags.
        model: Name or path of a COALA model.
        png: The picture.
        table: Sounds of the folder with their tags; see `data.tag_tables.read_table`.
        method: ``"tsne"`` or ``"pca"``.
        seed: Of the layout.
        device: Of the model.
        quiet: No progress bars.

    Returns:
        JSON-able figures: mean cosine of sounds with their own tags and with others, the share of
        sounds to which no other tags are nearer than their own, how far the layout can be trusted,
        and which sounds and tags were left out.

    Raises:
        ConfigError: The model embeds no tags.
        DataError: The table cannot be read, or too little is left of the folder.
        DependencyError: matplotlib is not installed.
    """
    figure = new_figure(8.5, 7.0)  # before the work, so that a missing package shows at once
    tagged = _class_tags(folder) if table is None else _table_tags(table, folder)
    module, card = build_model(model)
    embedder = TagEmbedder(module, card, device=device)
    words = {word for tags in tagged.values() for word in tags}
    unknown = {word for word in words if embedder.vocabulary.find(word) is None}
    paths = [path for path, tags in tagged.items() if not unknown.issuperset(tags)]
    if not paths:
        raise DataError(f"{folder}: no sound with tags that {card.name} knows")
    embedded = embedder.embed([tagged[path] for path in paths], ignore_unknown=True)
    nobody = np.full(len(paths), "")  # neither classes nor groups matter to what follows
    values, skipped = clip_features(
        LabelledSounds(folder, paths, nobody, nobody),
        Embedder(module, card, layer=_LAYER, device=device),
        quiet=quiet,
    )
    keep = [number for number, path in enumerate(paths) if str(path) not in skipped]
    if not keep:
        raise DataError(f"none of {len(paths)} sounds can be used; {next(iter(skipped.values()))}")
    found = _pairs(values[keep], embedded.z_d[keep], [embedded.tags[number] for number in keep])
    layout = project(_units(found), method, standardise=False, seed=seed)
    _draw(figure, found, layout, f"{card.name}: sounds and their tags")
    save_picture(figure, png)
    return {
        "model": card.name,
        "sha256": card.sha256,
        "root": printable(folder),
        "sounds": len(found.own),
        "tag_sets": len(found.names),
        **_agreement(found),
        "layout": layout.to_dict(),
        "unknown_tags": sorted(printable(word) for word in unknown),
        "without_tags": [printable(path) for path in tagged if unknown.issuperset(tagged[path])],
        "skipped": {printable(path): printable(why) for path, why in skipped.items()},
        "picture": printable(png),
    }


def _class_tags(folder: Path) -> dict[Path, tuple[str, ...]]:
    sounds = labelled_folder(folder)
    return {
        path: class_tags(str(label))
        for path, label in zip(sounds.paths, sounds.labels, strict=True)
    }


def _table_tags(table: Path, folder: Path) -> dict[Path, tuple[str, ...]]:
    entries = read_table(table, folder, TableColumns())
    return {entry.path: entry.tags for entry in entries if entry.path is not None}


def _pairs(sounds: FloatArray, tags: FloatArray, names: Sequence[tuple[str, ...]]) -> _Pairs:
    """Equal sets of tags are one point."""
    first = {name: number for number, name in reversed(list(enumerate(names)))}
    places = sorted(first.values())
    order = {names[place]: number for number, place in enumerate(places)}
    own = np.array([order[name] for name in names])
    return _Pairs(sounds, tags[places], own, [", ".join(name) for name in order])


def _units(found: _Pairs) -> npt.NDArray[np.float64]:
    """Vectors of length 1, whose distances are those of their cosines."""
    rows = np.concatenate([found.sounds, found.tags]).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def _agreement(found: _Pairs) -> dict[str, float | None]:
    scores = cosines(found.sounds, found.tags)
    is_own = np.arange(len(found.names)) == found.own[:, None]
    own = scores[is_own]
    others = scores[~is_own]
    return {
        "cosine_own_tags": float(own.mean()),
        "cosine_other_tags": float(others.mean()) if others.size else None,
        "own_tags_nearest": float((own >= scores.max(axis=1)).mean()),
    }


def _draw(figure: Any, found: _Pairs, layout: Projection, title: str) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    axes = figure.add_subplot()
    colours = colormaps["tab10"](range(10))
    sounds, tags = layout.points[: len(found.own)], layout.points[len(found.own) :]
    for number, name in enumerate(found.names):
        colour = colours[number % len(colours)]
        points, centre = sounds[found.own == number], tags[number]
        lines = [(point, centre) for point in points]
        axes.add_collection(LineCollection(lines, colors=[colour], linewidths=0.4, alpha=0.5))
        marker = _MARKERS[number // len(colours) % len(_MARKERS)]
        axes.scatter(*points.T, s=14, color=colour, marker=marker, linewidths=0)
        shown = name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
        axes.scatter(
            *centre,
            s=150,
            color=colour,
            marker="*",
            edgecolors="black",
            linewidths=0.7,
            label=shown,
        )
    axes.set(xticks=[], yticks=[], title=title)
    axes.set_xlabel(
        f"dots: sounds, stars: their tags; trustworthiness {layout.trustworthiness:.2f}", fontsize=9
    )
    if len(found.names) <= _LEGEND:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
