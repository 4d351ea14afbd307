"""Training from files of patches; the files say what is training and what is validation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from coala_latent.audio.frontends import CoalaFrontEnd, CoalaLegacy, CoalaStandard
from coala_latent.data.epochs import EpochPlan
from coala_latent.data.module import TrainingData
from coala_latent.data.patch_files import analysis_of
from coala_latent.data.patch_reader import Memory, PatchFile
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError, DataError

__all__ = ["StoredFiles", "StoredPatches"]

_MIN_STD = 0.1


class StoredFiles:
    """The two files of a data set.

    Args:
        train: As `coala-latent build-dataset` writes it, or a published file.
        validation: Its other part.
        vocabulary: JSON from number to tag, for files that do not have it.
        memory: See `PatchFile`, like the next.
        memory_limit: In bytes, of both files together.
    """

    def __init__(
        self,
        train: str,
        validation: str,
        vocabulary: str | None = None,
        memory: Memory = "auto",
        memory_limit: int = 4 << 30,
    ) -> None:
        self.train = Path(train)
        self.validation = Path(validation)
        self.vocabulary = vocabulary
        self.memory: Memory = memory
        self.memory_limit = memory_limit

    def open(self) -> tuple[PatchFile, PatchFile]:
        """Both files.

        Raises:
            DataError: One cannot be read, or they do not belong together.
        """
        limit, found = self.memory_limit, []
        for path in (self.validation, self.train):
            file = PatchFile(
                path, vocabulary=self.vocabulary, memory=self.memory, memory_limit=limit
            )
            if file.in_memory:
                limit -= file.data_bytes
            found.append(file)
        validation, train = found
        if train.vocabulary != validation.vocabulary:
            raise DataError(f"{train.path} and {validation.path} have different vocabularies")
        if dict(train.header.analysis) != dict(validation.header.analysis):
            raise DataError(
                f"{train.path} and {validation.path} were not made by the same front end"
            )
        if shared := sorted(set(train.sources) & set(validation.sources)):
            warnings.warn(
                f"{len(shared)} sounds are in {train.path} and in {validation.path}, such as "
                f"{shared[0]}: validation scores will be too good",
                stacklevel=2,
            )
        return train, validation

    def describe(self) -> dict[str, Any]:
        """Name of the data set."""
        return {"name": self.train.name}


class StoredPatches(TrainingData):
    """Patches of files, one of each sound, in an order drawn anew for each epoch.

    Args:
        source: The files.
        front_end: Scales the patches: `CoalaLegacy` as the files have them, `CoalaStandard` with
            mean and standard deviation of the training file.
        batch_size: Patches in a batch.
        drop_last: Leave an epoch's last, smaller batch out.
        workers: Processes that read batches beside the training.
        seed: Of the order.
        quiet: Accepted like elsewhere; nothing here takes long enough for a bar.

    Raises:
        ConfigError: Source or front end are of another kind.
    """

    train_file: PatchFile
    validation_file: PatchFile

    def __init__(
        self,
        source: StoredFiles,
        front_end: CoalaFrontEnd,
        *,
        batch_size: int = 128,
        drop_last: bool = True,
        workers: int = 0,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        super().__init__(workers)
        if not isinstance(source, StoredFiles) or not isinstance(front_end, CoalaFrontEnd):
            raise ConfigError(
                f"{type(source).__name__} and {type(front_end).__name__} do not give stored "
                "patches (use data=hdf5 with patches=stored, and a COALA model)"
            )
        self.source = source
        self.front_end = front_end
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = seed
        self.quiet = quiet
        self._ready = False

    def setup(self, stage: str | None = None) -> None:
        """Open the files and fit the standardisation, once.

        Raises:
            DataError: A file cannot be used.
            ConfigError: The files were made for another front end.
        """
        if self._ready:
            return
        self.train_file, self.validation_file = self.source.open()
        self._more_eps = self._check_analysis(self.train_file)
        header = self.train_file.header
        if isinstance(self.front_end, CoalaLegacy):
            self.front_end.scale_by_time.copy_(torch.from_numpy(header.scale))
            self.front_end.offset_by_time.copy_(torch.from_numpy(header.offset))
        elif isinstance(self.front_end, CoalaStandard):
            mean, std = _standardisation(_Batches(self.train_file, self._more_eps))
            self.front_end.mean.copy_(mean)
            self.front_end.std.copy_(std)
        self._ready = True

    def _check_analysis(self, file: PatchFile) -> float:
        """What is to be added to the file's mel magnitudes to have the front end's floor."""
        found, wanted = dict(file.header.analysis), analysis_of(self.front_end)
        more = wanted.pop("eps") - found.pop("eps")
        different = [
            f"{name} {found.get(name)}, not {value}"
            for name, value in wanted.items()
            if found.get(name) != value
        ]
        if more < 0:
            different.append("a higher floor under quiet sounds")
        if different:
            raise ConfigError(
                f"{file.path}: made by another front end: {', '.join(different)} (build the data "
                "set for it with --front-end, or choose a model that hears so)"
            )
        return float(more)

    def sizes(self) -> dict[str, Any]:
        """Number of tags."""
        return {"tags": len(self.train_file.vocabulary)}

    def names(self) -> dict[str, Any]:
        """The tags."""
        return {"vocabulary": self.train_file.vocabulary}

    def scaling(self) -> Mapping[str, Tensor]:
        """The front end's buffers, after `setup`."""
        return self.front_end.state_dict()

    def summary(self) -> dict[str, Any]:
        """What the files are."""
        return {
            **self.source.describe(),
            **self.train_file.header.details,
            "clips": {"train": len(self.train_file), "validation": len(self.validation_file)},
            "sha256": {"train": self.train_file.sha256, "validation": self.validation_file.sha256},
        }

    def train_dataloader(self) -> DataLoader[PatchBatch]:
        """Batches of training patches in the epoch's order."""
        plan = EpochPlan(
            len(self.train_file), self.batch_size, seed=self.seed, drop_last=self.drop_last
        )
        return self.epochs(_Epochs(_Batches(self.train_file, self._more_eps), plan), plan.batches)

    def val_dataloader(self) -> DataLoader[PatchBatch]:
        """Batches of the whole validation file, always the same."""
        return self.loader(
            _InOrder(_Batches(self.validation_file, self._more_eps), self.batch_size)
        )


