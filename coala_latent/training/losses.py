"""Losses of co-aligned autoencoders.

Source: Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", 2020 (arXiv 2006.08386), section 2, and its published code for the
constants. Contrastive form: Chen et al., "A Simple Framework for Contrastive Learning of Visual
Representations", 2020 (NT-Xent).

Everything is computed in float32 or better, whatever the inputs and autocast say.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import ConfigError

__all__ = [
    "AlignmentLoss",
    "OriginalAlignment",
    "Positives",
    "generalised_kl",
    "nt_xent_original",
    "tag_bce",
]

Positives = Literal["pair", "same_tags"]

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


class OriginalAlignment(nn.Module):
    """`nt_xent_original` as a module, in the place of `AlignmentLoss`.

    Args:
        temperature: The original's is 0.1.
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
        """Loss of pairs ``(batch, dim)``; `tags` ``(batch, tags)`` play no part."""
        return nt_xent_original(a, b, self.fixed_temperature)


class AlignmentLoss(nn.Module):
    """NT-Xent as a log-softmax, with a temperature that can be learned.

    Args:
        temperature: At the beginning; kept above 0.01 while it is learned.
        learnable: Whether the (logarithm of the) temperature is a parameter.
        same_modality: Whether sounds are also pushed from sounds and tags from tags (SimCLR's 2N
            form), or only sounds from tags (CLIP's form).
        positives: ``"pair"``: every other item is a negative, also one with the same tags.
            ``"same_tags"``: all items with exactly the same tags share the positive's place, and
            none of them is a negative.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        learnable: bool = True,
        same_modality: bool = True,
        positives: Positives = "same_tags",
    ) -> None:
        super().__init__()
        _check_temperature(temperature)
        if positives not in get_args(Positives):
            raise ConfigError(
                f"positives={positives!r}: use one of {', '.join(get_args(Positives))}"
            )
        self.same_modality = same_modality
        self.positives = positives
        start = torch.tensor(math.log(temperature))
        if learnable:
            self.log_temperature = nn.Parameter(start)
        else:
            self.register_buffer("log_temperature", start)

    @property
    def temperature(self) -> Tensor:
        """The temperature in use, a scalar."""
        return self.log_temperature.exp().clamp(min=_MIN_TEMPERATURE)

    def forward(self, a: Tensor, b: Tensor, tags: Tensor) -> Tensor:
        """Loss of pairs.

        Args:
            a: ``(batch, dim)``.
            b: ``(batch, dim)``; row *i* belongs to row *i* of `a`.
            tags: ``(batch, tags)`` multi-hot; only compared for equality.
        """
        count = len(a)
        with torch.autocast(a.device.type, enabled=False):
            cosines = _cosines(a, b)
            logits = cosines / self.temperature.to(cosines.dtype)
            across = _across(count, a.device)
            if self.positives == "same_tags":
                same = (tags[:, None] == tags[None]).all(-1).repeat(2, 2)
            else:
                same = torch.eye(count, dtype=torch.bool, device=a.device).repeat(2, 2)
            positive = same & across
            candidates = (across | ~same) if self.same_modality else across
            log_share = logits.masked_fill(~candidates, -math.inf).log_softmax(dim=1)
            return -(log_share.masked_fill(~positive, 0.0).sum(1) / positive.sum(1)).mean()


def _exact(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines ``(2 * batch, 2 * batch)`` of the rows of ``[a, b]``."""
    rows = _exact(torch.cat([a, b]))
    length = rows.square().sum(1, keepdim=True)
    # The inner `where` keeps the root's infinite slope at 0 out of the gradient.
    usable = length > _MIN_NORM**2
    scale = torch.where(usable, torch.where(usable, length, 1.0).rsqrt(), 0.0)
    unit = rows * scale
    return unit @ unit.T


def _across(count: int, device: torch.device) -> Tensor:
    """``(2 * count, 2 * count)``: true between a sound and tags, false within a modality."""
    half = torch.arange(2 * count, device=device) < count
    return half[:, None] != half[None]


def _check_temperature(temperature: float) -> None:
    if not temperature >= _MIN_TEMPERATURE:
        raise ConfigError(
            f"temperature={temperature}: use {_MIN_TEMPERATURE} or more (0.1 is usual)"
        )
