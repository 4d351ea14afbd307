"""YAMNet from its published files: Keras HDF5, folded arrays, TFLite.

Each converter makes the state dictionary of `coala_latent.models.yamnet.Yamnet`. The Keras file
has batch norms (110 arrays); the other two have them folded into the convolutions, whose biases
then become the shift of batch norms that do nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.errors import WeightsError
from coala_latent.models.yamnet import EPS, KERNEL, STRIDES, WIDTHS, Yamnet, YamnetNetwork
from coala_latent.weights.arrays import Arrays

__all__ = ["keras_layer", "yamnet_from_folded", "yamnet_from_h5", "yamnet_from_tflite"]

Array = npt.NDArray[np.float32]

CHANNELS = 32
CLASSES = 521
LAYERS = range(1, len(STRIDES) + 1)
# How far recorded tables may be from ours. The exact mel matrix is 8e-6 from the one in float32,
# which is TensorFlow's; a table in int8 is within half a step of 1 / 127.
FLOAT_TABLE = 2e-5
INT8_TABLE = 0.5 / 127 + FLOAT_TABLE

_KERAS_PARTS = {"conv": "conv", "depthwise": "depthwise_conv", "pointwise": "pointwise_conv"}
_FOLDED_PARTS = {"conv": "conv", "depthwise": "dw", "pointwise": "pw"}


def yamnet_from_h5(arrays: Arrays) -> dict[str, Tensor]:
    """From ``yamnet.h5``: 110 arrays named by Keras layer, batch norms not folded.

    Args:
        arrays: By dataset path, such as ``layer1/conv/layer1/conv/kernel:0``. Groups before the
            layer's own name do not matter. The dense layer is ``logits`` or ``dense``.

    Raises:
        WeightsError: Arrays are missing, left over, ambiguous or of other shapes.
    """
    state: dict[str, Tensor] = {}
    for number in LAYERS:
        state |= keras_layer(arrays, number)
    dense = next((name for name in ("logits", "dense") if _ending(arrays, f"{name}/kernel:0")), "")
    if not dense:
        raise WeightsError(
            f"{arrays.source}: logits/kernel:0 is missing, and so is dense/kernel:0 "
            "(is it another model's file?)"
        )
    kernel = arrays.take(_only(arrays, f"{dense}/kernel:0"), (WIDTHS[-1] * CHANNELS, CLASSES))
    state["network.classifier.weight"] = _tensor(kernel.T)
    bias = arrays.take(_only(arrays, f"{dense}/bias:0"), (CLASSES,))
    state["network.classifier.bias"] = _tensor(bias)
    arrays.finish()
    return state


def keras_layer(arrays: Arrays, number: int) -> dict[str, Tensor]:
    """One layer's part of the state dictionary, from arrays named as in `yamnet_from_h5`.

    Args:
        arrays: The file's arrays; what else they hold is left alone.
        number: 1 to 14.

    Raises:
        WeightsError: Arrays of the layer are missing, ambiguous or of other shapes.
    """
    state: dict[str, Tensor] = {}
    for part, inputs, outputs in _parts(number):
        group = f"layer{number}/{_KERAS_PARTS[part]}"
        if part == "depthwise":
            name, shape = f"{group}/depthwise_kernel:0", (KERNEL, KERNEL, outputs, 1)
            order = (2, 3, 0, 1)
        else:
            side = 1 if part == "pointwise" else KERNEL
            name, shape = f"{group}/kernel:0", (side, side, inputs, outputs)
            order = (3, 2, 0, 1)
        kernel = arrays.take(_only(arrays, name), shape).transpose(order)
        beta, mean, variance = (
            arrays.take(_only(arrays, f"{group}/bn/{name}:0"), (outputs,))
            for name in ("beta", "moving_mean", "moving_variance")
        )
        if (variance < 0).any():
            raise WeightsError(
                f"{arrays.source}: {group}/bn/moving_variance:0 is negative (get the file again)"
            )
        state |= _convolution(number, part, kernel, beta, mean, variance)
    return state


def yamnet_from_folded(arrays: Arrays) -> dict[str, Tensor]:
    """From arrays with folded batch norms: ``layer1/conv/w``, ``layer2/dw/b``, ..., ``logits/w``.

    Args:
        arrays: Kernels ``(3, 3, 1, 32)``, ``(3, 3, channels)`` and ``(inputs, outputs)``, a bias
            with each; ``mel`` ``(257, 64)`` and ``window`` ``(400,)``, which must be the front
            end's.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes, or belong to another front
            end.
    """
    state: dict[str, Tensor] = {}
    for number in LAYERS:
        for part, inputs, outputs in _parts(number):
            group = f"layer{number}/{_FOLDED_PARTS[part]}"
            if part == "conv":
                kernel = arrays.take(f"{group}/w", (KERNEL, KERNEL, inputs, outputs))
                kernel = kernel.transpose(3, 2, 0, 1)
            elif part == "depthwise":
                kernel = arrays.take(f"{group}/w", (KERNEL, KERNEL, outputs))
                kernel = kernel.transpose(2, 0, 1)[:, None]
            else:
                kernel = arrays.take(f"{group}/w", (inputs, outputs)).T[:, :, None, None]
            bias = arrays.take(f"{group}/b", (outputs,))
            state |= _convolution(number, part, kernel, bias)
    weight = arrays.take("logits/w", (WIDTHS[-1] * CHANNELS, CLASSES))
    state["network.classifier.weight"] = _tensor(weight.T)
    state["network.classifier.bias"] = _tensor(arrays.take("logits/b", (CLASSES,)))
    _check_front_end(arrays, "mel", arrays.take("mel", (257, 64)).T, FLOAT_TABLE)
    _check_front_end(arrays, "window", arrays.take("window", (400,)), FLOAT_TABLE)
    arrays.finish()
    return state


def yamnet_from_tflite(arrays: Arrays) -> dict[str, Tensor]:
    """From a TFLite file of the official network, with int8 or float32 weights.

    A tensor's name lists the operations that were fused into it, its own first, so that tensors
    are told apart by the layer in it and by shape. TFLite files of other networks of that name,
    such as the one with ReLU6, name their layers otherwise and are refused.

    Args:
        arrays: Constants by name (see `coala_latent.weights.readers.tflite`), int8 ones
            dequantised: kernels ``(32, 3, 3, 1)``, ``(1, 3, 3, channels)`` and ``(outputs, 1, 1,
            inputs)``, biases, and the front end's tables.

    Raises:
        WeightsError: Arrays are missing, left over, ambiguous or of other shapes, or belong to
            another front end.
    """
    state: dict[str, Tensor] = {}
    for number in LAYERS:
        for part, inputs, outputs in _parts(number):
            group = f"layer{number}/{_KERAS_PARTS[part]}/"
            shape, order = {
                "conv": ((outputs, KERNEL, KERNEL, inputs), (0, 3, 1, 2)),
                "depthwise": ((1, KERNEL, KERNEL, outputs), (3, 0, 1, 2)),
                "pointwise": ((outputs, 1, 1, inputs), (0, 3, 1, 2)),
            }[part]
            kernel = _take_shaped(arrays, shape, group).transpose(order)
            bias = _take_shaped(arrays, (outputs,), group)
            state |= _convolution(number, part, kernel, bias)
    weight = _take_shaped(arrays, (CLASSES, WIDTHS[-1] * CHANNELS))
    state["network.classifier.weight"] = _tensor(weight)
    state["network.classifier.bias"] = _tensor(_take_shaped(arrays, (CLASSES,)))
    _check_front_end(arrays, "mel", _take_shaped(arrays, (64, 257)), INT8_TABLE)
    _check_front_end(arrays, "window", _take_shaped(arrays, (400,)), FLOAT_TABLE)
    _check_front_end(arrays, "offset", _take_shaped(arrays, (64,), "AddV2"), FLOAT_TABLE)
    arrays.finish()
    return state


def _take_shaped(arrays: Arrays, shape: tuple[int, ...], operation: str = "") -> Array:
    """The one array of that shape whose first operation has `operation` in its path."""
    found = [
        name
        for name in arrays.names
        if operation in name.split(";")[0] and arrays.shape(name) == shape
    ]
    if len(found) != 1:
        raise WeightsError(
            f"{arrays.source}: {len(found)} arrays {shape} {f'of {operation}' if operation else ''}"
            " where one is expected (is it another model's file?)"
        )
    return arrays.take(found[0], shape)


def _parts(number: int) -> list[tuple[str, int, int]]:
    """Name, input and output channels of a layer's convolutions."""
    outputs = WIDTHS[number - 1] * CHANNELS
    if number == 1:
        return [("conv", 1, outputs)]
    inputs = WIDTHS[number - 2] * CHANNELS
    return [("depthwise", inputs, inputs), ("pointwise", inputs, outputs)]


