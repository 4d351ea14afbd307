"""A convolution stack, piece by piece, with the outputs it has for the whole."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from coala_latent.models.geometry import Window
from coala_latent.models.stack import ConvolutionStack, Stage

__all__ = ["StackStream"]

# Samples computed at a time, of all sounds of a batch together.
_PIECE = 1 << 20


class StackStream:
    """Layers of a network as its input arrives.

    Every stage keeps the few steps of its input that its next window needs, and nothing is
    computed twice; memory does not grow with the length of the sound. A step is given out as soon
    as the last sample of its field has come. Whatever the pieces, all steps together are those of
    ``network.activations`` for the whole input, to within rounding, except that a sound too short
    for a layer gives no steps there instead of an error.

    Args:
        network: In evaluation, and left as it is until the stream is over.
        layers: To be given out.

    Raises:
        KeyError: No such layer.
        RuntimeError: The network is in training.
    """

    def __init__(self, network: ConvolutionStack, layers: Collection[str]) -> None:
        with torch.no_grad():
            self._stages = [_Windowed(stage) for stage in network.stages(layers)]
        heads = network.heads()
        self._heads = {name: heads[name] for name in layers if name in heads}
        self._layers = tuple(layers)
        self._empty = next(network.parameters()).new_zeros(1, 1, 0)
        self._finished = False

    def push(self, x: Tensor) -> dict[str, Tensor]:
        """Add ``(batch, 1, time)``, any number of samples, to the network's input.

        Returns:
            Name of each layer and its new steps ``(batch, channels, steps)``, which may be none.

        Raises:
            ValueError: Another shape, or another batch than before.
            RuntimeError: The input was finished.
        """
        if x.dim() != 3 or x.shape[1] != 1:
            raise ValueError(f"shape {tuple(x.shape)}: push (batch, 1, time)")
        # Long pushes in pieces, so that what is computed on the way stays small.
        pieces = [
            self._advance(piece, last=False)
            for piece in x.split(max(1, _PIECE // max(1, len(x))), dim=-1)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return {name: torch.cat([piece[name] for piece in pieces], dim=-1) for name in self._layers}

    def finish(self) -> dict[str, Tensor]:
        """The steps that remain when the input is over, as `push` gives them.

        Raises:
            RuntimeError: The input was finished before.
        """
        found = self._advance(self._empty, last=True)
        self._finished = True
        return found

    @torch.no_grad()
    def _advance(self, x: Tensor, *, last: bool) -> dict[str, Tensor]:
        if self._finished:
            raise RuntimeError("the sound is over: begin another stream")
        if len(x) != len(self._empty) and any(stage.begun for stage in self._stages):
            raise ValueError(f"a batch of {len(x)} after one of {len(self._empty)}")
        self._empty = x.new_zeros(len(x), 1, 0)
        found: dict[str, Tensor] = {}
        hidden = x.transpose(1, 2)
        for stage in self._stages:
            hidden = stage.advance(hidden, last=last)
            found[stage.stage.layer] = hidden.transpose(1, 2)
        found |= {name: head(hidden.transpose(1, 2)) for name, head in self._heads.items()}
        return {layer: found[layer] for layer in self._layers}


class _Windowed:
    """One stage and the steps it waits with: ``(batch, time, channels)`` in and out."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._window = Window(stage.window.kernel, stage.window.stride)
        self._waiting: Tensor | None = None

    @property
    def begun(self) -> bool:
        """Whether it was given anything."""
        return self._waiting is not None

    def advance(self, new: Tensor, *, last: bool) -> Tensor:
        """Steps of the complete windows; with `last`, also of those that end in padding."""
        pad = self.stage.window.pad
        if self._waiting is not None:
            joined = torch.cat([self._waiting, new], dim=1)
        elif new.shape[1]:
            joined = F.pad(new, (0, 0, pad, 0))
        else:
            # Padding surrounds something: nothing is not padded, and gives nothing.
            return self._nothing(new)
        if last:
            joined = F.pad(joined, (0, 0, 0, pad))
        count = self._window.count(joined.shape[1])
        # A copy, or the memory of everything pushed would be kept.
        self._waiting = joined[:, count * self._window.stride :].clone()
        if count == 0:
            return self._nothing(new)
        return self.stage.run(joined[:, : self._window.steps(count)])

    def _nothing(self, new: Tensor) -> Tensor:
        return new.new_zeros(len(new), 0, self.stage.channels)
