"""`coala-latent clusters` over stores with odd names."""

import csv
import json
import sys

import click
import numpy as np
import pytest
from click.testing import CliRunner

from coala_latent.cli.clusters import clusters_command
from coala_latent.cli.options import ReportingGroup
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter

CLASSES = ["dog, the", "<b>cat", "größe=$5"]


@click.group(cls=ReportingGroup)
def main():
    """As of the package."""


main.add_command(clusters_command)


def run(*arguments):
    return CliRunner().invoke(main, ["clusters", *map(str, arguments)])


def name_of(number):
    return f"{CLASSES[number % 3]}/'{number}' sound.wav"


def write_store(path, n=60, zero=(), rows=2):
    """Three components, one a folder; the first file failed."""
    rng = np.random.default_rng(0)
    middles = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    with StoreWriter(path, StoreIdentity("model", "", {}, {}, "layer", "mean", 8)) as writer:
        writer.begin("failed.wav")
        writer.commit(FileRecord("failed.wav", "failed", "broken"))
        for number in range(n):
            # The first component is the largest.
            component = number % 3 if number % 2 else 0
            values = middles[component] + 0.1 * rng.normal(size=(rows, 8))
            values *= number not in zero
            writer.begin(name_of(number if number % 2 else 3 * number))
            times = np.arange(rows, dtype=float)
            writer.append(values.astype(np.float32), times, times + 1)
            writer.commit(FileRecord(name_of(number if number % 2 else 3 * number), "ok"))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("a store, = x") / "s.h5")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_folders_are_found_again(store, tmp_path):
    output = tmp_path / "out, =é"
    done = run(store, "--k", 3, "--labels", "folders", "--output", output, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result == json.loads((output / "clusters.json").read_text("utf-8"))
    assert result["agreement"]["ari"]["mean"] == pytest.approx(1)
    assert result["agreement"]["purity"]["p_value"] < 0.01
    assert result["failed"] == 1
    assert result["clusters"]["counts"] == [40, 10, 10]
    lines = read(output / "clusters.csv")
    assert len(lines) == 60
    assert {line["cluster"] for line in lines if line["label"] == CLASSES[0]} == {"K1"}
    assert all(line["path"].startswith(line["label"] + "/") for line in lines)
    assert all(0.8 < float(line["cosine"]) <= 1 for line in lines)
    first = result["suggestions"][0]
    assert first["labels"][0]["text"] == CLASSES[0]
    assert first["labels"][0]["lift"] == pytest.approx(1.5)
    best = max((line for line in lines if line["cluster"] == "K1"), key=lambda x: x["cosine"])
    assert first["typical"][0]["path"] == best["path"]
    assert first["typical"][0]["end"] == 2.0
    assert {"dog", "the"} <= {word["text"] for word in first["words"]}
    assert (output / "clusters.png").read_bytes().startswith(b"\x89PNG")
    centres = np.load(output / "centres.npy", allow_pickle=False)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-6)


def test_the_number_of_clusters_is_chosen_from_a_range(store, tmp_path):
    done = run(store, "--k", "2..6", "--output", tmp_path, "--restarts", 2, "--quiet")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "clusters.json").read_text("utf-8"))
    assert result["choice_of_k"]["best"] == result["clusters"]["k"] == 3
    assert result["settings"]["k"] == [2, 3, 4, 5, 6]
    assert "silhouette" in done.stdout
    assert "<b>cat" in done.stdout
    assert "label" not in read(tmp_path / "clusters.csv")[0]


