"""From a folder of sounds and folders of what teachers said about them to a teacher file."""

from __future__ import annotations

import re
import sys
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile
from rich.console import Console
from rich.progress import track

from coala_latent.audio.io import find_audio, read_audio
from coala_latent.audio.resample import resample
from coala_latent.data.teacher_files import (
    AudioType,
    DistillationWriter,
    ProbabilityType,
    Teaching,
)
from coala_latent.errors import AudioError, ConfigError, DataError

# What a damaged archive raises.
_DAMAGES = (zipfile.BadZipFile, zlib.error, NotImplementedError)

__all__ = ["Conversion", "from_folders", "read_teaching"]


@dataclass(frozen=True)
class Conversion:
    """What `from_folders` did.

    Attributes:
        path: The teacher file.
        clips: Clips in it.
        skipped: Why a sound was left out, one line each.
    """

    path: Path
    clips: int
    skipped: tuple[str, ...]


def from_folders(
    sounds: str | Path,
    teachers: Mapping[str, str | Path],
    output: str | Path,
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    group: str | None = None,
    sample_rate: int = 22050,
    audio: AudioType = "int16",
    probabilities: ProbabilityType = "float16",
    quiet: bool = False,
) -> Conversion:
    """Put sounds and teachers' distributions of the same names into one file.

    ``sounds/a/b.mp4`` belongs with ``teacher/a/b.npz``, which holds ``probs`` ``(frames,
    classes)`` and ``times`` ``(frames,)``. Frames after the sound's end are left out. A sound
    that cannot be read, has no sound in it, or has no usable ``.npz`` is left out and listed.

    Args:
        sounds: Folder of sounds, or of videos where their containers can be read.
        teachers: Folder of ``.npz`` files, by the head that learns from it.
        output: The teacher file.
        classes: Names of each teacher's classes; their numbers unless given.
        group: Regular expression found in a sound's relative path; what its first parentheses
            hold is the sound's group. The path itself unless given.
        sample_rate: To which sounds are resampled, Hz.
        audio: See `DistillationWriter`, like the next.
        probabilities: How distributions are stored.
        quiet: No progress bar.

    Raises:
        DataError: Not one sound is left.
        ConfigError: A setting does not make sense, or a path does not match `group`.
    """
    root = Path(sounds)
    folders = {head: Path(folder) for head, folder in teachers.items()}
    found = find_audio(root)
    groups = {path: _group(path.relative_to(root).as_posix(), group) for path in found}
    names = dict(classes) if classes is not None else _numbered(folders)
    skipped: list[str] = []
    console = Console(file=sys.stderr)
    listed = track(found, "Converting", console=console, disable=quiet, transient=True)
    with DistillationWriter(
        output, names, sample_rate=sample_rate, audio=audio, probabilities=probabilities
    ) as writer:
        for path in listed:
            relative = path.relative_to(root)
            try:
                sound = read_audio(path)
                samples = resample(sound.samples, sound.sample_rate, sample_rate)
                said = {
                    head: _within(
                        read_teaching((folder / relative).with_suffix(".npz")),
                        len(samples) / sample_rate,
                    )
                    for head, folder in folders.items()
                }
                writer.add(relative.as_posix(), samples, said, groups[path])
            except (AudioError, DataError) as error:
                skipped.append(str(error))
        if not len(writer):
            reasons = "\n".join(f"  {reason}" for reason in skipped[:4]) or "  no sound files"
            raise DataError(f"{root}: not one sound can be used:\n{reasons}")
    return Conversion(Path(output), len(writer), tuple(skipped))


def read_teaching(path: Path) -> Teaching:
    """``probs`` and ``times`` of an ``.npz`` file.

    Raises:
        DataError: It is missing, damaged, or holds something else.
    """
    try:
        # Opened as the archive it must be: np.load takes other files too.
        with path.open("rb") as opened, NpzFile(opened, allow_pickle=False) as file:
            said = Teaching(np.asarray(file["probs"]), np.asarray(file["times"]))
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing (every sound needs one for each teacher)") from error
    except (*_DAMAGES, OSError, ValueError, KeyError, EOFError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{path}: not readable as an .npz of probs and times: {reason.splitlines()[0]}"
        ) from error
    kinds = np.dtype(said.probabilities.dtype).kind + np.dtype(said.times.dtype).kind
    if not set(kinds) <= set("fiub") or said.probabilities.ndim != 2 or said.times.ndim != 1:
        raise DataError(
            f"{path}: probs {said.probabilities.shape} {said.probabilities.dtype}, times "
            f"{said.times.shape} {said.times.dtype}; give numbers (frames, classes) and (frames)"
        )
    return said


def _within(teaching: Teaching, duration: float) -> Teaching:
    """Without the frames after the sound's end: pictures often outlast the sound a little."""
    if len(teaching.times) != len(teaching.probabilities):
        return teaching
    inside = teaching.times <= duration
    return Teaching(teaching.probabilities[inside], teaching.times[inside])


def _numbered(folders: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """Numbers in the place of names, as many as the first usable file has classes."""
    names = {}
    for head, folder in folders.items():
        reasons = []
        for path in sorted(folder.rglob("*.npz")):
            try:
                names[head] = tuple(map(str, range(read_teaching(path).probabilities.shape[1])))
                break
            except DataError as error:
                reasons.append(str(error))
        else:
            reason = reasons[0] if reasons else "there is none"
            raise DataError(f"{folder}: no usable .npz file of the teacher {head}: {reason}")
    return names


def _group(relative: str, pattern: str | None) -> str | None:
    if pattern is None:
        return None
    try:
        match = re.search(pattern, relative)
        if match is None:
            raise ConfigError(f"group={pattern!r} does not match {relative!r}")
        return match[1]
    except (re.error, IndexError) as error:
        raise ConfigError(
            f"group={pattern!r}: {error} (one pair of parentheses, as in ^([^_]+)_)"
        ) from error
