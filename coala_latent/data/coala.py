"""Tagged patches for COALA's training."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from coala_latent.audio.frontends import CoalaFrontEnd, CoalaStandard
from coala_latent.data.sources import SoundSource
from coala_latent.data.spectrograms import (
    ClipSet,
    Crop,
    EpochBatches,
    PatchBatch,
    TrainingPatches,
    ValidationPatches,
    fit_standardisation,
    split_by_group,
)

__all__ = ["TaggedPatches"]


class TaggedPatches(lightning.LightningDataModule):
    """Tagged sounds, split into training and validation by group.

    Args:
        source: The sounds.
        front_end: Analyses the sounds. A `CoalaStandard` also gets the mean and standard deviation
            of the training part.
        batch_size: Patches in a batch.
        crops: Patches per clip and epoch.
        crop: ``"random"`` or ``"max_energy"``, see `TrainingPatches`.
        validation: Share of the clips that is set aside.
        drop_last: Leave an epoch's last, smaller batch out.
        workers: Processes that cut patches beside the training; cutting is quick, so 0 will do.
        seed: Of split, order and cuts.
        quiet: No progress bar.
    """

    train_clips: ClipSet
    validation_clips: ClipSet
    vocabulary: tuple[str, ...]

    def __init__(
        self,
        source: SoundSource,
        front_end: CoalaFrontEnd,
        *,
        batch_size: int = 64,
        crops: int = 1,
        crop: Crop = "random",
        validation: float = 0.15,
        drop_last: bool = True,
        workers: int = 0,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self.source = source
        self.front_end = front_end
        self.batch_size = batch_size
        self.crops = crops
        self.crop: Crop = crop
        self.validation = validation
        self.drop_last = drop_last
        self.workers = workers
        self.seed = seed
        self.quiet = quiet
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Analyse the sounds, split them and fit the standardisation, once.

        Raises:
            DataError: Nothing usable, or too little to split.
        """
        if self._ready:
            return
        clips = self.source.clips(self.front_end, self.quiet)
        self.vocabulary = tuple(sorted({tag for clip in clips for tag in clip.tags}))
        every = ClipSet.pack(clips, self.vocabulary, self.front_end.framing.patch)
        train, validation = split_by_group(every.labels, every.groups, self.validation, self.seed)
        self.train_clips, self.validation_clips = every.subset(train), every.subset(validation)
        if isinstance(self.front_end, CoalaStandard):
            mean, std = fit_standardisation(self.train_clips)
            self.front_end.mean.copy_(mean)
            self.front_end.std.copy_(std)
        self._ready = True

    def summary(self) -> dict[str, Any]:
        """What the sounds are and what `setup` made of them, for a model's card."""
        return {
            **self.source.describe(),
            "clips": {"train": len(self.train_clips), "validation": len(self.validation_clips)},
            "classes": len(set(self.train_clips.labels)),
            "validation": self.validation,
            "split_seed": self.seed,
        }

    def train_dataloader(self) -> DataLoader[PatchBatch]:
        """Batches of randomly cut training patches."""
        patches = TrainingPatches(
            self.train_clips, self.batch_size, self.crops, self.crop, self.seed, self.drop_last
        )
        rank, processes = (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )
        sampler = EpochBatches(len(patches), rank, processes)
        return self._loader(patches, sampler=sampler)

    def val_dataloader(self) -> DataLoader[PatchBatch]:
        """Batches of the validation part, always the same."""
        return self._loader(
            ValidationPatches(
                self.validation_clips, self.front_end.framing, self.batch_size, self.crop
            )
        )

    def _loader(self, patches: Any, **options: Any) -> DataLoader[PatchBatch]:
        return DataLoader(
            patches,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
            **options,
        )
