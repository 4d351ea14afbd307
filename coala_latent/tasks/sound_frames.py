"""Log-mel frames of sound files, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.audio.io import AudioInfo
from coala_latent.audio.sound_eval import FrameSettings, LogMelFrames
from coala_latent.embed.blocks import PatchBlock, checked_samples
from coala_latent.embed.sources import Cutter, FileEnd, file_blocks

__all__ = ["FrameStream", "SoundFrames", "frame_blocks", "sound_frames"]


class FrameStream:
    """Frames of one sound as its samples arrive: the same, whatever the pieces.

    Memory is a window and the piece, however long the sound is.

    Args:
        front_end: Computes the frames.
        source: Name of the sound for messages.
    """

    def __init__(self, front_end: LogMelFrames, source: str = "array") -> None:
        self._front_end = front_end
        self._source = source
        self._device = front_end.window.device
        self._buffer = torch.zeros(0, device=self._device)
        # Samples between this frame and the next one, where the hop is beyond the window.
        self._skip = 0
        self._samples = 0
        self._frames = 0

    @torch.inference_mode()
    def push(self, samples: npt.NDArray[np.floating] | Tensor) -> PatchBlock:
        """Add ``(time,)`` samples at the front end's rate.

        Returns:
            The frames they complete, ``(frames, bands)``.

        Raises:
            AudioValueError: Not one-dimensional, or samples that are NaN, infinite or beyond 1e6.
        """
        new = checked_samples(samples, self._device, self._source)
        self._samples += len(new)
        return self._feed(new)

    @torch.inference_mode()
    def finish(self) -> PatchBlock:
        """The last frame, completed with zeros, where the framing keeps it."""
        framing = self._front_end.framing
        missing = framing.frames(self._samples) - self._frames
        if missing <= 0:
            return self._feed(self._buffer.new_zeros(0))
        needed = self._skip + (missing - 1) * framing.hop + framing.window - len(self._buffer)
        return self._feed(self._buffer.new_zeros(needed))

    def _feed(self, samples: Tensor) -> PatchBlock:
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        self._buffer = torch.cat([self._buffer, samples[skipped:]])
        framing = self._front_end.framing
        count = max(0, 1 + (len(self._buffer) - framing.window) // framing.hop)
        used = (count - 1) * framing.hop + framing.window if count else 0
        frames = self._front_end.spectrum(self._buffer[:used]).transpose(0, 1)
        self._skip += max(0, count * framing.hop - len(self._buffer))
        self._buffer = self._buffer[count * framing.hop :].clone()
        first, rate = self._frames, self._front_end.sample_rate
        self._frames += count
        start, end = framing.times(first, count, rate, self._samples / rate)
        return PatchBlock(frames, start, end)


@dataclass(frozen=True)
class SoundFrames:
    """All frames of a file.

    Attributes:
        values: ``(frames, bands)`` float32.
        start: ``(frames,)`` seconds.
        end: ``(frames,)`` seconds, none after the sound's end.
        info: The header, with the length really found.
        truncated: Whether the file declares more.
    """

    values: npt.NDArray[np.float32]
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    info: AudioInfo
    truncated: bool


def frame_blocks(
    path: Path, front_end: LogMelFrames, *, allow_truncated: bool = False
) -> Iterator[PatchBlock | AudioInfo | FileEnd]:
    """The header of a file, blocks of its frames, and a `FileEnd`.

    Raises:
        AudioError: Of the kind that fits; see `AudioReader`.
    """
    cutter = Cutter(front_end.sample_rate, partial(FrameStream, front_end))
    for item in file_blocks(path, cutter, "mean", allow_truncated=allow_truncated):
        if isinstance(item, (PatchBlock, AudioInfo, FileEnd)):
            yield item


def sound_frames(
    path: Path, settings: FrameSettings, *, allow_truncated: bool = False
) -> SoundFrames:
    """Frames of a sound file; channels are averaged, and the sound is resampled by soxr.

    Raises:
        AudioError: Of the kind that fits; see `AudioReader`.
        ConfigError: The settings do not fit each other.
    """
    front_end = settings.front_end()
    blocks: list[PatchBlock] = []
    for item in frame_blocks(path, front_end, allow_truncated=allow_truncated):
        if isinstance(item, PatchBlock):
            blocks.append(item)
        elif isinstance(item, FileEnd):
            end = item
    values = torch.cat([block.patches for block in blocks]).numpy()
    start = np.concatenate([block.start for block in blocks])
    ends = np.concatenate([block.end for block in blocks])
    return SoundFrames(values, start, ends, end.info, end.truncated)
