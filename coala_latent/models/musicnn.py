"""MusiCNN: 50 music tags from 3 s of sound, by two networks.

Paper: Pons, Serra, "musicnn: Pre-trained convolutional neural networks for music audio tagging",
ISMIR Late-Breaking/Demo, 2019 (arXiv 1909.06654). The musically motivated front end: Pons et al.,
"End-to-end learning for music audio tagging at scale", ISMIR 2018 (arXiv 1711.02520). The VGG
network is also the backbone of Afchar et al., "Learning Unsupervised Hierarchies of Audio
Concepts", ISMIR 2022 (arXiv 2207.11231). Original project: jordipons/musicnn (ISC).

Everywhere a ReLU comes before its batch norm. Time is the first axis of an image, frequency the
second, as in the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coala_latent.audio.musicnn import MusicnnFrontEnd
from coala_latent.models.layered import Layered, Step

if TYPE_CHECKING:
    from coala_latent.models.musicnn_folded import FoldedMusicnn, FoldedVgg

__all__ = ["Musicnn", "MusicnnNetwork", "VggNetwork"]

BANDS = 96
# TensorFlow's defaults.
EPS = 1e-3
MOMENTUM = 0.01

# Window and stride (frames, bands) of each pooling of the VGG network. The first one's stride of 2
# over bands is its convolution's: every second band would be computed and not looked at.
POOLS = (((4, 1), (2, 1)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))
# Steps and bands that are left of a patch of 187 frames.
LAST_GRID = (2, 1)
BLOCK_DROPOUT = 0.25
DENSE_DROPOUT = 0.5

# Frames and bands of the front end's kernels.
TIMBRAL = ((7, 38), (7, 67))
TEMPORAL = (128, 64, 32)
MIDDLE = 3
MIDDLE_KERNEL = 7


class ConvNorm(nn.Module):
    """Convolution, ReLU, batch norm.

    Args:
        conv: Its padding is the same on both sides.
        pad: What an even kernel needs besides, as in `torch.nn.functional.pad`.
    """

    def __init__(self, conv: nn.Conv1d | nn.Conv2d, pad: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.conv = conv
        self.pad = pad
        norm = nn.BatchNorm1d if isinstance(conv, nn.Conv1d) else nn.BatchNorm2d
        self.norm = norm(conv.out_channels, eps=EPS, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, ...)`` to ``(n, outputs, ...)``."""
        padded = F.pad(x, self.pad) if self.pad else x
        activated: Tensor = self.norm(F.relu(self.conv(padded)))
        return activated


