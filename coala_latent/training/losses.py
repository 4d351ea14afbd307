"""Losses of co-aligned autoencoders.

Source: Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", 2020 (arXiv 2006.08386), section 2, and its published code for the
constants. Contrastive forms: Chen et al., "A Simple Framework for Contrastive Learning of Visual
Representations", 2020 (NT-Xent); Radford et al., "Learning Transferable Visual Models From Natural
Language Supervision", 2021 (CLIP's symmetric form); Zhai et al., "Sigmoid Loss for Language Image
Pre-Training", 2023 (SigLIP).

Everything is computed in float32 or better, whatever the inputs and autocast say.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import ConfigError

__all__ = [
    "AlignmentLoss",
    "ContrastiveLoss",
    "OriginalAlignment",
    "Positives",
    "SigmoidAlignment",
    "generalised_kl",
    "nt_xent_original",
    "tag_bce",
    "tag_overlap",
]

Positives = Literal["pair", "same_tags", "shared_tags"]

_EPS = 1e-5
# Rows below this length have no direction: they are compared as zero vectors, without gradient.
_MIN_NORM = 1e-6
_MIN_TEMPERATURE = 0.01


def generalised_kl(prediction: Tensor, target: Tensor) -> Tensor:
    """Generalised Kullback-Leibler divergence of two patches.

    ``sum_time x (ln(x + 1e-5) - ln(x^ + 1e-5)) + x^ - x``, averaged over everything but time.

    Args:
        prediction: ``x^``, ``(..., bands, time)``, >= 0.
        target: ``x``, the same shape, >= 0.

    Returns:
        Scalar, 0 where both are equal.
    """
    x, y = _exact(target), _exact(prediction)
    divergence = x * ((x + _EPS).log() - (y + _EPS).log()) + y - x
    return divergence.sum(-1).mean()


def tag_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over batch and tags.

    Args:
        logits: ``(batch, tags)``, before the sigmoid.
        targets: ``(batch, tags)``, 1 where a tag is present.
    """
    scores = _exact(logits)
    return F.binary_cross_entropy_with_logits(scores, targets.to(scores.dtype))


def nt_xent_original(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent of pairs as the original code has it, with its 1e-5 inside the logarithm.

    With ``c`` the cosines of the 2N rows of ``[a, b]``: the mean over rows of
    ``-ln(exp(c[i, pair] / T) / sum_{j != i} exp(c[i, j] / T) + 1e-5)``. The quotient is computed
    as a softmax, so low temperatures do not overflow; zero vectors have cosine 0.

    Args:
        a: ``(batch, dim)``.
        b: ``(batch, dim)``; row *i* belongs to row *i* of `a`.
        temperature: ``T`` > 0.
    """
    with torch.autocast(a.device.type, enabled=False):
        itself = torch.eye(2 * len(a), dtype=torch.bool, device=a.device)
        logits = (_cosines(a, b) / temperature).masked_fill(itself, -math.inf)
        share = logits.softmax(dim=1)
        pairs = torch.cat([share.diagonal(len(a)), share.diagonal(-len(a))])
        return -(pairs + _EPS).log().mean()


def tag_overlap(tags: Tensor, positives: Positives) -> Tensor:
    """How far the items of a batch are positives of each other.

    Args:
        tags: ``(batch, tags)`` multi-hot.
        positives: ``"pair"``: an item of itself alone, also where another has the same tags.
            ``"same_tags"``: all items with exactly the same tags. ``"shared_tags"``: all items
            that share a tag, by the share of common tags among all that either has (Jaccard).

    Returns:
        ``(batch, batch)`` float32 in [0, 1], symmetric, 1 on the diagonal.
    """
    if positives == "pair":
        return torch.eye(len(tags), device=tags.device)
    hot = tags.float()
    common = hot @ hot.T
    own = common.diagonal()
    together = own[:, None] + own[None] - common
    if positives == "same_tags":
        return (common == together).float()
    # Two items without tags have the same tags: none.
    return torch.where(together > 0, common / together.clamp(min=1.0), 1.0)


class ContrastiveLoss(nn.Module, ABC):
    """A loss of pairs of embeddings, by their cosines."""

    @property
    @abstractmethod
    def temperature(self) -> Tensor:
        """The temperature in use, a scalar."""

    @abstractmethod
    def forward(self, a: Tensor, b: Tensor, tags: Tensor) -> Tensor:
        """Loss of pairs.

        Args:
            a: ``(batch, dim)``.
            b: ``(batch, dim)``; row *i* belongs to row *i* of `a`.
            tags: ``(batch, tags)`` multi-hot, of both.

        Returns:
            A scalar.
        """


class OriginalAlignment(ContrastiveLoss):
    """`nt_xent_original` as a module; tags play no part.

    Args:
        temperature: The original's is 0.1.

    Raises:
        ConfigError: The temperature is too low.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.fixed_temperature = temperature

    @property
    def temperature(self) -> Tensor:
        """The temperature, a scalar."""
        return torch.tensor(self.fixed_temperature)

    def forward(self, a: Tensor, b: Tensor, tags: Tensor) -> Tensor:
        """See `nt_xent_original`."""
        return nt_xent_original(a, b, self.fixed_temperature)


class _TemperedLoss(ContrastiveLoss):
    """A loss with a temperature that can be learned, and a choice of positives."""

    log_temperature: Tensor

    def __init__(self, temperature: float, learnable: bool, positives: Positives) -> None:
        super().__init__()
        _check_temperature(temperature)
        if positives not in get_args(Positives):
            raise ConfigError(
                f"positives={positives!r}: use one of {', '.join(get_args(Positives))}"
            )
        self.positives: Positives = positives
        self._hold("log_temperature", math.log(temperature), learnable)

    def _hold(self, name: str, value: float, learnable: bool) -> None:
        """Keep a number as a parameter or as a buffer."""
        if learnable:
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))
        else:
            self.register_buffer(name, torch.tensor(value))

    @property
    def temperature(self) -> Tensor:
        """The temperature in use, a scalar."""
        return self.log_temperature.exp().clamp(min=_MIN_TEMPERATURE)


