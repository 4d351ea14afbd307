"""`coala-latent probe --layers` and `esc10 --layers`, with their pictures."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from coala_latent.cli import main
from coala_latent.registry import model_card

pytest.importorskip("matplotlib")

RATE = 8000
PITCHES = {"low": 200, "middle": 700, "$high$_é": 2500}


def tone(path, pitch, seed):
    rng = np.random.default_rng(seed)
    time = np.arange(RATE // 2) / RATE
    samples = 0.5 * np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        noisy = (samples + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
        soundfile.write(file, noisy, RATE, format="WAV")


@pytest.fixture
def folder(tmp_path):
    """Three classes of six sounds, named like ESC's: folds 1 to 3, two sources each."""
    root = tmp_path / "my sounds"
    for number, (label, pitch) in enumerate(PITCHES.items()):
        for fold in range(1, 4):
            for source in range(2):
                name = f"{fold}-{100 * fold + 10 * number + source}-A.wav"
                tone(root / f"00{number} - {label}" / name, pitch, 10 * fold + source)
    return root


@pytest.fixture
def call(capfd):
    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*map(os.fspath, arguments), "--quiet"], prog_name="coala-latent")
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, stop.value.code, out, err)

    return call


def colours(path):
    """The picture's size, and how many colours cover a few pixels of it."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        found = image.convert("RGB").getcolors(1 << 24)
        return image.size, {colour for count, colour in found if count > 20}


BLUE, VERMILION, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)


def test_every_layer_is_scored_and_drawn(folder, call, tmp_path):
    pictures, output = tmp_path / "new" / "pictures", tmp_path / "result.json"
    done = call(
        *("probe", folder, "--model", "coala-test", "--layers", "all", "--pooling", "mean+max"),
        *(
            "--folds",
            "3",
            "--pictures",
            pictures,
            "--tsne",
            "conv1,z",
            "--output",
            output,
            "--json",
        ),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert json.loads(output.read_text("utf-8")) == result
    assert (result["sounds"], result["folds"], result["skipped"]) == (18, 3, {})
    assert result["baseline"].keys() == {"svm", "knn"}
    model = result["models"]["coala-test"]
    card = model_card("coala-test")
    assert list(model["layers"]) == list(card.layers)
    assert all(
        about["values"] == 2 * card.layers[layer] for layer, about in model["layers"].items()
    )
    for curve in model["curves"].values():
        assert list(curve["layers"]) == list(card.layers)
        means = {layer: scores["mean"] for layer, scores in curve["layers"].items()}
        assert means[curve["best"]] == max(means.values())
        assert len(curve["behind"]) == len(means) - 1
    assert len(model["curves"]["svm"]["layers"]["z"]["chosen_c"]) == 3
    assert model["curves"]["svm"]["layers"]["conv1"]["mean"] > 0.8  # tones octaves apart

    assert list(model["layouts"]) == ["conv1", "z"]
    assert all(0.5 < layout["trustworthiness"] <= 1 for layout in model["layouts"].values())
    assert model["not_drawn"] == {}
    over_layers, of_clips = pictures / "layers_coala-test.png", pictures / "tsne_coala-test.png"
    assert model["pictures"] == [str(over_layers), str(of_clips)]
    assert sorted(pictures.iterdir()) == [over_layers, of_clips]
    (width, height), seen = colours(over_layers)
    assert width > 400
    assert height > 300
    assert {(255, 255, 255), BLUE, VERMILION} <= seen  # two probes
    assert GREEN not in seen
    (width, height), seen = colours(of_clips)
    assert width > 1.5 * height  # two panels beside each other
    assert {(255, 255, 255), BLUE, VERMILION, GREEN} <= seen  # three classes


def test_the_same_command_gives_the_same_result_and_pictures(folder, call, tmp_path):
    texts, bits = [], []
    for number in range(2):
        pictures = tmp_path / str(number)
        done = call(
            *("esc10", folder, "--model", "yamnet-test", "--layers", "layer2,embedding"),
            *("--probe", "knn", "--no-baseline", "--pictures", pictures, "--json"),
        )
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout.replace(str(pictures), ""))
        bits.append([path.read_bytes() for path in sorted(pictures.iterdir())])
    assert texts[0] == texts[1]
    assert bits[0] == bits[1]
    result = json.loads(texts[0])
    assert list(result["models"]["yamnet-test"]["layers"]) == ["layer2", "embedding"]
    assert result["baseline"] == {}
    assert result["models"]["yamnet-test"]["curves"].keys() == {"knn"}


def test_the_table_has_a_row_a_layer_and_a_table_a_model(folder, call):
    done = call(
        *("esc10", folder, "--model", "soundnet8-test", "--model", "coala-test"),
        *("--layers", "all", "--probe", "knn", "--probe", "logistic"),
    )
    assert done.returncode == 0, done.stderr
    for name in ("soundnet8-test", "coala-test"):
        assert f"{name}, mean: accuracy" in done.stdout
        for layer in model_card(name).layers:
            assert f" {layer} " in done.stdout
    assert done.stdout.count("mfcc") == 2
    assert "logistic" in done.stdout


def test_bad_files_are_skipped_and_listed(folder, call, tmp_path):
    label = next(path for path in folder.iterdir() if path.name.endswith("low"))
    (label / "1-9-A.wav").write_text("no sound")
    done = call(
        *("esc10", folder, "--model", "yamnet-test", "--layers", "embedding", "--json"),
        *("--probe", "knn", "--pictures", tmp_path),
    )
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert result["sounds"] == 18
    assert [path.rsplit("/", 1)[1] for path in result["skipped"]] == ["1-9-A.wav"]
    assert "1-9-A.wav" in done.stderr


def test_models_of_one_name_have_their_own_pictures(folder, call, project, tmp_path):
    names = []
    for number in "ab":
        (tmp_path / number).mkdir()
        for suffix in (".safetensors", ".json"):
            source = project / "saved_models" / f"coala-builtin{suffix}"
            shutil.copy(source, tmp_path / number)
        names += ["--model", tmp_path / number / "coala-builtin.safetensors"]
    done = call(
        *("esc10", folder, *names, "--layers", "conv1,z", "--probe", "knn", "--no-baseline"),
        *("--pictures", tmp_path / "pictures", "--json"),
    )
    assert done.returncode == 0, done.stderr
    expected = [
        *("layers_coala-builtin.png", "layers_coala-builtin_2.png"),
        *("tsne_coala-builtin.png", "tsne_coala-builtin_2.png"),
    ]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(expected)
    assert list(json.loads(done.stdout)["models"]) == [str(name) for name in names[1::2]]
    for name in expected:
        assert f"picture -> {tmp_path / 'pictures' / name}" in done.stderr


def test_a_dead_layer_is_scored_but_not_drawn(folder, call, tmp_path, monkeypatch):
    def dead(sounds, embedder, *_):
        values = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
        return {"conv1": np.zeros((18, 4), np.float32), "z": values}, {}

    monkeypatch.setattr("coala_latent.tasks.layerwise.layer_features", dead)
    command = ("esc10", folder, "--model", "coala-test", "--layers", "conv1,z", "--no-baseline")
    done = call(*command, "--pictures", tmp_path / "p", "--probe", "svm", "--json")
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["models"]["coala-test"]
    assert model["layers"]["conv1"] == {"values": 4, "constant": 4}
    assert model["curves"]["svm"]["layers"]["conv1"]["mean"] == pytest.approx(1 / 3)
    assert list(model["layouts"]) == ["z"]
    assert "all 18 items are equal" in model["not_drawn"]["conv1"]
    assert "coala-test, conv1 is not drawn" in done.stderr
    assert len(list((tmp_path / "p").iterdir())) == 2

    done = call(*command, "--pictures", tmp_path / "q", "--probe", "svm", "--tsne", "conv1")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "q").iterdir()] == ["layers_coala-test.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "all"], "no model whose layers"),
        (["--model", "coala-test", "--layers", "conv9"], "conv1"),
        (["--model", "coala-test", "--layers", "conv1,,z"], "commas"),
        (["--model", "coala-test", "--layers", "all", "--layer", "z"], "give one of them"),
        (["--model", "coala-test", "--layers", "z", "--tsne", "z"], "no folder for the pictures"),
        (
            ["--model", "coala-test", "--layers", "z", "--tsne", "conv1", "--pictures", "p"],
            "conv1 cannot be drawn",
        ),
        (["--model", "coala-test", "--pictures", "p"], "add --layers all"),
        (["--model", "coala-test", "--tsne", "z"], "add --layers all"),
        (["--model", "coala-test", "--layers", "z", "--folds", "2"], "at least three folds"),
    ],
    ids=str,
)
def test_what_cannot_run_says_why_and_exits_2(folder, call, options, message):
    done = call("probe", folder, "--no-baseline", "--folds", "3", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def test_without_matplotlib_it_says_what_to_install(folder, call, tmp_path, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    command = ("esc10", folder, "--model", "coala-test", "--layers", "z", "--probe", "knn")
    done = call(*command, "--pictures", tmp_path / "p")
    assert done.returncode == 2
    assert "pip install 'coala-latent[pictures]'" in done.stderr
    assert not (tmp_path / "p").exists()
    assert call(*command).returncode == 0
