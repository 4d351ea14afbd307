"""What is exported to ONNX: networks that begin with the waveform, without a Fourier transform.

The front ends' arithmetic once more, in operations that every runtime has: the spectrum is a
convolution with sines and cosines, and all that depends on the length of a sound is arithmetic on
whole numbers, so that any length goes through one graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.audio.frontends import FrontEnd
from coala_latent.embed.pooling import pool
from coala_latent.models.geometry import Geometry

__all__ = ["CoveredWaveforms", "PatchGraph", "Reading", "SequenceGraph", "covering"]


class PatchGraph(nn.Module):
    """Waveforms to the rows of a network that sees one patch at a time.

    Args:
        model: Has ``network`` and, for scores, ``score`` and ``scored``.
        front_end: Of the model, with the patch hop that is wanted.
        layers: To embed, their columns side by side.
        pooling: Over the positions of a layer.
        tile: Repeat sounds shorter than a patch until they fill one, instead of extending them as
            the front end does.
        scores: Sets of classes to score.

    Shape:
        - Input: ``(batch, time)``, at least one sample.
        - Output: rows ``(batch, rows, dim)``, and ``(batch, rows, classes)`` for each of `scores`.
          A sound too short for a row has one all the same, of itself and silence.
    """

    def __init__(
        self,
        model: Any,
        front_end: FrontEnd,
        layers: Sequence[str],
        pooling: str,
        *,
        tile: bool = False,
        scores: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.front_end = front_end
        self.layers = tuple(layers)
        self.pooling = pooling
        self.tile = tile
        self.scores = tuple(scores)
        self.register_buffer("waves", _waves(front_end), persistent=False)

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Rows and scores; see the class."""
        patches = self.patches(waveform)
        flat = patches.reshape(-1, 1, *self.front_end.patch_shape)
        scored = [self.model.scored[name] for name in self.scores]
        found = self.model.network.activations(flat, {*self.layers, *scored})
        axis = self.model.network.time_axis
        rows = torch.cat([pool(found[layer], self.pooling, axis) for layer in self.layers], dim=1)
        scores = [
            self.model.score(name, pool(found[layer], "mean"))
            for name, layer in zip(self.scores, scored, strict=True)
        ]
        shape = (waveform.shape[0], -1)
        return tuple(each.reshape(*shape, each.shape[-1]) for each in (rows, *scores))

    def patches(self, waveform: Tensor) -> Tensor:
        """Scaled patches ``(batch, rows, *patch_shape)``."""
        framing = self.front_end.framing
        samples = waveform.shape[-1]
        if self.tile:
            samples = torch.sym_max(samples, framing.row_samples)
        frames, rows = self._counts(samples)
        spectrum = F.conv1d(
            self._padded(waveform, samples, rows)[:, None],
            self.get_buffer("waves"),
            stride=framing.hop,
        )
        power = spectrum.square()
        power = power[:, : power.shape[1] // 2] + power[:, power.shape[1] // 2 :]
        magnitude = power if self.front_end.power == 2 else power.sqrt()
        frame = torch.arange(rows)[:, None] * framing.patch_hop + torch.arange(framing.patch)
        mel = self.front_end.compress(self.front_end.mel_filters @ magnitude)
        return self.front_end.scale(mel[:, :, frame].transpose(1, 2), frame < frames)

    def _counts(self, samples: int) -> tuple[int, int]:
        """Frames and rows of that many samples, as in `Framing`, but for one row at least."""
        framing = self.front_end.framing
        padded = torch.sym_max(samples, framing.min_samples) + 2 * framing.pad
        if framing.tail == "drop":
            frames = 1 + (padded - framing.window) // framing.hop
            return frames, 1 + torch.sym_max(0, (frames - framing.patch) // framing.patch_hop)
        if framing.tail == "silence":
            more = _steps(padded - framing.heard_samples, framing.patch_step)
            frames = more * framing.patch_hop + framing.patch
        else:
            frames = 1 + _steps(padded - framing.window, framing.hop)
        return frames, 1 + _steps(frames - framing.heard_frames, framing.patch_hop)

    def _padded(self, waveform: Tensor, samples: int, rows: int) -> Tensor:
        """The samples that so many rows are computed from."""
        framing = self.front_end.framing
        whole = torch.sym_max(samples, framing.min_samples)
        place = torch.arange((rows - 1) * framing.patch_step + framing.patch_samples)
        sample = place - framing.pad
        inside = place < whole + 2 * framing.pad
        if framing.pad_mode == "reflect":
            sample = sample.abs()
            sample = torch.where(sample < whole, sample, 2 * (whole - 1) - sample)
        return _taken(waveform, sample, inside & (sample >= 0) & (sample < samples))


class CoveredWaveforms(nn.Module):
    """Waveforms extended so that a network that runs along them hears them to the end.

    Args:
        geometries: Of the layers wanted.
        tile: Repeat sounds too short for a step, instead of extending them with silence.

    Shape:
        - Input: ``(batch, time)``, at least one sample.
        - Output: ``(batch, longer time)`` for each of the geometries.
    """

    def __init__(self, geometries: Sequence[Geometry], tile: bool) -> None:
        super().__init__()
        self.geometries = tuple(geometries)
        self.tile = tile

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Extend; see the class."""
        samples = torch.full((), waveform.shape[-1], dtype=torch.int64)
        return tuple(self._covered(waveform, samples, each) for each in self.geometries)

    def _covered(self, waveform: Tensor, samples: Tensor, geometry: Geometry) -> Tensor:
        length: Any = covering(samples, geometry).item()
        torch._check(length >= geometry.minimum)
        place = torch.arange(length)
        heard = samples.clamp(min=geometry.minimum) if self.tile else samples
        return _taken(waveform, place, place < heard)


class Reading(NamedTuple):
    """One output of a graph.

    Attributes:
        name: Of the output.
        layer: It is read from.
        scores: The set of classes scored; None where the layer itself is wanted.
    """

    name: str
    layer: str
    scores: str | None = None


class SequenceGraph(nn.Module):
    """Extended waveforms to the steps of a network that runs along them.

    Args:
        model: Has ``front_end``, ``network`` and, for scores, ``score``.
        readings: For each of the waveforms given, what is wanted of it.

    Shape:
        - Input: ``(batch, time)`` each, from `CoveredWaveforms`.
        - Output: ``(batch, rows, channels)`` each, in the order of `readings`.
    """

    def __init__(self, model: Any, readings: Sequence[Sequence[Reading]]) -> None:
        super().__init__()
        self.model = model
        self.readings = tuple(tuple(each) for each in readings)

    def forward(self, *waveforms: Tensor) -> tuple[Tensor, ...]:
        """Steps; see the class."""
        found = []
        for waveform, readings in zip(waveforms, self.readings, strict=True):
            layers = {reading.layer for reading in readings}
            steps = self.model.network.activations(self.model.front_end(waveform), layers)
            for reading in readings:
                values = steps[reading.layer]
                if reading.scores is not None:
                    values = self.model.score(reading.scores, values)
                found.append(values.transpose(1, 2))
        return tuple(found)


def covering(samples: Tensor, geometry: Geometry) -> Tensor:
    """`Geometry.covering` of a whole number in a tensor, of at least the geometry's minimum."""
    length = needed = samples.clamp(min=geometry.minimum)
    for place, window in enumerate(geometry.windows):
        more = (needed + window.pad - window.kernel + window.stride - 1).div(
            window.stride, rounding_mode="floor"
        )
        needed = 1 + more.clamp(min=0)
        # So many steps need so many samples; a single one needs no more than the minimum.
        here = Geometry(geometry.windows[: place + 1])
        least = here.field + 2 * here.offset
        length = torch.maximum(length, (needed - 1) * here.stride + least)
    return length


def _steps(beyond: int, size: int) -> int:
    """How many steps of that size it takes to reach so far; none for what is not ahead."""
    return torch.sym_max(0, (beyond + size - 1) // size)


def _taken(waveform: Tensor, sample: Tensor, inside: Tensor) -> Tensor:
    """Samples by their index, which begins anew after the last one; silence where not `inside`."""
    index = torch.remainder(sample, torch.full((), waveform.shape[-1], dtype=torch.int64))
    return torch.where(inside, waveform[:, index], 0.0)


def _waves(front_end: FrontEnd) -> Tensor:
    """Windowed cosines and sines ``(2 * bins, 1, window)``: the Fourier transform of a frame."""
    window = front_end.framing.window
    size = front_end.n_fft
    turns = torch.arange(size // 2 + 1)[:, None] * torch.arange(window) % size
    angle = 2 * torch.pi * turns.double() / size
    waves = torch.cat([angle.cos(), angle.sin()]) * front_end.window[:window].double().cpu()
    return waves.float()[:, None]
