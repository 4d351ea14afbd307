"""``coala-latent probe`` and ``esc10``: how much a simple classifier reads from embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from coala_latent.analysis.clips import Weighting, clip_vector
from coala_latent.analysis.probes import ProbeComparison, run_probes
from coala_latent.audio.descriptors import mfcc_statistics
from coala_latent.audio.io import check_finite, read_audio
from coala_latent.audio.resample import resample
from coala_latent.embed.corpus import FileFailed, FileRows, embed_files
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.hearing import joined
from coala_latent.errors import AudioError, ConfigError
from coala_latent.tasks.labelled import Folds, LabelledSounds, make_folds, summary_of, usable
from coala_latent.tasks.progress import progress_bar
from coala_latent.types import Embedding

__all__ = [
    "clip_features",
    "default_weighting",
    "embed_clips",
    "mfcc_features",
    "probe",
    "probe_table",
    "score_cell",
]

MFCC_RATE = 22000


def probe(
    sounds: LabelledSounds,
    embedders: Mapping[str, Embedder],
    folds: Folds = 5,
    *,
    probes: Sequence[str] = ("mlp", "logistic", "knn"),
    runs: int = 10,
    seed: int = 0,
    baseline: bool = True,
    clip_mean: Weighting | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Embed, average each clip, and classify with held-out folds.

    Args:
        sounds: What to classify.
        embedders: Models by the name in the table.
        folds: Number of grouped folds, or what makes the folds.
        probes: See `analysis.probes.PROBES`.
        runs: Repetitions of the probes that depend on a seed (the original protocol has 10).
        seed: Of folds and probes.
        baseline: Add the 120 MFCC statistics.
        clip_mean: ``"time"`` weights rows by the seconds they heard, ``"rows"`` counts them alike;
            by default rows for models with the original's front end, time for others.
        quiet: No progress bars.

    Returns:
        JSON-able results: settings, sounds that were skipped, and ``comparisons``, one per probe.
    """
    if not (baseline or embedders):
        raise ConfigError("nothing to score: name a model, or keep the baseline")
    make_folds(sounds, folds, seed)  # so that what is wrong with them shows before the long work
    features: dict[str, npt.NDArray[np.floating]] = {}
    skipped: dict[str, str] = {}
    if baseline:
        features["mfcc"], bad = mfcc_features(sounds, quiet)
        skipped |= bad
    for name, embedder in embedders.items():
        features[name], bad = clip_features(sounds, embedder, clip_mean, quiet)
        skipped |= bad
    keep = usable(sounds, skipped)
    used = sounds.take(keep)
    made = make_folds(used, folds, seed)
    comparisons: list[ProbeComparison] = []
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("probe", total=len(probes) * len(features), note="")
        for kind in probes:
            kept = {name: values[keep] for name, values in features.items()}

            def show(done: int, total: int, kind: str = kind) -> None:
                bar.update(task, note=f"{kind}: fit {done} of {total}")

            comparisons.append(run_probes(kept, used.labels, made, kind, runs, seed, show))
            bar.update(task, advance=len(features), note=kind)
    return {
        **summary_of(used, made, seed, skipped),
        "models": {name: _describe(embedder) for name, embedder in embedders.items()},
        "comparisons": {
            kind: comparison.to_dict() for kind, comparison in zip(probes, comparisons, strict=True)
        },
    }


def _describe(embedder: Embedder) -> dict[str, Any]:
    return {
        "model": embedder.card.name,
        "sha256": embedder.card.sha256,
        "layer": embedder.layer,
        "pooling": embedder.pooling,
    }


def mfcc_features(
    sounds: LabelledSounds, quiet: bool = False
) -> tuple[npt.NDArray[np.floating], dict[str, str]]:
    """MFCC statistics ``(n, 120)``, NaN where skipped, and ``path: reason`` of what was."""
    rows = np.full((len(sounds.paths), 120), np.nan, np.float32)
    skipped = {}
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("mfcc", total=len(sounds.paths), note="")
        for row, path in zip(rows, sounds.paths, strict=True):
            try:
                sound = read_audio(path)
                check_finite(sound.samples, path)
                row[:] = mfcc_statistics(resample(sound.samples, sound.sample_rate, MFCC_RATE))
            except AudioError as error:
                skipped[str(path)] = str(error)
            bar.update(task, advance=1)
    return rows, skipped


def clip_features(
    sounds: LabelledSounds,
    embedder: Embedder,
    clip_mean: Weighting | None = None,
    quiet: bool = False,
) -> tuple[npt.NDArray[np.floating], dict[str, str]]:
    """Mean embedding of each clip ``(n, dim)``, NaN where skipped, and what was; see `probe`."""
    weighting = clip_mean or default_weighting(embedder)
    rows = np.full((len(sounds.paths), embedder.dim), np.nan, np.float32)
    skipped = {}
    for number, found in embed_clips(sounds, embedder, quiet):
        if isinstance(found, str):
            skipped[str(sounds.paths[number])] = found
        else:
            rows[number] = clip_vector(found, weighting=weighting)
    return rows, skipped


def default_weighting(embedder: Embedder) -> Weighting:
    """Alike for front ends that drop the end of a sound, as the original averaged its chunks."""
    return "rows" if embedder.card.drops else "time"


def embed_clips(
    sounds: LabelledSounds, embedder: Embedder, quiet: bool = False
) -> Iterator[tuple[int, Embedding | str]]:
    """Each sound's number with its rows, or with the reason why there are none."""
    pieces: list[Embedding] = []
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("embed", total=len(sounds.paths), note=embedder.card.name)
        for event in embed_files(embedder, sounds.paths):
            if isinstance(event, FileRows):
                pieces.append(Embedding(event.values, event.start, event.end))
                continue
            if isinstance(event, FileFailed):
                error = event.error
                cure = f" ({error.cure})" if error.cure else ""
                yield event.index, f"{error.reason}{cure}"
            else:
                found = joined(pieces, embedder.dim)
                yield event.index, found if len(found) else "too short for a single row"
            pieces = []
            bar.update(task, advance=1)


def probe_table(result: Mapping[str, Any]) -> Table:
    """The results as a table: one row a feature set, one column a probe."""
    comparisons = result["comparisons"]
    table = Table(
        title=(
            f"accuracy in %, mean and 95 % interval over {result['folds']} folds; "
            f"{result['sounds']} sounds, {len(result['classes'])} classes"
        )
    )
    table.add_column("features")
    for kind in comparisons:
        table.add_column(kind, justify="right")
    names = next(iter(comparisons.values()))["results"]
    for name in names:
        cells = [score_cell(comparison["results"][name]) for comparison in comparisons.values()]
        table.add_row(name, *cells)
    chance = next(iter(names.values()))["chance"]
    table.caption = f"largest class: {100 * chance:.1f} %"
    return table


def score_cell(result: Mapping[str, Any]) -> str:
    """Mean accuracy and interval in per cent, with rich's markup."""
    interval = result["interval"]
    return (
        f"{100 * interval['mean']:.1f} "
        f"[dim]({100 * interval['low']:.0f} .. {100 * interval['high']:.0f})[/dim]"
    )
