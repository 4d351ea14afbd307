"""Samples in, patches out, piece by piece.

`PatchStream` is the only place where sounds are cut into patches for embedding: whole arrays, files
read in blocks and live streams all go through it, so they cannot disagree.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.audio.frontends import FrontEnd, reflect
from coala_latent.embed.blocks import PatchBlock, checked_samples, extend_short

__all__ = ["PatchStream", "Short"]

Short = Literal["pad", "tile", "error"]


class PatchStream:
    """Patches of one sound as its samples arrive.

    Memory is a few patches, however long the sound is. A patch is given out as soon as its last
    sample has arrived.

    Args:
        front_end: Computes and scales the patches.
        short: What to do with a sound shorter than one patch: extend it as the front end does
            (``"pad"``), repeat it until it fills one (``"tile"``), or refuse it (``"error"``).
        source: Name of the sound for messages.
    """

    def __init__(self, front_end: FrontEnd, short: Short = "pad", source: str = "array") -> None:
        self.front_end = front_end
        self.short = short
        self.source = source
        framing = front_end.framing
        self._framing = framing
        self._device = front_end.window.device
        # Reflection needs `pad` samples beyond the first; other policies need to see whether
        # the sound fills a patch before anything is decided.
        self._hold = max(
            framing.pad + 1 if framing.pad_mode == "reflect" else 1,
            framing.row_samples if short != "pad" else 1,
        )
        self._started = False
        self._samples = 0
        self._fed = 0
        self._buffer = torch.zeros(0, device=self._device)
        self._recent = torch.zeros(0, device=self._device)
        self._frames = torch.zeros(front_end.bands, 0, device=self._device)
        self._first_frame = 0
        self._next_patch = 0

    @torch.inference_mode()
    def push(self, samples: npt.NDArray[np.floating] | Tensor) -> PatchBlock:
        """Add ``(time,)`` samples at the front end's rate; returns the patches they complete.

        Raises:
            AudioValueError: Not one-dimensional, or samples that are NaN, infinite or beyond 1e6.
        """
        new = checked_samples(samples, self._device, self.source)
        self._samples += len(new)
        if not self._started:
            self._buffer = torch.cat([self._buffer, new])
            if len(self._buffer) < self._hold:
                return self._block(self._no_patches())
            new = self._begin()
        return self._block(self._feed(new))

    @torch.inference_mode()
    def finish(self) -> PatchBlock:
        """The patches that remain when the sound is over.

        Raises:
            AudioTooShortError: The sound does not fill a patch and `short` is ``"error"``.
        """
        samples = self._samples
        if not self._started:
            wanted, rate = self._framing.row_samples, self.front_end.sample_rate
            self._buffer = extend_short(self._buffer, wanted, self.short, rate, self.source)
            samples = len(self._buffer)
            missing = self._framing.min_samples - samples
            self._buffer = torch.nn.functional.pad(self._buffer, (0, max(0, missing)))
            patches = [self._feed(self._begin())]
        else:
            missing = self._framing.min_samples - samples
            patches = [self._feed(self._buffer.new_zeros(max(0, missing)))]
        patches.append(self._feed(self._end_padding(), remember=False))
        rest = self._framing.padded_samples(samples) - self._fed
        patches.append(self._feed(self._buffer.new_zeros(rest), remember=False))
        patches.append(self._last_patches(samples))
        return self._block(torch.cat(patches))

    def _begin(self) -> Tensor:
        """What is fed first: the padding before the sound, and what was held back of it."""
        self._started = True
        held, pad = self._buffer, self._framing.pad
        self._buffer = held.new_zeros(0)
        if not pad:
            return held
        if self._framing.pad_mode == "reflect":
            return reflect(held, pad, 0)
        return torch.nn.functional.pad(held, (pad, 0))

    def _end_padding(self) -> Tensor:
        pad = self._framing.pad
        if self._framing.pad_mode == "reflect" and pad:
            return reflect(self._recent, 0, pad)[len(self._recent) :]
        return self._recent.new_zeros(pad)

    def _feed(self, samples: Tensor, *, remember: bool = True) -> Tensor:
        """Turn padded samples into frames, and frames into complete patches."""
        framing = self._framing
        self._fed += len(samples)
        if remember and framing.pad:
            self._recent = torch.cat([self._recent, samples])[-(framing.pad + 1) :]
        self._buffer = torch.cat([self._buffer, samples])
        count = 1 + (len(self._buffer) - framing.window) // framing.hop
        if count < 1:
            return self._no_patches()
        used = (count - 1) * framing.hop + framing.window
        frames = self.front_end.spectrum(self._buffer[:used])
        self._buffer = self._buffer[count * framing.hop :].clone()
        self._frames = torch.cat([self._frames, frames], dim=1)
        return self._complete_patches()

    def _complete_patches(self) -> Tensor:
        framing = self._framing
        begin = self._next_patch * framing.patch_hop - self._first_frame
        available = self._frames.shape[1] - begin
        if available < framing.patch:
            return self._no_patches()
        cut = self._frames[:, begin:].unfold(1, framing.patch, framing.patch_hop).movedim(1, 0)
        mask = torch.ones(len(cut), framing.patch, dtype=torch.bool, device=self._device)
        self._next_patch += len(cut)
        keep = min(begin + len(cut) * framing.patch_hop, self._frames.shape[1])
        patches = self.front_end.scale(cut, mask)
        self._frames = self._frames[:, keep:].clone()
        self._first_frame += keep
        return patches

    def _last_patches(self, samples: int) -> Tensor:
        """The incomplete patches at the end, completed; none where the framing drops them."""
        framing = self._framing
        total = framing.patches(framing.frames(samples))
        if total <= self._next_patch:
            return self._no_patches()
        mask = self.front_end.patch_mask(samples)[self._next_patch :]
        begin = self._next_patch * framing.patch_hop - self._first_frame
        rest = self._frames[:, begin:]
        needed = (len(mask) - 1) * framing.patch_hop + framing.patch
        padded = torch.nn.functional.pad(rest, (0, needed - rest.shape[1]))
        cut = padded.unfold(1, framing.patch, framing.patch_hop).movedim(1, 0)
        self._next_patch = total
        return self.front_end.scale(cut, mask)

    def _no_patches(self) -> Tensor:
        return torch.zeros(0, *self.front_end.patch_shape, device=self._device)

    def _block(self, patches: Tensor) -> PatchBlock:
        rate = self.front_end.sample_rate
        start, end = self._framing.times(
            self._next_patch - len(patches), len(patches), rate, self._samples / rate
        )
        return PatchBlock(patches, start, end)
