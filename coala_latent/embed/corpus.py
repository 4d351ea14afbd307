"""Embedding many files: decoding ahead in threads, batches across files, results in order."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coala_latent.audio.io import AudioInfo
from coala_latent.embed.blocks import Block, PatchBlock, WaveBlock
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.sources import FileEnd
from coala_latent.errors import AudioError
from coala_latent.types import Embedding, FloatArray

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

    `info` holds the length really found, `truncated` whether the file declares more.
    """

    index: int
    info: AudioInfo
    truncated: bool


@dataclass(frozen=True)
class FileFailed:
    """File `index` cannot be used; rows already given for it are void."""

    index: int
    error: AudioError


Event = FileRows | FileDone | FileFailed
_Item = Block | AudioInfo | FileEnd | BaseException | None


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
    # Closed at once on an error of the network too: its traceback would hold the threads.
    with closing(_decoded(embedder, paths, workers)) as decoded:
        found: Iterator[tuple[int, Embedding | FileDone | FileFailed]]
        found = embedder.hearing.rows()(decoded)
        for index, item in found:
            if isinstance(item, Embedding):
                yield FileRows(index, item.values, item.start, item.end)
            else:
                yield item


def _decoded(
    embedder: Embedder, paths: Sequence[Path], workers: int
) -> Generator[tuple[int, Block | FileDone | FileFailed], None, None]:
    """What the decoding threads produce, file by file in order."""
    decoders = _Decoders(embedder, max(1, workers))
    waiting: deque[tuple[int, queue.Queue[_Item]]] = deque()
    try:
        for index, path in enumerate(paths):
            waiting.append((index, decoders.submit(path)))
            if len(waiting) > workers:
                yield from _results(decoders, *waiting.popleft())
        while waiting:
            yield from _results(decoders, *waiting.popleft())
    finally:
        decoders.stop()


def _results(
    decoders: _Decoders, index: int, items: queue.Queue[_Item]
) -> Iterator[tuple[int, Block | FileDone | FileFailed]]:
    for item in decoders.read(items):
        if isinstance(item, (PatchBlock, WaveBlock)):
            yield index, item
        elif isinstance(item, AudioError):
            yield index, FileFailed(index, item)
        elif isinstance(item, FileEnd):
            yield index, FileDone(index, item.info, item.truncated)


class _Decoders:
    """Threads that decode files ahead of whoever reads.

    They end with `stop`. Should the iterator that would call it still be held when the program
    ends, they see that nobody can read any more; a thread pool would keep the program from ending.
    """

    def __init__(self, embedder: Embedder, count: int) -> None:
        self._embedder = embedder
        self._tasks: queue.SimpleQueue[tuple[Path, queue.Queue[_Item]]] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._reader = threading.current_thread()
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{number}") for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, path: Path) -> queue.Queue[_Item]:
        """Have a file decoded when a thread is free; what it holds arrives in the queue."""
        items: queue.Queue[_Item] = queue.Queue(_AHEAD)
        self._tasks.put((path, items))
        return items

    def read(self, items: queue.Queue[_Item]) -> Iterator[Block | AudioInfo | FileEnd | AudioError]:
        """What a file holds; an error that is not the file's is raised here."""
        while True:
            self._reader = threading.current_thread()
            item = items.get()
            if item is None:
                return
            if isinstance(item, BaseException) and not isinstance(item, AudioError):
                raise item
            yield item

    def stop(self) -> None:
        """End the threads, whatever they are doing."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _wanted(self) -> bool:
        if self._stopped.is_set():
            return False
        reader = self._reader
        return threading.main_thread().is_alive() or (reader.is_alive() and not reader.daemon)

    def _work(self) -> None:
        while self._wanted():
            try:
                path, items = self._tasks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            self._decode(path, items)

    def _decode(self, path: Path, items: queue.Queue[_Item]) -> None:
        try:
            for item in self._embedder.file_blocks(path):
                if not self._put(items, item):
                    return
        except BaseException as error:  # carried to the reader, who raises what is not the file's
            self._put(items, error)
        self._put(items, None)

    def _put(self, items: queue.Queue[_Item], item: _Item) -> bool:
        """Wait for room; False when nobody reads any more."""
        while self._wanted():
            try:
                items.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
