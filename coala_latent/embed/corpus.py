"""Embedding many files in threads, with results in order.

On the CPU every thread takes a file from decoding to rows, with its share of the cores: networks of
this size gain less from several cores than files do, and a file's rows do not depend on its
neighbours. On an accelerator, and for a single file, threads decode ahead of one network.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.audio.io import AudioInfo
from coala_latent.embed.blocks import Block, PatchBlock, WaveBlock
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.sources import FileEnd
from coala_latent.errors import AudioError
from coala_latent.types import Embedding, FloatArray

__all__ = ["FileDone", "FileFailed", "FileRows", "default_workers", "embed_files"]

# Bytes that may be ready of a file before they are wanted: patches of some blocks of 6 s, or rows
# of half an hour.
_BLOCKS_AHEAD = 4 << 20
_ROWS_AHEAD = 16 << 20
# Files for each thread that may be done before a long one is.
_FILES_AHEAD = 4
_DECODERS = 2
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


Event: TypeAlias = FileRows | FileDone | FileFailed
_Piece: TypeAlias = Block | Embedding | AudioInfo | FileEnd
_Item: TypeAlias = _Piece | BaseException | None
_Produce: TypeAlias = Callable[[Path], Iterable[_Piece]]


def default_workers(embedder: Embedder, files: int) -> int:
    """Threads for so many files: one a core on the CPU, else enough to decode ahead."""
    if embedder.device.type == "cpu":
        return max(1, min(files, torch.get_num_threads()))
    return _DECODERS


def embed_files(
    embedder: Embedder, paths: Sequence[Path], *, workers: int | None = None
) -> Iterator[Event]:
    """Embed files in order.

    Memory is bounded by workers and batch, not by the files' lengths.

    Args:
        embedder: The model.
        paths: Files.
        workers: Threads, `default_workers` by default. On the CPU they share torch's cores and
            embed whole files; on other devices they decode, and patches of different files share
            batches.

    Yields:
        For each file its `FileRows`, then `FileDone` or `FileFailed`.
    """
    count = default_workers(embedder, len(paths)) if workers is None else workers
    if embedder.device.type == "cpu" and count > 1 and len(paths) > 1:
        yield from _whole_files(embedder, paths, min(count, len(paths)))
    else:
        yield from _decoded_ahead(embedder, paths, max(1, count))


def _whole_files(embedder: Embedder, paths: Sequence[Path], workers: int) -> Iterator[Event]:
    def produce(path: Path) -> Iterator[Embedding | AudioInfo | FileEnd]:
        items = ((0, item) for item in embedder.file_blocks(path))
        found: Iterator[tuple[int, Embedding | AudioInfo | FileEnd]]
        found = embedder.hearing.rows()(items)
        return (item for _, item in found)

    threads = _Threads(produce, workers, torch.get_num_threads() // workers, _ROWS_AHEAD)
    with closing(_in_order(threads, paths, _FILES_AHEAD * workers)) as found:
        for index, item in found:
            if isinstance(item, Embedding):
                yield FileRows(index, item.values, item.start, item.end)
            elif isinstance(item, (FileDone, FileFailed)):
                yield item


def _decoded_ahead(embedder: Embedder, paths: Sequence[Path], workers: int) -> Iterator[Event]:
    threads = _Threads(embedder.file_blocks, workers, 1, _BLOCKS_AHEAD)
    # Closed at once on an error of the network too: its traceback would hold the threads.
    with closing(_in_order(threads, paths, workers)) as decoded:
        found: Iterator[tuple[int, Embedding | FileDone | FileFailed]]
        found = embedder.hearing.rows()(decoded)
        for index, item in found:
            if isinstance(item, Embedding):
                yield FileRows(index, item.values, item.start, item.end)
            else:
                yield item


def _in_order(
    threads: _Threads, paths: Sequence[Path], ahead: int
) -> Generator[tuple[int, Block | Embedding | FileDone | FileFailed], None, None]:
    """What the threads produce, file by file in order."""
    waiting: deque[tuple[int, _Ready]] = deque()
    try:
        for index, path in enumerate(paths):
            waiting.append((index, threads.submit(path)))
            if len(waiting) > ahead:
                yield from _results(threads, *waiting.popleft())
        while waiting:
            yield from _results(threads, *waiting.popleft())
    finally:
        threads.stop()


def _results(
    threads: _Threads, index: int, items: _Ready
) -> Iterator[tuple[int, Block | Embedding | FileDone | FileFailed]]:
    for item in threads.read(items):
        if isinstance(item, (PatchBlock, WaveBlock, Embedding)):
            yield index, item
        elif isinstance(item, AudioError):
            yield index, FileFailed(index, item)
        elif isinstance(item, FileEnd):
            yield index, FileDone(index, item.info, item.truncated)


class _Ready(queue.Queue[_Item]):
    """A queue that is full when the arrays in it take `maxsize` bytes."""

    def _init(self, maxsize: int) -> None:
        self._items: deque[tuple[int, _Item]] = deque()
        self._bytes = 0

    def _qsize(self) -> int:
        return self._bytes

    def _put(self, item: _Item) -> None:
        size = max(1, _nbytes(item))
        self._bytes += size
        self._items.append((size, item))

    def _get(self) -> _Item:
        size, item = self._items.popleft()
        self._bytes -= size
        return item


def _nbytes(item: _Item) -> int:
    if isinstance(item, PatchBlock):
        return item.patches.nbytes
    if isinstance(item, WaveBlock):
        return item.samples.nbytes
    return item.values.nbytes if isinstance(item, Embedding) else 0


class _Threads:
    """Threads that work on files ahead of whoever reads.

    They end with `stop`. Should the iterator that would call it still be held when the program
    ends, they see that nobody can read any more; a thread pool would keep the program from ending.

    Args:
        produce: What a file becomes.
        count: Of threads.
        cores: That torch may use in each.
        ahead: Bytes that may be ready of each file.
    """

    def __init__(self, produce: _Produce, count: int, cores: int, ahead: int) -> None:
        self._produce = produce
        self._cores = max(1, cores)
        self._ahead = ahead
        self._tasks: queue.SimpleQueue[tuple[Path, _Ready] | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._reader = threading.current_thread()
        # torch keeps the number of cores by thread, and once more for threads that come later.
        before, begun = torch.get_num_threads(), threading.Barrier(count + 1)
        self._threads = [
            threading.Thread(target=self._work, args=(begun,), name=f"embed-{number}")
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()
        begun.wait()
        torch.set_num_threads(before)

    def submit(self, path: Path) -> _Ready:
        """Have a file done when a thread is free; what comes of it arrives in the queue."""
        items = _Ready(self._ahead)
        self._tasks.put((path, items))
        return items

    def read(self, items: _Ready) -> Iterator[_Piece | AudioError]:
        """What came of a file; an error that is not the file's is raised here."""
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
        for _ in self._threads:
            self._tasks.put(None)  # wakes the idle ones
        for thread in self._threads:
            thread.join()

    def _wanted(self) -> bool:
        if self._stopped.is_set():
            return False
        reader = self._reader
        return threading.main_thread().is_alive() or (reader.is_alive() and not reader.daemon)

    def _work(self, begun: threading.Barrier) -> None:
        torch.get_num_threads()  # the first question in a thread sets its number
        torch.set_num_threads(self._cores)
        begun.wait()
        while self._wanted():
            try:
                task = self._tasks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if task is not None:
                self._do(*task)

    def _do(self, path: Path, items: _Ready) -> None:
        try:
            for item in self._produce(path):
                if not self._put(items, item):
                    return
        except BaseException as error:  # carried to the reader, who raises what is not the file's
            self._put(items, error)
        self._put(items, None)

    def _put(self, items: _Ready, item: _Item) -> bool:
        """Wait for room; False when nobody reads any more."""
        while self._wanted():
            try:
                items.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False
