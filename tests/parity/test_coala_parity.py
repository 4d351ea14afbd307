"""COALA against recorded outputs of the original."""

import numpy as np
import pytest
import torch

from coala_latent.audio.frontends import CoalaLegacy
from coala_latent.embed.stream import PatchStream
from coala_latent.models.coala import CNN, AudioDecoder, AudioEncoder, TagDecoder, TagEncoder
from coala_latent.registry import load_checkpoint

pytestmark = [pytest.mark.parity, pytest.mark.shared]

MODULES = [
    (AudioEncoder, "audio_encoder", "x", 36),
    (AudioDecoder, "audio_decoder", "z", 35),
    (TagEncoder, "tag_encoder", "tags", 22),
    (TagDecoder, "tag_decoder", "z", 21),
    (CNN, "cnn", "x", 39),
]


@pytest.fixture(scope="module")
def golden(shared):
    return np.load(shared / "golden" / "coala_golden.npz")


@pytest.fixture(scope="module")
def sound(shared):
    return np.load(shared / "golden" / "coala_frontend_golden.npz")


@pytest.mark.parametrize(("kind", "name", "given", "entries"), MODULES)
def test_outputs_of_an_original_checkpoint(kind, name, given, entries, golden, shared):
    module = kind()
    assert len(module.state_dict()) == entries
    load_checkpoint(module, shared / "golden" / f"coala_{name}.pt")
    with torch.inference_mode():
        found = module.eval()(torch.from_numpy(golden[given]))
    for number, output in enumerate(found if isinstance(found, tuple) else (found,)):
        expected = golden[f"{name}.out{number}"]
        assert output.shape == expected.shape
        assert np.abs(output.numpy() - expected).max() <= 1e-5


def test_log_mel(sound):
    found = CoalaLegacy().log_mel(torch.from_numpy(sound["waveform"])).numpy()
    difference = np.abs(found - sound["log_mel"])
    assert found.shape == (96, 430)
    assert difference.mean() <= 2e-6
    assert difference.max() <= 2e-4


def test_patches(sound):
    waveform = torch.from_numpy(sound["waveform"])
    front_end = CoalaLegacy()
    stream = PatchStream(front_end)
    pieces = [stream.push(part) for part in waveform.split(7001)] + [stream.finish()]
    for found in (front_end(waveform), torch.cat([piece.patches for piece in pieces])):
        difference = np.abs(found.numpy() - sound["patches"])
        assert found.shape == (4, 96, 96)
        assert difference.mean() <= 2e-6
        assert difference.max() <= 2e-4


@pytest.mark.parametrize(("kind", "name"), [(AudioEncoder, "audio_encoder"), (CNN, "cnn")])
def test_until_and_resume_are_the_whole(kind, name, golden, shared):
    module = kind()
    load_checkpoint(module, shared / "golden" / f"coala_{name}.pt")
    x = torch.from_numpy(golden["x"])
    with torch.inference_mode():
        z, head = module.eval()(x)
        for layer in module.layers:
            hidden = module.until(x, layer)
            assert torch.equal(module.resume(hidden, layer)[module.head], head)
        assert torch.equal(module.until(x, "z"), z)
    with pytest.raises(KeyError, match="conv1"):
        module.until(x, "conv9")
