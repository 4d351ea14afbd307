import numpy as np
import pytest
import torch
from torch import nn

from coala_latent.audio.musicnn import MusicnnFrontEnd
from coala_latent.embed.stream import PatchStream
from coala_latent.models.musicnn import Musicnn, MusicnnNetwork, VggNetwork

TINY = {"timbral": 3, "temporal": 2, "middle": 4, "dense": 5, "tags": 6}
FRAMES = 187


def tiny(kind):
    """A network with batch norms that do something, some of them with negative scales."""
    torch.manual_seed(0)
    network = VggNetwork(channels=4, tags=6) if kind is VggNetwork else MusicnnNetwork(**TINY)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 0.3, 1.0)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def noise(n=2, frames=FRAMES, seed=0):
    return 4 * torch.rand(n, 1, frames, 96, generator=torch.Generator().manual_seed(seed))


BOTH = [VggNetwork, MusicnnNetwork]


# --- front end ---------------------------------------------------------------------------------


def test_patches_are_time_first_and_silence_is_zero():
    front_end = MusicnnFrontEnd()
    assert front_end.patch_shape == (187, 96)
    assert front_end(torch.zeros(2, 100000)).shape == (2, 3, 187, 96)
    assert (front_end(torch.zeros(100000)) == 0).all()


def test_frames_beyond_the_sound_are_silence():
    front_end = MusicnnFrontEnd()
    patch = front_end(torch.ones(16000))[0]
    # 63 frames are centred on a sample, one more covers what is mirrored at the end.
    assert (patch[64:] == 0).all()
    assert (patch[:63].amax(1) > 0).all()


@pytest.mark.parametrize("half_cast", [True, False])
@pytest.mark.parametrize("tail", ["pad", "drop"])
@pytest.mark.parametrize("samples", [1, 256, 257, 258, 47615, 47616, 47617, 100000])
def test_pieces_of_a_sound_give_the_patches_of_the_whole(half_cast, tail, samples, rng):
    sound = torch.from_numpy(rng.normal(0, 0.1, samples).astype(np.float32))
    front_end = MusicnnFrontEnd(patch_hop=93, half_cast=half_cast, tail=tail)
    stream = PatchStream(front_end)
    pieces = [stream.push(piece) for piece in sound.split(7001)] + [stream.finish()]
    found, whole = torch.cat([piece.patches for piece in pieces]), front_end(sound)
    assert found.shape == whole.shape
    assert torch.allclose(found, whole, atol=1e-5)


def test_dropping_the_tail_says_what_is_lost():
    assert MusicnnFrontEnd().drops == ""
    assert "last complete patch" in MusicnnFrontEnd(tail="drop").drops
    sound = torch.ones(47872)
    assert len(MusicnnFrontEnd(tail="drop")(sound)) == 1
    assert len(MusicnnFrontEnd()(sound)) == 2


def test_half_cast_rounds_powers_to_float16(rng):
    sound = torch.from_numpy(rng.normal(0, 0.1, 200000).astype(np.float32))
    rounded = MusicnnFrontEnd().log_mel(sound.double())
    exact = MusicnnFrontEnd(half_cast=False).log_mel(sound.double())
    power = (10**rounded - 1) / 1e4
    assert ((power - power.half().double()).abs() <= 1e-10 + 1e-9 * power).all()
    difference = (rounded - exact).abs()
    assert 1e-5 < difference.max() < 2.2e-4
    # In float32 a few powers would fall on the other side of the middle of two float16 numbers.
    single = MusicnnFrontEnd().log_mel(sound)
    assert single.dtype == torch.float32
    assert (single - rounded).abs().max() < 1e-6


@pytest.mark.parametrize("half_cast", [True, False])
@pytest.mark.parametrize(
    "sound",
    [
        torch.zeros(1),
        torch.zeros(50000),
        torch.ones(50000),
        torch.full((50000,), 1e-30),
        torch.sin(torch.arange(50000.0)).sign(),
        1e6 * torch.sin(torch.arange(50000.0)),
    ],
    ids=["one sample", "silence", "DC", "denormal", "clipped", "far too loud"],
)
def test_hard_sounds_are_finite_and_so_is_their_gradient(half_cast, sound):
    sound = sound.clone().requires_grad_()
    patches = MusicnnFrontEnd(half_cast=half_cast)(sound)
    assert torch.isfinite(patches).all()
    patches.sum().backward()
    assert torch.isfinite(sound.grad).all()


