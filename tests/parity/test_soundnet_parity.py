"""SoundNet with its published weights against recorded outputs of the original network."""

import numpy as np
import pytest
import soundfile
import torch

from coala_latent.models.soundnet import SoundNet
from coala_latent.models.streaming import StackStream
from coala_latent.weights import load_into, read_weights

pytestmark = [pytest.mark.parity, pytest.mark.shared]

TOLERANCE = 1e-5
# What was recorded as a convolution with a pooling is the output of the pooling.
LAYERS = {
    "conv1": "pool1",
    "conv2": "pool2",
    "conv3": "conv3",
    "conv4": "conv4",
    "conv5": "pool5",
    "conv6": "conv6",
    "conv7": "conv7",
    "conv8": "objects",
    "conv8_2": "scenes",
}
RAILROAD_TRACK, TRAIN_PLATFORM = 300, 368


@pytest.fixture(scope="module")
def model(fetched_model):
    file = fetched_model("soundnet8")
    model = SoundNet()
    load_into(model, read_weights(file), file)
    return model.eval()


@pytest.fixture(scope="module", params=["synth6s", "railroad"])
def recorded(request, shared):
    golden = np.load(shared / "golden" / f"soundnet8_{request.param}.npz")
    if "waveform" in golden:
        return golden, torch.from_numpy(golden["waveform"])
    file = shared / "data" / "sounds" / "railroad_audio.wav"
    samples, rate = soundfile.read(file, dtype="float32")
    assert rate == 22050
    return golden, torch.from_numpy(samples)


def assert_as_recorded(found, golden):
    for name in (name for name in LAYERS if name in golden):
        steps, expected = found[LAYERS[name]][0].T, golden[name]
        assert tuple(steps.shape) == tuple(golden[f"{name}.shape"]), name
        difference = np.abs(steps[: len(expected)].numpy() - expected).max()
        assert difference <= TOLERANCE * np.abs(expected).max(), name


def wanted(golden):
    return [layer for name, layer in LAYERS.items() if name in golden]


def test_every_layer_in_evaluation(model, recorded):
    golden, waveform = recorded
    with torch.inference_mode():
        found = model.network.activations(model.front_end(waveform), wanted(golden))
    assert_as_recorded(found, golden)


def test_every_layer_as_plain_modules(model, recorded):
    golden, waveform = recorded
    found = model.network.activations(model.front_end(waveform), ["conv1", *wanted(golden)])
    assert_as_recorded({layer: steps.detach() for layer, steps in found.items()}, golden)


def test_every_layer_of_a_stream(model, recorded):
    golden, waveform = recorded
    stream = StackStream(model.network, wanted(golden))
    pieces = model.front_end(waveform).split(33_333, dim=-1)
    steps = [stream.push(piece) for piece in pieces] + [stream.finish()]
    found = {
        layer: torch.cat([piece[layer] for piece in steps], dim=-1) for layer in wanted(golden)
    }
    assert_as_recorded(found, golden)


def test_the_railroad_is_heard(model, shared):
    samples, _ = soundfile.read(shared / "data" / "sounds" / "railroad_audio.wav", dtype="float32")
    with torch.inference_mode():
        scores = model.score("scenes", model(torch.from_numpy(samples)).scenes)
    assert scores.shape == (1, 401, 4)
    assert scores[0].argmax(0).tolist() == [*3 * [RAILROAD_TRACK], TRAIN_PLATFORM]
