"""`coala-latent search`: encode a folder, then find its sounds."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from coala_latent.cli import main
from coala_latent.embed.embedder import load_model
from coala_latent.embed.tags import load_tag_embedder
from coala_latent.registry import build_model, list_models, save_model
from coala_latent.registry.card import read_card
from coala_latent.store import Store
from coala_latent.tasks.search import search

NAMES = ["a b=c,'é.wav", 'sub/say "[red]hi[bold]".wav', "sub/ordinary.wav", "$5.flac"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import soundfile

    root = tmp_path_factory.mktemp("sounds")
    for number, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(number)
        tone = np.sin(np.arange(22050 * 5) * 0.02 * (number + 1) ** 2)
        soundfile.write(path, 0.3 * tone + rng.normal(0, 0.01 * 3**number, len(tone)) % 0.3, 22050)
    (root / "bad.wav").write_text("no sound")
    return root


def encode(folder, output, *options, model="coala-test"):
    arguments = ["encode", folder, "--output", output, "--model", model, "--quiet", *options]
    done = run(*arguments)
    assert done.exit_code == 1, done.output  # bad.wav
    return output


@pytest.fixture(scope="module")
def store(folder, tmp_path_factory):
    return encode(folder, tmp_path_factory.mktemp("store") / "z_d.h5", "--layer", "z_d")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_tags_find_the_rows_nearest_to_them(store):
    done = run("search", store, "--tags", "woods taps", "--by", "rows", "--format", "json")
    assert done.exit_code == 0, done.output
    (query,) = json.loads(done.stdout)["queries"]
    assert query["tags"] == "tap, wood"
    wanted = load_tag_embedder("coala-test").embed([["tap", "wood"]]).z_d[0]
    with Store(store) as opened:
        scores = np.array([cosine(row, wanted) for row in opened.values[:]])
        best = np.argsort(-scores, kind="stable")[:10]
        paths = [opened.files[opened.file[row]].path for row in best]
        starts, ends = opened.start[:][best], opened.end[:][best]
    assert [hit["file"] for hit in query["found"]] == paths
    np.testing.assert_allclose([hit["score"] for hit in query["found"]], scores[best], atol=1e-5)
    np.testing.assert_array_equal([hit["start"] for hit in query["found"]], starts)
    np.testing.assert_array_equal([hit["end"] for hit in query["found"]], ends)


def test_files_are_listed_once_and_those_without_rows_not_at_all(store):
    for by in ("files", "mean"):
        done = run("search", store, "--tags", "wood", "--by", by, "--format", "json")
        found = json.loads(done.stdout)["queries"][0]["found"]
        assert sorted(hit["file"] for hit in found) == sorted(NAMES)
        scores = [hit["score"] for hit in found]
        assert scores == sorted(scores, reverse=True)
        if by == "mean":
            assert {(hit["start"], hit["end"]) for hit in found} == {(0.0, 5.0)}


def test_a_sound_finds_itself_first(store, folder):
    sounds = [item for name in NAMES for item in ("--sound", folder / name)]
    done = run("search", store, *sounds, "--top", 2, "--format", "json")
    assert done.exit_code == 0, done.output
    queries = json.loads(done.stdout)["queries"]
    assert [query["sound"] for query in queries] == [str(folder / name) for name in NAMES]
    for name, query in zip(NAMES, queries, strict=True):
        assert query["found"][0]["file"] == name
        assert query["found"][0]["score"] == pytest.approx(1.0, abs=1e-5)
        assert len(query["found"]) == 2
        assert query["found"][1]["score"] < 1


def test_csv_reads_back_whatever_the_names_are(store, folder):
    options = ("--tags", "wood", "--tags", "metal, tap", "--sound", folder / NAMES[1])
    done = run("search", store, *options, "--format", "csv", "--top", 3)
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [line["rank"] for line in lines] == ["1", "2", "3"] * 3
    assert [line["query"] for line in lines[::3]] == ["wood", "metal, tap", str(folder / NAMES[1])]
    assert [line["kind"] for line in lines[::3]] == ["tags", "tags", "sound"]
    assert lines[6]["file"] == NAMES[1]
    assert {line["file"] for line in lines} <= set(NAMES)


def test_a_table_shows_names_as_they_are(store):
    done = run("search", store, "--tags", "wood")
    assert done.exit_code == 0
    for name in NAMES:
        assert name in done.stdout
    assert "tags: wood" in done.stdout


@pytest.mark.parametrize("model", [n for n in list_models() if n.endswith("-test")])
def test_sounds_are_found_with_any_model_and_its_settings(model, folder, tmp_path):
    path = encode(folder, tmp_path / "any.h5", model=model)
    (query,) = search(path, sounds=[folder / NAMES[0]], top=1)
    assert query.found[0].path == NAMES[0]
    assert query.found[0].score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("coala-test", ("--layer", "z,conv3", "--pooling", "mean+max", "--patch-hop", 40)),
        ("coala-test", ("--short", "tile", "--channels", "first", "--dtype", "float16")),
        ("soundnet8-test", ("--layer", "pool5", "--patch", 4, "--patch-hop", 2)),
    ],
)
def test_a_sound_is_embedded_as_the_stores_rows_were(model, options, folder, tmp_path):
    path = encode(folder, tmp_path / "set.h5", *options, model=model)
    found = search(path, sounds=[folder / NAMES[2]], top=1)[0].found[0]
    assert found.path == NAMES[2]
    assert found.score == pytest.approx(1.0, abs=1e-4)


def test_tags_need_the_layer_they_were_aligned_with(folder, tmp_path):
    path = encode(folder, tmp_path / "z.h5")
    done = run("search", path, "--tags", "wood")
    assert done.exit_code == 2
    assert "layer z " in done.output
    assert "--layer z_d" in done.output
    done = run("search", encode(folder, tmp_path / "y.h5", model="yamnet-test"), "--tags", "wood")
    assert done.exit_code == 2
    assert "embeds no tags" in done.output


def test_unknown_tags_are_told_or_passed_over(store):
    done = run("search", store, "--tags", "wodo tap")
    assert done.exit_code == 2
    assert "did you mean wood?" in done.output
    done = run("search", store, "--tags", "wodo tap", "--ignore-unknown", "--format", "json")
    assert done.exit_code == 0
    (query,) = json.loads(done.stdout)["queries"]
    assert query["tags"] == "tap"
    assert query["unknown_tags"] == ["wodo"]
    assert "wodo" in done.stderr


def test_nothing_to_look_for_is_an_error(store):
    done = run("search", store)
    assert done.exit_code == 2
    assert "--tags" in done.output


@pytest.fixture
def own_model(tmp_path):
    """A model of one's own, registered nowhere."""
    module, card = build_model("coala-test")
    save_model(module, replace(card, name="mine"), tmp_path / "my models")
    return tmp_path / "my models" / "mine.safetensors"


