import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from coala_latent import list_models, load_model, model_card
from coala_latent.errors import ConfigError, ModelNotFoundError, WeightsError
from coala_latent.registry import build_front_end, build_model, build_module, save_model
from coala_latent.registry.card import read_card


@pytest.fixture
def saved(tmp_path):
    module, card = build_model("coala-test")
    card = save_model(module, replace(card, name="mine"), tmp_path)
    return tmp_path / "mine.safetensors", module, card


def test_names():
    names = list_models()
    assert names == sorted(names)
    assert {"coala-test", "coala-legacy-test", "coala-cnn-test", "coala-esc10"} <= set(names)


def test_unknown_names_suggest_close_ones():
    with pytest.raises(ModelNotFoundError, match="did you mean coala-test"):
        model_card("coala_tset")


@pytest.mark.parametrize(
    "name",
    ["", ".", "../coala-esc10", "/etc/passwd", "coala-esc10.json", "a/b", "a\0b", "x" * 5000],
)
def test_names_are_no_paths(name):
    with pytest.raises(ModelNotFoundError):
        model_card(name)


@pytest.mark.parametrize("name", ["", "../out", "/out", "a/b", "..", ".hidden", "a\0b", "x" * 300])
def test_a_model_is_only_saved_into_its_folder(tmp_path, name):
    module, card = build_model("coala-test")
    with pytest.raises(ConfigError, match="cannot be named"):
        save_model(module, replace(card, name=name), tmp_path / "models")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list_models())
def test_cards_tell_the_truth(name):
    module, card = build_model(name)
    assert card == model_card(name) == module.card
    assert card.default_layer in card.layers
    assert not module.training
    sound = 0.1 * torch.randn(6 * card.min_samples)
    for layer, size in card.layers.items():
        assert load_model(name, layer)(sound, card.sample_rate).dim == size
    embedding = load_model(name)(sound, card.sample_rate)
    assert embedding.end[0] - embedding.start[0] <= card.window_seconds + 1e-9
    middle = embedding.start[(embedding.start > 0) & (embedding.end < embedding.end[-1])]
    assert np.diff(middle) == pytest.approx(card.hop_seconds)


def test_a_saved_model_is_the_same_model(saved):
    path, module, card = saved
    again, read = build_model(path)
    assert read == card == again.card
    for name, value in module.state_dict().items():
        assert again.state_dict()[name].equal(value)
    x = 0.1 * torch.randn(30000)
    left, right = load_model(path)(x, 22000), load_model("coala-test")(x, 22000)
    assert (left.values == right.values).all()


def test_other_weights_than_the_cards_are_refused(saved):
    path, _, _ = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="sha256"):
        build_model(path)


def test_both_files_are_needed(saved):
    path, _, _ = saved
    card = path.with_suffix(".json")
    content = card.read_text()
    card.unlink()
    with pytest.raises(WeightsError, match=r"mine\.json"):
        build_model(path)
    card.write_text(content)
    path.unlink()
    with pytest.raises(WeightsError, match=r"mine\.safetensors"):
        build_model(card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"card_version": 99}, "version"),
        ({"surprise": 1}, "surprise"),
        ({"name": None}, "name"),
        ({"name": ["mine"]}, "name"),
        ({"weights": None}, "weights"),
        ({"weights": 5}, "weights"),
        ({"weights": ""}, "weights"),
        ({"sha256": 5}, "sha256"),
        ({"sizes": [4]}, "sizes"),
        ({"sizes": {"channels": -1, "tags": 5}}, "coala"),
        ({"sizes": {"channels": 10**12, "tags": 5}}, "coala"),
        ({"front_end": {}}, "front_end"),
        ({"front_end": {"name": "coala_standard", "sample_rate": 0}}, "0 Hz"),
        ({"layers": 5}, "layers"),
        ({"layers": {"z": 36}}, "layers"),
        ({"default_layer": "conv9"}, "conv9"),
        ({"short": "guess"}, "guess"),
        ({"sample_rate": 8000}, "8000"),
        ({"vocabulary": "abcde"}, "vocabulary"),
        ({"vocabulary": [1, 2, 3, 4, 5]}, "vocabulary"),
        ({"vocabulary": ["one"]}, "vocabulary"),
        ({"weights": "../../outside.safetensors"}, "weights"),
        ({"weights": "/outside.safetensors"}, "weights"),
        ({"front_end": {"name": "nonsense"}}, "front end"),
        ({"architecture": "nonsense"}, "architecture"),
        ({"sizes": {"wheels": 4}}, "wheels"),
    ],
)
def test_cards_that_cannot_be_used(saved, change, message):
    path, _, card = saved
    values = {**card.to_dict(), **change}
    values = {key: value for key, value in values.items() if value is not None}
    path.with_suffix(".json").write_text(json.dumps(values))
    with pytest.raises((WeightsError, ConfigError), match=message):
        build_model(path)


def test_weights_outside_the_cards_folder_are_not_read(saved):
    path, _, card = saved
    (path.parent / "inner").mkdir()
    inner = path.parent / "inner" / "mine.json"
    inner.write_text(json.dumps({**card.to_dict(), "weights": "../mine.safetensors"}))
    with pytest.raises(WeightsError, match="beside the card"):
        build_model(inner)


@pytest.mark.parametrize("content", ["", "[]", "{", '"card"', "[" * 100000])
def test_no_card_at_all(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(WeightsError, match=r"x\.json"):
        read_card(tmp_path / "x.json")


def test_building_leaves_the_callers_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_model("coala-test")
    assert torch.rand(3).equal(expected)


def test_building_does_not_seed_the_callers_gpus(monkeypatch):
    def refuse(seed):
        raise AssertionError("the random state of every GPU was set")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    build_model("coala-test")


def test_models_are_built_on_the_cpu_whatever_the_default_device():
    expected = build_model("coala-test")[0].state_dict()
    with torch.device("meta"):
        found = build_model("coala-test")[0].state_dict()
    assert all(value.equal(expected[name]) for name, value in found.items())


def test_test_models_are_always_the_same():
    left, right = build_model("coala-test")[0], build_model("coala-test")[0]
    assert all(a.equal(b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


def test_unknown_parts():
    with pytest.raises(ConfigError, match="coala_standard"):
        build_front_end("coala_standrad")
    with pytest.raises(ConfigError, match="patch_hop"):
        build_front_end("coala_standard", patch_hop=0)
    with pytest.raises(ConfigError, match="coala"):
        build_module("coalla", {"name": "coala_standard"}, {})
