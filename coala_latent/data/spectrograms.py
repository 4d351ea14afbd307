"""Tagged sounds as log-mel spectrograms in memory, and the patches that training cuts from them.

A sound is decoded and analysed once; an epoch's patches are then cut out by indexing, a whole batch
at a time, as `coala_latent.data.epochs` plans it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from coala_latent.audio.frames import Framing
from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.audio.resample import resample
from coala_latent.data.epochs import EpochPlan, IntArray
from coala_latent.errors import ConfigError, DataError
from coala_latent.types import FloatArray, Sound

__all__ = [
    "ClipSet",
    "Crop",
    "PatchBatch",
    "TaggedClip",
    "TrainingPatches",
    "ValidationPatches",
    "fit_standardisation",
    "log_mel_frames",
]

Crop = Literal["random", "max_energy"]

# The original slides its window by this many frames in search of the loudest.
_ENERGY_HOP = 12
_MIN_STD = 0.1


@dataclass(frozen=True)
class TaggedClip:
    """One analysed sound.

    Attributes:
        frames: Log-mel frames ``(bands, frames)`` float32, unscaled.
        tags: Words that describe it, at least one.
        label: Its class.
        group: Clips of one group (a recording, a take) are never split apart.
        source: Where it comes from.
    """

    frames: FloatArray
    tags: tuple[str, ...]
    label: str
    group: str
    source: str


class PatchBatch(NamedTuple):
    """A batch of unscaled patches.

    Attributes:
        patches: Log-mel ``(batch, bands, frames)`` float32.
        mask: ``(batch, frames)`` bool, true where a frame is of the sound.
        tags: Multi-hot ``(batch, tags)`` float32.
        clip: ``(batch,)`` int64, number of the clip in its set.
    """

    patches: Tensor
    mask: Tensor
    tags: Tensor
    clip: Tensor


def log_mel_frames(sound: Sound, front_end: CoalaFrontEnd) -> FloatArray:
    """Log-mel frames ``(bands, frames)`` of a mono sound of any rate."""
    samples = resample(sound.samples, sound.sample_rate, front_end.sample_rate)
    with torch.inference_mode():
        return front_end.log_mel(torch.from_numpy(samples)).numpy()


@dataclass(frozen=True)
class ClipSet:
    """Clips in one tensor, with their tags.

    Attributes:
        frames: All clips' frames one after the other, ``(frames, bands)``.
        offset: ``(clips,)``, first frame of each clip.
        length: ``(clips,)``, frames of each clip.
        loudest: ``(clips,)``, first frame of each clip's patch of most energy.
        tags: Multi-hot ``(clips, tags)``.
        labels: Class of each clip.
        groups: Group of each clip.
        sources: Where each clip comes from.
        patch: Frames of a patch.
    """

    frames: Tensor
    offset: IntArray
    length: IntArray
    loudest: IntArray
    tags: Tensor
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    sources: tuple[str, ...]
    patch: int

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def pack(cls, clips: Sequence[TaggedClip], vocabulary: Sequence[str], patch: int) -> ClipSet:
        """Put clips together.

        Raises:
            DataError: There are none, or a tag is not in the vocabulary.
        """
        if not clips:
            raise DataError("no clips to train on")
        place = {tag: number for number, tag in enumerate(vocabulary)}
        tags = torch.zeros(len(clips), len(vocabulary))
        for row, clip in enumerate(clips):
            if unknown := sorted(set(clip.tags) - set(place)):
                raise DataError(f"{clip.source}: tags {', '.join(unknown)} not in the vocabulary")
            tags[row, [place[tag] for tag in clip.tags]] = 1.0
        length = np.array([clip.frames.shape[1] for clip in clips], dtype=np.int64)
        return cls(
            frames=torch.from_numpy(np.concatenate([clip.frames.T for clip in clips])),
            offset=np.cumsum(length) - length,
            length=length,
            loudest=np.array([_loudest(clip.frames, patch) for clip in clips], dtype=np.int64),
            tags=tags,
            labels=tuple(clip.label for clip in clips),
            groups=tuple(clip.group for clip in clips),
            sources=tuple(clip.source for clip in clips),
            patch=patch,
        )

    def subset(self, chosen: IntArray) -> ClipSet:
        """The chosen clips; the frames are shared, not copied."""
        return replace(
            self,
            offset=self.offset[chosen],
            length=self.length[chosen],
            loudest=self.loudest[chosen],
            tags=self.tags[torch.from_numpy(chosen)],
            labels=tuple(self.labels[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
            sources=tuple(self.sources[i] for i in chosen),
        )

    def cut(self, clips: IntArray, starts: IntArray) -> PatchBatch:
        """One patch from each of `clips`, beginning at frame `starts`; both ``(batch,)``."""
        within = starts[:, None] + np.arange(self.patch)
        mask = within < self.length[clips, None]
        index = self.offset[clips, None] + np.minimum(within, self.length[clips, None] - 1)
        patches = self.frames[torch.from_numpy(index)].transpose(1, 2).contiguous()
        which = torch.from_numpy(clips)
        return PatchBatch(patches, torch.from_numpy(mask), self.tags[which], which)


def _loudest(frames: FloatArray, patch: int) -> int:
    """Start of the patch with the largest sum of log-mel values; the first of equals."""
    starts = np.arange(0, max(1, frames.shape[1] - patch + 1), _ENERGY_HOP)
    total = np.concatenate([[0.0], np.cumsum(frames.sum(axis=0, dtype=np.float64))])
    ends = np.minimum(starts + patch, frames.shape[1])
    return int(starts[np.argmax(total[ends] - total[starts])])


class TrainingPatches(Dataset[PatchBatch]):
    """Batches of randomly cut patches; an item is a whole batch, found by ``(epoch, batch)``.

    An epoch cuts `crops` patches from each clip, in an order that is drawn anew for each pass over
    the clips. Clips shorter than a patch are completed and masked.

    Args:
        clips: What to cut from.
        batch_size: Patches in a batch.
        crops: Patches per clip and epoch.
        crop: ``"random"``: anywhere. ``"max_energy"``: always the loudest patch, as the original.
        seed: Of order and places.
        drop_last: Leave the last, smaller batch out.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: An epoch has no batch.
    """

    def __init__(
        self,
        clips: ClipSet,
        batch_size: int,
        crops: int = 1,
        crop: Crop = "random",
        seed: int = 0,
        drop_last: bool = True,
    ) -> None:
        if crop not in get_args(Crop):
            raise ConfigError(f"crop={crop!r}: use one of {', '.join(get_args(Crop))}")
        self.clips = clips
        self.crop = crop
        self.plan = EpochPlan(len(clips), batch_size, crops, seed, drop_last)

    def __len__(self) -> int:
        return self.plan.batches

    def __getitem__(self, place: tuple[int, int]) -> PatchBatch:
        clips, rng = self.plan.draw(*place)
        if self.crop == "max_energy":
            return self.clips.cut(clips, self.clips.loudest[clips])
        room = np.maximum(self.clips.length[clips] - self.clips.patch, 0)
        return self.clips.cut(clips, rng.integers(0, room + 1))


class ValidationPatches(Dataset[PatchBatch]):
    """The same patches every time: those an encoder would embed, or each clip's loudest.

    Args:
        clips: What to cut from.
        framing: Rules by which an encoder cuts.
        batch_size: Patches in a batch.
        crop: As in `TrainingPatches`; ``"random"`` here means every patch of every clip.
    """

    def __init__(
        self, clips: ClipSet, framing: Framing, batch_size: int, crop: Crop = "random"
    ) -> None:
        self.clips = clips
        self.batch_size = batch_size
        if crop == "max_energy":
            self.clip, self.start = np.arange(len(clips)), clips.loudest
        else:
            counts = np.array([framing.patches(int(length)) for length in clips.length])
            self.clip = np.repeat(np.arange(len(clips)), counts)
            first = np.repeat(np.cumsum(counts) - counts, counts)
            self.start = (np.arange(len(self.clip)) - first) * framing.patch_hop

    def __len__(self) -> int:
        return -(-len(self.clip) // self.batch_size)

    def __getitem__(self, batch: int) -> PatchBatch:
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        return self.clips.cut(self.clip[part], self.start[part])


def fit_standardisation(clips: ClipSet) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over all frames of the clips.

    Returns:
        Two ``(bands,)`` float32 tensors; the second is at least 0.1, so that a band without
        content is not blown up.
    """
    bands = clips.frames.shape[1]
    total, squares = torch.zeros(bands).double(), torch.zeros(bands).double()
    for offset, length in zip(clips.offset, clips.length, strict=True):
        frames = clips.frames[offset : offset + length].double()
        total += frames.sum(0)
        squares += frames.square().sum(0)
    count = int(clips.length.sum())
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return mean.float(), variance.sqrt().clamp(min=_MIN_STD).float()
