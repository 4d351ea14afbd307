"""``coala-latent encode``: sounds to an embedding store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coala_latent.audio.io import find_audio
from coala_latent.embed.corpus import FileDone, FileFailed, FileRows, embed_files
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import AudioError, AudioNotFoundError, ConfigError, DataError
from coala_latent.store import FileRecord, StoreWriter
from coala_latent.store.schema import printable_text
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.run_summary import RunSummary

__all__ = ["EncodeSummary", "encode", "list_sounds"]


@dataclass
class EncodeSummary(RunSummary):
    """What a run did, besides what `RunSummary` tells.

    Attributes:
        encoded: Newly embedded.
        rows: New rows.
        other_root: Folder that the store's names were relative to, if not the one given now: equal
            names then count as done, whichever folder they are in.
    """

    encoded: int = 0
    rows: int = 0
    other_root: str = ""


def list_sounds(inputs: Sequence[Path]) -> tuple[Path, list[tuple[str, Path]]]:
    """Sounds below folders, and files as they are, with their names in the store.

    Returns:
        The folder, or what several inputs have in common, and the sounds with their names
        relative to it, with ``/``.

    Raises:
        AudioNotFoundError: An input does not exist.
        DataError: There is no sound at all.
    """
    found: list[Path] = []
    roots = []
    for entry in inputs:
        if entry.is_dir():
            found.extend(find_audio(entry))
            roots.append(_normal(entry))
        elif entry.is_file():
            found.append(entry)
            roots.append(_normal(entry).parent)
        else:
            raise AudioNotFoundError(entry, "no such file or folder", "check the path")
    if not found:
        raise DataError(
            f"{', '.join(map(str, inputs))}: no sound files (wav, flac, ogg, mp3 ... by suffix)"
        )
    root = Path(os.path.commonpath(roots))
    names = {_normal(path).relative_to(root).as_posix(): path for path in found}
    return root, sorted(names.items())


def _normal(path: Path) -> Path:
    """Absolute and without ``..``, so that one file has one name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def encode(
    inputs: Sequence[Path],
    output: Path,
    embedder: Embedder,
    *,
    dtype: str = "float32",
    shard: tuple[int, int] = (0, 1),
    workers: int | None = None,
    retry_failed: bool = False,
    quiet: bool = False,
) -> EncodeSummary:
    """Embed sounds into a store; a run that was killed is taken up where it was.

    Args:
        inputs: Folders and files.
        output: The store, made or appended to.
        embedder: The model.
        dtype: ``"float32"`` or ``"float16"`` in the store.
        shard: ``(i, n)``: every n-th sound from the i-th on, for runs side by side.
        workers: Threads; see `embed_files`.
        retry_failed: Try files again that could not be used in an earlier run.
        quiet: No progress bar.

    Raises:
        CoalaLatentError: The run cannot start or go on; single bad files are skipped instead.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ConfigError(f"shard {index}/{count}: i must be from 0 to n - 1")
    root, sounds = list_sounds(inputs)
    sounds = sounds[index::count]
    summary = EncodeSummary(output=str(output), files=len(sounds))
    metadata = {
        "card": embedder.card.to_dict(),
        "shard": f"{index}/{count}",
        "root": printable_text(str(root)),
    }
    began = time.monotonic()
    with StoreWriter(output, embedder.identity(dtype), metadata=metadata) as writer:
        if retry_failed:
            writer.forget([name for name, record in writer.done.items() if not record.rows])
        todo = [(name, path) for name, path in sounds if name not in writer.done]
        summary.already_done = len(sounds) - len(todo)
        summary.changed = _changed(sounds, writer)
        if summary.already_done and writer.metadata.get("root") != metadata["root"]:
            summary.other_root = str(writer.metadata.get("root", ""))
        _run(todo, embedder, writer, summary, workers, quiet, began)
        for name, _ in sounds:
            record = writer.done.get(name)
            if record is not None and not record.rows:
                kind, _, reason = record.error.partition(": ")
                summary.skipped.append(
                    {"path": printable_text(name), "kind": kind, "error": reason}
                )
    summary.seconds = time.monotonic() - began
    return summary


def _changed(sounds: Sequence[tuple[str, Path]], writer: StoreWriter) -> list[str]:
    return [
        name
        for name, path in sounds
        if name in writer.done and writer.done[name].bytes != _size(path)
    ]


def _size(path: Path) -> int:
    """Bytes of a file; 0 for what is none, such as a link to nowhere, or is gone by now."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _run(
    todo: Sequence[tuple[str, Path]],
    embedder: Embedder,
    writer: StoreWriter,
    summary: EncodeSummary,
    workers: int | None,
    quiet: bool,
    began: float,
) -> None:
    with progress_bar(quiet=quiet or not todo) as bar:
        task = bar.add_task("encode", total=len(todo), note="")
        opened = -1
        for event in embed_files(embedder, [path for _, path in todo], workers=workers):
            name, path = todo[event.index]
            if event.index != opened:
                writer.begin(name)
                opened = event.index
            if isinstance(event, FileRows):
                writer.append(event.values, event.start, event.end)
                bar.update(task, note=_speed(summary, began, float(event.end[-1])))
                continue
            if isinstance(event, FileFailed):
                writer.rollback()
                writer.commit(_failed_record(name, path, event.error))
            else:
                _commit(writer, name, path, event, summary)
            bar.update(task, advance=1, note=_speed(summary, began))


def _speed(summary: EncodeSummary, began: float, heard: float = 0.0) -> str:
    """For the bar: speed so far, with `heard` seconds of the file that is being embedded."""
    seconds = summary.seconds_of_sound + heard
    return f"{seconds / max(time.monotonic() - began, 1e-9):.0f} x real time"


def _commit(
    writer: StoreWriter, name: str, path: Path, event: FileDone, summary: EncodeSummary
) -> None:
    info = event.info
    writer.commit(
        FileRecord(
            path=name,
            status="truncated" if event.truncated else "ok",
            duration=info.duration,
            sample_rate=info.sample_rate,
            channels=info.channels,
            bytes=_size(path),
        )
    )
    summary.encoded += 1
    summary.rows += writer.done[name].rows
    summary.seconds_of_sound += info.duration


def _failed_record(name: str, path: Path, error: AudioError) -> FileRecord:
    reason = f"{error.reason} ({error.cure})" if error.cure else error.reason
    return FileRecord(
        name, "failed", f"{type(error).__name__}: {printable_text(reason)}", bytes=_size(path)
    )