def test_labels_come_from_a_table_and_may_be_missing(store, tmp_path):
    table = tmp_path / "labels, =.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "kind", "more"])
        for number in range(1, 60, 2):
            writer.writerow([name_of(number), ["x", "y,'", ""][number % 3], 1])
    arguments = (store, "--k", 3, "--output", tmp_path / "out", "--labels", table)
    done = run(*arguments, "--column", "kind", "--json")
    assert done.exit_code == 0, done.output
    agreement = json.loads(done.stdout)["agreement"]
    assert agreement["classes"] == ["x", "y,'"]
    assert agreement["items"] == 20
    for options, message in (((), "kind, more"), (("--column", "none"), "no column 'none'")):
        done = run(*arguments, *options)
        assert done.exit_code == 2
        assert message in done.output.replace("\n", "")


def test_rows_are_clustered_with_their_times(store, tmp_path):
    done = run(store, "--by", "rows", "--k", 3, "--output", tmp_path, "--json", "--no-picture")
    assert done.exit_code == 0, done.output
    lines = read(tmp_path / "clusters.csv")
    assert len(lines) == 120
    assert [float(line["start"]) for line in lines[:4]] == [0, 1, 0, 1]
    assert not (tmp_path / "clusters.png").exists()
    typical = json.loads(done.stdout)["suggestions"][0]["typical"]
    assert len({each["path"] for each in typical}) == len(typical) == 5


def test_zero_vectors_are_in_no_cluster_and_named(tmp_path):
    store = write_store(tmp_path / "s.h5", n=30, zero=(0, 5))
    done = run(store, "--k", 2, "--output", tmp_path, "--labels", "folders")
    assert done.exit_code == 0, done.output
    assert "its vector is zero" in done.output
    result = json.loads((tmp_path / "clusters.json").read_text("utf-8"))
    assert len(result["without_direction"]) == 2
    empty = [line for line in read(tmp_path / "clusters.csv") if not line["cluster"]]
    assert [line["path"] for line in empty] == result["without_direction"]
    assert result["agreement"]["items"] == 28


def test_the_same_command_writes_the_same_files(store, tmp_path):
    for name in "ab":
        assert run(store, "--output", tmp_path / name, "--k", 5).exit_code == 0
    for name in ("clusters.csv", "clusters.json", "centres.npy", "clusters.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        *("clusters.csv", "clusters.json", "centres.npy", "clusters.png")
    }


def test_centring_takes_away_what_all_vectors_have_in_common(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 4)).astype(np.float32)
    found = {}
    for shift in (0, 7):
        store = tmp_path / f"{shift}.h5"
        with StoreWriter(store, StoreIdentity("model", "", {}, {}, "layer", "mean", 4)) as writer:
            for number, row in enumerate(values + np.float32(shift)):
                writer.begin(f"{number}.wav")
                writer.append(row[None], np.zeros(1), np.ones(1))
                writer.commit(FileRecord(f"{number}.wav", "ok"))
        for centre in ("--centre", ""):
            output = tmp_path / f"{shift}{centre}"
            assert run(store, "--k", 3, "--output", output, *centre.split()).exit_code == 0
            found[shift, centre] = [line["cluster"] for line in read(output / "clusters.csv")]
    assert found[0, "--centre"] == found[7, "--centre"]
    assert found[0, ""] != found[7, ""]


def test_without_matplotlib_a_picture_asked_for_is_an_error(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = run(store, "--output", tmp_path / "a", "--picture")
    assert done.exit_code == 2
    assert "pip install" in done.output
    assert not (tmp_path / "a").exists()
    done = run(store, "--output", tmp_path / "b", "--k", 3)
    assert done.exit_code == 0
    assert "no picture" in done.output
    assert (tmp_path / "b" / "clusters.csv").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--k", "61"], "k=61 clusters of 60 rows"),
        (["--k", "0"], "no number of clusters"),
        (["--k", "5..2"], "no number of clusters"),
        (["--k", "a,b"], "write a number"),
        (["--k", "2..5", "--batch", "10"], "single k"),
        (["--device", "gpu0"], "no device 'gpu0' here"),
        (["--labels", "none.csv"], "none.csv"),
        (["--labels", "folders", "--column", "x"], "give a table"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(store, tmp_path, options, message):
    done = run(store, "--output", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()
