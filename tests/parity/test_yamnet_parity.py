"""YAMNet against recorded outputs of the original and against its published files."""

import csv
import json

import numpy as np
import pytest
import torch

from coala_latent.audio.io import read_audio
from coala_latent.audio.resample import resample
from coala_latent.audio.yamnet import YamnetFrontEnd
from coala_latent.embed.stream import PatchStream
from coala_latent.errors import WeightsError
from coala_latent.models.yamnet import Yamnet, YamnetNetwork
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.yamnet import (
    keras_layer,
    yamnet_from_folded,
    yamnet_from_tflite,
)
from coala_latent.weights.files import load_into
from coala_latent.weights.readers import read_arrays

pytestmark = [pytest.mark.parity, pytest.mark.shared]

GOLDENS = ["baby_975ms", "miaow", "one_second"]
LAYERS = [f"layer{number}" for number in range(1, 15)]


@pytest.fixture(scope="module")
def weights(shared):
    return shared / "data" / "weights" / "yamnet"


@pytest.fixture(scope="module")
def recorded(weights):
    with np.load(weights / "yamnet_reconstructed_f32.npz") as values:
        return dict(values)


@pytest.fixture(scope="module")
def model(recorded):
    model = Yamnet().eval()
    load_into(model, yamnet_from_folded(Arrays(recorded, "npz")), "npz")
    return model


