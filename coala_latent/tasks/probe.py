"""``coala-latent probe`` and ``esc10``: how much a simple classifier reads from embeddings."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.table import Table

from coala_latent.analysis.folds import Fold, fixed_folds, grouped_folds
from coala_latent.analysis.probes import ProbeComparison, run_probes
from coala_latent.audio.descriptors import mfcc_statistics
from coala_latent.audio.io import check_finite, find_audio, read_audio
from coala_latent.audio.resample import resample
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import AudioError, ConfigError, DataError
from coala_latent.store import Store
from coala_latent.tasks.encode import encode
from coala_latent.tasks.progress import console, progress_bar

__all__ = [
    "ESC_NAME",
    "LabelledSounds",
    "clip_features",
    "esc_folds",
    "labelled_folder",
    "mfcc_features",
    "probe",
    "probe_table",
    "report_skipped",
]

MFCC_RATE = 22000
# ESC-10 and ESC-50: fold, Freesound source, take.
ESC_NAME = re.compile(r"^(?P<fold>\d)-(?P<source>\d+)-(?P<take>[A-Z])")
ClipMean = Literal["time", "rows"]


@dataclass(frozen=True)
class LabelledSounds:
    """A folder with one sub-folder a class.

    Attributes:
        root: The folder.
        paths: Sounds.
        labels: Class of each: the name of its sub-folder.
        groups: What must stay on one side of a split.
        skipped: ``path: reason`` of sounds that could not be read; filled by `probe`.
    """

    root: Path
    paths: list[Path]
    labels: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]

    def take(self, keep: npt.NDArray[np.bool_]) -> LabelledSounds:
        """Those where `keep` is true."""
        paths = [path for path, kept in zip(self.paths, keep, strict=True) if kept]
        return LabelledSounds(self.root, paths, self.labels[keep], self.groups[keep])


def labelled_folder(root: Path, group: str | None = None) -> LabelledSounds:
    """Sounds of a folder per class.

    Args:
        root: The folder.
        group: Regular expression searched in each file name (without suffix); what its first
            group captures, within the class, stays on one side of every split. None puts each
            file in a group of its own.

    Raises:
        DataError: Fewer than two classes, a wrong expression, or a name it does not match.
    """
    paths = [path for path in find_audio(root) if path.parent != root]
    labels = [path.relative_to(root).parts[0] for path in paths]
    if len(set(labels)) < 2:
        raise DataError(f"{root}: needs a sub-folder for each of two or more classes")
    if group is None:
        groups = [path.relative_to(root).as_posix() for path in paths]
    else:
        groups = [
            f"{label}/{_captured(group, path)}" for path, label in zip(paths, labels, strict=True)
        ]
    return LabelledSounds(root, paths, np.array(labels), np.array(groups))


def _captured(expression: str, path: Path) -> str:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise DataError(f"group expression {expression!r}: {error}") from error
    if pattern.groups < 1:
        raise DataError(
            f"group expression {expression!r} captures nothing: put () around the group"
        )
    match = pattern.search(path.stem)
    if match is None:
        raise DataError(f"{path}: its name does not match the group expression {expression!r}")
    return match.group(1)


def esc_folds(sounds: LabelledSounds) -> list[Fold]:
    """The data set's own folds: the first digit of each file name.

    Raises:
        DataError: A name is not of the ESC pattern.
    """
    matches = [ESC_NAME.match(path.name) for path in sounds.paths]
    for path, match in zip(sounds.paths, matches, strict=True):
        if match is None:
            raise DataError(f"{path}: not an ESC file name such as 1-17092-A.ogg")
    return fixed_folds([match["fold"] for match in matches if match])


def probe(
    sounds: LabelledSounds,
    embedders: Mapping[str, Embedder],
    folds: Callable[[LabelledSounds], list[Fold]] | int = 5,
    *,
    probes: Sequence[str] = ("mlp", "logistic", "knn"),
    runs: int = 10,
    seed: int = 0,
    baseline: bool = True,
    clip_mean: ClipMean | None = None,
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
    _folds(sounds, folds, seed)  # so that what is wrong with them shows before the long work
    features: dict[str, npt.NDArray[np.floating]] = {}
    skipped: dict[str, str] = {}
    if baseline:
        features["mfcc"], bad = mfcc_features(sounds, quiet)
        skipped |= bad
    for name, embedder in embedders.items():
        features[name], bad = clip_features(sounds, embedder, clip_mean, quiet)
        skipped |= bad
    keep = np.array([str(path) not in skipped for path in sounds.paths])
    used = sounds.take(keep)
    for label in sorted(set(sounds.labels.tolist()) - set(used.labels.tolist())):
        path = sounds.paths[int(np.flatnonzero(sounds.labels == label)[0])]
        raise DataError(
            f"no sound of class {label} can be used; the first, {path.name}: {skipped[str(path)]}"
        )
    made = _folds(used, folds, seed)
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
        "root": _printable(sounds.root),
        "sounds": len(used.paths),
        "classes": sorted(set(used.labels.tolist())),
        "folds": len(made),
        "groups": len(set(used.groups.tolist())),
        "seed": seed,
        "models": {name: _describe(embedder) for name, embedder in embedders.items()},
        "skipped": {_printable(path): _printable(why) for path, why in skipped.items()},
        "comparisons": {
            kind: comparison.to_dict() for kind, comparison in zip(probes, comparisons, strict=True)
        },
    }


def _printable(text: object) -> str:
    """As it can be written to a UTF-8 file: bytes of a name that are not text are escaped."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def _folds(
    sounds: LabelledSounds, folds: Callable[[LabelledSounds], list[Fold]] | int, seed: int
) -> list[Fold]:
    if isinstance(folds, int):
        return grouped_folds(sounds.labels, sounds.groups, folds, seed)
    return folds(sounds)


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
    clip_mean: ClipMean | None = None,
    quiet: bool = False,
) -> tuple[npt.NDArray[np.floating], dict[str, str]]:
    """Mean embedding of each clip ``(n, dim)``, NaN where skipped, and what was; see `probe`."""
    how = clip_mean or ("rows" if embedder.card.drops else "time")
    rows = np.full((len(sounds.paths), embedder.dim), np.nan, np.float32)
    skipped = {}
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "embeddings.h5"
        encode([sounds.root], target, embedder, quiet=quiet)
        with Store(target) as found:
            records = {record.path: number for number, record in enumerate(found.files)}
            for row, path in zip(rows, sounds.paths, strict=True):
                number = records[path.relative_to(sounds.root).as_posix()]
                if not found.files[number].rows:
                    skipped[str(path)] = found.files[number].error
                    continue
                embedding = found.rows_of(number)
                row[:] = embedding.mean() if how == "time" else embedding.values.mean(axis=0)
    return rows, skipped


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
        cells = [_cell(comparison["results"][name]) for comparison in comparisons.values()]
        table.add_row(name, *cells)
    chance = next(iter(names.values()))["chance"]
    table.caption = f"largest class: {100 * chance:.1f} %"
    return table


def _cell(result: Mapping[str, Any]) -> str:
    interval = result["interval"]
    return (
        f"{100 * interval['mean']:.1f} "
        f"[dim]({100 * interval['low']:.0f} .. {100 * interval['high']:.0f})[/dim]"
    )


def report_skipped(result: Mapping[str, Any]) -> None:
    """Name the sounds that were left out."""
    for path, reason in result["skipped"].items():
        console().print(f"skipped {path}: {reason}", markup=False, soft_wrap=True)
