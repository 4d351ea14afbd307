"""A teacher that needs no pictures: it knows how the built-in sounds were made.

For tests and demonstrations. A clip is a row of built-in sounds; once a second the teacher says
what is touched (head ``objects``) and what is done to it (head ``scenes``), as uncertainly and as
unsteadily as a network that looks at pictures would.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from coala_latent.data.synthesis import ACTIONS, MATERIALS, synthesise
from coala_latent.data.teacher_files import DistillationWriter, TeacherSource, Teaching
from coala_latent.errors import ConfigError

__all__ = ["SyntheticTeacher"]

SAMPLE_RATE = 22050
_CLASSES = {"objects": MATERIALS, "scenes": ACTIONS}
# Kept in the file, so that a file of other settings is not taken for this one's.
_ATTRIBUTE = "synthetic_teacher"


class SyntheticTeacher(TeacherSource):
    """Writes a teacher file of built-in sounds, or finds the one it wrote before.

    Everything follows from the arguments. A clip's take is its number, so that no two clips share
    an object or a room.

    Args:
        root: The file.
        clips: Number of clips.
        segments: Built-in sounds in a clip, one after the other.
        segment_seconds: Length of each.
        certainty: Probability of the true class in a frame without noise.
        noise: Standard deviation of the noise on the logarithms of the probabilities.
        seed: Of sounds and noise.
    """

    def __init__(
        self,
        root: str,
        clips: int = 240,
        segments: int = 2,
        segment_seconds: float = 5.0,
        certainty: float = 0.8,
        noise: float = 0.5,
        seed: int = 0,
    ) -> None:
        if clips < 2 or segments < 1 or not segment_seconds >= 1:
            raise ConfigError(
                f"clips={clips}, segments={segments}, segment_seconds={segment_seconds}: use at "
                "least 2, 1 and 1"
            )
        if not 0 < certainty < 1 or not noise >= 0:
            raise ConfigError(
                f"certainty={certainty}, noise={noise}: use a number between 0 and 1, and one "
                "from 0 on"
            )
        self.root = Path(root)
        self.clips = clips
        self.segments = segments
        self.segment_seconds = segment_seconds
        self.certainty = certainty
        self.noise = noise
        self.seed = seed

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "root"}

    def files(self, quiet: bool = False) -> list[Path]:
        """The file, written unless it is there.

        Raises:
            ConfigError: Another file has its name.
        """
        settings = json.dumps(self._settings(), sort_keys=True)
        if self._written() != settings:
            console = Console(file=sys.stderr)
            numbers = range(self.clips)
            with DistillationWriter(self.root, _CLASSES, sample_rate=SAMPLE_RATE) as writer:
                writer.describe(_ATTRIBUTE, settings)
                for number in track(
                    numbers, "Synthesising", console=console, disable=quiet, transient=True
                ):
                    samples, teachers = self.clip(number)
                    writer.add(f"{number:05d}", samples, teachers)
        return [self.root]

    def _written(self) -> str | None:
        if not self.root.is_file():
            return None
        try:
            with h5py.File(self.root, "r") as file:
                written = file.attrs.get(_ATTRIBUTE)
        except OSError:
            written = None
        if written is None:
            raise ConfigError(
                f"{self.root} is there and was not written by the synthetic teacher (use another "
                "root)"
            )
        return str(written)

    def clip(self, number: int) -> tuple[npt.NDArray[np.float32], dict[str, Teaching]]:
        """One clip.

        Returns:
            ``(time,)`` samples, and what the teacher says in the middle of every second.
        """
        rng = np.random.default_rng([self.seed, number])
        chosen = {
            head: rng.integers(0, len(names), self.segments) for head, names in _CLASSES.items()
        }
        parts = [
            synthesise(
                MATERIALS[material],
                ACTIONS[action],
                take=number,
                index=index,
                duration=self.segment_seconds,
                sample_rate=SAMPLE_RATE,
                seed=self.seed,
            ).samples
            for index, (material, action) in enumerate(zip(*chosen.values(), strict=True))
        ]
        samples = np.concatenate(parts).astype(np.float32)
        times = np.arange(0.5, len(samples) / SAMPLE_RATE, 1.0)
        which = np.minimum((times / self.segment_seconds).astype(int), self.segments - 1)
        return samples, {
            head: Teaching(self._seen(chosen[head][which], len(names), rng), times)
            for head, names in _CLASSES.items()
        }

    def _seen(
        self, true: npt.NDArray[np.int64], classes: int, rng: np.random.Generator
    ) -> npt.NDArray[np.float32]:
        """Distributions ``(frames, classes)`` around the true classes ``(frames,)``."""
        usual = np.full((len(true), classes), (1 - self.certainty) / (classes - 1))
        usual[np.arange(len(true)), true] = self.certainty
        weight = usual * np.exp(self.noise * rng.standard_normal(usual.shape))
        return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """The arguments; they determine everything."""
        settings = self._settings()
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        return {"name": "synthetic teacher", **settings, "sha256": digest}
