"""`coala-latent export`."""

import json
import sys

import pytest
from click.testing import CliRunner

from coala_latent.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["export", *map(str, arguments)])


def test_a_model_becomes_a_checked_file(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "a b=c,'é.onnx"
    done = run("yamnet-test", path, "--layer", "layer3", "--patch-hop", 20, "--no-scores", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["output"] == str(path)
    assert path.stat().st_size == pytest.approx(1e6 * summary["megabytes"])
    assert list(summary["errors"]) == ["embedding"]
    assert summary["errors"]["embedding"] < 1e-4
    assert summary["metadata"]["layer"] == "layer3"
    assert summary["metadata"]["outputs"]["embedding"]["hop_seconds"] == pytest.approx(0.2)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "a.onnx"], "no model named"),
        (["yamnet-test", "a.pb"], "ends with .onnx"),
        (["yamnet-test", "a.onnx", "--layer", "layer99"], "no layer"),
        (["soundnet5-test", "a.onnx", "--layer", "pool1", "--layer", "pool2"], "one layer"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(arguments, message, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run("yamnet-test", tmp_path / "a.onnx")
    assert done.exit_code == 2
    assert "coala-latent[onnx]" in done.stderr


def test_a_file_that_says_something_else_is_not_kept(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import coala_latent.tasks.export as task

    monkeypatch.setattr(task, "LARGEST_ERROR", -1.0)
    done = run("soundnet5-test", tmp_path / "x.onnx")
    assert done.exit_code == 2
    assert "differ" in done.stderr
    assert not list(tmp_path.iterdir())
    done = run("soundnet5-test", tmp_path / "no" / "x.onnx")
    assert done.exit_code == 2
    assert "folder does not exist" in done.stderr
