"""The built-in sounds as a data set: a list of clips, or a folder of files.

Sounds are synthesised when asked for, so a list of thousands of clips costs nothing. Split them by
`BuiltinClip.group`: clips of one take share the object and the room.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import soundfile

from coala_latent.data.synthesis import (
    ACTIONS,
    DEFAULT_SAMPLE_RATE,
    MATERIALS,
    condition_tags,
    synthesise,
    synthesise_blocks,
)
from coala_latent.errors import ConfigError
from coala_latent.types import Sound

__all__ = ["BuiltinClip", "Layout", "builtin_clips", "write_builtin"]

Layout = Literal["by_condition", "flat"]
_LAYOUTS: tuple[Layout, ...] = ("by_condition", "flat")


@dataclass(frozen=True)
class BuiltinClip:
    """One built-in sound, not yet rendered.

    Attributes:
        material: What is touched.
        action: What is done to it.
        take: Number of the take: object, gesture, room.
        index: Number of the performance within the take.
        duration: Seconds.
        sample_rate: In Hz.
        seed: Seed of all takes.
        tags: Words that describe it, see `coala_latent.data.synthesis.condition_tags`.
    """

    material: str
    action: str
    take: int
    index: int
    duration: float
    sample_rate: int
    seed: int
    tags: tuple[str, ...]

    @property
    def label(self) -> str:
        """The condition, such as ``"wood_tap"``."""
        return f"{self.material}_{self.action}"

    @property
    def group(self) -> int:
        """The take. Clips of one group belong in one split."""
        return self.take

    def render(self) -> Sound:
        """Synthesise the sound, ``(time,)`` float32."""
        return synthesise(
            self.material,
            self.action,
            take=self.take,
            index=self.index,
            duration=self.duration,
            sample_rate=self.sample_rate,
            seed=self.seed,
        )

    def path(self, layout: Layout = "by_condition") -> Path:
        """Name of the file relative to the data set's folder; its first number is the take."""
        name = f"{self.take}-{self.index:03d}"
        if layout == "flat":
            return Path(f"{name}-{self.label}.wav")
        return Path(self.label, f"{name}.wav")


def builtin_clips(
    takes: int = 4,
    clips_per_take: int = 1,
    duration: float = 4.0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    seed: int = 0,
) -> list[BuiltinClip]:
    """All conditions, fully crossed: materials x actions x takes x clips.

    Args:
        takes: Takes of each condition.
        clips_per_take: Performances of each take.
        duration: Of each clip, seconds.
        sample_rate: In Hz, 8000 to 96000.
        seed: Another seed gives other takes.

    Returns:
        Clips in a fixed order; the take varies slowest, so that a slice holds whole takes.

    Raises:
        ConfigError: A number is out of range.
    """
    for name, value in (("takes", takes), ("clips_per_take", clips_per_take)):
        if value < 1:
            raise ConfigError(f"{name} must be 1 or more, got {value}")
    return [
        BuiltinClip(material, action, take, index, duration, sample_rate, seed, tags)
        for take in range(takes)
        for material in MATERIALS
        for action in ACTIONS
        for tags in [condition_tags(material, action, take, seed)]
        for index in range(clips_per_take)
    ]


def write_builtin(
    folder: Path,
    *,
    takes: int = 4,
    clips_per_take: int = 1,
    duration: float = 4.0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    seed: int = 0,
    layout: Layout = "by_condition",
    written: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write the built-in sounds as 16-bit wav files, and ``tags.csv`` beside them.

    Each file appears whole or not at all. Long recordings are written block by block.

    Args:
        folder: Made if missing; files of the same names are replaced.
        takes: See `builtin_clips`, like the next four.
        clips_per_take: Performances of each take.
        duration: Of each file, seconds.
        sample_rate: In Hz.
        seed: Seed of all takes.
        layout: ``"by_condition"``: ``wood_tap/0-000.wav`` (a folder per class, then take and
            index); ``"flat"``: ``0-000-wood_tap.wav``.
        written: Called with each file's path when it is there.

    Returns:
        Paths of the sound files, in the order of `builtin_clips`. ``tags.csv`` lists them with
        the columns path (relative to the folder, with ``/``), material, action, take and tags
        (separated by spaces).

    Raises:
        ConfigError: The layout is unknown or a number is out of range.
    """
    if layout not in _LAYOUTS:
        raise ConfigError(f"layout must be one of {', '.join(_LAYOUTS)}, got {layout!r}")
    folder = Path(folder)
    clips = builtin_clips(takes, clips_per_take, duration, sample_rate, seed)
    paths = [folder / clip.path(layout) for clip in clips]
    for clip, path in zip(clips, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, partial(_write_wav, clip))
        if written is not None:
            written(path)
    _replace(folder / "tags.csv", partial(_write_table, clips, layout))
    return paths


def _write_wav(clip: BuiltinClip, path: Path) -> None:
    blocks = synthesise_blocks(
        clip.material,
        clip.action,
        take=clip.take,
        index=clip.index,
        duration=clip.duration,
        sample_rate=clip.sample_rate,
        seed=clip.seed,
    )
    with soundfile.SoundFile(
        path, "w", samplerate=clip.sample_rate, channels=1, subtype="PCM_16", format="WAV"
    ) as file:
        for block in blocks:
            file.write(block)


def _write_table(clips: list[BuiltinClip], layout: Layout, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "material", "action", "take", "tags"])
        for clip in clips:
            name = clip.path(layout).as_posix()
            writer.writerow([name, clip.material, clip.action, clip.take, " ".join(clip.tags)])


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file in the same folder, then give it its name."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
