"""Steps of Adam of many concept vectors, which know nothing of each other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from coala_latent.data.concept_samples import ConceptSampler
from coala_latent.errors import ConfigError

__all__ = ["ConceptSettings", "ConceptSteps"]

_BETAS = (0.9, 0.999)
_EPS = 1e-7  # Keras'
# Bytes of samples at a time: what stays in a processor's cache, what fills an accelerator.
_CHUNK_BYTES = {"cpu": 2 << 20, "cuda": 256 << 20}
# Fewer concepts than this are not worth a thread of their own.
_LEAST_OF_THREAD = 16


@dataclass(frozen=True)
class ConceptSettings:
    """How concept vectors are trained.

    Attributes:
        epochs: At most.
        steps: In an epoch.
        batch_size: Samples of each concept in a step, half of them positive.
        learning_rate: Adam's.
        dropout: Share of an embedding's values that are left out of a sample, the same values of
            the n-th samples of all concepts.
        l1: Weight of the sum of the vector's magnitudes, of scaled embeddings.
        l2: Weight of the sum of its squares.
        patience: Epochs without a better validation loss that end a concept's training.
        plateau: Those that lower its learning rate.
        factor: Of the learning rate, each time.
        min_rate: Lowest learning rate.
        least: By how much a loss must be below the best to count as better.
        crop: Neighbouring rows of a recording that make a sample, as their mean.
        validation_rows: At most, of each validation recording.
        standardise: Train on values of mean 0 and deviation 1; the vectors are for the embeddings
            as they are all the same.
        seed: Of samples and dropout.

    Raises:
        ConfigError: A value does not make sense.
    """

    epochs: int = 100
    steps: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    dropout: float = 0.25
    l1: float = 0.0
    l2: float = 0.0
    patience: int = 10
    plateau: int = 5
    factor: float = 0.1
    min_rate: float = 1e-6
    least: float = 1e-4
    crop: int = 1
    validation_rows: int = 8
    standardise: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "patience", "plateau", "crop", "validation_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: use 1 or more")
        if self.batch_size < 2 or self.batch_size % 2:
            raise ConfigError(f"batch_size={self.batch_size}: use an even number of 2 or more")
        if not 0 <= self.dropout < 1 or not 0 < self.factor <= 1:
            raise ConfigError(
                f"dropout={self.dropout}, factor={self.factor}: use numbers from 0 to below 1, and "
                "above 0 up to 1"
            )
        for name in ("learning_rate", "min_rate", "l1", "l2", "least"):
            value = getattr(self, name)
            if not 0 <= value < float("inf") or (name == "learning_rate" and value == 0):
                raise ConfigError(f"{name}={value}: use a number from 0 on (rate: above 0)")


class ConceptSteps:
    """Takes steps.

    On a CPU each thread takes some of the concepts through a whole epoch by itself. torch's own
    threads would meet after each of the many small operations of a step, which on a busy machine
    costs several times the work.

    Args:
        sampler: Of the heads' samples.
        values: ``(rows, dim)``, embeddings on the device that trains.
        settings: See there.
    """

    def __init__(self, sampler: ConceptSampler, values: Tensor, settings: ConceptSettings) -> None:
        self._sampler = sampler
        self._values = values
        self._settings = settings

    def run(self, live: Sequence[Tensor], heads: Tensor, rate: Tensor, first: int) -> None:
        """Take the steps of an epoch.

        Args:
            live: Vectors with biases, and Adam's two moments of them, ``(n, dim + 1)`` each; they
                are changed in place.
            heads: ``(n,)`` int64, which of the sampler's heads they are.
            rate: ``(n,)`` float64, on the CPU, learning rates.
            first: Number of the epoch's first step.
        """
        cores, stopped = torch.get_num_threads(), threading.Event()
        count = min(cores, len(heads) // _LEAST_OF_THREAD) if heads.device.type == "cpu" else 1
        bounds = np.linspace(0, len(heads), max(1, count) + 1).astype(int).tolist()
        rates = rate.to(heads.device).float()

        def work(part: slice) -> None:
            views = [each[part] for each in live]
            for step in range(first, first + self._settings.steps):
                if stopped.is_set():
                    return
                self._step(views, heads[part], rates[part], step)

        parts = [slice(*ends) for ends in pairwise(bounds)]
        if len(parts) == 1:
            work(parts[0])
            return
        pool = ThreadPoolExecutor(len(parts), thread_name_prefix="concepts", initializer=_one_core)
        try:
            for done in [pool.submit(work, part) for part in parts]:
                done.result()
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)

    @torch.no_grad()
    def _step(self, live: Sequence[Tensor], heads: Tensor, rate: Tensor, step: int) -> None:
        settings = self._settings
        state, moment, square = live
        rows = self._sampler.draw(heads, step, settings.batch_size)
        mask = self._dropout(step)
        gradient = torch.empty_like(state)
        size = settings.batch_size * self._values.shape[1] * 4
        chunk = max(1, _CHUNK_BYTES.get(heads.device.type, 32 << 20) // size)
        for begin in range(0, len(rows), chunk):
            part = slice(begin, begin + chunk)
            gradient[part] = self._gradient(state[part], rows[part], mask)
        weight = state[:, :-1]
        if settings.l1:
            gradient[:, :-1] += settings.l1 * weight.sign()
        if settings.l2:
            gradient[:, :-1] += 2 * settings.l2 * weight
        moment.lerp_(gradient, 1 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        # All concepts begin together, so that one count serves the corrections of all.
        root = (square / (1 - _BETAS[1] ** (step + 1))).sqrt_().add_(_EPS)
        state.sub_(rate[:, None] / (1 - _BETAS[0] ** (step + 1)) * moment / root)

    def _gradient(self, state: Tensor, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Of the mean cross-entropy by vector and bias, ``(heads, dim + 1)``."""
        heads, batch, crop = rows.shape
        x = self._values.index_select(0, rows.flatten()).view(heads, batch, crop, -1)
        x = x.mean(2) if crop > 1 else x[:, :, 0]
        if mask is not None:
            x.mul_(mask)
        # A row by a matrix: the product of a matrix and a column is many times as slow on CPUs.
        logits = torch.bmm(state[:, None, :-1], x.transpose(1, 2)).squeeze(1)
        error = torch.sigmoid(logits + state[:, -1:])
        error[:, : batch // 2] -= 1
        error /= batch
        weight = torch.bmm(error[:, None], x).squeeze(1)
        return torch.cat([weight, error.sum(1, keepdim=True)], dim=1)

    def _dropout(self, step: int) -> Tensor | None:
        """What samples are multiplied by, ``(batch, dim)``; None without dropout."""
        share = self._settings.dropout
        if not share:
            return None
        device = self._values.device
        seed = int(np.random.SeedSequence([self._settings.seed, step]).generate_state(1)[0])
        generator = torch.Generator(device).manual_seed(seed)
        shape = (self._settings.batch_size, self._values.shape[1])
        return (torch.rand(shape, generator=generator, device=device) >= share) / (1 - share)


def _one_core() -> None:
    torch.get_num_threads()  # the first question in a thread sets its number
    torch.set_num_threads(1)
