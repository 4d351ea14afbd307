"""HDF5 files of sounds and what a teacher saw in the pictures that belong to them.

`docs/distillation.md` states the layout and shows how a set of videos is turned into it. Sounds are
mono at one rate, of any length each; a teacher gives, at times of its own, a distribution over its
classes. There may be several teachers, each under the name of the student's head that learns
from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import h5py
import numpy as np
import numpy.typing as npt

import coala_latent
from coala_latent.audio.io import check_finite
from coala_latent.data.whole_files import WholeFile, write_text
from coala_latent.errors import ConfigError, DataError
from coala_latent.store.schema import printable_text
from coala_latent.types import FloatArray

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "PCM_SCALE",
    "AudioType",
    "DistillationWriter",
    "ProbabilityType",
    "TeacherSource",
    "Teaching",
    "check_teaching",
]

FORMAT = "coala_latent.distillation"
FORMAT_VERSION = 1
# As 16-bit sound files have it, so that their samples are kept exactly.
PCM_SCALE = 32768

AudioType = Literal["int16", "float16"]
ProbabilityType = Literal["float16", "float32"]

_TOLERANCE = 1e-3
# Beyond it samples are not in [-1, 1]: they were left as integers, or scaled for a network.
_LOUDEST = 4.0
_AUDIO_CHUNK = 1 << 16
_FRAME_CHUNK = 16


class TeacherSource(ABC):
    """Where teacher files come from."""

    @abstractmethod
    def files(self, quiet: bool = False) -> list[Path]:
        """The files, written first where they have to be; a progress bar unless `quiet`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What is in them, as JSON-able values, for a model's card."""


class Teaching(NamedTuple):
    """What one teacher says about one sound.

    Attributes:
        probabilities: ``(frames, classes)``; every row is a distribution.
        times: ``(frames,)`` seconds from the beginning of the sound, increasing.
    """

    probabilities: FloatArray
    times: FloatArray


