"""Stores as tables, read back by the viewers they are meant for."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from coala_latent.cli.store_export import store_export_command
from coala_latent.errors import ConfigError, DataError, DependencyError
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter
from coala_latent.tasks import export_tables
from coala_latent.tasks.export_tables import export_table

ODD = ["a b=c,'é.wav", 'sub/say "<b>".wav', "sub/</script>.wav", "gone.wav", "日本.wav"]
PYARROW = "parquet needs pyarrow: pip install 'coala-latent[tables]'"


@pytest.fixture
def store(tmp_path, write_sound, rng):
    """Five recordings of three rows each, and one that failed; one sound is gone."""
    root = tmp_path / "sounds"
    identity = StoreIdentity("m", "", {}, {}, "z", "mean", 6)
    path = tmp_path / "s.h5"
    with StoreWriter(path, identity, metadata={"root": str(root)}) as writer:
        for name in ODD:
            if name != "gone.wav":
                write_sound(name, seconds=3.0, rate=8000, folder=root)
            writer.begin(name)
            times = np.arange(3.0)
            writer.append(rng.normal(size=(3, 6)).astype(np.float32), times, times + 1)
            writer.commit(FileRecord(name, "ok", duration=3.0))
        writer.commit(FileRecord("bad.wav", "failed", "no sound"))
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "about.csv"
    path.write_text(
        "filename,genre,year,x,citation,empty\n"
        '"a b=c,\'é.wav",Folk,1999,1,A: B,\n日本.wav,=1+1,,2,,\n',
        "utf-8",
    )
    return path


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_line_is_a_recording_with_all_that_is_known(store, table, tmp_path):
    done = export_table(store, tmp_path / "t.jsonl", metadata=[table], neighbors=2)
    lines = {line["path"]: line for line in read_jsonl(tmp_path / "t.jsonl")}
    assert list(lines) == ODD
    first = lines[ODD[0]]
    assert first["audio"] == str(tmp_path / "sounds" / ODD[0])
    assert [first["start"], first["end"], first["window"]] == [0.0, 3.0, [0.0, 3.0]]
    assert (first["genre"], first["year"], first["citation"]) == ("Folk", 1999.0, "A: B")
    assert first["x (metadata)"] == 1.0
    assert isinstance(first["x"], float)
    assert lines["日本.wav"]["year"] is None
    assert lines["gone.wav"]["audio"] is None
    assert done.missing == ["gone.wav"]
    assert done.matched == {str(table): 2}
    assert (done.points, done.columns) == (5, list(first))
    assert "empty" not in first


def test_vectors_and_neighbours_are_those_of_the_store(store, tmp_path):
    export_table(store, tmp_path / "t.jsonl", by="rows", neighbors=4, projection="pca")
    lines = read_jsonl(tmp_path / "t.jsonl")
    assert len(lines) == 15
    assert [line["window"] for line in lines[:3]] == [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    vectors = np.array([line["embedding"] for line in lines])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = 1 - unit @ unit.T
    np.fill_diagonal(distances, np.inf)
    for row, line in enumerate(lines):
        expected = np.argsort(distances[row])[:4]
        assert line["neighbors"]["ids"] == expected.tolist()
        assert np.allclose(line["neighbors"]["distances"], distances[row, expected], atol=1e-6)


def test_csv_says_the_same_as_json_lines(store, table, tmp_path):
    for name in ("t.csv", "t.jsonl"):
        export_table(store, tmp_path / name, metadata=[table], projection="pca")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, line in zip(rows, read_jsonl(tmp_path / "t.jsonl"), strict=True):
        assert list(row) == list(line)
        for name, value in line.items():
            if value is None:
                assert row[name] == ""
            elif isinstance(value, str):
                assert row[name] == value
            else:
                assert json.loads(row[name]) == value


def test_little_can_be_asked_for(store, tmp_path):
    done = export_table(store, tmp_path / "t.csv", projection=None, neighbors=0)
    assert {"x", "y", "neighbors"}.isdisjoint(done.columns)
    assert "embedding" in done.columns


def test_one_point_has_no_neighbours(tmp_path):
    identity = StoreIdentity("m", "", {}, {}, "z", "mean", 3)
    with StoreWriter(tmp_path / "s.h5", identity) as writer:
        writer.begin("a.wav")
        writer.append(np.zeros((1, 3)), [0.0], [1.0])
        writer.commit(FileRecord("a.wav", "ok", duration=1.0))
    export_table(tmp_path / "s.h5", tmp_path / "t.jsonl")
    [line] = read_jsonl(tmp_path / "t.jsonl")
    assert "neighbors" not in line
    assert [line["x"], line["y"]] == [0.0, 0.0]
    assert line["audio"] is None


def test_what_cannot_be_written_is_said_first(store, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"\.parquet, \.csv, \.jsonl"):
        export_table(store, tmp_path / "t.xlsx")
    with pytest.raises(ConfigError, match="neighbors=-1"):
        export_table(store, tmp_path / "t.csv", neighbors=-1)
    with pytest.raises(ConfigError, match="no projection"):
        export_table(store, tmp_path / "t.csv", projection="mds")
    (tmp_path / "other.csv").write_text("file,n\nz.wav,1\n")
    with pytest.raises(DataError, match="names none"):
        export_table(store, tmp_path / "t.csv", metadata=[tmp_path / "other.csv"])

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(export_tables, "import_module", missing)
    with pytest.raises(DependencyError, match="pip install"):
        export_table(store, tmp_path / "t.parquet")
    assert not list(tmp_path.glob("*t.*"))


def test_the_command_writes_tables_and_arrays(store, table, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(store_export_command, [str(a) for a in arguments])

    done = run(store, tmp_path / "t.csv", "--metadata", table, "--projection", "none", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["points"] == 5
    assert "1 sounds not found, the first gone.wav" in done.stderr
    assert run(store, tmp_path / "all.npz").exit_code == 0
    assert run(store, tmp_path / "arrays").exit_code == 0
    assert (tmp_path / "all.npz").is_file()
    assert len(list((tmp_path / "arrays").rglob("*.npy"))) == 5


@pytest.mark.parametrize("suffix", [".xlsx", ".tsv", ".JSON", ".npy"])
def test_a_name_of_a_file_that_is_not_written_becomes_no_folder(store, tmp_path, suffix):
    done = CliRunner().invoke(store_export_command, [str(store), str(tmp_path / f"t{suffix}")])
    assert isinstance(done.exception, ConfigError)
    assert ".parquet" in str(done.exception)
    assert not (tmp_path / f"t{suffix}").exists()


def test_parquet_holds_typed_columns(store, table, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason=PYARROW)
    export_table(store, tmp_path / "t.parquet", metadata=[table], projection="pca", neighbors=3)
    export_table(store, tmp_path / "t.jsonl", metadata=[table], projection="pca", neighbors=3)
    found = parquet.read_table(tmp_path / "t.parquet")
    lines = read_jsonl(tmp_path / "t.jsonl")
    assert found.column_names == list(lines[0])
    for row, line in zip(found.to_pylist(), lines, strict=True):
        for name, value in line.items():
            assert row[name] == value or np.allclose(
                _numbers(row[name]), _numbers(value), rtol=1e-6
            )
    assert str(found.schema.field("year").type) == "double"
    assert "float" in str(found.schema.field("embedding").type)


def _numbers(value):
    return value["ids"] + value["distances"] if isinstance(value, dict) else value


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_spotlight_reads_it(store, table, tmp_path, suffix):
    spotlight = pytest.importorskip(
        "renumics.spotlight", reason="pip install renumics-spotlight to test this"
    )
    from renumics.spotlight.data_source import create_datasource
    from renumics.spotlight.data_store import DataStore

    output = tmp_path / f"t{suffix}"
    export_table(store, output, metadata=[table], by="rows")
    source = create_datasource(Path(output))
    found = DataStore(source, {"audio": spotlight.dtypes.audio_dtype})
    assert len(found) == 15
    kinds = {
        name: found.dtypes[name].name for name in ("embedding", "window", "x", "path", "genre")
    }
    assert kinds == {
        "embedding": "Embedding",
        "window": "Window",
        "x": "float",
        "path": "str",
        "genre": "str",
    }
    vectors = np.array(found.get_converted_values("embedding", simple=False))
    assert vectors.shape == (15, 6)
    assert found.get_converted_value("path", 4) == ODD[1]
    assert found.get_waveform("audio", 0).size > 0


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_embedding_atlas_reads_it(store, table, tmp_path, suffix):
    cli = pytest.importorskip(
        "embedding_atlas.cli", reason="pip install embedding-atlas to test this"
    )
    output, page = tmp_path / f"t{suffix}", tmp_path / "atlas"
    export_table(store, output, metadata=[table])
    options = ["--x", "x", "--y", "y", "--neighbors", "neighbors", "--text", "path"]
    done = CliRunner().invoke(
        cli.main, [str(output), *options, "--degree", "--export-application", str(page)]
    )
    assert done.exit_code == 0, done.output
    pandas = pytest.importorskip("pandas")
    found = pandas.read_parquet(next(page.rglob("*.parquet")))
    assert found["path"].tolist() == ODD
    assert found["out_degree"].tolist() == [4] * 5  # it has understood the neighbours
    assert np.isfinite(found[["x", "y"]].to_numpy()).all()
