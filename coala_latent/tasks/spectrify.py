"""``coala-latent spectrify``: sounds to log-mel frames, a ``.npy`` file each or one store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coala_latent.audio.resample import resampler_settings
from coala_latent.audio.sound_eval import FrameSettings, LogMelFrames
from coala_latent.data.frame_files import FRAMES_MODEL
from coala_latent.errors import AudioError
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter
from coala_latent.store.schema import FAILED, printable_text
from coala_latent.tasks.encode import list_sounds
from coala_latent.tasks.frame_folder import FrameFolder, file_state
from coala_latent.tasks.frame_workers import TEMPORARY, FramesDone, make_frames
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.run_summary import RunSummary

__all__ = ["SpectrifySummary", "spectrify"]

_STORE_SUFFIXES = (".h5", ".hdf5")
# Rows that travel from a file of frames to the store at a time.
_BLOCK = 1 << 14


@dataclass
class SpectrifySummary(RunSummary):
    """What a run did, besides what `RunSummary` tells.

    A store keeps the old frames of sounds that have changed, and lists them; in a folder they are
    done again, and are not listed.

    Attributes:
        made: Sounds that frames were computed of.
        frames: New ones.
    """

    made: int = 0
    frames: int = 0


@dataclass(frozen=True)
class _Run:
    """What both kinds of output need."""

    root: str
    sounds: list[tuple[str, Path]]
    settings: FrameSettings
    front_end: LogMelFrames
    workers: int | None
    keep_truncated: bool
    retry_failed: bool
    quiet: bool
    summary: SpectrifySummary

    def results(
        self, jobs: Sequence[tuple[Path, Path]]
    ) -> Iterator[tuple[int, FramesDone | AudioError]]:
        """What becomes of each job, in order and with a bar; the sums go into the summary."""
        summary, began = self.summary, time.monotonic()
        made = make_frames(
            jobs, self.front_end, workers=self.workers, keep_truncated=self.keep_truncated
        )
        with progress_bar(quiet=self.quiet or not jobs) as bar, closing(made):
            task = bar.add_task("spectrify", total=len(jobs), note="")
            for index, done in enumerate(made):
                yield index, done
                if isinstance(done, FramesDone):
                    summary.made += 1
                    summary.frames += done.frames
                    summary.seconds_of_sound += done.info.duration
                speed = summary.seconds_of_sound / max(time.monotonic() - began, 1e-9)
                bar.update(task, advance=1, note=f"{speed:.0f} x real time")


def spectrify(
    inputs: Sequence[Path],
    output: Path,
    settings: FrameSettings,
    *,
    hdf5: bool = False,
    workers: int | None = None,
    keep_truncated: bool = False,
    retry_failed: bool = False,
    quiet: bool = False,
) -> SpectrifySummary:
    """Compute the frames of sounds; a run that was killed is taken up where it was.

    Args:
        inputs: Folders and files.
        output: A folder for ``.npy`` files, nested as the sounds are, or a store (``.h5``).
        settings: Of the frames.
        hdf5: Write a store whatever the output is called.
        workers: Threads; one a core by default.
        keep_truncated: Use what is there of files cut short.
        retry_failed: Try files again that could not be used in an earlier run and have not changed.
        quiet: No progress bar.

    Raises:
        CoalaLatentError: The run cannot start or go on: among others a `ConfigError` or
            `StoreMismatchError` where the output has other settings. Single bad files are skipped
            instead.
    """
    front_end = settings.front_end()  # an impossible setting shows before anything is written
    root, sounds = list_sounds(inputs)
    summary = SpectrifySummary(str(output), files=len(sounds))
    run = _Run(
        printable_text(str(root)),
        sounds,
        settings,
        front_end,
        workers,
        keep_truncated,
        retry_failed,
        quiet,
        summary,
    )
    began = time.monotonic()
    if hdf5 or output.suffix.lower() in _STORE_SUFFIXES:
        _to_store(run, output)
    else:
        _to_folder(run, output)
    summary.seconds = time.monotonic() - began
    return summary


def _to_folder(run: _Run, output: Path) -> None:
    settings = {**run.settings.to_dict(), "resampler": resampler_settings()}
    with FrameFolder(output, settings, run.root) as folder:
        folder.check_names([name for name, _ in run.sounds])
        todo = [
            (name, path)
            for name, path in run.sounds
            if not folder.is_done(name, path, retry_failed=run.retry_failed)
        ]
        run.summary.already_done = len(run.sounds) - len(todo)
        # Before they are read: a sound that changes meanwhile is done again the next time.
        states = [file_state(path) for _, path in todo]
        for index, done in run.results([(path, folder.target(name)) for name, path in todo]):
            folder.add(todo[index][0], states[index], done)
        run.summary.skipped = folder.failed(name for name, _ in run.sounds)


def _to_store(run: _Run, output: Path) -> None:
    identity = StoreIdentity(
        model=FRAMES_MODEL,
        weights_sha256="",
        front_end=run.settings.to_dict(),
        resampler=resampler_settings(),
        layer="log_mel",
        pooling="none",
        dim=run.settings.bands,
    )
    summary = run.summary
    metadata = {"root": run.root}
    with (
        StoreWriter(output, identity, metadata=metadata) as writer,
        _spool(writer.path) as spool,
    ):
        if run.retry_failed:
            asked = [name for name, _ in run.sounds]
            writer.forget([name for name in asked if _has_failed(writer, name)])
        todo = [(name, path) for name, path in run.sounds if name not in writer.done]
        summary.already_done = len(run.sounds) - len(todo)
        summary.changed = [
            name
            for name, path in run.sounds
            if name in writer.done and writer.done[name].bytes != file_state(path)[0]
        ]
        jobs = [(path, spool / f"{number}.npy") for number, (_, path) in enumerate(todo)]
        for index, done in run.results(jobs):
            name, path = todo[index]
            _store(writer, name, file_state(path)[0], jobs[index][1], done, run.front_end)
        summary.skipped = [
            _failure(writer.done[name]) for name, _ in run.sounds if _has_failed(writer, name)
        ]


def _has_failed(writer: StoreWriter, name: str) -> bool:
    return name in writer.done and writer.done[name].status == FAILED


def _failure(record: FileRecord) -> dict[str, str]:
    kind, _, reason = record.error.partition(": ")
    return {"path": printable_text(record.path), "kind": kind, "error": reason}


@contextmanager
def _spool(store: Path) -> Iterator[Path]:
    """A folder beside the store for frames on their way into it."""
    folder = store.with_name(f"{store.name}.frames")
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        # Also what a killed run left: the store is locked, so that no other run has this folder.
        for left in (*folder.glob("[0-9]*.npy"), *folder.glob(TEMPORARY)):
            left.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _store(
    writer: StoreWriter,
    name: str,
    size: int,
    spooled: Path,
    done: FramesDone | AudioError,
    front_end: LogMelFrames,
) -> None:
    """Move the frames of a sound into the store, or note why there are none."""
    if isinstance(done, AudioError):
        reason = f"{done.reason} ({done.cure})" if done.cure else done.reason
        error = f"{type(done).__name__}: {printable_text(reason)}"
        writer.commit(FileRecord(name, FAILED, error, bytes=size))
        return
    writer.begin(name)
    info = done.info
    # An array without rows cannot be mapped into memory.
    values = np.load(spooled, mmap_mode="r", allow_pickle=False) if done.frames else np.zeros(0)
    for first in range(0, done.frames, _BLOCK):
        block = values[first : first + _BLOCK]
        times = front_end.framing.times(first, len(block), front_end.sample_rate, info.duration)
        writer.append(block, *times)
    writer.commit(
        FileRecord(
            path=name,
            status="truncated" if done.truncated else "ok",
            duration=info.duration,
            sample_rate=info.sample_rate,
            channels=info.channels,
            bytes=size,
        )
    )
    spooled.unlink()
