"""`us8k`, `gtzan`, `nsynth`, `esc50` and `esc10` on doubles of a few tiny sounds."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from coala_latent.analysis.folds import Fold
from coala_latent.analysis.held_out import compare_held_out, run_held_out
from coala_latent.analysis.probes import run_probe
from coala_latent.cli import main
from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.scores import PROBES

RATE = 8000
QUICK = ("--probe", "knn", "--runs", "1", "--quiet")


def write(path, pitch, seed=0, seconds=0.3):
    """A decaying tone in noise; pitch is the class."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * time) * np.exp(-5 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (0.5 * tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
    with path.open("wb") as file:
        soundfile.write(file, samples, RATE, format="WAV")
    return path


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


@pytest.fixture
def us8k(tmp_path):
    """Ten folds of two classes; in the original's tree, in a folder with an odd name."""
    root = tmp_path / "my data, é=1" / "data" / "UrbanSound8K"
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        for number, label, pitch in ((3, "dog_bark", 300), (5, "siren", 2000)):
            name = f"{1000 * fold + number}-{number}-0-0.wav"
            rows.append(f"{name},{1000 * fold + number},0,4,1,{fold},{number},{label}")
            write(root / "audio" / f"fold{fold}" / name, pitch, 10 * fold + number)
    (root / "metadata").mkdir()
    (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join(rows))
    return root


def test_us8k_is_the_mean_of_ten_folds(us8k, call, tmp_path):
    output = tmp_path / "new" / "us8k.json"
    done = call("us8k", us8k.parent, "--model", "coala-test", *QUICK, "--json", "--output", output)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert json.loads(output.read_text("utf-8")) == result
    assert (result["benchmark"], result["sounds"], result["folds"]) == ("UrbanSound8K", 20, 10)
    assert result["classes"] == ["dog_bark", "siren"]
    assert result["missing"] == {"sounds": {"count": 0, "first": []}}
    knn = result["comparisons"]["knn"]
    assert set(knn["results"]) == {"mfcc", "coala-test"}
    for one in knn["results"].values():
        assert one["interval"]["mean"] == pytest.approx(np.mean(one["accuracy"]))
        assert len(one["accuracy"][0]) == 10
    (pair,) = knn["pairs"]
    assert (pair["a"], pair["b"]) == ("coala-test", "mfcc")
    means = [knn["results"][name]["mean"] for name in ("coala-test", "mfcc")]
    assert pair["folds"]["difference"] == pytest.approx(means[0] - means[1])
    assert knn["differences"]["coala-test"] == pair["folds"]
    assert "20 sounds, where all of UrbanSound8K has 8732" in done.stderr


def test_the_original_protocol_and_three_probes_by_default(us8k, call):
    done = call("us8k", us8k, "--runs", "2", "--quiet", "--json")
    comparisons = json.loads(done.stdout)["comparisons"]
    assert list(comparisons) == ["mlp", "logistic", "linear_svm", "knn"]
    mlp = comparisons["mlp"]["results"]["mfcc"]
    assert np.shape(mlp["accuracy"]) == (2, 10)
    assert "MLPClassifier(hidden_layer_sizes=(256,))" in mlp["settings"]
    over_runs = np.mean(mlp["accuracy"], axis=1)
    assert mlp["runs_sd"] == pytest.approx(over_runs.std())
    assert mlp["over_runs"]["n"] == 2
    assert comparisons["knn"]["results"]["mfcc"]["over_runs"]["low"] is None  # ran once
    assert comparisons["mlp"]["pairs"] == []


def test_the_help_names_the_probes_that_are_run(us8k, call):
    for command, probes in (("us8k", PROBES), ("probe", ("mlp", "logistic", "knn"))):
        text = " ".join(call(command, "--help").stdout.split())
        named = f"{', '.join(probes[:-1])} and {probes[-1]} are the probes unless"
        assert text.count("are the probes unless") == text.count(named) == 1
    done = call("us8k", us8k, "--no-baseline", "--help")
    assert "by default stands below" in " ".join(done.stdout.split())


