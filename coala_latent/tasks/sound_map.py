"""``coala-latent map``: a page on which every sound of a store is a point that can be heard."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import coala_latent
from coala_latent.analysis.map_projections import (
    LANDMARKS,
    MapProjection,
    require_method,
)
from coala_latent.errors import ConfigError
from coala_latent.store import Store
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.map_clusters import cluster_column
from coala_latent.tasks.map_columns import PointColumns, point_columns
from coala_latent.tasks.map_layouts import kept_layout
from coala_latent.tasks.map_pictures import Pictures, map_pictures, require_pillow
from coala_latent.tasks.map_sounds import (
    MapSounds,
    copy_sounds,
    embed_sounds,
    find_recordings,
    link_sounds,
)
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.recordings import PointsBy, RecordingVectors, recording_vectors
from coala_latent.viewer.sound_map import SoundMap, sound_map_page

__all__ = ["MapOptions", "MapSummary", "make_sound_map", "page_path"]

_MEGABYTE = 1_000_000
_PAGES = (".html", ".htm")


@dataclass(frozen=True)
class MapOptions:
    """What a map shows.

    Attributes:
        by: A point is a recording (``"files"``) or a row of the store (``"rows"``).
        metadata: Tables about recordings; their columns colour and filter the points.
        key: Heading of the tables' column that names the recordings.
        citation: Heading of the tables' column of citations.
        clusters: Number of clusters to find, or a table with a column ``cluster``.
        projections: Of `MAP_METHODS`; the first is shown first.
        perplexity: Of t-SNE.
        landmarks: Of t-SNE: at most so many points are laid out by it, the others placed among
            them.
        seed: Of projections, clusters, and the choice of points.
        title: Of the page; that of the store by default.
        audio: Sounds linked where they are (copied, where the map is a folder), embedded in the
            page, or none.
        audio_root: Folder of the sounds; where they were encoded from by default.
        embed_limit: Most megabytes of embedded sounds.
        spectrograms: Draw a picture of each recording.
        picture_limit: Most megabytes of pictures in the page; more are written beside it.
        max_points: Of more points so many are drawn at random.
        workers: Sounds that are read at a time; one a core by default.
    """

    by: PointsBy = "files"
    metadata: tuple[Path, ...] = ()
    key: str | None = None
    citation: str | None = None
    clusters: int | Path | None = None
    projections: tuple[str, ...] = ("tsne", "pca")
    perplexity: float = 30.0
    landmarks: int = LANDMARKS
    seed: int = 0
    title: str | None = None
    audio: Literal["link", "embed", "none"] = "link"
    audio_root: Path | None = None
    embed_limit: float = 50.0
    spectrograms: bool = True
    picture_limit: float = 20.0
    max_points: int = 100_000
    workers: int | None = None


@dataclass
class MapSummary:
    """What was written.

    Attributes:
        page: The page.
        points: On the map.
        points_of: In the store; more than `points` where a part was drawn.
        recordings: That the points are of.
        without_vector: Recordings of the store that are not on the map because they have none.
        missing: Recordings whose sound was not found.
        root: Where it was looked for.
        unreachable: Recordings whose sound no relative path leads to.
        unplayable: ``(name, why)``: linked, but browsers do not play it; or it could not be
            converted.
        converted: Sounds that became mp3.
        sounds_megabytes: Of sounds embedded or copied.
        pictures_megabytes: Of spectrograms.
        pictures_folder: Where spectrograms were written; None where they are part of the page.
        no_picture: ``(name, why)``.
        matched: By table, how many recordings it knows.
        projections: By name, how the layout was made and how far it can be trusted.
        page_megabytes: Size of the page.
        seconds: Time it took.
    """

    page: str
    points: int
    points_of: int
    recordings: int
    without_vector: int
    missing: list[str] = field(default_factory=list)
    root: str = ""
    unreachable: list[str] = field(default_factory=list)
    unplayable: list[tuple[str, str]] = field(default_factory=list)
    converted: int = 0
    sounds_megabytes: float = 0.0
    pictures_megabytes: float = 0.0
    pictures_folder: str | None = None
    no_picture: list[tuple[str, str]] = field(default_factory=list)
    matched: dict[str, int] = field(default_factory=dict)
    projections: dict[str, str] = field(default_factory=dict)
    page_megabytes: float = 0.0
    seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 where every point can be heard, 1 where some cannot."""
        return 1 if self.missing or self.unreachable or self.unplayable else 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; names that are not Unicode are escaped."""
        return _printable(asdict(self))


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_printable(name): _printable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable(each) for each in value]
    return printable(value) if isinstance(value, str) else value


def page_path(output: str | os.PathLike[str]) -> tuple[Path, bool]:
    """The page that an output means, and whether it is that of a folder of its own.

    A name that ends with ``.html`` is a page; anything else, and what ends with a slash or is a
    folder, is a folder with ``index.html`` and the sounds in it.
    """
    text = os.fspath(output)
    path = Path(text)
    slash = text.endswith(("/", os.sep))
    if path.suffix.lower() in _PAGES and not slash and not path.is_dir():
        return path, False
    return path / "index.html", True


def make_sound_map(
    store: Path,
    output: str | os.PathLike[str],
    options: MapOptions | None = None,
    *,
    quiet: bool = False,
) -> MapSummary:
    """Write the map of a store.

    Args:
        store: A store, or a folder of document vectors.
        output: ``NAME.html``, or a folder; see `page_path`.
        options: What it shows.
        quiet: No progress bars.

    Raises:
        ConfigError: Options that make no sense.
        DataError: There is nothing to show, a table does not fit, or sounds are too large to embed.
        DependencyError: A projection or a picture needs a package that is not installed.
        StoreError: The store cannot be read.
    """
    options = options or MapOptions()
    began = time.monotonic()
    page, folder = page_path(output)
    _check(options, folder)
    found = recording_vectors(store, options.by)
    points = _part(found, options.max_points, options.seed)
    columns = point_columns(points, options.metadata, key=options.key, citation=options.citation)
    if options.clusters is not None:
        columns.add("cluster", cluster_column(points, options.clusters, options.seed))
    # What is wrong with the sounds shows before the layout, which takes longest, is made.
    summary = MapSummary(
        str(page), len(points), len(found), len(points.files), found.failed, matched=columns.matched
    )
    sounds, pictures = _heard(points, page, folder, options, summary, quiet)
    layouts = _layouts(points, options, quiet)
    summary.projections = {each.method: _about(each) for each in layouts}
    content = _content(points, columns, layouts, sounds, pictures, options, summary)
    written = sound_map_page(content).write(page)
    summary.page_megabytes = written.stat().st_size / _MEGABYTE
    summary.seconds = time.monotonic() - began
    return summary


def _check(options: MapOptions, folder: bool) -> None:
    if not options.projections:
        raise ConfigError("a map needs a projection (tsne, pca or umap)")
    for method in options.projections:
        require_method(method)
    if options.max_points < 1:
        raise ConfigError(f"max_points={options.max_points} must be at least 1")
    if folder and options.audio == "embed":
        raise ConfigError(
            "sounds are embedded in a page or copied to a folder, not both (name the output .html, "
            "or leave --embed-audio out)"
        )
    if options.audio != "none" and options.spectrograms:
        require_pillow()


def _part(points: RecordingVectors, most: int, seed: int) -> RecordingVectors:
    """At most so many points, drawn at random, and only the recordings they are of."""
    if len(points) <= most:
        return points
    chosen = np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))
    used, file = np.unique(points.file[chosen], return_inverse=True)
    return replace(
        points,
        values=points.values[chosen],
        paths=[points.paths[number] for number in chosen.tolist()],
        file=file.astype(np.int64),
        start=points.start[chosen],
        end=points.end[chosen],
        files=[points.files[number] for number in used.tolist()],
    )


def _heard(
    points: RecordingVectors,
    page: Path,
    folder: bool,
    options: MapOptions,
    summary: MapSummary,
    quiet: bool,
) -> tuple[MapSounds, Pictures]:
    """Addresses of sounds and spectrograms; what is not there goes into the summary."""
    nothing = [""] * len(points.files)
    if options.audio == "none":
        return MapSounds(nothing), Pictures(nothing)
    root = options.audio_root or _encoded_from(points.store)
    paths = find_recordings(points.files, root)
    names = [_name(path) for path in points.names]
    here = Path(os.path.abspath(page)).parent  # noqa: PTH100 - resolve() would follow links
    summary.root = "" if root is None else str(root)
    summary.missing = [name for name, path in zip(names, paths, strict=True) if path is None]
    if options.audio == "embed":
        limit = round(options.embed_limit * _MEGABYTE)
        workers = options.workers
        sounds = embed_sounds(paths, points.files, limit=limit, workers=workers, quiet=quiet)
    elif folder:
        sounds = copy_sounds(paths, names, here, workers=options.workers, quiet=quiet)
    else:
        sounds = link_sounds(paths, names, here)
    summary.unreachable, summary.unplayable = sounds.unreachable, sounds.unplayable
    summary.converted, summary.sounds_megabytes = sounds.converted, sounds.megabytes
    if not options.spectrograms:
        return sounds, Pictures(nothing)
    pictures = map_pictures(
        paths,
        names,
        here,
        here / ("spectrograms" if folder else f"{page.stem}_files"),
        limit=round(options.picture_limit * _MEGABYTE),
        workers=options.workers,
        quiet=quiet,
    )
    summary.pictures_megabytes, summary.no_picture = pictures.megabytes, pictures.failed
    summary.pictures_folder = None if pictures.folder is None else str(pictures.folder)
    return sounds, pictures


def _encoded_from(store: Path) -> Path | None:
    with Store(store) as opened:
        root = opened.metadata.get("root")
    return Path(root) if isinstance(root, str) and root else None


def _name(path: str) -> str:
    """A recording as it is shown: an array of frames stands for its sound."""
    return path.removesuffix(".npy")


def _layouts(points: RecordingVectors, options: MapOptions, quiet: bool) -> list[MapProjection]:
    methods = tuple(dict.fromkeys(options.projections))
    layouts = []
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("layouts", total=len(methods), note="")
        for method in methods:
            bar.update(task, note=f"{method} of {len(points)} points")
            layouts.append(
                kept_layout(
                    points.values,
                    method,
                    perplexity=options.perplexity,
                    landmarks=options.landmarks,
                    seed=options.seed,
                )
            )
            bar.update(task, advance=1)
    return layouts


def _about(layout: MapProjection) -> str:
    trust = layout.trustworthiness
    return layout.description + ("" if trust is None else f"; trustworthiness {trust:.2f}")


def _content(
    points: RecordingVectors,
    columns: PointColumns,
    layouts: Sequence[MapProjection],
    sounds: MapSounds,
    pictures: Pictures,
    options: MapOptions,
    summary: MapSummary,
) -> SoundMap:
    identity = points.identity
    drawn = f"{summary.points} of {summary.points_of}, drawn at random with seed {options.seed}"
    weights = identity.weights_sha256[:12]
    return SoundMap(
        title=options.title or printable(points.store.stem),
        projections={each.method: each.points for each in layouts},
        names=[printable(_name(path)) for path in points.paths],
        recording=points.file,
        start=points.start,
        end=points.end,
        sounds=sounds.urls,
        columns=columns.columns,
        vectors=points.values,
        citations=columns.citations,
        spectrograms=pictures.urls if any(pictures.urls) else None,
        settings={
            "Points": drawn if summary.points < summary.points_of else summary.points,
            "A point is": "a recording" if points.by == "files" else "a row of the store",
            "Recordings": summary.recordings,
            "Model": identity.model,
            **({"Weights (sha256)": weights} if weights else {}),
            "Layer": identity.layer,
            "Pooling": identity.pooling,
            **{f"Projection {name}": text for name, text in summary.projections.items()},
            "Made with": f"coala_latent {coala_latent.__version__}",
        },
    )