class _Batches:
    """Batches of a file with the floor of a front end.

    Args:
        file: The patches.
        more_eps: Added to the mel magnitudes under the logarithm.
    """

    def __init__(self, file: PatchFile, more_eps: float) -> None:
        self.file = file
        self.more_eps = more_eps

    def rows(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> PatchBatch:
        """The rows as a batch."""
        batch = self.file.batch(rows)
        if self.more_eps == 0:
            return batch
        return batch._replace(patches=(batch.patches.exp() + self.more_eps).log())


class _Epochs(Dataset[PatchBatch]):
    """Training batches, found by ``(epoch, batch)``."""

    def __init__(self, batches: _Batches, plan: EpochPlan) -> None:
        self.batches = batches
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.batches

    def __getitem__(self, place: tuple[int, int]) -> PatchBatch:
        rows, _ = self.plan.draw(*place)
        return self.batches.rows(rows)


class _InOrder(Dataset[PatchBatch]):
    """Batches of neighbours."""

    def __init__(self, batches: _Batches, batch_size: int) -> None:
        self.batches = batches
        self.blocks = list(batches.file.blocks(batch_size))

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, batch: int) -> PatchBatch:
        return self.batches.rows(self.blocks[batch])


def _standardisation(batches: _Batches) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over the frames that are of sounds.

    Returns:
        Two ``(bands,)`` float32 tensors; the second is at least 0.1, as `fit_standardisation` has
        it.
    """
    bands = int(batches.file.header.analysis["bands"])
    total, squares, count = torch.zeros(bands).double(), torch.zeros(bands).double(), 0
    for rows in batches.file.blocks():
        batch = batches.rows(rows)
        frames = batch.patches.double().transpose(1, 2)[batch.mask]
        total += frames.sum(0)
        squares += frames.square().sum(0)
        count += len(frames)
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return mean.float(), variance.sqrt().clamp(min=_MIN_STD).float()
