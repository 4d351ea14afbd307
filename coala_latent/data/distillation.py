"""Crops of sounds with their teachers' distributions, for a student's training."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from coala_latent.data.crops import TrainingCrops, ValidationCrops, crop_samples
from coala_latent.data.epochs import split_by_group
from coala_latent.data.module import TrainingData
from coala_latent.data.teacher_clips import TeacherBatch, TeacherClips
from coala_latent.data.teacher_files import TeacherSource
from coala_latent.errors import ConfigError, DataError

__all__ = ["TeacherCrops", "TeacherFiles"]


class TeacherFiles(TeacherSource):
    """A teacher file, or all of a folder as one set.

    Args:
        root: A file as `DistillationWriter` makes them, or a folder of ``.h5`` files.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def files(self, quiet: bool = False) -> list[Path]:
        """The files, sorted.

        Raises:
            DataError: There are none.
        """
        if self.root.is_file():
            return [self.root]
        found = sorted(path for path in self.root.glob("*.h5") if not path.name.startswith("."))
        if not found:
            raise DataError(
                f"{self.root}: no teacher files (give an .h5 file or a folder of them; "
                "docs/distillation.md tells how to make one)"
            )
        return found

    def describe(self) -> dict[str, Any]:
        """Names and sizes of the files, hashed."""
        files = self.files()
        lines = "".join(f"{path.name}\t{path.stat().st_size}\n" for path in files)
        digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        return {"name": self.root.resolve().stem, "files": len(files), "sha256": digest}


class TeacherCrops(TrainingData):
    """Crops of one length, split into training and validation by group.

    Args:
        source: The teacher files.
        front_end: The student's, whose ``sample_rate`` the files must have.
        crop_seconds: Length of a crop; the original's is 20 s. Shorter clips are repeated, with
            what the teachers say about them.
        batch_size: Crops in a batch.
        crops: Crops per clip and epoch.
        validation: Share of the clips that is set aside.
        drop_last: Leave an epoch's last, smaller batch out.
        workers: Processes that read crops beside the training.
        seed: Of split, order and places.
        quiet: No progress bar.

    Raises:
        ConfigError: A setting does not make sense.
    """

    clips: TeacherClips
    train_clips: TeacherClips
    validation_clips: TeacherClips

    def __init__(
        self,
        source: TeacherSource,
        front_end: nn.Module,
        *,
        crop_seconds: float = 20.0,
        batch_size: int = 64,
        crops: int = 1,
        validation: float = 0.1,
        drop_last: bool = True,
        workers: int = 0,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        super().__init__(workers)
        if not isinstance(source, TeacherSource):
            raise ConfigError(
                f"{type(source).__name__} has no teachers (use data=teacher or "
                "data=synthetic_teacher)"
            )
        self.source = source
        self.sample_rate = int(front_end.sample_rate)  # type: ignore[arg-type]
        self.crop_seconds = crop_seconds
        self.samples = crop_samples(crop_seconds, self.sample_rate)
        self.batch_size = batch_size
        self.crops = crops
        self.validation = validation
        self.drop_last = drop_last
        self.seed = seed
        self.quiet = quiet
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Find the clips and split them, once.

        Raises:
            DataError: Nothing usable, or too little to split.
            ConfigError: The files have another sample rate than the student hears.
        """
        if self._ready:
            return
        self.clips = TeacherClips(self.source.files(self.quiet))
        if self.clips.sample_rate != self.sample_rate:
            raise ConfigError(
                f"{self.clips.paths[0]}: sounds are at {self.clips.sample_rate} Hz, the student "
                f"hears {self.sample_rate} Hz (make the file again, resampled)"
            )
        # One class only: what clips show is in the teachers' distributions.
        labels = [""] * len(self.clips)
        train, validation = split_by_group(labels, self.clips.groups, self.validation, self.seed)
        self.train_clips, self.validation_clips = (
            self.clips.subset(train),
            self.clips.subset(validation),
        )
        self._ready = True

    def sizes(self) -> dict[str, Any]:
        """Number of classes of each teacher, by head."""
        return {head: len(names) for head, names in self.clips.classes.items()}

    def names(self) -> dict[str, Any]:
        """The teachers' classes."""
        return {"classes": dict(self.clips.classes)}

    def summary(self) -> dict[str, Any]:
        """What the sounds are and what `setup` made of them."""
        return {
            **self.source.describe(),
            "clips": {"train": len(self.train_clips), "validation": len(self.validation_clips)},
            "hours": round(float(self.clips.length.sum()) / self.sample_rate / 3600, 4),
            "validation": self.validation,
            "split_seed": self.seed,
        }

    def train_dataloader(self) -> DataLoader[TeacherBatch]:
        """Batches of random crops of the training part."""
        batches: TrainingCrops[TeacherBatch] = TrainingCrops(
            self.train_clips, self.samples, self.batch_size, self.crops, self.seed, self.drop_last
        )
        return self.epochs(batches, len(batches))

    def val_dataloader(self) -> DataLoader[TeacherBatch]:
        """Batches of the whole validation part, always the same."""
        return self.loader(ValidationCrops(self.validation_clips, self.samples, self.batch_size))
