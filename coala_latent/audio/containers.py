"""Containers beyond libsndfile (m4a, webm, video ...), through the optional torchcodec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coala_latent.errors import AudioDecodeError, AudioFormatError, DependencyError
from coala_latent.types import FloatArray

if TYPE_CHECKING:
    from torchcodec.decoders import AudioDecoder

__all__ = ["CONTAINER_SUFFIXES", "ContainerFile"]

# fmt: off
CONTAINER_SUFFIXES = frozenset({
    ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".webm", ".mka",
    ".mkv", ".mov", ".wma", ".amr", ".3gp", ".avi", ".ts",
})
# fmt: on


def _decoder_class() -> type[AudioDecoder]:
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "this container needs torchcodec and FFmpeg: pip install 'coala-latent[codecs]' and "
            f"install FFmpeg's libraries ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error
    return AudioDecoder


class ContainerFile:
    """A file that torchcodec decodes, with the few calls `AudioReader` needs.

    Raises:
        AudioFormatError: torchcodec is not installed.
        AudioDecodeError: torchcodec cannot open the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            decoder = _decoder_class()
        except DependencyError as error:
            raise AudioFormatError(path, f"libsndfile cannot read it and {error}") from error
        try:
            self._decoder = decoder(str(path))
        except (RuntimeError, ValueError) as error:
            raise AudioDecodeError(
                path, str(error).splitlines()[0], "the file is damaged or holds no sound"
            ) from error
        header = self._decoder.metadata
        if not header.sample_rate or not header.num_channels:
            raise AudioDecodeError(path, "its header names no sample rate", "convert it to wav")
        self.sample_rate = int(header.sample_rate)
        self.channels = int(header.num_channels)
        self.frames = round((header.duration_seconds or 0.0) * self.sample_rate)
        self.format = str(header.codec)
        self._position = 0

    def seek(self, position: int) -> None:
        """Go to a sample."""
        self._position = position

    def read(self, frames: int) -> FloatArray:
        """The next ``(channels, frames)`` float32 samples; fewer, or none, at the end."""
        begin = self._position / self.sample_rate
        end = (self._position + frames) / self.sample_rate
        try:
            samples = self._decoder.get_samples_played_in_range(begin, end)
        except (RuntimeError, IndexError, ValueError) as error:
            if self._position:
                # Also how torchcodec says that the header promised some more. What is missing is
                # counted by the caller, who knows how much may be.
                return np.zeros((self.channels, 0), np.float32)
            raise AudioDecodeError(
                self.path, str(error).splitlines()[0], "the file is damaged; replace it"
            ) from error
        data = samples.data.numpy().astype(np.float32, copy=False)[:, :frames]
        self._position += data.shape[1]
        return np.ascontiguousarray(data)

    def close(self) -> None:
        """Release the decoder."""
        del self._decoder
