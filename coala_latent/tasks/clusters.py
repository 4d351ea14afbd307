"""``coala-latent clusters``: recordings, or parts of them, that are near to each other."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

import coala_latent
from coala_latent.analysis.clusters import (
    Agreement,
    KChoice,
    agreement,
    choose_k,
    frequent_words,
    typical,
)
from coala_latent.analysis.spherical_kmeans import SphericalClusters, spherical_kmeans
from coala_latent.embed.embedder import pick_device
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.pictures import (
    COLOURS,
    new_figure,
    plain,
    require_matplotlib,
    save_picture,
)
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.recording_labels import LabelSource, name_words, recording_labels
from coala_latent.tasks.recordings import PointsBy, RecordingVectors, recording_vectors
from coala_latent.weights import write_json

__all__ = ["ClusterOptions", "cluster", "cluster_tables", "cluster_text"]

_NAMED = len(COLOURS) - 1  # labels with a colour of their own in the picture


@dataclass(frozen=True)
class ClusterOptions:
    """How points are clustered and what they are compared with.

    Attributes:
        k: Numbers of clusters; of several the one with the largest silhouette is taken.
        by: A point is a recording (``"files"``) or a row of the store (``"rows"``).
        labels: A table, ``"folders"``, or none.
        column: Of the table.
        key: Heading of the table's column that names the recordings.
        centre: Subtract the mean of all points first: where all have much in common, as those of
            a network that ends in ReLUs, cosines tell the rest apart better.
        seed: Of everything.
        restarts: Runs of k-means of which the best is kept.
        batch: Points in a mini-batch; None clusters all at once.
        device: Of k-means; ``auto`` is CUDA where there is one.
        top: How many words and typical sounds a cluster is described with.
        picture: Draw the bars.
    """

    k: Collection[int] = (8,)
    by: PointsBy = "files"
    labels: LabelSource | None = None
    column: str | None = None
    key: str | None = None
    centre: bool = False
    seed: int = 0
    restarts: int = 10
    batch: int | None = None
    device: str = "cpu"
    top: int = 5
    picture: bool = True


def cluster(
    store: Path, output: Path, options: ClusterOptions | None = None, *, quiet: bool = False
) -> dict[str, Any]:
    """Cluster a store's points and write ``clusters.csv``, ``.json``, ``.png``, ``centres.npy``.

    Args:
        store: A store, or a folder of document vectors.
        output: Folder for the results; made if needed.
        options: See there.
        quiet: No progress bar.

    Returns:
        What ``clusters.json`` holds. Clusters are numbered from the largest, ``K1``. A point that
        is zero has no direction; it is in no cluster and listed under ``without_direction``.

    Raises:
        ConfigError: k is too large, options contradict each other, or there is no such device.
        DataError: No point, or the labels cannot be had.
        DependencyError: A picture is wanted, and matplotlib is not installed.
        StoreError: The store cannot be read.
    """
    options = options or ClusterOptions()
    options = replace(options, device=str(pick_device(options.device)))
    if options.picture:
        require_matplotlib()
    if options.batch is not None and len(options.k) > 1:
        raise ConfigError("mini-batches are for one number of clusters: give a single k")
    points = recording_vectors(store, options.by)
    labels: list[str | None] | None = None
    if options.labels is not None:
        of_files = recording_labels(points.names, options.labels, options.column, options.key)
        labels = [of_files[number] for number in points.file.tolist()]
    directed, values = _directions(points, options.centre)
    choice, found = _clustered(values, options, quiet)
    found = _by_size(found)
    clusters = np.full(len(points), -1)
    clusters[directed] = found.labels
    cosines = np.full(len(points), -2.0, np.float32)
    cosines[directed] = found.cosines
    compared = None if labels is None else agreement(labels, clusters, found.k, seed=options.seed)
    result = {
        **_about(points, options),
        "clusters": found.to_dict(),
        "choice_of_k": None if choice is None else choice.to_dict(),
        "agreement": None if compared is None else compared.to_dict(),
        "suggestions": _suggestions(points, clusters, cosines, labels, found.k, options.top),
        "without_direction": [
            printable(points.paths[row]) for row in np.flatnonzero(clusters < 0).tolist()
        ],
    }
    output.mkdir(parents=True, exist_ok=True)
    _write_csv(output / "clusters.csv", points, clusters, cosines, found.k, labels)
    _write_centres(output / "centres.npy", found.centres)
    if options.picture:
        _draw(output / "clusters.png", found, compared)
    write_json(output / "clusters.json", result)
    return result


def _directions(
    points: RecordingVectors, centre: bool
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """Which points have a direction, and these."""
    values = points.values
    if centre:
        values = (values - values.mean(axis=0, dtype=np.float64)).astype(np.float32)
    directed = (values != 0).any(axis=1)
    if not directed.any():
        raise DataError(f"{points.store}: all {len(points)} points are zero and have no direction")
    return directed, values[directed]


def _clustered(
    values: npt.NDArray[np.float32], options: ClusterOptions, quiet: bool
) -> tuple[KChoice | None, SphericalClusters]:
    several = len(options.k) > 1
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("clusters", total=len(options.k) if several else None, note="")
        if several:
            return choose_k(
                values,
                options.k,
                seed=options.seed,
                restarts=options.restarts,
                device=options.device,
                progress=lambda done, total: bar.update(task, completed=done),
            )
        (k,) = options.k
        found = spherical_kmeans(
            values,
            k,
            seed=options.seed,
            restarts=options.restarts,
            batch=options.batch,
            device=options.device,
            progress=lambda done, moved: bar.update(task, note=f"iteration {done}"),
        )
        return None, found


def _by_size(found: SphericalClusters) -> SphericalClusters:
    """The same with the largest cluster first."""
    order = np.argsort(-found.counts, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return SphericalClusters(
        centres=found.centres[order],
        labels=place[found.labels],
        cosines=found.cosines,
        counts=found.counts[order],
        objective=found.objective,
        iterations=found.iterations,
        converged=found.converged,
        seed=found.seed,
        restarts=found.restarts,
    )


def _about(points: RecordingVectors, options: ClusterOptions) -> dict[str, Any]:
    settings = asdict(options)
    settings["k"] = sorted(options.k)
    settings["labels"] = None if options.labels is None else printable(options.labels)
    return {
        "store": printable(points.store),
        "identity": asdict(points.identity),
        "points": len(points),
        "recordings": len(points.files),
        "failed": points.failed,
        "settings": settings,
        "versions": {
            "coala_latent": coala_latent.__version__,
            **{name: version(name) for name in ("torch", "numpy", "scikit-learn")},
        },
    }


def _name(cluster: int, k: int) -> str:
    """A word, not a number: numbers of clusters are no amounts."""
    return "" if cluster < 0 else f"K{cluster + 1:0{len(str(k))}d}"


def _suggestions(
    points: RecordingVectors,
    clusters: npt.NDArray[np.int64],
    cosines: npt.NDArray[np.float32],
    labels: Sequence[str | None] | None,
    k: int,
    top: int,
) -> list[dict[str, Any]]:
    """For each cluster its frequent labels, words of names, and most typical sounds."""
    words = [name_words(name) for name in points.names]
    raised = frequent_words([words[number] for number in points.file.tolist()], clusters, k, top)
    of_labels = (
        [[] for _ in range(k)]
        if labels is None
        else frequent_words([{label} if label else set() for label in labels], clusters, k, top)
    )
    nearest = typical(clusters, cosines, points.file, k, top)
    counts = np.bincount(clusters[clusters >= 0], minlength=k)
    return [
        {
            "cluster": _name(number, k),
            "points": int(counts[number]),
            "labels": [{**asdict(word), "text": printable(word.text)} for word in shared],
            "words": [{**asdict(word), "text": printable(word.text)} for word in named],
            "typical": [
                {
                    "path": printable(points.paths[row]),
                    "start": float(points.start[row]),
                    "end": float(points.end[row]),
                    "cosine": float(cosines[row]),
                }
                for row in rows
            ],
        }
        for number, (shared, named, rows) in enumerate(zip(of_labels, raised, nearest, strict=True))
    ]


def _write_csv(
    path: Path,
    points: RecordingVectors,
    clusters: npt.NDArray[np.int64],
    cosines: npt.NDArray[np.float32],
    k: int,
    labels: Sequence[str | None] | None,
) -> None:
    """One line a point; names that are no text have their bytes escaped."""
    times = points.by == "rows"
    heading = ["path", *(["start", "end"] if times else []), "cluster", "cosine"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*heading, *([] if labels is None else ["label"])])
    for row, name in enumerate(points.paths):
        line = [printable(name)]
        if times:
            line += [f"{points.start[row]:.6f}", f"{points.end[row]:.6f}"]
        cosine = f"{cosines[row]:.6f}" if clusters[row] >= 0 else ""
        line += [_name(int(clusters[row]), k), cosine]
        writer.writerow([*line, *([] if labels is None else [printable(labels[row] or "")])])
    _write_whole(path, out.getvalue().encode())


def _write_centres(path: Path, centres: npt.NDArray[np.float32]) -> None:
    out = io.BytesIO()
    np.save(out, centres, allow_pickle=False)
    _write_whole(path, out.getvalue())


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _draw(path: Path, found: SphericalClusters, compared: Agreement | None) -> None:
    """A bar for each cluster, stacked of labels; of many labels the rarest share a colour."""
    names = [_name(number, found.k) for number in range(found.k)]
    figure = new_figure(max(5.0, 2.6 + 0.5 * found.k), 4.2)
    axes = figure.subplots()
    if compared is None:
        axes.bar(names, found.counts, color=COLOURS[0])
    else:
        table = compared.contingency
        order = np.argsort(-table.sum(axis=1), kind="stable")
        shown = order if len(order) <= len(COLOURS) else order[:_NAMED]
        parts = [(compared.classes[row], table[row]) for row in shown.tolist()]
        if len(shown) < len(order):
            rest = order[len(shown) :]
            parts.append((f"{len(rest)} others", table[rest].sum(axis=0)))
        below = np.zeros(found.k)
        for (label, counts), colour in zip(parts, COLOURS, strict=False):
            axes.bar(names, counts, bottom=below, color=colour, label=plain(label))
            below += counts
        figure.legend(loc="outside right upper", frameon=False, fontsize=9, reverse=True)
    axes.set_xlabel("cluster")
    axes.set_ylabel("points" if compared is None else "points with a label")
    axes.spines[["top", "right"]].set_visible(False)
    save_picture(figure, path)


def cluster_tables(result: Mapping[str, Any]) -> list[Table]:
    """What each cluster could be called, and how k was chosen."""
    tables = []
    if result["choice_of_k"] is not None:
        tables.append(_choice_table(result["choice_of_k"]))
    table = Table(title=cluster_text(result), title_justify="left")
    table.add_column("cluster", no_wrap=True)
    table.add_column("points", justify="right")
    labelled = result["agreement"] is not None
    table.add_column("labels (share, lift)" if labelled else "words of names (share, lift)")
    table.add_column("most typical", overflow="fold")
    for found in result["suggestions"]:
        words = [
            f"{escape(word['text'])} [dim]{100 * word['share']:.0f} %, x {word['lift']:.1f}[/dim]"
            for word in found["labels" if labelled else "words"]
        ]
        sounds = [escape(each["path"]) for each in found["typical"][:3]]
        table.add_row(found["cluster"], str(found["points"]), "\n".join(words), "\n".join(sounds))
    return [*tables, table]


def _choice_table(choice: Mapping[str, Any]) -> Table:
    table = Table(title=f"k={choice['best']} has the largest silhouette", title_justify="left")
    for heading in ("k", "silhouette", "stability", "mean cosine"):
        table.add_column(heading, justify="right")
    figures = zip(
        *(choice[name] for name in ("silhouette", "stability", "mean_cosine")), strict=True
    )
    for k, values in zip(choice["k"], figures, strict=True):
        cells = ["-" if value is None else f"{value:.3f}" for value in values]
        table.add_row(str(k), *cells, style="bold" if k == choice["best"] else None)
    return table


def cluster_text(result: Mapping[str, Any]) -> str:
    """One line: how many clusters, how tight, and how they agree with the labels."""
    found = result["clusters"]
    text = f"{result['points']} points in {found['k']} clusters, mean cosine "
    text += f"{found['mean_cosine']:.3f}{'' if found['converged'] else ' (not at rest)'}"
    if result["agreement"] is None:
        return text
    measures = [
        f"{title} {each['mean']:.3f} ({each['low']:.3f} .. {each['high']:.3f}, by chance "
        f"{each['chance']:.3f})"
        for title, each in (
            (name.upper() if name != "purity" else name, result["agreement"][name])
            for name in ("nmi", "ari", "purity")
        )
    ]
    return f"{text}; {', '.join(measures)}"
