"""Configurations of commands that Hydra composes, besides ``train.py``'s."""

from __future__ import annotations

from collections.abc import Collection

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from coala_latent.errors import ConfigError
from coala_latent.tasks.train import config_folder

__all__ = ["composed"]

# What Hydra adds is for other programs than these.
_ADVICE = (" To append to your config", " Config search path:", " See https://hydra.cc")


def composed(name: str, overrides: Collection[str]) -> DictConfig:
    """The configuration ``configs/NAME.yaml`` with overrides ``key=value``.

    Raises:
        ConfigError: An override does not make sense.
    """
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            return compose(name, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        text = " ".join(str(error).split())
        for advice in _ADVICE:
            text = text.partition(advice)[0]
        raise ConfigError(
            f"{text} (settings are KEY=VALUE with the keys of configs/{name}.yaml)"
        ) from error
