"""Sounds for tables of factors: continuous recordings, copies with reverberation, levels."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
import soundfile
from scipy.signal import oaconvolve

from coala_latent.audio.io import AudioReader, Channels, mix_channels
from coala_latent.data.builtin import BuiltinClip
from coala_latent.data.factor_tables import FactorTable, factors_from_builtin
from coala_latent.data.latent_files import replace_file
from coala_latent.data.synthesis import (
    ACTIONS,
    DEFAULT_SAMPLE_RATE,
    MATERIALS,
    condition_tags,
    synthesise_blocks,
)
from coala_latent.errors import ConfigError, DataError
from coala_latent.types import FloatArray

__all__ = ["Level", "level_gain", "write_continuous", "write_reverb_copies"]

Level = Literal["none", "peak", "rms", "maximum"]
_RMS = 0.1

# Reverberation: 60 dB decay in seconds, and the echoes' energy against the direct sound's.
_DECAY_SECONDS = (0.3, 0.8)
_ECHO_ENERGY = (0.3, 0.7)
_BLOCK = 1 << 17


def write_continuous(
    folder: Path,
    materials: Sequence[str] = MATERIALS,
    actions: Sequence[str] = ACTIONS,
    *,
    takes: int = 4,
    seconds: float = 30.0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    seed: int = 0,
) -> FactorTable:
    """Built-in continuous recordings, one a take, with ``tags.csv`` as `write_builtin` writes it.

    Takes differ in object, gesture, room and noise, so holding takes out is a fair test. With one
    take a class is a single recording, as in LatentAudio's data, and no test is fair.

    Args:
        folder: Made if missing; files of the same names are replaced, others stay and are not in
            the table.
        materials: Of the built-in sounds.
        actions: Of the built-in sounds.
        takes: Of every condition.
        seconds: Of each recording.
        sample_rate: In Hz.
        seed: Of all takes.

    Raises:
        ConfigError: No such material or action, or a number is out of range.
    """
    if takes < 1 or not materials or not actions:
        raise ConfigError(f"takes={takes}: at least one take, material and action is needed")
    clips = [
        BuiltinClip(material, action, take, 0, seconds, sample_rate, seed, tags)
        for take in range(takes)
        for material in materials
        for action in actions
        for tags in [condition_tags(material, action, take, seed)]
    ]
    for clip in clips:
        blocks = synthesise_blocks(
            clip.material,
            clip.action,
            take=clip.take,
            duration=seconds,
            sample_rate=sample_rate,
            seed=seed,
        )
        _write_sound(folder / clip.path(), blocks, sample_rate)

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "material", "action", "take", "tags"])
    for clip in clips:
        row = [clip.path().as_posix(), clip.material, clip.action, clip.take]
        writer.writerow([*row, " ".join(clip.tags)])
    replace_file(folder / "tags.csv", lambda file: file.write(text.getvalue().encode()))
    return factors_from_builtin(folder)


def write_reverb_copies(table: FactorTable, folder: Path, *, seed: int = 0) -> FactorTable:
    """A copy of every recording in another room, and the table of both.

    LatentAudio puts its recordings through SoX's reverb and shelving filters. Here a copy is the
    convolution with exponentially decaying noise behind the direct sound, drawn for each recording.
    A copy has the label and the take of its source, so no split can part them; its name begins with
    ``reverb/``. Copies are mono and as long as their source, the echo of the end is cut off.

    Args:
        table: The recordings.
        folder: Where copies are written, as 32-bit wav files.
        seed: Of the rooms.

    Raises:
        AudioError: A recording cannot be read.
        DataError: The table holds copies already.
    """
    names = [f"reverb/{name}.wav" for name in table.names]
    if copies := set(names) & set(table.names):
        raise DataError(f"{min(copies)} is in the table already (give the originals alone)")
    paths = [folder / f"{name}.wav" for name in table.names]
    for number, (source, path) in enumerate(zip(table.paths, paths, strict=True)):
        with AudioReader(source) as reader:
            rate = reader.info.sample_rate
            room = _room(rate, np.random.default_rng([seed, number]))
            blocks = (mix_channels(block, "mean") for block in reader.blocks(block=_BLOCK))
            _write_sound(path, _convolved(blocks, room), rate, subtype="FLOAT")
    return replace(
        table,
        names=(*table.names, *names),
        paths=(*table.paths, *paths),
        labels=np.concatenate([table.labels, table.labels]),
        takes=np.concatenate([table.takes, table.takes]),
    )


def level_gain(path: Path, level: Level, channels: Channels = "mean") -> float:
    """What to multiply a recording with; reads it once, in blocks.

    Args:
        path: The recording.
        level: ``"peak"``: the largest sample by size becomes 1; ``"rms"``: the root mean square
            becomes 0.1; ``"none"``: 1. ``"maximum"`` is LatentAudio's: the largest *positive*
            sample becomes 1, which depends on a recording's polarity and so marks recordings.
        channels: How they are mixed before.

    Returns:
        The gain; 1 for a recording that is silent (or never positive, with ``"maximum"``).

    Raises:
        ConfigError: No such level.
        AudioError: The recording cannot be read.
    """
    if level not in get_args(Level):
        raise ConfigError(f"level must be one of {', '.join(get_args(Level))}, not {level!r}")
    if level == "none":
        return 1.0
    highest, squares, count = 0.0, 0.0, 0
    with AudioReader(path) as reader:
        for block in reader.blocks():
            mono = mix_channels(block, channels).astype(np.float64)
            size = mono if level == "maximum" else np.abs(mono)
            highest = max(highest, float(size.max()))
            squares, count = squares + float(mono @ mono), count + len(mono)
    if level == "rms":
        return _RMS / math.sqrt(squares / count) if squares > 0 else 1.0
    return 1.0 / highest if highest > 0 else 1.0


def _room(sample_rate: int, rng: np.random.Generator) -> FloatArray:
    decay = rng.uniform(*_DECAY_SECONDS)
    time = np.arange(1, int(decay * sample_rate)) / sample_rate
    echoes = rng.standard_normal(len(time)) * 1000.0 ** (-time / decay)
    echoes *= math.sqrt(rng.uniform(*_ECHO_ENERGY) / float(echoes @ echoes))
    return np.concatenate([[1.0], echoes]).astype(np.float32)


def _convolved(blocks: Iterator[FloatArray], response: FloatArray) -> Iterator[FloatArray]:
    """Blocks of the convolution, as long as the blocks; the end that outlasts them is left out."""
    tail = np.zeros(len(response) - 1, np.float32)
    for block in blocks:
        sound = oaconvolve(block, response).astype(np.float32)
        sound[: len(tail)] += tail
        yield sound[: len(block)]
        tail = sound[len(block) :]


def _write_sound(
    path: Path, blocks: Iterator[FloatArray], rate: int, subtype: str = "PCM_16"
) -> None:
    def write(file: IO[bytes]) -> None:
        with soundfile.SoundFile(
            file, "w", samplerate=rate, channels=1, subtype=subtype, format="WAV"
        ) as sound:
            for block in blocks:
                sound.write(block)

    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)