class PooledBlock(ConvNorm):
    """Convolution of 3 x 3, ReLU, batch norm, maximum of a window."""

    def __init__(self, number: int, inputs: int, outputs: int) -> None:
        window, stride = POOLS[number - 1]
        step = (1, 2) if number == 1 else (1, 1)
        super().__init__(nn.Conv2d(inputs, outputs, 3, step, padding=1))
        self.dropout = nn.Dropout(0.0 if number == 1 else BLOCK_DROPOUT)
        self.pool = nn.MaxPool2d(window, stride)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, inputs, frames, bands)`` to ``(n, outputs, fewer, fewer)``."""
        pooled: Tensor = self.pool(super().forward(self.dropout(x)))
        return pooled


class VggNetwork(Layered):
    """Five blocks of convolution and pooling.

    Layers ``pool1`` .. ``pool5`` ``(n, channels, steps, bands)`` and ``logits`` ``(n, tags)``. Of
    187 frames there are 92 x 48, 46 x 24, 23 x 12, 11 x 6 and 2 x 1 positions. The pooling layers
    exist for any longer input too (30 s are 1876 frames, of which ``pool5`` has 29 steps of 64
    frames, 1.024 s); the logits are read from the two steps of one patch.

    Args:
        channels: Of every convolution.
        tags: Tags to tell apart.

    Shape:
        - Input: ``(n, 1, 187 frames, 96 bands)``.
        - Output: logits ``(n, tags)``.
    """

    def __init__(self, channels: int = 128, tags: int = 50) -> None:
        super().__init__()
        self.norm_input = nn.BatchNorm2d(1, eps=EPS, momentum=MOMENTUM)
        for number in range(1, len(POOLS) + 1):
            block = PooledBlock(number, 1 if number == 1 else channels, channels)
            self.add_module(f"block{number}", block)
        self.dropout = nn.Dropout(DENSE_DROPOUT)
        self.classifier = nn.Linear(LAST_GRID[0] * LAST_GRID[1] * channels, tags)

    def steps(self) -> dict[str, Step]:
        """``pool1`` .. ``pool5``."""
        later = {f"pool{n}": self.get_submodule(f"block{n}") for n in range(2, len(POOLS) + 1)}
        return {"pool1": self._first, **later}

    def heads(self) -> dict[str, Step]:
        """``logits``."""
        return {"logits": self._logits}

    def forward(self, x: Tensor) -> Tensor:
        """Tag logits of patches; see the class."""
        return self.until(x, "logits")

    def folded(self) -> FoldedVgg:
        """The same layers in evaluation, with the weights as they are now, several times faster."""
        from coala_latent.models.musicnn_folded import FoldedVgg

        return FoldedVgg(self)

    def concept_features(self, x: Tensor) -> dict[str, Tensor]:
        """What concept vectors are trained on, of patches ``(n, 1, 187, 96)``.

        Returns:
            ``pool3`` ``(n, 12 * channels)``, ``pool4`` ``(n, 6 * channels)`` and ``pool5``
            ``(n, channels)``: means over time, band by band with the channels of each beside each
            other; ``output`` ``(n, tags)``: probabilities.
        """
        found = self.activations(x, ("pool3", "pool4", "pool5", "logits"))
        logits = found.pop("logits")
        pooled = {name: _bands_first(maps.mean(2)) for name, maps in found.items()}
        return {**pooled, "output": torch.sigmoid(logits)}

    def _first(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.get_submodule("block1")(self.norm_input(x))
        return pooled

    def _logits(self, pooled: Tensor) -> Tensor:
        if tuple(pooled.shape[2:]) != LAST_GRID:
            steps = pooled.shape[2]
            raise ValueError(
                f"{steps} steps of pool5: logits are read from {LAST_GRID[0]}, those of a patch of "
                "187 frames; cut longer sounds into patches, or leave the network at pool5"
            )
        # The original's order: time, frequency, channel.
        flat = pooled.permute(0, 2, 3, 1).flatten(1)
        logits: Tensor = self.classifier(self.dropout(flat))
        return logits


def _bands_first(maps: Tensor) -> Tensor:
    """``(n, channels, bands)`` to ``(n, bands * channels)``."""
    return maps.transpose(1, 2).flatten(1)


class MusicnnNetwork(Layered):
    """Kernels shaped after musical ideas, densely connected layers over time, global pooling.

    Layers, each over time with one step a frame: ``frontend`` ``(n, 561, frames)``: what tall
    kernels (timbre, 408 channels) and long ones (rhythm, 153) found anywhere in frequency;
    ``middle1`` .. ``middle3``: all before and 64 channels more each ``(n, 625, frames)``,
    ``(n, 689, frames)``, ``(n, 753, frames)``. Then ``pooled`` ``(n, 1506)``: the maxima over time
    and then the means; ``penultimate`` ``(n, 200)``; ``logits`` ``(n, tags)``.

    Args:
        timbral: Channels of each of the 2 tall kernels.
        temporal: Channels of each of the 3 long kernels.
        middle: Channels that each of the 3 middle layers adds.
        dense: Size of the penultimate layer.
        tags: Tags to tell apart.

    Shape:
        - Input: ``(n, 1, 187 frames, 96 bands)``; other numbers of frames work.
        - Output: logits ``(n, tags)``.
    """

    def __init__(
        self,
        timbral: int = 204,
        temporal: int = 51,
        middle: int = 64,
        dense: int = 200,
        tags: int = 50,
    ) -> None:
        super().__init__()
        self.norm_input = nn.BatchNorm2d(1, eps=EPS, momentum=MOMENTUM)
        self.timbral = nn.ModuleList(
            ConvNorm(nn.Conv2d(1, timbral, kernel, padding=(kernel[0] // 2, 0)))
            for kernel in TIMBRAL
        )
        self.temporal = nn.ModuleList(
            # TensorFlow's "SAME": an even kernel has one zero more after the sound than before it.
            ConvNorm(nn.Conv2d(1, temporal, (frames, 1)), (0, 0, (frames - 1) // 2, frames // 2))
            for frames in TEMPORAL
        )
        front = len(TIMBRAL) * timbral + len(TEMPORAL) * temporal
        self.middle = nn.ModuleList(
            ConvNorm(nn.Conv1d(inputs, middle, MIDDLE_KERNEL, padding=MIDDLE_KERNEL // 2))
            for inputs in (front, middle, middle)
        )
        pooled = 2 * (front + MIDDLE * middle)
        self.norm_pool = nn.BatchNorm1d(pooled, eps=EPS, momentum=MOMENTUM)
        self.dropout = nn.Dropout(DENSE_DROPOUT)
        self.dense = nn.Linear(pooled, dense)
        self.norm_dense = nn.BatchNorm1d(dense, eps=EPS, momentum=MOMENTUM)
        self.classifier = nn.Linear(dense, tags)

    def steps(self) -> dict[str, Step]:
        """``frontend``, ``middle1`` .. ``middle3``, ``pooled``, ``penultimate``."""
        return {
            "frontend": self._frontend,
            "middle1": self._middle1,
            "middle2": self._middle2,
            "middle3": self._middle3,
            "pooled": _max_mean,
            "penultimate": self._penultimate,
        }

    def heads(self) -> dict[str, Step]:
        """``logits``."""
        return {"logits": self._logits}

    def forward(self, x: Tensor) -> Tensor:
        """Tag logits of patches; see the class."""
        return self.until(x, "logits")

    def folded(self) -> FoldedMusicnn:
        """The same layers in evaluation, with the weights as they are now, several times faster."""
        from coala_latent.models.musicnn_folded import FoldedMusicnn

        return FoldedMusicnn(self)

    def _frontend(self, x: Tensor) -> Tensor:
        normal = self.norm_input(x)
        kernels = (*self.timbral, *self.temporal)
        return torch.cat([kernel(normal).amax(3) for kernel in kernels], dim=1)

    def _middle1(self, front: Tensor) -> Tensor:
        return torch.cat([front, self.middle[0](front)], dim=1)

    def _middle2(self, features: Tensor) -> Tensor:
        return self._residual(1, features)

    def _middle3(self, features: Tensor) -> Tensor:
        return self._residual(2, features)

    def _residual(self, number: int, features: Tensor) -> Tensor:
        layer = self.middle[number]
        assert isinstance(layer, ConvNorm)
        before = features[:, -layer.conv.in_channels :]
        return torch.cat([features, layer(before) + before], dim=1)

    def _penultimate(self, pooled: Tensor) -> Tensor:
        dense: Tensor = self.norm_dense(F.relu(self.dense(self.dropout(self.norm_pool(pooled)))))
        return dense

    def _logits(self, penultimate: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(penultimate))
        return logits


def _max_mean(features: Tensor) -> Tensor:
    """``(n, channels, frames)`` to ``(n, 2 * channels)``."""
    return torch.cat([features.amax(2), features.mean(2)], dim=1)


class Musicnn(nn.Module):
    """A tagger of music from the waveform on.

    Args:
        front_end: Waveforms to patches.
        network: Patches to tag logits.

    Shape:
        - Input: ``(batch, time)`` or ``(time,)``, float in [-1, 1], 16 kHz.
        - Output: probabilities ``(batch, patches, tags)``; without ``batch`` for a single waveform.
    """

    scored: ClassVar[Mapping[str, str]] = {"tags": "logits"}

    def __init__(self, front_end: MusicnnFrontEnd, network: VggNetwork | MusicnnNetwork) -> None:
        super().__init__()
        self.front_end = front_end
        self.network = network

    def score(self, name: str, hidden: Tensor) -> Tensor:
        """Logits ``(n, tags)`` to probabilities; any number of tags may apply.

        Raises:
            KeyError: No such set of classes.
        """
        if name not in self.scored:
            raise KeyError(f"no classes {name!r}; there are {', '.join(self.scored)}")
        return torch.sigmoid(hidden)

    def forward(self, waveform: Tensor) -> Tensor:
        """Tag probabilities of whole waveforms; see the class."""
        patches = self.front_end(waveform)
        logits = self.network(patches.reshape(-1, 1, *self.front_end.patch_shape))
        return self.score("tags", logits).reshape(*patches.shape[:-2], -1)
