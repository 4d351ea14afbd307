"""`coala-latent predict`."""

import csv
import io
import json

import numpy as np
import pytest
from click.testing import CliRunner

from coala_latent.cli import main
from coala_latent.embed.scores import load_predictor
from coala_latent.errors import ConfigError

MODELS = ["coala-test", "coala-cnn-test", "yamnet-test"]


def run(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_the_models_own_over_time(model, write_sound):
    path, _ = write_sound("a b=c,'é.wav", 7.3)
    done = run(path, "--model", model, "--format", "json", "--top", 3)
    assert done.exit_code == 0, done.output
    (file,) = json.loads(done.stdout)["files"]
    predictor = load_predictor(model)
    assert set(file["scores"]) == set(predictor.names)
    for name, scores in predictor.file(path).items():
        found = file["scores"][name]
        assert scores.values.min() >= 0
        assert scores.values.max() <= 1
        assert len(found["rows"]) == len(scores.values)
        for row, entry in enumerate(found["rows"]):
            best = int(scores.values[row].argmax())
            assert entry["top"][0]["label"] == scores.labels[best]
            assert entry["top"][0]["score"] == pytest.approx(scores.values[row, best])
            levels = [one["score"] for one in entry["top"]]
            assert levels == sorted(levels, reverse=True)
            assert len(levels) == 3
        assert found["rows"][-1]["end"] == pytest.approx(7.3, abs=1e-3)
        weighted = np.average(scores.values, axis=0, weights=scores.end - scores.start)
        assert found["mean"][0]["score"] == pytest.approx(weighted.max(), rel=1e-5)


def test_csv_has_a_line_for_each_of_the_highest(write_sound):
    path, _ = write_sound("a,b.wav", 3.0)
    done = run(path, "--model", "yamnet-test", "--format", "csv", "--top", 2)
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    rows = len(load_predictor("yamnet-test").file(path)["events"].values)
    assert len(lines) == 2 * rows
    assert {line["path"] for line in lines} == {str(path)}
    assert [line["rank"] for line in lines[:2]] == ["1", "2"]


def test_a_table_names_the_classes_and_more_than_there_are_is_all(write_sound):
    path, _ = write_sound("a.wav", 1.0)
    done = run(path, "--model", "coala-cnn-test", "--top", 99)
    assert done.exit_code == 0
    for label in ("bright", "dull", "metal", "tap", "wood", "mean"):
        assert label in done.stdout


def test_bad_files_are_passed_over_and_told(tmp_path, write_sound):
    write_sound("good.wav", 1.0, folder=tmp_path)
    (tmp_path / "bad.wav").write_text("no sound")
    done = run(tmp_path, "--model", "yamnet-test", "--format", "json")
    assert done.exit_code == 1
    files = json.loads(done.stdout)["files"]
    assert [bool(file["scores"]) for file in files] == [False, True]
    assert "bad.wav" in files[0]["error"]


def test_pictures_show_the_scores(tmp_path, write_sound):
    from matplotlib import image

    path, _ = write_sound("cost $5.wav", 6.0)
    done = run(
        *(path, "--model", "yamnet-test"),
        *("--png", tmp_path / "map.png", "--histograms", tmp_path / "steps.png"),
    )
    assert done.exit_code == 0, done.output
    for name in ("map.png", "steps.png"):
        pixels = image.imread(tmp_path / name)
        assert pixels.shape[0] > 200
        assert pixels[..., :3].std() > 0.05
    assert sorted(found.name for found in tmp_path.glob("*.png")) == ["map.png", "steps.png"]


def test_a_picture_of_two_files_is_refused(tmp_path, write_sound):
    paths = [write_sound(f"{name}.wav", 1.0)[0] for name in "ab"]
    done = run(*paths, "--model", "yamnet-test", "--png", tmp_path / "map.png")
    assert done.exit_code == 2
    assert "one file" in done.output


def test_scores_a_model_does_not_have_are_named(write_sound):
    path, _ = write_sound("a.wav", 1.0)
    done = run(path, "--model", "yamnet-test", "--scores", "moods")
    assert done.exit_code == 2
    assert "moods" in done.output
    assert "events" in done.output
    with pytest.raises(ConfigError, match="moods"):
        load_predictor("coala-test", ["moods"])
