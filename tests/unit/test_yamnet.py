"""YAMNet without its weights: framing, padding, the folded form."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coala_latent.audio.frames import Framing
from coala_latent.audio.mel import htk_mel_filters
from coala_latent.audio.yamnet import SILENCE, YamnetFrontEnd
from coala_latent.embed.stream import PatchStream
from coala_latent.models.yamnet import ConvNorm, SamePad, Yamnet, YamnetNetwork

# Samples, samples after TensorFlow's padding, frames, patches.
COUNTS = [
    (0, 15600, 96, 1),
    (1, 15600, 96, 1),
    (400, 15600, 96, 1),
    (15600, 15600, 96, 1),
    (15601, 23280, 144, 2),
    (16000, 23280, 144, 2),
    (23280, 23280, 144, 2),
    (23281, 30960, 192, 3),
    (48000, 54000, 336, 6),
    (160000, 161520, 1008, 20),
    (9_600_000, 9_600_240, 60_000, 1249),
]


@pytest.fixture(scope="module")
def front_end():
    return YamnetFrontEnd()


def tiny(seed=0, channels=2, classes=5):
    """A small network whose batch norms do something."""
    generator = torch.Generator().manual_seed(seed)
    network = YamnetNetwork(channels, classes)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith(("running_mean", "norm.bias")):
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            elif name.endswith("running_var"):
                value.copy_(0.3 + 0.5 * torch.rand(value.shape, generator=generator))
            elif name.endswith("conv.weight"):
                value.copy_(torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5)
    return network.eval()


@pytest.mark.parametrize(("samples", "padded", "frames", "patches"), COUNTS)
def test_counts_are_tensorflows(front_end, samples, padded, frames, patches):
    framing = front_end.framing
    assert framing.frames(samples) == frames
    assert framing.patches(frames) == patches
    assert framing.padded_samples(samples) == padded
    if samples < 200_000:
        waveform = torch.zeros(samples)
        assert front_end(waveform).shape == (patches, 96, 64)
        assert front_end.log_mel(waveform).shape == (64, frames)


@pytest.mark.parametrize("samples", [1, 399, 15599, 15600, 15601, 15760, 16000, 23281, 40001])
def test_the_tail_is_the_waveform_extended_with_zeros(front_end, samples, rng):
    sound = torch.from_numpy(rng.normal(0, 0.1, samples).astype(np.float32))
    found = front_end.log_mel(sound)
    extended = F.pad(sound, (0, 15600 + 7680 * (max(0, samples - 7921) // 7680) - samples))
    windows = extended.unfold(0, 400, 160).double()
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(400, dtype=torch.float64) / 400)
    magnitude = torch.fft.rfft(windows * window, 512).abs()
    expected = (magnitude @ front_end.mel_filters.double().T + 0.001).log().T
    assert (found - expected).abs().max() < 2e-4
    silence = found[:, -(-samples // 160) :]
    assert torch.allclose(silence, torch.tensor(SILENCE), atol=1e-6)


@pytest.mark.parametrize("samples", [1, 15601, 16000, 50123])
@pytest.mark.parametrize("patch_hop", [11, 48, 96])
def test_a_stream_gives_the_patches_of_the_whole(samples, patch_hop, rng):
    sound = torch.from_numpy(rng.normal(0, 0.1, samples).astype(np.float32))
    front_end = YamnetFrontEnd(patch_hop)
    stream = PatchStream(front_end)
    blocks = [stream.push(part) for part in sound.split(7001)] + [stream.finish()]
    streamed = torch.cat([block.patches for block in blocks])
    assert streamed.shape == front_end(sound).shape
    assert (streamed - front_end(sound)).abs().max() < 1e-4
    start = np.concatenate([block.start for block in blocks])
    end = np.concatenate([block.end for block in blocks])
    assert (start == np.arange(len(start)) * patch_hop / 100).all()
    assert end[-1] == samples / 16000


def test_frames_outside_the_mask_are_silence(front_end):
    mask = torch.tensor([[True] * 90 + [False] * 6])
    scaled = front_end.scale(torch.full((1, 64, 96), 2.0), mask)
    assert scaled.shape == (1, 96, 64)
    assert (scaled[0, :90] == 2).all()
    assert torch.allclose(scaled[0, 90:], torch.tensor(SILENCE))


@settings(max_examples=60)
@given(
    *(st.integers(1, 20), st.integers(1, 8), st.integers(1, 100), st.integers(0, 400)),
    st.data(),
)
def test_silence_completes_the_last_patch_of_any_framing(window, patch, least, samples, data):
    hop = data.draw(st.integers(1, window))
    patch_hop = data.draw(st.integers(1, patch))
    framing = Framing(window, hop, patch, patch_hop, min_samples=least, tail="silence")
    frames = framing.frames(samples)
    patches = framing.patches(frames)
    assert frames == (patches - 1) * patch_hop + patch
    assert framing.padded_samples(samples) == (frames - 1) * hop + window
    assert framing.padded_samples(samples) >= max(samples, least)
    # One patch less would not reach the last sample.
    assert patches == 1 or (frames - patch_hop - 1) * hop + window < max(samples, least)
    with pytest.raises(ValueError, match="unheard"):
        Framing(window, window + 1, patch, patch_hop, tail="silence")


def test_mel_filters_of_the_specification():
    filters = htk_mel_filters(16000, 512, 64, 125.0, 7500.0)
    assert filters.shape == (64, 257)
    assert filters.dtype == np.float32
    assert (filters[:, 0] == 0).all()
    assert np.flatnonzero(filters[0]).tolist() == [5]
    assert filters[0, 5] == pytest.approx(0.94769, abs=1e-5)
    assert filters[1, 5:7] == pytest.approx([0.05231, 0.93311], abs=1e-5)
    assert np.flatnonzero(filters[63]).tolist() == list(range(223, 240))
    assert filters[63, [223, 224, 231, 239]] == pytest.approx(
        [0.10419, 0.21930, 0.98783, 0.10807], abs=1e-5
    )
    sums = filters.sum(1)
    assert (sums.min(), sums.max()) == pytest.approx((0.9477, 8.9442), abs=1e-4)


@pytest.mark.parametrize("case", [(16000, 512, 64, 125.0, 7500.0), (8000, 256, 20, 0.0, 4000.0)])
def test_mel_filters_are_triangles_in_mel(case):
    rate, n_fft, bands, low, high = case

    def mel(hz):
        return 1127 * np.log1p(hz / 700)

    edges = np.linspace(mel(low), mel(high), bands + 2)
    bins = mel(np.linspace(0, rate / 2, n_fft // 2 + 1))
    exact = [np.interp(bins, edges[band : band + 3], [0, 1, 0]) for band in range(bands)]
    assert np.abs(htk_mel_filters(*case)[:, 1:] - np.array(exact)[:, 1:]).max() < 2e-5


@pytest.mark.parametrize(
    ("size", "stride", "expected"),
    [
        (4, 1, [3, 6, 9, 7]),
        (5, 1, [3, 6, 9, 12, 9]),
        (4, 2, [6, 7]),
        (6, 2, [6, 12, 11]),
        (5, 2, [3, 9, 9]),
        (1, 2, [1]),
        (2, 2, [3]),
    ],
)
def test_same_padding_of_sums_of_three(size, stride, expected):
    x = torch.arange(1.0, size + 1).reshape(1, 1, 1, size)
    padded = SamePad(3, stride)(x)[..., SamePad(3, stride).sides(1)[0], :]
    assert F.conv1d(padded[0], torch.ones(1, 1, 3), stride=stride).flatten().tolist() == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(96, 64), (7, 10), (1, 2), (5, 5)])
def test_convolutions_are_padded_as_in_tensorflow(stride, size):
    step = ConvNorm(1, 1, 3, stride).eval()
    torch.nn.init.ones_(step.conv.weight)
    torch.nn.init.constant_(step.norm.running_var, 1 - step.norm.eps)
    x = torch.rand(1, 1, *size)
    found = step(x).detach()[0, 0]
    assert found.shape == tuple(-(-side // stride) for side in size)
    before = [
        max(0, (n - 1) * stride + 3 - side) // 2 for n, side in zip(found.shape, size, strict=True)
    ]
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            top, left = row * stride - before[0], column * stride - before[1]
            part = x[0, 0, max(0, top) : top + 3, max(0, left) : left + 3]
            assert found[row, column] == pytest.approx(float(part.sum()), abs=1e-5)


def test_layers_and_parameters_are_the_originals():
    with torch.device("meta"):
        network = YamnetNetwork().eval()
        found = network.activations(torch.empty(2, 1, 96, 64), network.layers)
    assert network.layers == (*(f"layer{n}" for n in range(1, 15)), "embedding", "logits")
    sizes = [49152, 98304, 49152, 49152, 24576, 24576, *[12288] * 6, 6144, 6144, 1024, 521]
    assert [found[layer][0].numel() for layer in network.layers] == sizes
    assert found["layer1"].shape == (2, 32, 48, 32)
    assert found["layer14"].shape == (2, 1024, 3, 2)
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trainable == 3_729_481
    # Beside them: means and variances; scales of 1, which the original does not have.
    stored = sum(v.numel() for k, v in network.state_dict().items() if "num_batches" not in k)
    scales = sum(v.numel() for k, v in network.state_dict().items() if k.endswith("norm.weight"))
    assert stored - scales == 3_751_369


def test_only_the_scales_are_frozen():
    frozen = {name for name, p in YamnetNetwork(1, 2).named_parameters() if not p.requires_grad}
    assert len(frozen) == 27
    assert all(name.endswith("norm.weight") for name in frozen)


def test_resume_goes_on_where_until_stopped():
    network, x = tiny(), torch.randn(3, 1, 96, 64)
    with torch.no_grad():
        embedding, logits = network(x)
        for layer in network.layers:
            assert torch.equal(network.resume(network.until(x, layer), layer)["logits"], logits)
        assert torch.equal(network.until(x, "embedding"), embedding)


@pytest.mark.parametrize("patches", [0, 1, 16, 17, 40])
def test_folded_is_the_plain_network(patches):
    network, x = tiny(), torch.randn(patches, 1, 96, 64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = network.folded()
    assert (folded.layers, folded.outputs) == (network.layers, network.outputs)
    with torch.no_grad():
        plain, found = (net.activations(x, net.layers) for net in (network, folded))
        for layer in network.layers if patches else ():
            scale = plain[layer].abs().max()
            assert (found[layer] - plain[layer]).abs().max() <= 2e-6 * scale, layer
            # Activations in the usual memory layout are as good as its own.
            rest = folded.resume(plain[layer].contiguous(), layer)["logits"]
            assert (rest - plain["logits"]).abs().max() <= 5e-6 * plain["logits"].abs().max()
        assert found["layer3"].shape == plain["layer3"].shape
        assert found["logits"].shape == (patches, 5)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("size", [(96, 64), (97, 63), (33, 20)])
def test_folded_takes_patches_of_any_size(size):
    network, x = tiny(), torch.randn(2, 1, *size)
    with torch.no_grad():
        assert torch.allclose(network.folded()(x)[1], network(x)[1], atol=1e-5)


def test_folded_keeps_the_weights_it_was_made_of():
    network, x = tiny(), torch.randn(2, 1, 96, 64)
    folded = network.folded()
    logits = folded(x)[1]
    assert not any(p.requires_grad for p in folded.parameters())
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    assert torch.equal(folded(x)[1], logits)


def test_folding_leaves_the_random_state_alone():
    network, state = tiny(), torch.get_rng_state()
    network.folded()
    assert torch.equal(torch.get_rng_state(), state)


def test_waveforms_to_scores_in_batches_and_alone(rng):
    model = Yamnet(YamnetFrontEnd(), tiny()).eval()
    sounds = torch.from_numpy(rng.normal(0, 0.1, (2, 16000)).astype(np.float32))
    with torch.no_grad():
        scores, embeddings, log_mel = model(sounds)
        alone = model(sounds[1])
    assert scores.shape == (2, 2, 5)
    assert embeddings.shape == (2, 2, 64)
    assert log_mel.shape == (2, 144, 64)
    assert ((scores > 0) & (scores < 1)).all()
    for together, single in zip((scores, embeddings, log_mel), alone, strict=True):
        assert (together[1] - single).abs().max() < 1e-4
    with torch.no_grad():
        patches = model.front_end(sounds[1])[:, None]
        assert torch.allclose(model.network(patches)[0], alone.embeddings, atol=1e-5)
    with pytest.raises(KeyError, match="events"):
        model.score("tags", scores)


def test_gradients_reach_the_waveform_and_every_weight():
    model = Yamnet(YamnetFrontEnd(), tiny()).train()
    sound = (0.1 * torch.randn(2, 20000)).requires_grad_()
    model(sound).scores.sum().backward()
    assert torch.isfinite(sound.grad).all()
    assert (sound.grad[:, 1:] != 0).float().mean() > 0.9
    for name, p in model.named_parameters():
        assert not p.requires_grad or p.grad is not None, name
