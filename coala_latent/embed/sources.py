"""Where samples come from: files in blocks, arrays, sounds; always mono at the model's rate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.io import AudioInfo, AudioReader, Channels, check_finite, mix_channels
from coala_latent.audio.resample import StreamResampler
from coala_latent.embed.stream import PatchBlock, PatchStream, Short
from coala_latent.errors import AudioEmptyError, AudioValueError
from coala_latent.types import FloatArray, Sound

__all__ = ["as_sound", "file_patches", "sound_patches"]


def as_sound(waveform: Any, sample_rate: int | None, source: str = "array") -> Sound:
    """Check an array, tensor or `Sound` and make it a float32 `Sound`.

    Integer samples are scaled by their type's range, as sound files store them.

    Args:
        waveform: ``(time,)`` or ``(channels, time)``.
        sample_rate: In Hz; None only for a `Sound`.
        source: Name for messages.

    Raises:
        AudioValueError: Wrong shape or type, more than 1024 channels, no sample rate, NaN.
        AudioEmptyError: No samples.
    """
    if isinstance(waveform, Sound):
        waveform, sample_rate, source = waveform.samples, waveform.sample_rate, waveform.source
    if sample_rate is None or int(sample_rate) != sample_rate or sample_rate <= 0:
        raise AudioValueError(source, f"sample rate {sample_rate!r}", "give it in Hz, as a whole")
    if isinstance(waveform, torch.Tensor):
        waveform = waveform.detach().cpu().numpy()
    samples = np.asarray(waveform)
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
    if np.issubdtype(samples.dtype, np.signedinteger):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioValueError(source, f"samples of type {samples.dtype}", "give float samples")
    samples = samples.astype(np.float32, copy=False)
    check_finite(samples, source)
    return Sound(samples, int(sample_rate), source)


def sound_patches(
    sound: Sound, front_end: FrontEnd, *, short: Short, channels: Channels
) -> Iterator[PatchBlock]:
    """Patches of a checked `Sound`."""
    samples = sound.samples
    mono = samples if samples.ndim == 1 else mix_channels(samples, channels)
    yield from _patches(iter([mono]), sound.sample_rate, front_end, short, sound.source)


def file_patches(
    path: str | os.PathLike[str],
    front_end: FrontEnd,
    *,
    short: Short,
    channels: Channels,
    allow_truncated: bool = False,
) -> Iterator[PatchBlock | AudioInfo]:
    """The header of a file, its patches, and the header with the length really found.

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

        yield from _patches(mono(), rate, front_end, short, source)
        yield replace(reader.info, frames=reader.info.frames - reader.missing)


def _patches(
    blocks: Iterator[FloatArray], rate: int, front_end: FrontEnd, short: Short, source: str
) -> Iterator[PatchBlock]:
    resampler = StreamResampler(rate, front_end.sample_rate)
    stream = PatchStream(front_end, short, source)
    for block in blocks:
        yield stream.push(resampler.push(block))
    yield stream.push(resampler.finish())
    yield stream.finish()
