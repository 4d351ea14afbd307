"""Log-mel frames, one every tenth of a second: sound-eval's, and a variant that hears every sample.

Facts from the original project (sound-eval, B. Black, https://github.com/benblack769/sound-eval),
whose document vectors are trained on these frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from torch import Tensor

from coala_latent.audio.frames import Framing
from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.mel import htk_mel_filters
from coala_latent.errors import ConfigError

__all__ = ["PRESETS", "FrameFormat", "FrameSettings", "LogMelFrames"]

FrameFormat = Literal["standard", "sound_eval"]

_WINDOW = 2048
_LOG_OFFSET = 1e-6
# Beyond these a Fourier transform of a window, or the filters, would take gigabytes.
_LARGEST_WINDOW = 1 << 20
_MOST_BANDS = 4096


class LogMelFrames(FrontEnd):
    """Natural logarithm of HTK mel magnitudes, a frame at a time.

    Magnitudes (not powers) of periodic Hann windows that begin with the sound, mel bands with
    triangles linear in mel and of height 1, logarithm of mel + 1e-6. A frame is a patch of its own:
    `forward` gives ``(batch, frames, bands, 1)``, and `log_mel` ``(batch, bands, frames)``.

    Args:
        sample_rate: In Hz.
        bands: Mel bands.
        hop: Samples between frames.
        window: Samples in a frame.
        low: Lower edge of the first band in Hz.
        high: Upper edge of the last band in Hz.
        tail: ``"pad"`` completes the last frame with zeros, so that every sample is in a frame;
            ``"drop"`` keeps ``1 + (samples - window) // hop`` frames, none of a sound shorter than
            a window.

    Raises:
        ConfigError: The bands do not fit below half the sample rate, or with ``"pad"`` a band is
            narrower than a bin of the transform.
    """

    def __init__(
        self,
        sample_rate: int,
        bands: int,
        hop: int,
        window: int = _WINDOW,
        low: float = 80.0,
        high: float = 7600.0,
        tail: Literal["pad", "drop"] = "pad",
    ) -> None:
        if not 0 <= low < high <= sample_rate / 2:
            raise ConfigError(
                f"mel bands from {low:g} to {high:g} Hz do not fit a sample rate of {sample_rate} "
                f"Hz (the upper edge must be above the lower one, and at most {sample_rate / 2:g})"
            )
        framing = Framing(window=window, hop=hop, patch=1, patch_hop=1, tail=tail)
        filters = htk_mel_filters(sample_rate, window, bands, low, high)
        empty = np.flatnonzero(filters.max(axis=1) <= 0)
        if tail == "pad" and len(empty):
            raise ConfigError(
                f"{len(empty)} of {bands} mel bands are narrower than a bin of {window} samples at "
                f"{sample_rate} Hz (use fewer bands)"
            )
        super().__init__(sample_rate, filters, framing)
        if tail == "drop":
            self.drops = "samples after the last complete frame, and between frames of a longer hop"

    def spectrum(self, padded: Tensor) -> Tensor:
        """Log-mel frames ``(..., bands, frames)``; none of less than a window."""
        if padded.shape[-1] < self.framing.window:
            return self.window.new_zeros(*padded.shape[:-1], self.bands, 0)
        return super().spectrum(padded)

    def compress(self, mel: Tensor) -> Tensor:
        """Natural logarithm above an offset."""
        return (mel + _LOG_OFFSET).log()

    def scale(self, patches: Tensor, mask: Tensor) -> Tensor:
        """The values as they are."""
        return patches


@dataclass(frozen=True)
class FrameSettings:
    """How frames are computed; equal settings give equal frames.

    Attributes:
        format: ``"sound_eval"`` has exactly the original's frames: windows of 2048 samples, of
            which those are dropped that the sound does not fill. ``"standard"`` completes the last
            one, and takes a window of the next power of two where the hop is above 2048 samples,
            as 0.1 s are at 44.1 kHz: every sample is heard.
        sample_rate: In Hz; sounds are resampled to it.
        bands: Mel bands.
        hop: Seconds between frames.
        low: Lower edge of the first band in Hz.
        high: Upper edge of the last band in Hz.

    Raises:
        ConfigError: A value makes no sense.
    """

    format: FrameFormat = "standard"
    sample_rate: int = 16000
    bands: int = 64
    hop: float = 0.1
    low: float = 80.0
    high: float = 7600.0

    def __post_init__(self) -> None:
        if self.format not in ("standard", "sound_eval"):
            raise ConfigError(f"format must be standard or sound_eval, not {self.format!r}")
        if not 100 <= self.sample_rate <= 10_000_000:
            raise ConfigError(f"sample_rate {self.sample_rate}: must be from 100 to 10 000 000 Hz")
        if not 1 <= self.bands <= _MOST_BANDS:
            raise ConfigError(f"bands {self.bands}: must be from 1 to {_MOST_BANDS}")
        if not (math.isfinite(self.hop) and self.hop_samples >= 1):
            raise ConfigError(f"hop {self.hop} s: must be at least one sample")
        if self.window > _LARGEST_WINDOW:
            raise ConfigError(f"hop {self.hop} s: too long for one frame to hear all of it")

    @property
    def hop_samples(self) -> int:
        """Samples between frames; the original cuts off what is no whole sample."""
        samples = self.sample_rate * self.hop
        return int(samples) if self.format == "sound_eval" else round(samples)

    @property
    def window(self) -> int:
        """Samples in a frame."""
        if self.format == "sound_eval":
            return _WINDOW
        return max(_WINDOW, 1 << (self.hop_samples - 1).bit_length())

    def front_end(self) -> LogMelFrames:
        """The module that computes such frames.

        Raises:
            ConfigError: The bands do not fit the sample rate.
        """
        return LogMelFrames(
            self.sample_rate,
            self.bands,
            self.hop_samples,
            self.window,
            self.low,
            self.high,
            tail="drop" if self.format == "sound_eval" else "pad",
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrameSettings:
        """Settings from those of `to_dict`, possibly among others.

        Raises:
            ConfigError: One is missing or makes no sense.
        """
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in values]:
            raise ConfigError(f"settings of frames without {', '.join(missing)}")
        return cls(**{name: values[name] for name in names})


# The configurations that sound-eval comes with.
PRESETS: Mapping[str, FrameSettings] = MappingProxyType(
    {
        "default": FrameSettings(),
        "small": FrameSettings(bands=80),
        "opt": FrameSettings(sample_rate=44100, bands=80),
        "aggressive": FrameSettings(bands=80),
    }
)
