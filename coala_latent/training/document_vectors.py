"""Training of document vectors, whose batches are drawn on the device.

Source: sound-eval (B. Black, https://github.com/benblack769/sound-eval); see
`coala_latent.models.doc2vec`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from coala_latent.data.frame_pairs import FramePairs, PairBatch
from coala_latent.errors import ConfigError
from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.training.objective import Objective

__all__ = ["DocumentSteps", "DocumentVectors", "EpochReport", "Flattening", "pair_auc"]

_HELD_OUT_PAIRS = 4096


@dataclass(frozen=True)
class DocumentSteps:
    """How document vectors are trained.

    Attributes:
        learning_rate: Adam's, of the networks; of a `compat` model everything's.
        document_rate: Adam's, of the document vectors, which fewer steps concern.
        negatives: Frames of other recordings that a frame's neighbour is told from; fewer where
            some of them are of the same recording. `compat` has one for each two pairs.
        word_dropout: See `Doc2Vec.loss`, like `prior`.
        prior: Of the document vectors.
        steps: In an epoch.
        block: Steps that are drawn at a time, and between which a run can be stopped.
        seed: Of the pairs.

    Raises:
        ConfigError: A value does not make sense.
    """

    learning_rate: float = 1e-3
    document_rate: float = 3e-2
    negatives: int = 15
    word_dropout: float = 0.5
    prior: float = 0.0
    steps: int = 1000
    block: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.document_rate > 0 and self.prior >= 0):
            raise ConfigError(
                f"learning_rate={self.learning_rate}, document_rate={self.document_rate}, "
                f"prior={self.prior}: use numbers above 0 (prior: or 0)"
            )
        if not 0 <= self.word_dropout <= 1:
            raise ConfigError(f"word_dropout={self.word_dropout}: use a number from 0 to 1")
        if min(self.negatives, self.steps, self.block) < 1:
            raise ConfigError(
                f"negatives={self.negatives}, steps={self.steps}, block={self.block}: use 1 or more"
            )


@dataclass
class Flattening:
    """Lowers the learning rate whenever a loss has become flat, and says when to end.

    Attributes:
        patience: Epochs without improvement that make it flat; None: it never is.
        least: Share of the best loss by which a better one must be below it.
        factor: Of the learning rates, each time.
        cuts: How often they are lowered before the end.
        best: Lowest loss so far.
        waited: Epochs since.
        made: How often they have been lowered.
    """

    patience: int | None = 3
    least: float = 1e-3
    factor: float = 0.3
    cuts: int = 2
    best: float = float("inf")
    waited: int = 0
    made: int = 0

    @property
    def rate(self) -> float:
        """Share of the first learning rates."""
        return float(self.factor ** min(self.made, self.cuts))

    @property
    def ended(self) -> bool:
        """Whether the loss was flat with the lowest rate too."""
        return self.made > self.cuts

    def update(self, loss: float) -> None:
        """Take an epoch's loss into account; `waited` is 0 after a better one or a cut."""
        if loss < self.best * (1 - self.least):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            self.made, self.waited = self.made + 1, 0


@dataclass(frozen=True)
class EpochReport:
    """What an epoch, or the part of it before a stop, came to.

    Attributes:
        step: Steps of the whole run.
        loss: Mean over the epoch's batches.
        held_out_loss: Of pairs whose frames are not trained on; None without such.
        auc: Area under the ROC curve of telling neighbours among these.
        complete: Whether the epoch has ended.
    """

    step: int
    loss: float
    held_out_loss: float | None
    auc: float | None
    complete: bool


class _Blocks(IterableDataset[int]):
    """Numbers of steps until the epoch ends."""

    def __init__(self, objective: DocumentVectors) -> None:
        self._objective = objective

    def __iter__(self) -> Iterator[int]:
        settings = self._objective.settings
        left = settings.steps - self._objective.steps_done % settings.steps
        while left > 0:
            yield min(settings.block, left)
            left -= settings.block


