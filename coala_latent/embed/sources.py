"""Where samples come from: files in blocks, arrays, sounds; always mono at the model's rate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.audio.io import AudioInfo, AudioReader, Channels, check_finite, mix_channels
from coala_latent.audio.resample import StreamResampler
from coala_latent.embed.blocks import Block, BlockStream
from coala_latent.errors import AudioEmptyError, AudioValueError
from coala_latent.types import FloatArray, Sound

__all__ = ["Cutter", "FileEnd", "as_sound", "file_blocks", "pieces", "sound_blocks", "whole_rate"]

# Samples at the model's rate that are framed at once (12 s at 22 kHz). A block of a file with a
# very low sample rate, or an hour in an array, would otherwise grow without bound here.
_PIECE = 1 << 18


@dataclass(frozen=True)
class Cutter:
    """How a model's sounds are cut into blocks.

    Attributes:
        sample_rate: Of the model, in Hz.
        begin: Makes the stream of one sound, given its name.
    """

    sample_rate: int
    begin: Callable[[str], BlockStream]


@dataclass(frozen=True)
class FileEnd:
    """After a file's last block: the header with the length really found.

    `truncated` says whether the file declares more.
    """

    info: AudioInfo
    truncated: bool


def as_sound(waveform: Any, sample_rate: int | None, source: str = "array") -> Sound:
    """Check an array, tensor or `Sound` and make it a float32 `Sound`.

    Integer samples are scaled by their type's range, as sound files store them.

    Args:
        waveform: ``(time,)`` or ``(channels, time)``.
        sample_rate: In Hz; None only for a `Sound`.
        source: Name for messages.

    Raises:
        AudioValueError: Wrong shape or type (64-bit integers too: nothing says what their full
            scale is), more than 1024 channels, no sample rate, NaN.
        AudioEmptyError: No samples.
    """
    if isinstance(waveform, Sound):
        waveform, sample_rate, source = waveform.samples, waveform.sample_rate, waveform.source
    if isinstance(waveform, (str, os.PathLike)):
        raise AudioValueError(os.fspath(waveform), "is a path, not samples", "use the file method")
    rate = whole_rate(sample_rate, source)
    samples = _as_array(waveform, source)
    if samples.ndim not in (1, 2):
        raise AudioValueError(source, f"shape {samples.shape}", "give (time,) or (channels, time)")
    if samples.ndim == 2 and samples.shape[0] > 1024:
        raise AudioValueError(
            source,
            f"shape {samples.shape} would be {samples.shape[0]} channels",
            "give (channels, time), not (time, channels)",
        )
    if samples.size == 0:
        raise AudioEmptyError(source, "no samples", "give at least one")
    if samples.dtype in (np.int8, np.int16, np.int32):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioValueError(
            source, f"samples of type {samples.dtype}", "give floats in [-1, 1], or 16-bit integers"
        )
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32, copy=False)
    check_finite(samples, source)
    return Sound(samples, rate, source)


def whole_rate(sample_rate: Any, source: str) -> int:
    """A sample rate in Hz.

    Raises:
        AudioValueError: It is no whole number above 0.
    """
    try:
        rate = int(sample_rate)
        valid = rate == sample_rate and rate > 0
    except (TypeError, ValueError, OverflowError):
        valid = False
    if not valid:
        raise AudioValueError(source, f"sample rate {sample_rate!r}", "give it in Hz, as a whole")
    return rate


def _as_array(waveform: Any, source: str) -> npt.NDArray[Any]:
    if isinstance(waveform, torch.Tensor):
        waveform = waveform.detach().cpu()
        # NumPy has no bfloat16.
        return (waveform.float() if waveform.dtype == torch.bfloat16 else waveform).numpy()
    try:
        return np.asarray(waveform)
    except ValueError as error:
        raise AudioValueError(source, f"not an array: {error}", "give equally long rows") from error


def sound_blocks(sound: Sound, cutter: Cutter, channels: Channels) -> Iterator[Block]:
    """Blocks of a checked `Sound`."""
    samples = sound.samples
    mono = samples if samples.ndim == 1 else mix_channels(samples, channels)
    yield from _blocks(iter([mono]), sound.sample_rate, cutter, sound.source)


def file_blocks(
    path: str | os.PathLike[str],
    cutter: Cutter,
    channels: Channels,
    *,
    allow_truncated: bool = False,
) -> Iterator[Block | AudioInfo | FileEnd]:
    """The header of a file, its blocks, and a `FileEnd`.

    Raises:
        AudioError: Of the kind that fits; see `AudioReader`.
    """
    with AudioReader(path, allow_truncated=allow_truncated) as reader:
        yield reader.info
        rate, source = reader.info.sample_rate, str(Path(path))

        def mono() -> Iterator[FloatArray]:
            for block in reader.blocks():
                check_finite(block, source)
                yield mix_channels(block, channels)

        yield from _blocks(mono(), rate, cutter, source)
        found = replace(reader.info, frames=reader.info.frames - reader.missing)
        yield FileEnd(found, reader.truncated)


def _blocks(
    blocks: Iterator[FloatArray], rate: int, cutter: Cutter, source: str
) -> Iterator[Block]:
    resampler = StreamResampler(rate, cutter.sample_rate)
    stream = cutter.begin(source)
    for block in blocks:
        for piece in pieces(resampler, block, rate, cutter.sample_rate):
            yield stream.push(piece)
    for piece in _cut(resampler.finish(), _PIECE):
        yield stream.push(piece)
    yield stream.finish()


def pieces(
    resampler: StreamResampler, samples: FloatArray, rate: int, target_rate: int
) -> Iterator[FloatArray]:
    """Resampled samples in pieces of bounded size."""
    for part in _cut(samples, max(1, _PIECE * rate // target_rate)):
        yield from _cut(resampler.push(part), _PIECE)


def _cut(samples: FloatArray, size: int) -> Iterator[FloatArray]:
    return (samples[begin : begin + size] for begin in range(0, len(samples), size))
