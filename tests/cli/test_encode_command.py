"""`python encode.py` and `coala-latent encode`, run as a user runs them."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
import torch

from coala_latent import Store, load_model
from coala_latent.cli import main
from coala_latent.embed.corpus import (
    FileDone,
    FileFailed,
    FileRows,
    default_workers,
    embed_files,
)
from coala_latent.errors import AudioNotFoundError, AudioValueError
from coala_latent.store import merge_stores
from coala_latent.tasks.encode import encode

MODEL = ("--model", "coala-test")
RATE = 8000

ODD_NAMES = [
    "with space.wav",
    "a,b=c.wav",
    "quo'te\"s.wav",
    "[brackets]{x}(y).wav",
    "#hash%20;&$HOME.wav",
    "-dash.wav",
    "--model.wav",
    "ünïcödé 音 🎵.wav",
    "UPPER.WAV",
    "back\\slash*.wav",
    os.fsdecode(b"undecodable-\xff\xfe.wav"),
]


def write(path, seconds=0.4, seed=0, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    # Through a handle: soundfile takes no undecodable names for writing.
    with path.open("wb") as file:
        soundfile.write(file, samples.astype(np.float32), rate, format="WAV")
    return path


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}


@pytest.fixture(scope="module")
def script(project):
    return [sys.executable, str(project / "encode.py")]


@pytest.fixture(scope="module")
def console_script():
    found = shutil.which("coala-latent", path=str(Path(sys.executable).parent))
    return [found, "encode"] if found else None


@pytest.fixture
def run(script, tmp_path):
    def run(*arguments, command=script, **options):
        line = [*command, *map(os.fspath, arguments)]
        return subprocess.run(
            line, capture_output=True, env=environment(), cwd=tmp_path, timeout=120, **options
        )

    return run


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """As `run`, in this process: a second faster."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, group=("encode",)):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*group, *map(os.fspath, arguments)], prog_name="coala-latent")
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, stop.value.code, out, err)

    return call


def rows_by_path(path):
    with Store(path) as store:
        return {record.path: store.rows_of(record.path) for record in store.files}


def assert_same_rows(found, wanted):
    assert found.keys() == wanted.keys()
    for name, embedding in wanted.items():
        scale = max(float(np.abs(embedding.values).max(initial=0)), 1e-12)
        np.testing.assert_allclose(
            found[name].values / scale, embedding.values / scale, atol=1e-5, rtol=0, err_msg=name
        )
        np.testing.assert_array_equal(found[name].start, embedding.start)
        np.testing.assert_array_equal(found[name].end, embedding.end)


