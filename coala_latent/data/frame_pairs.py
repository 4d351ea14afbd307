"""Frames of all recordings in one tensor, and pairs of neighbours drawn from them.

A batch is drawn by arithmetic on whole tensors, on the device that trains: there is no loop over
recordings or pairs, and no worker process.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.data.frame_files import FrameFiles
from coala_latent.errors import ConfigError, DataError

__all__ = ["FramePairs", "PairBatch", "PairIndices", "RecordingFrames", "hold_out"]

# Recordings of fewer frames are too short to go without some of them.
_LEAST_TO_HOLD_OUT = 8
_BLOCK_BYTES = 64 * 2**20
_MIN_STD = 0.1

IntArray = npt.NDArray[np.int64]


class PairIndices(NamedTuple):
    """Pairs of frames as places in the tensor of all frames, ``(steps, batch)`` int64 each.

    Attributes:
        document: Recording of the frame.
        frame: The frame.
        context: Its neighbour, or what is to be told from neighbours.
    """

    document: Tensor
    frame: Tensor
    context: Tensor


class PairBatch(NamedTuple):
    """Pairs of frames.

    Attributes:
        document: ``(batch,)`` int64.
        frames: ``(batch, bands)`` float32.
        contexts: ``(batch, bands)`` float32.
    """

    document: Tensor
    frames: Tensor
    contexts: Tensor


@dataclass(frozen=True)
class RecordingFrames:
    """All frames, one recording after the other.

    Attributes:
        frames: ``(frames, bands)`` float32.
        starts: ``(recordings + 1,)``: recording `i` has the frames ``starts[i]`` to
            ``starts[i + 1]``.
    """

    frames: Tensor
    starts: IntArray

    @classmethod
    def load(cls, files: FrameFiles, mapped: Path | None = None) -> RecordingFrames:
        """Read frames into memory, or into one file that stays on disk.

        Args:
            files: Where they are.
            mapped: Name of that file; it is written anew, and read through the page cache. None
                for memory.

        Raises:
            DataError: No recording has a frame, one cannot be read, or there is no room.
        """
        if not sum(files.lengths):
            raise DataError(f"{files.path}: no recording has a frame (are the sounds too short?)")
        needed = 4 * sum(files.lengths) * files.width
        if mapped is None:
            try:
                frames, starts = files.load()
            except MemoryError as error:
                raise DataError(
                    f"{files.path}: the frames need {needed / 2**30:.1f} GiB of memory "
                    "(use frames=mapped, which leaves them on disk)"
                ) from error
            return cls(torch.from_numpy(frames), starts)
        if needed > shutil.disk_usage(mapped.parent).free:
            raise DataError(f"{mapped.parent}: the frames need {needed / 2**30:.1f} GiB of disk")
        starts = np.concatenate([[0], np.cumsum(files.lengths)]).astype(np.int64)
        flat = np.lib.format.open_memmap(
            mapped, "w+", np.dtype(np.float32), (int(starts[-1]), files.width)
        )
        for index in range(len(files)):
            flat[starts[index] : starts[index + 1]] = files.read(index)
        flat.flush()
        # Copy on write, because torch wants memory that could be written to.
        return cls(torch.from_numpy(np.load(mapped, mmap_mode="c", allow_pickle=False)), starts)

    @property
    def lengths(self) -> IntArray:
        """Frames of each recording."""
        return np.diff(self.starts)

    def to(self, device: torch.device) -> RecordingFrames:
        """With the frames on a device.

        Raises:
            DataError: It has no room for them.
        """
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            needed = self.frames.nbytes
            if needed > 0.9 * free:
                raise DataError(
                    f"the frames need {needed / 2**30:.1f} GiB, and {device} has "
                    f"{free / 2**30:.1f} GiB free (use frames=memory, which leaves them in the "
                    "computer's memory)"
                )
        return RecordingFrames(self.frames.to(device), self.starts)

    def sha256(self) -> str:
        """Of the frames' values and the recordings' lengths."""
        digest = hashlib.sha256(self.starts.astype("<i8").tobytes())
        for block in self._blocks():
            digest.update(np.ascontiguousarray(block.cpu().numpy(), dtype="<f4").data)
        return digest.hexdigest()

    def standardisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (at least 0.1) of each band, both ``(bands,)`` float32."""
        bands = self.frames.shape[1]
        total, squares = torch.zeros(bands).double(), torch.zeros(bands).double()
        # Around a first guess of the mean, so that squares do not cancel.
        centre = self.frames[: max(1, min(1000, len(self.frames)))].double().mean(0).cpu()
        for block in self._blocks():
            values = block.cpu().double() - centre
            total += values.sum(0)
            squares += values.square().sum(0)
        mean = total / len(self.frames)
        variance = (squares / len(self.frames) - mean.square()).clamp(min=0)
        return (mean + centre).float(), variance.sqrt().clamp(min=_MIN_STD).float()

    def _blocks(self) -> tuple[Tensor, ...]:
        return self.frames.split(max(1, _BLOCK_BYTES // (4 * self.frames.shape[1])))


def hold_out(starts: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Choose a stretch of neighbouring frames in each recording that training does not see.

    Args:
        starts: See `RecordingFrames`.
        share: Of a recording's frames; at least two, and none of fewer than 8.
        seed: Of where they are.

    Returns:
        First frame of each stretch, and the one after its last, ``(recordings,)``. Empty ones begin
        and end at the recording's end.

    Raises:
        ConfigError: `share` is not within [0, 0.5].
    """
    if not 0 <= share <= 0.5:
        raise ConfigError(f"held_out={share}: use 0 (none) to 0.5")
    length = np.diff(starts)
    size = np.maximum(2, np.round(share * length).astype(np.int64))
    size[(length < _LEAST_TO_HOLD_OUT) | (share == 0)] = 0
    places = np.random.default_rng(seed).random(len(length))
    first = starts[:-1] + np.floor(places * (length - size + 1)).astype(np.int64)
    first = np.where(size > 0, first, starts[1:])
    return first, first + size


class FramePairs:
    """Draws pairs of frames.

    A recording with frames is drawn, all with equal chance, and then one of its frames.

    - By default its context is another frame of the same recording, at most `window` away; a frame
      without any neighbour is its own.
    - With `compat` the first half of a batch has a context from `window` before to `window` after,
      which may be the frame itself, and only at the very first and last frame of all recordings is
      it kept within: it may be of the next recording. The other half has any frame of all.

    Args:
        recordings: The frames.
        batch_size: Pairs in a batch.
        window: Frames from a frame to its context, at most.
        compat: Draw as the original.
        stretch: First frame and end of a stretch of each recording (see `hold_out`). None of
            these frames is drawn, and no pair spans them.
        inside: Draw within the stretches instead of without.

    Raises:
        ConfigError: A setting does not make sense, or goes only without `compat`.
        DataError: No recording has a frame to draw.
    """

    def __init__(
        self,
        recordings: RecordingFrames,
        batch_size: int,
        window: int,
        *,
        compat: bool = False,
        stretch: tuple[IntArray, IntArray] | None = None,
        inside: bool = False,
    ) -> None:
        if batch_size < 1 or window < (0 if compat else 1):
            raise ConfigError(f"batch_size={batch_size}, window={window}: use 1 or more")
        if compat and (batch_size % 2 or stretch is not None):
            raise ConfigError(
                f"compat: batch_size={batch_size} must be even, and nothing is held out"
            )
        self.recordings = recordings
        self.batch_size = batch_size
        self.window = window
        self.compat = compat
        starts = recordings.starts
        begin, end = starts[:-1], starts[1:]
        hole = (end, end) if stretch is None else stretch
        if inside:
            (begin, end), hole = hole, (hole[1], hole[1])
        chosen = np.flatnonzero(end - begin - (hole[1] - hole[0]) > 0)
        if not len(chosen):
            raise DataError("no recording has a frame to draw (are the sounds too short?)")
        # The documents that can be drawn, and where their frames and the gap in these are.
        self._document, self._begin, self._end, self._gap, self._resume = (
            torch.from_numpy(np.ascontiguousarray(each))
            for each in (chosen, begin[chosen], end[chosen], hole[0][chosen], hole[1][chosen])
        )

    @property
    def documents(self) -> int:
        """Recordings that have a frame to draw."""
        return len(self._document)

    def to(self, device: torch.device, *, frames: bool = True) -> FramePairs:
        """Draw on a device from now on.

        Args:
            device: Of the indices.
            frames: Move the frames there too; otherwise each batch's frames are.

        Raises:
            DataError: The frames have no room there.
        """
        if frames:
            self.recordings = self.recordings.to(device)
        for name in ("_document", "_begin", "_end", "_gap", "_resume"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def draw(self, steps: int, generator: torch.Generator) -> PairIndices:
        """Pairs for some batches, by a generator of the same device."""
        row = self._below(self.documents, (steps, self.batch_size), generator)
        return self._pairs_of(row, generator)

    def of_each(self, count: int, generator: torch.Generator) -> PairIndices:
        """So many pairs of each recording that has frames, ``(documents, count)`` each."""
        row = torch.arange(self.documents, device=self._document.device)
        return self._pairs_of(row[:, None].expand(-1, count), generator)

    def _pairs_of(self, row: Tensor, generator: torch.Generator) -> PairIndices:
        shape = (row.shape[0], row.shape[1])
        begin, end = self._begin[row], self._end[row]
        gap, resume = self._gap[row], self._resume[row]
        frame = begin + self._below(end - begin - (resume - gap), shape, generator)
        frame = torch.where(frame >= gap, frame + (resume - gap), frame)
        if self.compat:
            context = self._any_context(frame, generator)
        else:
            before = frame < gap
            low = torch.maximum(torch.where(before, begin, resume), frame - self.window)
            last = torch.minimum(torch.where(before, gap, end) - 1, frame + self.window)
            context = low + self._below(last - low, shape, generator)
            context = torch.where(context >= frame, context + 1, context)
            context = torch.where(last > low, context, frame)
        return PairIndices(self._document[row], frame, context)

    def _any_context(self, frame: Tensor, generator: torch.Generator) -> Tensor:
        steps, half, total = len(frame), self.batch_size // 2, len(self.recordings.frames)
        offset = self._below(2 * self.window + 1, (steps, half), generator) - self.window
        near = (frame[:, :half] + offset).clamp(0, total - 1)
        return torch.cat([near, self._below(total, (steps, half), generator)], 1)

    def _below(
        self, count: int | Tensor, shape: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """Whole numbers from 0 to below `count`, or 0 where that is 0."""
        # Double precision, because single has fewer values than large collections have frames.
        place = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        return (place * count).long()

    def batch(self, pairs: PairIndices, step: int) -> PairBatch:
        """The frames of one batch, on the device of the indices."""
        document, frame, context = (each[step] for each in pairs)
        frames = self.recordings.frames
        if frames.device == frame.device:
            return PairBatch(document, frames[frame], frames[context])
        chosen = frames[torch.cat([frame, context]).cpu()].to(frame.device)
        return PairBatch(document, *chosen.chunk(2))
