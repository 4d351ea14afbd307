import json
import os
import pickle

import pytest
import torch
from torch import nn

from coala_latent.errors import WeightsError
from coala_latent.weights import file_sha256, load_into, read_weights, write_json, write_weights


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def module():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("how", ["torch", "torch-legacy", "pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, how):
    target, path = tmp_path / "side_effect", tmp_path / "x.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"weight": Malicious(target)}))
    else:
        zipped = how == "torch"
        content = {"weight": Malicious(target)}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"x\.pt"):
        read_weights(path)
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_state_dictionaries_of_any_age(tmp_path, module, zipped):
    torch.save(module.state_dict(), tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "x.pt")
    assert all(found[name].equal(value) for name, value in module.state_dict().items())


def test_half_precision_is_widened(tmp_path, module):
    half = {name: value.half() for name, value in module.state_dict().items()}
    torch.save(half, tmp_path / "x.pt")
    load_into(module, read_weights(tmp_path / "x.pt"), "x.pt")
    assert module[0].weight.dtype == torch.float32
    assert module[0].weight.equal(half["0.weight"].float())


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
@pytest.mark.parametrize("content", [b"", b"junk" * 100, None])
def test_unreadable_files(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
def test_damaged_files(tmp_path, module, name, rng):
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save(module.state_dict(), path)
    else:
        write_weights(path, module.state_dict(), {})
    content = path.read_bytes()
    for _ in range(60):
        path.write_bytes(content[: rng.integers(0, len(content))])
        with pytest.raises(WeightsError, match=name):
            read_weights(path)


@pytest.mark.filterwarnings("ignore:.*pickle protocol.*:UserWarning")
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_bytes_overwritten_at_random(tmp_path, module, kind, rng):
    """Sizes and offsets in the file are lies then; none may crash, hang or be believed."""
    path = tmp_path / ("x.safetensors" if kind == "safetensors" else "x.pt")
    if kind == "safetensors":
        write_weights(path, module.state_dict(), {})
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    content, refused = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(content)
        for where in rng.integers(0, len(damaged), rng.integers(1, 20)):
            damaged[where] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            read_weights(path)
        except WeightsError:
            refused += 1
    assert refused > 75


def test_a_whole_module_is_refused_without_advice_to_run_it(tmp_path, module):
    torch.save(module, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="no code in them is run") as caught:
        read_weights(tmp_path / "x.pt")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 5000 + ".pt", "x\0.pt", ""])
def test_paths_that_lead_nowhere(tmp_path, name):
    with pytest.raises(WeightsError, match="no such weights file"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, torch.zeros(3)])
def test_anything_but_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="state dictionary"):
        read_weights(tmp_path / "x.pt")


def test_weights_that_do_not_fit_say_where(module):
    weights = module.state_dict()
    weights["0.weight"] = torch.zeros(5, 3)
    weights["extra"] = weights.pop("0.bias")
    with pytest.raises(WeightsError, match=r"(?s)0\.bias.*extra.*\(5, 3\).*\(4, 3\)"):
        load_into(module, weights, "x.pt")


def test_weights_that_cannot_be_copied(module):
    weights = {**module.state_dict(), "0.weight": torch.zeros(4, 3).to_sparse()}
    with pytest.raises(WeightsError, match=r"(?s)x\.pt.*0\.weight"):
        load_into(module, weights, "x.pt")


def test_tied_and_transposed_weights_are_written(tmp_path, module):
    weight = module[0].weight
    path = tmp_path / "x.safetensors"
    write_weights(path, {"a": weight, "b": weight, "c": weight.T}, {})
    found = read_weights(path)
    assert found["a"].equal(weight)
    assert found["b"].equal(weight)
    assert found["c"].equal(weight.T)


def test_written_weights_are_whole_and_hashed(tmp_path, module):
    digest = write_weights(tmp_path / "x.safetensors", module.state_dict(), {"model": "x"})
    assert digest == file_sha256(tmp_path / "x.safetensors")
    found = read_weights(tmp_path / "x.safetensors")
    assert all(found[name].equal(value) for name, value in module.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_a_failed_write_of_weights_leaves_the_old_file(tmp_path, module):
    path = tmp_path / "x.safetensors"
    digest = write_weights(path, module.state_dict(), {})
    with pytest.raises(TypeError):
        write_weights(path, module.state_dict(), {"model": 5})
    assert file_sha256(path) == digest
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
