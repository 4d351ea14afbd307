"""The original project's JSON configurations as overrides of ours.

Keys as in its ``configs/dual_ae_c.json`` and ``configs/dual_e_c.json``. Each becomes the override
that means the same, and anything else on the command line goes before it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from coala_latent.errors import ConfigError
from coala_latent.tasks.overrides import quote_value
from coala_latent.tasks.progress import console

__all__ = ["OPTION", "legacy_overrides", "with_legacy_config"]

OPTION = "--legacy-config"

_FILES = ("train_dataset_file", "validation_dataset_file")
_WEIGHTS = ("audio_loss_weight", "tag_loss_weight")


def with_legacy_config(arguments: Sequence[str]) -> list[str]:
    """Replace ``--legacy-config FILE`` among arguments by overrides, and say which.

    An override that is also given as an argument is left out: the argument counts.

    Raises:
        ConfigError: No file is named, or it cannot be used.
    """
    left, files, waiting = [], [], False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if waiting or (name == OPTION and value):
            files.append(argument if waiting else value)
            waiting = False
        elif argument == OPTION:
            waiting = True
        else:
            left.append(argument)
    if waiting or len(files) > 1:
        raise ConfigError(f"{OPTION}: give it once, with one JSON file")
    if not files:
        return left
    given = {argument.partition("=")[0].lstrip("+~") for argument in left}
    added = []
    for key, overrides in legacy_overrides(Path(files[0])).items():
        kept = [each for each in overrides if each.partition("=")[0] not in given]
        told = ", ".join(kept) or ("given on the command line" if overrides else _NOT_NEEDED[key])
        console().print(f"{files[0]}: {key} -> {told}", markup=False, soft_wrap=True)
        added += kept
    return [*added, *left]


def legacy_overrides(path: Path) -> dict[str, tuple[str, ...]]:
    """What each key of the original's configuration becomes; empty for what is not needed.

    Paths stay relative to the current folder, as in the original.

    Raises:
        ConfigError: The file is missing or no JSON object, a key is unknown or missing, or its
            value does not make sense.
    """
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file (a configuration of the original)") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not an object of settings")
    for key in _FILES:
        if key not in values:
            raise ConfigError(f"{path}: {key} is missing")
    made: dict[str, tuple[str, ...]] = {}
    for key, value in values.items():
        if key not in _MAPPED:
            raise ConfigError(
                f"{path}: unknown key {key!r}; known are {', '.join(_MAPPED)} (remove it, or give "
                "what it means as an override)"
            )
        try:
            made[key] = _MAPPED[key](value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{path}: {key}={value!r}: {error}") from error
    return {"(the file)": (_experiment(values), "data=hdf5", "patches=stored"), **made}


def _experiment(values: Mapping[str, Any]) -> str:
    """The encoders alone where nothing is to be reconstructed."""
    encoders = all(values.get(key) == 0 for key in _WEIGHTS)
    return f"experiment={'coala_e_c' if encoders else 'coala_ae_c'}"


def _text(name: str) -> Callable[[Any], tuple[str, ...]]:
    def override(value: Any) -> tuple[str, ...]:
        if not isinstance(value, str) or not value:
            raise ValueError("give a text")
        return (f"{name}={quote_value(value)}",)

    return override


def _number(name: str, *, least: float = 0.0) -> Callable[[Any], tuple[str, ...]]:
    def override(value: Any) -> tuple[str, ...]:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError("give a number")
        if not math.isfinite(value) or value < least:
            raise ValueError(f"give a number of at least {least:g}")
        return (f"{name}={value!r}",)

    return override


def _count(name: str) -> Callable[[Any], tuple[str, ...]]:
    def override(value: Any) -> tuple[str, ...]:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError("give a whole number of at least 1")
        return (f"{name}={value}",)

    return override


def _device(value: Any) -> tuple[str, ...]:
    match = re.fullmatch(r"(cpu|cuda|mps|auto)(?::(\d+))?", str(value))
    if not match or (match[2] and match[1] != "cuda"):
        raise ValueError("use cpu, cuda, cuda:NUMBER, mps or auto")
    if match[2]:
        return ("trainer.accelerator=cuda", f"trainer.devices=[{match[2]}]")
    return (f"trainer.accelerator={match[1]}",)


def _not_needed(value: Any) -> tuple[str, ...]:
    return ()


_NOT_NEEDED = {
    "save_model_every": "not needed: the last and the best epoch are kept",
}

_MAPPED: dict[str, Callable[[Any], tuple[str, ...]]] = {
    "experiment_name": _text("name"),
    "train_dataset_file": _text("data.train"),
    "validation_dataset_file": _text("data.validation"),
    "id2tag_file": _text("data.vocabulary"),
    "audio_loss_weight": _number("objective.audio_weight"),
    "tag_loss_weight": _number("objective.tag_weight"),
    "contrastive_loss_weight": _number("objective.contrastive_weight"),
    "contrastive_temperature": _number("objective.contrastive.temperature"),
    "epochs": _count("trainer.max_epochs"),
    "batch_size": _count("patches.batch_size"),
    "learning_rate": _number("objective.optimizer.lr"),
    "device": _device,
    "log_interval": _count("trainer.log_every_n_steps"),
    **dict.fromkeys(_NOT_NEEDED, _not_needed),
}
