"""Front ends: from a waveform to the patches a network reads.

A front end is an `nn.Module` without learned weights. It computes frames from samples
(`spectrum`), cuts them into patches, and scales the patches (`scale`); its `framing` says how.
`forward` does all of it for a batch of equally long waveforms; streams use the same steps piece by
piece and get the same values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.audio.coala_scaler import OFFSET, SCALE
from coala_latent.audio.frames import Framing
from coala_latent.audio.mel import slaney_mel_filters

__all__ = ["CoalaFrontEnd", "CoalaLegacy", "CoalaStandard", "FrontEnd", "reflect"]

COALA_RATE = 22000
COALA_BANDS = 96
COALA_PATCH = 96
FLOAT32_EPS = 1.1920928955078125e-07


class FrontEnd(nn.Module, ABC):
    """Log-mel patches of a waveform.

    Args:
        sample_rate: Rate of the waveforms it takes, in Hz.
        filters: Mel filter bank ``(bands, n_fft // 2 + 1)``; frames are extended with zeros to
            ``n_fft`` where the window is shorter.
        framing: Frames and patches.
        power: Exponent of the magnitudes that the filters weight: 1 or 2.

    Shape:
        - Input: ``(batch, time)`` or ``(time,)``, float, nominally in [-1, 1].
        - Output: ``(batch, patches, *patch_shape)``, or without ``batch`` for a single waveform;
          `patch_shape` is ``(bands, frames)`` unless a network wants it otherwise.
    """

    window: Tensor
    mel_filters: Tensor
    # What of a sound is not heard; empty when every sample is.
    drops: str = ""

    def __init__(
        self,
        sample_rate: int,
        filters: npt.NDArray[np.float32],
        framing: Framing,
        power: Literal[1, 2] = 1,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.bands = len(filters)
        self.n_fft = 2 * (filters.shape[1] - 1)
        self.framing = framing
        self.power = power
        if self.n_fft < framing.window:
            raise ValueError(f"a window of {framing.window} samples needs a larger transform")
        window = torch.hann_window(framing.window, dtype=torch.float64).float()
        window = F.pad(window, (0, self.n_fft - framing.window))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_filters", torch.from_numpy(filters), persistent=False)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Shape of one patch as `scale` returns it."""
        return self.bands, self.framing.patch

    def extra_repr(self) -> str:
        """One line for `print`."""
        return f"sample_rate={self.sample_rate}, bands={self.bands}, {self.framing}"

    def forward(self, waveform: Tensor) -> Tensor:
        """Scaled patches of equally long waveforms."""
        frames = self.spectrum(self.pad(waveform))
        return self.scale(self.patches(frames), self.patch_mask(waveform.shape[-1]))

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Unscaled log-mel spectrogram ``(..., bands, frames)`` of whole waveforms."""
        return self.spectrum(self.pad(waveform))

    def pad(self, waveform: Tensor) -> Tensor:
        """Add what the framing asks for at both ends: ``(..., time)`` to ``(..., padded time)``."""
        framing, samples = self.framing, waveform.shape[-1]
        extended = F.pad(waveform, (0, max(0, framing.min_samples - samples)))
        if framing.pad and framing.pad_mode == "reflect":
            extended = reflect(extended, framing.pad, framing.pad)
        else:
            extended = F.pad(extended, (framing.pad, framing.pad))
        return F.pad(extended, (0, framing.padded_samples(samples) - extended.shape[-1]))

    def spectrum(self, padded: Tensor) -> Tensor:
        """Log-mel frames of already padded samples: ``(..., time)`` to ``(..., bands, frames)``.

        Only complete windows count. Always computed in float32 or better: half precision
        overflows in the magnitudes.
        """
        with torch.autocast(padded.device.type, enabled=False):
            samples = padded if padded.dtype == torch.float64 else padded.float()
            window = self.framing.window
            if samples.numel() == 0:
                # The Fourier transform of an empty batch is an error on the CPU.
                frames = 1 + (samples.shape[-1] - window) // self.framing.hop
                return samples.new_zeros(*samples.shape[:-1], self.bands, frames)
            flat = samples.reshape(-1, samples.shape[-1])
            spectrum = torch.stft(
                F.pad(flat, (0, self.n_fft - window)),
                n_fft=self.n_fft,
                hop_length=self.framing.hop,
                window=self.window.to(samples.dtype),
                center=False,
                return_complex=True,
            )
            magnitude = spectrum.abs() if self.power == 1 else spectrum.abs().square()
            mel = self.mel_filters.to(samples.dtype) @ magnitude
            return self.compress(mel).reshape(*samples.shape[:-1], *mel.shape[-2:])

    @abstractmethod
    def compress(self, mel: Tensor) -> Tensor:
        """The logarithm of ``(..., bands, frames)`` mel magnitudes."""

    def patches(self, frames: Tensor) -> Tensor:
        """Cut ``(..., bands, frames)`` into ``(..., patches, bands, patch)``."""
        framing = self.framing
        count = framing.patches(frames.shape[-1])
        needed = 0 if count == 0 else (count - 1) * framing.patch_hop + framing.patch
        if needed > frames.shape[-1]:
            frames = F.pad(frames, (0, needed - frames.shape[-1]))
        if count == 0:
            return frames.new_zeros(*frames.shape[:-2], 0, frames.shape[-2], framing.patch)
        cut = frames.unfold(-1, framing.patch, framing.patch_hop)[..., :count, :]
        return cut.movedim(-2, -3)

    def patch_mask(self, samples: int) -> Tensor:
        """Which frames of which patch were computed from the sound: ``(patches, patch)`` bool."""
        framing = self.framing
        frames = framing.frames(samples)
        count = framing.patches(frames)
        index = torch.arange(count)[:, None] * framing.patch_hop + torch.arange(framing.patch)
        return (index < frames).to(self.window.device)

    @abstractmethod
    def scale(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Scale ``(..., patches, bands, patch)``; frames outside the mask become the fill value.

        Returns:
            ``(..., patches, *patch_shape)``.
        """


class CoalaFrontEnd(FrontEnd):
    """Natural logarithm of Slaney mel magnitudes, and patches that autoencoders can target.

    Args:
        sample_rate: In Hz.
        bands: Mel bands.
        framing: Frames and patches.
        eps: Added to the mel magnitudes before the logarithm.
    """

    def __init__(self, sample_rate: int, bands: int, framing: Framing, eps: float) -> None:
        if sample_rate < 1 or bands < 1:
            raise ValueError(f"{sample_rate} Hz and {bands} bands: both must be at least 1")
        super().__init__(
            sample_rate, slaney_mel_filters(sample_rate, framing.window, bands), framing
        )
        self.eps = eps

    def compress(self, mel: Tensor) -> Tensor:
        """Natural logarithm above a floor."""
        return (mel + self.eps).log()

    @abstractmethod
    def unit(self, patches: Tensor) -> Tensor:
        """Scaled patches as reconstruction targets in [0, 1]."""


class CoalaLegacy(CoalaFrontEnd):
    """The original COALA front end, for checkpoints that were trained with it.

    Sounds up to 10 s are extended with zeros to 10 s; longer ones are used as they are. Frames are
    centred with reflection at both ends; incomplete patches are dropped: of a 10 s sound the last
    1.07 s are not heard. Scaled by time position in the patch (see `coala_scaler`), not clipped.
    The original added unseeded uniform noise in [0, 5e-4) to extended sounds; `add_pad_noise` does
    so with a generator, and nothing does by default.

    Source: Favory et al., "COALA: Co-Aligned Autoencoders for Learning Semantically Enriched Audio
    Representations", 2020 (arXiv 2006.08386), and its published code (MIT).
    """

    scale_by_time: Tensor
    offset_by_time: Tensor
    drops = (
        "frames after the last complete patch: the last 1.07 s of sounds up to 10 s, at most 2.2 s "
        "of longer ones; sounds up to 10 s are extended with silence to 10 s, which is embedded too"
    )

    def __init__(self, patch_hop: int = COALA_PATCH) -> None:
        framing = Framing(
            window=1024,
            hop=512,
            pad=512,
            pad_mode="reflect",
            min_samples=10 * COALA_RATE,
            patch=COALA_PATCH,
            patch_hop=patch_hop,
            tail="drop",
        )
        super().__init__(COALA_RATE, COALA_BANDS, framing, FLOAT32_EPS)
        self.register_buffer("scale_by_time", torch.tensor(SCALE))
        self.register_buffer("offset_by_time", torch.tensor(OFFSET))

    def add_pad_noise(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        """Extend ``(..., time)`` to 10 s and add noise to every sample, as the original did.

        Longer sounds come back unchanged.
        """
        missing = self.framing.min_samples - waveform.shape[-1]
        if missing < 0:
            return waveform
        extended = F.pad(waveform, (0, missing))
        noise = torch.rand(extended.shape, generator=generator, dtype=extended.dtype)
        return extended + 5e-4 * noise.to(extended.device)

    def scale(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Min-max scaling by time position. All frames of a legacy patch are real."""
        return patches * self.scale_by_time + self.offset_by_time

    def unit(self, patches: Tensor) -> Tensor:
        """Clamped below, as in the original's validation: the generalised KL needs >= 0."""
        return patches.clamp(min=0.0)


class CoalaStandard(CoalaFrontEnd):
    """Log-mel patches with per-band standardisation; every sample is heard, nothing is invented.

    Frames begin with the sound. The last frame and the last patch are completed with zeros, and
    frames that hold no sound get the value 0, the band's mean, after standardisation. Any patch
    hop up to the patch length.

    Args:
        mean: Per-band mean of the log-mel values of the training set, ``bands`` numbers.
        std: Per-band standard deviation, above 0.
        patch_hop: Frames between patches.
        patch: Frames in a patch.
        bands: Mel bands.
        sample_rate: In Hz.
        eps: Floor of the magnitudes; 1e-5 is about -100 dB below a full-scale sine, so that
            digital silence stays within a few standard deviations of soft sound.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        patch_hop: int = COALA_PATCH,
        patch: int = COALA_PATCH,
        bands: int = COALA_BANDS,
        sample_rate: int = COALA_RATE,
        eps: float = 1e-5,
    ) -> None:
        framing = Framing(window=1024, hop=512, patch=patch, patch_hop=patch_hop)
        super().__init__(sample_rate, bands, framing, eps)
        self.register_buffer("mean", _per_band("mean", mean, bands, 0.0))
        self.register_buffer("std", _per_band("std", std, bands, 1.0))
        if std is not None and min(std) <= 0:
            raise ValueError("every std must be above 0")

    def scale(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Per-band standardisation; frames without sound become 0."""
        scaled = (patches - self.mean[:, None]) / self.std[:, None]
        return scaled.masked_fill(~mask[:, None, :], 0.0)

    def unit(self, patches: Tensor) -> Tensor:
        """Three standard deviations on either side of the mean, mapped to [0, 1] and clipped."""
        return (patches / 6.0 + 0.5).clamp(0.0, 1.0)


def _per_band(name: str, values: list[float] | None, bands: int, default: float) -> Tensor:
    found = [default] * bands if values is None else [float(value) for value in values]
    if len(found) != bands or not all(math.isfinite(value) for value in found):
        raise ValueError(f"{name} must be {bands} finite numbers, one per band")
    return torch.tensor(found, dtype=torch.float32)


def reflect(samples: Tensor, before: int, after: int) -> Tensor:
    """Mirror ``(..., time)`` at both ends without repeating the end samples."""
    head = samples[..., 1 : before + 1].flip(-1)
    tail = samples[..., samples.shape[-1] - after - 1 : -1].flip(-1)
    return torch.cat([head, samples, tail], dim=-1)
