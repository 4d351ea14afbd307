"""A model, its layer and its pooling in one string, for interfaces that pass nothing else."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from coala_latent.errors import ModelNotFoundError
from coala_latent.registry import model_card

__all__ = ["ModelSpec", "parse_spec"]

_RATE = re.compile(r"(?P<model>.+)@(?P<rate>[1-9][0-9]{2,6})", re.DOTALL)


@dataclass(frozen=True)
class ModelSpec:
    """What ``MODEL[:LAYER[:POOLING]][@RATE]`` says.

    Attributes:
        model: Registry name, or path of a ``.safetensors`` file.
        layers: Names of layers; empty for the model's default.
        pooling: How a layer with positions becomes a vector.
        sample_rate: Of the audio that will be given, in Hz; None for the model's own.
    """

    model: str
    layers: tuple[str, ...] = ()
    pooling: str = "mean"
    sample_rate: int | None = None


def parse_spec(text: str) -> ModelSpec:
    """Take ``MODEL[:LAYER[:POOLING]][@RATE]`` apart.

    Several layers are joined by ``+``. Names of files may contain ``:`` and ``@`` themselves: the
    longest beginning that is a model counts.

    Raises:
        ModelNotFoundError: No beginning of it is a model.
    """
    if os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises on names that are too long
        return ModelSpec(text)
    found = _RATE.fullmatch(text)
    rest, rate = (found["model"], int(found["rate"])) if found else (text, None)
    parts = rest.split(":")
    for given in range(min(3, len(parts))):
        model = ":".join(parts[: len(parts) - given])
        if not _exists(model):
            continue
        layers, pooling = (*parts[len(parts) - given :], "", "")[:2]
        names = tuple(layers.split("+")) if layers else ()
        return ModelSpec(model, names, pooling or "mean", rate)
    model_card(parts[0])
    raise ModelNotFoundError(f"{text!r} is more than MODEL:LAYER:POOLING@RATE")


def _exists(model: str) -> bool:
    try:
        model_card(model)
    except ModelNotFoundError:
        return False
    return True
