"""Rows at equally spaced instants, each computed from the sound around its instant.

Benchmarks of whole sounds and of events in them want one embedding every so many milliseconds, at
known instants, from the very beginning of a sound to its end. The library's own rows begin with
the sound instead; here silence before and after the sound moves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.resample import resample
from coala_latent.embed.adapters.spec import ModelSpec
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.sequence_hearing import SequenceHearing
from coala_latent.embed.sources import as_sound
from coala_latent.errors import AudioEmptyError, AudioValueError, ConfigError
from coala_latent.registry import Card, build_model
from coala_latent.types import FloatArray, Sound

__all__ = ["CentredModel", "Instants"]

_SOURCE = "audio"


@dataclass(frozen=True)
class Instants:
    """Where the rows of a model lie, in samples at the model's rate.

    Attributes:
        hop: Between rows.
        centre: Of the first row of a sound that nothing was put before.
        needed: The fewest samples that give that many rows.
    """

    hop: int
    centre: float
    needed: Callable[[int], int]

    @property
    def lead(self) -> int:
        """Zeros to put before a sound, so that its first row is centred near its beginning.

        None where the network's own first row is: its rows then stay as they are.
        """
        return math.floor(self.centre) if self.centre > self.hop else 0

    @property
    def first(self) -> float:
        """Centre of the first row, from the beginning of the sound."""
        return self.centre - self.lead

    def count(self, samples: int) -> int:
        """Rows of a sound: all that are centred within it, and one at least."""
        return 1 + max(0, math.floor((samples - self.first) / self.hop))

    def extended(self, sound: FloatArray) -> FloatArray:
        """A sound ``(time,)`` with the zeros before and after it that its rows need."""
        needed = self.needed(self.count(len(sound)))
        after = max(0, needed - self.lead - len(sound))
        return np.pad(sound, (self.lead, after))


class CentredModel(nn.Module):
    """A registered model with rows at equally spaced instants.

    Nothing is trained through it, and gradients do not pass.

    Args:
        spec: Model, layers, pooling, and the rate of the audio that will be given. At another rate
            than the model's own the audio is resampled, with the library's one resampler.
        hop_ms: The largest distance between rows in milliseconds. Patches overlap as much as it
            takes, which costs a pass of the network for each row; networks that run along the
            waveform keep the steps they have, whatever is asked.
        batch_size: Patches in one pass of the network.

    Raises:
        ModelNotFoundError: No such model.
        ConfigError: No such layer or pooling, or a hop that is no time.
    """

    def __init__(self, spec: ModelSpec, *, hop_ms: float = 50.0, batch_size: int = 32) -> None:
        super().__init__()
        if not 0 < hop_ms < math.inf:
            raise ConfigError(f"hop_ms must be above 0, not {hop_ms}")
        module, card = build_model(spec.model)
        self.model: Any = module
        self.card: Card = card
        self.rate = spec.sample_rate or card.sample_rate
        self._spec = spec
        self._batch_size = batch_size
        self._patch_hop = _patch_hop(module, hop_ms)
        self._made: dict[str, Embedder] = {}
        rows = self._embedder("rows")
        self.dim = rows.dim
        self.instants = _instants(rows)

    @property
    def hop_ms(self) -> float:
        """Milliseconds between rows."""
        return 1000.0 * self.instants.hop / self.card.sample_rate

    def extra_repr(self) -> str:
        """One line for `print`."""
        return f"{self.card.name}, {self.rate} Hz, {self.dim} values, every {self.hop_ms:.4g} ms"

    def rows(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Embed sounds at equally spaced instants.

        Args:
            audio: ``(n, time)`` float, in [-1, 1].

        Returns:
            Rows ``(n, T, dim)`` float32 and instants ``(T,)`` float64 in milliseconds, both on the
            audio's device; with ``T = count(time)`` as in `Instants`.

        Raises:
            AudioValueError: Not ``(n, time)``, not floats, or NaN.
            AudioEmptyError: No samples.
        """
        samples = self._checked(audio)
        rate, instants = self.card.sample_rate, self.instants
        count = instants.count(len(samples[0]) if samples else self._resampled(audio.shape[1]))
        sounds = [Sound(instants.extended(sound), rate, _SOURCE) for sound in samples]
        found = [rows.values[:count] for rows in self._embedder("rows").batch(sounds)]
        times = 1000.0 * (instants.first + np.arange(count) * instants.hop) / rate
        # What resampling rounds, and a sound shorter than half a row.
        times = np.minimum(times, 1000.0 * audio.shape[1] / self.rate)
        return _stacked(found, (count, self.dim), audio), torch.from_numpy(times).to(audio.device)

    def means(self, audio: Tensor) -> Tensor:
        """Embed each sound as one vector: the mean of the library's own rows, by seconds heard.

        Args:
            audio: ``(n, time)`` float, in [-1, 1].

        Returns:
            ``(n, dim)`` float32, on the audio's device.

        Raises:
            AudioValueError: Not ``(n, time)``, not floats, or NaN.
            AudioEmptyError: No samples.
        """
        rate = self.card.sample_rate
        sounds = [Sound(sound, rate, _SOURCE) for sound in self._checked(audio)]
        found = [rows.mean() for rows in self._embedder("means").batch(sounds)]
        return _stacked(found, (self.dim,), audio)

    def _checked(self, audio: Tensor) -> list[FloatArray]:
        """Each sound's samples at the model's rate."""
        if not isinstance(audio, Tensor) or audio.dim() != 2 or not audio.is_floating_point():
            said = tuple(audio.shape) if isinstance(audio, Tensor) else type(audio).__name__
            raise AudioValueError(_SOURCE, f"is {said}", "give a tensor of floats (sounds, time)")
        if audio.shape[1] == 0:
            raise AudioEmptyError(_SOURCE, "no samples", "give at least one")
        given = audio.detach().cpu().float().numpy()
        sounds = [as_sound(sound, self.rate, _SOURCE).samples for sound in given]
        if self.rate == self.card.sample_rate:
            return sounds
        made = (resample(sound, self.rate, self.card.sample_rate) for sound in sounds)
        # Of a few samples at a higher rate nothing may be left.
        return [sound if len(sound) else np.zeros(1, np.float32) for sound in made]

    def _resampled(self, samples: int) -> int:
        """How many samples that many become at the model's rate."""
        zeros = np.zeros(samples, np.float32)
        return len(
            zeros
            if self.rate == self.card.sample_rate
            else resample(zeros, self.rate, self.card.sample_rate)
        )

    def _embedder(self, kind: str) -> Embedder:
        """For ``"rows"`` at their instants or for ``"means"``, where the weights are now."""
        if kind not in self._made:
            # Around an instant there is silence, never a repeated sound.
            own = {"short": "pad", "patch_hop": self._patch_hop} if kind == "rows" else {}
            self._made[kind] = Embedder(
                self.model,
                self.card,
                layer=self._spec.layers or None,
                pooling=self._spec.pooling,
                device=next(self.model.parameters()).device,
                batch_size=self._batch_size,
                **own,  # type: ignore[arg-type]
            )
        return self._made[kind]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> CentredModel:
        # Embedders keep weights in other forms, where the model was when they were made.
        self._made.clear()
        super()._apply(fn, recurse)
        return self


def _patch_hop(module: Any, hop_ms: float) -> int | None:
    if not isinstance(module.front_end, FrontEnd):
        return None
    framing = module.front_end.framing
    frames = int(hop_ms * module.front_end.sample_rate / (1000 * framing.hop) + 1e-9)
    # At most half of what is heard: the last row then hears all that follows its instant.
    return max(1, min(frames, framing.heard_frames // 2))


def _instants(embedder: Embedder) -> Instants:
    hearing = embedder.hearing
    if isinstance(hearing, SequenceHearing):
        grid = hearing.grid
        leading = grid.leading
        return Instants(
            leading.stride,
            leading.offset + leading.field / 2,
            lambda count: max(leading.samples(count), grid.minimum),
        )
    framing = hearing.front_end.framing  # type: ignore[attr-defined]
    return Instants(
        framing.patch_step,
        framing.heard_samples / 2 - framing.pad,
        lambda count: (count - 1) * framing.patch_step + framing.patch_samples - 2 * framing.pad,
    )


def _stacked(found: Sequence[FloatArray], shape: tuple[int, ...], audio: Tensor) -> Tensor:
    values = np.stack(found) if found else np.zeros((0, *shape), np.float32)
    return torch.from_numpy(values).to(audio.device)
