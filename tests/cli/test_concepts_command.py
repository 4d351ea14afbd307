"""``coala-latent concepts``: every step from a store to a page, through the command."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from coala_latent.cli import main
from coala_latent.models.concepts import ConceptVectors
from coala_latent.store import FileRecord, Store, StoreIdentity, StoreWriter
from coala_latent.tasks.concept_files import load_concepts, save_concepts
from coala_latent.tasks.concept_hierarchies import load_hierarchy

DIM, EACH = 24, 50
TREE = {"animals, all": ("dog", 'rooster "q"'), "machines": ("saw", "<engine>")}
IDENTITY = StoreIdentity("toy", "0" * 64, {"name": "none"}, {"name": "none"}, "last", "mean", DIM)
QUICK = ("epochs=8", "steps=20", "batch_size=32", "learning_rate=0.03", "min_recordings=20")
LABELS = ("--labels", "labels.csv", "--group", r"take(\d+)")


def run(*arguments: object, status: int = 0) -> Result:
    done = CliRunner().invoke(main, ["concepts", *map(str, arguments)])
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of planted concepts, their labels, and a reference."""
    folder = tmp_path_factory.mktemp("concepts é, =")
    rng = np.random.default_rng(0)
    leaves = [leaf for group in TREE.values() for leaf in group]
    own = dict(zip([*TREE, *leaves], 2 * rng.normal(size=(6, DIM)), strict=True))
    (folder / "sounds").mkdir()
    lines = []
    with StoreWriter(folder / "s.h5", IDENTITY, metadata={"root": str(folder / "sounds")}) as store:
        for group, inside in TREE.items():
            for number, leaf in enumerate(inside):
                for take in range(EACH):
                    name = f"{group[0]}{number} take{take}.wav"
                    store.begin(name)
                    rows = own[group] + own[leaf] + rng.normal(size=(2, DIM))
                    store.append(rows.astype("f4"), [0.0, 1.0], [1.0, 2.0])
                    store.commit(FileRecord(name, "ok", duration=2.0))
                    lines += [(name, group), (name, leaf)]
    write(folder / "labels.csv", [("recording", "concept"), *lines])
    edges = [(group, leaf) for group, inside in TREE.items() for leaf in inside]
    write(folder / "reference.csv", [("parent", "child"), *edges])
    write(folder / "words.csv", [(name, *vector) for name, vector in own.items()])
    return folder


