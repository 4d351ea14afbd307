"""Containers beyond libsndfile (m4a, webm, video ...), through the optional torchcodec."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coala_latent.errors import AudioDecodeError, AudioFormatError, DependencyError
from coala_latent.types import FloatArray

if TYPE_CHECKING:
    from torchcodec import AudioSamples
    from torchcodec.decoders import AudioDecoder

__all__ = ["CONTAINER_SUFFIXES", "ContainerFile"]

# fmt: off
CONTAINER_SUFFIXES = frozenset({
    ".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".webm", ".mka",
    ".mkv", ".mov", ".wma", ".amr", ".3gp", ".avi", ".ts",
})
# fmt: on

# Sound decoded at once: 6 MiB of two channels at 48 kHz. A whole number, so that spans begin on
# samples.
_SPAN_SECONDS = 16
# Decoded beyond both ends of a span, and more than timestamps are rounded by.
_MARGIN_SECONDS = 0.1


def _decoder_class() -> type[AudioDecoder]:
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise DependencyError(
            "this container needs torchcodec and FFmpeg: pip install 'coala-latent[codecs]' and "
            f"install FFmpeg's libraries ({type(error).__name__}: {_first_line(error)})"
        ) from error
    return AudioDecoder


class ContainerFile:
    """A file that torchcodec decodes, with the few calls `AudioReader` needs.

    torchcodec addresses sound in seconds and goes back some frames for every range, so ranges
    asked for one by one neither join to the sample (timestamps in webm and mkv are rounded to a
    millisecond) nor give the same bits twice. So the sound is decoded in spans that begin at fixed
    places, each with a fresh decoder, and all reads are cut from these: every sample has one
    value, whatever the blocks are. Spans join as exactly as the timestamps are: to the sample in
    m4a, mp4, mov and aac, to about a millisecond in webm and mkv.

    Raises:
        AudioFormatError: torchcodec is not installed.
        AudioDecodeError: torchcodec cannot open the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._decoder_class = _decoder_class()
        except DependencyError as error:
            raise AudioFormatError(path, f"libsndfile cannot read it and {error}") from error
        header = self._decoder().metadata
        if not header.sample_rate or not header.num_channels:
            raise AudioDecodeError(path, "its header names no sample rate", "convert it to wav")
        if not header.duration_seconds:
            raise AudioDecodeError(path, "its header names no duration", "convert it to wav")
        self.sample_rate = int(header.sample_rate)
        self.channels = int(header.num_channels)
        self.frames = round(header.duration_seconds * self.sample_rate)
        self.format = str(header.codec)
        self._position = 0
        self._span_frames = round(_SPAN_SECONDS * self.sample_rate)
        self._span_number = -1
        self._span: FloatArray = np.zeros((self.channels, 0), np.float32)
        self._begin_seconds = self._first_timestamp(float(header.begin_stream_seconds or 0.0))

    def seek(self, position: int) -> None:
        """Go to a sample."""
        self._position = position

    def read(self, frames: int) -> FloatArray:
        """At most the next ``(channels, frames)`` float32 samples; none at the end."""
        number, offset = divmod(self._position, self._span_frames)
        if number != self._span_number:
            self._span = self._decode_span(number)
            self._span_number = number
        data = self._span[:, offset : offset + frames]
        self._position += data.shape[1]
        return np.ascontiguousarray(data)

    def close(self) -> None:
        """Release the decoded samples."""
        self._span = np.zeros((self.channels, 0), np.float32)
        self._span_number = -1

    def _decoder(self) -> AudioDecoder:
        try:
            return self._decoder_class(str(self.path))
        except (RuntimeError, ValueError) as error:
            raise AudioDecodeError(
                self.path, _first_line(error), "the file is damaged or holds no sound"
            ) from error

    def _decode(self, begin: float, end: float) -> AudioSamples:
        try:
            return self._decoder().get_samples_played_in_range(begin, end)
        except (RuntimeError, IndexError, ValueError) as error:
            raise AudioDecodeError(
                self.path, _first_line(error), "the file is damaged; replace it"
            ) from error

    def _first_timestamp(self, declared: float) -> float:
        """Seconds at which the sound begins: in a film or a wma not where the header says."""
        return float(self._decode(declared, declared + 1.0).pts_seconds)

    def _decode_span(self, number: int) -> FloatArray:
        begin = self._begin_seconds + number * _SPAN_SECONDS
        asked = begin - _MARGIN_SECONDS if number else begin
        try:
            samples = self._decode(asked, begin + _SPAN_SECONDS + _MARGIN_SECONDS)
        except AudioDecodeError:
            if number:
                # Also how torchcodec says that the header promised some more. What is missing is
                # counted by the caller, who knows how much may be.
                return np.zeros((self.channels, 0), np.float32)
            raise
        skip = max(0, round((begin - samples.pts_seconds) * self.sample_rate))
        data: FloatArray = samples.data.numpy().astype(np.float32, copy=False)
        return data[:, skip : skip + self._span_frames]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