def test_a_folder_of_odd_names_and_odd_files(run, console_script, tmp_path):
    folder = tmp_path / "my sounds, all=of 'them'"
    good = [f"deep/er {number}/{name}" for number, name in enumerate(ODD_NAMES)]
    for seed, name in enumerate(good):
        write(folder / name, seed=seed)
    (folder / "text.wav").write_text("this is no sound")
    (folder / "zero.flac").touch()
    (folder / "notes.txt").write_text("not even called a sound")
    (folder / "folder.wav").mkdir()
    write(folder / "folder.wav" / "inside.ogg.wav")
    whole = write(folder / "cut.wav", 5.0).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "nowhere.wav").symlink_to(folder / "missing.wav")
    write(folder / "locked.wav").chmod(0)
    output = folder / "inside the input.h5"
    done = run(folder, "--output", output, *MODEL, "--json")
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    bad = {"cut.wav", "nowhere.wav", "text.wav", "zero.flac"}
    if not os.access(folder / "locked.wav", os.R_OK):  # root reads everything
        bad.add("locked.wav")
    good = [*good, "folder.wav/inside.ogg.wav", *({"locked.wav"} - bad)]
    assert {entry["path"]: entry["kind"] for entry in summary["skipped"]} == {
        name: {
            "cut.wav": "AudioTruncatedError",
            "locked.wav": "AudioNotFoundError",
            "nowhere.wav": "AudioNotFoundError",
            "text.wav": "AudioDecodeError",
            "zero.flac": "AudioEmptyError",
        }[name]
        for name in bad
    }
    assert all(entry["error"] for entry in summary["skipped"])
    assert summary["encoded"] == summary["rows"] == len(good)
    assert summary["files"] == len(good) + len(bad)
    for name in bad:
        assert f"skipped {name}: ".encode() in done.stderr
    rows = rows_by_path(output)
    assert set(rows) == {*good, *bad}
    embedder = load_model("coala-test")
    assert_same_rows(rows, rows | {name: embedder.file(folder / name) for name in good})

    # Again: nothing new, the failures are remembered. Then each way of trying them again.
    again = run(folder, "--output", output, *MODEL, "--json", command=console_script)
    assert again.returncode == 1
    repeated = json.loads(again.stdout)
    assert (repeated["encoded"], repeated["already_done"]) == (0, summary["files"])
    assert repeated["skipped"] == summary["skipped"]
    assert b"--retry-failed" in again.stderr
    write(folder / "text.wav")
    retried = run(
        folder, "--output", output, *MODEL, "--json", "--retry-failed", "--keep-truncated"
    )
    assert retried.returncode == 1
    assert json.loads(retried.stdout)["encoded"] == 2
    with Store(output) as store:
        records = {record.path: record for record in store.files}
    assert len(records) == summary["files"]
    assert (records["cut.wav"].status, records["cut.wav"].rows) == ("truncated", 2)
    assert records["cut.wav"].duration == pytest.approx(2.5, abs=0.01)
    assert records["text.wav"].status == "ok"