def write(path: Path, lines: list[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)


@pytest.fixture(scope="module")
def chain(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        told = json.loads(run("train", "s.h5", "out", *LABELS, *QUICK, "--json").stdout)
        assert len(told["accepted"]) == 6
        run("project", "s.h5", "out/concepts.safetensors", "projections", *LABELS)
        given = ("--reference", "reference.csv", "--vectors", "words=words.csv")
        run("hierarchy", "projections", "hierarchy", *given)
    return folder


def test_the_planted_hierarchy_is_found(chain: Path) -> None:
    found = load_hierarchy(chain / "hierarchy")
    edges = {(edge["parent"], edge["child"]) for edge in found["edges"]}
    assert edges == {(group, leaf) for group, inside in TREE.items() for leaf in inside}
    assert all(edge["low"] <= edge["strength"] <= edge["high"] for edge in found["edges"])
    graphs = found["comparison"]["graphs"]
    assert graphs["tree"]["edges"]["f1"] == 1.0
    assert {"random_top", "random_sim", "similarity", "matching", "top_1"} <= set(graphs)
    assert found["comparison"]["chance"]["mean"] < 0.5
    assert found["vectors"]["words"]["concepts"] == 6
    assert set(found["vectors"]["words"]["cosine"]) == set(graphs)


def test_only_held_out_recordings_are_projected(chain: Path) -> None:
    told = json.loads((chain / "projections" / "projections.json").read_text("utf-8"))
    with (chain / "out" / "split.csv").open(encoding="utf-8", newline="") as file:
        parts = {line["recording"]: line["part"] for line in csv.DictReader(file)}
    assert {parts[name] for name in told["recordings"]} == {"test"}
    assert len(told["recordings"]) == list(parts.values()).count("test")
    takes = {name: name.split("take")[1] for name in parts}
    test = {takes[name] for name, part in parts.items() if part == "test"}
    assert not test & {takes[name] for name, part in parts.items() if part != "test"}


def test_the_original_protocol_is_another_tree_of_the_same_concepts(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chain)
    given = ("--protocol", "original", "--json")
    told = json.loads(run("hierarchy", "projections", "original", *given).stdout)
    assert told["settings"]["protocol"] == "original"
    assert len(told["names"]) == 6


@pytest.mark.parametrize("name", ["g.html", "g.png", "g.graphml", "g.json", "g.nwk", "g.csv"])
def test_a_hierarchy_is_written_in_every_format(
    chain: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(chain)
    sounds = {each.path for each in Store(chain / "s.h5").files}
    for sound in sounds:
        (chain / "sounds" / sound).touch()
    run("graph", "hierarchy", "--output", name)
    assert (chain / name).stat().st_size > 100
    if name == "g.html":
        assert "<engine>" not in (chain / name).read_text("utf-8")
        run("graph", "hierarchy", "--output", "m.png", "--matrix")
        for sound in sounds:
            (chain / "sounds" / sound).unlink()
        assert "not found" in run("graph", "hierarchy", "--output", name, status=1).output


def test_aggregation_keeps_what_passes(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(chain)
    file = "out/concepts.safetensors"
    limits = ("--min-recordings", 51, "--max-recordings", 101, "--min-accuracy", 0.5)
    told = json.loads(run("aggregate", file, "--output", "a.safetensors", *limits, "--json").stdout)
    assert told["kept"] == 2
    assert sorted(told["too_few"]) == sorted(leaf for group in TREE.values() for leaf in group)
    vectors, info = load_concepts(chain / "a.safetensors")
    assert set(vectors.names) == set(TREE) == set(info["metrics"])
    given = ("s.h5", "a.safetensors", "few", *LABELS)
    assert "--trained" in run("project", *given, status=2).output
    run("project", *given, "--trained", "out")
    few = json.loads((chain / "few" / "projections.json").read_text("utf-8"))
    all_of_them = json.loads((chain / "projections" / "projections.json").read_text("utf-8"))
    assert few["recordings"] == all_of_them["recordings"]
    whole, _ = load_concepts(chain / file)
    for place, name in enumerate(vectors.names):
        assert torch.equal(vectors.weight[place], whole.weight[whole.index(name)])
    assert "in two files" in run("aggregate", file, file, "--output", "b", status=2).output


def test_recordings_of_a_concept_and_of_an_expression(
    chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(chain)
    file = "out/concepts.safetensors"
    best = json.loads(run("top", "s.h5", file, "dog", "--top", 5, "--json").stdout)
    assert all(each["path"].startswith("a0") for each in best)
    less = json.loads(run("top", "s.h5", file, "machines - saw", "--top", 5, "--json").stdout)
    assert all(each["path"].startswith("m1") for each in less)
    assert "no concept 'cat'" in run("top", "s.h5", file, "dog + cat", status=2).output
    run("activations", "s.h5", file, "act.csv", "--concept", "dog", "--concept", "saw")
    with (chain / "act.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 4 * EACH
    assert {row["concept"] for row in rows if row["filename"].startswith("a0")} == {"dog"}


def test_a_sound_is_explained_by_the_model_of_the_store(tmp_path: Path, write_sound) -> None:
    sound, _ = write_sound("a b.wav", seconds=3.0)
    store = tmp_path / "s.h5"
    runner = CliRunner()
    given = ["encode", str(sound.parent), "--output", str(store), "--model", "yamnet-test"]
    assert runner.invoke(main, [*given, "--quiet"]).exit_code == 0
    with Store(store) as opened:
        identity, rows = opened.identity, opened.values[:]
    vectors = ConceptVectors(["loud", "quiet"], identity.dim)
    weight = torch.from_numpy(np.stack([rows.mean(0), -rows.mean(0)]))
    vectors.assign_(weight, torch.zeros(2))
    save_concepts(tmp_path / "c.safetensors", vectors, asdict(identity))
    given = ("explain", sound, tmp_path / "c.safetensors", "--png", tmp_path / "c.png", "--json")
    told = json.loads(run(*given).stdout)
    assert [each["concept"] for each in told["concepts"]] == ["loud", "quiet"]
    assert told["concepts"][0]["mean"] > 0.5 > told["concepts"][1]["mean"]
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.shared
def test_published_vectors_become_a_file(shared: Path, tmp_path: Path) -> None:
    output = tmp_path / "genres.safetensors"
    run("convert", shared / "data" / "concepts" / "apm_genres_cav.npy", output)
    vectors, info = load_concepts(output)
    assert vectors.weight.shape == (219, 128)
    assert info["layer"] == "pool5"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "none.h5", "o", *LABELS), "none.h5"),
        (("train", "s.h5", "o", "--labels", "none.csv"), "none.csv"),
        (("train", "s.h5", "o", "--labels", "reference.csv"), "--column"),
        (("train", "s.h5", "o", "--labels", "folders"), "folder"),
        (("train", "s.h5", "o", *LABELS, "epochs=x"), "epochs"),
        (("train", "s.h5", "o", *LABELS, "--group-column", "a"), "one of them"),
        (("train", "s.h5", "o", *LABELS[:2], "--group-column", "a"), "columns of tags"),
        (("train", "s.h5", "o", *LABELS[:2], "--key", "recording"), "columns of tags"),
        (("project", "s.h5", "none.safetensors", "o", *LABELS), "none"),
        (("hierarchy", "none", "o"), "none"),
        (("graph", "none", "--output", "g.html"), "none"),
        (("graph", "hierarchy", "--output", "g.txt"), "g.txt"),
        (("graph", "hierarchy", "--output", "g.html", "--threshold", "0.5"), "slider"),
        (("graph", "hierarchy", "--output", "g.csv", "--threshold", "nan"), "nan"),
        (("explain", "none.wav", "none.safetensors"), "none"),
    ],
)
def test_what_makes_no_sense_is_told(
    chain: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(chain)
    assert said in run(*arguments, status=2).output


def test_projections_that_are_damaged_or_whose_vectors_moved_are_told(
    chain: Path, tmp_path: Path
) -> None:
    made = shutil.copytree(chain / "projections", tmp_path / "p")
    described = json.loads((made / "projections.json").read_text("utf-8"))
    moved = {**described, "concepts": str(tmp_path / "moved.safetensors")}
    for words, said in (({}, "concepts project makes one"), (moved, "moved.json: no such file")):
        (made / "projections.json").write_text(json.dumps(words), "utf-8")
        assert said in run("hierarchy", made, tmp_path / "h", status=2).output


def test_a_run_that_was_cut_off_with_other_settings_is_kept_or_started_anew(
    chain: Path, tmp_path: Path
) -> None:
    given = (chain / "s.h5", tmp_path, "--labels", chain / "labels.csv", "min_recordings=20")
    run("train", *given, "epochs=1", "steps=1", "--quiet")
    state = json.loads((tmp_path / "run.json").read_text("utf-8"))
    (tmp_path / "run.json").write_text(json.dumps({**state, "state": "running"}), "utf-8")
    assert "resume=no" in run("train", *given, "epochs=2", "steps=1", status=2).output
    run("train", *given, "epochs=2", "steps=1", "resume=no", "--quiet")
    assert load_concepts(tmp_path / "concepts.safetensors")[1]["settings"]["epochs"] == 2
