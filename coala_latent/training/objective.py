"""What the training objectives share: optimiser, schedule, patches from batches, repeatability."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError
from coala_latent.training.augment import PatchAugment

__all__ = [
    "Examples",
    "Objective",
    "OptimizerFactory",
    "PatchObjective",
    "SchedulerFactory",
    "StepSeed",
]

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[..., LRScheduler]


class Objective(lightning.LightningModule):
    """A model in training.

    Args:
        model: Has a ``front_end`` and a ``network``.
        optimizer: Makes the optimiser from parameter groups.
        scheduler: Makes a schedule of steps from the optimiser and ``total_steps``; None for a
            constant learning rate.

    Attributes:
        monitor: Name of the logged value that tells the best weights.
        monitor_mode: Whether the best has the largest or the smallest.
    """

    monitor: ClassVar[str]
    monitor_mode: ClassVar[Literal["max", "min"]] = "max"

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._optimizer = optimizer
        self._scheduler = scheduler

    def rate(self, name: str) -> float:
        """Learning rate of a parameter as a share of the optimiser's."""
        return 1.0

    def configure_optimizers(self) -> Any:
        """The optimiser, without decay of biases, norms and temperature, and the schedule.

        Raises:
            ConfigError: Their settings do not make sense.
        """
        groups = self._parameter_groups()
        try:
            # Copies, so that the optimiser's own entries do not come back here.
            optimizer = self._optimizer([dict(group) for group, _ in groups])
            for made, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
                made["lr"] *= rate
            if self._scheduler is None:
                return optimizer
            steps = int(self.trainer.estimated_stepping_batches)
            try:
                schedule = self._scheduler(optimizer, total_steps=steps)
            except ZeroDivisionError:
                # OneCycleLR cannot have a phase of exactly one step: leave its last step out.
                schedule = self._scheduler(optimizer, total_steps=steps + 1)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"optimizer or scheduler: {error}") from error
        first = optimizer.param_groups[0]["lr"] / groups[0][1]
        for made, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
            if not np.isclose(made["lr"], first * rate):
                raise ConfigError(
                    "scheduler: it gives all parameters one learning rate, but some are to have "
                    "a lower one (use a schedule that scales the optimiser's rates, or none)"
                )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _parameter_groups(self) -> list[tuple[dict[str, Any], float]]:
        """Groups of parameters with the same decay and rate, and their rates."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                kind = (self.rate(name), parameter.ndim <= 1)
                groups.setdefault(kind, []).append(parameter)
        return [
            ({"params": parameters, **({"weight_decay": 0.0} if flat else {})}, rate)
            for (rate, flat), parameters in sorted(
                groups.items(), key=lambda entry: (-entry[0][0], entry[0][1])
            )
        ]


class Examples(NamedTuple):
    """What a model makes of some patches, to be looked at.

    Attributes:
        patches: ``(n, bands, frames)`` in [0, 1], low bands first.
        decoded: The same after the autoencoder; None for a model without.
        tags: Scores of tags ``(n, tags)``, by where they come from.
    """

    patches: Tensor
    decoded: Tensor | None
    tags: Mapping[str, Tensor]


class PatchObjective(Objective):
    """A model in training that hears patches of a spectrogram.

    Args:
        model: See `Objective`.
        optimizer: See `Objective`.
        scheduler: See `Objective`.
        augment: Changes training patches; None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        augment: PatchAugment | None = None,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        self.augment = augment

    @property
    def front_end(self) -> CoalaFrontEnd:
        """The model's front end."""
        front_end: CoalaFrontEnd = self.model.front_end  # type: ignore[assignment]
        return front_end

    def inputs(self, batch: PatchBatch) -> tuple[Tensor, Tensor]:
        """Scaled patches to embed and to reconstruct, both ``(batch, 1, bands, frames)``."""
        log_mel, augment = batch.patches, self.augment if self.training else None
        if augment is not None:
            log_mel = augment.sound(log_mel, self.front_end)
        scaled = self.front_end.scale(log_mel, batch.mask)
        heard = scaled if augment is None else augment.hide(scaled)
        return heard[:, None], scaled[:, None]

    @abstractmethod
    def examples(self, batch: PatchBatch) -> Examples:
        """What the model makes of a batch, in evaluation mode."""


class StepSeed(Callback):
    """Seeds dropout and augmentation anew for each step, from the run's seed and the step's number.

    So a step's random numbers do not depend on how the run came to it: a resumed run repeats an
    uninterrupted one.

    Args:
        seed: The run's.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Seed torch on all devices."""
        source = np.random.SeedSequence([self.seed, trainer.global_step, trainer.global_rank])
        torch.manual_seed(int(source.generate_state(1)[0]))
