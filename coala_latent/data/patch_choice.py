"""One patch of a sound, and a place where many of them wait until their scaling is known."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.audio.io import check_finite
from coala_latent.data.epochs import IntArray
from coala_latent.data.spectrograms import ClipSet, TaggedClip, log_mel_frames
from coala_latent.errors import AudioValueError
from coala_latent.types import FloatArray, Sound

__all__ = ["ChosenPatch", "PatchChoice", "WaitingPatches", "choose_patch", "fit_min_max"]

PatchChoice = Literal["loudest", "random"]

_ROWS = 256


class ChosenPatch(NamedTuple):
    """A patch of a sound.

    Attributes:
        values: Unscaled log-mel ``(bands, frames)`` float32.
        frames: How many frames, from the first, are of the sound; the others repeat its last.
    """

    values: FloatArray
    frames: int


def choose_patch(
    sound: Sound, front_end: CoalaFrontEnd, choice: PatchChoice, name: str, seed: int
) -> ChosenPatch:
    """The patch that stands for a sound.

    Args:
        sound: Mono.
        front_end: Analyses it.
        choice: ``"loudest"``: the original's, with the largest sum of log-mel values of those that
            begin every 12 frames. ``"random"``: from anywhere in the sound, but not from the
            silence by which a front end extends it.
        name: The sound's; with `seed` it determines a random patch, whatever else is in the set.
        seed: See `name`.

    Raises:
        AudioValueError: A sample is not finite, or all are 0.
    """
    check_finite(sound.samples, sound.source)
    if not sound.samples.any():
        raise AudioValueError(
            sound.source, "every sample is 0", "a silent sound teaches nothing; leave it out"
        )
    frames = log_mel_frames(sound, front_end)
    patch = front_end.framing.patch
    clips = ClipSet.pack([TaggedClip(frames, (), "", "", sound.source)], (), patch)
    start = clips.loudest
    if choice == "random":
        of_sound = 1 + int(sound.duration * front_end.sample_rate) // front_end.framing.hop
        room = max(min(frames.shape[1], of_sound) - patch, 0)
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
        start = rng.integers(0, room + 1, 1)
    cut = clips.cut(np.zeros(1, dtype=np.int64), start)
    return ChosenPatch(cut.patches[0].numpy(), int(cut.mask.sum()))


class WaitingPatches:
    """Unscaled patches in a temporary file, which goes with the process.

    Args:
        folder: Where there is room for all of them.
        bands: Of a patch.
        frames: Of a patch.
    """

    def __init__(self, folder: Path, bands: int, frames: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._shape = (bands, frames)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, values: FloatArray) -> None:
        """Add a patch ``(bands, frames)``."""
        self._file.write(np.ascontiguousarray(values, dtype=np.float32).data)
        self._count += 1

    def blocks(self, rows: IntArray) -> Iterator[tuple[IntArray, npt.NDArray[np.float32]]]:
        """The patches of `rows`, some at a time, with their numbers."""
        self._file.flush()
        stored = np.memmap(self._file, np.float32, "r", shape=(self._count, *self._shape))
        for first in range(0, len(rows), _ROWS):
            part = rows[first : first + _ROWS]
            yield part, np.asarray(stored[part])

    def __enter__(self) -> WaitingPatches:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def fit_min_max(patches: WaitingPatches, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Scale and offset that bring each frame of the patches of `rows` to [0, 1].

    The original's scaling: by position in the patch, over all bands; see `coala_scaler`.

    Returns:
        ``(frames,)`` float32 each; a frame that is the same in all patches has scale 1.
    """
    found = [(block.min((0, 1)), block.max((0, 1))) for _, block in patches.blocks(rows)]
    low = np.min([least for least, _ in found], axis=0).astype(np.float64)
    high = np.max([most for _, most in found], axis=0).astype(np.float64)
    scale = 1.0 / np.where(high > low, high - low, 1.0)
    return scale.astype(np.float32), (-low * scale).astype(np.float32)
