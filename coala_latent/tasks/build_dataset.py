"""From a folder of sounds with tags to the two files of a data set, and a report of how."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import soundfile
import torch
from rich.progress import Progress

import coala_latent
from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.audio.io import read_audio
from coala_latent.data.epochs import IntArray
from coala_latent.data.patch_choice import (
    ChosenPatch,
    PatchChoice,
    WaitingPatches,
    choose_patch,
    fit_min_max,
)
from coala_latent.data.patch_files import (
    PatchHeader,
    PatchRows,
    PatchWriter,
    analysis_of,
    published_scaling,
)
from coala_latent.data.splits import stratified_split
from coala_latent.data.tag_sources import ChosenSound, Skipped, TagSource, choose_sounds, escaped
from coala_latent.data.tag_words import select_vocabulary
from coala_latent.errors import AudioError, ConfigError, DataError
from coala_latent.registry import build_front_end
from coala_latent.tasks.progress import progress_bar
from coala_latent.weights import write_json

__all__ = ["BuildSettings", "build_dataset", "dataset_files"]

Item = TypeVar("Item")
Made = TypeVar("Made")

_SUFFIXES = (".h5", ".hdf5")
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class BuildSettings:
    """How a data set is made; kept in its report.

    Attributes:
        front_end: Of the models that are to be trained.
        patches: See `choose_patch`.
        scaler: ``"fitted"`` to the training patches, or ``"published"``: the original's.
        size: See `select_vocabulary`, like the next two.
        min_count: Sounds that a tag must have.
        max_share: Share of the sounds beyond which a tag says nothing.
        validation: Share of the sounds that is set aside.
        seed: Of the split and of random patches.
        max_seconds: Longer sounds are looked at up to here.
    """

    front_end: Literal["legacy", "standard"] = "legacy"
    patches: PatchChoice = "loudest"
    scaler: Literal["fitted", "published"] = "fitted"
    size: int = 1000
    min_count: int = 10
    max_share: float = 0.7
    validation: float = 0.1
    seed: int = 0
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.scaler == "published" and self.front_end != "legacy":
            raise ConfigError("--scaler published is that of --front-end legacy")
        if not self.max_seconds > 0:
            raise ConfigError(f"--max-seconds {self.max_seconds}: give a time above 0")
        if not 0 < self.validation < 1:
            raise ConfigError(f"--validation {self.validation}: use a number between 0 and 1")


@dataclass(frozen=True)
class _Contents:
    """What goes into the files.

    Attributes:
        sounds: All that were heard.
        tags: Numbers of each sound's tags.
        vocabulary: The tags.
        parts: Numbers of the sounds of the training and of the validation file.
    """

    sounds: Sequence[ChosenSound]
    tags: Sequence[Sequence[int]]
    vocabulary: tuple[str, ...]
    parts: tuple[IntArray, IntArray]


def dataset_files(output: Path) -> tuple[Path, Path, Path]:
    """Names of the training file, the validation file and the report of a data set."""
    suffix = output.suffix if output.suffix in _SUFFIXES else ""
    stem = output.name.removesuffix(suffix)
    return output, output.with_name(f"{stem}_val{suffix}"), output.with_name(f"{stem}.json")


def build_dataset(
    folder: Path,
    output: Path,
    tags: TagSource,
    settings: BuildSettings,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Analyse the sounds of a folder, choose vocabulary and split, and write both files.

    A sound that cannot be read is left out and listed. Memory holds a few sounds and patches at a
    time; all patches are once more on disk, next to the output, until the files are complete.

    Args:
        folder: Of the sounds.
        output: The training file; `dataset_files` has the other two.
        tags: What is said about the sounds.
        settings: How the data set is made.
        overwrite: Replace files that exist.
        workers: Sounds that are analysed at a time; one a core by default.
        quiet: No progress bar.

    Returns:
        The report, as it is written.

    Raises:
        ConfigError: A setting does not make sense, or a file exists.
        DataError: The table cannot be used, or no sound or tag is left.
        AudioNotFoundError: The folder is missing.
    """
    files = dataset_files(output)
    for path in files:
        if path.is_dir() or (path.exists() and not overwrite):
            raise ConfigError(f"{path} exists (choose another --output, or give --overwrite)")
    front_end: CoalaFrontEnd = build_front_end(f"coala_{settings.front_end}")
    skipped = Skipped()
    chosen = choose_sounds(folder, tags, skipped)
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        WaitingPatches(output.parent, *front_end.patch_shape) as patches,
        progress_bar(quiet=quiet) as bar,
    ):
        sounds = _hear(chosen, front_end, settings, patches, skipped, workers, bar)
        contents = _arrange(sounds, settings, skipped)
        scale, offset = (
            published_scaling()
            if settings.scaler == "published"
            else fit_min_max(patches, contents.parts[0])
        )
        header = PatchHeader(
            contents.vocabulary, analysis_of(front_end), scale, offset, _details(tags, settings)
        )
        hashes = _write(files[:2], header, contents, patches, bar)
    report = _report(files, hashes, header, contents, skipped, tags, settings)
    write_json(files[2], report)
    return report


