"""The original project's JSON configurations as overrides of ours.

Keys as in its ``configs/dual_ae_c.json`` and ``configs/dual_e_c.json``, of its branch with masked
tags, and of its follow-up with encoders of words. Each becomes the override that means the same,
and anything else on the command line goes before it.
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
_FOLLOW_UP = {"mean": "coala_follow_up_mean", "self": "coala_follow_up"}
_OF_WORDS = ("num_heads", "size_w2v")


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
        told = ", ".join(kept) or ("given on the command line" if overrides else _WITHOUT[key])
        if kept and key in _NOTES:
            told = f"{told} ({_NOTES[key]})"
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
    try:
        experiment = _experiment(values)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    if values.get("aggregation") == "mean" and "num_heads" in made:
        made["num_heads"] = ()
    return {"(the file)": (*experiment, "data=hdf5", "patches=stored"), **made}


def _experiment(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The encoders alone where nothing is to be reconstructed; the follow-up's where words are."""
    idle = [key for key in _WEIGHTS if values.get(key) == 0]
    if "aggregation" not in values:
        for key in _OF_WORDS:
            if key in values:
                raise ValueError(f"{key} is of the follow-up: add aggregation (mean or self)")
        return (f"experiment={'coala_ae_c' if len(idle) < 2 else 'coala_e_c'}",)
    if values.get("tag_loss_weight"):
        raise ValueError(
            f"tag_loss_weight={values['tag_loss_weight']!r}: the follow-up has no decoder of tags "
            "(use 0)"
        )
    experiment = f"experiment={_FOLLOW_UP[values['aggregation']]}"
    return (experiment, *(["model.sizes.decoders=false"] if _WEIGHTS[0] in idle else []))


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


def _share(name: str) -> Callable[[Any], tuple[str, ...]]:
    number = _number(name)

    def override(value: Any) -> tuple[str, ...]:
        made = number(value)
        if value >= 1:
            raise ValueError("give a share below 1")
        return made

    return override


def _aggregation(value: Any) -> tuple[str, ...]:
    if value not in tuple(_FOLLOW_UP):
        raise ValueError(f"use {' or '.join(_FOLLOW_UP)}")
    return ()


def _device(value: Any) -> tuple[str, ...]:
    match = re.fullmatch(r"(cpu|cuda|mps|auto)(?::(\d+))?", str(value))
    if not match or (match[2] and match[1] != "cuda"):
        raise ValueError("use cpu, cuda, cuda:NUMBER, mps or auto")
    if match[2]:
        return ("trainer.accelerator=cuda", f"trainer.devices=[{match[2]}]")
    return (f"trainer.accelerator={match[1]}",)


def _not_needed(value: Any) -> tuple[str, ...]:
    return ()


# What is said of keys without an override of their own, and beside one.
_WITHOUT = {
    "aggregation": "chooses the experiment",
    "num_heads": "not needed: a mean has no heads",
    "save_model_every": "not needed: the last and the best epoch are kept",
}
_NOTES = {
    "size_w2v": "vectors of words are learned with the rest, where the original's are Word2Vec's",
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
    "save_model_every": _not_needed,
    "tag_masking_ratio": _share("objective.tag_masking"),
    "aggregation": _aggregation,
    "num_heads": _count("model.sizes.heads"),
    "size_w2v": _count("model.sizes.words"),
}
