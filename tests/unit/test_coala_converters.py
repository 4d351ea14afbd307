"""COALA's original checkpoints become whole models."""

import numpy as np
import pytest
import torch

from coala_latent.audio.frontends import CoalaLegacy
from coala_latent.errors import WeightsError
from coala_latent.registry.architectures import build_module
from coala_latent.weights import load_into
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.coala import (
    coala_cnn_from_checkpoint,
    coala_from_checkpoints,
)
from coala_latent.weights.readers import read_arrays

FRONT_END = {"name": "coala_legacy"}
SIZES = {"channels": 2, "tags": 5, "hidden": 7, "decoders": True}
PARTS = ("audio_encoder", "tag_encoder", "audio_decoder", "tag_decoder")


def original(part, model):
    """What the original saved of a part: its own names, half of them counted."""
    state = getattr(model, part).state_dict()
    return {name: value.numpy() for name, value in state.items()}


def arrays_of(model, parts=PARTS, **changes):
    return [Arrays({**original(part, model), **changes.get(part, {})}, part) for part in parts]


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_module("coala", FRONT_END, SIZES)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                value.fill_(31_000)
            elif not name.startswith("front_end"):
                value.uniform_(0.1, 1)
    return model


def test_a_whole_model(model):
    state, sizes = coala_from_checkpoints(*arrays_of(model), front_end=CoalaLegacy())
    assert sizes == SIZES
    found = build_module("coala", FRONT_END, sizes)
    load_into(found, state, "x")
    for name, value in model.state_dict().items():
        assert found.state_dict()[name].equal(value)
        assert state[name].dtype == value.dtype


def test_encoders_alone(model):
    state, sizes = coala_from_checkpoints(*arrays_of(model, PARTS[:2]))
    assert sizes == {**SIZES, "decoders": False}
    expected = build_module("coala", FRONT_END, sizes).state_dict()
    assert set(state) == {name for name in expected if not name.startswith("front_end.")}


def test_one_decoder_alone(model):
    encoders, (decoder,) = arrays_of(model, PARTS[:2]), arrays_of(model, ["tag_decoder"])
    with pytest.raises(WeightsError, match="tag_decoder: one decoder alone"):
        coala_from_checkpoints(*encoders, tag_decoder=decoder)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("audio_encoder", {"extra": np.zeros(1)}, "1 arrays are left over: extra"),
        ("audio_encoder", {"audio_encoder.0.weight": np.zeros(())}, "another model's file"),
        ("tag_encoder", {"tag_encoder.0.weight": np.zeros((10**6, 0))}, "another model's file"),
        ("tag_encoder", {"tag_encoder.4.weight": np.zeros((7, 8))}, r"is \(7, 8\), not \(7, 7\)"),
        ("tag_encoder", {"tag_encoder.1.running_var": -np.ones(7)}, "running_var is negative"),
        ("tag_decoder", {"tag_decoder.7.bias": np.full(5, np.nan)}, "NaN"),
        ("audio_decoder", {"audio_decoder.18.bias": np.zeros(2)}, r"is \(2,\), not \(1,\)"),
    ],
)
def test_other_files(model, part, change, message):
    with pytest.raises(WeightsError, match=message) as caught:
        coala_from_checkpoints(*arrays_of(model, **{part: change}))
    assert str(caught.value).startswith(f"{part}: ")


def test_parts_of_different_models(model):
    other = build_module("coala", FRONT_END, {**SIZES, "channels": 3})
    audio, tag = arrays_of(other, PARTS[:1]) + arrays_of(model, PARTS[1:2])
    with pytest.raises(WeightsError, match=r"tag_encoder.*is \(18, 7\), not \(27, 7\)"):
        coala_from_checkpoints(audio, tag)
    audio, tag = arrays_of(model, ("tag_encoder", "audio_encoder"))
    with pytest.raises(WeightsError, match=r"audio_encoder\.0\.weight is missing"):
        coala_from_checkpoints(audio, tag)


def test_the_cnn():
    model = build_module("coala_cnn", FRONT_END, {"channels": 2, "tags": 5})
    (arrays,) = arrays_of(model, ["cnn"])
    state, sizes = coala_cnn_from_checkpoint(arrays, front_end=CoalaLegacy())
    assert sizes == {"channels": 2, "tags": 5}
    assert set(state) == set(model.state_dict())
    assert all(state[name].equal(value) for name, value in model.state_dict().items())


@pytest.mark.shared
def test_checkpoints_of_the_originals_size(shared):
    golden = np.load(shared / "golden" / "coala_golden.npz")
    files = [read_arrays(shared / "golden" / f"coala_{part}.pt") for part in PARTS]
    state, sizes = coala_from_checkpoints(*files, front_end=CoalaLegacy())
    assert sizes == {"channels": 128, "tags": 1000, "hidden": 512, "decoders": True}
    model = build_module("coala", FRONT_END, sizes).eval()
    load_into(model, state, "golden")
    with torch.inference_mode():
        x, tags = torch.from_numpy(golden["x"]), torch.from_numpy(golden["tags"])
        for found, part in (
            (model.audio_encoder(x), PARTS[0]),
            (model.tag_encoder(tags), PARTS[1]),
        ):
            for number, output in enumerate(found):
                expected = golden[f"{part}.out{number}"]
                assert np.abs(output.numpy() - expected).max() <= 1e-5


@pytest.mark.shared
def test_the_cnn_of_the_originals_size(shared):
    golden = np.load(shared / "golden" / "coala_golden.npz")
    arrays = read_arrays(shared / "golden" / "coala_cnn.pt")
    state, sizes = coala_cnn_from_checkpoint(arrays, front_end=CoalaLegacy())
    model = build_module("coala_cnn", FRONT_END, sizes).eval()
    load_into(model, state, "golden")
    with torch.inference_mode():
        found = model.cnn(torch.from_numpy(golden["x"]))
    for number, output in enumerate(found):
        assert np.abs(output.numpy() - golden[f"cnn.out{number}"]).max() <= 1e-5
