"""Training: from a composed configuration to a model with its card."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import lightning
import torch
from hydra.errors import HydraException
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from coala_latent.data.module import TrainingData
from coala_latent.errors import CoalaLatentError, ConfigError
from coala_latent.registry import (
    build_front_end,
    build_model,
    build_module,
    describe_model,
    save_model,
)
from coala_latent.tasks.fitting import (
    Outcome,
    TrainingParts,
    fit_and_score,
    hush_lightning,
    instantiated,
    trainer_parts,
    versions,
)
from coala_latent.tasks.legacy_config import with_legacy_config
from coala_latent.tasks.overrides import quote_path
from coala_latent.tasks.progress import console
from coala_latent.tasks.runs import RunFolder
from coala_latent.tasks.train_disentangler import disentangler_parts
from coala_latent.training.objective import Objective
from coala_latent.weights import load_into

__all__ = ["config_folder", "main", "quote_path", "train"]

# Where a run is, not what it is: these neither distinguish runs nor belong into a card.
_PLACES = ("output", "resume", "progress", "logger", "hydra")
# Paths among the settings, for the same reason not in a card.
_PATHS = {
    *(("data", name) for name in ("root", "train", "validation", "vocabulary")),
    *(("model", "start"), ("latents", "model")),
}


def config_folder() -> Path:
    """Folder of the configuration: in the wheel, or beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def train(config: DictConfig) -> dict[str, Any]:
    """Train a model and write it, with its card, into the output folder.

    A run that was interrupted goes on after its last finished epoch, with the same result as if
    it had not been.

    Args:
        config: As composed from `config_folder`.

    Returns:
        ``model`` (path of the weights), ``card``, ``output``, ``metrics`` of the exported weights
        on the validation part, ``epochs`` and ``seconds`` of this call.

    Raises:
        ConfigError: A setting is missing or does not make sense.
        DataError: The data cannot be used.
    """
    began = time.monotonic()
    settings = _plain(config)
    _check(settings)
    run = RunFolder(Path(settings["output"]))
    checkpoint = run.start(_identity(settings), str(settings["resume"]))
    if settings["threads"]:
        torch.set_num_threads(int(settings["threads"]))
    parts = _build(config, settings)
    trainer = _trainer(config, settings, run, parts)
    chosen = run.checkpoints / f"{settings['export']}.ckpt"
    outcome = fit_and_score(trainer, parts.objective, parts.data, checkpoint, chosen)
    if trainer.is_global_zero:
        parts.export(run.folder, outcome)
        run.finish()
    return {
        "model": str(run.folder / f"{settings['name']}.safetensors"),
        "card": str(run.folder / f"{settings['name']}.json"),
        "output": str(run.folder),
        "metrics": outcome.metrics,
        "epochs": outcome.epochs,
        "seconds": round(time.monotonic() - began, 1),
    }


def _plain(config: DictConfig) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        raise ConfigError(f"{key}: {str(error).splitlines()[0]} (give it as {key}=...)") from error
    if not isinstance(values, dict):
        raise ConfigError("the configuration is not a mapping of settings")
    return {str(name): value for name, value in values.items()}


def _check(settings: dict[str, Any]) -> None:
    name = str(settings["name"])
    if not name or name.startswith(".") or Path(name).name != name:
        raise ConfigError(f"name={name!r} must do as a file name")
    if settings["export"] not in ("best", "last"):
        raise ConfigError(f"export={settings['export']!r}: use best or last")


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in _PLACES}


