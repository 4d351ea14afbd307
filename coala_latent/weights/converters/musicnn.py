"""MusiCNN's two networks from their published files: TensorFlow checkpoints, Keras HDF5.

Each converter makes the state dictionary of `coala_latent.models.musicnn.Musicnn`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.errors import WeightsError
from coala_latent.models.musicnn import (
    LAST_GRID,
    MIDDLE,
    MIDDLE_KERNEL,
    POOLS,
    TEMPORAL,
    TIMBRAL,
)
from coala_latent.weights.arrays import Arrays

__all__ = ["musicnn_from_checkpoint", "vgg_from_checkpoint", "vgg_from_h5"]

Array = npt.NDArray[np.float32]

CHECKPOINT = ("{group}/{variable}", "{group}.{variable}")
# Keras numbered the variables of the convolutions when it built the network a second time.
KERAS = ("{group}/{group}/{variable}:0", "{group}/{group}/{variable}_1:0")
NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def musicnn_from_checkpoint(arrays: Arrays) -> dict[str, Tensor]:
    """From a checkpoint of the musically motivated network. Sizes are the file's own.

    Args:
        arrays: By variable, such as ``conv2d_1/kernel`` and ``batch_normalization/gamma``, or with
            a dot for the slash. The state of the optimizer may be among them.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes.
    """
    file = _File(arrays, CHECKPOINT)
    state = file.norm("norm_input", "batch_normalization", 1)
    kernels = [(f"timbral.{index}", kernel) for index, kernel in enumerate(TIMBRAL)]
    kernels += [(f"temporal.{index}", (frames, 1)) for index, frames in enumerate(TEMPORAL)]
    front = 0
    for number, (module, kernel) in enumerate(kernels):
        group = f"conv2d_{number}" if number else "conv2d"
        channels = file.outputs(group)
        state |= file.conv(f"{module}.conv", group, (*kernel, 1, channels))
        state |= file.norm(f"{module}.norm", f"batch_normalization_{number + 1}", channels)
        front += channels
    inputs, features = front, front
    for number in range(len(kernels), len(kernels) + MIDDLE):
        module, group = f"middle.{number - len(kernels)}", f"conv2d_{number}"
        channels = file.outputs(group)
        # There the features are the second axis of an image of one channel, here channels.
        shape = (MIDDLE_KERNEL, inputs, 1, channels)
        state |= _squeezed(file.conv(f"{module}.conv", group, shape))
        state |= file.norm(f"{module}.norm", f"batch_normalization_{number + 1}", channels)
        inputs, features = channels, features + channels
    dense = file.outputs("dense")
    pooled = file.norm("norm_pool", "batch_normalization_9", 2 * features)
    pooled |= file.dense("dense", "dense", (2 * features, dense))
    state |= {name: _maxima_first(values, features) for name, values in pooled.items()}
    state |= file.norm("norm_dense", "batch_normalization_10", dense)
    state |= file.dense("classifier", "dense_1", (dense, file.outputs("dense_1")))
    return file.finished(state)


def vgg_from_checkpoint(arrays: Arrays) -> dict[str, Tensor]:
    """From a checkpoint of the VGG network: ``1CNN/kernel``, ``batch_normalization_1/gamma``, ...

    Args:
        arrays: As in `musicnn_from_checkpoint`.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes.
    """
    norms = ["batch_normalization", *(f"batch_normalization_{n + 1}" for n in range(len(POOLS)))]
    return _vgg(_File(arrays, CHECKPOINT), norms, "dense")


def vgg_from_h5(arrays: Arrays) -> dict[str, Tensor]:
    """From ``MSD_vgg.h5``: ``1CNN/1CNN/kernel_1:0``, ``bn_conv1/bn_conv1/gamma:0``, ...

    Args:
        arrays: By dataset path.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes.
    """
    norms = ["bn_input", *(f"bn_conv{n + 1}" for n in range(len(POOLS)))]
    return _vgg(_File(arrays, KERAS), norms, "output")


def _vgg(file: _File, norms: list[str], dense: str) -> dict[str, Tensor]:
    state = file.norm("norm_input", norms[0], 1)
    inputs = 1
    for number, norm in enumerate(norms[1:], 1):
        channels = file.outputs(f"{number}CNN")
        state |= file.conv(f"block{number}.conv", f"{number}CNN", (3, 3, inputs, channels))
        state |= file.norm(f"block{number}.norm", norm, channels)
        inputs = channels
    flat = LAST_GRID[0] * LAST_GRID[1] * inputs
    state |= file.dense("classifier", dense, (flat, file.outputs(dense)))
    return file.finished(state)


class _File:
    """Arrays by group and variable, however the file spells them.

    Args:
        arrays: The file's.
        spellings: Of an array's name, with ``{group}`` and ``{variable}``.
    """

    def __init__(self, arrays: Arrays, spellings: tuple[str, ...]) -> None:
        self._arrays = arrays
        self._spellings = spellings

    def outputs(self, group: str) -> int:
        """Output channels of a convolution or dense layer."""
        shape = self._arrays.shape(self._name(group, "kernel"))
        return shape[-1] if shape else 0

    def conv(self, module: str, group: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """A convolution of ``(height, width, inputs, outputs)``."""
        return {
            f"{module}.weight": _tensor(self._take(group, "kernel", shape).transpose(3, 2, 0, 1)),
            f"{module}.bias": _tensor(self._take(group, "bias", shape[-1:])),
        }

    def dense(self, module: str, group: str, shape: tuple[int, int]) -> dict[str, Tensor]:
        """A dense layer of ``(inputs, outputs)``."""
        return {
            f"{module}.weight": _tensor(self._take(group, "kernel", shape).T),
            f"{module}.bias": _tensor(self._take(group, "bias", shape[-1:])),
        }

    def norm(self, module: str, group: str, channels: int) -> dict[str, Tensor]:
        """A batch norm."""
        values = {name: self._take(group, name, (channels,)) for name in NORM.values()}
        if (values["moving_variance"] < 0).any():
            name = self._name(group, "moving_variance")
            raise WeightsError(f"{self._arrays.source}: {name} is negative (get the file again)")
        state = {f"{module}.{ours}": _tensor(values[theirs]) for ours, theirs in NORM.items()}
        return {**state, f"{module}.num_batches_tracked": torch.tensor(0)}

    def finished(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state of the whole model, when nothing is left of the file."""
        for name in ("beta1_power", "beta2_power"):
            if name in self._arrays:
                self._arrays.take(name, ())
        self._arrays.finish()
        return {f"network.{name}": values for name, values in state.items()}

    def _name(self, group: str, variable: str) -> str:
        names = [form.format(group=group, variable=variable) for form in self._spellings]
        return next((name for name in names if name in self._arrays), names[0])

    def _take(self, group: str, variable: str, shape: tuple[int, ...]) -> Array:
        name = self._name(group, variable)
        for slot in ("Adam", "Adam_1"):
            moment = f"{name}/{slot}"
            if moment in self._arrays:
                self._arrays.take(moment, shape)
        return self._arrays.take(name, shape)


def _squeezed(conv: dict[str, Tensor]) -> dict[str, Tensor]:
    """``(outputs, 1, frames, features)`` to ``(outputs, features, frames)``."""
    return {
        name: values.squeeze(1).transpose(1, 2).contiguous() if values.dim() == 4 else values
        for name, values in conv.items()
    }


def _maxima_first(values: Tensor, features: int) -> Tensor:
    """The original has the maximum and the mean of each feature beside each other."""
    if values.dim() == 0 or values.shape[-1] != 2 * features:
        return values
    return values.unflatten(-1, (features, 2)).transpose(-1, -2).flatten(-2)


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
