"""YAMNet: 521 kinds of sound events from 0.96 s of sound.

Original project: YAMNet in TensorFlow's model garden (research/audioset/yamnet, Plakal and Ellis,
Apache-2.0), trained on AudioSet (Gemmeke et al., "Audio Set: An ontology and human-labeled dataset
for audio events", ICASSP 2017). The body is MobileNet v1: Howard et al., "MobileNets: Efficient
Convolutional Neural Networks for Mobile Vision Applications", 2017 (arXiv 1704.04861).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.audio.yamnet import YamnetFrontEnd
from coala_latent.models.folding import folded_parameters
from coala_latent.models.layered import Layered, Step

__all__ = ["FoldedYamnetNetwork", "SamePad", "Yamnet", "YamnetNetwork", "YamnetOutput"]

# Stride of each layer, and its channels as multiples of the first layer's.
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
WIDTHS = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
KERNEL = 3
EPS = 1e-4
# TensorFlow's default decay of 0.99.
MOMENTUM = 0.01
# Patches whose activations stay in a processor's caches.
BLOCK = 16


class SamePad(nn.Module):
    """TensorFlow's "SAME" padding: ``ceil(n / stride)`` outputs, the odd zero at the end.

    At stride 2 an even side is padded at its end alone, which no symmetric padding can do.

    Args:
        kernel: Side of the kernel.
        stride: Of the convolution that follows.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def sides(self, size: int) -> tuple[int, int]:
        """Zeros before and after a side of that size."""
        outputs = -(-size // self.stride)
        total = max(0, (outputs - 1) * self.stride + self.kernel - size)
        return total // 2, total - total // 2

    def forward(self, x: Tensor) -> Tensor:
        """Pad ``(..., height, width)``."""
        return F.pad(x, (*self.sides(x.shape[-1]), *self.sides(x.shape[-2])))


class ConvNorm(nn.Module):
    """Convolution with "SAME" padding, batch norm without scale, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        # At stride 1 "SAME" is symmetric, and the convolution can pad for itself.
        self.pad = nn.Identity() if stride == 1 else SamePad(kernel, stride)
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = nn.BatchNorm2d(outputs, eps=EPS, momentum=MOMENTUM)
        # The original has no scale to learn.
        self.norm.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, height, width)`` to ``(n, outputs, ceil(height / stride), ...)``."""
        return F.relu(self.norm(self.conv(self.pad(x))))


class Separable(nn.Module):
    """A 3 x 3 convolution of each channel by itself, then a 1 x 1 convolution across them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(inputs, inputs, KERNEL, stride, groups=inputs)
        self.pointwise = ConvNorm(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, height, width)`` to ``(n, outputs, ...)``."""
        separated: Tensor = self.pointwise(self.depthwise(x))
        return separated


class YamnetNetwork(Layered):
    """Log-mel patches to embeddings and class logits.

    Layers ``layer1`` .. ``layer14`` after their last ReLU, ``embedding`` (their mean over time and
    frequency), ``logits``.

    Args:
        channels: Of the first layer; the embedding has 32 times as many values.
        classes: Classes to tell apart.

    Shape:
        - Input: ``(n, 1, 96 frames, 64 bands)``; other sides work.
        - Output: embeddings ``(n, 32 * channels)`` and logits ``(n, classes)``.
    """

    def __init__(self, channels: int = 32, classes: int = 521) -> None:
        super().__init__()
        self.layer1 = ConvNorm(1, channels, KERNEL, STRIDES[0])
        for number in range(2, len(STRIDES) + 1):
            before, width = WIDTHS[number - 2], WIDTHS[number - 1]
            layer = Separable(before * channels, width * channels, STRIDES[number - 1])
            self.add_module(f"layer{number}", layer)
        self.classifier = nn.Linear(WIDTHS[-1] * channels, classes)

    def steps(self) -> dict[str, Step]:
        """``layer1`` .. ``layer14`` and ``embedding``."""
        return _chain(self)

    def heads(self) -> dict[str, Step]:
        """``logits``."""
        return {"logits": self.classifier}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embed and classify patches; see the class."""
        found = self.activations(x, ("embedding", "logits"))
        return found["embedding"], found["logits"]

    def folded(self) -> FoldedYamnetNetwork:
        """The same function for inference, faster (``benchmarks/yamnet.py`` says how much)."""
        return FoldedYamnetNetwork(self)


def _chain(network: nn.Module) -> dict[str, Step]:
    names = [f"layer{number}" for number in range(1, len(STRIDES) + 1)]
    return {**{name: network.get_submodule(name) for name in names}, "embedding": _mean}


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


class FoldedSpatial(nn.Module):
    """A 3 x 3 `ConvNorm` in evaluation: one convolution with bias, channels last in memory."""

    def __init__(self, step: ConvNorm) -> None:
        super().__init__()
        weight, bias = folded_parameters(step.conv, step.norm)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.pad = step.pad
        self.stride, self.groups = step.conv.stride, step.conv.groups
        self.padding = step.conv.padding

    def forward(self, x: Tensor) -> Tensor:
        """As `ConvNorm`."""
        x = x.contiguous(memory_format=torch.channels_last)
        if isinstance(self.pad, SamePad):
            # With one channel both memory layouts look alike: padded in this order of dimensions,
            # the strides still say which one it is, and the convolution keeps to it.
            height, width = x.shape[2:]
            around = (0, 0, *self.pad.sides(width), *self.pad.sides(height))
            x = F.pad(x.permute(0, 2, 3, 1), around).permute(0, 3, 1, 2)
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, groups=self.groups
        ).relu_()


class FoldedPointwise(nn.Module):
    """A 1 x 1 `ConvNorm` in evaluation: one matrix product, channels last in memory."""

    def __init__(self, step: ConvNorm) -> None:
        super().__init__()
        weight, bias = folded_parameters(step.conv, step.norm)
        self.weight = nn.Parameter(weight.flatten(1), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """As `ConvNorm`."""
        rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        return F.linear(rows, self.weight, self.bias).relu_().permute(0, 3, 1, 2)


class FoldedYamnetNetwork(Layered):
    """A `YamnetNetwork` in evaluation, rearranged for speed; it is not for training.

    Batch norms are folded into the convolutions, activations are kept channels last, so that
    convolutions across channels are plain matrix products, and on a CPU a large batch runs in
    blocks that fit its caches. Values are within 2e-6 of a layer's largest from the network's.

    Args:
        network: Copied as it is now.

    Shape:
        As `YamnetNetwork`.
    """

    def __init__(self, network: YamnetNetwork) -> None:
        super().__init__()
        for name, step in network.named_children():
            if isinstance(step, ConvNorm):
                self.add_module(name, FoldedSpatial(step))
            elif isinstance(step, Separable):
                parts = FoldedSpatial(step.depthwise), FoldedPointwise(step.pointwise)
                self.add_module(name, nn.Sequential(*parts))
        self.classifier = copy.deepcopy(network.classifier).requires_grad_(False)
        self.train(network.training)

    def steps(self) -> dict[str, Step]:
        """``layer1`` .. ``layer14`` and ``embedding``."""
        return _chain(self)

    def heads(self) -> dict[str, Step]:
        """``logits``."""
        return {"logits": self.classifier}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embed and classify patches; see `YamnetNetwork`."""
        found = self.activations(x, ("embedding", "logits"))
        return found["embedding"], found["logits"]

    def _run(
        self, x: Tensor, steps: Sequence[tuple[str, Step]], layers: Collection[str]
    ) -> dict[str, Tensor]:
        # A compiled or exported network should not depend on the number of patches.
        if x.device.type != "cpu" or len(x) <= BLOCK or torch.compiler.is_compiling():
            return super()._run(x, steps, layers)
        blocks = [super(FoldedYamnetNetwork, self)._run(b, steps, layers) for b in x.split(BLOCK)]
        return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


class YamnetOutput(NamedTuple):
    """What `Yamnet` returns, in the original's order."""

    scores: Tensor
    embeddings: Tensor
    log_mel: Tensor


class Yamnet(nn.Module):
    """YAMNet from the waveform on.

    Args:
        front_end: Waveforms to patches; the original's by default.
        network: Patches to embeddings and logits; of the original's size by default.

    Shape:
        - Input: ``(batch, time)`` or ``(time,)``, float in [-1, 1], 16 kHz.
        - Output: scores ``(batch, patches, classes)`` in [0, 1], embeddings
          ``(batch, patches, 1024)``, log-mel spectrogram ``(batch, frames, 64)``; without
          ``batch`` for a single waveform.
    """

    scored: ClassVar[Mapping[str, str]] = {"events": "logits"}

    def __init__(
        self, front_end: YamnetFrontEnd | None = None, network: YamnetNetwork | None = None
    ) -> None:
        super().__init__()
        self.front_end = YamnetFrontEnd() if front_end is None else front_end
        self.network = YamnetNetwork() if network is None else network

    def score(self, name: str, hidden: Tensor) -> Tensor:
        """Logits ``(n, classes)`` to scores in [0, 1]; any number of classes may be present.

        Raises:
            KeyError: No such set of classes.
        """
        if name not in self.scored:
            raise KeyError(f"no classes {name!r}; there are {', '.join(self.scored)}")
        return torch.sigmoid(hidden)

    def forward(self, waveform: Tensor) -> YamnetOutput:
        """Scores, embeddings and log-mel spectrogram of whole waveforms; see the class."""
        frames = self.front_end.log_mel(waveform)
        patches = self.front_end.patches(frames).transpose(-1, -2)
        embeddings, logits = self.network(patches.reshape(-1, 1, *self.front_end.patch_shape))
        shape = patches.shape[:-2]
        return YamnetOutput(
            self.score("events", logits).reshape(*shape, -1),
            embeddings.reshape(*shape, -1),
            frames.transpose(-1, -2),
        )
