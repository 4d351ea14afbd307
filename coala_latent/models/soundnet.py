"""SoundNet: objects and scenes heard in a waveform, learned from watching unlabelled video.

Paper: Aytar, Vondrick, Torralba, "SoundNet: Learning Sound Representations from Unlabeled Video",
NeurIPS 2016 (arXiv 1610.09001). Original project: cvondrick/soundnet (Lua Torch, MIT).

The waveform is mono at 22 050 Hz, scaled to [-256, 256]. Every convolution has an even kernel and
half of it as padding, so that a sound of ``L`` steps gives ``L // 2 + 1``; poolings drop an
incomplete window. Outputs are logits, one vector for about every three seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from coala_latent.audio.raw import RawWaveform
from coala_latent.models.geometry import Window
from coala_latent.models.layered import Step
from coala_latent.models.stack import ConvolutionStack, Joined, NormedConvolution, Part, Pool

__all__ = [
    "OBJECTS",
    "SCENES",
    "SoundNet",
    "SoundNetClassifier",
    "SoundNetOutput",
    "SoundNetwork",
    "initialise_",
]

OBJECTS = 1000
SCENES = 401


class _Row(NamedTuple):
    """A convolution of the table: its channels, its kernel, and how many steps are pooled."""

    channels: int
    kernel: int
    pool: int = 1


class _Table(NamedTuple):
    """The blocks of a network, all of stride 2, and the convolution that ends it."""

    rows: tuple[_Row, ...]
    head: Window


TABLES: Mapping[int, _Table] = {
    8: _Table(
        (
            *(_Row(16, 64, 8), _Row(32, 32, 8), _Row(64, 16), _Row(128, 8)),
            *(_Row(256, 4, 4), _Row(512, 4), _Row(1024, 4)),
        ),
        Window(8, 2),
    ),
    5: _Table(
        (_Row(32, 64, 8), _Row(64, 32, 8), _Row(128, 16, 8), _Row(256, 8)), Window(16, 12, 4)
    ),
}


def _trunk(network: nn.Module, depth: int) -> dict[str, Part]:
    """Layers below the heads of a network that has them as ``conv1`` .. of its own."""
    parts: dict[str, Part] = {}
    for number, row in enumerate(TABLES[depth].rows, start=1):
        block = network.get_submodule(f"conv{number}")
        assert isinstance(block, NormedConvolution)
        parts[f"conv{number}"] = block
        if row.pool > 1:
            parts[f"pool{number}"] = Pool(row.pool)
    return parts


class SoundNetwork(ConvolutionStack):
    """Scaled waveforms to logits of objects and scenes.

    Layers of the 8-layer network: ``conv1``, ``pool1``, ``conv2``, ``pool2``, ``conv3``,
    ``conv4``, ``conv5``, ``pool5``, ``conv6``, ``conv7`` (each after its ReLU), ``conv8`` (the
    logits of objects and then scenes), ``objects``, ``scenes``. Of the 5-layer network: ``conv1``,
    ``pool1``, ``conv2``, ``pool2``, ``conv3``, ``pool3``, ``conv4``, ``conv5``, ``objects``,
    ``scenes``.

    Args:
        depth: 8 or 5 layers.
        widths: Channels of every convolution below the last; the original's by default.
        objects: Classes of the first head.
        scenes: Classes of the second head.

    Shape:
        - Input: ``(n, 1, time)``, in [-256, 256].
        - Output: ``(n, objects, steps)`` and ``(n, scenes, steps)``.
    """

    def __init__(
        self,
        depth: Literal[5, 8] = 8,
        widths: Sequence[int] | None = None,
        objects: int = OBJECTS,
        scenes: int = SCENES,
    ) -> None:
        super().__init__()
        if depth not in TABLES:
            raise ValueError(f"depth is {depth}; SoundNet has 5 or 8 layers")
        rows, head = TABLES[depth]
        channels = [row.channels for row in rows] if widths is None else list(widths)
        if len(channels) != len(rows):
            raise ValueError(f"{len(channels)} widths; there are {len(rows)} convolutions to widen")
        self.depth = depth
        for number, row in enumerate(rows):
            before = 1 if number == 0 else channels[number - 1]
            window = Window(row.kernel, 2, row.kernel // 2)
            self.add_module(
                f"conv{number + 1}", NormedConvolution(before, channels[number], window)
            )
        self.objects = nn.Conv1d(channels[-1], objects, *head)
        self.scenes = nn.Conv1d(channels[-1], scenes, *head)

    @property
    def channels(self) -> int:
        """Channels of the layer below the heads."""
        return self.objects.in_channels

    def parts(self) -> dict[str, Part]:
        """The trunk, and both heads' logits one after the other."""
        heads = Joined(self.objects, self.scenes)
        return {**_trunk(self, self.depth), f"conv{self.depth}": heads}

    def heads(self) -> dict[str, Step]:
        """``objects`` and ``scenes``."""
        count = self.objects.out_channels
        return {"objects": lambda both: both[:, :count], "scenes": lambda both: both[:, count:]}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits; see the class.

        Raises:
            AudioTooShortError: Not one step comes of so short a sound.
        """
        found = self.activations(x, ("objects", "scenes"))
        return found["objects"], found["scenes"]


class SoundNetOutput(NamedTuple):
    """Logits that `SoundNet` returns."""

    objects: Tensor
    scenes: Tensor


class SoundNet(nn.Module):
    """SoundNet from the waveform on.

    Args:
        front_end: Scales the waveform; the original's by default.
        network: Of 8 layers by default.

    Shape:
        - Input: ``(batch, time)`` or ``(time,)``, float in [-1, 1], 22 050 Hz; at least 9.5 s for
          8 layers, 2.6 s for 5.
        - Output: logits ``(batch, 1000, steps)`` and ``(batch, 401, steps)``.
    """

    scored: ClassVar[Mapping[str, str]] = {"scenes": "scenes", "objects": "objects"}

    def __init__(
        self, front_end: RawWaveform | None = None, network: SoundNetwork | None = None
    ) -> None:
        super().__init__()
        self.front_end = RawWaveform() if front_end is None else front_end
        self.network = SoundNetwork() if network is None else network

    def score(self, name: str, hidden: Tensor) -> Tensor:
        """Logits ``(n, classes[, steps])`` to probabilities: of the classes one is present.

        Raises:
            KeyError: No such set of classes.
        """
        if name not in self.scored:
            raise KeyError(f"no classes {name!r}; there are {', '.join(self.scored)}")
        return torch.softmax(hidden, dim=1)

    def forward(self, waveform: Tensor) -> SoundNetOutput:
        """Logits of whole waveforms; see the class.

        Raises:
            AudioTooShortError: Not one step comes of so short a sound.
        """
        return SoundNetOutput(*self.network(self.front_end(waveform)))


class SoundNetClassifier(ConvolutionStack):
    """SoundNet's trunk with a convolution to other classes, to be fine-tuned.

    Layers are the trunk's and ``classes``, logits. With the original's kernel of 4 steps, a sound
    of 5 s gives exactly one step.

    Args:
        network: Its trunk is used, not copied; its heads are not.
        classes: Classes to tell apart.
        kernel: Steps of the trunk's last layer that one decision hears.

    Shape:
        - Input: ``(n, 1, time)``, in [-256, 256].
        - Output: ``(n, classes, steps)``.
    """

    def __init__(self, network: SoundNetwork, classes: int, kernel: int = 4) -> None:
        super().__init__()
        self.depth = network.depth
        for name, part in _trunk(network, network.depth).items():
            if isinstance(part, NormedConvolution):
                self.add_module(name, part)
        self.classes = nn.Conv1d(network.channels, classes, kernel)

    def parts(self) -> dict[str, Part]:
        """The trunk and ``classes``."""
        return {**_trunk(self, self.depth), "classes": Joined(self.classes)}

    def forward(self, x: Tensor) -> Tensor:
        """Logits; see the class.

        Raises:
            AudioTooShortError: Not one step comes of so short a sound.
        """
        return self.until(x, "classes")


@torch.no_grad()
def initialise_(network: nn.Module, generator: torch.Generator) -> None:
    """Draw weights as the original did before training.

    Convolutions from N(0, 0.01), scales of batch norms from N(1, 0.02), biases 0; running
    statistics start anew.

    Args:
        network: Changed in place.
        generator: Of the weights' device.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            module.weight.normal_(0.0, 0.01, generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
            module.weight.normal_(1.0, 0.02, generator=generator)
            module.bias.zero_()
