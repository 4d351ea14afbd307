"""``python train.py`` as a process: results, resuming, kill -9, wrong settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from coala_latent.registry import build_model
from coala_latent.tasks.train import main
from coala_latent.weights import read_weights

WriteSound = Callable[..., tuple[Path, np.ndarray]]

TINY = [
    "data.takes=2",
    "data.clips_per_take=1",
    "data.duration=0.5",
    "patches.batch_size=8",
    "patches.validation=0.5",
    "model.sizes.channels=2",
    "model.sizes.hidden=8",
    "model.sizes.decoders=true",
    "objective.audio_weight=0.1",
    "objective.tag_weight=1.0",
    "callbacks=none",
    "logger=csv",
    "threads=1",
    "progress=false",
    "output=run",
]


@pytest.fixture
def command(project: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(project / "train.py"), *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finish(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    return output, errors


def test_a_run_leaves_a_model_with_its_card_and_nothing_elsewhere(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    output, _ = finish(command(*TINY, "trainer.max_epochs=2", "name=tiny", "seed=3"))
    assert "run/tiny.safetensors" in output
    assert "audio_to_tags_map" in output
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    module, card = build_model(tmp_path / "run" / "tiny.safetensors")
    assert card.sizes["decoders"] is False
    assert card.sizes["tags"] == len(card.vocabulary)
    assert not torch.equal(module.front_end.mean, torch.zeros(96))
    training = card.training
    assert training["data"]["clips"] == {"train": 24, "validation": 24}
    assert len(training["data"]["sha256"]) == 64
    assert training["config"]["model"]["sizes"]["channels"] == 2
    assert training["versions"]["torch"] == torch.__version__
    assert training["metrics"]["validation/audio_to_tags_map"] > 0
    assert (training["seed"], training["epochs"]) == (3, 2)
    assert str(tmp_path) not in json.dumps(card.to_dict())
    assert list((tmp_path / "run" / "logs").rglob("metrics.csv"))
    for name in ("best", "last"):
        checkpoint = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
        assert torch.load(checkpoint, weights_only=True)["epoch"] in (0, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_killed_at_any_moment_ends_as_if_it_had_not_been(
    command: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = [*TINY, "patches.crops=4", "trainer.max_epochs=12", "name=tiny", "export=last"]
    assert run_here(monkeypatch, tmp_path, *settings) == 0
    straight = read_weights(tmp_path / "run" / "tiny.safetensors")
    (tmp_path / "run").rename(tmp_path / "straight")

    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    reached = []
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = command(*settings)
        seen = written(last)
        wait_until(lambda: written(last) > seen, process)  # noqa: B023
        # Somewhere within a later epoch.
        os.kill(process.pid, number)
        finish(process, status)
        reached.append(torch.load(last, weights_only=True)["epoch"])
    assert 0 <= reached[0] < reached[1] < 11
    assert not (tmp_path / "run" / "tiny.safetensors").exists()

    finish(command(*settings))
    resumed = read_weights(tmp_path / "run" / "tiny.safetensors")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    rows = [path.read_text() for path in (tmp_path / "run" / "logs").rglob("metrics.csv")]
    assert len(rows) == 3, "the logs of the parts are kept"
    cards = [
        json.loads((tmp_path / run / "tiny.json").read_text("utf-8")) for run in ("run", "straight")
    ]
    assert cards[0] == cards[1]


def written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def run_here(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return main()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_folder_of_sounds_trains_and_bad_files_are_named(
    tmp_path: Path, write_sound: WriteSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "söunds, a=b [1] {x} it's"
    for label in ("Dog bark", "Rain [x]"):
        for number in range(4):
            write_sound(f"{label}/1-{number}-A.wav", 0.5, 22000, folder=root)
    (root / "Dog bark" / "broken.wav").write_bytes(b"nothing")
    small = [entry for entry in TINY if not entry.startswith("data.")]
    given = ["experiment=coala_esc10", f"data.root={root}", *small]
    with pytest.warns(UserWarning, match=r"broken\.wav"):
        status = run_here(
            monkeypatch, tmp_path, *given, "patches.batch_size=4", "trainer.max_epochs=1"
        )
    assert status == 0
    _, card = build_model(tmp_path / "run" / "coala-esc10.safetensors")
    assert card.vocabulary == ("bark", "dog", "rain", "x")
    assert card.training["data"]["skipped"] == ["broken.wav"]


@pytest.mark.parametrize("callbacks", ["default", "all"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_needs_no_logger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, callbacks: str
) -> None:
    without = [each for each in TINY if not each.startswith(("callbacks=", "logger="))]
    given = ["logger=none", f"callbacks={callbacks}", "trainer.max_epochs=1"]
    assert run_here(monkeypatch, tmp_path, *without, *given) == 0
    logs = {path.name for path in (tmp_path / "run" / "logs").rglob("*") if path.is_file()}
    assert logs == ({"epoch-0000.png"} if callbacks == "all" else set())


def test_a_wrong_key_ends_the_process_with_a_message_and_status_2(
    command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    output, errors = finish(command("patches.batchsize=4"), status=2)
    assert "batchsize" in errors + output
    assert "Traceback" not in errors + output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=none_such"], "none_such"),
        (["experiment=coala_esc10"], "data.root"),
        (["experiment=coala_esc10", "data.root=missing"], "missing: no such folder"),
        ([*TINY, "objective.optimizer.lr=fast"], "optimizer"),
        ([*TINY, "patches.batch_size=1000"], "batch_size"),
        ([*TINY, "trainer.max_epochs=1", "trainer.accelerator=abacus"], "abacus"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_wrong_settings_end_with_a_message_and_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert run_here(monkeypatch, tmp_path, *arguments) == 2
    printed = "".join(capfd.readouterr())
    assert message in printed
    assert "Traceback" not in printed