@pytest.fixture(scope="module")
def names(weights):
    with (weights / "yamnet_class_map.csv").open(newline="", encoding="utf-8") as file:
        return [row["display_name"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module", params=GOLDENS)
def golden(request, shared):
    with np.load(shared / "golden" / f"yamnet_{request.param}.npz") as values:
        return dict(values)


@pytest.fixture(params=["plain", "folded"])
def network(request, model):
    return model.network if request.param == "plain" else model.network.folded()


def assert_close(found, expected, largest, mean, what):
    found = np.asarray(found)
    assert found.shape == expected.shape
    difference = np.abs(found - expected)
    seen = f"{what}: max {difference.max():.2e}, mean {difference.mean():.2e}"
    assert difference.max() <= largest, seen
    assert difference.mean() <= mean, seen


def sound(shared, name):
    read = read_audio(shared / "data" / "sounds" / name)
    return torch.from_numpy(resample(read.samples, read.sample_rate, 16000))


def test_tables_of_the_front_end(recorded):
    front_end = YamnetFrontEnd()
    filters = front_end.mel_filters.numpy().T
    assert_close(filters, recorded["mel"], 1e-6, 1e-8, "mel")
    assert_close(front_end.window[:400], recorded["window"], 3e-7, 1e-7, "window")


def test_log_mel(model, golden):
    found = model.front_end.log_mel(torch.from_numpy(golden["waveform"])).T
    assert_close(found, golden["log_mel"], 5e-4, 1e-5, "log-mel")


def test_streamed_patches(model, golden):
    stream = PatchStream(model.front_end)
    pieces = torch.from_numpy(golden["waveform"]).split(7001)
    blocks = [stream.push(piece) for piece in pieces] + [stream.finish()]
    found = torch.cat([block.patches for block in blocks])
    count = len(golden["scores"])
    expected = np.stack([golden["log_mel"][48 * n : 48 * n + 96] for n in range(count)])
    assert_close(found, expected, 5e-4, 1e-5, "patches")


def test_layers(network, model, golden):
    with torch.inference_mode():
        patches = model.front_end(torch.from_numpy(golden["waveform"]))
        found = network.activations(patches[:, None], (*LAYERS, "embedding", "logits"))
    for layer in LAYERS:
        assert_close(found[layer].mean((2, 3)), golden[layer], 5e-5, 1e-5, layer)
    assert_close(found["embedding"], golden["embeddings"], 5e-5, 1e-5, "embeddings")
    assert_close(found["logits"].sigmoid(), golden["scores"], 1e-5, 1e-6, "scores")


def test_whole_model(model, golden):
    with torch.inference_mode():
        scores, embeddings, log_mel = model(torch.from_numpy(golden["waveform"]))
    assert_close(scores, golden["scores"], 1e-5, 1e-6, "scores")
    assert_close(embeddings, golden["embeddings"], 5e-5, 1e-5, "embeddings")
    assert_close(log_mel, golden["log_mel"], 5e-4, 1e-5, "log-mel")


def test_log_mel_of_tensorflow_itself(model, shared):
    expected = np.load(shared / "golden" / "yamnet_speech_whistling2_logmel.npy")
    found = model.front_end.log_mel(sound(shared, "speech_whistling2.wav")).T
    # It was extended in another way: only frames that the sound fills can be compared.
    assert_close(found[:490], expected[:490], 2e-3, 2e-5, "log-mel")


def top(model, names, waveform, count):
    with torch.inference_mode():
        mean = model(waveform).scores.mean(0)
    return [names[number] for number in mean.topk(count).indices]


@pytest.mark.parametrize(
    ("clip", "expected"),
    [
        ("baby_975ms.wav", {"Baby cry, infant cry", "Crying, sobbing"}),
        ("dog_975ms.wav", {"Dog", "Animal", "Domestic animals, pets"}),
        ("miaow_16k.wav", {"Animal", "Domestic animals, pets", "Cat"}),
        ("speech_whistling2.wav", {"Speech"}),
    ],
)
def test_known_sounds(model, names, shared, clip, expected):
    found = top(model, names, sound(shared, clip), 4)
    assert expected <= set(found), found


def test_silence_noise_and_a_tone(model, names):
    """The original project's smoke test."""
    time = torch.arange(48000) / 16000
    noise = 2 * torch.rand(48000, generator=torch.Generator().manual_seed(0)) - 1
    tone = torch.sin(2 * torch.pi * 440 * time)
    for waveform, name in (
        (torch.zeros(48000), "Silence"),
        (noise, "White noise"),
        (tone, "Sine wave"),
    ):
        found = top(model, names, waveform, 10)
        assert name in found, found


def test_resume_from_every_layer(network, golden):
    patches = torch.from_numpy(golden["log_mel"][None, None, :96])
    with torch.inference_mode():
        for layer in LAYERS:
            logits = network.resume(network.until(patches, layer), layer)["logits"]
            scores = logits.sigmoid()
            assert_close(scores, golden["scores"][:1], 1e-5, 1e-6, f"scores from {layer}")


def test_keras_file_with_batch_norms(model, weights, golden):
    """The published part of the Keras model has layers 1 to 6, batch norms not folded."""
    arrays = read_arrays(weights / "yamnet_256_f32.h5")
    assert len(arrays.names) == 4 + 5 * 8
    state = {}
    for number in range(1, 7):
        state |= keras_layer(arrays, number)
    arrays.finish()
    network = YamnetNetwork().eval()
    own = {name.removeprefix("network."): value for name, value in state.items()}
    missing, unexpected = network.load_state_dict(own, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.split(".")[0] in LAYERS[:6]]
    patches = torch.from_numpy(golden["log_mel"][None, None, :96])
    with torch.inference_mode():
        found = network.activations(patches, LAYERS[:6])
        expected = model.network.activations(patches, LAYERS[:6])
    for layer in LAYERS[:6]:
        assert_close(found[layer], expected[layer].numpy(), 1e-5, 1e-6, layer)


def test_tflite_file_with_int8_weights(model, weights):
    file = weights / "yamnet_dynamic_range_int8_weights.tflite"
    state = yamnet_from_tflite(read_arrays(file))
    expected = model.state_dict()
    assert state.keys() == expected.keys()
    origin = json.loads((weights / "provenance.json").read_text("utf-8"))
    short = {"dw": "depthwise.", "pw": "pointwise.", "conv": ""}
    same = 0
    for name, source in origin.items():
        layer, _, part = name.partition("/")
        kind, _, array = part.partition("/")
        if kind not in short:
            continue
        module = f"network.{layer}.{short[kind]}"
        if array == "b":
            bias = expected[f"{module}norm.bias"]
            assert torch.allclose(state[f"{module}norm.bias"], bias, atol=1e-6), name
            continue
        found, kernel = state[f"{module}conv.weight"], expected[f"{module}conv.weight"]
        if source.startswith("int8"):
            assert torch.equal(found, kernel), name
            same += 1
        else:
            # Rounded to 127 steps on either side, channel by channel.
            step = kernel.flatten(1).abs().amax(1)[:, None, None, None] / 127
            assert ((found - kernel).abs() <= 0.51 * step).all(), name
    assert same == 11


def test_tflite_files_of_another_network_are_refused(weights):
    file = weights / "lite-model_yamnet_classification_tflite_1.tflite"
    with pytest.raises(WeightsError, match="another model"):
        yamnet_from_tflite(read_arrays(file))