def _hear(
    chosen: Sequence[ChosenSound],
    front_end: CoalaFrontEnd,
    settings: BuildSettings,
    patches: WaitingPatches,
    skipped: Skipped,
    workers: int | None,
    bar: Progress,
) -> list[ChosenSound]:
    """The sounds that can be used, in their order; a patch of each waits."""

    def analyse(sound: ChosenSound) -> tuple[ChosenPatch, float] | AudioError:
        name = sound.entry.name
        try:
            audio = read_audio(str(sound.entry.path), duration=settings.max_seconds)
            patch = choose_patch(audio, front_end, settings.patches, name, settings.seed)
        except AudioError as error:
            return error
        return patch, audio.duration

    heard: list[ChosenSound] = []
    task = bar.add_task("Analysing", total=len(chosen), note="")
    made = _ordered(analyse, chosen, workers or os.cpu_count() or 1)
    for sound, result in zip(chosen, made, strict=True):
        if isinstance(result, AudioError):
            kind = "missing" if isinstance(result, FileNotFoundError) else "unreadable"
            cure = f" ({result.cure})" if result.cure else ""
            skipped.add(kind, sound.entry.name, result.reason + cure)
        else:
            patch, seconds = result
            patches.append(patch.values)
            heard.append(replace(sound, frames=patch.frames, seconds=seconds))
        bar.update(task, advance=1, note=f"{len(skipped.entries)} skipped")
    if not heard:
        raise DataError(f"not one sound can be used: {skipped.summary()}")
    return heard


def _arrange(sounds: Sequence[ChosenSound], settings: BuildSettings, skipped: Skipped) -> _Contents:
    """Vocabulary and split; sounds of which no tag is left are in neither part."""
    vocabulary = tuple(
        select_vocabulary(
            [sound.words for sound in sounds],
            size=settings.size,
            min_count=settings.min_count,
            max_share=settings.max_share,
        )
    )
    number = {tag: place for place, tag in enumerate(vocabulary)}
    tags = [[number[word] for word in sound.words if word in number] for sound in sounds]
    kept = np.flatnonzero([bool(numbers) for numbers in tags])
    if not len(kept):
        raise DataError(_no_tags(sounds, settings))
    for sound, numbers in zip(sounds, tags, strict=True):
        if not numbers:
            skipped.add("no tags", sound.entry.name, "none of its tags is in the vocabulary")
    train, validation = stratified_split(
        [tags[row] for row in kept],
        [sounds[int(row)].group for row in kept],
        settings.validation,
        settings.seed,
    )
    return _Contents(sounds, tags, vocabulary, (kept[train], kept[validation]))


