"""Chains of one-dimensional convolutions and poolings: whole, piece by piece, and quickly.

A step of such a network is computed from a window of the step before. In training it is what its
modules do, one after the other. In evaluation without gradients the same values are computed by
`Stage` objects: batch norms are folded into the convolutions, a convolution that only its pooling
reads is pooled before bias and ReLU, and time comes before channels in memory. A stage knows no
padding, so it serves whole sounds and streams alike (see `streaming`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.errors import AudioTooShortError
from coala_latent.models.folding import folded_parameters, scale_and_shift
from coala_latent.models.geometry import Geometry, Window
from coala_latent.models.layered import Layered, Step

__all__ = ["ConvolutionStack", "Joined", "NormedConvolution", "Part", "Pool", "Stage"]

# Above this many weights, folding or rearranging them costs more than the convolution itself.
_LARGE = 1 << 17
# Convolution steps computed side by side from a signal of one channel; SoundNet pools as many.
_PHASES = 8


class NormedConvolution(nn.Module):
    """Convolution, batch norm, ReLU: ``(n, inputs, time)`` to ``(n, outputs, steps)``."""

    def __init__(self, inputs: int, outputs: int, window: Window) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, window.kernel, window.stride, window.pad)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """One after the other."""
        return F.relu(self.norm(self.conv(x)))


class Joined:
    """Linear convolutions of the same input, their outputs one after the other.

    Args:
        convolutions: With equal windows.
    """

    def __init__(self, *convolutions: nn.Conv1d) -> None:
        self.convolutions = convolutions

    def __call__(self, x: Tensor) -> Tensor:
        """``(n, inputs, time)`` to ``(n, all outputs, steps)``."""
        return torch.cat([convolution(x) for convolution in self.convolutions], dim=1)


class Pool:
    """Largest of every `size` successive steps; an incomplete window is dropped.

    Args:
        size: Steps in a window, and between windows.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, x: Tensor) -> Tensor:
        """``(n, channels, time)`` to ``(n, channels, time // size)``."""
        if torch.compiler.is_exporting():
            # Torch exports its own pooling, and slices too, for lengths with the same remainder.
            windows = self.size * torch.arange(x.shape[2] // self.size, device=x.device)
            inside = torch.arange(self.size, device=x.device)
            return x[:, :, windows[:, None] + inside].amax(3)
        return F.max_pool1d(x, self.size)


Part: TypeAlias = NormedConvolution | Pool | Joined


@dataclass(frozen=True)
class Stage:
    """One step of a network in evaluation, or a convolution and its pooling in one.

    Attributes:
        layer: The layer reached.
        window: From the layer before to this one.
        channels: Of its output.
        run: ``(n, time, inputs)``, padded already, to ``(n, window.count(time), outputs)``.
    """

    layer: str
    window: Window
    channels: int
    run: Callable[[Tensor], Tensor]


class ConvolutionStack(Layered):
    """A network that is a chain of convolutions and poolings along time."""

    @abstractmethod
    def parts(self) -> Mapping[str, Part]:
        """Name of each layer and what makes it, in order."""

    def steps(self) -> dict[str, Step]:
        """The parts."""
        return dict(self.parts())

    def geometry(self, layer: str) -> Geometry:
        """Steps of a layer in samples of the network's input.

        Raises:
            KeyError: No such layer.
        """
        self._check((layer,))
        windows = []
        for name, part in self.parts().items():
            windows.append(_window(part))
            if name == layer:
                break
        return Geometry(tuple(windows))

    def stages(self, layers: Collection[str]) -> list[Stage]:
        """How to get to `layers` in evaluation, without gradients, as the weights are now.

        Raises:
            KeyError: No such layer.
            RuntimeError: The network is in training.
        """
        self._check(layers)
        if self.training:
            raise RuntimeError("stages are for evaluation: call eval() first")
        return self._stages(tuple(self.parts()), layers)

    def _stages(self, names: Sequence[str], layers: Collection[str]) -> list[Stage]:
        parts = self.parts()
        channels = _channels(parts)
        stages: list[Stage] = []
        left = list(self._needed(names, layers))
        while left:
            name = left.pop(0)
            part, after = parts[name], parts[left[0]] if left else None
            if isinstance(part, NormedConvolution):
                if isinstance(after, Pool) and name not in layers:
                    chain = Geometry((_window(part), _window(after)))
                    window = Window(chain.field, chain.stride, -chain.offset)
                    name, run = left.pop(0), _convolution(part, after.size)
                else:
                    window, run = _window(part), _convolution(part)
            else:
                window = _window(part)
                run = _pooling(part) if isinstance(part, Pool) else _linear(part)
            stages.append(Stage(name, window, channels[name], run))
        return stages

    def _needed(self, names: Sequence[str], layers: Collection[str]) -> Sequence[str]:
        """Those of successive steps that lead to `layers`."""
        if set(layers) & set(self.heads()):
            return names
        ends = [names.index(layer) + 1 for layer in layers if layer in names]
        return names[: max(ends)] if ends else names[:0]

    def _run(
        self, x: Tensor, steps: Sequence[tuple[str, Step]], layers: Collection[str]
    ) -> dict[str, Tensor]:
        self._check(layers)
        names = [name for name, _ in steps]
        self._check_length(x, self._needed(names, layers))
        # Compilers and exporters see the modules, and do their own rearranging.
        plain = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if self.training or torch.is_grad_enabled() or plain:
            return super()._run(x, steps, layers)
        found: dict[str, Tensor] = {}
        hidden = x.transpose(1, 2)
        for stage in self._stages(names, layers):
            if pad := stage.window.pad:
                hidden = F.pad(hidden, (0, 0, pad, pad))
            hidden = stage.run(hidden)
            if stage.layer in layers:
                found[stage.layer] = hidden.transpose(1, 2)
        for name, head in self.heads().items():
            if name in layers:
                found[name] = head(hidden.transpose(1, 2))
        return found

    def _check_length(self, x: Tensor, names: Sequence[str]) -> None:
        parts = self.parts()
        least = Geometry(tuple(_window(parts[name]) for name in names)).minimum
        if x.shape[-1] < least:
            raise AudioTooShortError(
                "network input",
                f"{x.shape[-1]} steps, {names[-1]} needs {least}",
                "repeat the sound or extend it with zeros",
            )


def _window(part: Part) -> Window:
    if isinstance(part, Pool):
        return Window(part.size, part.size)
    conv = part.convolutions[0] if isinstance(part, Joined) else part.conv
    padding = conv.padding[0]
    assert isinstance(padding, int)
    return Window(conv.kernel_size[0], conv.stride[0], padding)


def _channels(parts: Mapping[str, Part]) -> dict[str, int]:
    channels, found = 0, {}
    for name, part in parts.items():
        if isinstance(part, NormedConvolution):
            channels = part.conv.out_channels
        elif isinstance(part, Joined):
            channels = sum(conv.out_channels for conv in part.convolutions)
        found[name] = channels
    return found


def _pooling(part: Pool) -> Callable[[Tensor], Tensor]:
    return lambda x: _largest(x, part.size)


def _linear(part: Joined) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        found = [
            _correlated(x, conv.weight, conv.stride[0], conv.bias) for conv in part.convolutions
        ]
        return torch.cat(found, dim=2)

    return run


def _convolution(part: NormedConvolution, pool: int = 1) -> Callable[[Tensor], Tensor]:
    """Convolution, batch norm, ReLU and, above 1, pooling."""
    conv, norm = part.conv, part.norm
    stride = conv.stride[0]
    if conv.weight.numel() > _LARGE:
        scale, shift = scale_and_shift(conv, norm)

        def run_large(x: Tensor) -> Tensor:
            found = torch.addcmul(shift, _correlated(x, conv.weight, stride), scale)
            return _largest(found, pool).relu_()

        return run_large

    weight, bias = folded_parameters(conv, norm)
    if conv.in_channels == 1:
        side_by_side = _phases(weight, stride)

        def run_first(x: Tensor) -> Tensor:
            found = _correlated_phases(x, side_by_side, Window(conv.kernel_size[0], stride))
            return (_largest(found, pool) + bias).relu_()

        return run_first

    # Adding a bias and cutting off below it change nothing about what is largest.
    return lambda x: (_largest(_correlated(x, weight, stride), pool) + bias).relu_()


def _largest(x: Tensor, size: int) -> Tensor:
    """The largest of every `size` steps of ``(n, time, channels)``; a rest is dropped."""
    if size == 1:
        return x
    count = x.shape[1] // size
    groups = x[:, : count * size].reshape(x.shape[0], count, size, x.shape[2])
    # Halving is several times quicker than a reduction over a short dimension.
    while groups.shape[2] % 2 == 0:
        half = groups.shape[2] // 2
        groups = torch.maximum(groups[:, :, :half], groups[:, :, half:])
    return groups.amax(2) if groups.shape[2] > 1 else groups[:, :, 0]


def _correlated(x: Tensor, weight: Tensor, stride: int, bias: Tensor | None = None) -> Tensor:
    """Convolve ``(n, time, inputs)``, without padding, with ``(outputs, inputs, kernel)``."""
    outputs, _, kernel = weight.shape
    if weight.numel() > _LARGE:
        # Windows in the weights' own order: a few steps are rearranged, and no weight.
        windows = x.unfold(1, kernel, stride).flatten(2)
        return F.linear(windows, weight.reshape(outputs, -1), bias)
    # With the channels last in memory, as a picture one pixel high.
    picture = x.unsqueeze(1).permute(0, 3, 1, 2)
    found = F.conv2d(picture, weight.unsqueeze(2), bias, stride=(1, stride))
    return found.permute(0, 2, 3, 1).flatten(1, 2)


def _phases(weight: Tensor, stride: int) -> Tensor:
    """Kernels ``(outputs, 1, kernel)`` at `_PHASES` successive steps beside each other.

    Returns:
        ``(_PHASES * outputs, hop, blocks)``, for a signal cut into blocks of
        ``hop = _PHASES * stride`` samples. The zeros multiplied cost less than it does to have one
        channel only.
    """
    outputs, _, kernel = weight.shape
    hop = _PHASES * stride
    blocks = -(-(hop - stride + kernel) // hop)
    found = weight.new_zeros(_PHASES, outputs, blocks * hop)
    for phase in range(_PHASES):
        found[phase, :, phase * stride : phase * stride + kernel] = weight[:, 0]
    return found.view(_PHASES * outputs, blocks, hop).transpose(1, 2).contiguous()


def _correlated_phases(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    """Convolve ``(n, time, 1)`` with kernels arranged by `_phases`."""
    if x.shape[2] != 1:
        raise ValueError(f"{x.shape[2]} channels; this network takes 1")
    _, hop, blocks = weight.shape
    count = window.count(x.shape[1])
    needed = (-(-count // _PHASES) - 1 + blocks) * hop
    signal = F.pad(x[:, :, 0], (0, needed - x.shape[1]))
    found = _correlated(signal.unflatten(1, (-1, hop)), weight, 1)
    phases = found.unflatten(2, (_PHASES, -1)).flatten(1, 2)
    return phases[:, :count]
