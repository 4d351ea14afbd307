"""From a path to an open decoder: which formats there are, and what can be wrong with a file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import soundfile

from coala_latent.audio.containers import CONTAINER_SUFFIXES, ContainerFile
from coala_latent.errors import (
    AudioDecodeError,
    AudioEmptyError,
    AudioFormatError,
    AudioNotFoundError,
)

__all__ = ["AUDIO_SUFFIXES", "SequentialFile", "check_path", "open_file"]

# fmt: off
SNDFILE_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2",
    ".aif", ".aiff", ".aifc", ".au", ".snd", ".w64", ".rf64", ".caf",
})
# fmt: on
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | CONTAINER_SUFFIXES


class SequentialFile(soundfile.SoundFile):
    """A sound file whose reads continue where the last one stopped.

    soundfile seeks after every read of a seekable file. In an mp3 of low bit rate that loses the
    bits a frame borrows from those before it, and what follows is noise or shifted.
    """

    def seekable(self) -> bool:
        """Whether soundfile may seek on its own account."""
        return False


def check_path(path: Path) -> None:
    """Raise what is wrong with a path before any decoder sees it.

    Raises:
        AudioNotFoundError: Nothing there, not a regular file, or not readable.
        AudioEmptyError: No bytes.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise AudioNotFoundError(path, "no such file", "check the path") from error
    if stat.S_ISDIR(found.st_mode):
        raise AudioNotFoundError(path, "is a folder", "give a sound file")
    if not stat.S_ISREG(found.st_mode):
        # A pipe would wait for ever, and cannot be read twice.
        raise AudioNotFoundError(path, "is a pipe or device", "give a sound file")
    if not os.access(path, os.R_OK):
        raise AudioNotFoundError(path, "cannot be read", "check its permissions")
    if found.st_size == 0:
        raise AudioEmptyError(path, "no bytes", "remove the file or copy it again")


def open_file(path: Path) -> SequentialFile | ContainerFile:
    """Open a checked path with the decoder that knows its bytes.

    Raises:
        AudioFormatError: None does.
        AudioDecodeError: The header is damaged.
    """
    if path.suffix.lower() == ".raw":
        raise AudioFormatError(
            path, "headerless samples", "convert it to wav, which states rate and channels"
        )
    try:
        # As bytes, so that names that are not valid UTF-8 open too.
        name = os.fsencode(path) if os.name == "posix" else str(path)
        return SequentialFile(name)
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
