"""Opening and decoding sound files in blocks.

libsndfile (through soundfile) reads wav, flac, ogg, mp3, aiff and more. What it cannot read goes to
torchcodec where that optional package is installed. A file is never read whole where blocks will
do, and every failure is an `AudioError` that names the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import soundfile

from coala_latent.audio.containers import ContainerFile
from coala_latent.audio.opening import AUDIO_SUFFIXES, check_path, open_file
from coala_latent.audio.riff import declared_data_shortfall
from coala_latent.errors import (
    AudioDecodeError,
    AudioEmptyError,
    AudioNotFoundError,
    AudioTruncatedError,
    AudioValueError,
    ConfigError,
)
from coala_latent.types import FloatArray, Sound

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "Channels",
    "check_finite",
    "find_audio",
    "mix_channels",
    "read_audio",
]

Channels = Literal["mean", "first", "keep"]

# Values in one decoded block, all channels together (1 MiB of float32).
_BLOCK_VALUES = 1 << 18
# How much may be missing before a file counts as truncated: two mp3 frames, since encoders round
# the length they declare, or 2 % up to half a second, since many mp3 in use lost a last frame.
_TOLERANCE_FRAMES = 2304
_TOLERANCE_SHARE = 0.02
_TOLERANCE_SECONDS = 0.5
# No recorder writes rates beyond these; a damaged header of 1 Hz would become years of sound.
_LOWEST_RATE, _HIGHEST_RATE = 100, 10_000_000
# More than a page of an ogg holds: 255 packets of 1024 samples.
_OGG_PAGE_FRAMES = 1 << 18
# What is decoded at once of a flac that may break off: an error loses all of that.
_CAREFUL_FRAMES = 4096


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        path: The file.
        sample_rate: In Hz.
        channels: Number of channels.
        frames: Samples per channel, as declared by the header.
        format: Container and sample format, for messages and metadata.
        decoder: Library that decodes it.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    decoder: str

    @property
    def duration(self) -> float:
        """Declared length in seconds."""
        return self.frames / self.sample_rate


class AudioReader:
    """One open sound file.

    Args:
        path: The file.
        allow_truncated: Accept a file that ends before its header says, or whose samples stop
            decoding on the way; otherwise that is an `AudioTruncatedError` or
            `AudioDecodeError`. An ogg declares no length, so one that was cut is a shorter one.

    Attributes:
        info: The header.
        missing: After `blocks`, samples that the header declares but the file does not hold.
        truncated: After `blocks`, whether more is missing than encoders round away.

    Raises:
        AudioNotFoundError: The path is missing, a folder, or unreadable.
        AudioEmptyError: The file has no bytes or no samples.
        AudioFormatError: No decoder knows the format.
        AudioDecodeError: The header is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_truncated: bool = False) -> None:
        self.path = Path(path)
        self.allow_truncated = allow_truncated
        self.missing = 0
        self.truncated = False
        check_path(self.path)
        self._file = open_file(self.path)
        try:
            self.info = self._describe()
        except BaseException:
            self._file.close()
            raise

    def _describe(self) -> AudioInfo:
        file = self._file
        if isinstance(file, ContainerFile):
            info = AudioInfo(
                self.path, file.sample_rate, file.channels, file.frames, file.format, "torchcodec"
            )
        else:
            kind = f"{file.format} {file.subtype}"
            info = AudioInfo(
                self.path, file.samplerate, file.channels, file.frames, kind, "soundfile"
            )
        if not _LOWEST_RATE <= info.sample_rate <= _HIGHEST_RATE:
            raise AudioDecodeError(
                self.path, f"its header says {info.sample_rate} Hz", "correct its sample rate"
            )
        if info.frames <= 0:
            raise AudioEmptyError(self.path, "no samples", "remove the file or record it again")
        return info

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(
        self, *, start: int = 0, frames: int | None = None, block: int | None = None
    ) -> Iterator[FloatArray]:
        """Decode from sample `start` on.

        Args:
            start: First sample.
            frames: Number of samples; to the end by default.
            block: Samples per block; about 1 MiB of values by default.

        Yields:
            ``(channels, time)`` float32 blocks.

        Raises:
            AudioDecodeError: The bytes do not decode.
            AudioTruncatedError: The file ends too early.
            AudioValueError: `start` is outside the file, or `frames` negative.
            ConfigError: `block` is less than 1.
        """
        if block is not None and block < 1:
            raise ConfigError(f"a block must have at least 1 sample, not {block}")
        declared = self.info.frames - start
        wanted = declared if frames is None else min(frames, declared)
        if start < 0 or declared < 0:
            raise AudioValueError(
                self.path,
                f"sample {start} is outside its {self.info.frames} samples",
                "ask for a start inside the file",
            )
        if wanted < 0:
            raise AudioValueError(self.path, f"{frames} samples were asked for", "ask for some")
        size = block or max(1024, _BLOCK_VALUES // self.info.channels)
        if self.allow_truncated and self.info.format.startswith("FLAC"):
            size = min(size, _CAREFUL_FRAMES)
        delivered, broken = 0, False
        self._seek(start)
        while delivered < wanted and not broken:
            try:
                values = self._read(min(size, wanted - delivered))
            except AudioDecodeError:
                if delivered == 0 or not self.allow_truncated:
                    raise
                broken = True
                continue
            if values.shape[1] == 0:
                break
            delivered += values.shape[1]
            yield values
        if delivered == 0 and wanted > 0:
            raise AudioDecodeError(
                self.path, "not one sample could be decoded", "the file is damaged; replace it"
            )
        self._check_length(delivered, wanted)
        self.truncated |= broken

    def _seek(self, position: int) -> None:
        if isinstance(self._file, ContainerFile):
            self._file.seek(position)
            return
        if self._file.tell() != 0:
            # libsndfile's seek in ogg is off by some samples once something was read.
            self._file.close()
            self._file = open_file(self.path)
        if position == 0:
            return
        if self._file.format == "MP3":
            self._skip(position)
            return
        # Within the last page of an ogg libsndfile's seek lands beside the sample.
        before = min(position, _OGG_PAGE_FRAMES) if self._file.format == "OGG" else 0
        try:
            self._file.seek(position - before)
        except soundfile.LibsndfileError as error:
            raise AudioDecodeError(
                self.path, f"cannot seek: {error.error_string}", "the file is damaged; replace it"
            ) from error
        self._skip(before)

    def _skip(self, frames: int) -> None:
        """Decode and forget: after that the next sample is exactly the next."""
        while frames > 0:
            skipped = self._read(min(frames, _BLOCK_VALUES // self.info.channels)).shape[1]
            if skipped == 0:
                return
            frames -= skipped

    def _read(self, frames: int) -> FloatArray:
        if isinstance(self._file, ContainerFile):
            return self._file.read(frames)
        try:
            values = self._file.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioDecodeError(
                self.path, str(error.error_string), "the file is damaged; replace it"
            ) from error
        return np.ascontiguousarray(values.T)

    def _check_length(self, delivered: int, wanted: int) -> None:
        self.missing = wanted - delivered
        share = min(_TOLERANCE_SHARE * self.info.frames, _TOLERANCE_SECONDS * self.info.sample_rate)
        ends_early = self.missing > max(_TOLERANCE_FRAMES, share)
        try:
            lost = declared_data_shortfall(self.path)
        except OSError as error:
            raise AudioNotFoundError(
                self.path, f"gone while it was read: {error.strerror}", "check the path"
            ) from error
        self.truncated = ends_early or lost > 0
        if self.allow_truncated:
            return
        if ends_early:
            seconds = delivered / self.info.sample_rate
            raise AudioTruncatedError(
                self.path,
                f"ends after {seconds:.2f} s of the {self.info.duration:.2f} s it declares",
                "replace it, or allow truncated files to use what is there",
            )
        if lost:
            raise AudioTruncatedError(
                self.path,
                f"{lost} bytes of the samples its header declares are missing",
                "replace it, or allow truncated files to use what is there",
            )


def read_audio(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    duration: float | None = None,
    channels: Channels = "mean",
    allow_truncated: bool = False,
) -> Sound:
    """Read a sound, or `duration` seconds of it from `start` on.

    Args:
        path: The file.
        start: In seconds.
        duration: In seconds; to the end by default.
        channels: ``"mean"`` averages them, ``"first"`` takes the first, ``"keep"`` keeps all.
        allow_truncated: See `AudioReader`.

    Returns:
        A `Sound` of shape ``(time,)``, or ``(channels, time)`` with ``"keep"``.

    Raises:
        AudioError: Of the kind that fits; see `AudioReader`. A span that is not in the file is an
            `AudioValueError`, one without samples an `AudioEmptyError`.
    """
    if not math.isfinite(start) or not (duration is None or math.isfinite(duration)):
        raise AudioValueError(
            str(path),
            f"start {start} s, duration {duration} s",
            "give finite times, or no duration",
        )
    with AudioReader(path, allow_truncated=allow_truncated) as reader:
        rate = reader.info.sample_rate
        frames = None if duration is None else round(duration * rate)
        parts = [
            mix_channels(block, channels)
            for block in reader.blocks(start=round(start * rate), frames=frames)
        ]
        if not parts:
            raise AudioEmptyError(
                str(path), "no samples in the asked span", "ask for a longer span"
            )
        return Sound(np.concatenate(parts, axis=-1), rate, str(path))


def mix_channels(samples: FloatArray, channels: Channels) -> FloatArray:
    """``(channels, time)`` to ``(time,)`` by mean or first channel; unchanged with ``"keep"``.

    Raises:
        ConfigError: `channels` is none of these.
    """
    if channels not in ("mean", "first", "keep"):
        raise ConfigError(f"channels must be mean, first or keep, not {channels!r}")
    if channels == "keep":
        return samples
    if channels == "first" or samples.shape[0] == 1:
        return samples[0]
    return samples.mean(axis=0)


def check_finite(samples: FloatArray, source: str | Path) -> None:
    """Raise `AudioValueError` where a sample is NaN or infinite."""
    if not np.isfinite(samples).all():
        where = int(np.flatnonzero(~np.isfinite(samples.reshape(-1)))[0])
        raise AudioValueError(
            source, f"sample {where} is not a finite number", "repair or remove the sound"
        )


def find_audio(folder: str | os.PathLike[str]) -> list[Path]:
    """Sound files below a folder, by suffix, sorted; hidden files and folders are left out.

    Raises:
        AudioNotFoundError: The folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise AudioNotFoundError(root, "no such folder", "check the path")
    found: list[Path] = []
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(
            Path(parent, name)
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        )
    return sorted(found)