def test_a_model_that_is_not_registered_is_given_by_its_file(own_model, folder, tmp_path):
    path = encode(folder, tmp_path / "own.h5", "--layer", "z_d", model=own_model)
    done = run("search", path, "--tags", "wood")
    assert done.exit_code == 2
    assert "--model" in done.output
    moved = tmp_path / "elsewhere" / "renamed.safetensors"
    moved.parent.mkdir()
    shutil.copy(own_model, moved)
    card = json.loads(own_model.with_suffix(".json").read_text("utf-8"))
    moved.with_suffix(".json").write_text(
        json.dumps({**card, "name": "renamed", "weights": moved.name}), "utf-8"
    )
    done = run("search", path, "--tags", "wood", "--sound", folder / NAMES[0], "--model", moved)
    assert done.exit_code == 0, done.output


def test_another_models_weights_are_refused(store, own_model):
    assert read_card(own_model.with_suffix(".json")).sha256
    for options in (("--tags", "wood"), ("--sound", "x.wav")):
        done = run("search", store, *options, "--model", own_model)
        assert done.exit_code == 2
        assert "weights" in done.output


def test_a_store_of_other_settings_than_the_model_can_have_is_refused(folder, tmp_path):
    import h5py

    path = encode(folder, tmp_path / "old.h5", "--layer", "z_d")
    with h5py.File(path, "r+") as file:
        settings = json.loads(file.attrs["front_end"])
        settings["framing"]["hop"] = 511
        file.attrs["front_end"] = json.dumps(settings)
    done = run("search", path, "--sound", folder / NAMES[0])
    assert done.exit_code == 2
    assert "framing.hop: 511, 512" in done.output


def test_a_sound_that_cannot_be_read_is_named(store, folder, tmp_path):
    done = run("search", store, "--sound", folder / "bad.wav")
    assert done.exit_code == 2
    assert "bad.wav" in done.output
    assert run("search", tmp_path / "none.h5", "--tags", "wood").exit_code == 2


def test_a_store_without_rows_has_nothing_to_find(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.wav").write_text("no sound")
    path = encode(tmp_path / "bad", tmp_path / "empty.h5", "--layer", "z_d")
    done = run("search", path, "--tags", "wood", "--format", "json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["queries"][0]["found"] == []
    assert run("search", path, "--tags", "wood").exit_code == 0


def test_search_reads_more_rows_than_a_block_holds(folder, tmp_path, monkeypatch):
    path = encode(folder, tmp_path / "hop.h5", "--layer", "z_d", "--patch-hop", 1)
    whole = search(path, tags=["wood"], by="rows", top=50)
    read = []
    original = Store.iter_blocks

    def small(self, rows=None):
        for block in original(self, 7):
            read.append(len(block.values))
            yield block

    monkeypatch.setattr(Store, "iter_blocks", small)
    assert search(path, tags=["wood"], by="rows", top=50)[0].found == whole[0].found
    assert max(read) == 7
    assert sum(read) > 400


def test_rows_of_the_store_are_the_embedders(store, folder):
    with Store(store) as opened:
        rows = opened.rows_of(NAMES[0]).values
    again = load_model("coala-test", "z_d").file(folder / NAMES[0]).values
    np.testing.assert_allclose(rows, again, atol=1e-6)
