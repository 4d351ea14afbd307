"""The store: what goes in comes out, and nothing else."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

import coala_latent.store
from coala_latent.errors import (
    StoreError,
    StoreFormatError,
    StoreLockedError,
    StoreMismatchError,
)
from coala_latent.store import (
    FileRecord,
    Store,
    StoreIdentity,
    StoreWriter,
    export_npy,
    export_npz,
    merge_stores,
    recover_store,
)
from coala_latent.types import Embedding

IDENTITY = StoreIdentity(
    model="coala_ae_c",
    weights_sha256="ab" * 32,
    front_end={"hop": 512, "bands": (0.5, 1.5), "fmax": None},
    resampler={"name": "soxr", "quality": "HQ"},
    layer="embedding",
    pooling="none",
    dim=3,
)
ODD_NAMES = [
    "a/b c.wav",
    "quote'\"`.wav",
    "x=1,y=2;[z]{}.wav",
    "käse/音/🎧.wav",
    "e\u0301 is not \u00e9.wav",
    os.fsdecode(b"latin-\xe9\xff.wav") if os.name == "posix" else "latin.wav",
    "tab\tand\nline.wav",
    " ",
    "-o",
    "n" * 4000,
]


def rows(count: int, seed: int = 0, dim: int = 3) -> Embedding:
    values = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    start = np.arange(count) * 0.5
    return Embedding(values, start, start + 0.5)


def add(writer: StoreWriter, path: str, embedding: Embedding, **about) -> None:
    writer.begin(path)
    writer.append(embedding.values, embedding.start, embedding.end)
    writer.commit(FileRecord(path, about.pop("status", "ok"), **about))


def make(path: Path, files: dict[str, Embedding], identity=IDENTITY, **options) -> Path:
    with StoreWriter(path, identity, **options) as writer:
        for name, embedding in files.items():
            add(writer, name, embedding)
    return path


def paths_in(path: Path) -> list[str]:
    with Store(path) as store:
        return [record.path for record in store.files]


def left_beside(path: Path) -> list[str]:
    names = {entry.name for entry in path.parent.iterdir()}
    return sorted(names - {path.name, path.name + ".lock"})


def test_rows_times_records_and_header_come_back_equal(tmp_path):
    path = tmp_path / "deep" / "er" / "s.h5"
    metadata = {"labels": ["a", "ü\udcff\0"], "n": 3, "nested": {"x": [1.5, None, True]}}
    with StoreWriter(path, IDENTITY, metadata=metadata) as writer:
        add(writer, "one.wav", rows(4, 1), duration=2.0, sample_rate=44100, channels=2, bytes=2**40)
        writer.commit(FileRecord("bad.wav", "failed", "no RIFF header"))
        add(writer, "two.wav", rows(2, 2), status="truncated", error="ends at 1.0 s")
    with Store(path) as store:
        assert store.identity == IDENTITY
        assert store.metadata == metadata
        assert store.files == [
            FileRecord("one.wav", "ok", "", 2.0, 44100, 2, 2**40, 0, 4),
            FileRecord("bad.wav", "failed", "no RIFF header", first_row=4),
            FileRecord("two.wav", "truncated", "ends at 1.0 s", first_row=4, rows=2),
        ]
        assert len(store) == 6
        assert store.values.dtype == np.float32
        np.testing.assert_array_equal(store.values[:4], rows(4, 1).values)
        np.testing.assert_array_equal(store.file[:], [0, 0, 0, 0, 2, 2])
        np.testing.assert_array_equal(store.rows_of("two.wav").values, rows(2, 2).values)
        np.testing.assert_array_equal(store.rows_of(2).end, [0.5, 1.0])
        assert store.rows_of("bad.wav").values.shape == (0, 3)
    assert left_beside(path) == []


def test_the_layout_is_the_documented_one(tmp_path):
    path = make(tmp_path / "s.h5", {"é.wav": rows(2)}, metadata={"k": 1})
    with h5py.File(path) as f:
        assert set(f) == {"values", "start", "end", "file", "files"}
        kinds = {name: f[name].dtype.str for name in ("values", "start", "end", "file")}
        assert kinds == {"values": "<f4", "start": "<f8", "end": "<f8", "file": "<i4"}
        assert all(f[name].chunks for name in kinds)
        assert f["values"].maxshape == (None, 3)
        numbers = {n: d.dtype.str for n, d in f["files"].items() if d.dtype.kind != "O"}
        assert numbers == {
            "duration": "<f8",
            "sample_rate": "<i4",
            "channels": "<i4",
            "bytes": "<i8",
            "first_row": "<i8",
            "rows": "<i8",
        }
        for name in ("path", "status", "error"):
            assert h5py.check_string_dtype(f["files"][name].dtype).encoding == "utf-8"
        assert f["files/path"].asstr()[0] == "é.wav"
        attrs = dict(f.attrs)
    assert attrs.pop("created").endswith("+00:00")
    assert attrs.pop("package_version")
    assert {key: attrs.pop(key) for key in ("front_end", "resampler", "metadata")} == {
        "front_end": json.dumps({"hop": 512, "bands": [0.5, 1.5], "fmax": None}),
        "resampler": json.dumps(IDENTITY.resampler),
        "metadata": '{"k": 1}',
    }
    assert attrs == {
        "format": "coala_latent.store",
        "format_version": 1,
        "model": "coala_ae_c",
        "weights_sha256": "ab" * 32,
        "layer": "embedding",
        "pooling": "none",
        "dim": 3,
        "dtype": "float32",
    }


def test_the_five_lines_of_the_docstring_read_a_store(tmp_path, monkeypatch, capsys):
    make(tmp_path / "sounds.h5", {"one.wav": rows(2)})
    monkeypatch.chdir(tmp_path)
    code = coala_latent.store.__doc__.split("::\n")[1]
    lines = [line[4:] for line in code.strip("\n").splitlines()]
    assert len(lines) == 5
    exec("\n".join(lines), {})
    assert "one.wav" in capsys.readouterr().out


def test_odd_file_names_come_back_equal(tmp_path):
    path = make(tmp_path / "s.h5", {name: rows(1, n) for n, name in enumerate(ODD_NAMES)})
    assert paths_in(path) == ODD_NAMES
    with StoreWriter(path, IDENTITY) as writer:
        assert list(writer.done) == ODD_NAMES
    with Store(path) as store:
        for number, name in enumerate(ODD_NAMES):
            np.testing.assert_array_equal(store.rows_of(name).values, rows(1, number).values)


@pytest.mark.parametrize("name", ["", "nul\0.wav", "lone \ud800.wav", "two \udcc3\udca9 as é.wav"])
def test_names_that_would_not_come_back_equal_are_refused(tmp_path, name):
    with StoreWriter(tmp_path / "s.h5", IDENTITY) as writer:
        with pytest.raises(StoreError):
            writer.commit(FileRecord(name, "failed"))
        assert not writer.done


def test_errors_in_any_text_are_kept_readable(tmp_path):
    with StoreWriter(tmp_path / "s.h5", IDENTITY) as writer:
        writer.commit(FileRecord("a", "failed", "bad \udcff \0 \ud800"))
        writer.commit(FileRecord("b", "failed", "bad \udcff é"))
    with Store(tmp_path / "s.h5") as store:
        errors = [record.error for record in store.files]
    assert errors == ["bad \\udcff \\x00 \\ud800", "bad \udcff é"]


@pytest.mark.parametrize("files", [[], [FileRecord("bad.wav", "failed", "x")]])
def test_stores_without_rows_work_everywhere(tmp_path, files):
    path = tmp_path / "s.h5"
    with StoreWriter(path, IDENTITY) as writer:
        for record in files:
            writer.commit(record)
    with Store(path) as store:
        assert (len(store), store.files) == (0, files)
        assert store.file_means()[0].shape == (0, 3)
        assert list(store.iter_blocks()) == []
        assert export_npy(store, tmp_path / "npy") == []
        assert np.load(export_npz(store, tmp_path / "s.npz"))["values"].shape == (0, 3)
    merge_stores([path, path], tmp_path / "m.h5")
    assert paths_in(tmp_path / "m.h5") == [record.path for record in files]
    with StoreWriter(path, IDENTITY) as writer:
        add(writer, "good.wav", rows(2))
    with Store(path) as store:
        assert len(store) == 2


def test_float16_is_kept_as_such_and_read_as_float32(tmp_path):
    half = replace(IDENTITY, dtype="float16")
    with StoreWriter(tmp_path / "s.h5", half) as writer:
        add(writer, "a", rows(5))
        writer.begin("b")
        with pytest.raises(StoreError, match="b: rows do not fit float16"):
            writer.append(np.full((1, 3), 7e4), [0], [1])
    with Store(tmp_path / "s.h5") as store:
        assert store.values.dtype == np.float16
        values = store.rows_of("a").values
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, rows(5).values.astype(np.float16))


@pytest.mark.parametrize(
    ("values", "start", "end", "message"),
    [
        (np.zeros((2, 4)), [0, 1], [1, 2], r"must be \(n, 3\)"),
        (np.zeros(3), [0], [1], r"must be \(n, 3\)"),
        (np.full((1, 3), np.nan), [0], [1], "NaN"),
        (np.full((1, 3), -np.inf), [0], [1], "infinity"),
        (np.full((1, 3), 1e300), [0], [1], "do not fit float32"),
        (np.zeros((1, 3), complex), [0], [1], "real"),
        (np.zeros((2, 3)), [0], [1, 2], "shape"),
        (np.zeros((2, 3)), [0, 1], [[1], [2]], "shape"),
        (np.zeros((1, 3)), [np.nan], [1], "finite"),
        (np.zeros((1, 3)), [2], [1], "before it starts"),
    ],
)
def test_bad_rows_are_refused_by_name_and_leave_no_trace(tmp_path, values, start, end, message):
    with StoreWriter(tmp_path / "s.h5", IDENTITY) as writer:
        writer.begin("odd.wav")
        writer.append(np.ones((1, 3)), [0], [1])
        with pytest.raises(StoreError, match="odd.wav: .*" + message):
            writer.append(values, start, end)
        writer.append(np.ones((1, 3)), [1], [2])
        writer.commit(FileRecord("odd.wav", "ok"))
    with Store(tmp_path / "s.h5") as store:
        np.testing.assert_array_equal(store.rows_of("odd.wav").start, [0, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"duration": float("nan")},
        {"duration": -1.0},
        {"sample_rate": 2**31},
        {"channels": -1},
        {"bytes": 2**63},
        {"status": ""},
        {"status": "failed"},
    ],
)
def test_bad_records_are_refused_and_the_file_stays_open(tmp_path, change):
    with StoreWriter(tmp_path / "s.h5", IDENTITY) as writer:
        writer.begin("a.wav")
        writer.append(np.ones((1, 3)), [0], [1])
        with pytest.raises(StoreError, match=r"a\.wav"):
            writer.commit(replace(FileRecord("a.wav", "ok"), **change))
        writer.commit(FileRecord("a.wav", "ok"))
    assert paths_in(tmp_path / "s.h5") == ["a.wav"]


def test_the_order_of_calls_is_checked(tmp_path):
    writer = StoreWriter(tmp_path / "s.h5", IDENTITY)
    with pytest.raises(StoreError, match="begin"):
        writer.append(np.ones((1, 3)), [0], [1])
    writer.begin("a")
    with pytest.raises(StoreError, match="a is open"):
        writer.begin("b")
    with pytest.raises(StoreError, match="a is open"):
        writer.commit(FileRecord("b", "ok"))
    with pytest.raises(StoreError, match="a is open"):
        writer.flush()
    writer.commit(FileRecord("a", "ok"))
    with pytest.raises(StoreError, match="already"):
        writer.begin("a")
    with pytest.raises(StoreError, match="already"):
        writer.commit(FileRecord("a", "failed"))
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        writer.begin("b")


def test_rolled_back_rows_are_gone_also_those_on_disk(tmp_path):
    dim = 2**16  # 16 rows fill the buffer
    identity = replace(IDENTITY, dim=dim)
    with StoreWriter(tmp_path / "s.h5", identity) as writer:
        add(writer, "one", rows(10, 1, dim))
        writer.begin("half")
        for _ in range(4):
            writer.append(np.ones((9, dim)), np.zeros(9), np.ones(9))
        writer.rollback()
        writer.commit(FileRecord("half", "failed", "broken"))
        writer.rollback()
        add(writer, "two", rows(20, 2, dim))
    with Store(tmp_path / "s.h5") as store:
        assert [record.rows for record in store.files] == [10, 0, 20]
        assert len(store) == 30
        np.testing.assert_array_equal(store.rows_of("one").values, rows(10, 1, dim).values)
        np.testing.assert_array_equal(store.rows_of("two").values, rows(20, 2, dim).values)
        np.testing.assert_array_equal(store.file[:], [0] * 10 + [2] * 20)


def test_an_exception_keeps_what_was_committed_and_drops_the_open_file(tmp_path):
    path = tmp_path / "s.h5"

    def session() -> None:
        with StoreWriter(path, IDENTITY) as writer:
            add(writer, "whole", rows(3))
            writer.begin("half")
            writer.append(np.ones((2, 3)), [0, 1], [1, 2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session()
    assert paths_in(path) == ["whole"]
    with Store(path) as store:
        assert len(store) == 3
    assert left_beside(path) == []


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_interrupt_while_rows_go_to_disk_loses_none_that_were_committed(
    tmp_path, monkeypatch, call
):
    resize, calls = h5py.Dataset.resize, []

    def interrupted(self: h5py.Dataset, size: int, axis: int | None = None) -> None:
        calls.append(self.name)
        if len(calls) == call:
            raise KeyboardInterrupt
        resize(self, size, axis)

    dim = 2**16  # 16 rows fill the buffer

    def session() -> None:
        with StoreWriter(tmp_path / "s.h5", replace(IDENTITY, dim=dim)) as writer:
            add(writer, "whole", rows(10, 1, dim))
            writer.begin("half")
            monkeypatch.setattr(h5py.Dataset, "resize", interrupted)
            writer.append(*vars(rows(10, 2, dim)).values())

    with pytest.raises(KeyboardInterrupt):
        session()
    with Store(tmp_path / "s.h5") as store:
        assert [record.path for record in store.files] == ["whole"]
        np.testing.assert_array_equal(store.values[:], rows(10, 1, dim).values)


def test_appending_in_many_sessions_equals_one_session(tmp_path):
    files = {f"{n}.wav": rows(n % 4, n) for n in range(12)}
    whole = make(tmp_path / "whole.h5", files)
    path = tmp_path / "s.h5"
    for name, embedding in files.items():
        make(path, {name: embedding}, commit_rows=1)
    with Store(whole) as one, Store(path) as many:
        assert one.files == many.files
        for name in ("values", "start", "end", "file"):
            np.testing.assert_array_equal(getattr(one, name)[:], getattr(many, name)[:])


def test_metadata_and_date_of_the_first_session_are_kept(tmp_path):
    path = make(tmp_path / "s.h5", {"a": rows(1)}, metadata={"first": 1, "both": 1})
    with Store(path) as store:
        created = store.created
    make(path, {"b": rows(1)}, metadata={"both": 2})
    with Store(path) as store:
        assert store.metadata == {"first": 1, "both": 2}
        assert store.created == created


def test_reopening_without_news_does_not_touch_the_file(tmp_path):
    path = make(tmp_path / "s.h5", {"a": rows(1)})
    before = path.stat()
    with StoreWriter(path, IDENTITY):
        pass
    after = path.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "yamnet"}, "model: 'coala_ae_c', 'yamnet'"),
        ({"weights_sha256": ""}, "weights_sha256"),
        ({"front_end": {"hop": 256, "bands": [0.5, 1.5], "fmax": None}}, "front_end.hop: 512, 256"),
        ({"front_end": {"hop": 512, "bands": [0.5, 1.5]}}, "front_end.fmax: None, 'absent'"),
        ({"resampler": {}}, "resampler.name"),
        ({"layer": "conv1"}, "layer"),
        ({"pooling": "mean"}, "pooling"),
        ({"dim": 4}, "dim: 3, 4"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_another_identity_is_refused_by_setting(tmp_path, change, named):
    path = make(tmp_path / "s.h5", {"a": rows(1)})
    before = path.read_bytes()
    other = replace(IDENTITY, **change)
    with pytest.raises(StoreMismatchError, match=named):
        StoreWriter(path, other)
    make(tmp_path / "o.h5", {}, identity=other)
    with pytest.raises(StoreMismatchError, match=named):
        merge_stores([tmp_path / "o.h5", path], tmp_path / "m.h5")
    assert path.read_bytes() == before
    assert not (tmp_path / "m.h5").exists()
    make(path, {"b": rows(1)})  # the lock was given back


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 0},
        {"dim": 2.5},
        {"dtype": "float64"},
        {"front_end": {"window": object()}},
        {"front_end": {"fmax": float("inf")}},
        {"model": "nul\0"},
    ],
)
def test_identities_that_cannot_be_stored_are_refused(change):
    with pytest.raises(StoreError):
        replace(IDENTITY, **change)


def test_an_identity_of_numpy_values_equals_the_one_read_back(tmp_path):
    front_end = {"hop": np.int64(512), "mean": np.float32(0.1), "bands": np.arange(2)}
    identity = replace(IDENTITY, front_end=front_end, dim=np.int64(3))
    make(tmp_path / "s.h5", {"a": rows(1)}, identity=identity)
    with Store(tmp_path / "s.h5") as store:
        assert store.identity == identity
        assert store.identity.front_end["bands"] == [0, 1]


def test_files_that_are_no_store_are_refused_and_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("dear diary")
    foreign = tmp_path / "other.h5"
    with h5py.File(foreign, "w") as f:
        f["values"] = np.zeros((2, 3))
    good = make(tmp_path / "s.h5", {"a": rows(200)})
    future, cut, hollow, bare = (tmp_path / f"{n}.h5" for n in ("future", "cut", "hollow", "bare"))
    for copy in (future, hollow, bare):
        copy.write_bytes(good.read_bytes())
    with h5py.File(future, "a") as f:
        f.attrs["format_version"] = 2
    with h5py.File(hollow, "a") as f:
        del f["files/rows"]
    with h5py.File(bare, "a") as f:
        del f.attrs["front_end"]
    cut.write_bytes(good.read_bytes()[:-2000])
    (tmp_path / "empty.h5").touch()
    for path in (text, foreign, future, cut, hollow, bare, tmp_path / "empty.h5"):
        before = path.read_bytes()
        for attempt in (
            lambda path=path: Store(path),
            lambda path=path: StoreWriter(path, IDENTITY),
            lambda path=path: merge_stores([path], tmp_path / "m.h5"),
            lambda path=path: merge_stores([good], path, overwrite=True),
        ):
            with pytest.raises(StoreFormatError, match=path.name):
                attempt()
        assert path.read_bytes() == before
    with pytest.raises(StoreFormatError, match="upgrade"):
        Store(future)
    for absent in (tmp_path / "no.h5", tmp_path):
        with pytest.raises(StoreError, match="cannot be opened"):
            Store(absent)
    with pytest.raises(StoreError):
        StoreWriter(tmp_path, IDENTITY)


def test_a_second_writer_is_locked_out_and_readers_are_not(tmp_path):
    path = make(tmp_path / "s.h5", {"a": rows(2)})
    link = tmp_path / "link.h5"
    link.symlink_to(path)
    code = (
        "import sys\n"
        "from coala_latent.errors import StoreLockedError\n"
        "from coala_latent.store import Store, recover_store\n"
        "assert len(Store(sys.argv[1])) == 2\n"
        "try: recover_store(sys.argv[1])\n"
        "except StoreLockedError as error: print(error)\n"
    )
    root = str(Path(coala_latent.store.__file__).parents[2])
    with StoreWriter(path, IDENTITY) as writer, Store(path) as reader:
        add(writer, "b", rows(3))
        writer.flush()
        with pytest.raises(StoreLockedError, match=r"s\.h5: another process"):
            StoreWriter(link, IDENTITY)
        with pytest.raises(StoreLockedError):
            merge_stores([make(tmp_path / "o.h5", {})], path, overwrite=True)
        environment = {**os.environ, "PYTHONPATH": root}
        other = subprocess.run(
            [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True
        )
        assert "another process" in other.stdout, other.stderr
        writer.close()
        # The reader goes on with the file it opened.
        assert len(reader) == 2
        np.testing.assert_array_equal(reader.rows_of("a").values, rows(2).values)
    make(link, {"c": rows(1)})
    assert link.is_symlink()
    assert paths_in(path) == ["a", "b", "c"]


def test_failed_files_can_be_forgotten_and_tried_again(tmp_path):
    path = tmp_path / "s.h5"
    with StoreWriter(path, IDENTITY) as writer:
        add(writer, "good", rows(1))
        for name in ("x", "y", "z"):
            writer.commit(FileRecord(name, "failed", "first"))
    with StoreWriter(path, IDENTITY) as writer:
        for names in (["x", "good"], ["x", "unknown"]):
            with pytest.raises(StoreError):
                writer.forget(names)
        assert "x" in writer.done
        writer.forget(["x", "y", "z"])
        assert list(writer.done) == ["good"]
        add(writer, "x", rows(2))
        writer.commit(FileRecord("y", "failed", "second"))
        writer.forget(["y"])
        writer.commit(FileRecord("y", "failed", "third"))
    with Store(path) as store:
        found = [(r.path, r.status, r.error, r.first_row, r.rows) for r in store.files]
        assert found == [
            ("good", "ok", "", 0, 1),
            ("x", "ok", "", 1, 2),
            ("y", "failed", "third", 3, 0),
        ]
        assert len(store) == 3


def test_a_file_that_failed_and_then_succeeded_in_one_session_is_kept_once(tmp_path):
    with StoreWriter(tmp_path / "s.h5", IDENTITY) as writer:
        writer.commit(FileRecord("x", "failed", "first"))
        writer.forget(["x"])
        add(writer, "x", rows(2))
    with Store(tmp_path / "s.h5") as store:
        assert [(r.status, r.first_row, r.rows) for r in store.files] == [("ok", 0, 2)]
        np.testing.assert_array_equal(store.file[:], [0, 0])


def leave_parts(path: Path, names: list[str], first: int = 1) -> None:
    """Complete parts as a killed run leaves them: a part is a store under another name."""
    folder = path.with_name(path.name + ".parts")
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names, first):
        part = make(path.with_name("part.h5"), {name: rows(2, int(name))})
        part.replace(folder / f"{number:06d}.h5")


def assert_complete(path: Path, names: list[str]) -> None:
    with Store(path) as store:
        assert [record.path for record in store.files] == names
        assert len(store) == 2 * len(names)
        for name in names:
            np.testing.assert_array_equal(store.rows_of(name).values, rows(2, int(name)).values)
    assert left_beside(path) == ["part.h5.lock"]


def test_killed_before_the_first_merge(tmp_path):
    path = tmp_path / "s.h5"
    leave_parts(path, ["1", "2"])
    folder = tmp_path / "s.h5.parts"
    (folder / "000003.h5.tmp").write_bytes(b"half a part")
    (folder / "merged.tmp").write_bytes(b"half a merge")
    with pytest.raises(StoreError, match="recover_store"):
        Store(path)
    with pytest.raises(StoreError, match="recover_store"):
        merge_stores([path], tmp_path / "m.h5")
    with StoreWriter(path, IDENTITY) as writer:
        assert sorted(entry.name for entry in folder.iterdir()) == ["000001.h5", "000002.h5"]
        assert list(writer.done) == ["1", "2"]
        add(writer, "3", rows(2, 3))
    assert_complete(path, ["1", "2", "3"])


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_killed_after_the_merge_before_all_parts_were_removed(tmp_path, removed):
    path = tmp_path / "s.h5"
    leave_parts(path, ["1", "2", "3"])
    recover_store(path)
    leave_parts(path, ["1", "2", "3"][removed:], removed + 1)
    with pytest.raises(StoreError, match="interrupted"):
        merge_stores([path], tmp_path / "m.h5")
    with StoreWriter(path, IDENTITY) as writer:
        assert sorted(writer.done) == ["1", "2", "3"]
        add(writer, "4", rows(2, 4))
    assert_complete(path, ["1", "2", "3", "4"])


def test_parts_of_another_model_and_damaged_parts_are_named(tmp_path):
    path = tmp_path / "s.h5"
    leave_parts(path, ["1"])
    with pytest.raises(StoreMismatchError, match=r"000001\.h5"):
        StoreWriter(path, replace(IDENTITY, model="other"))
    part = tmp_path / "s.h5.parts" / "000001.h5"
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.raises(StoreFormatError, match=r"000001\.h5"):
        StoreWriter(path, IDENTITY)
    part.unlink()
    (part.parent / "readme.txt").write_text("not ours")
    make(path, {"1": rows(2, 1)})
    assert left_beside(path) == ["part.h5.lock", "s.h5.parts"]
    assert [entry.name for entry in part.parent.iterdir()] == ["readme.txt"]


def test_a_merge_that_fails_leaves_store_and_parts_for_the_next(tmp_path, monkeypatch):
    path = make(tmp_path / "s.h5", {"1": rows(2, 1)})
    replace_file = Path.replace

    def full(self: Path, target: Path) -> Path:
        if self.name == "merged.tmp":
            raise OSError(28, "No space left on device")
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        make(path, {"2": rows(2, 2)})
    monkeypatch.undo()
    assert paths_in(path) == ["1"]
    recover_store(path)
    assert paths_in(path) == ["1", "2"]
    assert left_beside(path) == []


def test_commit_rows_and_seconds_put_files_on_disk(tmp_path):
    folder = tmp_path / "s.h5.parts"
    with StoreWriter(tmp_path / "s.h5", IDENTITY, commit_rows=5) as writer:
        add(writer, "a", rows(4))
        assert not list(folder.glob("*.h5"))
        add(writer, "b", rows(4))
        assert len(list(folder.glob("*.h5"))) == 1
    with StoreWriter(tmp_path / "s.h5", IDENTITY, commit_seconds=0.0) as writer:
        writer.commit(FileRecord("c", "failed"))
        assert len(list(folder.glob("*.h5"))) == 1
    assert paths_in(tmp_path / "s.h5") == ["a", "b", "c"]


def test_shards_merge_and_each_path_is_kept_once(tmp_path):
    with StoreWriter(tmp_path / "1.h5", IDENTITY, metadata={"shard": 1}) as writer:
        add(writer, "both", rows(3, 1))
        writer.commit(FileRecord("late", "failed", "timeout"))
        add(writer, "cut", rows(1, 2), status="truncated")
        writer.commit(FileRecord("never", "failed", "bad"))
    with StoreWriter(tmp_path / "2.h5", IDENTITY, metadata={"shard": 2, "more": 0}) as writer:
        add(writer, "cut", rows(2, 3))
        writer.commit(FileRecord("never", "failed", "bad"))
        near = rows(3, 1)
        near.values[:] *= 1 + 1e-6
        add(writer, "both", near)
        add(writer, "late", rows(2, 4))
    output = tmp_path / "new" / "all.h5"
    assert merge_stores([tmp_path / "1.h5", tmp_path / "2.h5"], output) == output
    with Store(output) as store:
        found = {r.path: (r.status, r.rows) for r in store.files}
        assert len(found) == len(store.files) == 4
        assert found == {
            "both": ("ok", 3),
            "late": ("ok", 2),
            "cut": ("ok", 2),
            "never": ("failed", 0),
        }
        assert len(store) == 7
        np.testing.assert_array_equal(store.rows_of("both").values, rows(3, 1).values)
        np.testing.assert_array_equal(store.rows_of("cut").values, rows(2, 3).values)
        np.testing.assert_array_equal(store.rows_of("late").values, rows(2, 4).values)
        assert store.metadata == {"shard": 1, "more": 0}
    assert left_beside(output) == []


@pytest.mark.parametrize("what", ["values", "times", "rows", "record"])
def test_shards_that_disagree_about_a_path_are_refused(tmp_path, what):
    first, other = rows(3, 1), rows(3, 1)
    about = {}
    if what == "values":
        other.values[1, 1] += 0.01
    elif what == "times":
        other.end[2] += 0.01
    elif what == "rows":
        other = rows(2, 1)
    else:
        about = {"bytes": 5}
    make(tmp_path / "1.h5", {"0": rows(2), "x": first})
    with StoreWriter(tmp_path / "2.h5", IDENTITY) as writer:
        add(writer, "x", other, **about)
    with pytest.raises(StoreError, match=r"x: in .*1\.h5 and, different, in .*2\.h5"):
        merge_stores([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "m.h5")
    assert not list(tmp_path.glob("m.h5")) + list(tmp_path.glob("m.h5.parts"))


def test_merging_overwrites_only_when_told_and_may_overwrite_an_input(tmp_path):
    one = make(tmp_path / "1.h5", {"a": rows(1)})
    two = make(tmp_path / "2.h5", {"b": rows(1)})
    with pytest.raises(StoreError, match="exists already"):
        merge_stores([one, two], one)
    merge_stores([one, two], one, overwrite=True)
    assert paths_in(one) == ["a", "b"]
    with pytest.raises(StoreError, match="at least one"):
        merge_stores([], tmp_path / "m.h5")


def test_blocks_cover_all_rows_in_order(tmp_path):
    files = {str(n): rows(n, n) for n in range(5)}
    with Store(make(tmp_path / "s.h5", files)) as store:
        blocks = list(store.iter_blocks(4))
        assert [len(block.values) for block in blocks] == [4, 4, 2]
        for name in ("values", "start", "end", "file"):
            joined = np.concatenate([getattr(block, name) for block in blocks])
            np.testing.assert_array_equal(joined, getattr(store, name)[:])
        assert len(list(store.iter_blocks())) == 1
        with pytest.raises(StoreError):
            list(store.iter_blocks(0))


def test_file_means_equal_each_embeddings_own_mean(tmp_path, monkeypatch):
    monkeypatch.setattr("coala_latent.store.reader.block_rows", lambda *_: 3)
    files = {str(n): rows(n, n) for n in (4, 1, 7, 2)}
    last = files["7"]
    files["7"] = Embedding(last.values, last.start, np.append(last.end[:-1], last.start[-1] + 0.1))
    files["no time"] = Embedding(last.values[:2], np.zeros(2), np.zeros(2))
    path = make(tmp_path / "s.h5", files)
    with StoreWriter(path, IDENTITY) as writer:
        writer.commit(FileRecord("failed", "failed"))
        add(writer, "end", rows(2, 9))
    files["end"] = rows(2, 9)
    with Store(path) as store:
        means, records = store.file_means()
    assert [record.path for record in records] == list(files)
    assert means.dtype == np.float32
    expected = np.stack([embedding.mean() for embedding in files.values()])
    np.testing.assert_allclose(means, expected, rtol=1e-6, atol=1e-7)


def test_a_store_pickles_as_its_path_and_unknown_files_are_errors(tmp_path):
    with Store(make(tmp_path / "s.h5", {"a": rows(2)})) as store:
        with pickle.loads(pickle.dumps(store)) as again:
            np.testing.assert_array_equal(again.rows_of(0).values, rows(2).values)
        for unknown in ("b", 1, -1):
            with pytest.raises(StoreError, match="no file"):
                store.rows_of(unknown)


def test_export_npy_keeps_the_folders_and_every_sound_its_own_file(tmp_path):
    names = ["a.wav", "a.flac", "x/ü.wav", *ODD_NAMES[:7]]
    path = make(tmp_path / "s.h5", {name: rows(2, n) for n, name in enumerate(names)})
    with Store(path) as store:
        written = export_npy(store, tmp_path / "npy")
        assert written == [tmp_path / "npy" / f"{name}.npy" for name in names]
        for number, file in enumerate(written):
            array = np.load(file, allow_pickle=False)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, rows(2, number).values)
        with pytest.raises(StoreError, match=r"a\.flac and a\.wav"):
            export_npy(store, tmp_path / "stems", keep_suffix=False)
        assert not (tmp_path / "stems").exists()
    with Store(make(tmp_path / "t.h5", {"x/ü.wav": rows(1)})) as store:
        assert export_npy(store, tmp_path / "t", keep_suffix=False) == [tmp_path / "t/x/ü.npy"]


@pytest.mark.parametrize("name", ["../out.wav", "/abs.wav", "a/../../out.wav", "..", "link/x.wav"])
def test_export_npy_never_leaves_its_folder(tmp_path, name):
    folder = tmp_path / "npy"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    path = make(tmp_path / "s.h5", {"good.wav": rows(1), name: rows(1)})
    with Store(path) as store, pytest.raises(StoreError, match="outside"):
        export_npy(store, folder)
    assert [entry.name for entry in folder.iterdir()] == ["link"]
    assert not list((tmp_path / "elsewhere").iterdir())


def test_export_npz_holds_everything_without_pickle(tmp_path):
    names = ["a.wav", ODD_NAMES[5]]
    path = make(tmp_path / "s.h5", {n: rows(2, i) for i, n in enumerate(names)}, metadata={"k": 1})
    with Store(path) as store:
        archive = np.load(export_npz(store, tmp_path / "s.npz"), allow_pickle=False)
        for name in ("values", "start", "end", "file"):
            np.testing.assert_array_equal(archive[name], getattr(store, name)[:])
    assert archive["path"].tolist() == names
    assert archive["rows"].tolist() == [2, 2]
    header = json.loads(str(archive["header"]))
    assert (header["model"], header["metadata"]) == ("coala_ae_c", {"k": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.h5", "s.h5.lock", "s.npz"]


def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path):
    identity = replace(IDENTITY, dim=1024)
    block = np.ones((64, 1024), np.float32)
    times = np.arange(64.0)

    def peak(blocks: int) -> int:
        tracemalloc.start()
        path = tmp_path / f"{blocks}.h5"
        with StoreWriter(path, identity, commit_rows=1) as writer:
            writer.begin("long.wav")
            for _ in range(blocks):
                writer.append(block, times, times)
            writer.commit(FileRecord("long.wav", "ok"))
        with StoreWriter(path, identity) as writer:
            writer.commit(FileRecord("bad.wav", "failed"))
        with Store(path) as store:
            store.file_means()
            export_npz(store, tmp_path / "s.npz")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)
    short, long = peak(64), peak(512)  # 16 and 128 MiB of rows
    assert long < short + 2 * 2**20
