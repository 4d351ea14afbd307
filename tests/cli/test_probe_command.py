"""`coala-latent probe` and `esc10` on tiny folders."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coala_latent import load_model
from coala_latent.cli import main
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.labelled import esc_folds, labelled_folder
from coala_latent.tasks.probe import clip_features, probe

RATE = 8000
QUICK = ("--runs", "1", "--quiet")


def write(path, pitch, seed=0, seconds=0.5):
    """A decaying tone in noise; pitch is the class."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * time) * np.exp(-5 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        samples = (0.5 * tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
        soundfile.write(file, samples, RATE, format="WAV")
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes, four groups each, two takes a group."""
    root = tmp_path / "my classes"
    for number, (label, pitch) in enumerate((("low, soft", 200), ("high=hard", 2000))):
        for group in range(4):
            for take in "ab":
                name = f"{group}-{take}.wav"
                write(root / label / name, pitch, 100 * number + 10 * group + ord(take))
    return root


@pytest.fixture
def call(capfd):
    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*map(os.fspath, arguments)], prog_name="coala-latent")
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, stop.value.code, out, err)

    return call


def test_scores_stand_beside_the_baseline(folder, call, tmp_path):
    output = tmp_path / "new" / "result.json"
    done = call(
        *("probe", folder, "--model", "coala-test", "--group", r"^(\d)-", "--folds", "4"),
        *(*QUICK, "--json", "--output", output),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert json.loads(output.read_text("utf-8")) == result
    assert (result["sounds"], result["groups"], result["folds"]) == (16, 8, 4)
    assert result["classes"] == ["high=hard", "low, soft"]
    assert result["skipped"] == {}
    assert set(result["comparisons"]) == {"mlp", "logistic", "knn"}
    for comparison in result["comparisons"].values():
        assert set(comparison["results"]) == {"mfcc", "coala-test"}
        mfcc = comparison["results"]["mfcc"]
        assert mfcc["interval"]["mean"] == pytest.approx(1.0)  # a tone apart: anybody hears it
        assert mfcc["chance"] == pytest.approx(0.5)
    mlp = result["comparisons"]["mlp"]["results"]["coala-test"]
    assert "MLPClassifier(hidden_layer_sizes=(256,))" in mlp["settings"]
    assert "StandardScaler" in mlp["settings"]
    assert result["models"]["coala-test"]["layer"] == "z"


def test_the_same_seed_gives_the_same_result(folder, call):
    command = ("probe", folder, "--model", "coala-test", "--probe", "mlp", *QUICK, "--json")
    first, again = (call(*command, "--folds", "2").stdout for _ in range(2))
    assert first == again
    assert json.loads(first)["comparisons"].keys() == {"mlp"}


def test_the_table_is_for_people(folder, project):
    script = shutil.which("coala-latent", path=str(Path(sys.executable).parent))
    command = [script, "probe", folder, "--folds", "2", "--probe", "knn", *QUICK]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "60"}, check=True
    )
    assert "mfcc" in done.stdout
    assert "knn" in done.stdout
    assert "100.0" in done.stdout
    assert done.stderr == ""


def test_a_bad_file_is_skipped_and_listed(folder, call):
    names = ["low, soft/9-z.wav", os.fsdecode(b"low, soft/9-\xff.wav"), "high=hard/9-nan.wav"]
    (folder / names[0]).write_text("no sound")
    (folder / names[1]).touch()
    soundfile.write(folder / names[2], np.full(4000, np.nan), RATE, subtype="FLOAT")
    for models in ((), ("--model", "coala-test"), ("--no-baseline", "--model", "coala-test")):
        output = folder.parent / "result.json"
        done = call(
            *("probe", folder, *models, "--group", r"^(\d)-", "--folds", "2", "--probe", "knn"),
            *(*QUICK, "--json", "--output", output),
        )
        assert done.returncode == 1, done.stderr
        result = json.loads(done.stdout)
        assert result["sounds"] == 16
        assert len(result["skipped"]) == 3
        assert all(result["skipped"].values())
        assert json.loads(output.read_text("utf-8")) == result
        assert "9-z.wav" in done.stderr


def test_groups_stay_on_one_side(folder):
    sounds = labelled_folder(folder, r"^(\d)-")
    result = probe(sounds, {}, 4, probes=("knn",), runs=1, quiet=True)
    assert result["groups"] == 8
    assert len({*sounds.groups[:2]}) == 1  # takes a and b of one recording
    assert labelled_folder(folder).groups.tolist() != sounds.groups.tolist()


def test_features_are_means_of_the_rows(folder):
    path = write(folder / "low, soft" / "long.wav", 200, seconds=5.0)
    sounds = labelled_folder(folder)
    where = sounds.paths.index(path)
    embedder = load_model("coala-test")
    rows = embedder.file(path)
    by_time, skipped = clip_features(sounds, embedder, quiet=True)
    assert skipped == {}
    np.testing.assert_allclose(by_time[where], rows.mean(), atol=1e-6)
    alike, _ = clip_features(sounds, embedder, "rows", quiet=True)
    np.testing.assert_allclose(alike[where], rows.values.mean(axis=0), atol=1e-6)
    # The original averaged its chunks alike, so models with its front end do.
    legacy = load_model("coala-legacy-test")
    chunks, _ = clip_features(sounds, legacy, quiet=True)
    np.testing.assert_allclose(chunks[where], legacy.file(path).values.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "5", "--group", r"^(\d)-"], "4 group"),
        (["--group", "("], "group expression"),
        (["--group", r"^\d-"], "captures nothing"),
        (["--group", "^(x)"], "does not match"),
        (["--model", "coala-tset"], "did you mean coala-test"),
        (["--model", "coala-test", "--layer", "nope"], "conv1"),
        (["--probe", "tree"], "linear_svm"),
        (["--runs", "0"], "runs"),
        (["--folds", "1"], "folds"),
        (["--no-baseline"], "nothing to score"),
        (["--clip-mean", "median"], "rows"),
    ],
    ids=str,
)
def test_what_cannot_run_says_why_and_exits_2(folder, call, options, message):
    done = call("probe", folder, "--quiet", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_folders_that_hold_no_classes_exit_2(tmp_path, folder, call):
    assert "no such folder" in call("probe", tmp_path / "missing").stderr
    only = tmp_path / "one class"
    shutil.copytree(folder / "low, soft", only / "low")
    done = call("probe", only)
    assert done.returncode == 2
    assert "two or more classes" in done.stderr
    for path in (folder / "low, soft").iterdir():
        path.write_text("no sound")
    done = call("probe", folder, "--quiet", "--folds", "2", "--probe", "knn")
    assert done.returncode == 2
    assert "no sound of class low, soft can be used; the first, 0-a.wav: " in done.stderr


@pytest.fixture
def esc(tmp_path):
    """A double of the ESC layout: two classes, five folds, two clips each."""
    root = tmp_path / "ESC-10"
    for label, pitch in (("001 - Dog bark", 300), ("002 - Rain", 2500)):
        for fold in range(1, 6):
            for take in "AB":
                seed = 10 * fold + ord(take) + pitch
                write(root / label / f"{fold}-{1000 * fold + pitch}-{take}.wav", pitch, seed)
    return root


def test_esc10_uses_the_folds_of_the_names(esc, call):
    done = call("esc10", esc, "--model", "coala-legacy-test", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["sounds"], result["folds"]) == (20, 5)
    assert result["comparisons"]["mlp"]["results"]["mfcc"]["interval"]["mean"] == pytest.approx(1.0)
    sounds = labelled_folder(esc)
    for number, fold in enumerate(esc_folds(sounds), start=1):
        assert {sounds.paths[item].name[0] for item in fold.test} == {str(number)}
        assert len(fold.test) == 4
        assert len(fold.train) == 16


def test_esc10_refuses_other_names(folder, call, tmp_path):
    done = call("esc10", folder)
    assert done.returncode == 2
    assert "1-17092-A" in done.stderr
    with pytest.raises(DataError):
        esc_folds(labelled_folder(folder))
    with pytest.raises(ConfigError):
        probe(labelled_folder(folder), {}, 2, baseline=False)


def test_the_original_protocol_is_ten_runs_of_one_mlp(esc):
    result = probe(labelled_folder(esc), {}, esc_folds, probes=("mlp",), quiet=True)
    mlp = result["comparisons"]["mlp"]["results"]["mfcc"]
    assert mlp["runs"] == 10
    assert np.shape(mlp["accuracy"]) == (10, 5)
    assert mlp["dim"] == 120
