"""Converters, against a slow reference that works on the files' own arrays, channels last."""

import numpy as np
import pytest
import torch

from coala_latent.errors import WeightsError
from coala_latent.models.musicnn import MusicnnNetwork, VggNetwork
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.musicnn import (
    musicnn_from_checkpoint,
    vgg_from_checkpoint,
    vgg_from_h5,
)

CHANNELS, TAGS = 3, 4
TIMBRAL, TEMPORAL, MIDDLE, DENSE = 3, 2, 4, 5
FRONT = 2 * TIMBRAL + 3 * TEMPORAL


class Checkpoint:
    """Random arrays named as in the published checkpoints."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.values = {}

    def add(self, group, variable, shape, low=-0.5, high=0.5):
        self.values[f"{group}/{variable}"] = self.rng.uniform(low, high, shape).astype(np.float32)

    def layer(self, group, shape):
        self.add(group, "kernel", shape)
        self.add(group, "bias", shape[-1:])

    def norm(self, number, channels):
        group = f"batch_normalization_{number}" if number else "batch_normalization"
        self.add(group, "gamma", channels, -1, 1)
        self.add(group, "beta", channels)
        self.add(group, "moving_mean", channels)
        self.add(group, "moving_variance", channels, 0.5, 2)


def vgg_arrays():
    file = Checkpoint()
    file.norm(0, 1)
    for number in range(1, 6):
        file.layer(f"{number}CNN", (3, 3, 1 if number == 1 else CHANNELS, CHANNELS))
        file.norm(number, CHANNELS)
    file.layer("dense", (2 * CHANNELS, TAGS))
    return file.values


def musicnn_arrays():
    file = Checkpoint()
    kernels = [(7, 38, 1, TIMBRAL), (7, 67, 1, TIMBRAL)]
    kernels += [(frames, 1, 1, TEMPORAL) for frames in (128, 64, 32)]
    kernels += [(7, FRONT, 1, MIDDLE), (7, MIDDLE, 1, MIDDLE), (7, MIDDLE, 1, MIDDLE)]
    file.norm(0, 1)
    for number, shape in enumerate(kernels):
        file.layer(f"conv2d_{number}" if number else "conv2d", shape)
        file.norm(number + 1, shape[-1])
    pooled = 2 * (FRONT + 3 * MIDDLE)
    file.norm(9, pooled)
    file.layer("dense", (pooled, DENSE))
    file.norm(10, DENSE)
    file.layer("dense_1", (DENSE, TAGS))
    return file.values


def keras_arrays():
    found = {}
    for name, values in vgg_arrays().items():
        group, variable = name.split("/")
        if group.startswith("batch_normalization"):
            number = group.removeprefix("batch_normalization").removeprefix("_")
            group = f"bn_conv{number}" if number else "bn_input"
        elif group == "dense":
            group = "output"
        else:
            variable += "_1"
        found[f"{group}/{group}/{variable}:0"] = values
    return found


# --- reference, (frames, bands, channels) --------------------------------------------------------


def conv(x, values, group):
    """Only complete windows; float64."""
    kernel, bias = values[f"{group}/kernel"].astype(np.float64), values[f"{group}/bias"]
    height, width = kernel.shape[:2]
    rows, columns = x.shape[0] - height + 1, x.shape[1] - width + 1
    found = np.zeros((rows, columns, kernel.shape[3]))
    for row in range(height):
        for column in range(width):
            found += x[row : row + rows, column : column + columns] @ kernel[row, column]
    return np.maximum(found + bias, 0)


def norm(x, values, number):
    group = f"batch_normalization_{number}" if number else "batch_normalization"
    gamma, beta, mean, variance = (
        values[f"{group}/{name}"].astype(np.float64)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta


def pool(x, window, stride):
    rows = (x.shape[0] - window[0]) // stride[0] + 1
    columns = (x.shape[1] - window[1]) // stride[1] + 1
    found = np.empty((rows, columns, x.shape[2]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride[0], column * stride[1]
            found[row, column] = x[top : top + window[0], left : left + window[1]].max((0, 1))
    return found


def vgg(values, patch):
    x = norm(patch[..., None].astype(np.float64), values, 0)
    pools = [((4, 1), (2, 2))] + 3 * [((2, 2), (2, 2))] + [((4, 4), (4, 4))]
    for number, (window, stride) in enumerate(pools, 1):
        same = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        x = pool(norm(conv(same, values, f"{number}CNN"), values, number), window, stride)
    return x, x.reshape(-1) @ values["dense/kernel"] + values["dense/bias"]


def musicnn(values, patch):
    x = norm(patch[..., None].astype(np.float64), values, 0)
    found = []
    for number, before, after in ((0, 3, 3), (1, 3, 3), (2, 63, 64), (3, 31, 32), (4, 15, 16)):
        padded = np.pad(x, ((before, after), (0, 0), (0, 0)))
        group = f"conv2d_{number}" if number else "conv2d"
        found.append(norm(conv(padded, values, group), values, number + 1).max(1))
    features = [np.concatenate(found, 1)]
    for number in (5, 6, 7):
        padded = np.pad(features[-1], ((3, 3), (0, 0)))[..., None]
        new = norm(conv(padded, values, f"conv2d_{number}"), values, number + 1)[:, 0]
        features.append(new + features[-1] if number > 5 else new)
    joined = np.concatenate(features, 1)
    flat = np.stack([joined.max(0), joined.mean(0)], 1).reshape(-1)
    dense = np.maximum(norm(flat, values, 9) @ values["dense/kernel"] + values["dense/bias"], 0)
    penultimate = norm(dense, values, 10)
    return joined, penultimate, penultimate @ values["dense_1/kernel"] + values["dense_1/bias"]


# --- tests ---------------------------------------------------------------------------------------


@pytest.fixture
def patch(rng):
    return rng.uniform(0, 4, (187, 96)).astype(np.float32)


def loaded(network, state):
    network.load_state_dict(
        {name.removeprefix("network."): values for name, values in state.items()}
    )
    return network.eval()


def assert_close(found, expected):
    difference = np.abs(found - expected)
    largest = np.abs(expected).max()
    assert difference.max() <= 1e-5 * largest, f"max {difference.max():.1e} of {largest:.1e}"


def test_vgg_is_the_reference(patch):
    network = loaded(VggNetwork(CHANNELS, TAGS), vgg_from_checkpoint(Arrays(vgg_arrays(), "vgg")))
    pooled, logits = vgg(vgg_arrays(), patch)
    with torch.inference_mode():
        found = network.activations(torch.from_numpy(patch)[None, None], ("pool5", "logits"))
    assert_close(found["pool5"][0].permute(1, 2, 0).numpy(), pooled)
    assert_close(found["logits"][0].numpy(), logits)


def test_musicnn_is_the_reference(patch):
    network = loaded(
        MusicnnNetwork(TIMBRAL, TEMPORAL, MIDDLE, DENSE, TAGS),
        musicnn_from_checkpoint(Arrays(musicnn_arrays(), "musicnn")),
    )
    features, penultimate, logits = musicnn(musicnn_arrays(), patch)
    with torch.inference_mode():
        found = network.activations(torch.from_numpy(patch)[None, None], network.layers)
    assert_close(found["middle3"][0].T.numpy(), features)
    assert_close(found["pooled"][0].numpy(), np.concatenate([features.max(0), features.mean(0)]))
    assert_close(found["penultimate"][0].numpy(), penultimate)
    assert_close(found["logits"][0].numpy(), logits)


def test_keras_and_checkpoint_give_the_same():
    found, expected = (
        vgg_from_h5(Arrays(keras_arrays(), "h5")),
        vgg_from_checkpoint(Arrays(vgg_arrays(), "vgg")),
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


BOTH = [(vgg_arrays, vgg_from_checkpoint), (musicnn_arrays, musicnn_from_checkpoint)]


@pytest.mark.parametrize(("arrays", "convert"), BOTH)
def test_names_with_dots_and_the_optimizers_state(arrays, convert):
    expected = convert(Arrays(arrays(), "file"))
    dotted = {name.replace("/", "."): values for name, values in arrays().items()}
    trained = dict(arrays())
    for name, values in arrays().items():
        if "moving" not in name:
            trained |= {f"{name}/Adam": 0 * values, f"{name}/Adam_1": 0 * values}
    trained |= {"beta1_power": np.float32(0.1), "beta2_power": np.float32(0.2)}
    for values in (dotted, trained):
        found = convert(Arrays(values, "file"))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


EVERY = [*BOTH, (keras_arrays, vgg_from_h5)]


@pytest.mark.parametrize(("arrays", "convert"), EVERY)
def test_every_array_is_needed(arrays, convert):
    for name in arrays():
        values = arrays()
        del values[name]
        with pytest.raises(WeightsError, match=r"file\.npz: .* (is missing|is \()"):
            convert(Arrays(values, "file.npz"))


@pytest.mark.parametrize(("arrays", "convert"), EVERY)
def test_every_shape_is_checked(arrays, convert):
    for name, values in arrays().items():
        for wrong in (values[..., None], values[..., :-1], np.float32(0)):
            with pytest.raises(WeightsError, match=r"file\.npz: "):
                convert(Arrays(arrays() | {name: wrong}, "file.npz"))


@pytest.mark.parametrize(("arrays", "convert"), EVERY)
def test_nothing_may_be_left_over(arrays, convert):
    with pytest.raises(WeightsError, match="1 arrays are left over: global_step"):
        convert(Arrays(arrays() | {"global_step": np.float32(1)}, "file"))


def test_negative_variances_and_nan_are_refused():
    name = "batch_normalization_2/moving_variance"
    for value, text in ((-1, "negative"), (np.nan, "NaN")):
        values = vgg_arrays()
        values[name] = np.full_like(values[name], value)
        with pytest.raises(WeightsError, match=f"{name} .*{text}"):
            vgg_from_checkpoint(Arrays(values, "file"))


def test_the_other_networks_file_is_refused():
    with pytest.raises(WeightsError, match="another model"):
        vgg_from_checkpoint(Arrays(musicnn_arrays(), "file"))
    with pytest.raises(WeightsError, match="another model"):
        musicnn_from_checkpoint(Arrays(vgg_arrays(), "file"))
