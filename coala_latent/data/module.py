"""What a training run asks of its data, whatever they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from coala_latent.data.epochs import EpochBatches
from coala_latent.errors import DataError

__all__ = ["TrainingData"]


class TrainingData(lightning.LightningDataModule, ABC):
    """Sounds in a training and a validation part.

    Args:
        workers: Processes that cut batches beside the training; 0 cuts them in between.
    """

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Find the sounds and split them, once."""

    @abstractmethod
    def sizes(self) -> dict[str, Any]:
        """Arguments of the architecture's builder that follow from the data, after `setup`."""

    @abstractmethod
    def names(self) -> dict[str, Any]:
        """``vocabulary`` or ``classes`` for the model's card, after `setup`."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """What the sounds are and what `setup` made of them, for the model's card."""

    def scaling(self) -> Mapping[str, Tensor]:
        """Buffers of the front end that were fitted to the training part."""
        return {}

    def epochs(self, batches: Dataset[Any], count: int) -> DataLoader[Any]:
        """Loader of a data set whose items are training batches, found by ``(epoch, batch)``.

        Raises:
            DataError: There are fewer batches than processes.
        """
        rank, processes = (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )
        if count < processes:
            raise DataError(
                f"an epoch has {count} batches for {processes} processes (use a smaller "
                "patches.batch_size, which is each process', or fewer processes)"
            )
        return self.loader(batches, sampler=EpochBatches(count, rank, processes))

    def loader(self, batches: Dataset[Any], **options: Any) -> DataLoader[Any]:
        """Loader of a data set whose items are batches."""
        return DataLoader(
            batches,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
            **options,
        )
