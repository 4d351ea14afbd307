"""The card: what a model hears, how it is built, where its weights are and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from coala_latent.errors import WeightsError

__all__ = ["CARD_VERSION", "Card", "read_card"]

CARD_VERSION = 1


@dataclass(frozen=True)
class Card:
    """Everything to know about a model before a weight is loaded.

    Attributes:
        name: Registry name.
        architecture: Key of the builder in `architectures`.
        description: One sentence.
        front_end: ``{"name": ..., **arguments}`` of the front end.
        sizes: Arguments of the architecture's builder.
        sample_rate: Rate the front end takes, in Hz.
        layers: Layers that can be embedded, with the values of one row under the default pooling.
        default_layer: The layer embedded unless another is named.
        hop_seconds: Seconds between rows.
        window_seconds: Seconds one row is computed from.
        min_samples: Shortest sound that is embedded without being extended, at `sample_rate`.
        short: What happens to shorter ones: ``"pad"``, ``"tile"`` or ``"error"``.
        drops: What of a sound is not heard; empty when every sample is.
        paper: Reference.
        project: The original project.
        licence: Of the weights.
        weights: File name beside the card; empty for a randomly initialised test model.
        sha256: Of the weights file.
        vocabulary: Tags in the order of the model's inputs or outputs.
        training: Data, configuration, metrics and versions of the run that made the weights.
    """

    name: str
    architecture: str
    description: str
    front_end: Mapping[str, Any]
    sizes: Mapping[str, Any]
    sample_rate: int
    layers: Mapping[str, int]
    default_layer: str
    hop_seconds: float
    window_seconds: float
    min_samples: int
    short: Literal["pad", "tile", "error"] = "pad"
    drops: str = ""
    paper: str = ""
    project: str = ""
    licence: str = ""
    weights: str = ""
    sha256: str = ""
    vocabulary: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"card_version": CARD_VERSION, **asdict(self), "vocabulary": list(self.vocabulary)}


def read_card(path: Path) -> Card:
    """Read a card from JSON.

    Raises:
        WeightsError: The file is missing or not a card.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable model card: {error}") from error
    if not isinstance(values, dict) or values.pop("card_version", None) != CARD_VERSION:
        raise WeightsError(f"{path}: not a model card of version {CARD_VERSION} (update the card)")
    known = {entry.name for entry in fields(Card)}
    if unknown := sorted(set(values) - known):
        raise WeightsError(f"{path}: unknown entries {', '.join(unknown)} in the model card")
    try:
        return Card(**{**values, "vocabulary": tuple(values.get("vocabulary", ()))})
    except TypeError as error:
        raise WeightsError(f"{path}: incomplete model card: {error}") from error
