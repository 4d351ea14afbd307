"""Tagged patches for COALA's training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from coala_latent.audio.frontends import CoalaFrontEnd, CoalaStandard
from coala_latent.data.epochs import split_by_group
from coala_latent.data.module import TrainingData
from coala_latent.data.sources import SoundSource
from coala_latent.data.spectrograms import (
    ClipSet,
    Crop,
    PatchBatch,
    TrainingPatches,
    ValidationPatches,
    fit_standardisation,
)
from coala_latent.errors import ConfigError

__all__ = ["TaggedPatches"]


class TaggedPatches(TrainingData):
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

    Raises:
        ConfigError: Sounds or front end are of another kind.
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
        super().__init__(workers)
        if not isinstance(source, SoundSource) or not isinstance(front_end, CoalaFrontEnd):
            raise ConfigError(
                f"{type(source).__name__} and {type(front_end).__name__} do not give tagged "
                "patches (use data=folder or data=builtin, and a COALA model)"
            )
        self.source = source
        self.front_end = front_end
        self.batch_size = batch_size
        self.crops = crops
        self.crop: Crop = crop
        self.validation = validation
        self.drop_last = drop_last
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

    def sizes(self) -> dict[str, Any]:
        """Number of tags."""
        return {"tags": len(self.vocabulary)}

    def names(self) -> dict[str, Any]:
        """The tags."""
        return {"vocabulary": self.vocabulary}

    def scaling(self) -> Mapping[str, Tensor]:
        """The front end's mean and standard deviation, where it has them."""
        return self.front_end.state_dict()

    def summary(self) -> dict[str, Any]:
        """What the sounds are and what `setup` made of them."""
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
        return self.epochs(patches, len(patches))

    def val_dataloader(self) -> DataLoader[PatchBatch]:
        """Batches of the validation part, always the same."""
        return self.loader(
            ValidationPatches(
                self.validation_clips, self.front_end.framing, self.batch_size, self.crop
            )
        )
