"""`coala-latent classify`: folders, tables, groups, rows, saving and applying."""

import csv
import json
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from coala_latent.cli.classify import classify_command
from coala_latent.cli.options import ReportingGroup
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter

CLASSES = ["dog, the", "<b>cat", "größe=$5"]


@click.group(cls=ReportingGroup)
def main():
    """As of the package."""


main.add_command(classify_command)


def run(*arguments):
    return CliRunner().invoke(main, ["classify", *map(str, arguments)])


def name_of(number):
    return f"{CLASSES[number % 3]}/{number // 3}-'{number}.wav"


def write_store(
    path, n=60, layer="layer", seed=0, spread=0.5, dtype="float32", extra=(), model="model"
):
    rng = np.random.default_rng(seed)
    identity = StoreIdentity(model, "", {"hop": 1}, {}, layer, "mean", 6, dtype)
    with StoreWriter(path, identity) as writer:
        for name in ("failed.wav", *extra):
            writer.begin(name)
            if name != "failed.wav":
                writer.append(rng.normal(size=(1, 6)).astype(np.float32), np.zeros(1), np.ones(1))
            writer.commit(FileRecord(name, "failed" if name == "failed.wav" else "ok"))
        for number in range(n):
            rows = 1 + number % 4
            values = np.eye(6)[number % 3] + spread * rng.normal(size=(rows, 6))
            times = np.arange(rows, dtype=float)
            writer.begin(name_of(number))
            writer.append(values.astype(np.float32), times, times + 1)
            writer.commit(FileRecord(name_of(number), "ok"))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("a store, = x") / "s.h5")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path, **columns):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *columns])
        for number in range(60):
            writer.writerow([name_of(number), *(f(number) for f in columns.values())])
    return path


@pytest.mark.parametrize("by", ["files", "rows"])
def test_folders_are_told_apart(store, tmp_path, by):
    output = tmp_path / "out, =é"
    done = run(*(store, "--labels", "folders", "--by", by, "--output", output, "--json", "--quiet"))
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result == json.loads((output / "classify.json").read_text("utf-8"))
    lines = read(output / "predictions.csv")
    assert len(lines) == 60
    assert {line["fold"] for line in lines} == set("01234")
    for kind in ("linear_svm", "logistic"):
        scores = result["classifiers"][kind]
        assert scores["accuracy"]["low"] <= scores["accuracy"]["mean"] <= 1
        assert scores["accuracy"]["mean"] > 0.75
        assert scores["macro_f1"]["mean"] > 0.75
        assert scores["chance"] == pytest.approx(1 / 3)
        assert scores["classes"] == sorted(CLASSES)
        assert [each["support"] for each in scores["per_class"]] == [20, 20, 20]
        right = sum(line["label"] == line[kind] for line in lines)
        assert right == np.trace(scores["confusion"])
        with (output / f"confusion_{kind}.csv").open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file))
        assert table[0][1:] == sorted(CLASSES)
        assert [[int(cell) for cell in row[1:]] for row in table[1:]] == scores["confusion"]
        assert (output / f"confusion_{kind}.png").read_bytes().startswith(b"\x89PNG")
    assert result["failed"] == 1
    assert result["rows"] == (60 if by == "files" else 150)


def test_labels_at_random_are_told_apart_no_better_than_chance(store, tmp_path):
    rng = np.random.default_rng(0)
    coin = rng.integers(2, size=60)
    table = write_table(tmp_path / "t.csv", coin=lambda number: "ab"[coin[number]])
    done = run(store, "--labels", table, "--json")
    assert done.exit_code == 0, done.output
    accuracy = json.loads(done.stdout)["classifiers"]["logistic"]["accuracy"]
    assert accuracy["low"] < 0.5 < accuracy["high"]


