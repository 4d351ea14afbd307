"""The interface of X-ARES, the eXtensive Audio Representation and Evaluation Suite.

X-ARES takes a Python file with exactly one class whose name ends with "Encoder" and makes it
without arguments::

    from coala_latent.embed.adapters import xares

    class YamnetEncoder(xares.ModelEncoder):
        def __init__(self):
            super().__init__("yamnet")

It keeps results in a folder of the class's name: name it after model and layer.

Rules: https://github.com/jimbozhang/xares (Zhang et al., "X-ARES: A Comprehensive Framework for
Assessing Audio Encoder Performance", 2025, arXiv 2505.16369).
"""

from __future__ import annotations

from torch import Tensor, nn

from coala_latent.embed.adapters.centred import CentredModel
from coala_latent.embed.adapters.spec import parse_spec

__all__ = ["ModelEncoder"]


class ModelEncoder(nn.Module):
    """A registered model with the attributes that X-ARES asks for.

    Attributes:
        sampling_rate: Of the audio, in Hz; any rate will do, for X-ARES resamples.
        output_dim: Values in a frame.
        hop_size_in_ms: Milliseconds between frames.

    Args:
        spec: ``MODEL[:LAYER[:POOLING]][@RATE]``; model is a registry name or a ``.safetensors``
            file.
        hop_ms: The largest distance between frames. See `CentredModel` for what it costs, and for
            networks that run along the waveform.
        batch_size: Patches in one pass of the network.

    Raises:
        ModelNotFoundError: No such model.
        ConfigError: No such layer or pooling, or a hop that is no time.
    """

    def __init__(
        self, spec: str = "coala-esc10", *, hop_ms: float = 50.0, batch_size: int = 32
    ) -> None:
        super().__init__()
        self.centred = CentredModel(parse_spec(spec), hop_ms=hop_ms, batch_size=batch_size)
        self.sampling_rate = self.centred.rate
        self.output_dim = self.centred.dim
        self.hop_size_in_ms = self.centred.hop_ms
        self.eval()

    def forward(self, audio: Tensor) -> Tensor:
        """Frames of sounds.

        Memory for the network does not grow with the length of the audio, so that there is no
        longest audio.

        Args:
            audio: ``(batch, time)`` or ``(time,)`` float, in [-1, 1].

        Returns:
            ``(batch, frames, output_dim)`` float32, on the audio's device; frame ``t`` is computed
            from the sound around ``t * hop_size_in_ms``.

        Raises:
            AudioError: The audio cannot be used.
        """
        single = isinstance(audio, Tensor) and audio.dim() == 1
        rows, _ = self.centred.rows(audio[None] if single else audio)
        return rows
