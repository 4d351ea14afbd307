"""Random changes of what encoders get: of patches whose tags stay true, and of sets of tags."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from coala_latent.audio.frontends import CoalaFrontEnd
from coala_latent.errors import ConfigError

__all__ = ["PatchAugment", "hide_tags"]

_NEPER = math.log(10) / 20


class PatchAugment(nn.Module):
    """Level, pitch and gaps, drawn for each patch; for training only.

    Gaps follow SpecAugment (Park et al., 2019, arXiv 1904.08779): spans of frames and of bands get
    the value 0, the mean after standardisation.

    Args:
        gain_db: Standard deviation of a change of level, dB.
        shift: Most bands that a patch is moved up or down.
        gaps: Spans of each kind.
        frames: Most frames of a gap in time.
        bands: Most bands of a gap in frequency.
    """

    def __init__(
        self, gain_db: float = 8.0, shift: int = 4, gaps: int = 1, frames: int = 24, bands: int = 16
    ) -> None:
        super().__init__()
        if min(gain_db, shift, gaps, frames, bands) < 0:
            raise ConfigError("augmentation: no setting may be negative (0 switches it off)")
        self.gain_db = gain_db
        self.shift = shift
        self.gaps = gaps
        self.frames = frames
        self.bands = bands

    def sound(self, log_mel: Tensor, front_end: CoalaFrontEnd) -> Tensor:
        """Change the level and move the bands of unscaled patches ``(batch, bands, frames)``."""
        changed = log_mel
        if self.gain_db:
            factor = torch.randn(len(log_mel), 1, 1, device=log_mel.device) * self.gain_db * _NEPER
            magnitude = (log_mel.exp() - front_end.eps).clamp(min=0.0)
            changed = (magnitude * factor.exp() + front_end.eps).log()
        if self.shift:
            batch, bands, _ = changed.shape
            moved = torch.randint(-self.shift, self.shift + 1, (batch, 1), device=changed.device)
            source = (torch.arange(bands, device=changed.device) - moved).clamp(0, bands - 1)
            changed = changed.gather(1, source[:, :, None].expand_as(changed))
        return changed

    def hide(self, scaled: Tensor) -> Tensor:
        """Set spans of scaled patches ``(batch, bands, frames)`` to 0."""
        hidden = scaled
        for _ in range(self.gaps):
            hidden = hidden.masked_fill(_span(scaled, 2, self.frames)[:, None, :], 0.0)
            hidden = hidden.masked_fill(_span(scaled, 1, self.bands)[:, :, None], 0.0)
        return hidden


def hide_tags(tags: Tensor, ratio: float) -> Tensor:
    """Leave random tags out of each set that has two or more.

    Args:
        tags: ``(batch, tags)`` multi-hot.
        ratio: Of a set's tags that are left out, rounded down; one remains at least.
    """
    present = tags > 0.5
    count = present.sum(1, keepdim=True)
    # The little more lets 0.3 of 10 be 3 in floating point, too.
    hidden = (count * ratio + 1e-4).floor().clamp(max=count - 1)
    drawn = torch.rand(tags.shape, device=tags.device).masked_fill(~present, 2.0)
    place = drawn.argsort(dim=1).argsort(dim=1)
    return tags.masked_fill(place < hidden, 0.0)


def _span(patches: Tensor, axis: int, longest: int) -> Tensor:
    """A random span for each patch: ``(batch, size of the axis)`` bool."""
    batch, size, device = len(patches), patches.shape[axis], patches.device
    length = torch.randint(0, longest + 1, (batch, 1), device=device)
    start = (torch.rand(batch, 1, device=device) * (size - length + 1)).long()
    place = torch.arange(size, device=device)
    return (place >= start) & (place < start + length)
