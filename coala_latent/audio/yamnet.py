"""YAMNet's front end, sample for sample TensorFlow's.

Facts from the original project (``features.py``, ``params.py`` of YAMNet in TensorFlow's model
garden, Apache-2.0).
"""

from __future__ import annotations

import math

from torch import Tensor

from coala_latent.audio.frames import Framing
from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.mel import htk_mel_filters

__all__ = ["YamnetFrontEnd"]

RATE = 16000
BANDS = 64
N_FFT = 512
LOG_OFFSET = 0.001
SILENCE = math.log(LOG_OFFSET)


class YamnetFrontEnd(FrontEnd):
    """Patches of 0.96 s: 96 frames of 64 mel bands, time first.

    Frames begin with the sound: no centring, no mirrored edges. Magnitudes (not powers) of 25 ms
    Hann windows every 10 ms, HTK mel bands of 125 to 7500 Hz with triangles linear in mel, natural
    logarithm of mel + 0.001. Sounds are extended with zeros to 15 600 samples and further until the
    last patch is complete, so a sound of 16 000 samples has two patches at the original hop.

    Args:
        patch_hop: Frames between patches, at most 96; the original's 48 are 0.48 s. Values other
            than 48 give patches that the original would not see, computed in the same way.
    """

    def __init__(self, patch_hop: int = 48) -> None:
        framing = Framing(
            window=400,
            hop=160,
            patch=96,
            patch_hop=patch_hop,
            min_samples=15600,
            tail="silence",
        )
        filters = htk_mel_filters(RATE, N_FFT, BANDS, 125.0, 7500.0)
        super().__init__(RATE, filters, framing)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """``(96 frames, 64 bands)``."""
        return self.framing.patch, self.bands

    def compress(self, mel: Tensor) -> Tensor:
        """Natural logarithm above an offset."""
        return (mel + LOG_OFFSET).log()

    def scale(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Time first; frames outside the mask become silence. The values stay as they are."""
        return patches.masked_fill(~mask[:, None, :], SILENCE).transpose(-1, -2)
