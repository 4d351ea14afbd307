"""The front end of networks that read the waveform itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RawWaveform"]


class RawWaveform(nn.Module):
    """A waveform as the only channel of a network's input, scaled.

    Args:
        sample_rate: Rate of the waveforms it takes, in Hz.
        gain: What samples in [-1, 1] are multiplied by.

    Shape:
        - Input: ``(batch, time)`` or ``(time,)``, float, nominally in [-1, 1].
        - Output: ``(batch, 1, time)``; ``batch`` is 1 for a single waveform.
    """

    _place: Tensor

    def __init__(self, sample_rate: int = 22050, gain: float = 256.0) -> None:
        super().__init__()
        if sample_rate < 1 or not gain > 0:
            raise ValueError(f"{sample_rate} Hz, gain {gain}: both must be above 0")
        self.sample_rate = sample_rate
        self.gain = float(gain)
        # Moves with the module, so that it knows where it is.
        self.register_buffer("_place", torch.zeros(0), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where its waveforms are expected."""
        return self._place.device

    def extra_repr(self) -> str:
        """One line for `print`."""
        return f"sample_rate={self.sample_rate}, gain={self.gain:g}"

    def forward(self, waveform: Tensor) -> Tensor:
        """Scale; the waveform itself is left as it is.

        Raises:
            ValueError: Neither ``(time,)`` nor ``(batch, time)``.
        """
        if waveform.dim() not in (1, 2):
            raise ValueError(f"shape {tuple(waveform.shape)}: give (time,) or (batch, time)")
        # One row, or as many as there are: (-1, time) would be ambiguous without samples.
        rows = waveform[None] if waveform.dim() == 1 else waveform
        return rows[:, None, :] * self.gain
