"""Opening and decoding sound files in blocks.

libsndfile (through soundfile) reads wav, flac, ogg, mp3, aiff and more. What it cannot read goes to
torchcodec where that optional package is installed. A file is never read whole where blocks will
do, and every failure is an `AudioError` that names the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import soundfile

from coala_latent.audio.containers import CONTAINER_SUFFIXES, ContainerFile
from coala_latent.audio.riff import declared_data_shortfall
from coala_latent.errors import (
    AudioDecodeError,
    AudioEmptyError,
    AudioFormatError,
    AudioNotFoundError,
    AudioTruncatedError,
    AudioValueError,
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

# fmt: off
SNDFILE_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".w64", ".rf64", ".caf",
})
# fmt: on
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | CONTAINER_SUFFIXES

# Values in one decoded block, all channels together (1 MiB of float32).
_BLOCK_VALUES = 1 << 18
# How much may be missing before a file counts as truncated: two mp3 frames, since encoders round
# the length they declare, or 2 % up to half a second, since many mp3 in use lost a last frame.
_TOLERANCE_FRAMES = 2304
_TOLERANCE_SHARE = 0.02
_TOLERANCE_SECONDS = 0.5


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
        allow_truncated: Accept a file that ends before its header says; otherwise that is an
            `AudioTruncatedError`.

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
        _check_path(self.path)
        self._file = _open(self.path)
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
        """
        declared = self.info.frames - start
        wanted = declared if frames is None else min(frames, declared)
        if start < 0 or wanted < 0:
            raise AudioValueError(
                self.path,
                f"sample {start} is outside its {self.info.frames} samples",
                "ask for a start inside the file",
            )
        size = block or max(1024, _BLOCK_VALUES // self.info.channels)
        delivered = 0
        self._seek(start)
        while delivered < wanted:
            values = self._read(min(size, wanted - delivered))
            if values.shape[1] == 0:
                break
            delivered += values.shape[1]
            yield values
        if delivered == 0 and wanted > 0:
            raise AudioDecodeError(
                self.path, "not one sample could be decoded", "the file is damaged; replace it"
            )
        self._check_length(delivered, wanted)

    def _seek(self, position: int) -> None:
        if isinstance(self._file, ContainerFile):
            self._file.seek(position)
            return
        if self._file.tell() != 0:
            # libsndfile's seek in ogg is off by some samples once something was read.
            self._file.close()
            self._file = _open(self.path)
        if position == 0:
            return
        try:
            self._file.seek(position)
        except soundfile.LibsndfileError as error:
            raise AudioDecodeError(
                self.path, f"cannot seek: {error.error_string}", "the file is damaged; replace it"
            ) from error

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


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise AudioNotFoundError(path, "is a folder", "give a sound file")
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise AudioNotFoundError(path, "no such file", "check the path") from error
    if not os.access(path, os.R_OK):
        raise AudioNotFoundError(path, "cannot be read", "check its permissions")
    if size == 0:
        raise AudioEmptyError(path, "no bytes", "remove the file or copy it again")


def _open(path: Path) -> soundfile.SoundFile | ContainerFile:
    if path.suffix.lower() == ".raw":
        raise AudioFormatError(
            path, "headerless samples", "convert it to wav, which states rate and channels"
        )
    try:
        # As bytes, so that names that are not valid UTF-8 open too.
        name = os.fsencode(path) if os.name == "posix" else str(path)
        return soundfile.SoundFile(name)
    except soundfile.LibsndfileError as error:
        if path.suffix.lower() in CONTAINER_SUFFIXES:
            return ContainerFile(path)
        if path.suffix.lower() in SNDFILE_SUFFIXES:
            raise AudioDecodeError(
                path, str(error.error_string), "the file is damaged or is not what its name says"
            ) from error
        raise AudioFormatError(
            path, str(error.error_string), "convert it to wav, flac, ogg or mp3"
        ) from error


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
    """
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
    """``(channels, time)`` to ``(time,)`` by mean or first channel; unchanged with ``"keep"``."""
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