def test_columns_give_labels_and_small_classes_are_set_aside(store, tmp_path):
    table = write_table(
        tmp_path / "labels, =.csv",
        kind=lambda n: "few" if n < 4 else "" if n < 8 else CLASSES[n % 3],
        more=lambda n: 1,
    )
    done = run(store, "--labels", table, "--column", "kind", "--classifier", "logistic", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["set_aside"] == {"few": 4}
    assert result["without_label"] == 4
    assert result["classified"] == 52
    assert list(result["classifiers"]) == ["logistic"]
    assert "4 recordings of few are set aside" in done.stderr


def test_groups_never_stand_on_both_sides(store, tmp_path):
    table = write_table(
        tmp_path / "t.csv", kind=lambda n: CLASSES[n % 3], artist=lambda n: f"a{n // 6}"
    )
    for options in (
        ("--labels", table, "--column", "kind", "--group-column", "artist"),
        ("--labels", "folders", "--group", r"^(\d+)-"),
    ):
        assert run(store, *options, "--output", tmp_path, "--no-picture").exit_code == 0
        folds = {}
        for line in read(tmp_path / "predictions.csv"):
            number = int(line["path"].split("'")[1].removesuffix(".wav"))
            group = number // 6 if "--column" in options else number // 3
            folds.setdefault(group, set()).add(line["fold"])
        assert all(len(of_group) == 1 for of_group in folds.values())
    assert json.loads((tmp_path / "classify.json").read_text("utf-8"))["groups"] == 20


def test_a_recording_heard_row_by_row_is_told_by_the_mean_of_its_rows(store, tmp_path):
    run(store, "--labels", "folders", "--by", "rows", "--output", tmp_path, "--no-picture")
    assert len(read(tmp_path / "predictions.csv")) == 60


@pytest.mark.parametrize("by", ["files", "rows"])
def test_a_saved_classifier_is_applied_to_another_store(store, tmp_path, by):
    model = tmp_path / "new, =" / "genre.safetensors"
    done = run(
        *(store, "--labels", "folders", "--classifier", "logistic", "--save", model, "--by", by)
    )
    assert done.exit_code == 0, done.output
    # How rows are kept is no other setting.
    other = write_store(tmp_path / "other.h5", seed=1, dtype="float16", extra=["odd/x.wav"])
    done = run(other, "--apply", model, "--labels", "folders", "--json", "--output", tmp_path)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert len(result["predictions"]) == 61
    assert result["unknown_labels"] == ["odd"]
    scores = result["classifiers"]["logistic"]
    assert np.sum(scores["confusion"]) == 60
    assert scores["accuracy"]["mean"] > 0.75
    assert all(1 / 3 < each["score"] <= 1 for each in result["predictions"])
    assert "predictions" not in json.loads((tmp_path / "classify.json").read_text("utf-8"))
    bare = run(other, "--apply", model)
    assert bare.exit_code == 0
    lines = list(csv.DictReader(bare.stdout.splitlines()))
    assert [line["class"] for line in lines] == [each["class"] for each in result["predictions"]]
    assert lines[0]["path"] == "odd/x.wav"


def test_a_classifier_is_refused_for_other_vectors(store, tmp_path):
    model = tmp_path / "m.safetensors"
    run(store, "--labels", "folders", "--classifier", "linear_svm", "--save", model)
    done = run(write_store(tmp_path / "other.h5", layer="other"), "--apply", model)
    assert done.exit_code == 2
    assert "layer: 'layer', 'other'" in done.output
    done = run(write_store(tmp_path / "model.h5", layer="z", model="yamnet"), "--apply", model)
    assert done.exit_code == 2
    assert "model: 'model', 'yamnet'" in done.output
    assert "layer" not in done.output, "of another model nothing else is of use"


def test_damaged_and_foreign_files_are_refused(store, tmp_path):
    model = tmp_path / "m.safetensors"
    run(store, "--labels", "folders", "--classifier", "linear_svm", "--save", model)
    arrays = load_file(model)
    assert {name: array.shape for name, array in arrays.items()} == {
        "weight": (3, 6),
        "bias": (3,),
    }
    foreign = tmp_path / "foreign.safetensors"
    save_file(arrays, foreign)
    damaged = tmp_path / "damaged.safetensors"
    save_file(arrays, damaged, {"format": "coala_latent.classifier", "classifier": "{}"})
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(model.read_bytes()[:-9])
    for path, message in (
        (foreign, "no classifier"),
        (damaged, "damaged"),
        (broken, "not a readable"),
        (tmp_path / "none.safetensors", "no such"),
        (store, "no classifier"),
    ):
        done = run(store, "--apply", path)
        assert done.exit_code == 2
        assert message in done.output


def test_the_same_command_writes_the_same_files(store, tmp_path):
    for name in "ab":
        assert run(store, "--labels", "folders", "--output", tmp_path / name).exit_code == 0
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_matplotlib_a_picture_asked_for_is_an_error(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = (store, "--labels", "folders", "--output")
    done = run(*arguments, tmp_path / "a", "--picture")
    assert done.exit_code == 2
    assert not (tmp_path / "a").exists()
    done = run(*arguments, tmp_path / "b")
    assert done.exit_code == 0
    assert "no picture" in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --labels"),
        (["--labels", "folders", "--save", "m.safetensors"], "name it with --classifier"),
        (["--labels", "folders", "--folds", "21"], "two are needed"),
        (["--labels", "folders", "--group", "x("], "group expression"),
        (["--labels", "folders", "--group", "x"], "put ()"),
        (["--labels", "folders", "--group", "(zzz)"], "does not match"),
        (["--labels", "folders", "--group-column", "a"], "needs a table"),
        (["--labels", "folders", "--column", "a"], "give a table"),
        (["--apply", "m.safetensors", "--folds", "3"], "--folds is of training"),
        (["--apply", "m.safetensors", "--save", "n.safetensors"], "--save is of training"),
        (
            ["--labels", "folders", "--classifier", "logistic", "--save", "m.pkl"],
            "name it .safetensors",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(store, options, message):
    done = run(store, *options)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")
