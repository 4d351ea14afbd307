"""Tagging: the supervised baseline of the COALA paper."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from coala_latent.data.spectrograms import PatchBatch
from coala_latent.models.coala import CoalaTagger
from coala_latent.training.augment import PatchAugment
from coala_latent.training.losses import tag_bce
from coala_latent.training.metrics import clip_means, tag_average_precision
from coala_latent.training.objective import (
    Examples,
    OptimizerFactory,
    PatchObjective,
    SchedulerFactory,
)

__all__ = ["CoalaTagging"]


class CoalaTagging(PatchObjective):
    """Binary cross-entropy of a sound's tags.

    After each epoch the mean average precision over tags is logged, a clip being the mean of its
    patches' logits.

    Args:
        model: In training.
        optimizer: See `Objective`.
        scheduler: See `Objective`.
        augment: See `PatchObjective`.
    """

    monitor: ClassVar[str] = "validation/tag_map"
    model: CoalaTagger

    def __init__(
        self,
        model: CoalaTagger,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        augment: PatchAugment | None = None,
    ) -> None:
        super().__init__(model, optimizer, scheduler, augment)
        self._clips: list[tuple[Tensor, Tensor, Tensor]] = []
        self._tags: dict[int, Tensor] = {}

    def training_step(self, batch: PatchBatch, index: int) -> Tensor:
        """Loss of one batch."""
        _, logits = self.model(self.inputs(batch)[0])
        loss = tag_bce(logits, batch.tags)
        self.log(
            "train/total",
            loss,
            on_step=False,
            on_epoch=True,
            batch_size=len(batch.clip),
            sync_dist=True,
        )
        return loss

    def validation_step(self, batch: PatchBatch, index: int) -> None:
        """Loss of one batch, and what the average precision needs of it."""
        _, logits = self.model(self.inputs(batch)[0])
        loss = tag_bce(logits, batch.tags)
        self.log("validation/total", loss, batch_size=len(batch.clip), sync_dist=True)
        heard = batch.mask.float().mean(1)
        self._clips.append((logits.float().cpu(), batch.clip.cpu(), heard.cpu()))
        self._tags.update(zip(batch.clip.tolist(), batch.tags.cpu(), strict=True))

    def examples(self, batch: PatchBatch) -> Examples:
        """Patches and the tags that the network gives them."""
        heard, _ = self.inputs(batch)
        _, logits = self.model(heard)
        unit = self.front_end.unit(heard)[:, 0].float()
        return Examples(unit, None, {"heard": logits.float().sigmoid()})

    def on_validation_epoch_end(self) -> None:
        """Log the mean average precision on the whole validation set."""
        rows, clip, heard = (torch.cat(part) for part in zip(*self._clips, strict=True))
        present, scores = clip_means(rows, clip, heard)
        tags = torch.stack([self._tags[number] for number in present.tolist()])
        self.log(
            "validation/tag_map", tag_average_precision(scores, tags), prog_bar=True, sync_dist=True
        )
        self._clips.clear()
        self._tags.clear()
