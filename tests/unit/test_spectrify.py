"""Folders of sounds to folders of frames, or one store; and the reader of both."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock

from coala_latent.audio.sound_eval import PRESETS, FrameSettings
from coala_latent.data.frame_files import FrameFiles, read_frames, read_settings
from coala_latent.errors import ConfigError, DataError, StoreMismatchError
from coala_latent.store import Store
from coala_latent.tasks.sound_frames import sound_frames
from coala_latent.tasks.spectrify import spectrify

SOUND_EVAL = FrameSettings(format="sound_eval")
ODD = ["a b=c,'é.wav", 'sub/say "[red]<b>".flac', "sub/deep/$5.OGG", "UPPER.WAV", "line\nbreak.wav"]


@pytest.fixture
def sounds(tmp_path, write_sound):
    root = tmp_path / "sounds"
    for number, name in enumerate(ODD):
        write_sound(name, seconds=0.5 + 0.25 * number, rate=16000, seed=number, folder=root)
    write_sound("short.wav", seconds=0.05, rate=16000, folder=root)
    (root / "broken.mp3").write_text("no sound")
    (root / "notes.txt").write_text("no sound either")
    return root


def made(root, output, settings=SOUND_EVAL, **options):
    return spectrify([root], output, settings, quiet=True, **options)


def test_folders_become_the_same_folders(sounds, tmp_path):
    summary = made(sounds, tmp_path / "out")
    assert (summary.files, summary.made, summary.exit_status) == (7, 6, 1)
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.npy")}
    assert found == {f"{name}.npy" for name in (*ODD, "short.wav")}
    for name in ODD:
        array = np.load(tmp_path / "out" / f"{name}.npy", allow_pickle=False)
        expected = sound_frames(sounds / name, SOUND_EVAL).values
        assert array.dtype == np.float32
        assert array.shape == expected.shape
        assert np.abs(array - expected).max() < 1e-5
    assert np.load(tmp_path / "out" / "short.wav.npy").shape == (0, 64)


def test_one_worker_and_several_write_the_same_bytes(sounds, tmp_path):
    for workers in (1, 3):
        made(sounds, tmp_path / str(workers), PRESETS["small"], workers=workers)
    one, three = tmp_path / "1", tmp_path / "3"
    files = sorted(path.relative_to(one) for path in one.rglob("*.*") if path.is_file())
    assert len(files) >= 9
    for file in files:
        assert (one / file).read_bytes() == (three / file).read_bytes(), file


def test_bad_files_are_listed_with_reasons(sounds, tmp_path):
    summary = made(sounds, tmp_path / "out")
    [entry] = summary.skipped
    assert entry["path"] == "broken.mp3"
    assert entry["kind"] == "AudioDecodeError"
    with (tmp_path / "out" / "failed.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [entry]
    json.dumps(summary.to_dict())


def test_a_second_run_does_only_what_is_new_or_changed(sounds, tmp_path, write_sound):
    output = tmp_path / "out"
    made(sounds, output)
    again = made(sounds, output)
    assert (again.made, again.already_done, len(again.skipped)) == (0, 7, 1)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.npy")}
    write_sound("UPPER.WAV", seconds=2.0, rate=16000, folder=sounds)  # other length
    os.utime(sounds / "short.wav", ns=(0, 0))  # same length, touched
    write_sound("new.wav", seconds=1.0, rate=16000, folder=sounds)
    (output / f"{ODD[0]}.npy").unlink()
    (output / f"{ODD[1]}.npy").write_bytes(b"cut short")
    third = made(sounds, output)
    assert (third.made, third.already_done) == (5, 3)
    assert FrameFiles(output).lengths[FrameFiles(output).names.index("UPPER.WAV")] == 19
    assert FrameFiles(output).load()[0].shape[1] == 64
    untouched = output / f"{ODD[2]}.npy"
    assert untouched.stat().st_mtime_ns == before[untouched]


def test_failed_files_are_tried_again_when_asked_or_changed(sounds, tmp_path, write_sound):
    output = tmp_path / "out"
    made(sounds, output)
    assert made(sounds, output, retry_failed=True).already_done == 6
    shutil.copy(write_sound("ok.wav")[0], sounds / "broken.mp3")
    repaired = made(sounds, output)
    assert (repaired.made, repaired.skipped) == (1, [])
    assert not (output / "failed.csv").exists()


def test_a_sound_that_broke_since_has_no_frames(sounds, tmp_path):
    output = tmp_path / "out"
    made(sounds, output)
    (sounds / "UPPER.WAV").write_text("overwritten")
    assert {entry["path"] for entry in made(sounds, output).skipped} == {"UPPER.WAV", "broken.mp3"}
    assert "UPPER.WAV" not in FrameFiles(output).names


@pytest.mark.parametrize("name", ["out", "out.h5"])
def test_other_settings_are_refused_by_name(sounds, tmp_path, name):
    made(sounds, tmp_path / name)
    kind = StoreMismatchError if name.endswith("h5") else ConfigError
    with pytest.raises(kind, match=r"bands: 64, 80"):
        made(sounds, tmp_path / name, PRESETS["small"])
    assert FrameFiles(tmp_path / name).width == 64


def test_impossible_settings_leave_nothing_behind(sounds, tmp_path):
    with pytest.raises(ConfigError, match="12000 Hz"):
        made(sounds, tmp_path / "out", FrameSettings(sample_rate=12000))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_unknown_arrays_is_left_alone(sounds, tmp_path):
    (tmp_path / "out" / "x").mkdir(parents=True)
    np.save(tmp_path / "out" / "x" / "y.mp3.npy", np.ones((3, 64)))
    with pytest.raises(ConfigError, match=r"unknown settings, such as y\.mp3\.npy"):
        made(sounds, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*.npy")] == ["y.mp3.npy"]


def test_other_files_in_the_output_stay(sounds, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README").write_text("mine")
    made(sounds, tmp_path / "out")
    assert (tmp_path / "out" / "README").read_text() == "mine"


def test_an_output_that_is_a_file_is_refused(sounds, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        made(sounds, tmp_path / "out")


def test_a_link_out_of_the_output_is_refused(sounds, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="leads out"):
        made(sounds, tmp_path / "out")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_a_folder_named_like_an_array_is_refused(sounds, tmp_path, write_sound):
    write_sound("UPPER.WAV.npy/x.wav", folder=sounds)
    with pytest.raises(DataError, match=r"UPPER\.WAV\.npy"):
        made(sounds, tmp_path / "out")


def test_a_name_too_long_for_npy_is_listed(tmp_path, write_sound):
    write_sound("x" * 249 + ".wav", folder=tmp_path / "in")
    write_sound("fine.wav", folder=tmp_path / "in")
    summary = made(tmp_path / "in", tmp_path / "out")
    assert summary.made == 1
    assert "too long" in summary.skipped[0]["error"]


def test_two_runs_do_not_share_a_folder(sounds, tmp_path):
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / ".spectrify.lock"),
        pytest.raises(ConfigError, match="another"),
    ):
        made(sounds, tmp_path / "out")


def test_several_inputs_are_named_from_what_they_share(sounds, tmp_path):
    spectrify(
        [sounds / "sub", sounds / "UPPER.WAV"], tmp_path / "out", SOUND_EVAL, quiet=True, workers=2
    )
    names = ["UPPER.WAV", "sub/deep/$5.OGG", 'sub/say "[red]<b>".flac']
    assert FrameFiles(tmp_path / "out").names == names


def test_the_store_holds_the_same_frames_with_times(sounds, tmp_path):
    made(sounds, tmp_path / "out")
    summary = made(sounds, tmp_path / "out.h5")
    assert (summary.made, summary.exit_status) == (6, 1)
    folder, store = FrameFiles(tmp_path / "out"), FrameFiles(tmp_path / "out.h5")
    assert folder.names == store.names
    assert folder.lengths == store.lengths
    assert folder.durations == store.durations
    assert folder.settings == store.settings
    assert folder.root == store.root == sounds
    assert np.array_equal(folder.load()[0], store.load()[0])
    with Store(tmp_path / "out.h5") as opened:
        rows = opened.rows_of(ODD[0])
        assert np.allclose(rows.start, np.arange(len(rows)) * 0.1)
        assert np.allclose(rows.end - rows.start, 0.128)
        failed = {record.path: record for record in opened.files}["broken.mp3"]
        assert failed.status == "failed"
    assert not list(tmp_path.glob("out.h5.*s"))  # neither parts nor frames


def test_a_store_is_gone_on_with(sounds, tmp_path, write_sound):
    output = tmp_path / "out.h5"
    made(sounds, output)
    write_sound("new.wav", rate=16000, folder=sounds)
    write_sound("UPPER.WAV", seconds=3.0, rate=16000, folder=sounds)
    again = made(sounds, output, retry_failed=True)
    assert (again.made, again.already_done, again.changed) == (1, 6, ["UPPER.WAV"])
    assert len(again.skipped) == 1


def test_hdf5_is_asked_for_by_name_or_option(sounds, tmp_path):
    made(sounds, tmp_path / "named", hdf5=True)
    assert (tmp_path / "named").is_file()
    assert FrameFiles(tmp_path / "named").width == 64


RUN = """
import sys, time
from pathlib import Path
import coala_latent.tasks.frame_workers as workers
from coala_latent.audio.sound_eval import FrameSettings
from coala_latent.tasks.spectrify import spectrify
make = workers._write_frames
def slowly(*arguments):
    print("begun", flush=True)
    time.sleep(0.2)
    return make(*arguments)