def test_gradient_passes_the_rounding():
    sound = (0.1 * torch.randn(20000)).requires_grad_()
    (100 * MusicnnFrontEnd()(sound)).sum().backward()
    rounded, sound.grad = sound.grad, None
    (100 * MusicnnFrontEnd(half_cast=False)(sound)).sum().backward()
    assert torch.allclose(rounded, sound.grad, rtol=1e-2, atol=1e-2 * float(rounded.abs().max()))


def test_autocast_does_not_touch_the_spectrum(rng):
    sound = torch.from_numpy(rng.normal(0, 0.5, 50000).astype(np.float32))
    front_end = MusicnnFrontEnd()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end(sound), front_end(sound))
        found = front_end.log_mel(sound)
    assert torch.equal(found, front_end.log_mel(sound))


# --- layers ------------------------------------------------------------------------------------


def test_shapes_of_the_pooling_layers():
    network = VggNetwork(channels=3, tags=5).eval()
    found = network.activations(noise(), network.layers)
    assert {layer: tuple(values.shape[1:]) for layer, values in found.items()} == {
        "pool1": (3, 92, 48),
        "pool2": (3, 46, 24),
        "pool3": (3, 23, 12),
        "pool4": (3, 11, 6),
        "pool5": (3, 2, 1),
        "logits": (5,),
    }


@pytest.mark.parametrize("form", ["network", "folded"])
@pytest.mark.parametrize(("frames", "steps"), [(1857, 28), (1858, 29), (1876, 29), (1921, 29)])
def test_pool5_of_a_whole_sound(frames, steps, form):
    # 30 s at 16 kHz are 1876 frames, and embeddings of them are published as (29, 128).
    network = tiny(VggNetwork)
    if form == "folded":
        network = network.folded()
    with torch.inference_mode():
        assert network.until(noise(1, frames), "pool5").shape == (1, 4, steps, 1)
        with pytest.raises(ValueError, match="187 frames"):
            network(noise(1, frames))


def test_30_seconds_are_1876_frames():
    assert MusicnnFrontEnd().log_mel(torch.zeros(30 * 16000)).shape == (96, 1876)


def test_shapes_of_the_musically_motivated_layers():
    with torch.device("meta"):
        network = MusicnnNetwork().eval()
        found = network.activations(torch.empty(2, 1, FRAMES, 96), network.layers)
    assert {layer: tuple(values.shape[1:]) for layer, values in found.items()} == {
        "frontend": (561, 187),
        "middle1": (625, 187),
        "middle2": (689, 187),
        "middle3": (753, 187),
        "pooled": (1506,),
        "penultimate": (200,),
        "logits": (50,),
    }


@pytest.mark.parametrize("frames", [1, 50, 400])
def test_global_pooling_takes_any_number_of_frames(frames):
    with torch.inference_mode():
        assert tiny(MusicnnNetwork)(noise(2, frames)).shape == (2, 6)


@pytest.mark.parametrize("kind", BOTH)
def test_until_and_resume_are_the_whole(kind):
    network = tiny(kind)
    with torch.inference_mode():
        logits = network(noise())
        for layer in network.layers:
            assert torch.equal(
                network.resume(network.until(noise(), layer), layer)["logits"], logits
            )
    with pytest.raises(KeyError, match="logits"):
        network.until(noise(), "pool9")


@pytest.mark.parametrize("kind", BOTH)
def test_batched_equals_single(kind):
    network, x = tiny(kind), noise(3)
    with torch.inference_mode():
        together = network(x)
        for row, alone in zip(together, x, strict=True):
            assert torch.allclose(row, network(alone[None])[0], atol=1e-5)


