"""From a store and a table to files of concept vectors."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from coala_latent.data.concept_splits import recording_split
from coala_latent.data.concept_tables import concepts_from_lists
from coala_latent.errors import ConfigError, DataError, WeightsError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter
from coala_latent.tasks import concept_training
from coala_latent.tasks.concept_files import (
    accepted_concepts,
    load_concepts,
    load_split,
    save_concepts,
)
from coala_latent.tasks.concept_rows import match_recordings, rows_of_store
from coala_latent.tasks.concept_scores import held_out_scores
from coala_latent.tasks.concept_settings import compose_concepts
from coala_latent.tasks.concept_training import train_concepts
from coala_latent.training.concept_vectors import ConceptTraining

DIM, FILES = 8, 150
IDENTITY = StoreIdentity("toy", "0" * 64, {"name": "none"}, {"name": "none"}, "last", "mean", DIM)
QUICK = ["epochs=6", "steps=10", "batch_size=32", "learning_rate=0.05", "min_recordings=20"]
ODD = ["a b,c", "x=y", 'it\'s "q"', "ö", "<i>", "[1]"]


def name_of(number):
    return f"folder {number % 3}/{ODD[number % len(ODD)]} {number:03d}.wav"


def read_csv(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of recordings with 0 to 5 rows, and a table of planted concepts."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("stores") / "sounds.h5"
    middles = rng.normal(size=(FILES, DIM))
    with StoreWriter(path, IDENTITY) as writer:
        for number in range(FILES):
            name, rows = name_of(number), number % 6
            writer.begin(name)
            if not rows:
                writer.commit(FileRecord(name, "failed", "broken"))
                continue
            values = middles[number] + 0.1 * rng.normal(size=(rows, DIM))
            start = np.arange(rows, dtype=np.float64)
            writer.append(values.astype("f4"), start, start + 1)
            writer.commit(FileRecord(name, "ok", duration=float(rows)))
    lists = {
        f"kind, {place} é": [name_of(each) for each in np.argsort(-middles[:, place])[:40]]
        for place in range(3)
    }
    lists["rare"] = [name_of(1)]
    groups = {name_of(number): f"artist {number // 2}" for number in range(FILES)}
    return path, concepts_from_lists(lists, map(name_of, range(FILES)), groups), middles


def test_rows_are_those_of_the_store(made):
    path, table, middles = made
    rows, found = rows_of_store(path, table)
    numbers = [number for number in range(FILES) if number % 6]
    assert set(found.recordings) == {name_of(number) for number in numbers}
    place = found.recordings.index(name_of(47))
    assert rows.counts[place] == 5
    first = rows.first[place]
    np.testing.assert_allclose(rows.values[first : first + 5], [middles[47]] * 5, atol=0.6)
    few, same = rows_of_store(path, table, max_rows=2, seed=1)
    assert same.recordings == found.recordings
    assert few.counts.max() == 2
    again, _ = rows_of_store(path, table, max_rows=2, seed=1)
    np.testing.assert_array_equal(few.values, again.values)
    kept = few.values[few.first[place] :][:2]
    assert all((row == rows.values[first : first + 5]).all(axis=1).any() for row in kept)
    with pytest.raises(ConfigError, match="max_rows"):
        rows_of_store(path, table, max_rows=0)


def test_recordings_are_found_by_name_without_suffix_or_number():
    table = concepts_from_lists({"rock": ["2", "a/x"]}, ["5"], {"2": "artist", "5": "artist"})
    found = match_recordings(table, ["000/000002.mp3", "a/x.ogg", "000/000009.mp3"])
    assert found.recordings == ("000/000002.mp3", "a/x.ogg")
    assert found.members.toarray().tolist() == [[True], [True]]
    assert found.groups == ("artist", "a/x")
    with pytest.raises(DataError, match="give the table"):
        match_recordings(table, ["other.wav"])


def test_training_writes_vectors_scores_and_what_was_set_aside(made, tmp_path):
    path, table, _ = made
    settings = compose_concepts([*QUICK, "replicas=3", "controls=5", "min_part=2"])
    done = train_concepts(path, table, settings, tmp_path / "out", quiet=True)
    assert done.vectors.names == ("kind, 0 é", "kind, 1 é", "kind, 2 é")
    assert "fewer than 20" in done.set_aside["rare"]
    assert done.accepted == list(done.vectors.names)
    for place, entry in enumerate(done.metrics.values()):
        balanced = entry["balanced_accuracy"]
        assert 0.6 < balanced["low"] <= balanced["mean"] <= balanced["high"] <= 1
        assert entry["recordings"] == entry["train"] + entry["validation"] + entry["test"]
        assert entry["stability"]["mean"] > 0.8
        assert entry["control"]["p_value"] == pytest.approx(1 / (1 + entry["control"]["controls"]))
        vector = done.vectors.directions()[place].numpy()
        assert vector[place] > 0.8
    loaded, info = load_concepts(tmp_path / "out" / "concepts.safetensors")
    assert torch.equal(loaded.weight, done.vectors.weight)
    assert (info["model"], info["layer"], info["pooling"]) == ("toy", "last", "mean")
    assert info["metrics"] == done.metrics
    assert info["set_aside"] == dict(done.set_aside)
    lines = list(
        csv.DictReader(
            (tmp_path / "out" / "metrics.csv").open(encoding="utf-8", errors="surrogateescape")
        )
    )
    assert [line["concept"] for line in lines] == list(loaded.names)
    assert float(lines[0]["auc_low"]) == pytest.approx(done.metrics["kind, 0 é"]["auc"]["low"])
    parts = list(
        csv.DictReader(
            (tmp_path / "out" / "split.csv").open(encoding="utf-8", errors="surrogateescape")
        )
    )
    by_group = {}
    for line in parts:
        assert by_group.setdefault(line["group"], line["part"]) == line["part"]
    aside = list(
        csv.DictReader(
            (tmp_path / "out" / "set_aside.csv").open(encoding="utf-8", errors="surrogateescape")
        )
    )
    assert [line["concept"] for line in aside] == ["rare"]
    controls, _ = load_concepts(tmp_path / "out" / "controls.safetensors")
    assert len(controls) == done.metrics["kind, 0 é"]["control"]["controls"]


def test_a_run_that_was_cut_off_goes_on(made, tmp_path, monkeypatch):
    path, table, _ = made
    settings = compose_concepts([*QUICK, "controls=3"])
    whole = train_concepts(path, table, settings, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(concept_training, "_SECONDS_PER_SAVE", -1.0)
    epoch, made_epochs = ConceptTraining.run_epoch, []

    def cut(self):
        if len(made_epochs) == 4:
            raise KeyboardInterrupt
        made_epochs.append(self.epoch)
        return epoch(self)

    monkeypatch.setattr(ConceptTraining, "run_epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        train_concepts(path, table, settings, tmp_path / "cut", quiet=True)
    with pytest.raises(ConfigError, match="other settings"):
        train_concepts(path, table, replace(settings, seed=1), tmp_path / "cut", quiet=True)
    went_on = []

    def counted(self):
        went_on.append(self.epoch)
        return epoch(self)

    monkeypatch.setattr(ConceptTraining, "run_epoch", counted)
    done = train_concepts(path, table, settings, tmp_path / "cut", quiet=True)
    assert went_on[0] == 4
    assert torch.equal(done.vectors.weight, whole.vectors.weight)
    assert done.metrics == whole.metrics


def test_the_originals_protocol_trains_too(made, tmp_path):
    path, table, _ = made
    original = ["protocol=original", "standardise=false"]
    settings = compose_concepts([*QUICK, *original, "controls=2", "min_part=2"])
    done = train_concepts(path, table, settings, tmp_path, quiet=True)
    assert len(done.vectors) == 3
    assert not (tmp_path / "split.csv").exists()
    _, info = load_concepts(tmp_path / "concepts.json")
    again = load_split(tmp_path, rows_of_store(path, table)[1], info)
    assert (again.positives("test", 1) == done.split.positives("test", 1)).all()


def test_scores_are_those_of_rows_taken_one_by_one(made):
    path, table, _ = made
    rows, found = rows_of_store(path, table)
    split = recording_split(found.select(20))
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, DIM)).astype("f4"), rng.normal(size=3).astype("f4")
    scores = held_out_scores(rows, split, weight, bias)
    for concept in range(3):
        right = []
        for choose, wanted in ((split.positives, True), (split.negatives, False)):
            shares = []
            for recording in choose("test", concept):
                first, count = rows.first[recording], rows.counts[recording]
                logits = rows.values[first : first + count] @ weight[concept] + bias[concept]
                shares.append(((logits > 0) == wanted).mean())
            right.append(np.mean(shares))
        assert scores[concept].balanced_accuracy.mean == pytest.approx(np.mean(right))


def test_nothing_to_train_is_told_with_reasons(made, tmp_path):
    path, table, _ = made
    with pytest.raises(DataError, match="rare: 1 recordings, fewer than 60"):
        train_concepts(
            path, table, compose_concepts(["min_recordings=60"]), tmp_path / "x", quiet=True
        )
    random = compose_concepts([*QUICK, "min_part=3", "controls=1", "seed=3"])
    with pytest.raises(ConfigError, match="controls=1: no random concept"):
        train_concepts(path, table, random, tmp_path, quiet=True)


def test_published_values_are_the_settings_defaults():
    settings = compose_concepts()
    assert (settings.dropout, settings.epochs, settings.steps) == (0.25, 100, 100)
    assert (settings.batch_size, settings.learning_rate) == (128, 1e-3)
    assert (settings.min_recordings, settings.threshold) == (39, 0.7)


@pytest.mark.parametrize(
    "override",
    [
        *("dropout=1", "batch_size=3", "epochs=0", "epochs=1.5", "protocol=x", "threshold=1"),
        *("seed=-1", "max_rows=0", "standardise=2", "confidence=1", "controls=-1", "l1=a"),
        *("colour=1", "replicas=x"),
    ],
)
def test_settings_that_make_no_sense(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        compose_concepts([override])


def test_files_are_read_back_and_damage_is_told(tmp_path):
    vectors = ConceptVectors(["a, b", "ö <i>"], 3)
    vectors.assign_(torch.randn(2, 3), torch.randn(2))
    path = tmp_path / "new folder" / "my concepts.safetensors"
    save_concepts(path, vectors, {"layer": "pool5", "names": "ignored", "sha256": "ignored"})
    for either in (path, path.with_suffix(".json")):
        loaded, info = load_concepts(either)
        assert loaded.names == vectors.names
        assert torch.equal(loaded.bias, vectors.bias)
        assert info["layer"] == "pool5"
    assert [each.name for each in sorted(path.parent.iterdir())] == [
        "my concepts.json",
        "my concepts.safetensors",
    ]
    with pytest.raises(WeightsError, match="name it"):
        save_concepts(tmp_path / "x.pt", vectors, {})
    words = json.loads(path.with_suffix(".json").read_text("utf-8"))
    for change, message in (
        ({"kind": "classifier"}, "not the description"),
        ({"format": 2}, "update"),
        ({"names": ["a"]}, "vectors"),
        ({"names": ["a", "a"]}, "twice"),
        ({"names": [1, 2]}, "list of texts"),
        ({"sha256": "0"}, "hash"),
    ):
        path.with_suffix(".json").write_text(json.dumps({**words, **change}), "utf-8")
        with pytest.raises(WeightsError, match=message):
            load_concepts(path)
    path.with_suffix(".json").write_text("{", "utf-8")
    with pytest.raises(WeightsError, match="not readable"):
        load_concepts(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        load_concepts(path)


def test_accepted_concepts_are_those_above_the_threshold():
    vectors = ConceptVectors(["a", "b", "c"], 2)
    metrics = {"a": {"balanced_accuracy": {"mean": 0.7}}, "b": {"balanced_accuracy": {"mean": 0.8}}}
    info = {"threshold": 0.7, "metrics": metrics}
    assert accepted_concepts(vectors, info).names == ("b", "c")
    assert accepted_concepts(vectors, info, 0.6).names == ("a", "b", "c")
    with pytest.raises(ConfigError, match="none of 1"):
        accepted_concepts(vectors.take([0]), info)