def test_missing_sounds_stop_it_unless_allowed(us8k, call):
    for fold in (2, 3):
        (us8k / "audio" / f"fold{fold}" / f"{fold}003-3-0-0.wav").unlink()
    done = call("us8k", us8k, *QUICK)
    assert done.returncode == 2
    assert "2 of 20 listed files" in done.stderr
    assert "2003-3-0-0.wav, 3003-3-0-0.wav (" in done.stderr
    assert "--allow-missing" in done.stderr
    done = call("us8k", us8k, *QUICK, "--allow-missing", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["sounds"] == 18
    expected = {"count": 2, "first": ["2003-3-0-0.wav", "3003-3-0-0.wav"]}
    assert result["missing"]["sounds"] == expected
    assert "2 missing of sounds" in done.stderr


def test_a_bad_sound_is_skipped_with_exit_status_1(us8k, call):
    bad = us8k / "audio" / "fold4" / "4003-3-0-0.wav"
    bad.write_text("no sound")
    done = call("us8k", us8k, "--model", "coala-test", *QUICK, "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["sounds"], list(result["skipped"])) == (19, [str(bad)])
    assert "skipped" in done.stderr


def test_two_models_are_compared_in_the_table(us8k, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    done = call(
        *("us8k", us8k, "--model", "coala-test", "--model", "coala-legacy-test", *QUICK),
        *("--no-baseline", "--probe", "logistic"),
    )
    assert done.returncode == 0, done.stderr
    assert "UrbanSound8K: accuracy in %" in done.stdout
    assert "coala-legacy-test - coala-test" in done.stdout
    row = next(line for line in done.stdout.splitlines() if "logistic " in line and ".. " in line)
    assert "│" in row


def test_every_layer_of_a_model(us8k, call):
    done = call("us8k", us8k, "--model", "coala-test", "--layers", "z,z_d", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["benchmark"] == "UrbanSound8K"
    assert set(result["models"]["coala-test"]["curves"]["knn"]["layers"]) == {"z", "z_d"}


@pytest.fixture
def gtzan(tmp_path):
    """Three genres, three training tracks and two test tracks of each."""
    root = tmp_path / "data" / "GTZAN" / "genres"
    lists = {"train": [], "test": []}
    for genre, pitch in (("blues", 200), ("metal", 900), ("reggae", 2500)):
        for number in range(5):
            name = f"{genre}/{genre}.{number:05}.wav"
            write(root / name, pitch, number)
            lists["train" if number < 3 else "test"].append(name)
        (root / genre / f"{genre}.00000.jpeg").write_text("a picture")
    for part, lines in lists.items():
        (root.parent / f"{part}_filtered.txt").write_text("\n".join(lines))
    return root


def test_gtzan_corrected_and_legacy(gtzan, call, tmp_path):
    command = ("gtzan", tmp_path, "--model", "coala-test", *QUICK, "--json")
    corrected, legacy = (
        json.loads(call(*command, *more).stdout) for more in ((), ("--lists", "legacy"))
    )
    assert corrected["parts"] == {"test": 6, "train": 9}
    assert legacy["parts"] == {"test": 5, "train": 8}
    assert (corrected["lists"], legacy["lists"]) == ("corrected", "legacy")
    assert legacy["left_out"] == {"first line of a list, dropped as the original did": 2}
    one = corrected["comparisons"]["knn"]["results"]["coala-test"]
    assert one["interval_method"] == "bootstrap over test items"
    assert one["interval"]["n"] == 6
    assert corrected["folds"] == 1
    (pair,) = corrected["comparisons"]["knn"]["pairs"]
    assert pair["items"]["interval"]["n"] == 6
    assert pair["runs"]["p_value"] == 1.0  # a single run says nothing


def test_gtzan_with_runs_has_their_scatter(gtzan, call):
    lists = [*("--train-list", gtzan.parent / "train_filtered.txt")]
    lists += ["--test-list", gtzan.parent / "test_filtered.txt"]
    done = call("gtzan", gtzan, *lists, "--probe", "mlp", "--runs", "3", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    mlp = json.loads(done.stdout)["comparisons"]["mlp"]["results"]["mfcc"]
    assert np.shape(mlp["accuracy"]) == (3, 1)
    assert mlp["over_runs"]["n"] == 3
    assert mlp["interval"]["n"] == 6


def test_gtzan_layers_take_a_probe_that_needs_no_folds(gtzan, call):
    layers = ("gtzan", gtzan, "--model", "coala-test", "--layers", "z", "--quiet")
    done = call(*layers, "--json")
    assert done.returncode == 0, done.stderr
    curves = json.loads(done.stdout)["models"]["coala-test"]["curves"]
    assert set(curves) == {"linear_svm", "knn"}
    title = " ".join(call(*layers, "--probe", "knn").stdout.split())
    assert "bootstrap over test items" in title
    assert "folds" not in title
    for command in ((*layers, "--probe", "svm"), ("gtzan", gtzan, "--probe", "svm", "--quiet")):
        done = call(*command)
        assert done.returncode == 2
        assert "use linear_svm" in done.stderr


@pytest.fixture
def nsynth(tmp_path):
    root = tmp_path / "data" / "nsynth"
    selection = {}
    for family, pitch in (("bass", 100), ("flute", 1500), ("mallet", 3000)):
        selection[family] = [f"{family}_acoustic_00{number}-020-100" for number in range(3)]
        for number, note in enumerate(selection[family]):
            write(root / "nsynth-train" / "audio_selected" / f"{note}.wav", pitch, number)
        for pitched in range(2):
            name = f"{family}_synthetic_009-04{pitched}-075.wav"
            write(root / "nsynth-test" / "audio" / name, pitch, pitched)
    write(root / "nsynth-test" / "audio" / "synth_lead_synthetic_001-040-075.wav", 50)
    (tmp_path / "selection.json").write_text(json.dumps(selection))
    return root


def test_nsynth_trains_on_its_selection(nsynth, call, tmp_path):
    selection = ("--selection", tmp_path / "selection.json")
    done = call("nsynth", tmp_path, *selection, "--model", "coala-test", *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["parts"] == {"test": 6, "train": 9}
    assert result["left_out"] == {"synth_lead": 1}
    assert result["published"] == {"train": 20_000, "test": 4096}
    one = result["comparisons"]["knn"]["results"]["coala-test"]
    assert (one["interval"]["n"], one["over_groups"]["n"]) == (6, 3)  # notes, instruments
    assert call("nsynth", tmp_path).returncode == 2
    (nsynth / "nsynth-train" / "audio_selected" / "bass_acoustic_001-020-100.wav").unlink()
    done = call("nsynth", tmp_path, *selection, *QUICK)
    assert done.returncode == 2
    assert "bass_acoustic_001-020-100" in done.stderr


@pytest.fixture
def esc50(tmp_path):
    root = tmp_path / "ESC-50"
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    kinds = (("dog", "True", 300), ("rain", "True", 2500), ("cow", "False", 900))
    for fold in range(1, 6):
        for target, (category, small, pitch) in enumerate(kinds):
            name = f"{fold}-{100 * fold + target}-A-{target}.wav"
            rows.append(f"{name},{fold},{target},{category},{small},{100 * fold + target},A")
            write(root / "audio" / name, pitch, 10 * fold + target)
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows))
    return root


def test_esc50_and_the_esc10_in_it(esc50, call):
    for command, sounds, classes in (("esc50", 15, 3), ("esc10", 10, 2)):
        done = call(command, esc50, *QUICK, "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert (result["sounds"], len(result["classes"]), result["folds"]) == (sounds, classes, 5)


def store(folder, names, seed=0, chunks=4, dim=6):
    """Arrays as the original's ``encode.py`` wrote them; classes are told apart by their stem."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sorted(names)):
        kind = name.split("-")[1] if name[0].isdigit() else name[0]
        rng = np.random.default_rng([seed, number])
        center = np.random.default_rng(ord(kind)).normal(size=dim)
        np.save(folder / f"{name}.npy", (center + 0.1 * rng.normal(size=(chunks, dim))).astype("f"))


def test_stored_embeddings_are_scored_without_sounds(us8k, call):
    data = us8k.parent
    stems = [path.stem for path in us8k.rglob("*.wav")]
    for seed, model in enumerate(("dual_ae_c_200", "cnn_20")):
        store(data / "embeddings" / "us8k" / f"embeddings_{model}", stems, seed)
    shutil.rmtree(us8k / "audio")
    done = call("us8k", data, "--embeddings", data, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    knn = result["comparisons"]["knn"]["results"]
    assert list(knn) == ["cnn_20", "dual_ae_c_200"]  # no baseline: it needs the sounds
    assert all(one["mean"] == 1.0 and one["dim"] == 6 for one in knn.values())
    assert result["models"]["cnn_20"]["folder"].endswith("embeddings_cnn_20")
    assert "audio" in call("us8k", data, "--embeddings", data, "--baseline", *QUICK).stderr


def test_stored_embeddings_beside_a_model_and_with_gaps(us8k, call):
    folder = us8k.parent / "embeddings" / "us8k" / "embeddings_x"
    store(folder, [path.stem for path in us8k.rglob("*.wav")])
    (folder / "1003-3-0-0.npy").unlink()
    np.save(folder / "2003-3-0-0.npy", np.full((4, 6), np.nan))
    np.save(folder / "4003-3-0-0.npy", np.ones((4, 7), np.float32))
    command = ("us8k", us8k, "--embeddings", folder, "--model", "coala-test", *QUICK, "--json")
    done = call(*command)
    assert done.returncode == 2
    assert "x: 1 of 20 sounds have no .npy file" in done.stderr
    assert "the first 1003-3-0-0.wav" in done.stderr
    done = call(*command, "--allow-missing")
    assert done.returncode == 1  # bad arrays are skipped sounds, missing ones were allowed
    result = json.loads(done.stdout)
    assert list(result["comparisons"]["knn"]["results"]) == ["x", "coala-test"]
    assert result["missing"]["x"]["count"] == 1
    assert [Path(path).name for path in result["skipped"]] == ["2003-3-0-0.wav", "4003-3-0-0.wav"]
    assert result["sounds"] == 17
    done = call(*command, "--layers", "z")
    assert done.returncode == 2
    assert "--embeddings" in done.stderr


def test_stored_embeddings_of_both_parts_of_nsynth(nsynth, call, tmp_path):
    for part in ("train", "test"):
        stems = [path.stem for path in (nsynth / f"nsynth-{part}").rglob("*.wav")]
        folder = tmp_path / "data" / "embeddings" / "nsynth" / part / "embeddings_dual_e_c_200"
        store(folder, [stem for stem in stems if stem[:5] != "synth"])
    for path in tmp_path.rglob("*.wav"):
        path.unlink()
    shutil.rmtree(nsynth)
    done = call(
        *("nsynth", tmp_path, "--selection", tmp_path / "selection.json"),
        *("--embeddings", tmp_path, *QUICK, "--json"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["parts"] == {"test": 6, "train": 9}
    assert list(result["comparisons"]["knn"]["results"]) == ["dual_e_c_200"]


@pytest.mark.parametrize("command", ["us8k", "gtzan", "nsynth", "esc50", "esc10"])
def test_a_folder_without_the_data_set_exits_2_and_names_what_is_expected(command, call, tmp_path):
    selection = tmp_path / "selection.json"
    selection.write_text('{"bass": ["bass_acoustic_001-020-100"]}')
    options = ("--selection", selection) if command == "nsynth" else ()
    done = call(command, tmp_path, *options, "--quiet")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert done.stdout == ""


def test_one_split_gives_what_a_single_fold_gives(rng):
    x = rng.normal(size=(60, 4))
    labels = np.repeat(["a", "b", "c"], 20)
    x[:, 0] += np.repeat([0, 2, 4], 20)
    split = Fold("test", np.arange(0, 60, 2), np.arange(1, 60, 2))
    for probe in ("mlp", "logistic", "linear_svm", "knn"):
        here = run_held_out(x, labels, split, probe, runs=2, seed=3)
        there = run_probe(x, labels, [split], probe, runs=2, seed=3)
        ours, theirs = here.result.to_dict(), there.to_dict()
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(ours.pop("confusion"), theirs.pop("confusion"), atol=1e-12)
        np.testing.assert_allclose(ours.pop("recall"), theirs.pop("recall"), atol=1e-12)
        assert ours == theirs
        assert here.correct.mean() == pytest.approx(there.mean)


def test_differences_on_one_split_are_paired_by_item(rng):
    x = rng.normal(size=(200, 3))
    labels = np.repeat([0, 1], 100)
    x[:, 0] += 1.5 * labels
    split = Fold("test", np.arange(0, 200, 2), np.arange(1, 200, 2))
    results = {
        "first": run_held_out(x, labels, split, "logistic"),
        "same": run_held_out(x, labels, split, "logistic"),
        "noise": run_held_out(x[:, 1:], labels, split, "logistic"),
    }
    pairs = compare_held_out(results)
    assert list(pairs) == [("same", "first"), ("noise", "first"), ("noise", "same")]
    assert pairs["same", "first"]["items"].p_value == 1.0
    test = pairs["noise", "first"]["items"]
    gap = results["noise"].result.mean - results["first"].result.mean
    assert test.difference == pytest.approx(gap)
    assert test.p_value < 0.01
    assert test.interval.high < 0
    assert not pairs["noise", "first"]["runs"].interval.bounded


def test_one_split_refuses_what_cannot_be_scored(rng):
    x, labels = rng.normal(size=(20, 3)), np.repeat([0, 1], 10)
    split = Fold("test", np.arange(0, 20, 2), np.arange(1, 20, 2))
    for probe, runs in (("svm", 1), ("tree", 1), ("knn", 0)):
        with pytest.raises(ConfigError):
            run_held_out(x, labels, split, probe, runs)
    with pytest.raises(DataError, match="finite"):
        run_held_out(np.where(x > 1, np.nan, x), labels, split, "knn")
    with pytest.raises(DataError, match="labels"):
        run_held_out(x[:5], labels, split, "knn")
    with pytest.raises(DataError, match="class 1 is tested"):
        run_held_out(x, labels, Fold("t", np.arange(10), np.arange(10, 20)), "knn")
    with pytest.raises(DataError, match="at least 5"):
        run_held_out(x, labels, Fold("t", np.array([0, 19]), np.array([1])), "knn")
