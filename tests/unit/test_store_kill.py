"""A run killed at any moment resumes without loss or duplicate.

Run as a script it is the victim: `main` below forks children that die at one chosen line, or
writes a corpus until somebody kills it.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

import coala_latent.store
from coala_latent.errors import AudioDecodeError
from coala_latent.store import FileRecord, Store, StoreIdentity, StoreWriter, layout

IDENTITY = StoreIdentity("m", "0", {"hop": 512}, {}, "last", "none", 8)
STORE_CODE = str(Path(coala_latent.store.__file__).parent)
H5PY_CODE = str(Path("h5py", "_hl"))
CORPUS = [f"{number:03d} é.wav" for number in range(12)]
BAD = CORPUS[2::5]


def rows_of(path: str) -> np.ndarray:
    seed = int(path[:3])
    return np.random.default_rng(seed).standard_normal((seed % 7 + 1, 8)).astype(np.float32)


def embed(store: StoreWriter, path: str) -> None:
    values = rows_of(path)
    store.begin(path)
    try:
        for number, row in enumerate(values):
            store.append(row[None], [number], [number + 1])
            if path in BAD:
                raise AudioDecodeError(path, "bad bytes")
    except AudioDecodeError as error:
        store.rollback()
        store.commit(FileRecord(path, "failed", str(error)))
    else:
        store.commit(FileRecord(path, "ok", duration=len(values)))


def run(path: Path, corpus: list[str], say=lambda word: None, **options) -> None:
    with StoreWriter(path, IDENTITY, **options) as store:
        say("open " + "|".join(store.done))
        for number, name in enumerate(corpus):
            if name not in store.done:
                embed(store, name)
            if number % 4 == 3:
                store.flush()
                say("safe " + "|".join(store.done))
    say("safe " + "|".join(corpus))


def sessions(path: Path, say=lambda word: None) -> None:
    run(path, CORPUS[:6], say, commit_rows=9)
    with StoreWriter(path, IDENTITY) as store:
        store.forget(BAD[:1])
        embed(store, BAD[0])
    run(path, CORPUS, say, commit_rows=9)


def check(path: Path, corpus: list[str]) -> None:
    assert sorted(p.name for p in path.parent.iterdir() if p.suffix != ".lock") == [path.name]
    with Store(path) as store:
        assert sorted(record.path for record in store.files) == corpus
        assert len(store) == sum(record.rows for record in store.files)
        for record in store.files:
            if record.path in BAD:
                assert (record.status, record.rows) == ("failed", 0)
                continue
            found = store.rows_of(record.path)
            np.testing.assert_array_equal(found.values, rows_of(record.path))
            np.testing.assert_array_equal(found.start, np.arange(len(found)))
            assert (record.status, record.duration) == ("ok", len(found))


def strike_at(line: int, action, deep: bool) -> list[int]:
    """Call ``action`` when that line of the store, or if deep of h5py, is about to run."""
    count = [0]

    def local(frame: FrameType, event: str, _: object):
        if event == "line":
            count[0] += 1
            if count[0] == line:
                action()
        return local

    def enter(frame: FrameType, event: str, _: object):
        code = frame.f_code.co_filename
        return local if (H5PY_CODE in code if deep else code.startswith(STORE_CODE)) else None

    sys.settrace(enter)
    return count


def interrupt() -> None:
    raise KeyboardInterrupt


def one_death(folder: Path, line: int, how: str, deep: bool) -> None:
    path = folder / f"{line}" / "s.h5"
    reader, pipe = os.pipe()
    child = os.fork()
    if child == 0:
        say = lambda word: os.write(pipe, (word + "\n").encode())  # noqa: E731
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        strike_at(line, kill if how == "kill" else interrupt, deep)
        try:
            sessions(path, say)
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0)
    os.close(pipe)
    with os.fdopen(reader, encoding="utf-8") as stream:
        words = stream.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (-signal.SIGKILL if how == "kill" else 130), f"line {line}: {status}"
    with StoreWriter(path, IDENTITY) as store:
        safe = {name for word in words if word.startswith("safe ") for name in word[5:].split("|")}
        safe.discard(BAD[0])  # it may have been forgotten when the end came
        assert safe <= store.done.keys(), f"line {line} lost {safe - store.done.keys()}"
    run(path, CORPUS)
    check(path, CORPUS)


def main() -> None:
    how, folder = sys.argv[1], Path(sys.argv[2])
    # Small buffers, so that rows reach the disk while their file is still open.
    layout.block_rows = lambda identity, size=0: 4
    if how == "corpus":
        corpus = [f"{number:03d} é.wav" for number in range(int(sys.argv[3]))]
        print("ready", flush=True)
        run(folder / "s.h5", corpus, commit_seconds=0.0)
        return
    for deep, deaths in ((False, int(sys.argv[3])), (True, int(sys.argv[4]))):
        count = strike_at(0, interrupt, deep)
        sessions(folder / f"whole {deep}" / "s.h5")
        sys.settrace(None)
        check(folder / f"whole {deep}" / "s.h5", CORPUS)
        lines = random.Random(0).sample(range(1, count[0]), deaths)
        for line in sorted(lines):
            one_death(folder / str(deep), line, how, deep)
        print(f"{deaths} of {count[0]} lines")


def start(*args: object, **options) -> subprocess.Popen:
    root = str(Path(STORE_CODE).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, __file__, *map(str, args)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_stopped_at_any_line_of_code_nothing_safe_is_lost_and_nothing_doubles(tmp_path, how):
    out, err = start(how, tmp_path, 20, 6).communicate(timeout=120)
    assert [line.split()[0] for line in out.splitlines()] == ["20", "6"], err


def test_killed_again_and_again_at_random_moments_it_finishes(tmp_path):
    dice = random.Random(1)
    deaths = 0
    for _ in range(12):
        victim = start("corpus", tmp_path, 150)
        assert victim.stdout.readline() == "ready\n", victim.stderr.read()
        time.sleep(dice.uniform(0.0, 0.25))
        victim.kill()
        deaths += victim.wait() != 0
        victim.communicate()
    assert deaths
    out, err = start("corpus", tmp_path, 150).communicate(timeout=60)
    assert out == "ready\n", err
    check(tmp_path / "s.h5", [f"{number:03d} é.wav" for number in range(150)])


if __name__ == "__main__":
    main()
