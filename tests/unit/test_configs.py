"""Every configuration file composes, and everything it names can be made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from coala_latent.data.factor_sources import RecordingSource
from coala_latent.data.latent_instances import FinishedLatents
from coala_latent.data.latents import LabelledLatents
from coala_latent.data.module import TrainingData
from coala_latent.errors import ConfigError
from coala_latent.registry import build_front_end, build_module
from coala_latent.tasks.disentangler import factor_spec, make_flow
from coala_latent.tasks.runs import RunFolder
from coala_latent.tasks.train import config_folder, quote_path, train
from coala_latent.tasks.train_disentangler import LatentSettings
from coala_latent.training.objective import Objective

# Groups of other commands, tested with these.
ELSEWHERE = {"doc2vec"}
FILES = sorted(
    path.relative_to(config_folder())
    for path in config_folder().glob("*/*.yaml")
    if path.parent.name not in ELSEWHERE
)
CHOICES = [f"{path.parent.as_posix()}={path.stem}" for path in FILES]
# The small models only: the papers' sizes are built elsewhere.
SMALL = "model.sizes.channels=2"
SMALL_SOUNDNET = {8: "model.sizes.widths=[2,2,2,2,2,2,2]", 5: "model.sizes.widths=[2,2,2,2]"}
# What follows from the data.
COUNTS = {
    "coala": {"tags": 3},
    "coala_attention": {"tags": 3},
    "coala_cnn": {"tags": 3},
    "coala_mean_tags": {"tags": 3},
    "coala_resnet": {"tags": 3},
    "soundnet": {"objects": 6, "scenes": 4},
    "soundnet_classifier": {"classes": 3},
}
NEEDS_ROOT = (
    *("data=folder", "data=teacher", "experiment=coala_esc10", "experiment=soundnet_distill"),
    *("experiment=soundnet_finetune", "experiment=soundnet_scratch"),
)
# Files of disentanglers, which hear no sounds themselves, and what goes with them.
DISENTANGLING = {
    "data=builtin_crossed": [],
    "data=builtin_recordings": [],
    "data=latents": ["data.root=somewhere"],
    "data=recordings": ["data.root=somewhere", "data.levels=[material,action]"],
    "experiment=disentangle_materials_actions": [],
    "latents=default": [],
    "model=factor_flow": [],
    "objective=disentangling": [],
    "objective=disentangling_mixture": [],
    "objective=disentangling_original": [],
    "patches=pairs": [],
}
# Settings of a flow's blocks.
BLOCKS = ("block", "dims")
# Which groups belong together.
TAUGHT = ["data=synthetic_teacher", "patches=teacher", "model=soundnet5", "objective=distillation"]
LABELLED = ["patches=waveforms", "model=soundnet5_classifier", "objective=classification"]
TAGGING = ["model=coala_cnn", "objective=tagging"]
STORED = ["data=hdf5", "patches=stored", "data.train=train", "data.validation=validation"]
WITH = {
    "data=hdf5": STORED,
    "data=synthetic_teacher": TAUGHT,
    "data=teacher": TAUGHT,
    "model=coala_cnn": TAGGING,
    "model=coala_cnn_original": TAGGING,
    "model=soundnet5": TAUGHT,
    "model=soundnet8": TAUGHT,
    "model=soundnet5_classifier": LABELLED,
    "model=soundnet8_classifier": LABELLED,
    "objective=alignment_original": ["model=coala_original"],
    "objective=classification": LABELLED,
    "objective=distillation": TAUGHT,
    "objective=tagging": TAGGING,
    "objective=tagging_original": TAGGING,
    "patches=stored": STORED,
    "patches=teacher": TAUGHT,
    "patches=waveforms": LABELLED,
}


def config(*overrides: str) -> Any:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", ["output=unused", *overrides])


def test_there_are_files_in_every_group() -> None:
    groups = {path.parent.as_posix() for path in FILES}
    assert groups == {
        "callbacks",
        "data",
        "experiment",
        "latents",
        "logger",
        "model",
        "objective",
        "patches",
        "trainer",
    }


def small(*overrides: str) -> str:
    """The override that makes the model of a configuration small."""
    sizes = config(*overrides).model.sizes
    return SMALL_SOUNDNET[sizes.depth] if "depth" in sizes else SMALL


@pytest.mark.parametrize("choice", [each for each in CHOICES if each not in DISENTANGLING])
def test_every_file_composes_and_instantiates(choice: str, tmp_path: Path) -> None:
    group = choice.partition("=")[0]
    extra = [other for other in WITH.get(choice, []) if not other.startswith(f"{group}=")]
    extra += ["data.root=somewhere"] if choice in NEEDS_ROOT else []
    made = config(choice, *extra, small(choice, *extra), f"output={tmp_path}")
    settings = OmegaConf.to_container(made, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    source = instantiate(made.data)
    assert hasattr(source, "describe")
    front_end = build_front_end(**settings["model"]["front_end"])
    assert isinstance(instantiate(made.patches, source=source, front_end=front_end), TrainingData)
    kind = made.model.architecture
    module = build_module(kind, made.model.front_end, {**made.model.sizes, **COUNTS[kind]})
    if made.model.get("initialise"):
        instantiate(made.model.initialise)(module.network, generator=torch.Generator())
    assert isinstance(instantiate(made.objective, model=module), Objective)
    callbacks = [instantiate(node) for node in made.callbacks.values()]
    loggers = [instantiate(node) for node in made.logger.values()]
    trainer = instantiate(made.trainer, logger=False, default_root_dir=tmp_path)
    assert all(isinstance(entry, lightning.Callback) for entry in callbacks)
    assert all(hasattr(entry, "log_metrics") for entry in loggers)
    assert isinstance(trainer, lightning.Trainer)


@pytest.mark.parametrize("choice", DISENTANGLING)
def test_every_file_of_disentanglers_composes_and_instantiates(choice: str) -> None:
    assert choice in CHOICES
    made = config("experiment=disentangle_materials_actions", choice, *DISENTANGLING[choice])
    settings = OmegaConf.to_container(made, resolve=True, throw_on_missing=True)
    assert isinstance(settings, dict)
    assert isinstance(instantiate(made.data), RecordingSource | FinishedLatents)
    assert LatentSettings(**settings["latents"]).components == 64
    latents = LabelledLatents(
        values=np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32),
        labels=np.stack([np.arange(12) % 6, np.arange(12) % 4], axis=1),
        factors=("material", "action"),
        classes=(tuple("abcdef"), tuple("ghij")),
        recording=np.arange(12),
        take=np.arange(12),
        start=np.zeros(12),
        end=np.ones(12),
    )
    data = instantiate(made.patches, _partial_=True)(train=latents, validation=latents)
    assert isinstance(data, TrainingData)
    data.setup()
    sizes = {key: value for key, value in settings["model"].items() if key not in BLOCKS}
    spec = factor_spec(5, latents.factors, *(settings["model"][key] for key in BLOCKS))
    flow = make_flow(data, spec, sizes, 0)
    objective = instantiate(made.objective, model=flow)
    assert isinstance(objective, Objective)
    assert objective.pair_loss(data.train_pairs[0, 0]).isfinite()


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
        ("objective.contrastive.positives=all", "shared_tags"),
        ("objective.tag_masking=1", "tag_masking"),
        ("+model.sizes.words=3", "words"),
        ("model.front_end.name=mel", "coala_standard"),
        ("+patches.colour=1", "colour"),
        ("patches=teacher", "BuiltinSounds has no teachers"),
        ("model.front_end.name=waveform", "a COALA model"),
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


@pytest.mark.parametrize("experiment", ["coala_ae_c", "coala_e_c", "coala_cnn"])
@pytest.mark.parametrize(
    ("choice", "key"), [(STORED, "train"), (["data=folder", "data.root=x"], "root")]
)
def test_the_papers_experiments_take_other_data(
    experiment: str, choice: list[str], key: str
) -> None:
    made = config(f"experiment={experiment}", *choice)
    assert key in made.data
    assert "takes" not in made.data


def test_quoted_paths_and_other_settings_are_left_alone() -> None:
    for argument in ("data.root='a b'", "data.root=", "name=a b", "--help", "+x=[1,2]"):
        assert quote_path(argument) == argument


@pytest.mark.parametrize(
    ("chosen", "licence"),
    [
        ([], "MIT"),
        (["data=builtin_long"], "MIT"),
        (["data=hdf5", "patches=stored", "data.train=a", "data.validation=b"], "unknown"),
        (["data=folder", "data.root=sounds"], "unknown"),
    ],
)
def test_a_licence_is_stated_for_sounds_that_are_known(chosen: list[str], licence: str) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["output=unused", *chosen])
    assert config.licence == licence
    assert ("built-in" in config.description) == (licence == "MIT")