class AlignmentLoss(_TemperedLoss):
    """Cross-entropy of finding the positives among all candidates, as a log-softmax.

    With ``w`` the weights of positives (`tag_overlap`) and ``p`` the softmax over a row's
    candidates: the mean over rows of ``-sum_j w[j] ln p[j] / sum_j w[j]``.

    Args:
        temperature: At the beginning; kept above 0.01 while it is learned.
        learnable: Whether the (logarithm of the) temperature is a parameter.
        same_modality: Whether sounds are also pushed from sounds and tags from tags (SimCLR's 2N
            form), or only sounds from tags (CLIP's symmetric form).
        positives: See `tag_overlap`. Positives are in the other modality only; within the same
            modality an item that is not a negative is no candidate either.

    Raises:
        ConfigError: A setting does not make sense.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        learnable: bool = True,
        same_modality: bool = True,
        positives: Positives = "same_tags",
    ) -> None:
        super().__init__(temperature, learnable, positives)
        self.same_modality = same_modality

    def forward(self, a: Tensor, b: Tensor, tags: Tensor) -> Tensor:
        """See `ContrastiveLoss`."""
        with torch.autocast(a.device.type, enabled=False):
            cosines = _cosines(a, b)
            logits = cosines / self.temperature.to(cosines.dtype)
            across = _across(len(a), a.device)
            overlap = tag_overlap(tags, self.positives).to(cosines.dtype).repeat(2, 2)
            weight = overlap * across
            candidates = (across | (overlap == 0)) if self.same_modality else across
            log_share = logits.masked_fill(~candidates, -math.inf).log_softmax(dim=1)
            found = log_share.masked_fill(weight == 0, 0.0) * weight
            return -(found.sum(1) / weight.sum(1)).mean()


class SigmoidAlignment(_TemperedLoss):
    """Each sound and each set of tags by themselves: do they belong together or not?

    With ``c`` the cosines of sounds and tags and ``w`` the positives (`tag_overlap`), the sum over
    all pairs of the binary cross-entropy of ``w[i, j]`` and ``sigmoid(c[i, j] / T + bias)``,
    divided by the batch. Items of the same modality are not compared.

    Args:
        temperature: ``T`` at the beginning; kept above 0.01 while it is learned.
        bias: At the beginning; the default lets nearly all pairs begin as negatives, as most are.
        learnable: Whether temperature and bias are parameters.
        positives: See `tag_overlap`.

    Raises:
        ConfigError: A setting does not make sense.
    """

    bias: Tensor

    def __init__(
        self,
        temperature: float = 0.1,
        bias: float = -10.0,
        learnable: bool = True,
        positives: Positives = "same_tags",
    ) -> None:
        super().__init__(temperature, learnable, positives)
        if not math.isfinite(bias):
            raise ConfigError(f"bias={bias}: use a number (-10 is usual)")
        self._hold("bias", float(bias), learnable)

    def forward(self, a: Tensor, b: Tensor, tags: Tensor) -> Tensor:
        """See `ContrastiveLoss`."""
        with torch.autocast(a.device.type, enabled=False):
            cosines = _unit(a) @ _unit(b).T
            logits = cosines / self.temperature.to(cosines.dtype) + self.bias.to(cosines.dtype)
            wanted = tag_overlap(tags, self.positives).to(cosines.dtype)
            total = F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
            return total / len(a)


def _exact(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines ``(2 * batch, 2 * batch)`` of the rows of ``[a, b]``."""
    unit = _unit(torch.cat([a, b]))
    return unit @ unit.T


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1; those without direction are 0."""
    rows = _exact(x)
    length = rows.square().sum(1, keepdim=True)
    # The inner `where` keeps the root's infinite slope at 0 out of the gradient.
    usable = length > _MIN_NORM**2
    return rows * torch.where(usable, torch.where(usable, length, 1.0).rsqrt(), 0.0)


def _across(count: int, device: torch.device) -> Tensor:
    """``(2 * count, 2 * count)``: true between a sound and tags, false within a modality."""
    half = torch.arange(2 * count, device=device) < count
    return half[:, None] != half[None]


def _check_temperature(temperature: float) -> None:
    if not temperature >= _MIN_TEMPERATURE:
        raise ConfigError(
            f"temperature={temperature}: use {_MIN_TEMPERATURE} or more (0.1 is usual)"
        )
