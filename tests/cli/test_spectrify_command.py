"""`coala-latent spectrify`: options, messages and exit statuses."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from coala_latent.audio.sound_eval import PRESETS
from coala_latent.cli.spectrify import spectrify_command
from coala_latent.data.frame_files import FrameFiles

NAMES = ["a b=c,'é.wav", 'sub/say "[red]<b>".WAV', "--help.flac"]


def run(*arguments):
    return CliRunner().invoke(spectrify_command, [str(argument) for argument in arguments])


@pytest.fixture
def sounds(tmp_path, write_sound):
    for name in NAMES:
        write_sound(name, seconds=1.0, rate=16000, folder=tmp_path / "in put")
    return tmp_path / "in put"


def test_a_folder_is_made_and_gone_on_with(sounds, tmp_path):
    done = run(sounds, tmp_path / "out", "--quiet", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert (summary["made"], summary["frames"]) == (3, 30)
    assert FrameFiles(tmp_path / "out").names == sorted(NAMES)
    again = run(sounds, tmp_path / "out", "--quiet")
    assert again.exit_code == 0
    assert again.stdout == ""
    assert "0 sounds done, 3 already there, 0 skipped" in again.stderr


def test_bad_files_are_listed_with_exit_status_1(sounds, tmp_path):
    (sounds / "[bold]bad.mp3").write_text("no sound")
    done = run(sounds, tmp_path / "out", "--quiet")
    assert done.exit_code == 1
    assert "skipped [bold]bad.mp3: " in done.stderr
    assert "--retry-failed" in done.stderr
    assert "bad" in (tmp_path / "out" / "failed.csv").read_text()
    assert run(sounds, tmp_path / "out", "--quiet", "--retry-failed").exit_code == 1


def test_presets_and_what_goes_before_them(sounds, tmp_path):
    assert run(sounds, tmp_path / "a", "--preset", "opt", "--format", "sound_eval").exit_code == 0
    settings = FrameFiles(tmp_path / "a").settings
    assert (settings["format"], settings["sample_rate"], settings["bands"]) == (
        "sound_eval",
        44100,
        80,
    )
    options = ("--sample-rate", 22050, "--mel-bins", 40, "--hop", 0.05, "--low", 50, "--high", 9000)
    assert run(sounds, tmp_path / "b", "--preset", "small", *options).exit_code == 0
    found = FrameFiles(tmp_path / "b")
    assert found.settings | {"resampler": {}} == {
        "format": "standard",
        "sample_rate": 22050,
        "bands": 40,
        "hop": 0.05,
        "low": 50.0,
        "high": 9000.0,
        "resampler": {},
    }
    assert found.width == 40


def test_every_preset_can_be_chosen(sounds, tmp_path):
    choices = next(p for p in spectrify_command.params if p.name == "preset").type.choices
    assert sorted(choices) == sorted(PRESETS)


def test_hdf5_and_folders_hold_the_same(sounds, tmp_path):
    run(sounds, tmp_path / "x.h5", "--quiet")
    run(sounds, tmp_path / "y", "--quiet", "--hdf5")
    run(sounds, tmp_path / "z", "--quiet", "--workers", 2)
    expected = FrameFiles(tmp_path / "z").load()[0]
    assert np.array_equal(FrameFiles(tmp_path / "x.h5").load()[0], expected)
    assert np.array_equal(FrameFiles(tmp_path / "y").load()[0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mel-bins", 80], "bands: 64, 80"),
        (["--sample-rate", 12000], "do not fit a sample rate of 12000"),
        (["--hop", "nan"], "hop nan s"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_status_2(sounds, tmp_path, options, message):
    run(sounds, tmp_path / "out", "--quiet")
    done = run(sounds, tmp_path / "out", "--quiet", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_inputs_that_are_missing_or_hold_no_sound(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no such file" in run(tmp_path / "absent", tmp_path / "out").stderr
    assert "no sound files" in run(tmp_path / "empty", tmp_path / "out").stderr
    assert not (tmp_path / "out").exists()
