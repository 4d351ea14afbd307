"""Sounds to ``.npy`` files of frames, in threads, with results in order.

Decoding, resampling and the Fourier transforms leave Python's lock, so threads use all cores and
share one copy of the libraries.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch

from coala_latent.audio.io import AudioInfo
from coala_latent.audio.sound_eval import LogMelFrames
from coala_latent.embed.blocks import PatchBlock
from coala_latent.embed.sources import FileEnd
from coala_latent.errors import AudioError, AudioValueError
from coala_latent.tasks.sound_frames import frame_blocks

__all__ = ["TEMPORARY", "FramesDone", "Job", "default_workers", "make_frames"]

Job: TypeAlias = tuple[Path, Path]

# What files are called until they are complete; the number is that of the thread.
TEMPORARY = ".spectrify-*.tmp"
# Files for each thread that may be done before a long one is.
_FILES_AHEAD = 4


@dataclass(frozen=True)
class FramesDone:
    """The frames of a sound are in their file.

    Attributes:
        frames: How many.
        info: The header, with the length really found.
        truncated: Whether the file declares more.
    """

    frames: int
    info: AudioInfo
    truncated: bool


class _StoppedError(Exception):
    """Nobody wants the frames any more."""


def default_workers(files: int) -> int:
    """One thread a core, and no more than there are files."""
    return max(1, min(files, torch.get_num_threads()))


def make_frames(
    jobs: Sequence[Job],
    front_end: LogMelFrames,
    *,
    workers: int | None = None,
    keep_truncated: bool = False,
) -> Generator[FramesDone | AudioError, None, None]:
    """Write the frames of sounds to ``.npy`` files.

    A target appears when it is complete; its folder must exist. Memory is bounded by the number of
    threads, not by the sounds' lengths.

    Args:
        jobs: Sound and target of each.
        front_end: Computes the frames.
        workers: Threads, `default_workers` by default.
        keep_truncated: Use what is there of files cut short.

    Yields:
        For each job what was written, or why the sound cannot be used, in order.
    """
    count = default_workers(len(jobs)) if workers is None else workers
    cores, stopped = torch.get_num_threads(), threading.Event()

    def work(job: Job) -> FramesDone | AudioError:
        try:
            return _write_frames(*job, front_end, keep_truncated, stopped)
        except AudioError as error:
            return error

    pool = ThreadPoolExecutor(count, thread_name_prefix="spectrify", initializer=_one_core)
    waiting: deque[Future[FramesDone | AudioError]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > _FILES_AHEAD * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


def _one_core() -> None:
    torch.get_num_threads()  # the first question in a thread sets its number
    torch.set_num_threads(1)


def _write_frames(
    sound: Path,
    target: Path,
    front_end: LogMelFrames,
    keep_truncated: bool,
    stopped: threading.Event,
) -> FramesDone:
    # Short, because the name of the sound may fill what a file system allows.
    temporary = target.parent / TEMPORARY.replace("*", str(threading.get_ident()))
    shape = [0, front_end.bands]
    try:
        with temporary.open("wb") as file:
            begin = _header_size(file, shape)
            for item in frame_blocks(sound, front_end, allow_truncated=keep_truncated):
                if stopped.is_set():
                    raise _StoppedError
                if isinstance(item, PatchBlock):
                    file.write(np.ascontiguousarray(item.patches.numpy(), "<f4").tobytes())
                    shape[0] += len(item)
                elif isinstance(item, FileEnd):
                    done = FramesDone(shape[0], item.info, item.truncated)
            # NumPy leaves room in the header for the number of rows to grow.
            file.seek(0)
            assert _header_size(file, shape) == begin
        temporary.replace(target)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise AudioValueError(sound, "its name with .npy is too long", "rename it") from error
    finally:
        temporary.unlink(missing_ok=True)
    return done


def _header_size(file: IO[bytes], shape: Sequence[int]) -> int:
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.tell()