class DocumentVectors(Objective):
    """Tells neighbours of frames from frames of elsewhere.

    A batch of Lightning's is a *block* of many steps, because its own work would otherwise take
    longer than these small networks. Adam of a `compat` model updates all rows of the document
    table at every step, as the original's; otherwise only those of the batch.

    Args:
        model: In training.
        pairs: Where batches come from.
        settings: See there.
        held_out: Pairs that are not trained on; None for none.
        flattening: Of the held-out pairs' loss, or without such the epochs' mean loss.

    Where pairs are held out, the weights that judge them best are kept, and training goes back to
    them when it lowers its rates: small collections are soon learned by heart. Without such pairs,
    as in a `compat` model, the last weights count.

    Attributes:
        steps_done: Of the whole run.

    Raises:
        ConfigError: The batch is no multiple of ``negatives + 1``, or all frames are of one
            recording, so that there are no negatives.
    """

    monitor: ClassVar[str] = "validation/loss"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    model: Doc2Vec

    def __init__(
        self,
        model: Doc2Vec,
        pairs: FramePairs,
        settings: DocumentSteps,
        held_out: FramePairs | None = None,
        flattening: Flattening | None = None,
    ) -> None:
        super().__init__(model, lambda groups: torch.optim.Adam(groups, lr=settings.learning_rate))
        group = settings.negatives + 1
        if not model.compat and pairs.batch_size % group:
            raise ConfigError(
                f"batch_size={pairs.batch_size}, negatives={settings.negatives}: the batch must be "
                f"a multiple of {group}, so that each pair has {settings.negatives} others"
            )
        if not model.compat and pairs.documents < 2:
            raise ConfigError(
                "one recording alone has no negatives, which are frames of others (add recordings, "
                "or use compat=true, which draws them from the recording itself)"
            )
        self.automatic_optimization = False
        self.pairs = pairs
        self.settings = settings
        self.flattening = flattening or Flattening()
        self.steps_done = 0
        # One recording alone has nothing to be told from.
        self._held_out = held_out if held_out is not None and held_out.documents > 1 else None
        self._sum: Tensor | float = 0.0
        # Steps, weights and optimisers of the best judged epoch.
        self._best: dict[str, Any] | None = None
        self._restored: dict[str, Any] | None = None
        self._generator: torch.Generator | None = None

    @property
    def samplers(self) -> list[FramePairs]:
        """What must be moved to the device that trains."""
        return [self.pairs] if self._held_out is None else [self.pairs, self._held_out]

    def configure_optimizers(self) -> Any:
        """Adam of everything (`compat`), or of the networks and lazily of the documents."""
        settings = self.settings
        if self.model.compat:
            made: list[Any] = [torch.optim.Adam(self.model.parameters(), settings.learning_rate)]
        else:
            table = self.model.documents
            networks = [each for each in self.model.parameters() if each is not table]
            made = [
                torch.optim.Adam(networks, settings.learning_rate),
                torch.optim.SparseAdam([table], settings.document_rate),
            ]
        if self._restored is not None:
            for optimizer, state in zip(made, self._restored["current"]["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        return made

    def train_dataloader(self) -> DataLoader[int]:
        """Blocks of steps, to the end of the epoch."""
        return DataLoader(_Blocks(self), batch_size=None)

    def on_fit_start(self) -> None:
        """Put the generator on the device, in the state it had."""
        restored = self._restored
        self._generator = torch.Generator(self.device)
        if restored is None:
            self._generator.manual_seed(self.settings.seed)
            return
        if restored["device"] != self.device.type:
            raise ConfigError(
                f"the run was on {restored['device']}, whose random numbers {self.device.type} "
                f"does not have (go on with accelerator={restored['device']})"
            )
        self._generator.set_state(restored["generator"])

    def on_train_epoch_start(self) -> None:
        """Set the learning rates."""
        rates = (self.settings.learning_rate, self.settings.document_rate)
        for optimizer, rate in zip(self._optimizers(), rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * self.flattening.rate

    def _optimizers(self) -> list[Any]:
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def step_loss(self, batch: PairBatch) -> Tensor:
        """Loss of one batch, with the prior."""
        if self.model.compat:
            return self.model.original_loss(*batch)
        settings = self.settings
        return self.model.loss(
            *batch,
            group=settings.negatives + 1,
            word_dropout=settings.word_dropout,
            prior=settings.prior,
        )

    def training_step(self, batch: int, index: int) -> None:
        """Some steps of the optimiser."""
        assert self._generator is not None
        optimizers = self._optimizers()
        drawn = self.pairs.draw(batch, self._generator)
        for step in range(batch):
            loss = self.step_loss(self.pairs.batch(drawn, step))
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in optimizers:
                optimizer.step()
            self._sum = self._sum + loss.detach().double()
        self.steps_done += batch

    def finish_epoch(self) -> EpochReport:
        """Judge what was trained since the last complete epoch; to be called once at its end."""
        within = self.steps_done % self.settings.steps or self.settings.steps
        mean, complete = float(self._sum) / within, within == self.settings.steps
        loss, auc = self.held_out_scores()
        if complete:
            cuts, best = self.flattening.made, self.flattening.best
            self.flattening.update(mean if loss is None else loss)
            if loss is not None and self.flattening.best < best:
                self._best = self._snapshot()
            elif self._best is not None and self.flattening.made > cuts:
                self.model.load_state_dict(self._best["model"])
                for optimizer, state in zip(
                    self._optimizers(), self._best["optimizers"], strict=True
                ):
                    # The optimiser keeps what it is given, and goes on changing it.
                    optimizer.load_state_dict(copy.deepcopy(state))
            self._sum = 0.0
        return EpochReport(self.steps_done, mean, loss, auc, complete)

    def _snapshot(self) -> dict[str, Any]:
        weights = {name: value.cpu().clone() for name, value in self.model.state_dict().items()}
        optimizers = [copy.deepcopy(each.state_dict()) for each in self._optimizers()]
        return {"steps": self.steps_done, "model": weights, "optimizers": optimizers}

    @torch.no_grad()
    def held_out_scores(self) -> tuple[float | None, float | None]:
        """Loss and AUC of the held-out pairs, always the same ones; None without such."""
        pairs, group = self._held_out, self.settings.negatives + 1
        if pairs is None:
            return None, None
        generator = torch.Generator(self.device).manual_seed(self.settings.seed + 1)
        drawn = pairs.draw(-(-_HELD_OUT_PAIRS // pairs.batch_size), generator)
        nears, fars = [], []
        for step in range(len(drawn.document)):
            batch = pairs.batch(drawn, step)
            near, far, other, _ = self.model.grouped_scores(
                *batch, group, self.settings.word_dropout
            )
            nears.append(near)
            fars.append(far[other])
        near, far = torch.cat(nears), torch.cat(fars)
        loss = (F.softplus(-near).mean() + F.softplus(far).mean()) / 2
        return float(loss), pair_auc(near, far)

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on as if it had not ended: tensors and plain values.

        ``model`` are the weights that count, of step ``steps``; ``current`` is where training is.
        """
        assert self._generator is not None
        current = self._snapshot()
        chosen = self._best or current
        return {
            "model": chosen["model"],
            "steps": chosen["steps"],
            "current": current,
            "best": self._best,
            "generator": self._generator.get_state(),
            "device": self.device.type,
            "sum": float(self._sum),
            "flattening": asdict(self.flattening),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state` when the training begins.

        What says when to end (`patience`, `least`, `factor`, `cuts`) stays as it is here.
        """
        self.model.load_state_dict(state["current"]["model"])
        self.steps_done = state["current"]["steps"]
        self._best = state["best"]
        self._sum = state["sum"]
        for name in ("best", "waited", "made"):
            setattr(self.flattening, name, state["flattening"][name])
        self._restored = dict(state)


def pair_auc(near: Tensor, far: Tensor) -> float | None:
    """Chance that a neighbour's score is above another pair's, equal ones counting half.

    Args:
        near: Scores of neighbours ``(n,)``.
        far: Of others ``(m,)``.

    Returns:
        From 0 to 1; None if either is empty.
    """
    if not len(near) or not len(far):
        return None
    ordered = far.sort().values
    below = torch.searchsorted(ordered, near, right=False)
    not_above = torch.searchsorted(ordered, near, right=True)
    return float((below + not_above).double().mean() / (2 * len(far)))
