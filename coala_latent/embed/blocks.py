"""What travels from a sound to a network: patches, or pieces of the waveform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.errors import AudioTooShortError, AudioValueError

__all__ = ["Block", "BlockStream", "PatchBlock", "WaveBlock", "checked_samples", "extend_short"]

# Far beyond any sound in [-1, 1]; near the end of float32's range spectra become infinite.
_LARGEST = 1e6


@dataclass(frozen=True)
class PatchBlock:
    """Some consecutive patches of one sound.

    Attributes:
        patches: ``(n, *patch_shape)``, scaled, on the front end's device.
        start: ``(n,)`` seconds.
        end: ``(n,)`` seconds.
    """

    patches: Tensor
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class WaveBlock:
    """A piece of a sound for a network that runs along the waveform.

    Attributes:
        samples: ``(time,)``, on the front end's device.
        duration: Seconds of the sound up to the end of this piece, without what was added to it.
        last: Nothing of this sound follows.
    """

    samples: Tensor
    duration: float
    last: bool


Block: TypeAlias = PatchBlock | WaveBlock


class BlockStream(Protocol):
    """Samples of one sound in, blocks out."""

    def push(self, samples: npt.NDArray[np.floating] | Tensor) -> Block:
        """Add ``(time,)`` samples at the model's rate."""
        ...

    def finish(self) -> Block:
        """What remains when the sound is over."""
        ...


def checked_samples(
    samples: npt.NDArray[np.floating] | Tensor, device: torch.device, source: str
) -> Tensor:
    """Samples as a float32 tensor on the device.

    Raises:
        AudioValueError: Not one-dimensional, or samples that are NaN, infinite or beyond 1e6.
    """
    if isinstance(samples, np.ndarray):
        # A copy where torch cannot use the memory: read-only, or with negative strides.
        samples = np.require(samples, np.float32, ["C", "W"])
    new = torch.as_tensor(samples, dtype=torch.float32, device=device)
    if new.dim() != 1:
        raise AudioValueError(source, f"shape {tuple(new.shape)}", "push (time,)")
    if len(new) and not bool(new.abs().amax() <= _LARGEST):
        raise AudioValueError(
            source, "samples are NaN, infinite or beyond 1e6", "scale it to [-1, 1]"
        )
    return new


def extend_short(sound: Tensor, wanted: int, short: str, sample_rate: int, source: str) -> Tensor:
    """A whole sound, made `wanted` samples long where it is shorter and is to be repeated.

    Raises:
        AudioTooShortError: It is shorter and `short` is ``"error"``.
    """
    if short == "pad" or len(sound) >= wanted:
        return sound
    if short == "error":
        raise AudioTooShortError(
            source,
            f"{len(sound) / sample_rate:.3f} s, the model needs {wanted / sample_rate:.3f} s",
            "use short='pad' or short='tile'",
        )
    if len(sound) == 0:
        # So short that nothing was left of it at this rate.
        return sound.new_zeros(wanted)
    return sound.repeat(-(-wanted // len(sound)))[:wanted]
