"""Any sound that can be read as an mp3, which every browser plays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from coala_latent.audio.io import AudioReader
from coala_latent.audio.resample import StreamResampler
from coala_latent.errors import AudioDecodeError, DependencyError
from coala_latent.types import FloatArray

__all__ = ["mp3_bytes"]

# Of MPEG 1 to 2.5, layer III.
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# Variable bit rate, about 125 kbit/s of stereo music.
_COMPRESSION = 0.5


def mp3_bytes(path: Path) -> bytes:
    """Encode a sound file, block by block: only the result is in memory as a whole.

    Two channels stay two, more are averaged; a rate that mp3 does not have becomes the next higher
    one, or 48 kHz.

    Raises:
        AudioError: The file cannot be read.
        DependencyError: The installed libsndfile writes no mp3.
    """
    if "MP3" not in soundfile.available_formats():
        raise DependencyError(
            f"libsndfile {soundfile.__libsndfile_version__} writes no mp3 (1.1 and later do: "
            "pip install --upgrade soundfile)"
        )
    out = io.BytesIO()
    with AudioReader(path, allow_truncated=True) as reader:
        rate = next((r for r in _RATES if r >= reader.info.sample_rate), _RATES[-1])
        channels = min(reader.info.channels, 2) if reader.info.channels <= 2 else 1
        try:
            with soundfile.SoundFile(
                out,
                "w",
                samplerate=rate,
                channels=channels,
                format="MP3",
                subtype="MPEG_LAYER_III",
                bitrate_mode="VARIABLE",
                compression_level=_COMPRESSION,
            ) as file:
                for block in _resampled(reader, rate, channels):
                    file.write(block.T)
        except soundfile.LibsndfileError as error:
            raise AudioDecodeError(
                path, f"cannot be written as mp3: {error.error_string}", "convert it by hand"
            ) from error
    return out.getvalue()


def _resampled(reader: AudioReader, rate: int, channels: int) -> Iterator[FloatArray]:
    """``(channels, time)`` blocks within [-1, 1]."""
    streams = [StreamResampler(reader.info.sample_rate, rate) for _ in range(channels)]
    for block in reader.blocks():
        mixed = block if len(block) == channels else block.mean(axis=0, keepdims=True)
        parts = [stream.push(row) for stream, row in zip(streams, mixed, strict=True)]
        yield _bounded(np.stack(parts))
    yield _bounded(np.stack([stream.finish() for stream in streams]))


def _bounded(block: FloatArray) -> FloatArray:
    """Louder samples would wrap around, and NaN would last until the end."""
    return np.clip(np.nan_to_num(block), -1.0, 1.0)
