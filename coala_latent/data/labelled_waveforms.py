"""Waveforms with one class each: random crops to train on, whole clips to validate on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from coala_latent.audio.resample import resample
from coala_latent.data.crops import TrainingCrops, ValidationCrops, crop_samples, tiled
from coala_latent.data.epochs import IntArray, split_by_group
from coala_latent.data.module import TrainingData
from coala_latent.data.sources import SoundSource, TaggedSound
from coala_latent.errors import ConfigError, DataError

__all__ = ["LabelledWaveforms", "WaveformBatch", "WaveformSet"]

_SCALE = 32768


class WaveformBatch(NamedTuple):
    """A batch of crops.

    Attributes:
        waveform: ``(batch, time)`` float32 in [-1, 1].
        label: ``(batch,)`` int64, number of the class.
        clip: ``(batch,)`` int64, number of the clip in its set.
    """

    waveform: Tensor
    label: Tensor
    clip: Tensor


@dataclass(frozen=True)
class WaveformSet:
    """Clips in memory, 16 bits a sample.

    Attributes:
        samples: All clips' samples one after the other, int16.
        offset: ``(clips,)``, first sample of each clip.
        length: ``(clips,)``, samples of each clip.
        label: ``(clips,)``, number of each clip's class.
        classes: Names of the classes.
        groups: Group of each clip.
        sources: Where each clip comes from.
    """

    samples: npt.NDArray[np.int16]
    offset: IntArray
    length: IntArray
    label: IntArray
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.length)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each clip's class."""
        return tuple(self.classes[number] for number in self.label)

    @classmethod
    def pack(cls, sounds: Iterable[TaggedSound], sample_rate: int) -> WaveformSet:
        """Resample sounds and put them together; what is outside [-1, 1] is cut off.

        Raises:
            DataError: There are none, or all are of one class.
        """
        kept = [
            (_sixteen_bits(entry, sample_rate), entry.label, entry.group, entry.source)
            for entry in sounds
        ]
        classes = tuple(sorted({label for _, label, _, _ in kept}))
        if len(classes) < 2:
            raise DataError(
                f"{len(kept)} clips of {len(classes)} classes: give at least two classes, each in "
                "a folder of its own"
            )
        length = np.array([len(samples) for samples, *_ in kept], dtype=np.int64)
        return cls(
            samples=np.concatenate([samples for samples, *_ in kept]),
            offset=np.cumsum(length) - length,
            length=length,
            label=np.array([classes.index(label) for _, label, _, _ in kept], dtype=np.int64),
            classes=classes,
            groups=tuple(group for *_, group, _ in kept),
            sources=tuple(source for *_, source in kept),
        )

    def subset(self, chosen: IntArray) -> WaveformSet:
        """The chosen clips; the samples are shared, not copied."""
        return replace(
            self,
            offset=self.offset[chosen],
            length=self.length[chosen],
            label=self.label[chosen],
            groups=tuple(self.groups[i] for i in chosen),
            sources=tuple(self.sources[i] for i in chosen),
        )

    def _read(self, clip: int, start: int, stop: int) -> npt.NDArray[np.float32]:
        first = self.offset[clip]
        return self.samples[first + start : first + stop].astype(np.float32) / np.float32(_SCALE)

    def cut(self, clips: IntArray, starts: IntArray, samples: int) -> WaveformBatch:
        """Crops of `clips` that begin at sample `starts`, both ``(batch,)``."""
        waves = [
            tiled(partial(self._read, clip), int(self.length[clip]), start, samples)
            for clip, start in zip(clips.tolist(), starts.tolist(), strict=True)
        ]
        return WaveformBatch(
            torch.from_numpy(np.stack(waves)),
            torch.from_numpy(self.label[clips]),
            torch.from_numpy(clips),
        )


def _sixteen_bits(entry: TaggedSound, sample_rate: int) -> npt.NDArray[np.int16]:
    samples = resample(entry.sound.samples, entry.sound.sample_rate, sample_rate)
    return np.rint(samples * _SCALE).clip(-_SCALE, _SCALE - 1).astype(np.int16)


class LabelledWaveforms(TrainingData):
    """Sounds of classes, split into training and validation by group.

    Args:
        source: The sounds; their labels are the classes.
        front_end: The model's, whose ``sample_rate`` sounds are resampled to.
        crop_seconds: Length of a crop; the original fine-tunes on 5 s. Shorter clips are repeated.
        batch_size: Crops in a batch.
        crops: Crops per clip and epoch.
        validation: Share of the clips that is set aside; they are cut into crops from beginning
            to end.
        drop_last: Leave an epoch's last, smaller batch out.
        workers: Processes that cut crops beside the training; cutting is quick, so 0 will do.
        seed: Of split, order and places.
        quiet: No progress bar.

    Raises:
        ConfigError: A setting does not make sense.
    """

    train_clips: WaveformSet
    validation_clips: WaveformSet

    def __init__(
        self,
        source: SoundSource,
        front_end: nn.Module,
        *,
        crop_seconds: float = 5.0,
        batch_size: int = 64,
        crops: int = 1,
        validation: float = 0.15,
        drop_last: bool = True,
        workers: int = 0,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        super().__init__(workers)
        if not isinstance(source, SoundSource):
            raise ConfigError(
                f"{type(source).__name__} has no labelled sounds (use data=folder or data=builtin)"
            )
        self.source = source
        self.sample_rate = int(front_end.sample_rate)  # type: ignore[arg-type]
        self.samples = crop_samples(crop_seconds, self.sample_rate)
        self.batch_size = batch_size
        self.crops = crops
        self.validation = validation
        self.drop_last = drop_last
        self.seed = seed
        self.quiet = quiet
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Read the sounds and split them, once.

        Raises:
            DataError: Nothing usable, or too little to split.
        """
        if self._ready:
            return
        every = WaveformSet.pack(self.source.sounds(self.sample_rate, self.quiet), self.sample_rate)
        train, validation = split_by_group(every.labels, every.groups, self.validation, self.seed)
        self.train_clips, self.validation_clips = every.subset(train), every.subset(validation)
        self._ready = True

    def sizes(self) -> dict[str, Any]:
        """Number of classes."""
        return {"classes": len(self.train_clips.classes)}

    def names(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": {"classes": self.train_clips.classes}}

    def summary(self) -> dict[str, Any]:
        """What the sounds are and what `setup` made of them."""
        return {
            **self.source.describe(),
            "clips": {"train": len(self.train_clips), "validation": len(self.validation_clips)},
            "classes": len(self.train_clips.classes),
            "validation": self.validation,
            "split_seed": self.seed,
        }

    def train_dataloader(self) -> DataLoader[WaveformBatch]:
        """Batches of random crops of the training part."""
        batches: TrainingCrops[WaveformBatch] = TrainingCrops(
            self.train_clips, self.samples, self.batch_size, self.crops, self.seed, self.drop_last
        )
        return self.epochs(batches, len(batches))

    def val_dataloader(self) -> DataLoader[WaveformBatch]:
        """Batches of the whole validation part, always the same."""
        return self.loader(ValidationCrops(self.validation_clips, self.samples, self.batch_size))