def test_concept_features_are_band_by_band():
    network = tiny(VggNetwork)
    with torch.inference_mode():
        found = network.concept_features(noise())
        maps = network.activations(noise(), ("pool3", "logits"))
    assert {name: values.shape[1] for name, values in found.items()} == {
        "pool3": 12 * 4,
        "pool4": 6 * 4,
        "pool5": 4,
        "output": 6,
    }
    for band in range(12):
        expected = maps["pool3"][:, :, :, band].mean(2)
        assert torch.allclose(found["pool3"][:, 4 * band : 4 * band + 4], expected, atol=1e-6)
    assert torch.equal(found["output"], maps["logits"].sigmoid())


# --- model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("samples", [1, 257, 16000, 47617])
def test_tags_of_a_waveform(kind, samples):
    model = Musicnn(MusicnnFrontEnd(), tiny(kind)).eval()
    waveform = 0.1 * torch.randn(2, samples)
    with torch.inference_mode():
        tags = model(waveform)
        alone = model(waveform[0])
    assert tags.shape == (2, 2 if samples > 47616 else 1, 6)
    assert torch.isfinite(tags).all()
    assert 0 <= tags.min() <= tags.max() <= 1
    assert torch.allclose(tags[0], alone, atol=1e-6)


def test_no_classes_but_tags():
    model = Musicnn(MusicnnFrontEnd(), tiny(VggNetwork))
    assert model.scored == {"tags": "logits"}
    assert model.score("tags", torch.zeros(1, 6)).tolist() == [[0.5] * 6]
    with pytest.raises(KeyError, match="there are tags"):
        model.score("genres", torch.zeros(1, 6))


@pytest.mark.parametrize("kind", BOTH)
def test_every_parameter_is_the_networks_and_can_be_trained(kind):
    model = Musicnn(MusicnnFrontEnd(), tiny(kind)).train()
    assert all(name.startswith("network.") for name in model.state_dict())
    model(0.1 * torch.randn(2, 60000)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# --- folded ------------------------------------------------------------------------------------


def silence_filters(network, filters):
    """Filters without weights: constant outputs, which are not 0 behind their batch norms."""
    kinds = (nn.Conv1d, nn.Conv2d)
    convolutions = [module for module in network.modules() if isinstance(module, kinds)]
    for number, module in enumerate(convolutions):
        with torch.no_grad():
            module.weight[filters] = 1e-12
            module.bias[filters] = 0.2 if number % 2 else -0.1


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "silent", [[], [0], [1, 2], [0, 1, 2]], ids=lambda filters: f"{len(filters)} silent"
)
def test_folded_gives_the_same_layers(kind, silent):
    network = tiny(kind)
    silence_filters(network, silent if kind is VggNetwork else [0] if silent else [])
    before = {name: values.clone() for name, values in network.state_dict().items()}
    folded = network.folded()
    assert folded.layers == network.layers
    with torch.inference_mode():
        expected = network.activations(noise(), network.layers)
        found = folded.activations(noise(), folded.layers)
        for layer in network.layers:
            scale = float(expected[layer].abs().max())
            assert torch.allclose(found[layer], expected[layer], atol=1e-5 * scale, rtol=0), layer
            resumed = folded.resume(expected[layer], layer)["logits"]
            assert torch.allclose(resumed, expected["logits"], atol=1e-4)
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_folded_leaves_constant_filters_out():
    network = tiny(VggNetwork)
    silence_filters(network, [1, 2])
    folded = network.folded()
    # The two live ones, and ones in place of the others where a convolution follows.
    assert [block.conv.out_channels for block in folded.blocks] == [3, 3, 3, 3, 2]
    assert [block.conv.out_channels for block in tiny(VggNetwork).folded().blocks] == [4] * 5


@pytest.mark.parametrize("kind", BOTH)
def test_a_network_of_constants_can_be_folded(kind):
    network = tiny(kind)
    silence_filters(network, slice(None))
    with torch.inference_mode():
        assert torch.allclose(network.folded()(noise()), network(noise()), atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_folded_is_a_copy_in_evaluation(kind):
    network = tiny(kind).train()
    folded = network.folded()
    assert network.training
    assert not folded.rest.training
    expected = folded(noise())
    assert not expected.requires_grad
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(folded(noise()), expected)
