"""The residual audio encoder of COALA's branch ``resnet``.

Paper: Favory, Drossos, Virtanen, Serra, "COALA: Co-Aligned Autoencoders for Learning Semantically
Enriched Audio Representations", 2020 (arXiv 2006.08386). Original project: xavierfav/coala (MIT),
whose branch was never released with weights; blocks after Won, Ferraro, Bogdanov, Serra,
"Evaluation of CNN-based Automatic Music Tagging Models", 2020 (arXiv 2006.00751).

Parameter names are the original's.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from coala_latent.models.coala import BLOCKS, DROPOUT, Flatten, embedding_size
from coala_latent.models.layered import Layered, Step

__all__ = ["AudioEncoderRes", "ResidualBlock"]

BLOCK_DROPOUT = 0.3


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a third that halves the map, summed.

    Args:
        inputs: Channels that come in.
        channels: Channels that go out.

    Shape:
        - Input: ``(batch, inputs, height, width)``.
        - Output: ``(batch, channels, height / 2, width / 2)``, rounded up.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.bn_1 = nn.BatchNorm2d(channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn_2 = nn.BatchNorm2d(channels)
        self.conv_3 = nn.Conv2d(inputs, channels, 3, stride=2, padding=1)
        self.bn_3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Both ways and their sum, after a ReLU."""
        deep = functional.relu(self.bn_1(self.conv_1(x)))
        return functional.relu(self.bn_2(self.conv_2(deep)) + self.bn_3(self.conv_3(x)))


class AudioEncoderRes(Layered):
    """Log-mel patches to an embedding, in the place of `AudioEncoder`.

    Args:
        channels: Channels of every block; the embedding has ``9 * channels`` values.

    Shape:
        - Input: ``(batch, 1, 96 bands, 96 frames)``.
        - Output: ``z`` ``(batch, 9 * channels)``, non-negative in evaluation, used downstream;
          and ``z_d`` of the same shape, the projection that is aligned with tags.
    """

    time_axis = 3

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        size = embedding_size(channels)
        self.layer1 = ResidualBlock(1, channels)
        self.layer2 = ResidualBlock(channels, channels)
        self.layer3 = ResidualBlock(channels, channels)
        self.layer4 = ResidualBlock(channels, channels)
        self.layer5 = ResidualBlock(channels, channels)
        self.dropout = nn.Dropout(BLOCK_DROPOUT)
        self.flatten = Flatten()
        self.fc_audio = nn.Sequential(nn.Linear(size, size, bias=False), nn.Dropout(DROPOUT))

    def _block(self, number: int) -> Step:
        block = self.get_submodule(f"layer{number}")
        # A layer ends with its ReLU; its dropout begins the next one.
        return block if number == 1 else lambda x: block(self.dropout(x))

    def _project(self, z: Tensor) -> Tensor:
        projected: Tensor = self.fc_audio(z)
        return projected

    def steps(self) -> Mapping[str, Step]:
        """``layer1`` .. ``layer5`` (after the ReLU), ``z`` and ``z_d``."""
        blocks = {f"layer{number}": self._block(number) for number in range(1, BLOCKS + 1)}
        return {**blocks, "z": lambda x: self.flatten(self.dropout(x)), "z_d": self._project}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embed patches; see the class."""
        found = self.activations(x, ("z", "z_d"))
        return found["z"], found["z_d"]