def _convolution(
    number: int,
    part: str,
    kernel: Array,
    beta: Array,
    mean: Array | None = None,
    variance: Array | None = None,
) -> dict[str, Tensor]:
    """A convolution and its batch norm; without statistics one that only adds `beta`."""
    module = f"network.layer{number}" + ("" if part == "conv" else f".{part}")
    mean = np.zeros_like(beta) if mean is None else mean
    variance = np.full_like(beta, 1 - EPS) if variance is None else variance
    return {
        f"{module}.conv.weight": _tensor(kernel),
        f"{module}.norm.weight": torch.ones(len(beta)),
        f"{module}.norm.bias": _tensor(beta),
        f"{module}.norm.running_mean": _tensor(mean),
        f"{module}.norm.running_var": _tensor(variance),
        f"{module}.norm.num_batches_tracked": torch.tensor(0),
    }


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _ending(arrays: Arrays, path: str) -> list[str]:
    return [name for name in arrays.names if name == path or name.endswith(f"/{path}")]


def _only(arrays: Arrays, path: str) -> str:
    """The one name that ends with `path`; `path` itself where there is none."""
    found = _ending(arrays, path)
    if len(found) > 1:
        raise WeightsError(
            f"{arrays.source}: {path} could be {' or '.join(found)} (is it another model's file?)"
        )
    return found[0] if found else path


def _check_front_end(arrays: Arrays, name: str, found: Array, tolerance: float) -> None:
    front_end = Yamnet(network=YamnetNetwork(channels=1, classes=1)).front_end
    tables: Mapping[str, Tensor] = {
        "mel": front_end.mel_filters,
        "window": front_end.window[: front_end.framing.window],
        "offset": front_end.compress(torch.zeros(front_end.bands)).exp(),
    }
    difference = float(np.abs(found - tables[name].numpy()).max())
    if not difference <= tolerance:
        raise WeightsError(
            f"{arrays.source}: {name} is {difference:.1e} from the one that patches are computed "
            "with (is it a network for another front end?)"
        )
