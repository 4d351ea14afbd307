"""Embedding many files: decoding ahead in threads, batches across files, results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.audio.io import AudioInfo
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.stream import PatchBlock
from coala_latent.errors import AudioError
from coala_latent.types import FloatArray

__all__ = ["FileDone", "FileFailed", "FileRows", "embed_files"]

# Decoded blocks waiting per file; a block is some 6 s of sound.
_AHEAD = 4
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class FileRows:
    """Some rows of file number `index`; they come in order."""

    index: int
    values: FloatArray
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]


@dataclass(frozen=True)
class FileDone:
    """All rows of file `index` have been given.

    `info` holds the length really found; `declared` is the header's, longer in truncated files.
    """

    index: int
    info: AudioInfo
    declared: int

    @property
    def truncated(self) -> bool:
        """Whether samples were missing."""
        return self.info.frames < self.declared


@dataclass(frozen=True)
class FileFailed:
    """File `index` cannot be used; rows already given for it are void."""

    index: int
    error: AudioError


Event = FileRows | FileDone | FileFailed
_Item = PatchBlock | AudioInfo | AudioError | None


def embed_files(embedder: Embedder, paths: Sequence[Path], *, workers: int = 2) -> Iterator[Event]:
    """Embed files in order.

    Files are decoded, resampled and framed by `workers` threads, some blocks ahead of the network;
    patches of different files share batches. Memory is bounded by workers and batch, not by the
    files' lengths.

    Args:
        embedder: The model.
        paths: Files.
        workers: Threads that decode.

    Yields:
        For each file its `FileRows`, then `FileDone` or `FileFailed`.
    """
    pending: list[tuple[int, PatchBlock] | FileDone | FileFailed] = []
    waiting = 0
    for index, item in _decoded(embedder, paths, workers):
        if isinstance(item, PatchBlock):
            if len(item):
                pending.append((index, item))
                waiting += len(item)
        else:
            pending.append(item)
        if waiting >= embedder.batch_size or (waiting == 0 and pending):
            yield from _flush(embedder, pending)
            pending, waiting = [], 0
    yield from _flush(embedder, pending)


def _flush(
    embedder: Embedder, pending: Sequence[tuple[int, PatchBlock] | FileDone | FileFailed]
) -> Iterator[Event]:
    blocks = [entry[1].patches for entry in pending if isinstance(entry, tuple)]
    rows = np.zeros((0, 0), np.float32)
    if blocks:
        parts = torch.cat(blocks).split(embedder.batch_size)
        rows = np.concatenate([embedder.rows(part).cpu().numpy() for part in parts])
    used = 0
    for entry in pending:
        if isinstance(entry, tuple):
            index, block = entry
            yield FileRows(index, rows[used : used + len(block)], block.start, block.end)
            used += len(block)
        else:
            yield entry


def _decoded(
    embedder: Embedder, paths: Sequence[Path], workers: int
) -> Iterator[tuple[int, PatchBlock | FileDone | FileFailed]]:
    """What the decoding threads produce, file by file in order."""
    stop = threading.Event()
    running: deque[tuple[int, queue.Queue[_Item], Future[None]]] = deque()
    upcoming = iter(enumerate(paths))
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode") as pool:
        try:
            while True:
                while len(running) <= workers and (following := next(upcoming, None)):
                    index, path = following
                    items: queue.Queue[_Item] = queue.Queue(_AHEAD)
                    future = pool.submit(_decode, embedder, path, items, stop)
                    running.append((index, items, future))
                if not running:
                    return
                index, items, future = running.popleft()
                for item in _results(index, items):
                    yield index, item
                future.result()
        finally:
            stop.set()


def _results(index: int, items: queue.Queue[_Item]) -> Iterator[PatchBlock | FileDone | FileFailed]:
    header: AudioInfo | None = None
    while (item := items.get()) is not None:
        if isinstance(item, PatchBlock):
            yield item
        elif isinstance(item, AudioError):
            yield FileFailed(index, item)
        elif header is None:
            header = item
        else:
            yield FileDone(index, item, header.frames)


def _decode(
    embedder: Embedder, path: Path, items: queue.Queue[_Item], stop: threading.Event
) -> None:
    """Decode one file into `items`; ends with None whatever happens."""
    try:
        for item in embedder.file_blocks(path):
            if not _put(items, item, stop):
                return
    except AudioError as error:
        _put(items, error, stop)
    finally:
        _put(items, None, stop)


def _put(items: queue.Queue[_Item], item: _Item, stop: threading.Event) -> bool:
    """Wait for room; False when nobody reads any more."""
    while not stop.is_set():
        try:
            items.put(item, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