def _told(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings for a card, which tells no paths."""
    config = _identity(settings)
    return {
        name: {key: value for key, value in config[name].items() if (name, key) not in _PATHS}
        if isinstance(config[name], dict)
        else config[name]
        for name in config
    }


def _build(config: DictConfig, settings: dict[str, Any]) -> TrainingParts:
    if settings["task"] not in _TASKS:
        raise ConfigError(f"task={settings['task']!r}: use one of {', '.join(_TASKS)}")
    return _TASKS[settings["task"]](config, settings)


def _sound_model(config: DictConfig, settings: dict[str, Any]) -> TrainingParts:
    """Data first, because the model's size and scaling follow from it."""
    model, seed = settings["model"], int(settings["seed"])
    data: TrainingData = instantiated(
        config.patches,
        source=instantiated(config.data),
        front_end=build_front_end(**model["front_end"]),
        seed=seed,
        quiet=not settings["progress"],
    )
    data.setup()
    sizes = {**model["sizes"], **data.sizes()}
    torch.manual_seed(seed)
    module: Any = build_module(model["architecture"], model["front_end"], sizes)
    # A fifth faster on CPUs, and what CUDA's half precision convolutions want.
    module.to(memory_format=torch.channels_last)
    module.front_end.load_state_dict({**module.front_end.state_dict(), **data.scaling()})
    if model.get("initialise"):
        drawn = torch.Generator().manual_seed(seed)
        instantiated(config.model.initialise)(module.network, generator=drawn)
    start = _start_from(module, str(model["start"])) if model.get("start") else {}
    objective: Objective = instantiated(config.objective, model=module)

    def export(folder: Path, outcome: Outcome) -> None:
        _export(settings, data, module, sizes, start, folder, outcome)

    return TrainingParts(data, objective, export)


def _disentangler(config: DictConfig, settings: dict[str, Any]) -> TrainingParts:
    return disentangler_parts(config, settings, _told(settings))


_TASKS = {"model": _sound_model, "disentangler": _disentangler}


def _start_from(module: Any, name: str) -> dict[str, Any]:
    """Copy a model's weights; an output that the other model does not have stays as drawn.

    Returns:
        What the weights are, for the card.

    Raises:
        ConfigError: The other model hears sounds in another way.
        WeightsError: Below the outputs the two models are not alike.
    """
    other, card = build_model(name)
    heard = [repr(each.front_end) for each in (module, other)]
    if heard[0] != heard[1]:
        raise ConfigError(f"model.start={name} hears {heard[1]}, the model {heard[0]}")
    own, given = module.state_dict(), other.state_dict()
    new = tuple(f"network.{output}." for output in module.network.outputs)
    weights = {
        key: value if key.startswith(new) and key not in given else given[key]
        for key, value in own.items()
        if key in given or key.startswith(new)
    }
    load_into(module, weights, f"model.start={name}")
    return {"model": card.name, "sha256": card.sha256}


def _trainer(
    config: DictConfig, settings: dict[str, Any], run: RunFolder, parts: TrainingParts
) -> lightning.Trainer:
    trainer: lightning.Trainer = instantiated(
        config.trainer,
        **trainer_parts(
            run,
            parts.objective,
            int(settings["seed"]),
            callbacks=[instantiated(node) for node in (config.callbacks or {}).values()],
            loggers=[instantiated(node) for node in (config.logger or {}).values()],
            progress=bool(settings["progress"]),
        ),
    )
    return trainer


def _export(
    settings: dict[str, Any],
    data: TrainingData,
    module: nn.Module,
    sizes: dict[str, Any],
    start: dict[str, Any],
    folder: Path,
    outcome: Outcome,
) -> None:
    model, sizes = settings["model"], dict(sizes)
    if sizes.get("decoders") and not settings["export_decoders"]:
        sizes["decoders"] = False
        encoders = build_module(model["architecture"], model["front_end"], sizes)
        names, weights = encoders.state_dict(), module.state_dict()
        load_into(encoders, {name: weights[name] for name in names}, "training")
        module = encoders
    card = describe_model(
        settings["name"],
        settings["description"],
        architecture=model["architecture"],
        front_end=model["front_end"],
        sizes=sizes,
        default_layer=model.get("default_layer"),
        **data.names(),
        licence=settings["licence"],
        training={
            "data": data.summary(),
            **({"start": start} if start else {}),
            "config": _told(settings),
            "metrics": outcome.metrics,
            "epochs": outcome.epochs,
            "weights": f"{settings['export']} epoch",
            "seed": settings["seed"],
            "versions": versions(),
        },
    )
    save_model(module, card, folder)


def main() -> int:
    """The command: Hydra composes the configuration from the arguments, `train` does the rest.

    Returns:
        Exit status: 0, 2 for wrong settings or data, 130 when interrupted.
    """
    reached = False

    def task(config: DictConfig) -> None:
        nonlocal reached
        reached = True
        hush_lightning()
        _report(_ending(lambda: train(config)))

    try:
        sys.argv[1:] = with_legacy_config([quote_path(argument) for argument in sys.argv[1:]])
    except ConfigError as error:
        console().print(f"train: {error}", style="red", markup=False, soft_wrap=True)
        return 2
    run = hydra.main(version_base="1.3", config_path=str(config_folder()), config_name="train")
    try:
        run(task)()
    except HydraException as error:
        console().print(f"train: {error}", style="red", markup=False)
        return 2
    except SystemExit as stop:
        # Hydra ends with 1 when it cannot compose the configuration, and has said why.
        return 2 if stop.code == 1 and not reached else int(stop.code or 0)
    return 0


def _ending(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Turn expected errors into a line and an exit status."""
    try:
        return work()
    except CoalaLatentError as error:
        console().print(f"train: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console().print("interrupted; the same command goes on after the last finished epoch")
        sys.exit(130)


@rank_zero_only
def _report(results: dict[str, Any]) -> None:
    width = max(map(len, results["metrics"]), default=0)
    for name, value in results["metrics"].items():
        print(f"{name:{width}}  {value:.4f}")
    print(f"{results['epochs']} epochs, {results['seconds']:.0f} s")
    print(f"model  {results['model']}")
    print(f"card   {results['card']}")
    print(f"logs   {Path(results['output']) / 'logs'}")
