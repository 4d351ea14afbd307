"""Every configuration file composes, and everything it names can be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from coala_latent.errors import ConfigError
from coala_latent.registry import build_module
from coala_latent.tasks.runs import RunFolder
from coala_latent.tasks.train import config_folder, quote_path, train
from coala_latent.training.objective import Objective

FILES = sorted(path.relative_to(config_folder()) for path in config_folder().glob("*/*.yaml"))
CHOICES = [f"{path.parent.as_posix()}={path.stem}" for path in FILES]
# The small models only: the paper's sizes are built in the tests of three steps.
SMALL = "model.sizes.channels=2"


def config(*overrides: str) -> Any:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", ["output=unused", *overrides])


def test_there_are_files_in_every_group() -> None:
    groups = {path.parent.as_posix() for path in FILES}
    assert groups == {
        "callbacks",
        "data",
        "experiment",
        "logger",
        "model",
        "objective",
        "patches",
        "trainer",
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes_and_instantiates(choice: str, tmp_path: Path) -> None:
    extra = ["data.root=somewhere"] if choice in ("data=folder", "experiment=coala_esc10") else []
    if choice.startswith("model=coala_cnn"):
        extra.append("objective=tagging")
    if choice.startswith("objective=tagging"):
        extra.append("model=coala_cnn")
    if choice == "objective=alignment_original":
        extra.append("model=coala_original")
    made = config(choice, SMALL, f"output={tmp_path}", *extra)
    settings = OmegaConf.to_container(made, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    assert hasattr(instantiate(made.data), "describe")
    module = build_module(
        made.model.architecture, made.model.front_end, {**made.model.sizes, "tags": 3}
    )
    assert isinstance(instantiate(made.objective, model=module), Objective)
    callbacks = [instantiate(node) for node in made.callbacks.values()]
    loggers = [instantiate(node) for node in made.logger.values()]
    trainer = instantiate(made.trainer, logger=False, default_root_dir=tmp_path)
    assert all(isinstance(entry, lightning.Callback) for entry in callbacks)
    assert all(hasattr(entry, "log_metrics") for entry in loggers)
    assert isinstance(trainer, lightning.Trainer)


def test_a_missing_root_is_told_with_its_key(tmp_path: Path) -> None:
    made = config("experiment=coala_esc10", f"output={tmp_path / 'run'}")
    with pytest.raises(ConfigError, match=r"data\.root=\.\.\."):
        train(made)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=a/b", "file name"),
        ("export=first", "best or last"),
        ("resume=gone.ckpt", "no such checkpoint"),
        ("+data.rooms=3", "rooms"),
        ("objective.contrastive.temperature=0", "temperature"),
        ("model.front_end.name=mel", "coala_standard"),
        ("+patches.colour=1", "colour"),
    ],
)
def test_settings_that_make_no_sense_are_typed_errors(
    tmp_path: Path, override: str, message: str
) -> None:
    small = ["data.takes=2", "data.clips_per_take=1", "data.duration=0.2", "progress=false"]
    with pytest.raises(ConfigError, match=message):
        train(config(f"output={tmp_path}", "patches.validation=0.5", *small, SMALL, override))


def test_a_finished_or_new_run_starts_anew_and_an_unfinished_one_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    settings = {"a": 1, "b": {"c": 1, "d": 1}}
    assert run.start(settings, "auto") is None
    last = run.checkpoints / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert run.start(settings, "auto") == last
    assert run.start(settings, str(last)) == last
    with pytest.raises(ConfigError, match=r"\(b\.c\).*resume=no"):
        run.start({"a": 1, "b": {"c": 2, "d": 1}}, "auto")
    run.finish()
    assert run.start({"b": 2}, "auto") is None
    assert not last.exists()


def test_a_damaged_state_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(ConfigError, match=r"run\.json"):
        RunFolder(tmp_path).start({}, "auto")


@pytest.mark.parametrize(
    "path",
    [
        "plain/x-1.0",
        "a b",
        "a,b.mp3",
        "x=y",
        "[1]",
        "{a}",
        "it's",
        "back\\slash\\",
        "\\'",
        "ö",
        '"q"x',
    ],
)
def test_any_path_can_be_given_without_quotes(path: str) -> None:
    argument = quote_path(f"data.root={path}")
    assert config("experiment=coala_esc10", argument).data.root == path


def test_quoted_paths_and_other_settings_are_left_alone() -> None:
    for argument in ("data.root='a b'", "data.root=", "name=a b", "--help", "+x=[1,2]"):
        assert quote_path(argument) == argument
