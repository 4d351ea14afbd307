"""``coala-latent disentangle`` from sounds, and from finished latents, to a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from coala_latent.cli import main
from coala_latent.data.factor_sounds import write_continuous
from coala_latent.tasks.disentangler import load_disentangler

QUICK = (
    *("latents.components=6", "patches.batches=4", "patches.batch_size=64", "flow.epochs=2"),
    *("exploration.original_rows=120", "exploration.tsne_rows=60", "transfer.pairs=12"),
    *("measures.resamples=20", "layers.names=[layer1,layer10,embedding]"),
)


def run(*arguments: object) -> Result:
    given = [str(each) for each in arguments]
    return CliRunner().invoke(main, ["disentangle", "--quiet", *given])


def ran(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    stages = json.loads(result.stdout)["stages"]
    return [name for name, about in stages.items() if not about["cached"]]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    write_continuous(folder, ["wood", "metal"], ["tap", "rub"], takes=3, seconds=4.0, seed=1)
    return folder


@pytest.fixture(scope="module")
def finished(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    output = tmp_path_factory.mktemp("analysis")
    given = [
        *("--recordings", sounds, "--table", "tags.csv", "--factor", "material"),
        *("--factor", "action", "--take", "take", "--model", "yamnet-test"),
        *("--output", output, "--json"),
    ]
    assert len(ran(run(*given, *QUICK))) == 8
    return output, given


def test_a_report_is_written_with_its_numbers(finished: tuple[Path, list[Any]]) -> None:
    output, _ = finished
    page = (output / "report" / "report.html").read_text("utf-8")
    for part in ("Which layer knows what", "eta squared", "What the network hears", "Triplets"):
        assert part in page
    assert page.count("data:image/png;base64,") >= 8
    results = json.loads((output / "report" / "results.json").read_text("utf-8"))
    assert set(results["exploration"]) == {"material", "action"}
    assert sum(results["recordings"]["train"]) == 8
    assert results["transfer"]["layer"] == "layer10"
    assert results["stages"]["flow"]["needs"] == ["recordings", "latents"]
    fitted = load_disentangler(output / "flow" / "disentangler")
    assert fitted.spec.factors == ("material", "action")
    assert fitted.projection is not None


def test_no_held_out_recording_is_fitted_to(finished: tuple[Path, list[Any]]) -> None:
    output, _ = finished
    table = json.loads((output / "recordings" / "table.json").read_text("utf-8"))
    takes = np.array(table["takes"])
    train = np.array(table["train"])
    assert not set(takes[train]) & set(takes[~train])
    rows = json.loads((output / "measures" / "measures.json").read_text("utf-8"))["rows"]
    recording = np.load(output / "flow" / "latents" / "T.npy", allow_pickle=False)
    assert sum(rows.values()) == len(recording)


def test_only_what_depends_on_a_change_runs_again(finished: tuple[Path, list[Any]]) -> None:
    _, given = finished
    assert ran(run(*given, *QUICK)) == []
    assert ran(run(*given, *QUICK, "transfer.clamp=true")) == ["transfer", "report"]
    assert ran(run(*given, *QUICK, "transfer.clamp=true", "--stage", "measures", "--again")) == [
        "measures"
    ]


def test_finished_latents_need_no_sounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(240) % 3, np.arange(240) // 3 % 2], axis=1)
    values = rng.normal(size=(240, 8)).astype(np.float32)
    values[:, 0] += 4 * labels[:, 0]
    folder = tmp_path / "a, b='c'"
    folder.mkdir()
    np.save(folder / "X.npy", values)
    np.save(folder / "Y.npy", labels)
    result = run(
        *("--latents", folder, "--output", tmp_path / "out", "--json", *QUICK),
        *("latents.split=original", "patches.other_take=false"),
    )
    assert "transfer" not in ran(result)
    results = json.loads((tmp_path / "out" / "report" / "results.json").read_text("utf-8"))
    assert results["recordings"] is None
    assert results["transfer"] is None


def test_copies_in_other_rooms_are_recordings_of_the_same_take(
    sounds: Path, tmp_path: Path
) -> None:
    given = [
        *("--recordings", sounds, "--table", "tags.csv", "--factor", "material"),
        *("--factor", "action", "--take", "take", "--reverb", "--stage", "recordings"),
    ]
    ran(run(*given, "--output", tmp_path, "--model", "yamnet-test", "--json", *QUICK))
    table = json.loads((tmp_path / "recordings" / "table.json").read_text("utf-8"))
    dry, wet = np.split(np.array(table["takes"]), 2)
    np.testing.assert_array_equal(dry, wet)
    assert len(dry) == 12
    assert sorted(path.suffix for path in (tmp_path / "recordings").rglob("*.wav")) == [".wav"] * 12


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--recordings", "here"], "--names, --table and --levels"),
        (["--names", "x"], "--names, --table and --levels"),
        (["--recordings", "a", "--levels", "b", "--latents", "c"], "not both"),
        (["--latents", "c", "--reverb"], "--reverb"),
        (["flow.epoch=3"], "epoch"),
        (["--model", "yamnt"], "yamnt"),
        (["--latents", "nowhere"], "nowhere"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, given: list[str], said: str) -> None:
    result = run("--output", tmp_path / "out", *given)
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Traceback" not in result.output
