"""Reading sounds and their teachers' distributions: clip by clip, or cropped in batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from coala_latent.data.crops import tiled
from coala_latent.data.epochs import IntArray
from coala_latent.data.teacher_files import FORMAT, FORMAT_VERSION, PCM_SCALE, Teaching
from coala_latent.errors import DataError
from coala_latent.types import FloatArray

__all__ = ["Taught", "TeacherBatch", "TeacherClip", "TeacherClips"]


class Taught(NamedTuple):
    """What one teacher says about a batch of crops.

    Attributes:
        probabilities: ``(batch, frames, classes)`` float32; rows without a frame repeat the last.
        times: ``(batch, frames)`` float32, seconds from the beginning of the crop, increasing;
            infinite where a crop has fewer frames than another. The frame before the crop and
            the one after it are included, so that any time within lies between two frames.
    """

    probabilities: Tensor
    times: Tensor


class TeacherBatch(NamedTuple):
    """A batch of crops and what the teachers say about them.

    Attributes:
        waveform: ``(batch, time)`` float32 in [-1, 1].
        teachers: By head.
        clip: ``(batch,)`` int64, number of the clip in its set.
    """

    waveform: Tensor
    teachers: dict[str, Taught]
    clip: Tensor


class TeacherClip(NamedTuple):
    """A whole clip.

    Attributes:
        waveform: ``(time,)`` float32 in [-1, 1].
        teachers: By head.
        name: The clip's.
    """

    waveform: FloatArray
    teachers: dict[str, Teaching]
    name: str


@dataclass(frozen=True)
class _Spans:
    """First row and number of rows of each clip in a data set of its file."""

    first: IntArray
    count: IntArray


class TeacherClips(Dataset[TeacherClip]):
    """Clips of files that `DistillationWriter` wrote, as one data set.

    Files are opened when a process first reads from them, so a data set can be pickled and handed
    to workers.

    Args:
        paths: The files; their rates, heads and classes must be equal.

    Attributes:
        sample_rate: In Hz.
        classes: Names of each teacher's classes, by head.
        names: Of the clips.
        groups: Of the clips.
        length: Samples of each clip, ``(clips,)``.

    Raises:
        DataError: A file is missing, of another format or version, or unlike the first.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        if not paths:
            raise DataError("no teacher files (give at least one .h5)")
        self.paths = tuple(Path(path) for path in paths)
        tables = [_read_tables(path) for path in self.paths]
        self.sample_rate: int = tables[0]["sample_rate"]
        self.classes: dict[str, tuple[str, ...]] = tables[0]["classes"]
        for path, table in zip(self.paths, tables, strict=True):
            for what in ("sample_rate", "classes"):
                if table[what] != tables[0][what]:
                    raise DataError(
                        f"{path}: its {what} differ from those of {self.paths[0]} "
                        "(read sets of another kind on their own)"
                    )
        self.names = tuple(name for table in tables for name in table["names"])
        self.groups = tuple(group for table in tables for group in table["groups"])
        self._file = np.repeat(np.arange(len(tables)), [len(table["names"]) for table in tables])
        self._audio = _joined([table["audio"] for table in tables])
        self._frames = {
            head: _joined([table["frames"][head] for table in tables]) for head in self.classes
        }
        self._chosen: IntArray = np.arange(len(self.names))
        self._open: dict[Path, h5py.File] = {}
        self._process = os.getpid()

    def __len__(self) -> int:
        return len(self._chosen)

    @property
    def length(self) -> IntArray:
        """Samples of each clip, ``(clips,)``."""
        return self._audio.count[self._chosen]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def subset(self, chosen: IntArray) -> TeacherClips:
        """The chosen clips; tables and files are shared."""
        part = TeacherClips.__new__(TeacherClips)
        part.__dict__.update(self.__getstate__())
        part._chosen = self._chosen[chosen]
        part.names = tuple(self.names[i] for i in chosen)
        part.groups = tuple(self.groups[i] for i in chosen)
        return part

    def _handle(self, row: int) -> h5py.File:
        if self._process != os.getpid():
            # A handle that came along with a fork must not be used in two processes.
            self._open, self._process = {}, os.getpid()
        path = self.paths[self._file[row]]
        if path not in self._open:
            self._open[path] = _open(path)
        return self._open[path]

    def close(self) -> None:
        """Close this process's files; they open again when they are read."""
        for file in self._open.values():
            file.close()
        self._open = {}

    def audio(self, clip: int, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Samples ``start .. stop - 1`` of a clip, in [-1, 1]."""
        row = self._chosen[clip]
        first = self._audio.first[row]
        stored = self._handle(row)["audio"][first + start : first + stop]
        scale = np.float32(PCM_SCALE if stored.dtype.kind == "i" else 1)
        return stored.astype(np.float32) / scale

    def _frame_span(self, clip: int, head: str) -> tuple[slice, h5py.Group]:
        row = self._chosen[clip]
        first, count = self._frames[head].first[row], self._frames[head].count[row]
        return slice(int(first), int(first + count)), self._handle(row)[f"teachers/{head}"]

    def teaching(self, clip: int, head: str) -> Teaching:
        """All that a teacher says about a clip; rows sum to 1 in float32."""
        span, teacher = self._frame_span(clip, head)
        said = _normalised(teacher["probabilities"][span], f"{self.names[clip]}, teacher {head}")
        return Teaching(said, teacher["times"][span])

    def __getitem__(self, clip: int) -> TeacherClip:
        if not 0 <= clip < len(self):
            raise IndexError(clip)
        return TeacherClip(
            self.audio(clip, 0, int(self.length[clip])),
            {head: self.teaching(clip, head) for head in self.classes},
            self.names[clip],
        )

    def cut(self, clips: IntArray, starts: IntArray, samples: int) -> TeacherBatch:
        """Crops of `clips` that begin at sample `starts`, both ``(batch,)``.

        Clips shorter than the crop are repeated, and what teachers say with them.
        """
        length = self.length
        waves, teachings = [], []
        for clip, start in zip(clips.tolist(), starts.tolist(), strict=True):
            waves.append(tiled(partial(self.audio, clip), int(length[clip]), start, samples))
            teachings.append(
                {head: self._cropped(clip, head, start, samples) for head in self.classes}
            )
        return TeacherBatch(
            torch.from_numpy(np.stack(waves)),
            {head: _padded([said[head] for said in teachings]) for head in self.classes},
            torch.from_numpy(clips),
        )

    def _cropped(self, clip: int, head: str, start: int, samples: int) -> Teaching:
        """Frames of a crop, one before and one after; of a short clip, of its repetitions."""
        span, teacher = self._frame_span(clip, head)
        times = teacher["times"][span]
        length, rate = int(self.length[clip]), self.sample_rate
        if start + samples > length:
            rounds = np.arange(-1, (start + samples) // length + 2)
            times = (rounds[:, None] * (length / rate) + times).reshape(-1)
        times = times - start / rate
        first = max(int(np.searchsorted(times, 0.0, "right")) - 1, 0)
        last = min(int(np.searchsorted(times, samples / rate, "left")), len(times) - 1)
        rows = np.arange(first, last + 1) % (span.stop - span.start)
        # Of an hour of frames only those around the crop are read.
        low, high = int(rows.min()), int(rows.max()) + 1
        read = teacher["probabilities"][span.start + low : span.start + high]
        said = _normalised(read[rows - low], f"{self.names[clip]}, teacher {head}")
        return Teaching(said, times[first : last + 1])


# A thousand classes in half precision sum to 1 within much less.
_ROUNDED = 0.05


def _normalised(stored: npt.NDArray[Any], source: str) -> npt.NDArray[np.float32]:
    """Rows that sum to 1 again, after half precision rounded each of a thousand classes."""
    rows = stored.astype(np.float32)
    total = rows.sum(axis=1, keepdims=True)
    # Negated, so that NaN fails too.
    if not bool((rows >= 0).all() and (np.abs(total - 1) < _ROUNDED).all()):
        raise DataError(
            f"{source}: probabilities are NaN, negative or do not sum to 1 (write the file again; "
            "see docs/distillation.md)"
        )
    normalised: npt.NDArray[np.float32] = rows / total
    return normalised


def _padded(teachings: Sequence[Teaching]) -> Taught:
    frames = max(len(teaching.times) for teaching in teachings)
    rows = [np.minimum(np.arange(frames), len(teaching.times) - 1) for teaching in teachings]
    times = np.full((len(teachings), frames), np.inf, dtype=np.float32)
    for line, teaching in zip(times, teachings, strict=True):
        line[: len(teaching.times)] = teaching.times
    values = [teaching.probabilities[row] for teaching, row in zip(teachings, rows, strict=True)]
    return Taught(torch.from_numpy(np.stack(values)), torch.from_numpy(times))


def _open(path: Path) -> h5py.File:
    try:
        file = h5py.File(path, "r")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read as HDF5: {reason} (check the path)") from error
    found = str(file.attrs.get("format", "")), int(file.attrs.get("format_version", 0))
    if found != (FORMAT, FORMAT_VERSION):
        file.close()
        raise DataError(
            f"{path}: format {found[0] or 'unknown'}, version {found[1]}; "
            f"{FORMAT}, version {FORMAT_VERSION}, is read (see docs/distillation.md)"
        )
    return file


def _read_tables(path: Path) -> dict[str, Any]:
    with _open(path) as file:
        try:
            heads = sorted(file["teachers"])
            return {
                "sample_rate": int(file.attrs["sample_rate"]),
                "classes": {head: _texts(file[f"teachers/{head}/classes"]) for head in heads},
                "names": _texts(file["clips/name"]),
                "groups": _texts(file["clips/group"]),
                "audio": _spans(file["clips"], "first_sample", "samples"),
                "frames": {
                    head: _spans(file[f"teachers/{head}"], "first_frame", "frames")
                    for head in heads
                },
            }
        except KeyError as error:
            raise DataError(
                f"{path}: incomplete: {error.args[0]} (see docs/distillation.md)"
            ) from error


def _texts(dataset: h5py.Dataset) -> tuple[str, ...]:
    return tuple(dataset.asstr(errors="surrogateescape")[:].tolist())


def _spans(group: h5py.Group, first: str, count: str) -> _Spans:
    return _Spans(group[first][:].astype(np.int64), group[count][:].astype(np.int64))


def _joined(spans: Sequence[_Spans]) -> _Spans:
    return _Spans(
        np.concatenate([span.first for span in spans]),
        np.concatenate([span.count for span in spans]),
    )