workers._write_frames = slowly
settings = FrameSettings("sound_eval")
spectrify([Path(sys.argv[1])], Path(sys.argv[2]), settings, workers=1, quiet=True)
"""


def test_a_killed_run_is_taken_up(sounds, tmp_path):
    target = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(sounds), str(target)], stdout=subprocess.PIPE
    ) as process:
        for _ in range(6):  # the sixth is being worked on, the fifth may not be noted yet
            assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGKILL)
    for left in target.rglob("*.npy"):
        np.load(left, allow_pickle=False)  # complete, or not there
    summary = made(sounds, target)
    assert summary.already_done >= 4
    assert summary.made >= 1
    made(sounds, tmp_path / "whole")
    assert np.array_equal(FrameFiles(target).load()[0], FrameFiles(tmp_path / "whole").load()[0])
    assert not list(tmp_path.rglob(".spectrify-*.tmp"))


def test_what_a_killed_run_left_beside_a_store_is_removed(sounds, tmp_path):
    spool = tmp_path / "out.h5.frames"
    spool.mkdir()
    (spool / "0.npy").write_text("old")
    (spool / ".spectrify-1.tmp").write_text("old")
    assert made(sounds, tmp_path / "out.h5").made == 6
    assert not spool.exists()


def test_a_journal_that_was_cut_short_costs_one_sound(sounds, tmp_path):
    made(sounds, tmp_path / "out")
    journal = tmp_path / "out" / "spectrify.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert made(sounds, tmp_path / "out").already_done == 6
    assert len(journal.read_text().splitlines()) == 7


def test_folders_of_the_original_open(tmp_path):
    (tmp_path / "000").mkdir()
    rng = np.random.default_rng(0)
    arrays = {"000/000002.mp3": rng.normal(size=(5, 3)), "000/000005.mp3": rng.normal(size=(0, 3))}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    found = read_frames(tmp_path)
    assert found.music_list == ["./000/000002.mp3.npy", "./000/000005.mp3.npy"]
    assert (found.names, found.lengths, found.width) == (list(arrays), [5, 0], 3)
    assert (found.settings, found.root, found.durations) == ({}, None, [None, None])
    frames, starts = found.load()
    assert frames.dtype == np.float32
    assert starts.dtype == np.int64
    assert starts.tolist() == [0, 5, 5]
    assert np.allclose(frames, arrays["000/000002.mp3"])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 5)), "5 values in a frame, but"),
        (np.ones(3), "not numbers of shape"),
        (np.array(["a"], dtype=object), "not numbers|not a readable"),
        (np.ones((3, 0)), "not numbers of shape"),
    ],
)
def test_arrays_that_are_no_frames_are_named(tmp_path, array, message):
    np.save(tmp_path / "a.mp3.npy", np.ones((3, 4)))
    np.save(tmp_path / "b.mp3.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=message) as error:
        FrameFiles(tmp_path)
    assert "b.mp3.npy" in str(error.value)


def test_what_goes_wrong_while_reading_is_said(tmp_path):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.ones((3, 4)))
    found = FrameFiles(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((2, 4)))
    np.save(tmp_path / "b.npy", np.full((3, 4), np.nan))
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-8])
    for index, message in enumerate(["has changed", "NaN", "not a readable array"]):
        with pytest.raises(DataError, match=message):
            found.read(index)


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no \.npy files"):
        FrameFiles(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        FrameFiles(tmp_path / "absent")
    (tmp_path / "spectrify.json").write_text("{")
    with pytest.raises(DataError, match="not readable"):
        read_settings(tmp_path)


@pytest.mark.shared
def test_music_becomes_frames(shared, tmp_path):
    summary = made(shared / "data" / "fma", tmp_path / "out")
    assert (summary.made, summary.frames, summary.exit_status) == (11, 3289, 0)
    frames, _ = FrameFiles(tmp_path / "out").load()
    assert frames.min() >= np.log(np.float32(1e-6)) - 1e-5
    assert -6 < frames.mean() < 4
