"""Disentangling: a flow learns from pairs which of its dimensions belong to which factor.

Source: Esser, Rombach, Ommer, "A Disentangling Invertible Interpretation Network for Explaining
Latent Representations", CVPR 2020 (arXiv 2004.13166), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from coala_latent.data.latent_pairs import LatentBatch, PairBatch
from coala_latent.errors import ConfigError
from coala_latent.models.flows import FactorFlow, FactorSpec
from coala_latent.training.objective import Objective, OptimizerFactory, SchedulerFactory
from coala_latent.training.pair_losses import (
    JointPairLoss,
    MixturePairLoss,
    MixturePrior,
    PairLoss,
    WeightedPairLoss,
)

__all__ = [
    "Disentangling",
    "PairLossFactory",
    "explained_by_class",
    "likeness_loss",
    "mixture_loss",
]

PairLossFactory = Callable[[FactorSpec], PairLoss]

_PAIRS = 0


class Disentangling(Objective):
    """Likelihood of pairs that share some factors.

    Both rows of a pair go through the flow in one pass. What is logged on the validation part:

    - ``validation/total``, the loss. Most of it is the density of the residual, which a flow soon
      learns by heart where rows are few, long before the factors are apart.
    - ``validation/likeness``, which chooses the best weights: how well the factors' blocks tell
      alike from unlike pairs, see `likeness_loss`.
    - ``validation/error`` (and ``train/error``): the loss's standard error over batches.
    - ``validation/eta2_FACTOR_in_BLOCK``: the share of every block's variance that every factor's
      classes explain, over all rows. Near 1 in the own block and near 0 elsewhere is wanted.

    Args:
        model: In training.
        optimizer: See `Objective`.
        scheduler: See `Objective`.
        loss: Makes the loss of pairs from the model's blocks; by default `JointPairLoss`.
        noise: Standard deviation of normal noise that is added to training rows, so that a flow
            cannot learn single rows by heart. Latents have a standard deviation of 1.

    Raises:
        ConfigError: `noise` is below 0.
    """

    monitor: ClassVar[str] = "validation/likeness"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    model: FactorFlow

    def __init__(
        self,
        model: FactorFlow,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        loss: PairLossFactory = JointPairLoss,
        noise: float = 0.0,
    ) -> None:
        super().__init__(model, optimizer, scheduler)
        if not 0 <= noise < float("inf"):
            raise ConfigError(f"noise={noise}: use 0 (none) or a number above")
        self.noise = noise
        self.loss = loss(model.spec)
        self._rows: list[tuple[Tensor, Tensor]] = []
        self._losses: dict[str, list[Tensor]] = {"train": [], "validation": []}

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks ``(n, dim)`` and log-determinants ``(n,)``, in float32 whatever the precision."""
        # The inverse of a flow in half precision would be none.
        with torch.autocast(x.device.type, enabled=False):
            z, log_det = self.model(x.float())
        return z, log_det

    def pair_loss(self, batch: PairBatch) -> Tensor:
        """Mean loss of the pairs, float32."""
        return self._loss_and_blocks(batch)[0]

    def _loss_and_blocks(self, batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.cat([batch.a, batch.b])
        if self.training and self.noise:
            x = x + self.noise * torch.randn_like(x)
        z, log_det = self.transform(x)
        (z_a, z_b), (a, b) = z.chunk(2), log_det.chunk(2)
        with torch.autocast(z.device.type, enabled=False):
            loss: Tensor = self.loss(z_a, z_b, batch.alike, a, b)
        return loss, z_a, z_b

    def training_step(self, batch: PairBatch, index: int) -> Tensor:
        """Loss of one batch."""
        loss = self.pair_loss(batch)
        self.log(
            "train/total",
            loss,
            on_step=False,
            on_epoch=True,
            batch_size=len(batch.a),
            sync_dist=True,
        )
        self._losses["train"].append(loss.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the standard error of the loss."""
        self._log_error("train")

    def _log_error(self, part: str) -> None:
        """Of the mean over batches, and forget them."""
        losses = torch.stack(self._losses[part])
        self._losses[part].clear()
        if len(losses) > 1:
            self.log(f"{part}/error", losses.std() / math.sqrt(len(losses)), sync_dist=True)

    def validation_step(
        self, batch: PairBatch | LatentBatch, index: int, dataloader_idx: int = _PAIRS
    ) -> None:
        """Loss of a batch of pairs, or what the explained variance needs of a batch of rows."""
        if isinstance(batch, PairBatch):
            loss, a, b = self._loss_and_blocks(batch)
            told = likeness_loss(a, b, batch.alike, self.model.spec)
            self._losses["validation"].append(loss)
            for name, value in (("total", loss), ("likeness", told)):
                self.log(
                    f"validation/{name}",
                    value,
                    batch_size=len(batch.a),
                    prog_bar=name == "likeness",
                    sync_dist=True,
                    add_dataloader_idx=False,
                )
        else:
            z, _ = self.transform(batch.values)
            self._rows.append((z.cpu(), batch.labels.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log how much of each block each factor explains."""
        if self._losses["validation"]:
            self._log_error("validation")
        if not self._rows:
            return
        z, labels = (torch.cat(part) for part in zip(*self._rows, strict=True))
        self._rows.clear()
        blocks = self.model.spec.slices
        for column, factor in enumerate(self.model.spec.factors):
            for block, share in explained_by_class(z, labels[:, column], blocks).items():
                self.log(f"validation/eta2_{factor}_in_{block}", share, sync_dist=True)


def mixture_loss(
    spec: FactorSpec,
    modes: Mapping[str, Sequence[float]],
    sigma: float = 0.99,
    scale: float = 1.0,
    weighted: bool = False,
) -> MixturePairLoss:
    """Loss of pairs whose factors follow mixtures of normals, a mode for each class.

    Args:
        spec: Blocks of the flow.
        modes: See `MixturePrior`, like `scale`.
        sigma: Correlation of alike pairs.
        scale: Standard deviation of a mode.
        weighted: `WeightedPairLoss`, as the original, instead of `JointPairLoss`.
    """
    loss = WeightedPairLoss(spec, sigma) if weighted else JointPairLoss(spec, sigma)
    return MixturePairLoss(MixturePrior(spec, modes, scale), loss)


def likeness_loss(
    a: Tensor, b: Tensor, alike: Tensor, spec: FactorSpec, sigma: float = 0.9
) -> Tensor:
    """How badly the blocks tell whether pairs are alike, in nats.

    The likelihood ratio of a block under correlation `sigma` and under none is taken as the logit
    of "alike in this factor"; its binary cross-entropy, with alike and unlike pairs counting one
    half each, is averaged over factors. A block that says nothing has ``ln 2``. Unlike the loss,
    this does not depend on the residual, and it punishes a block that follows another factor.

    Args:
        a: Outputs of the flow ``(n, size)``.
        b: Outputs ``(n, size)``.
        alike: ``(n, factors)`` bool.
        spec: Blocks of the outputs.
        sigma: Correlation of alike pairs.

    Returns:
        A scalar. Factors in which all pairs, or none, are alike are left out; 0 without others.
    """
    found = []
    for column, factor in enumerate(spec.factors):
        place, wanted = spec.slices[factor], alike[:, column]
        if wanted.all() or not wanted.any():
            continue
        x, y = a[:, place].double(), b[:, place].double()
        free = 1 - sigma**2
        ratio = y.square() - (y - sigma * x).square() / free - math.log(free)
        loss = F.softplus(torch.where(wanted, -1.0, 1.0) * ratio.sum(1) / 2)
        found.append((loss[wanted].mean() + loss[~wanted].mean()) / 2)
    return torch.stack(found).mean().float() if found else a.new_zeros(())


def explained_by_class(z: Tensor, label: Tensor, blocks: Mapping[str, slice]) -> dict[str, float]:
    """Eta squared of each block: trace of the scatter between classes over that of all.

    Args:
        z: ``(n, dim)``.
        label: ``(n,)`` int64.
        blocks: Where each block lies.

    Returns:
        A number from 0 to 1 by block; 0 where a block does not vary.
    """
    values = z.double()
    values = values - values.mean(0)
    classes, which = label.unique(return_inverse=True)
    counts = which.bincount(minlength=len(classes)).double()
    sums = values.new_zeros(len(classes), values.shape[1])
    sums.index_add_(0, which, values)
    between, total = (sums.square() / counts[:, None]).sum(0), values.square().sum(0)
    return {
        name: float(between[place].sum() / total[place].sum().clamp(min=1e-30))
        for name, place in blocks.items()
    }
