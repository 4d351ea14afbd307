"""Checkpoints: written atomically, read without running anything in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

__all__ = ["SafeCheckpointIO", "checkpoint_callbacks"]


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a checkpoint is whole or not there."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint of tensors and plain values; never anything else."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded


def checkpoint_callbacks(
    folder: Path, monitor: str, mode: Literal["max", "min"] = "max"
) -> tuple[ModelCheckpoint, ModelCheckpoint]:
    """The checkpoints of a run: ``best.ckpt`` by `monitor`, and ``last.ckpt``.

    Both are written at the end of an epoch, the last one after the best one.
    """
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=monitor,
        mode=mode,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return best, last
