"""MusiCNN against recorded outputs of the original and against its published files."""

import h5py
import numpy as np
import pytest
import torch

from coala_latent.audio.io import read_audio
from coala_latent.audio.musicnn import MusicnnFrontEnd
from coala_latent.audio.resample import resample
from coala_latent.models.musicnn import Musicnn, MusicnnNetwork, VggNetwork
from coala_latent.weights.arrays import Arrays
from coala_latent.weights.converters.musicnn import (
    musicnn_from_checkpoint,
    vgg_from_checkpoint,
    vgg_from_h5,
)

pytestmark = [pytest.mark.parity, pytest.mark.shared]

NAMES = ["MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"]
# musicnn's README lists the ten most likely tags of its sample: techno, electronic, synth, fast,
# beat, drums, no vocals, no vocal, dance, ambient. These are their numbers among MTT's 50.
JORAM_TOP = [3, 6, 14, 8, 11, 5, 21, 28, 38, 10]


def converted(shared, name):
    file = shared / "data" / "weights" / "musicnn" / f"{name}.npz"
    with np.load(file) as values:
        arrays = Arrays(values, file)
    return (vgg_from_checkpoint if "vgg" in name else musicnn_from_checkpoint)(arrays)


def tagger(shared, name, **settings):
    network = VggNetwork() if "vgg" in name else MusicnnNetwork()
    model = Musicnn(MusicnnFrontEnd(**settings), network)
    model.load_state_dict(converted(shared, name))
    return model.eval()


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "musicnn_joram.npz")


@pytest.fixture(scope="module")
def patches(golden):
    return torch.from_numpy(golden["log_mel_half_cast"][:561].reshape(3, 1, 187, 96))


def assert_close(found, expected, largest, mean, what):
    assert found.shape == expected.shape
    difference = np.abs(found - expected)
    seen = f"{what}: max {difference.max():.2e}, mean {difference.mean():.2e}"
    assert difference.max() <= largest, seen
    assert difference.mean() <= mean, seen


def test_log_mel(golden):
    waveform = torch.from_numpy(golden["waveform_first_12s"])
    found = MusicnnFrontEnd(half_cast=False).log_mel(waveform).T.numpy()
    assert found.shape == (751, 96)
    assert_close(found[:600], golden["log_mel"], 5e-5, 1e-6, "log-mel")


def test_log_mel_of_powers_in_half_precision(golden):
    waveform = torch.from_numpy(golden["waveform_first_12s"])
    found = MusicnnFrontEnd().log_mel(waveform).T.numpy()
    # Where a power lies halfway between two float16 numbers, the original took the other one.
    assert_close(found[:600], golden["log_mel_half_cast"], 4.4e-4, 1e-6, "half-cast log-mel")
    elsewhere = np.abs(found[:600] - golden["log_mel_half_cast"]) > 1e-5
    assert elsewhere.mean() < 1e-3, f"{elsewhere.sum()} values"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["network", "folded"])
def test_features_and_logits(name, form, golden, patches, shared):
    network = tagger(shared, name).network
    if form == "folded":
        network = network.folded()
    layer = "pool5" if "vgg" in name else "penultimate"
    with torch.inference_mode():
        found = network.activations(patches, (layer, "logits"))
    features = found[layer].numpy()
    if features.ndim == 4:
        features = features.transpose(0, 2, 3, 1)
    assert_close(features, golden[f"{name}.features"], 3e-5, 3e-6, f"{name} {form} features")
    logits = found["logits"].numpy()
    assert_close(logits, golden[f"{name}.logits"], 5e-5, 1e-5, f"{name} {form} logits")


@pytest.mark.parametrize("name", NAMES)
def test_tags_from_the_waveform_on(name, golden, shared):
    model = tagger(shared, name)
    waveform = torch.from_numpy(golden["waveform_first_12s"])
    with torch.inference_mode():
        found = model(waveform[None])[0].numpy()
    assert found.shape == (5, 50)
    expected = 1 / (1 + np.exp(-golden[f"{name}.logits"].astype(np.float64)))
    assert_close(found[:3], expected, 1e-4, 1e-5, f"{name} tags")


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_of_the_folded_form(name, patches, shared):
    network = tagger(shared, name).network
    folded = network.folded()
    # Beside music: silence, the loudest that float16 allows, and noise beyond it.
    noise = 15 * torch.rand(1, 1, 187, 96, generator=torch.Generator().manual_seed(0))
    x = torch.cat([patches, torch.zeros_like(noise), torch.full_like(noise, 8.8), noise])
    assert folded.layers == network.layers
    with torch.inference_mode():
        expected = network.activations(x, network.layers)
        found = folded.activations(x, folded.layers)
        for layer in network.layers:
            for music_or_all in (slice(0, 3), slice(None)):
                a, b = found[layer][music_or_all], expected[layer][music_or_all]
                assert a.shape == b.shape
                error = float((a - b).abs().max() / b.abs().max())
                assert error <= 1e-5, f"{name} {layer}: {error:.1e} of the largest value"
            resumed = folded.resume(expected[layer], layer)["logits"]
            assert torch.allclose(resumed, expected["logits"], atol=2e-4, rtol=1e-5)


def test_the_folded_form_leaves_constant_channels_out(shared):
    folded = tagger(shared, "MSD_vgg").network.folded()
    computed = [block.conv.out_channels for block in folded.blocks]
    # One of them a channel of ones, except at the end.
    assert all(few <= most for few, most in zip(computed, (50, 54, 89, 82, 127), strict=True))


def test_the_keras_file_holds_the_same_network(shared):
    arrays = {}
    with h5py.File(shared / "data" / "concepts" / "MSD_vgg.h5") as file:

        def add(name, entry):
            if isinstance(entry, h5py.Dataset):
                arrays[name] = entry[()]

        file.visititems(add)
    found = vgg_from_h5(Arrays(arrays, "MSD_vgg.h5"))
    expected = converted(shared, "MSD_vgg")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert sum(values.numel() for name, values in found.items() if "tracked" not in name) == 607030


def test_top_tags_of_the_original_sample(shared):
    (file,) = (shared / "data" / "sounds").glob("joram*.mp3")
    sound = read_audio(file)
    samples = resample(sound.samples, sound.sample_rate, 16000)
    model = tagger(shared, "MTT_musicnn", tail="drop")
    with torch.inference_mode():
        tags = model(torch.from_numpy(samples)).mean(0)
    assert tags.argsort(descending=True)[:10].tolist() == JORAM_TOP


def test_concept_features(patches, shared):
    network = tagger(shared, "MSD_vgg").network
    with torch.inference_mode():
        found = network.concept_features(patches)
        pool4 = network.until(patches, "pool4")
    assert [values.shape[1] for values in found.values()] == [1536, 768, 128, 50]
    # Time and channels in the order of the published weights: (n, time, frequency, channel).
    in_order = pool4.permute(0, 2, 3, 1).numpy().mean(1).reshape(3, -1)
    assert np.abs(found["pool4"].numpy() - in_order).max() < 1e-5
    assert 0 <= found["output"].min() <= found["output"].max() <= 1
