"""YAMNet's converters use every array once and refuse what is not YAMNet."""

import numpy as np
import pytest
import torch

from coala_latent.errors import WeightsError
from coala_latent.models.folding import folded_parameters
from coala_latent.models.yamnet import ConvNorm, Yamnet
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.yamnet import (
    keras_layer,
    yamnet_from_folded,
    yamnet_from_h5,
    yamnet_from_tflite,
)
from coala_latent.weights.files import load_into

PARTS = {"conv": "conv", "depthwise": "depthwise_conv", "pointwise": "pointwise_conv"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Yamnet().eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("running_mean", "norm.bias")):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.01, 0.1)
    return model


def convolutions(model):
    """Layer, part and module of every convolution."""
    for name, module in model.network.named_modules():
        if isinstance(module, ConvNorm):
            layer, _, part = name.partition(".")
            yield layer, part or "conv", module


def keras(model, dense="logits"):
    values = {}
    for layer, part, step in convolutions(model):
        group = f"{layer}/{PARTS[part]}"
        order, kernel = (2, 3, 1, 0), "kernel:0"
        if part == "depthwise":
            order, kernel = (2, 3, 0, 1), "depthwise_kernel:0"
        values[f"{group}/{group}/{kernel}"] = step.conv.weight.detach().permute(order).numpy()
        for name, value in (
            ("beta", step.norm.bias.detach()),
            ("moving_mean", step.norm.running_mean),
            ("moving_variance", step.norm.running_var),
        ):
            values[f"{group}/bn/{group}/bn/{name}:0"] = value.numpy()
    classifier = model.network.classifier
    values[f"{dense}/{dense}/kernel:0"] = classifier.weight.detach().T.numpy()
    values[f"{dense}/{dense}/bias:0"] = classifier.bias.detach().numpy()
    return values


def folded(model):
    short = {"conv": "conv", "depthwise": "dw", "pointwise": "pw"}
    values = {}
    for layer, part, step in convolutions(model):
        weight, bias = folded_parameters(step.conv, step.norm)
        kernel = weight.permute(2, 3, 1, 0).numpy()
        if part == "depthwise":
            kernel = kernel[:, :, 0]
        elif part == "pointwise":
            kernel = kernel[0, 0]
        values[f"{layer}/{short[part]}/w"] = kernel
        values[f"{layer}/{short[part]}/b"] = bias.numpy()
    classifier, front_end = model.network.classifier, model.front_end
    return {
        **values,
        "logits/w": classifier.weight.detach().T.numpy(),
        "logits/b": classifier.bias.detach().numpy(),
        "mel": front_end.mel_filters.T.numpy(),
        "window": front_end.window[:400].numpy(),
    }


def tflite(model):
    """Named as the reader names them: operator, role, and what was fused into the tensor."""
    values = {}
    counts = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 0}
    for layer, part, step in convolutions(model):
        weight, bias = folded_parameters(step.conv, step.norm)
        kind = "DEPTHWISE_CONV_2D" if part == "depthwise" else "CONV_2D"
        operator = f"{kind}.{counts[kind]}"
        counts[kind] += 1
        group = f"net/{layer}/{PARTS[part]}"
        norm = f"{group}/bn/FusedBatchNormV3;call/{group}/bn/FusedBatchNormV3"
        values[f"{operator}.bias:{norm}"] = bias.numpy()
        if part == "depthwise":
            # A later layer is among the operations it is named after.
            name = f"{norm};{group}/depthwise;net/layer13/depthwise_conv/depthwise"
            kernel = weight.permute(1, 2, 3, 0)
        else:
            name = f"{group}/Conv2D;call/{group}/Conv2D"
            kernel = weight.permute(0, 2, 3, 1)
        values[f"{operator}.weights:{name}"] = kernel.numpy()
    mel = model.front_end.mel_filters.numpy()
    dense = model.network.classifier.requires_grad_(False)
    return {
        **values,
        "FULLY_CONNECTED.1.weights:net/dense/MatMul": dense.weight.numpy(),
        "FULLY_CONNECTED.1.bias:15480": dense.bias.numpy(),
        "FULLY_CONNECTED.0.weights:net/op_MatMul/MatMul": (mel * 127).round() / 127,
        "MUL.0.input1:net/op_Mul_3/y": model.front_end.window[:400].numpy(),
        "ADD.0.input1:net/op_AddV2_3/AddV2_3": np.full(64, 0.001, np.float32),
    }


def loaded(state):
    model = Yamnet().eval()
    load_into(model, state, "test")
    return model


