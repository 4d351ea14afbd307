"""One class for each sound: fine-tuning SoundNet, or training its layers from scratch.

Source: Aytar, Vondrick, Torralba, "SoundNet: Learning Sound Representations from Unlabeled Video",
NeurIPS 2016 (arXiv 1610.09001), section 5, and its published code for the constants.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.data.labelled_waveforms import WaveformBatch
from coala_latent.errors import ConfigError
from coala_latent.models.layered import Layered
from coala_latent.training.metrics import clip_means
from coala_latent.training.objective import Objective, OptimizerFactory, SchedulerFactory

__all__ = ["Classification"]


class Classification(Objective):
    """Cross-entropy of a sound's class; a crop's logits are the mean over its steps.

    After each epoch ``validation/accuracy`` is logged, a clip's answer being the mean of the
    probabilities of all its crops.

    Args:
        model: In training: a ``front_end`` for waveforms, and a ``network`` with one output,
            ``(batch, classes, steps)``.
        optimizer: See `Objective`.
        scheduler: See `Objective`.
        trunk_rate: Learning rate of all below the output, as a share of the optimiser's; 1 as the
            original fine-tunes. With 0 the trunk is frozen, the statistics of its batch norms too.

    Raises:
        ConfigError: `trunk_rate` is not within [0, 1].
    """

    monitor: ClassVar[str] = "validation/accuracy"

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        trunk_rate: float = 1.0,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if not 0 <= trunk_rate <= 1:
            raise ConfigError(f"trunk_rate={trunk_rate}: use a number from 0 to 1")
        self.trunk_rate = trunk_rate
        (self.output,) = self.network.outputs
        if trunk_rate == 0:
            for part in self._trunk():
                part.requires_grad_(False)
                part.eval()
        self._clips: list[tuple[Tensor, Tensor]] = []
        self._labels: dict[int, int] = {}

    @property
    def network(self) -> Layered:
        """The model's network."""
        network = self.model.get_submodule("network")
        assert isinstance(network, Layered)
        return network

    def _trunk(self) -> list[nn.Module]:
        return [part for name, part in self.network.named_children() if name != self.output]

    def rate(self, name: str) -> float:
        """`trunk_rate` below the output, 1 in it."""
        return 1.0 if name.startswith(f"model.network.{self.output}.") else self.trunk_rate

    def train(self, mode: bool = True) -> Classification:
        """Training or evaluation mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if self.trunk_rate == 0:
            for part in self._trunk():
                part.eval()
        return self

    def logits(self, batch: WaveformBatch) -> Tensor:
        """``(batch, classes)``."""
        heard = self.model.get_submodule("front_end")(batch.waveform)
        return self.network.until(heard, self.output).float().mean(2)

    def training_step(self, batch: WaveformBatch, index: int) -> Tensor:
        """Loss of one batch."""
        logits = self.logits(batch)
        loss = F.cross_entropy(logits, batch.label)
        right = (logits.argmax(1) == batch.label).float().mean()
        for name, value in (("total", loss), ("accuracy", right)):
            self.log(
                f"train/{name}",
                value,
                on_step=False,
                on_epoch=True,
                batch_size=len(batch.clip),
                sync_dist=True,
            )
        return loss

    def validation_step(self, batch: WaveformBatch, index: int) -> None:
        """Loss of one batch, and what the accuracy needs of it."""
        logits = self.logits(batch)
        loss = F.cross_entropy(logits, batch.label)
        self.log("validation/total", loss, batch_size=len(batch.clip), sync_dist=True)
        self._clips.append((logits.softmax(1).cpu(), batch.clip.cpu()))
        self._labels.update(zip(batch.clip.tolist(), batch.label.tolist(), strict=True))

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy on whole clips."""
        rows, clip = (torch.cat(part) for part in zip(*self._clips, strict=True))
        present, answers = clip_means(rows, clip, torch.ones(len(rows)))
        labels = torch.tensor([self._labels[number] for number in present.tolist()])
        right = (answers.argmax(1) == labels).float().mean()
        self.log("validation/accuracy", right, prog_bar=True, sync_dist=True)
        self._clips.clear()
        self._labels.clear()
