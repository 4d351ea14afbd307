"""Ending a run that no longer gets better."""

from __future__ import annotations

from typing import Literal

import lightning
from lightning.pytorch.callbacks import EarlyStopping

from coala_latent.errors import ConfigError
from coala_latent.training.objective import Objective

__all__ = ["EarlyStop"]


class EarlyStop(EarlyStopping):
    """Ends a run when the value that chooses the best weights has not improved for some epochs.

    The count is part of the checkpoints: a resumed run ends where an uninterrupted one would.

    Args:
        patience: Epochs without improvement.
        min_delta: An improvement up to this is none.

    Raises:
        ConfigError: A setting does not make sense.
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0) -> None:
        if patience < 1 or not min_delta >= 0:
            raise ConfigError(f"patience={patience}, min_delta={min_delta}: use at least 1 and 0")
        self._settings = (patience, min_delta)
        self._watch("", "max")

    def _watch(self, monitor: str, mode: Literal["max", "min"]) -> None:
        patience, min_delta = self._settings
        # At the end of an epoch of training, before the checkpoints.
        super().__init__(
            monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=True, verbose=False
        )

    def setup(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        """Take over what the objective monitors, before a checkpoint is read."""
        super().setup(trainer, pl_module, stage)
        if not isinstance(pl_module, Objective):
            raise ConfigError(f"{type(pl_module).__name__} does not say what its best weights are")
        if self.monitor != pl_module.monitor:
            self._watch(pl_module.monitor, pl_module.monitor_mode)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Do not train on where the run had ended already."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