@pytest.mark.parametrize("dense", ["logits", "dense"])
def test_keras_file_comes_back_as_it_was(model, dense):
    values = keras(model, dense)
    assert len(values) == 110
    found = loaded(yamnet_from_h5(Arrays(values, "yamnet.h5"))).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_groups_before_the_layers_name_do_not_matter(model):
    values = keras(model)
    nested = {f"model_weights/model_2/{name}": value for name, value in values.items()}
    plain = yamnet_from_h5(Arrays(values, "yamnet.h5"))
    found = yamnet_from_h5(Arrays(nested, "yamnet.h5"))
    assert all(torch.equal(found[name], value) for name, value in plain.items())


@pytest.mark.parametrize(
    ("converter", "arrays"), [(yamnet_from_folded, folded), (yamnet_from_tflite, tflite)]
)
def test_folded_files_give_the_same_outputs(model, converter, arrays):
    found = loaded(converter(Arrays(arrays(model), "file")))
    x = torch.randn(2, 1, 96, 64)
    with torch.no_grad():
        for one, other in zip(found.network(x), model.network(x), strict=True):
            assert (one - other).abs().max() <= 2e-6 * other.abs().max()


def refused(converter, values, match):
    with pytest.raises(WeightsError, match=match) as caught:
        converter(Arrays(values, "some.file"))
    assert "some.file" in str(caught.value)


KERNEL = "layer5/pointwise_conv/layer5/pointwise_conv/kernel:0"


@pytest.mark.parametrize(
    ("converter", "arrays", "name"),
    [
        (yamnet_from_h5, keras, KERNEL),
        (yamnet_from_h5, keras, "logits/logits/bias:0"),
        (yamnet_from_h5, keras, "logits/logits/kernel:0"),
        (yamnet_from_folded, folded, "layer5/pw/w"),
        (yamnet_from_folded, folded, "mel"),
        (yamnet_from_tflite, tflite, "15480"),
        (yamnet_from_tflite, tflite, "net/layer5/pointwise_conv/Conv2D;"),
    ],
)
def test_a_file_with_something_missing(model, converter, arrays, name):
    values = arrays(model)
    del values[next(key for key in values if name in key)]
    refused(converter, values, "missing|where one is expected")


@pytest.mark.parametrize(
    ("converter", "arrays"),
    [(yamnet_from_h5, keras), (yamnet_from_folded, folded), (yamnet_from_tflite, tflite)],
)
def test_a_file_with_something_left_over(model, converter, arrays):
    values = {**arrays(model), "layer15/extra": np.zeros(3, np.float32)}
    refused(converter, values, "left over: layer15/extra")


@pytest.mark.parametrize(
    ("converter", "arrays", "part"),
    [
        (yamnet_from_h5, keras, KERNEL),
        (yamnet_from_folded, folded, "layer5/pw/w"),
        (yamnet_from_tflite, tflite, "layer5/pointwise_conv/Conv2D"),
    ],
)
def test_a_file_with_another_shape(model, converter, arrays, part):
    values = arrays(model)
    key = next(key for key in values if part in key)
    values[key] = values[key][..., :-1]
    refused(converter, values, "another model")


def test_another_network_with_the_same_shapes(model):
    """The TFLite file with ReLU6 numbers its layers in another way."""
    values = {
        name.replace("layer", "network/block"): value for name, value in tflite(model).items()
    }
    refused(yamnet_from_tflite, values, r"0 arrays .* of layer1/conv/")


def test_two_candidates_for_one_array(model):
    values = keras(model)
    values[f"copy/{KERNEL}"] = values[KERNEL]
    refused(yamnet_from_h5, values, "could be")


def test_a_negative_variance(model):
    values = keras(model)
    name = "layer3/depthwise_conv/bn/layer3/depthwise_conv/bn/moving_variance:0"
    values[name] = -values[name]
    refused(yamnet_from_h5, values, "negative")


@pytest.mark.parametrize(
    ("converter", "arrays", "name"),
    [
        (yamnet_from_folded, folded, "mel"),
        (yamnet_from_folded, folded, "window"),
        (yamnet_from_tflite, tflite, "AddV2_3"),
        (yamnet_from_tflite, tflite, "op_MatMul/MatMul"),
    ],
)
def test_another_front_ends_tables(model, converter, arrays, name):
    values = arrays(model)
    key = next(key for key in values if name in key)
    values[key] = values[key] + np.float32(0.01)
    refused(converter, values, "front end")


def test_one_layer_of_a_partial_file(model):
    values = {name: value for name, value in keras(model).items() if name.startswith("layer1/")}
    arrays = Arrays(values, "layer1.h5")
    found = keras_layer(arrays, 1)
    arrays.finish()
    expected = {k: v for k, v in model.state_dict().items() if k.startswith("network.layer1.")}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(WeightsError, match=r"layer2/depthwise_conv/depthwise_kernel:0 is missing"):
        keras_layer(arrays, 2)