def test_names_on_the_command_line(run, console_script, tmp_path):
    for name in ODD_NAMES:
        write(tmp_path / name)
    done = run("--output", "o=u,t.h5", *MODEL, "--", *ODD_NAMES, command=console_script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b""
    assert set(rows_by_path(tmp_path / "o=u,t.h5")) == set(ODD_NAMES)


def test_one_file_has_one_name(call, tmp_path):
    write(tmp_path / "a/x.wav")
    write(tmp_path / "b/x.wav", seed=1)
    inputs = ["a", "a/../a/x.wav", "./b", tmp_path / "b" / "x.wav"]
    assert call(*inputs, "--output", "s.h5", *MODEL).returncode == 0
    assert set(rows_by_path(tmp_path / "s.h5")) == {"a/x.wav", "b/x.wav"}


def test_the_store_is_read_with_h5py_alone(call, tmp_path):
    write(tmp_path / "x.wav", 5.0)
    assert call("x.wav", "--output", "s.h5", *MODEL).returncode == 0
    with h5py.File(tmp_path / "s.h5") as file:
        assert file.attrs["model"] == "coala-test"
        assert file["values"].shape == (3, 36)
        assert file["files/path"].asstr()[0] == "x.wav"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sounds", "--output", "s.h5"], "--model"),
        (["sounds", *MODEL], "--output"),
        (["--output", "s.h5", *MODEL], "INPUTS"),
        (["missing", "--output", "s.h5", *MODEL], "missing: no such file"),
        (["empty", "--output", "s.h5", *MODEL], "no sound files"),
        (["sounds", "--output", "s.h5", "--model", "coala-tset"], "did you mean coala-test"),
        (["sounds", "--output", "s.h5", *MODEL, "--layer", "nope"], "conv1"),
        (["sounds", "--output", "s.h5", *MODEL, "--pooling", "nope"], "flatten"),
        (["sounds", "--output", "s.h5", *MODEL, "--device", "nope"], "nope"),
        (["sounds", "--output", "s.h5", *MODEL, "--shard", "2/2"], "shard"),
        (["sounds", "--output", "s.h5", *MODEL, "--shard", "half"], "i/n"),
        (["sounds", "--output", "sounds", *MODEL], "sounds"),
        (["sounds", "--output", "sounds/x.wav", *MODEL], "not an HDF5 file"),
        (["sounds", "--output", "sounds/x.wav/s.h5", *MODEL], "x.wav"),
        (["sounds", "--output", "s.h5", *MODEL, "--bach-size", "3"], "--batch-size"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_run_says_why_and_exits_2(arguments, message, tmp_path, call):
    write(tmp_path / "sounds/x.wav")
    (tmp_path / "empty").mkdir()
    before = (tmp_path / "sounds/x.wav").read_bytes()
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s.h5").exists()
    assert (tmp_path / "sounds/x.wav").read_bytes() == before


def test_another_model_is_refused_and_the_store_is_untouched(call, tmp_path):
    write(tmp_path / "sounds/x.wav")
    output = tmp_path / "new/folder/s.h5"
    assert call("sounds", "--output", output, *MODEL).returncode == 0
    before = output.read_bytes()
    write(tmp_path / "sounds/y.wav")
    for other in (
        ["--model", "coala-legacy-test"],
        [*MODEL, "--layer", "conv5"],
        [*MODEL, "--dtype", "float16"],
    ):
        done = call("sounds", "--output", output, *other)
        assert done.returncode == 2
        assert "other settings" in done.stderr
        assert output.read_bytes() == before


def test_resuming_adds_only_new_files_and_reports_changed_ones(call, tmp_path):
    write(tmp_path / "sounds/a.wav")
    write(tmp_path / "sounds/b.wav", seed=1)
    (tmp_path / "sounds/c.wav").symlink_to("nowhere")
    assert call("sounds", "--output", "s.h5", *MODEL).returncode == 1
    first = rows_by_path(tmp_path / "s.h5")
    write(tmp_path / "sounds/a.wav", 3.0)
    write(tmp_path / "sounds/0 new.wav", seed=2)
    done = call("sounds", "--output", "s.h5", *MODEL, "--json")
    summary = json.loads(done.stdout)
    assert (summary["encoded"], summary["already_done"]) == (1, 3)
    assert summary["changed"] == ["a.wav"]
    assert "changed since it was embedded" in done.stderr
    second = rows_by_path(tmp_path / "s.h5")
    assert set(second) == {*first, "0 new.wav"}
    assert_same_rows({name: second[name] for name in first}, first)


def test_shards_merged_equal_one_run(call, tmp_path):
    for number in range(7):
        write(tmp_path / f"sounds/{number}.wav", 0.3 + number, seed=number)
    assert call("sounds", "--output", "all.h5", *MODEL).returncode == 0
    shards = [tmp_path / f"{index}.h5" for index in range(2)]
    for index, shard in enumerate(shards):
        assert call("sounds", "--output", shard, *MODEL, "--shard", f"{index}/2").returncode == 0
    merge = ("store", "merge")
    assert call(tmp_path / "merged.h5", *shards, group=merge).returncode == 0
    assert_same_rows(rows_by_path(tmp_path / "merged.h5"), rows_by_path(tmp_path / "all.h5"))
    shutil.rmtree(tmp_path / "sounds")
    write(tmp_path / "sounds/only.wav")
    assert call("sounds", "--output", "none.h5", *MODEL, "--shard", "1/2").returncode == 0
    assert rows_by_path(tmp_path / "none.h5") == {}
    merge_stores([tmp_path / "all.h5", tmp_path / "none.h5"], tmp_path / "both.h5")


def test_half_precision_rows_are_close(call, tmp_path):
    write(tmp_path / "x.wav", 5.0)
    assert call("x.wav", "--output", "s.h5", *MODEL, "--dtype", "float16").returncode == 0
    with Store(tmp_path / "s.h5") as store:
        assert store.values.dtype == np.float16
        found = store.rows_of("x.wav").values
    wanted = load_model("coala-test").file(tmp_path / "x.wav").values
    np.testing.assert_allclose(found, wanted, atol=1e-3 * np.abs(wanted).max())


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """300 short sounds, some bad ones among them, and the rows of a run nobody disturbed."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(300):
        path = write(folder / f"{number % 10}/{number:03d}.wav", 0.05 + number % 40 / 10, number)
        if number % 50 == 7:
            path.write_bytes(b"RIFF")
    from coala_latent.tasks.encode import encode

    store = folder / "undisturbed.h5"
    summary = encode([folder], store, load_model("coala-test"), quiet=True)
    assert (summary.encoded, len(summary.skipped)) == (294, 6)
    return folder, rows_by_path(store)


def started(script, folder, output):
    command = [*script, folder, "--output", output, *MODEL, "--batch-size", "2"]
    process = subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    parts = Path(f"{output}.parts")
    deadline = time.monotonic() + 60
    while not parts.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def test_control_c_leaves_a_store_that_can_be_resumed(script, call, many, tmp_path):
    folder, wanted = many
    output = tmp_path / "s.h5"
    process = started(script, folder, output)
    time.sleep(0.15)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 130, message
    assert b"interrupted" in message
    assert b"Traceback" not in message
    with Store(output) as store:
        held = {record.path for record in store.files}
    assert 0 < len(held) < len(wanted)
    done = call(folder, "--output", output, *MODEL, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["already_done"] == len(held)
    assert_same_rows(rows_by_path(output), wanted)


def test_a_second_writer_is_refused(script, call, many, tmp_path):
    folder, _ = many
    output = tmp_path / "s.h5"
    first = started(script, folder, output)
    first.send_signal(signal.SIGSTOP)
    try:
        second = call(folder, "--output", output, *MODEL)
    finally:
        first.send_signal(signal.SIGCONT)
        first.communicate(timeout=60)
    assert first.returncode == 1
    assert second.returncode == 2
    assert "s.h5" in second.stderr


def test_kill_at_random_moments_loses_and_doubles_nothing(script, call, many, tmp_path):
    folder, wanted = many
    output = tmp_path / "s.h5"
    moments = random.Random(0)
    killed = 0
    for _ in range(4):
        process = started(script, folder, output)
        time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 2
    done = call(folder, "--output", output, *MODEL, "--json")
    assert done.returncode == 1
    with Store(output) as store:
        paths = [record.path for record in store.files]
        assert len(store) == sum(len(embedding) for embedding in wanted.values())
    assert len(paths) == len(set(paths)) == 300
    assert_same_rows(rows_by_path(output), wanted)
    assert not Path(f"{output}.parts").exists()


def test_a_file_that_goes_away_while_it_is_read_is_a_typed_error(tmp_path):
    path = write(tmp_path / "x.wav", 60.0)
    blocks = load_model("coala-test").file_blocks(path)
    next(blocks)
    path.unlink()
    with pytest.raises(AudioNotFoundError, match=r"x\.wav"):
        list(blocks)


def working_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("embed-")]


def test_events_come_in_order_and_threads_end(tmp_path):
    paths = [write(tmp_path / f"{n}.wav", 0.3 + n, n) for n in range(5)]
    (tmp_path / "3.wav").write_text("bad")
    for workers in (1, 2, 7):
        events = list(embed_files(load_model("coala-test"), paths, workers=workers))
        assert [event.index for event in events] == sorted(event.index for event in events)
        ends = [event for event in events if not isinstance(event, FileRows)]
        assert [type(end) for end in ends] == [FileDone] * 3 + [FileFailed, FileDone]
        assert not working_threads()
    assert list(embed_files(load_model("coala-test"), [])) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_abandoned_iterator_leaves_no_threads(tmp_path, workers):
    paths = [write(tmp_path / f"{n}.wav", 60.0, n) for n in range(4)]
    events = embed_files(load_model("coala-test", batch_size=4), paths, workers=workers)
    next(events)
    assert working_threads()
    events.close()
    assert not working_threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_network_ends_the_threads(tmp_path, monkeypatch, workers):
    paths = [write(tmp_path / f"{n}.wav", 60.0, n) for n in range(4)]
    embedder = load_model("coala-test", batch_size=4)

    def fail(patches):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(embedder.hearing, "embed", fail)
    with pytest.raises(RuntimeError, match="out of memory") as kept:
        list(embed_files(embedder, paths, workers=workers))
    assert not working_threads()
    assert kept.traceback  # held, and with it the frames the threads could have hung on


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_thread_reaches_the_reader(tmp_path, monkeypatch, workers):
    paths = [write(tmp_path / f"{n}.wav", 2.0, n) for n in range(4)]
    embedder = load_model("coala-test")
    whole = embedder.file_blocks

    def some(path):
        if path.name == "2.wav":
            raise MemoryError("decoding")
        return whole(path)

    monkeypatch.setattr(embedder, "file_blocks", some)
    with pytest.raises(MemoryError, match="decoding"):
        list(embed_files(embedder, paths, workers=workers))
    assert not working_threads()


def test_rows_do_not_depend_on_threads_or_on_other_files(tmp_path):
    seconds = [20.0, 0.3, 7.0, 1.0, 3.0, 40.0, 0.5]
    paths = [write(tmp_path / f"{n}.wav", length, n) for n, length in enumerate(seconds)]
    embedder = load_model("coala-test", batch_size=4)
    torch.set_num_threads(2)
    try:
        assert default_workers(embedder, 9) == 2
        assert default_workers(embedder, 1) == 1
        found = collect(embed_files(embedder, paths, workers=3))
        assert torch.get_num_threads() == 2
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(1)
    for workers in (1, 2):
        again = collect(embed_files(embedder, paths, workers=workers))
        for index, rows in found.items():
            np.testing.assert_allclose(again[index], rows, rtol=1e-5, atol=1e-6)
    alone = collect(embed_files(embedder, paths[2:4], workers=2))
    np.testing.assert_array_equal(alone[0], found[2])
    np.testing.assert_array_equal(alone[1], found[3])


def collect(events):
    rows = {}
    for event in events:
        if isinstance(event, FileRows):
            rows.setdefault(event.index, []).append(event.values)
    return {index: np.concatenate(pieces) for index, pieces in rows.items()}


HELD = """
import sys
from pathlib import Path
from coala_latent import load_model
from coala_latent.embed.corpus import embed_files
paths = [Path(name) for name in sys.argv[2:]]
events = embed_files(load_model("coala-test", batch_size=4), paths, workers=int(sys.argv[1]))
next(events)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_program_ends_with_an_iterator_still_held(tmp_path, workers):
    paths = [write(tmp_path / f"{n}.wav", 60.0, n) for n in range(4)]
    command = [sys.executable, "-c", HELD, workers, *paths]
    subprocess.run(command, check=True, timeout=60, env=environment())


def test_a_very_low_sample_rate_is_framed_piece_by_piece(tmp_path):
    path = write(tmp_path / "slow.wav", 600, rate=100)  # ten minutes in 60000 samples
    largest = max(
        len(block.patches)
        for block in load_model("coala-test").file_blocks(path)
        if hasattr(block, "patches")
    )
    assert largest <= 7  # 262144 samples hold 5.3 patches
    with pytest.raises(AudioValueError):
        load_model("coala-test")(np.zeros(3), 0)


def test_equal_names_from_another_folder_are_pointed_out(tmp_path, write_sound):
    for folder in ("one", "two"):
        write_sound(f"{folder}/x.wav", seed=len(folder))
    embedder = load_model("coala-test")
    output = tmp_path / "out.h5"
    first = encode([tmp_path / "one"], output, embedder, quiet=True)
    again = encode([tmp_path / "one"], output, embedder, quiet=True)
    other = encode([tmp_path / "two"], output, embedder, quiet=True)
    assert first.other_root == again.other_root == ""
    assert other.already_done == 1
    assert other.other_root == str(tmp_path / "one")
