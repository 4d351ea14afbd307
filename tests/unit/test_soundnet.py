"""SoundNet without its weights: sizes, lengths, fields, and equality with plain 2-D layers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from coala_latent.audio.raw import RawWaveform
from coala_latent.errors import AudioTooShortError
from coala_latent.models.layered import Layered
from coala_latent.models.soundnet import (
    SoundNet,
    SoundNetClassifier,
    SoundNetwork,
    initialise_,
)

RATE = 22050
LAYERS5 = ["conv1", "pool1", "conv2", "pool2", "conv3", "pool3", "conv4", "conv5"]
LAYERS8 = [*LAYERS5[:5], "conv4", "conv5", "pool5", "conv6", "conv7", "conv8"]
TINY8 = (2, 3, 4, 3, 5, 4, 6)
TINY5 = (2, 3, 4, 3)


def on_meta(depth):
    with torch.device("meta"):
        return SoundNetwork(depth)


def tiny(depth=8, seed=0, objects=5, scenes=3):
    """A small network whose batch norms do something."""
    generator = torch.Generator().manual_seed(seed)
    network = SoundNetwork(depth, TINY8 if depth == 8 else TINY5, objects, scenes)
    for name, values in network.state_dict().items():
        if name.endswith("running_var"):
            values.uniform_(0.2, 2.0, generator=generator)
        elif values.is_floating_point():
            # Scales of norms below 0 too: then the largest before is the smallest after.
            values.normal_(0.0, 0.5, generator=generator)
    return network.eval()


def sound(samples, batch=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return 50.0 * torch.randn(batch, 1, samples, generator=generator)


def assert_near(found, wanted, tolerance=1e-5):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


class TestSizes:
    def test_parameters_are_the_papers(self):
        eight = on_meta(8)
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in
                  eight.named_children()}  # fmt: skip
        assert counts == {
            "conv1": 1_040 + 32,
            "conv2": 16_416 + 64,
            "conv3": 32_832 + 128,
            "conv4": 65_664 + 256,
            "conv5": 131_328 + 512,
            "conv6": 524_800 + 1_024,
            "conv7": 2_098_176 + 2_048,
            "objects": 8_193_000,
            "scenes": 3_285_393,
        }
        assert sum(counts.values()) == 14_352_713
        assert sum(p.numel() for p in on_meta(5).parameters()) == 6_202_137
        assert all(norm.eps == 1e-5 for norm in eight.modules() if isinstance(norm, nn.BatchNorm1d))

    def test_layers(self):
        assert on_meta(8).layers == (*LAYERS8, "objects", "scenes")
        assert on_meta(5).layers == (*LAYERS5, "objects", "scenes")
        assert on_meta(8).outputs == ("objects", "scenes")

    @pytest.mark.parametrize(
        ("seconds", "lengths"),
        [
            (1, "11026 1378 690 86 44 23 12 3 2 2 0"),
            (5, "55126 6890 3446 430 216 109 55 13 7 4 0"),
            (8, "88201 11025 5513 689 345 173 87 21 11 6 0"),
            (10, "110251 13781 6891 861 431 216 109 27 14 8 1"),
            (20, "220501 27562 13782 1722 862 432 217 54 28 15 4"),
            (60, "661501 82687 41344 5168 2585 1293 647 161 81 41 17"),
        ],
    )
    def test_lengths(self, seconds, lengths):
        network, samples = on_meta(8).eval(), seconds * RATE
        expected = [int(length) for length in lengths.split()]
        assert [network.geometry(layer).count(samples) for layer in LAYERS8] == expected
        layers = [layer for layer, length in zip(LAYERS8, expected, strict=True) if length]
        waveform = torch.zeros(1, 1, samples, device="meta")
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                found = network.activations(waveform, layers)
            assert [found[layer].shape[2] for layer in layers] == expected[: len(layers)]

    @pytest.mark.parametrize(
        ("seconds", "lengths"),
        [
            (5, "55126 6890 3446 430 216 27 14 1"),
            (10, "110251 13781 6891 861 431 53 27 2"),
            (20, "220501 27562 13782 1722 862 107 54 4"),
            (30, "330751 41343 20672 2584 1293 161 81 7"),
        ],
    )
    def test_lengths_of_five_layers(self, seconds, lengths):
        network = on_meta(5).eval()
        found = network.activations(torch.zeros(1, 1, seconds * RATE, device="meta"), LAYERS5)
        assert [found[layer].shape[2] for layer in LAYERS5] == [int(n) for n in lengths.split()]

    def test_the_fewest_samples(self):
        eight, five = on_meta(8), on_meta(5)
        minimum = {layer: eight.geometry(layer).minimum for layer in eight.layers}
        assert minimum["pool1"] == 14
        assert {minimum[layer] for layer in ("pool2", "conv3", "conv4", "conv5")} == {222}
        assert {minimum[layer] for layer in ("pool5", "conv6", "conv7")} == {4_574}
        assert {minimum[layer] for layer in ("conv8", "objects", "scenes")} == {209_374}
        for count in (2, 3, 4, 8):
            assert eight.geometry("scenes").samples(count) == 209_374 + 65_536 * (count - 1)
        assert five.geometry("pool3").minimum == five.geometry("conv4").minimum == 3_550
        assert five.geometry("scenes").minimum == 56_798
        assert five.geometry("objects").samples(4) == 351_710

    @pytest.mark.parametrize(
        ("layer", "field", "stride"),
        [
            ("pool1", 78, 16),
            ("conv2", 574, 32),
            ("pool2", 798, 256),
            ("conv3", 4_638, 512),
            ("conv4", 8_222, 1_024),
            ("conv5", 11_294, 2_048),
            ("pool5", 17_438, 8_192),
            ("conv6", 42_014, 16_384),
            ("conv7", 91_166, 32_768),
            ("conv8", 320_542, 65_536),
            ("scenes", 320_542, 65_536),
        ],
    )
    def test_fields(self, layer, field, stride):
        geometry = on_meta(8).geometry(layer)
        assert (geometry.field, geometry.stride) == (field, stride)

    def test_where_fields_begin_and_lie(self):
        eight, five = on_meta(8), on_meta(5)
        assert eight.geometry("pool5").offset == -6_432
        assert eight.geometry("conv7").offset == eight.geometry("conv8").offset == -55_584
        for network, field, stride, centres in (
            (eight, 320_542, 65_536, [4.75, 7.72, 10.69, 13.66]),
            (five, 159_774, 98_304, [1.29, 5.75, 10.20, 14.66]),
        ):
            geometry = network.geometry("scenes")
            assert (geometry.field, geometry.stride) == (field, stride)
            begin = geometry.offset + np.arange(4) * stride
            assert np.allclose((begin + field / 2) / RATE, centres, atol=0.006)

    def test_wrong_sizes_are_refused(self):
        with pytest.raises(ValueError, match="5 or 8"):
            SoundNetwork(7)
        with pytest.raises(ValueError, match="widths"):
            SoundNetwork(8, [1, 2])
        with pytest.raises(KeyError, match="no layer"):
            on_meta(8).geometry("conv9")


def reference(network, x, layers):
    """The same network as 2-D layers of width 1 with separate norms, as the original has it."""
    x, found = x[..., None], {}
    for name in layers:
        if name.startswith("pool"):
            x = F.max_pool2d(x, (4 if name == "pool5" else 8, 1))
        elif name == f"conv{network.depth}":
            heads = [network.objects, network.scenes]
            x = torch.cat([correlate(x, head) for head in heads], dim=1)
        else:
            block = network.get_submodule(name)
            norm = block.norm
            x = correlate(x, block.conv)
            by_channel = [
                values[None, :, None, None]
                for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            ]
            mean, variance, gamma, beta = by_channel
            x = ((x - mean) / (variance + 1e-5).sqrt() * gamma + beta).clamp(min=0)
        found[name] = x[..., 0]
    return found


def correlate(x, conv):
    padding, stride = (conv.padding[0], 0), (conv.stride[0], 1)
    return F.conv2d(x, conv.weight[..., None], conv.bias, stride, padding)


class TestValues:
    @pytest.mark.parametrize("depth", [8, 5])
    @pytest.mark.parametrize("grad", [False, True], ids=["quick", "plain"])
    def test_every_layer_equals_the_reference(self, depth, grad):
        network, names = tiny(depth), LAYERS8 if depth == 8 else LAYERS5
        for samples in (210_001, 253_376):
            x = sound(samples, batch=2)
            with torch.no_grad():
                wanted = reference(network, x, names)
            with torch.set_grad_enabled(grad):
                at_once = network.activations(x, names)
                for name in names:
                    assert_near(at_once[name], wanted[name])
                    assert_near(network.until(x, name), wanted[name])
                objects, scenes = network(x)
            assert_near(torch.cat([objects, scenes], dim=1), wanted[names[-1]])

    def test_the_original_sizes_equal_the_reference(self):
        network = SoundNetwork()
        generator = torch.Generator().manual_seed(0)
        initialise_(network, generator)
        for norm in (part for part in network.modules() if isinstance(part, nn.BatchNorm1d)):
            norm.weight.data.normal_(0.0, 1.0, generator=generator)
            norm.running_mean.normal_(0.0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 2.0, generator=generator)
        x = sound(RATE * 10, batch=1)
        with torch.no_grad():
            network.eval()
            wanted = reference(network, x, LAYERS8)
            for names in (LAYERS8, LAYERS8[1:]):
                for name, found in network.activations(x, names).items():
                    assert_near(found, wanted[name])

    @pytest.mark.parametrize("depth", [8, 5])
    def test_until_and_resume_are_the_whole(self, depth):
        network, x = tiny(depth), sound(280_000)
        with torch.no_grad():
            wanted = network.activations(x, network.outputs)
            for layer in network.layers:
                resumed = network.resume(network.until(x, layer), layer)
                assert resumed.keys() == ({layer} if layer in wanted else wanted.keys())
                for name, values in resumed.items():
                    assert_near(values, wanted[name])

    def test_a_batch_is_its_sounds(self):
        network, x = tiny(), sound(215_000, batch=3)
        with torch.no_grad():
            together = network.activations(x, network.layers)
            for index in range(3):
                alone = network.activations(x[index : index + 1], network.layers)
                for layer in network.layers:
                    assert_near(together[layer][index : index + 1], alone[layer])
            assert network.until(x[:0], "scenes").shape == (0, 3, 1)

    def test_double_precision(self):
        network = tiny().double()
        x = sound(30_000).double()
        with torch.no_grad():
            assert_near(
                network.until(x, "conv7"), reference(network, x, LAYERS8[:10])["conv7"], 1e-12
            )

    def test_bfloat16_arithmetic_stays_near(self):
        network, x = tiny(), sound(30_000)
        with torch.no_grad():
            wanted = network.until(x, "conv7")
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = network.until(x, "conv7").float()
        assert_near(found, wanted, 0.05)

    def test_changed_weights_are_seen_at_once(self):
        network, x = tiny(), sound(20_000)
        with torch.no_grad():
            network.until(x, "pool5")
            network.conv1.norm.weight.mul_(-1.0)
            network.conv4.conv.weight.data.mul_(2.0)
            wanted = reference(network, x, LAYERS8[:8])
            assert_near(network.until(x, "pool5"), wanted["pool5"])

    @pytest.mark.parametrize("grad", [False, True])
    def test_too_short_sounds_name_the_length_needed(self, grad):
        network = tiny()
        with torch.set_grad_enabled(grad):
            for layer in network.layers:
                least = network.geometry(layer).minimum
                assert network.until(sound(least), layer).shape[2] >= 1
                with pytest.raises(AudioTooShortError, match=str(least)):
                    network.until(sound(least)[..., :-1], layer)
            hidden = network.until(sound(50_000), "pool5")
            with pytest.raises(AudioTooShortError, match="conv8 needs 26"):
                network.resume(hidden, "pool5")

    @pytest.mark.parametrize("grad", [False, True])
    def test_two_channels_are_not_taken_for_one(self, grad):
        with torch.set_grad_enabled(grad), pytest.raises((ValueError, RuntimeError)):
            tiny().until(torch.zeros(1, 2, 5000), "pool5")

    def test_exported_programs_agree(self):
        network, x = tiny(), sound(20_000)

        class Embedding(nn.Module):
            def __init__(self):
                super().__init__()
                self.network = network

            def forward(self, x):
                return self.network.until(x, "pool5")

        with torch.no_grad():
            # From two steps on: of one, an exported program cannot be had beside more.
            least = network.geometry("pool5").samples(2)
            length = {2: torch.export.Dim("time", min=least, max=2**40)}
            program = torch.export.export(Embedding(), (x,), dynamic_shapes=(length,))
            assert not any("float64" in str(node.target) for node in program.graph.nodes)
            for samples in (least, 20_000, 33_333):
                x = sound(samples)
                assert_near(program.module()(x), network.until(x, "pool5"))


class TestTraining:
    def test_training_uses_and_updates_the_batch_statistics(self):
        network, x = tiny().train(), sound(30_000, batch=2)
        before = network.conv1.norm.running_mean.clone()
        with torch.no_grad():
            found = network.until(x, "conv4")
            wanted = Layered._run(network, x, list(network.steps().items()), ("conv4",))
        assert torch.equal(found, wanted["conv4"])
        assert not torch.equal(network.conv1.norm.running_mean, before)

    def test_gradients_reach_every_weight(self):
        network = tiny()
        objects, scenes = network(sound(212_000, batch=2))
        (objects.square().sum() + scenes.square().sum()).backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_initialisation_is_the_original_and_repeatable(self):
        network, again = SoundNetwork(5), SoundNetwork(5)
        network.conv1.norm.running_mean.fill_(3.0)
        for each in (network, again):
            initialise_(each, torch.Generator().manual_seed(7))
        for (name, first), second in zip(
            network.state_dict().items(), again.state_dict().values(), strict=True
        ):
            assert torch.equal(first, second), name
        weight, norm = network.objects.weight, network.conv4.norm
        assert abs(weight.std() - 0.01) < 1e-4
        assert abs(weight.mean()) < 1e-4
        assert abs(norm.weight.mean() - 1.0) < 0.01
        assert abs(norm.weight.std() - 0.02) < 0.005
        for bias in (network.scenes.bias, network.conv2.conv.bias, norm.bias, norm.running_mean):
            assert not bias.any()


class TestModel:
    def test_front_end_scales_a_copy(self):
        front_end = RawWaveform()
        waveform = torch.tensor([0.5, -1.0])
        assert torch.equal(front_end(waveform), torch.tensor([[[128.0, -256.0]]]))
        assert torch.equal(waveform, torch.tensor([0.5, -1.0]))
        assert front_end(torch.zeros(3, 7)).shape == (3, 1, 7)
        assert front_end(torch.zeros(0)).shape == (1, 1, 0)
        assert front_end(torch.zeros(2, 0)).shape == (2, 1, 0)
        assert RawWaveform(gain=2)(waveform).flatten().tolist() == [1.0, -2.0]
        assert not front_end.state_dict()
        assert front_end.to("meta").device.type == "meta"
        with pytest.raises(ValueError, match="shape"):
            front_end(torch.zeros(1, 1, 7))
        with pytest.raises(ValueError, match="above 0"):
            RawWaveform(gain=0)

    def test_model(self):
        model = SoundNet(network=tiny()).eval()
        waveform = sound(300_000)[0, 0] / 256
        with torch.no_grad():
            found = model(waveform)
            wanted = model.network.activations(256 * waveform[None, None], ("objects", "scenes"))
        assert found.objects.shape == (1, 5, 2)
        assert found.scenes.shape == (1, 3, 2)
        assert torch.equal(found.scenes, wanted["scenes"])
        for name, layer in model.scored.items():
            scores = model.score(name, wanted[layer])
            assert scores.shape == wanted[layer].shape
            assert torch.allclose(scores.sum(1), torch.ones(1, 2))
            assert model.score(name, wanted[layer].mean(-1)).dim() == 2
        assert all(name.startswith("network.") for name in model.state_dict())
        with pytest.raises(KeyError, match="scenes"):
            model.score("events", wanted["scenes"])
        with pytest.raises(AudioTooShortError, match="209374"):
            model(waveform[:209_373])

    @pytest.mark.parametrize(("depth", "kernel", "steps"), [(8, 4, 4), (5, 14, 14)])
    def test_classifier_decides_once_in_five_seconds(self, depth, kernel, steps):
        network = tiny(depth)
        classifier = SoundNetClassifier(network, 7, kernel).eval()
        trunk = "conv7" if depth == 8 else "conv4"
        assert classifier.layers[-2:] == (trunk, "classes")
        assert classifier.outputs == ("classes",)
        assert not any("objects" in name or "scenes" in name for name in classifier.state_dict())
        x = sound(5 * RATE, batch=2)
        with torch.no_grad():
            hidden = network.until(x, trunk)
            assert hidden.shape[2] == steps
            found = classifier(x)
            assert_near(found, classifier.classes(hidden))
        assert found.shape == (2, 7, 1)
        assert classifier.conv1 is network.conv1
        loss = F.cross_entropy(classifier(x)[..., 0], torch.tensor([0, 1]))
        loss.backward()
        assert network.conv1.conv.weight.grad.abs().sum() > 0
