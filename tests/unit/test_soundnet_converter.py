"""Published layouts of SoundNet's weights, on small networks of the original's kernels."""

import numpy as np
import pytest
import torch

from coala_latent.errors import WeightsError
from coala_latent.models.soundnet import SoundNet, SoundNetwork
from coala_latent.weights import load_into
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.soundnet import soundnet8_from_npy, soundnet8_from_torch

WIDTHS = (2, 3, 4, 3, 5, 4, 6)
KERNELS = (64, 32, 16, 8, 4, 4, 4)
OBJECTS, SCENES = 7, 5


def npy_arrays():
    rng, found, inputs = np.random.default_rng(0), {}, 1
    sizes = [(f"conv{n}", *pair) for n, pair in enumerate(zip(WIDTHS, KERNELS, strict=True), 1)]
    for name, outputs, kernel in [*sizes, ("conv8", OBJECTS, 8), ("conv8_2", SCENES, 8)]:
        found[f"{name}/weights"] = rng.normal(size=(kernel, 1, inputs, outputs))
        found[f"{name}/biases"] = rng.normal(size=outputs)
        if not name.startswith("conv8"):
            for variable in ("gamma", "beta", "mean"):
                found[f"{name}/{variable}"] = rng.normal(size=outputs)
            found[f"{name}/var"] = rng.uniform(0.5, 2.0, outputs)
            inputs = outputs
    return {name: values.astype(np.float32) for name, values in found.items()}


NORM = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


def torch_arrays(style):
    """The same weights as either PyTorch port names and shapes them."""
    found = {}
    for name, values in npy_arrays().items():
        layer, variable = name.split("/")
        heads = {"conv8": "conv8_objs", "conv8_2": "conv8_scns"}
        conv = f"{layer}.0" if style == "numbered" else heads.get(layer, layer)
        norm = f"{layer}.1" if style == "numbered" else layer.replace("conv", "batchnorm")
        if variable == "weights":
            found[f"{conv}.weight"] = values.transpose(3, 2, 0, 1)
        elif variable == "biases":
            found[f"{conv}.bias"] = values
        else:
            found[f"{norm}.{NORM[variable]}"] = values
            if style == "numbered":
                found[f"{norm}.num_batches_tracked"] = np.float32(100.0)
    return {name: np.asarray(values) for name, values in found.items()}


def test_npy_arrays_fit_the_model_and_keep_their_order():
    arrays = npy_arrays()
    state = soundnet8_from_npy(Arrays(arrays, "sound8.npy"))
    model = SoundNet(network=SoundNetwork(8, WIDTHS, OBJECTS, SCENES))
    load_into(model, state, "sound8.npy")
    conv = arrays["conv4/weights"]
    for index in ((0, 0, 0), (2, 3, 7), (1, 2, 4)):
        output, channel, place = index
        weight = state["network.conv4.conv.weight"][index]
        assert weight == conv[place, 0, channel, output]
    assert np.array_equal(state["network.conv7.norm.running_var"], arrays["conv7/var"])
    assert np.array_equal(state["network.conv7.norm.bias"], arrays["conv7/beta"])
    assert np.array_equal(state["network.objects.bias"], arrays["conv8/biases"])
    assert np.array_equal(state["network.scenes.bias"], arrays["conv8_2/biases"])
    assert all(values.is_contiguous() for values in state.values())


@pytest.mark.parametrize("style", ["numbered", "named"])
def test_both_torch_layouts_give_the_same(style):
    wanted = soundnet8_from_npy(Arrays(npy_arrays(), "sound8.npy"))
    found = soundnet8_from_torch(Arrays(torch_arrays(style), "soundnet8.pth"))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], values) for name, values in wanted.items())


def changed(arrays, **changes):
    return {name: changes.get(name, values) for name, values in arrays.items()}


def without(arrays, name):
    return {other: values for other, values in arrays.items() if other != name}


@pytest.mark.parametrize("name", ["conv1/weights", "conv5/var", "conv8_2/biases"])
def test_missing_arrays_are_named(name):
    with pytest.raises(WeightsError, match=f"file: {name} is missing"):
        soundnet8_from_npy(Arrays(without(npy_arrays(), name), "file"))


@pytest.mark.parametrize("style", ["numbered", "named"])
def test_missing_torch_arrays_are_named(style):
    arrays = torch_arrays(style)
    for name in (name for name in arrays if "tracked" not in name):
        with pytest.raises(WeightsError, match="missing"):
            soundnet8_from_torch(Arrays(without(arrays, name), "file"))


def test_arrays_left_over_are_named():
    arrays = {**npy_arrays(), "conv9/weights": np.zeros(3)}
    with pytest.raises(WeightsError, match="left over: conv9/weights"):
        soundnet8_from_npy(Arrays(arrays, "file"))
    arrays = {**torch_arrays("named"), "conv1.0.bias": np.zeros(3)}
    with pytest.raises(WeightsError, match=r"left over: conv1\.0\.bias"):
        soundnet8_from_torch(Arrays(arrays, "file"))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1/weights", (64, 1, 2, 2)),
        ("conv1/weights", (2, 1, 1, 64)),
        ("conv2/weights", (32, 2, 1, 3)),
        ("conv2/weights", (32, 2, 3)),
        ("conv2/weights", ()),
        ("conv3/gamma", (5,)),
        ("conv8/weights", (4, 1, 6, 7)),
    ],
)
def test_other_shapes_are_refused(name, shape):
    arrays = changed(npy_arrays(), **{name: np.ones(shape, np.float32)})
    with pytest.raises(WeightsError, match=name):
        soundnet8_from_npy(Arrays(arrays, "file"))


def test_kernels_of_other_networks_are_refused():
    arrays = torch_arrays("numbered")
    for shape in ((3, 2, 1, 32), (3, 2, 32), (3, 2, 31, 1)):
        bad = changed(arrays, **{"conv2.0.weight": np.ones(shape, np.float32)})
        with pytest.raises(WeightsError, match=r"conv2\.0\.weight"):
            soundnet8_from_torch(Arrays(bad, "file"))


@pytest.mark.parametrize("style", ["numbered", "named"])
def test_batch_norms_that_were_never_filled_in_are_refused(style):
    arrays = torch_arrays(style)
    for name, values in arrays.items():
        if name.endswith("running_mean"):
            arrays[name] = np.zeros_like(values)
        elif name.endswith("running_var"):
            arrays[name] = np.ones_like(values)
    with pytest.raises(WeightsError, match=r"soundnet8_final\.pth.*mean 0 and variance 1"):
        soundnet8_from_torch(Arrays(arrays, "soundnet8_final.pth"))


def test_damaged_values_are_refused():
    arrays = npy_arrays()
    for value, reason in ((np.nan, "NaN"), (-1.0, "negative")):
        bad = changed(arrays, **{"conv6/var": np.full(4, value, np.float32)})
        with pytest.raises(WeightsError, match=reason):
            soundnet8_from_npy(Arrays(bad, "file"))
