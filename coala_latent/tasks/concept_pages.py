"""A hierarchy of concepts to look at and to listen to: page, pictures, files for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError
from coala_latent.store import Store
from coala_latent.store.schema import printable_text
from coala_latent.tasks.concept_export import FORMATS, export_concepts
from coala_latent.tasks.concept_hierarchies import load_hierarchy, load_similarity
from coala_latent.tasks.concept_pictures import draw_concept_tree, draw_similarity
from coala_latent.tasks.map_sounds import find_recordings, link_sounds
from coala_latent.viewer.concept_graph import ConceptPageData, concept_graph_page

__all__ = ["WrittenGraph", "concept_page_data", "write_concept_graph"]

_PAGE, _PICTURE = (".html", ".htm"), ".png"
_Examples = list[list[tuple[str, str, float, float]]]
_SHOWN = ("protocol", "max_children", "parents", "min_similarity", "margin", "false_edge_rate")


@dataclass(frozen=True)
class WrittenGraph:
    """What was written.

    Attributes:
        path: The file.
        concepts: In it.
        edges: In it.
        missing: Example sounds that are not where they were.
    """

    path: Path
    concepts: int
    edges: int
    missing: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {**vars(self), "path": str(self.path)}


def write_concept_graph(
    hierarchy: Path,
    output: Path,
    *,
    title: str | None = None,
    audio_root: Path | None = None,
    threshold: float | None = None,
    matrix: bool = False,
) -> WrittenGraph:
    """Write a hierarchy in the format that the output's ending says.

    Args:
        hierarchy: Folder of `hierarchy`.
        output: ``.html`` (interactive), ``.png`` (a picture of the tree), ``.graphml``, ``.json``,
            ``.nwk`` or ``.csv``.
        title: Of page or picture.
        audio_root: Where the sounds are, if no longer where they were encoded from.
        threshold: Leave weaker edges out; a page has a slider instead.
        matrix: Draw the similarities, in the order of the tree, instead of the tree (``.png``).

    Raises:
        ConfigError: No such format, or options that do not go with it.
        DataError: The hierarchy cannot be read.
        DependencyError: A picture, and matplotlib is not installed.
    """
    suffix = output.suffix.lower()
    if suffix not in (*_PAGE, _PICTURE, *FORMATS):
        formats = ", ".join((_PAGE[0], _PICTURE, *FORMATS))
        raise ConfigError(f"{output}: no format of concept graphs (use {formats})")
    if matrix and suffix != _PICTURE:
        raise ConfigError(f"{output}: a matrix is a picture (use .png)")
    if threshold is not None and (suffix in _PAGE or not np.isfinite(threshold)):
        raise ConfigError(
            f"threshold {threshold:g}: a number, for anything but a page, which has a slider"
        )
    found = load_hierarchy(hierarchy)
    output.parent.mkdir(parents=True, exist_ok=True)
    page = suffix in _PAGE
    data, missing = concept_page_data(
        found, title or _title(found), output.parent if page else None, audio_root
    )
    if page:
        concept_graph_page(data).write(output)
    elif suffix != _PICTURE:
        export_concepts(data, output, threshold)
    elif matrix:
        folder = hierarchy if hierarchy.is_dir() else hierarchy.parent
        parents = data.parents(threshold)
        draw_similarity(data.names, load_similarity(folder), output, parents, title=data.title)
    else:
        draw_concept_tree(data, output, threshold)
    return WrittenGraph(output, len(data), int(data.kept(threshold).sum()), missing)


def concept_page_data(
    found: Mapping[str, Any], title: str, page: Path | None, audio_root: Path | None = None
) -> tuple[ConceptPageData, list[str]]:
    """A hierarchy as its page takes it, and the example sounds that are not there.

    Args:
        found: Of `load_hierarchy`.
        title: Of the page.
        page: Folder that sounds are linked from; None: without sounds.
        audio_root: See `write_concept_graph`.
    """
    if page is None:
        examples, missing = _Examples(), list[str]()
    else:
        examples, missing = _examples(found, page, audio_root)
    edges = found["edges"]
    accuracy = [np.nan if each is None else each for each in found["accuracy"]]
    data = ConceptPageData(
        title=title,
        names=found["names"],
        edges=np.array(found["tree"]["edges"], dtype=np.int64).reshape(-1, 2),
        strength=_column(edges, "strength"),
        low=_column(edges, "low"),
        high=_column(edges, "high"),
        centrality=np.array(found["centrality"], dtype=np.float64),
        counts=np.array(found["counts"], dtype=np.int64),
        accuracy=np.array(accuracy, dtype=np.float64),
        examples=examples,
        settings={
            "model": found["model"],
            "layer": found["layer"],
            "recordings": found["part"],
            **{name: found["settings"][name] for name in _SHOWN},
            "circles of links": len(found["cycles"]),
            **found["versions"],
        },
    )
    return data, missing


def _column(edges: list[dict[str, Any]], name: str) -> npt.NDArray[np.float64]:
    return np.array([np.nan if e[name] is None else e[name] for e in edges], dtype=np.float64)


def _title(found: Mapping[str, Any]) -> str:
    return f"Concepts of {Path(found['store']).stem}"


def _examples(
    found: Mapping[str, Any], page: Path, audio_root: Path | None
) -> tuple[_Examples, list[str]]:
    """Sounds of each concept as the page reaches them."""
    wanted = {name for names in found["examples"] for name in names}
    with Store(Path(found["store"])) as store:
        records = [each for each in store.files if printable_text(each.path) in wanted]
        root = store.metadata.get("root")
    names = [printable_text(record.path) for record in records]
    base = audio_root if audio_root is not None else Path(root) if root else None
    paths = find_recordings(records, base)
    urls = link_sounds(paths, names, page.resolve()).urls
    place = {name: number for number, name in enumerate(names)}
    listed = [
        [
            (name, urls[place[name]], 0.0, float(records[place[name]].duration))
            for name in examples
            if name in place
        ]
        for examples in found["examples"]
    ]
    return listed, [name for name, path in zip(names, paths, strict=True) if path is None]
