"""Where tagged sounds come from: the built-in generator, or a folder per class."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.audio.io import check_finite, find_audio, read_audio
from coala_latent.data.builtin import builtin_clips
from coala_latent.data.spectrograms import TaggedClip, log_mel_frames
from coala_latent.errors import AudioError, DataError
from coala_latent.types import Sound

__all__ = ["BuiltinSounds", "SoundSource", "TaggedFolder", "TaggedSound", "class_tags"]

Item = TypeVar("Item")

# ESC's names: fold, Freesound source, take; then the class in ESC-50.
_ESC_NAME = re.compile(r"(?P<fold>\d+)-(?P<source>\d+)-(?P<take>[A-Za-z]+)(-\d+)?")


@dataclass(frozen=True)
class TaggedSound:
    """One sound with what is known of it; the attributes are those of `TaggedClip`.

    Attributes:
        sound: Mono, ``(time,)`` float32, at a rate of its own.
        tags: Words that describe it, at least one.
        label: Its class.
        group: Clips of one group (a recording, a take) are never split apart.
        source: Where it comes from.
    """

    sound: Sound
    tags: tuple[str, ...]
    label: str
    group: str
    source: str


class SoundSource(ABC):
    """Where tagged sounds come from."""

    @abstractmethod
    def sounds(self, sample_rate: int, quiet: bool = False) -> Iterator[TaggedSound]:
        """Make or read the sounds, one by one; a progress bar unless `quiet`.

        Args:
            sample_rate: That of the sounds, where it can be chosen.
            quiet: No progress bar.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the sounds are, as JSON-able values, for a model's card."""

    def clips(self, front_end: CoalaFrontEnd, quiet: bool = False) -> list[TaggedClip]:
        """All sounds, analysed."""
        return [
            TaggedClip(
                frames=log_mel_frames(entry.sound, front_end),
                tags=entry.tags,
                label=entry.label,
                group=entry.group,
                source=entry.source,
            )
            for entry in self.sounds(front_end.sample_rate, quiet)
        ]


class BuiltinSounds(SoundSource):
    """The built-in synthetic sounds; takes are split, so validation hears other objects and rooms.

    Args:
        takes: Takes of each material and action.
        clips_per_take: Clips of each take.
        duration: Length of a clip, seconds.
        seed: Of the generator.
    """

    def __init__(
        self, takes: int = 8, clips_per_take: int = 2, duration: float = 4.0, seed: int = 0
    ) -> None:
        self.takes = takes
        self.clips_per_take = clips_per_take
        self.duration = duration
        self.seed = seed

    def sounds(self, sample_rate: int, quiet: bool = False) -> Iterator[TaggedSound]:
        """Synthesise every clip."""
        clips = builtin_clips(
            self.takes, self.clips_per_take, self.duration, sample_rate, self.seed
        )
        for clip in _track(clips, "Synthesising", quiet):
            yield TaggedSound(
                sound=clip.render(),
                tags=clip.tags,
                label=clip.label,
                group=str(clip.group),
                source=clip.path().as_posix(),
            )

    def describe(self) -> dict[str, Any]:
        """Arguments of the generator; they determine every sample."""
        values = {
            "name": "built-in sounds",
            "takes": self.takes,
            "clips_per_take": self.clips_per_take,
            "duration": self.duration,
            "seed": self.seed,
        }
        return {**values, "sha256": _digest([json.dumps(values, sort_keys=True)])}


class TaggedFolder(SoundSource):
    """A folder with a sub-folder per class; the words of a class's name are its sounds' tags.

    ``001 - Dog bark`` has the tags ``dog`` and ``bark``. File names ``fold-source-take.ogg``, as in
    ESC-10 and ESC-50, give folds and groups; every other file is a group of its own. Files that
    cannot be read are named in a warning and left out.

    Args:
        root: The folder.
        fold: Fold that is left out of everything here, to be tested on later; its files are not
            even opened, and their sources are not in training.
    """

    def __init__(self, root: str, fold: int | None = None) -> None:
        self.root = Path(root)
        self.fold = fold
        self.skipped: list[AudioError] = []

    def files(self) -> list[Path]:
        """Sound files of all folds but the one left out, sorted.

        Raises:
            DataError: There are none, or no file is of the fold.
        """
        found = [path for path in find_audio(self.root) if path.parent != self.root]
        if not found:
            raise DataError(
                f"{self.root}: no sound files in sub-folders (put each class into its own folder)"
            )
        if self.fold is None:
            return found
        folds = {path: _esc_part(path, "fold") for path in found}
        if str(self.fold) not in folds.values():
            known = ", ".join(sorted({name for name in folds.values() if name})) or "none"
            raise DataError(
                f"{self.root}: no file of fold {self.fold}; the names have folds: {known} "
                "(names must begin with fold-source-take)"
            )
        tested = {_esc_part(path, "source") for path in found if folds[path] == str(self.fold)} - {
            ""
        }
        return [
            path
            for path in found
            if folds[path] != str(self.fold) and _esc_part(path, "source") not in tested
        ]

    def sounds(self, sample_rate: int, quiet: bool = False) -> Iterator[TaggedSound]:
        """Decode every file that can be read; files keep their own rates.

        Raises:
            DataError: There are no files, or none can be read.
        """
        self.skipped = []
        files, readable = self.files(), 0
        for path in _track(files, "Reading sounds", quiet):
            try:
                sound = read_audio(path)
                check_finite(sound.samples, path)
            except AudioError as error:
                self.skipped.append(error)
                continue
            readable += 1
            relative = path.relative_to(self.root)
            yield TaggedSound(
                sound=sound,
                tags=class_tags(relative.parts[0]),
                label=relative.parts[0],
                group=_esc_part(path, "source") or relative.as_posix(),
                source=str(path),
            )
        if self.skipped:
            names = "\n".join(f"  {error}" for error in self.skipped)
            warnings.warn(f"left out, not readable:\n{names}", stacklevel=2)
        if not readable:
            raise DataError(f"{self.root}: none of its sound files can be read")

    def describe(self) -> dict[str, Any]:
        """Folder, fold and a hash of the names and sizes of the files."""
        files = self.files()
        lines = [
            f"{path.relative_to(self.root).as_posix()}\t{path.stat().st_size}" for path in files
        ]
        return {
            "name": self.root.resolve().name,
            "files": len(files),
            "skipped": [Path(error.source).name for error in self.skipped],
            "fold_left_out": self.fold,
            "sha256": _digest(lines),
        }


def class_tags(name: str) -> tuple[str, ...]:
    """Words of a class's name, lower case, each once; the name itself where it has no words."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    return tuple(dict.fromkeys(words)) or (name,)


def _esc_part(path: Path, part: str) -> str:
    match = _ESC_NAME.fullmatch(path.stem)
    return match[part] if match else ""


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _track(items: Sequence[Item], description: str, quiet: bool) -> Iterable[Item]:
    console = Console(file=sys.stderr)
    return track(items, description, console=console, disable=quiet, transient=True)