def check_teaching(
    teaching: Teaching, classes: int, duration: float, source: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Check what a teacher says about a sound.

    Returns:
        Probabilities and times.

    Raises:
        DataError: Shapes do not fit, a value is NaN or outside [0, 1], a row does not sum to 1
            within 1e-3, or times do not increase within the sound.
    """
    probabilities = np.asarray(teaching.probabilities, dtype=np.float32)
    times = np.asarray(teaching.times, dtype=np.float64)
    if probabilities.ndim != 2 or probabilities.shape[1] != classes or not len(probabilities):
        raise DataError(
            f"{source}: probabilities are {probabilities.shape}; give (frames, {classes}), "
            "one frame at least"
        )
    if times.shape != (len(probabilities),):
        raise DataError(f"{source}: times are {times.shape}; give one for each frame")
    # Negated, so that NaN fails too.
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise DataError(
            f"{source}: a probability is NaN or outside [0, 1] (give the softmax, not logits)"
        )
    off = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1)
    if off.max() > _TOLERANCE:
        raise DataError(
            f"{source}: frame {off.argmax()} sums to {probabilities[off.argmax()].sum():.4f}, not 1"
        )
    if not bool((np.diff(times) > 0).all() and times[0] >= 0 and times[-1] <= duration):
        raise DataError(
            f"{source}: times must increase and lie within the sound's {duration:.3f} s "
            "(leave frames outside of it out)"
        )
    return probabilities, times


class DistillationWriter(WholeFile):
    """Writes a file clip by clip; it gets its name when it is complete.

    As a context manager it closes at the end; after an exception, or without a single clip, no
    file is left. A large set is written as several files, which are read as one.

    Args:
        path: The file; one of that name is replaced at the end.
        classes: Names of each teacher's classes, by the head that learns from it.
        sample_rate: Of all sounds, in Hz.
        audio: How samples are stored. ``"int16"`` keeps 16-bit sounds exactly and cuts off what
            is outside [-1, 1].
        probabilities: How distributions are stored.

    Raises:
        ConfigError: A setting does not make sense.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Mapping[str, Sequence[str]],
        *,
        sample_rate: int = 22050,
        audio: AudioType = "int16",
        probabilities: ProbabilityType = "float16",
    ) -> None:
        if audio not in get_args(AudioType) or probabilities not in get_args(ProbabilityType):
            raise ConfigError(
                f"audio={audio!r}, probabilities={probabilities!r}: use one of "
                f"{', '.join(get_args(AudioType))} and of {', '.join(get_args(ProbabilityType))}"
            )
        if not classes or any(len(names) < 2 for names in classes.values()):
            raise ConfigError("classes: name one teacher at least, and two classes of each")
        if sample_rate < 1:
            raise ConfigError(f"sample_rate={sample_rate}: use a rate in Hz, such as 22050")
        self.sample_rate = sample_rate
        self.classes = {
            head: tuple(printable_text(name) for name in names) for head, names in classes.items()
        }
        self._names: list[str] = []
        self._groups: list[str] = []
        self._samples: list[int] = []
        self._frames: dict[str, list[int]] = {head: [] for head in classes}
        self._audio, self._probabilities = audio, probabilities
        super().__init__(path)

    def _lay_out(self) -> None:
        self._file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            package_version=coala_latent.__version__,
            sample_rate=self.sample_rate,
        )
        self._file.create_dataset(
            "audio", (0,), self._audio, chunks=(_AUDIO_CHUNK,), maxshape=(None,)
        )
        for head, names in self.classes.items():
            teacher = self._file.create_group(f"teachers/{head}")
            write_text(teacher, "classes", names)
            teacher.create_dataset(
                "probabilities",
                (0, len(names)),
                self._probabilities,
                chunks=(_FRAME_CHUNK, len(names)),
                maxshape=(None, len(names)),
            )
            teacher.create_dataset("times", (0,), "f8", chunks=(1024,), maxshape=(None,))

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, name: str, value: str) -> None:
        """Keep a text with the file, as an attribute: where it comes from, how it was made."""
        if name in self._file.attrs:
            raise ConfigError(f"the file has an attribute {name!r} already (use another name)")
        self._file.attrs[name] = printable_text(value)

    def add(
        self,
        name: str,
        samples: FloatArray,
        teachers: Mapping[str, Teaching],
        group: str | None = None,
    ) -> None:
        """Append a clip; one that is refused leaves the file as it was.

        Args:
            name: For messages and for people.
            samples: ``(time,)`` in [-1, 1] at `sample_rate`.
            teachers: What each teacher says about it.
            group: Clips of one group are never split into training and validation; the clip's
                name unless given.

        Raises:
            AudioValueError: A sample is not finite.
            DataError: Anything else is not as said.
        """
        wave = np.asarray(samples)
        if wave.ndim != 1 or not len(wave) or wave.dtype.kind != "f":
            raise DataError(
                f"{name}: samples are {wave.dtype} {wave.shape}; give (time,) floats in [-1, 1]"
            )
        check_finite(wave, name)
        loudest = float(np.abs(wave).max())
        if loudest == 0:
            raise DataError(
                f"{name}: every sample is 0 (a muted or lost sound track teaches nothing; "
                "leave the clip out)"
            )
        if loudest > _LOUDEST:
            raise DataError(f"{name}: samples reach {loudest:.4g}; give them in [-1, 1]")
        if set(teachers) != set(self.classes):
            raise DataError(
                f"{name}: there are teachers {', '.join(sorted(teachers)) or 'none'}; "
                f"the file has {', '.join(sorted(self.classes))}"
            )
        # All is checked before anything is written.
        duration = len(wave) / self.sample_rate
        checked = {
            head: check_teaching(teachers[head], len(names), duration, f"{name}, {head}")
            for head, names in self.classes.items()
        }
        _append(self._file["audio"], _stored(wave, self._file["audio"].dtype))
        for head, (probabilities, times) in checked.items():
            _append(self._file[f"teachers/{head}/probabilities"], probabilities)
            _append(self._file[f"teachers/{head}/times"], times)
            self._frames[head].append(len(times))
        self._names.append(printable_text(name))
        self._groups.append(printable_text(group or name))
        self._samples.append(len(wave))

    def _complete(self) -> None:
        if not self._names:
            raise DataError(f"{self.path}: not written, because it has no clips")
        clips = self._file.create_group("clips")
        write_text(clips, "name", self._names)
        write_text(clips, "group", self._groups)
        _write_spans(clips, "samples", "first_sample", self._samples)
        for head, frames in self._frames.items():
            _write_spans(self._file[f"teachers/{head}"], "frames", "first_frame", frames)


def _stored(wave: FloatArray, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    if np.dtype(dtype).kind == "f":
        return wave.astype(dtype)
    scaled = np.rint(wave.astype(np.float64) * PCM_SCALE)
    return scaled.clip(-PCM_SCALE, PCM_SCALE - 1).astype(dtype)


def _append(dataset: h5py.Dataset, rows: npt.NDArray[Any]) -> None:
    before = len(dataset)
    dataset.resize(before + len(rows), axis=0)
    dataset[before:] = rows


def _write_spans(group: h5py.Group, count: str, first: str, counts: Sequence[int]) -> None:
    lengths = np.array(counts, dtype=np.int64)
    group.create_dataset(count, data=lengths)
    group.create_dataset(first, data=np.cumsum(lengths) - lengths)
