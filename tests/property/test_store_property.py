"""Any sequence of sessions, failures, retries and kills leaves what was committed, once."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.store import (
    FileRecord,
    Store,
    StoreIdentity,
    StoreWriter,
    merge_stores,
)

DIM = 2
IDENTITY = StoreIdentity("m", "", {}, {}, "l", "p", DIM)
# What os.fsdecode may return: any text, and bytes that are not UTF-8 as escapes.
NAMES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    st.binary(min_size=1, max_size=8)
    .filter(lambda name: b"\0" not in name)
    .map(lambda name: name.decode("utf-8", "surrogateescape")),
)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ok"), st.integers(0, 9), st.lists(st.integers(0, 4), max_size=4)),
        st.tuples(st.just("fail"), st.integers(0, 9), st.integers(0, 4)),
        st.tuples(st.just("forget"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["flush", "kill", "kill in file", "close"])),
    ),
    max_size=25,
)


def rows(number: int, count: int) -> np.ndarray:
    return np.random.default_rng([number, count]).standard_normal((count, DIM)).astype("f4")


class Model:
    """The store as a dictionary: what is on disk, and what only this session knows."""

    def __init__(self) -> None:
        self.disk: dict[str, tuple[str, int]] = {}
        self.known: dict[str, tuple[str, int]] = {}
        self.forgotten: set[str] = set()

    def put(self, name: str, status: str, count: int) -> None:
        self.known[name] = (status, count)
        self.forgotten.discard(name)

    def forget(self, name: str) -> None:
        del self.known[name]
        self.forgotten.add(name)

    def flush(self) -> None:
        self.disk.update(self.known)

    def kill(self) -> None:
        self.known = dict(self.disk)
        self.forgotten = set()

    def close(self) -> None:
        self.disk = dict(self.known)
        self.forgotten = set()


def begin_with(writer: StoreWriter, name: str, values: np.ndarray, sizes: list[int]) -> None:
    writer.begin(name)
    done = 0
    for size in sizes:
        times = np.arange(done, done + size)
        writer.append(values[done : done + size], times, times + 1)
        done += size


def seen(writer: StoreWriter) -> dict[str, tuple[str, int]]:
    return {name: (record.status, record.rows) for name, record in writer.done.items()}


def check(path: Path, expected: dict[str, tuple[str, int]]) -> None:
    with Store(path) as store:
        assert {r.path: (r.status, r.rows) for r in store.files} == expected
        assert len(store.files) == len(expected)
        assert len(store) == sum(count for _, count in expected.values())
        for index, record in enumerate(store.files):
            found = store.rows_of(index)
            np.testing.assert_array_equal(found.values, rows(int(record.path), record.rows))
            np.testing.assert_array_equal(found.start, np.arange(record.rows))
            span = slice(record.first_row, record.first_row + record.rows)
            assert (store.file[span] == index).all()
    assert not path.with_name(path.name + ".parts").exists()


@settings(max_examples=150, deadline=None)
@given(OPERATIONS)
def test_the_store_agrees_with_a_dictionary(operations):
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary) / "0"
        model = Model()
        writer = stack.enter_context(StoreWriter(folder / "s.h5", IDENTITY))
        for step, (word, *details) in enumerate(operations, 1):
            name = str(details[0]) if details else ""
            if word == "ok" and name not in model.known:
                values = rows(int(name), sum(details[1]))
                begin_with(writer, name, values, details[1])
                writer.commit(FileRecord(name, "ok"))
                model.put(name, "ok", len(values))
            elif word == "fail" and name not in model.known:
                begin_with(writer, name, np.ones((details[1], DIM)), [details[1]])
                writer.rollback()
                writer.commit(FileRecord(name, "failed"))
                model.put(name, "failed", 0)
            elif word == "forget" and model.known.get(name, ("",))[0] == "failed":
                writer.forget([name])
                model.forget(name)
            elif word == "flush":
                writer.flush()
                model.flush()
            elif word.startswith("kill"):
                if word == "kill in file":
                    begin_with(writer, "99", np.ones((3, DIM)), [3])
                # A copy of the folder is what a kill at this moment leaves.
                folder = shutil.copytree(folder, Path(temporary) / str(step))
                model.kill()
                writer = stack.enter_context(StoreWriter(folder / "s.h5", IDENTITY))
            elif word == "close":
                writer.close()
                model.close()
                check(folder / "s.h5", model.disk)
                writer = stack.enter_context(StoreWriter(folder / "s.h5", IDENTITY))
            assert seen(writer) == model.known
        writer.close()
        model.close()
        check(folder / "s.h5", model.disk)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(NAMES, st.lists(st.tuples(FINITE, FINITE), max_size=5), max_size=6),
    st.integers(1, 3),
)
def test_any_names_and_values_come_back_equal_through_shards(files, shards):
    with tempfile.TemporaryDirectory() as temporary:
        paths = [Path(temporary) / f"{shard}.h5" for shard in range(shards)]
        for shard, path in enumerate(paths):
            with StoreWriter(path, IDENTITY) as writer:
                for name in list(files)[shard::shards]:
                    values = np.array(files[name], np.float32).reshape(-1, DIM)
                    begin_with(writer, name, values, [len(values)])
                    writer.commit(FileRecord(name, "ok", name))
        with Store(merge_stores(paths, Path(temporary) / "all.h5")) as store:
            assert sorted(record.path for record in store.files) == sorted(files)
            for record in store.files:
                values = np.array(files[record.path], np.float32).reshape(-1, DIM)
                np.testing.assert_array_equal(store.rows_of(record.path).values, values)
                assert record.error == record.path
