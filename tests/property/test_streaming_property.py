"""A convolution stack gives the same steps for a sound and for its pieces."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from coala_latent.models.geometry import Window
from coala_latent.models.soundnet import SoundNetClassifier, SoundNetwork, initialise_
from coala_latent.models.stack import ConvolutionStack, Joined, NormedConvolution, Pool
from coala_latent.models.streaming import StackStream


class Small(ConvolutionStack):
    """Any chain of small windows, so that short sounds meet every border."""

    def __init__(self, kinds, heads):
        super().__init__()
        self.kinds, channels = kinds, 1
        for number, (window, _) in enumerate(kinds):
            self.add_module(f"conv{number}", NormedConvolution(channels, 3, window))
            channels = 3
        self.last = nn.ModuleList([nn.Conv1d(channels, 2, *heads) for _ in range(2)])

    def parts(self):
        found = {}
        for number, (_, pool) in enumerate(self.kinds):
            found[f"conv{number}"] = self.get_submodule(f"conv{number}")
            if pool:
                found[f"pool{number}"] = Pool(pool)
        return {**found, "last": Joined(*self.last)}

    def heads(self):
        return {"left": lambda both: both[:, :2], "right": lambda both: both[:, 2:]}


@st.composite
def windows(draw):
    kernel = draw(st.integers(1, 6))
    return Window(kernel, draw(st.integers(1, kernel)), draw(st.integers(0, kernel // 2)))


@st.composite
def networks(draw):
    kinds = draw(st.lists(st.tuples(windows(), st.integers(0, 5)), max_size=3))
    return lively(Small(kinds, draw(windows())))


def lively(network, seed=0):
    """With batch norms that do something, scales below 0 too."""
    generator = torch.Generator().manual_seed(seed)
    for name, values in network.state_dict().items():
        if name.endswith("running_var"):
            values.uniform_(0.5, 2.0, generator=generator)
        elif values.is_floating_point():
            values.normal_(0.0, 0.5, generator=generator)
    return network.eval()


def offline(network, x, layers):
    """Layers of a whole sound; none of those that it is too short for."""
    found = {}
    for layer in layers:
        if network.geometry(layer).count(x.shape[-1]):
            with torch.no_grad():
                found[layer] = network.until(x, layer)
    return found


def streamed(network, x, layers, pieces):
    stream = StackStream(network, layers)
    got = [stream.push(piece) for piece in x.split(pieces, dim=-1)] + [stream.finish()]
    assert all(tuple(steps) == tuple(layers) for steps in got)
    return {layer: torch.cat([steps[layer] for steps in got], dim=-1) for layer in layers}


def splits(data, samples):
    cuts = sorted(data.draw(st.lists(st.integers(0, samples), max_size=6)))
    return [end - begin for begin, end in zip([0, *cuts], [*cuts, samples], strict=True)]


def assert_same(found, wanted, layers):
    for layer in layers:
        if layer not in wanted:
            assert found[layer].shape[-1] == 0
            continue
        assert found[layer].shape == wanted[layer].shape
        scale = max(wanted[layer].abs().max().item(), 1e-6)
        assert (found[layer] - wanted[layer]).abs().max() <= 1e-5 * scale


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_pieces_of_any_small_network(data):
    network = data.draw(networks())
    layers = data.draw(st.sets(st.sampled_from(network.layers), min_size=1).map(sorted))
    samples, batch = data.draw(st.integers(0, 80)), data.draw(st.integers(1, 2))
    x = torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(samples))
    found = streamed(network, x, layers, splits(data, samples))
    assert_same(found, offline(network, x, layers), layers)
    # Each step comes as soon as its field is complete: before the end, all but those in padding.
    stream = StackStream(network, layers)
    early = stream.push(x)
    for layer in layers:
        geometry, count = network.geometry(layer), found[layer].shape[-1]
        ends = [geometry.offset + i * geometry.stride + geometry.field for i in range(count)]
        assert early[layer].shape[-1] == sum(end <= samples for end in ends)


TINY = {8: (2, 3, 4, 3, 5, 4, 6), 5: (2, 3, 4, 3)}
NETWORKS = {
    "8 layers": lively(SoundNetwork(8, TINY[8], 5, 3)),
    "5 layers": lively(SoundNetwork(5, TINY[5], 5, 3)),
    "classifier": lively(SoundNetClassifier(SoundNetwork(8, TINY[8], 5, 3), 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_pieces_of_soundnet(name, data):
    network = NETWORKS[name]
    layers = data.draw(st.sets(st.sampled_from(network.layers), min_size=1).map(sorted))
    samples, batch = data.draw(st.integers(0, 300_000)), data.draw(st.integers(1, 2))
    x = 50 * torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(samples))
    pieces = splits(data, samples)
    assert_same(streamed(network, x, layers, pieces), offline(network, x, layers), layers)


@pytest.mark.parametrize("piece", [1, 2, 7, 16])
def test_very_small_pieces(piece):
    network, layers = NETWORKS["8 layers"], ("conv1", "pool1", "conv2", "pool5")
    x = 50 * torch.randn(1, 1, 5_000 if piece > 2 else 700)
    pieces = [min(piece, x.shape[-1] - at) for at in range(0, x.shape[-1], piece)]
    assert_same(streamed(network, x, layers, pieces), offline(network, x, layers), layers)


def test_nothing_gives_no_steps():
    network = NETWORKS["8 layers"]
    for pushes in ([], [torch.zeros(1, 1, 0)], [torch.zeros(1, 1, 1)], [torch.zeros(2, 1, 13)]):
        stream = StackStream(network, network.layers)
        got = [stream.push(piece) for piece in pushes] + [stream.finish()]
        for steps in got:
            assert steps["pool1"].shape[1:] == (2, 0)
            assert steps["objects"].shape[1:] == (5, 0)
            assert steps["conv8"].shape[1:] == (8, 0)
        assert got[-1]["scenes"].shape[0] == (len(pushes[0]) if pushes else 1)


def test_long_pushes_are_computed_in_pieces(monkeypatch):
    network, layers = NETWORKS["5 layers"], ("pool2", "scenes")
    x = 50 * torch.randn(2, 1, 200_001)
    monkeypatch.setattr("coala_latent.models.streaming._PIECE", 30_000)
    assert_same(streamed(network, x, layers, [200_001]), offline(network, x, layers), layers)


def test_what_waits_does_not_grow():
    stream = StackStream(NETWORKS["8 layers"], ("conv7",))

    def waiting():
        kept = [stage._waiting for stage in stream._stages if stage.begun]
        return sum(values.untyped_storage().nbytes() for values in kept)

    seen = []
    for _ in range(12):
        stream.push(torch.randn(1, 1, 65_536))
        seen.append(waiting())
    assert max(seen[6:]) <= max(seen[:6]) < 100_000


def test_a_stream_cannot_be_used_wrongly():
    network = NETWORKS["8 layers"]
    with pytest.raises(KeyError, match="conv9"):
        StackStream(network, ("conv9",))
    stream = StackStream(network, ("pool1",))
    for wrong in (torch.zeros(5), torch.zeros(1, 5), torch.zeros(1, 2, 5)):
        with pytest.raises(ValueError, match="push"):
            stream.push(wrong)
    stream.push(torch.zeros(2, 1, 100))
    with pytest.raises(ValueError, match="batch of 3"):
        stream.push(torch.zeros(3, 1, 100))
    stream.finish()
    for again in (stream.finish, lambda: stream.push(torch.zeros(2, 1, 5))):
        with pytest.raises(RuntimeError, match="over"):
            again()
    training = SoundNetwork(5, TINY[5], 5, 3).train()
    with pytest.raises(RuntimeError, match="eval"):
        StackStream(training, ("pool1",))


def test_pieces_of_the_original_sizes():
    network = SoundNetwork()
    initialise_(network, torch.Generator().manual_seed(0))
    network.eval()
    layers = ("pool2", "conv5", "pool5", "conv6", "conv7", "conv8", "scenes")
    x = 50 * torch.randn(1, 1, 330_000, generator=torch.Generator().manual_seed(1))
    wanted = offline(network, x, layers)
    for pieces in ([330_000], [50_000, 1, 200_000, 79_999]):
        assert_same(streamed(network, x, layers, pieces), wanted, layers)