def _ordered(
    function: Callable[[Item], Made], items: Sequence[Item], workers: int
) -> Iterator[Made]:
    """Results in the order of the items; only a few are made ahead of their turn."""
    pool, left = ThreadPoolExecutor(workers), iter(items)
    waiting: list[Future[Made]] = []
    try:
        while True:
            free = 2 * workers - len(waiting)
            waiting += [pool.submit(function, item) for item in islice(left, free)]
            if not waiting:
                return
            yield waiting.pop(0).result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ids(sounds: Sequence[ChosenSound]) -> IntArray:
    """Those of the table where all have one within int32, otherwise positions."""
    numbers = [sound.entry.number for sound in sounds]
    if all(number is not None and _INT32.min <= number <= _INT32.max for number in numbers) and (
        len(set(numbers)) == len(numbers)
    ):
        return np.array(numbers, dtype=np.int64)
    return np.arange(len(sounds))


def _write(
    paths: Sequence[Path],
    header: PatchHeader,
    contents: _Contents,
    patches: WaitingPatches,
    bar: Progress,
) -> list[str]:
    """Both files, which get their names after the last patch. Returns their hashes."""
    ids = _ids(contents.sounds)
    task = bar.add_task("Writing", total=sum(map(len, contents.parts)), note="")
    with ExitStack() as stack:
        writers = [stack.enter_context(PatchWriter(path, header)) for path in paths]
        for writer, part in zip(writers, contents.parts, strict=True):
            for rows, values in patches.blocks(part):
                chosen = [contents.sounds[row] for row in rows.tolist()]
                writer.add(
                    PatchRows(
                        ids=ids[rows],
                        patches=values,
                        frames=np.array([sound.frames for sound in chosen]),
                        tags=[contents.tags[row] for row in rows.tolist()],
                        sources=[sound.entry.name for sound in chosen],
                        groups=[sound.group for sound in chosen],
                    )
                )
                bar.advance(task, len(rows))
    return [writer.sha256 for writer in writers]


def _details(tags: TagSource, settings: BuildSettings) -> dict[str, Any]:
    return {
        "tags_from": escaped(tags.table.name) if tags.table else "names of folders",
        "front_end": settings.front_end,
        "patches": settings.patches,
        "scaler": settings.scaler,
        "validation": settings.validation,
        "split_seed": settings.seed,
    }


def _report(
    files: Sequence[Path],
    hashes: Sequence[str],
    header: PatchHeader,
    contents: _Contents,
    skipped: Skipped,
    source: TagSource,
    settings: BuildSettings,
) -> dict[str, Any]:
    used = [contents.sounds[row] for part in contents.parts for row in part.tolist()]
    counts = [Counter(tag for row in part for tag in contents.tags[row]) for part in contents.parts]
    table = source.table.read_bytes() if source.table else b""
    return {
        **{
            part: {"file": path.name, "sounds": len(rows), "sha256": digest}
            for part, path, rows, digest in zip(
                ("train", "validation"), files, contents.parts, hashes, strict=False
            )
        },
        "hours": round(sum(sound.seconds for sound in used) / 3600, 4),
        "shortened": sum(sound.seconds >= settings.max_seconds for sound in used),
        "skipped_counts": skipped.counts(),
        "settings": asdict(settings),
        "tags_from": header.details["tags_from"],
        "table_sha256": hashlib.sha256(table).hexdigest() if source.table else None,
        "analysis": dict(header.analysis),
        "versions": {
            "coala_latent": coala_latent.__version__,
            "numpy": np.__version__,
            "soundfile": soundfile.__version__,
            "torch": torch.__version__,
        },
        "vocabulary": {str(number): tag for number, tag in enumerate(header.vocabulary)},
        "counts": {
            tag: {"train": counts[0][number], "validation": counts[1][number]}
            for number, tag in enumerate(header.vocabulary)
        },
        "skipped": skipped.entries,
    }


def _no_tags(sounds: Sequence[ChosenSound], settings: BuildSettings) -> str:
    counts = Counter(word for sound in sounds for word in sound.words)
    named = ", ".join(f"{word} ({count})" for word, count in counts.most_common(3))
    return (
        f"no tag is left of {len(counts)} in {len(sounds)} sounds, such as {named}: at least "
        f"{settings.min_count} sounds and at most {settings.max_share:g} of them must have it "
        "(lower --min-count, or raise --max-share)"
    )
