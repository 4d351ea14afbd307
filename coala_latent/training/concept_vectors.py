"""Training of concept vectors, all concepts at once.

Paper: Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
(arXiv 2207.11231); see `coala_latent.models.concepts`.

A concept's vector depends on no other concept's: each has its own samples, its own learning rate,
its own best step and its own end. That is why this is a plain loop and no Lightning module.
Lightning's trainer ends, checkpoints and lowers rates for the module as a whole, while here
concepts leave the training one by one and the arrays shrink; what its loop could still do, calling
a step, costs more than the step of these small models. All randomness follows from the seed, a
concept's name and the step's number, so that a run goes on from `state` as if it had not ended;
only dropout differs between kinds of devices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from coala_latent.data.concept_samples import ConceptSampler, RecordingRows, stream_keys
from coala_latent.data.concept_splits import ConceptSplit
from coala_latent.data.concept_tables import IntArray
from coala_latent.errors import ConfigError
from coala_latent.training.concept_steps import ConceptSettings, ConceptSteps
from coala_latent.training.concept_validation import ConceptValidation

__all__ = ["ConceptEpoch", "ConceptSettings", "ConceptTraining"]

# Values that scatter less than this share of the widest ones say nothing: dead filters.
_LEAST_SCATTER = 1e-6


@dataclass(frozen=True)
class ConceptEpoch:
    """What an epoch came to.

    Attributes:
        epoch: From 1 on.
        active: Concepts that were trained in it.
        ended: Concepts that ended with it.
        loss: Mean of the best validation losses of all concepts so far.
    """

    epoch: int
    active: int
    ended: int
    loss: float


class ConceptTraining:
    """Logistic regressions of many concepts with Adam, each as if it were trained alone.

    What is lowest is the binary cross-entropy of as many positives as negatives. After every epoch
    the validation loss decides on rates and ends, as Keras' ``ReduceLROnPlateau`` and
    ``EarlyStopping`` do; the best vector is kept.

    Args:
        rows: Embeddings of the table's recordings.
        split: Its parts; every concept needs positives and negatives in training and validation.
        settings: See there.
        replicas: How often each concept is trained once more on a bootstrap resample of its
            training recordings and of the others, to see how stable its vector is.
        device: Where to train.

    Attributes:
        names: Of the concepts.
        epoch: How many were made.

    Raises:
        ConfigError: There are no concepts.
        DataError: A concept lacks positives or negatives.
    """

    def __init__(
        self,
        rows: RecordingRows,
        split: ConceptSplit,
        settings: ConceptSettings,
        *,
        replicas: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.names = split.table.concepts
        if not self.names or replicas < 0:
            raise ConfigError(f"{len(self.names)} concepts, {replicas} replicas: nothing to train")
        self.settings = settings
        self.device = torch.device(device)
        self.epoch = 0
        copies = 1 + replicas
        self.concept = np.tile(np.arange(len(self.names)), copies)
        sampler = ConceptSampler(
            split,
            "train",
            rows,
            concept=self.concept,
            keys=_keys(self.names, settings.seed, "samples", copies),
            resampled=_resamples(self.names, settings.seed, copies),
            crop=settings.crop,
            device=self.device,
        )
        values = torch.as_tensor(rows.values, dtype=torch.float32, device=self.device)
        self._shift, self._scale = self._scaling(split, rows)
        if settings.standardise:
            values = (values - self._shift).mul_(self._scale)
        self._rows = len(values)
        self._steps = ConceptSteps(sampler, values, settings)
        self._validation = ConceptValidation(
            split, rows, values, settings.validation_rows, settings.seed
        )
        self._start(len(self.concept), rows.dim)

    def _start(self, heads: int, dim: int) -> None:
        """Every vector at 0, which makes the first step the same for whatever scale."""
        device = self.device
        self._heads = torch.arange(heads, device=self.device)
        # Vector and bias of the concepts in training, then Adam's moments of these.
        self._live = [torch.zeros(heads, dim + 1, device=device) for _ in range(3)]
        self._rate = torch.full((heads,), self.settings.learning_rate, dtype=torch.float64)
        # What is better than the best by `least`, and for how many epochs nothing was.
        self._mark = torch.full((heads,), float("inf"), dtype=torch.float64)
        self._waited = torch.zeros(heads, dtype=torch.int64)
        self._flat = torch.zeros(heads, dtype=torch.int64)
        # Of all heads, also of those that have ended.
        self._best = torch.zeros(heads, dim + 1, device=device)
        self._best_loss = torch.full((heads,), float("inf"), dtype=torch.float64)
        self._best_epoch = torch.zeros(heads, dtype=torch.int64)

    def _scaling(self, split: ConceptSplit, rows: RecordingRows) -> tuple[Tensor, Tensor]:
        """Mean and inverse deviation of the training recordings' rows.

        Of all recordings, where each concept has training recordings of its own.
        """
        inside = np.full(len(rows.counts), split.part is None)
        inside[split.recordings("train")] = True
        mask = np.repeat(inside, rows.counts)
        total, square = np.zeros(rows.dim), np.zeros(rows.dim)
        for begin in range(0, len(mask), 1 << 14):
            block = rows.values[begin : begin + (1 << 14)][mask[begin : begin + (1 << 14)]]
            total += block.sum(axis=0, dtype=np.float64)
        mean = total / mask.sum()
        for begin in range(0, len(mask), 1 << 14):
            block = rows.values[begin : begin + (1 << 14)][mask[begin : begin + (1 << 14)]]
            square += np.square(block - mean).sum(axis=0)
        deviation = np.sqrt(square / mask.sum())
        dead = deviation <= _LEAST_SCATTER * deviation.max()
        scale = np.where(dead, 0.0, 1 / np.where(dead, 1.0, deviation))
        return (
            torch.as_tensor(mean, dtype=torch.float32, device=self.device),
            torch.as_tensor(scale, dtype=torch.float32, device=self.device),
        )

    @property
    def finished(self) -> bool:
        """Whether no concept is in training any more."""
        return not len(self._heads) or self.epoch >= self.settings.epochs

    def run_epoch(self) -> ConceptEpoch:
        """Train all concepts that have not ended for one epoch, then judge them."""
        active = len(self._heads)
        self._steps.run(self._live, self._heads, self._rate, self.epoch * self.settings.steps)
        self.epoch += 1
        ended = self._judge()
        return ConceptEpoch(self.epoch, active, ended, float(self._best_loss.mean()))

    @torch.no_grad()
    def _judge(self) -> int:
        """Keep better vectors, lower rates, and let go of concepts that have ended."""
        settings, heads = self.settings, self._heads.cpu()
        state = self._live[0]
        concept = torch.as_tensor(self.concept)[heads]
        loss = self._validation.losses(state[:, :-1], state[:, -1], concept)
        better = loss < self._best_loss[heads]
        improved = heads[better]
        self._best[improved.to(self.device)] = state[better.to(self.device)]
        self._best_loss[improved] = loss[better]
        self._best_epoch[improved] = self.epoch
        clear = loss < self._mark - settings.least
        self._mark = torch.where(clear, loss, self._mark)
        self._waited = torch.where(clear, 0, self._waited + 1)
        self._flat = torch.where(clear, 0, self._flat + 1)
        lower = self._flat >= settings.plateau
        self._rate[lower] = (self._rate[lower] * settings.factor).clamp(min=settings.min_rate)
        self._flat[lower] = 0
        ended = self._waited >= settings.patience
        if ended.any():
            self._retain(~ended)
        return int(ended.sum())

    def _retain(self, going: Tensor) -> None:
        """Go on with these concepts alone."""
        there = going.to(self.device)
        self._heads = self._heads[there]
        self._live = [each[there] for each in self._live]
        for name in ("_rate", "_mark", "_waited", "_flat"):
            setattr(self, name, getattr(self, name)[going])

    def vectors(self) -> tuple[Tensor, Tensor]:
        """The best vectors so far, for embeddings as they are.

        Returns:
            ``(copies, concepts, dim)`` and ``(copies, concepts)`` float32 on the CPU: first those
            of all recordings, then those of each bootstrap resample.
        """
        weight, bias = self._best[:, :-1].double(), self._best[:, -1].double()
        if self.settings.standardise:
            weight = weight * self._scale.double()
            bias = bias - weight @ self._shift.double()
        copies = len(self.concept) // len(self.names)
        shape = (copies, len(self.names))
        return weight.float().cpu().view(*shape, -1), bias.float().cpu().view(shape)

    def losses(self) -> tuple[np.ndarray[Any, Any], IntArray]:
        """Best validation loss of each concept ``(concepts,)``, and the epoch it was reached in."""
        count = len(self.names)
        return self._best_loss[:count].numpy().copy(), self._best_epoch[:count].numpy().copy()

    def state(self) -> dict[str, Tensor]:
        """All that a run needs to go on, at the end of an epoch."""
        return {
            "epoch": torch.tensor(self.epoch),
            "identity": torch.from_numpy(self._identity()),
            "heads": self._heads.cpu(),
            **{f"live.{number}": each.cpu() for number, each in enumerate(self._live)},
            **{name: getattr(self, f"_{name}").cpu() for name in _KEPT},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state` of the same concepts, embeddings and seed.

        Raises:
            ConfigError: It is another training's.
        """
        identity = state.get("identity")
        if identity is None or not torch.equal(identity, torch.from_numpy(self._identity())):
            raise ConfigError(
                "the training's state is one of other concepts, embeddings or seeds "
                "(start anew with resume=no, or use another folder)"
            )
        self.epoch = int(state["epoch"])
        self._heads = state["heads"].to(self.device)
        self._live = [state[f"live.{number}"].to(self.device) for number in range(3)]
        for name in _KEPT:
            place = self.device if name == "best" else "cpu"
            setattr(self, f"_{name}", state[name].to(place))

    def _identity(self) -> np.ndarray[Any, Any]:
        words = [*self.names, str(len(self.concept)), str((self._rows, self._best.shape[1] - 1))]
        words.append(repr(self.settings))
        text = "\0".join(words).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(text + self._shift.cpu().numpy().tobytes()).digest()
        return np.frombuffer(digest, np.uint8).copy()


# Besides the parameters in training, what `state` keeps.
_KEPT = ("rate", "mark", "waited", "flat", "best", "best_loss", "best_epoch")


def _keys(names: tuple[str, ...], seed: int, purpose: str, copies: int) -> IntArray:
    found = [stream_keys(names, seed, f"{purpose} {copy}") for copy in range(copies)]
    return np.concatenate(found)


def _resamples(names: tuple[str, ...], seed: int, copies: int) -> IntArray | None:
    if copies == 1:
        return None
    keys = _keys(names, seed, "resample", copies)
    keys[: len(names)] = 0
    return keys
