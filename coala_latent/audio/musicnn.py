"""MusiCNN's front end, as librosa computed it for the original.

Facts from the original project (jordipons/musicnn, ISC): ``librosa.feature.melspectrogram`` with
its defaults of the time (squared magnitudes, centred frames, mirrored ends).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from coala_latent.audio.frames import Framing
from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.mel import slaney_mel_filters

__all__ = ["MusicnnFrontEnd"]

RATE = 16000
BANDS = 96
N_FFT = 512
HOP = 256
PATCH = 187
FACTOR = 10000.0
LARGEST_HALF = 65504.0


class MusicnnFrontEnd(FrontEnd):
    """Patches of 3 s: 187 frames of 96 mel bands, time first.

    Squared magnitudes of 32 ms Hann windows every 16 ms, centred with reflection at both ends,
    Slaney mel bands of 0 to 8000 Hz, ``log10(10000 mel + 1)``. Frames without sound are 0, as
    silence is. Sounds up to 256 samples are extended with zeros to 257, since there is nothing to
    reflect.

    Args:
        patch_hop: Frames between patches; patches of the original do not overlap by default.
        half_cast: Round mel powers to float16 before the logarithm, as the original does. A value
            moves by at most 2.2e-4, a tag's logit by less than 1e-3. Where a power lies halfway
            between two float16 numbers, the errors of its computation decide between values 4.3e-4
            apart; it is computed in float64 for that, so that blocks and batches of any size agree,
            and one value in ten thousand is the neighbour of the original's. Gradients pass as if
            nothing were rounded. Powers beyond float16's largest number, 65504, are infinite in the
            original and 65504 here; sounds in [-1, 1] stay below 1600.
        tail: ``"pad"`` completes the last patch with silence, so that every sample is heard;
            ``"drop"`` keeps complete patches only, as the original does.
    """

    def __init__(
        self,
        patch_hop: int = PATCH,
        half_cast: bool = True,
        tail: Literal["pad", "drop"] = "pad",
        heard: int | None = None,
    ) -> None:
        framing = Framing(
            window=N_FFT,
            hop=HOP,
            pad=N_FFT // 2,
            pad_mode="reflect",
            min_samples=N_FFT // 2 + 1,
            patch=PATCH,
            patch_hop=patch_hop,
            tail=tail,
            heard=heard,
        )
        super().__init__(RATE, slaney_mel_filters(RATE, N_FFT, BANDS), framing, power=2)
        self.half_cast = half_cast
        if tail == "drop":
            self.drops = (
                "frames after the last complete patch: up to 3 s, and all of a sound below "
                f"{(PATCH - 1) * HOP / RATE:.3f} s"
            )

    @property
    def patch_shape(self) -> tuple[int, int]:
        """``(187 frames, 96 bands)``."""
        return self.framing.patch, self.bands

    def spectrum(self, padded: Tensor) -> Tensor:
        """As in `FrontEnd`, in float64 where powers are to be rounded."""
        frames = super().spectrum(padded.double() if self.half_cast else padded)
        return frames if padded.dtype == torch.float64 else frames.float()

    def compress(self, mel: Tensor) -> Tensor:
        """``log10(10000 mel + 1)``, 0 for silence."""
        if self.half_cast:
            mel = mel.clamp(max=LARGEST_HALF)
            # The difference is exact, so this is the rounded value; a gradient in float16 would
            # overflow.
            mel = mel + (mel.half().to(mel.dtype) - mel).detach()
        return (FACTOR * mel + 1.0).log10()

    def scale(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Time first; frames outside the mask become silence. The values stay as they are."""
        return patches.masked_fill(~mask[:, None, :], 0.0).transpose(-1, -2)
