"""The card: what a model hears, how it is built, where its weights are and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from coala_latent.errors import WeightsError

__all__ = ["CARD_VERSION", "Card", "is_plain_name", "read_card"]

CARD_VERSION = 1

_KINDS: dict[type, tuple[str, ...]] = {
    str: (
        *("name", "architecture", "description", "default_layer", "short", "drops"),
        *("paper", "project", "licence", "weights", "sha256"),
    ),
    dict: (
        *("front_end", "sizes", "layers", "training"),
        *("classes", "timing", "origin", "fingerprint"),
    ),
    int: ("sample_rate", "min_samples"),
    float: ("hop_seconds", "window_seconds", "latency_seconds"),
    list: ("vocabulary",),
}


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
        min_samples: Samples of one row, at `sample_rate`; what `short` says happens below it.
        latency_seconds: In a stream, seconds from a row's first sample until the row is given.
        short: What happens to shorter sounds: ``"pad"``, ``"tile"`` or ``"error"``.
        drops: What of a sound is not heard; empty when every sample is.
        paper: Reference.
        project: The original project.
        licence: Of the weights.
        weights: File name beside the card; empty for a randomly initialised test model.
        sha256: Of the weights file.
        vocabulary: Tags in the order of the model's inputs or outputs.
        classes: Names of the classes behind each set of scores.
        timing: For a model whose layers differ in it, ``hop_seconds``, ``window_seconds``,
            ``latency_seconds`` and ``min_samples`` of each layer.
        origin: Where converted weights come from: address or package, hash, converter.
        training: Data, configuration, metrics and versions of the run that made the weights.
        fingerprint: What the weights answer to three synthetic sounds; see `fingerprint`.
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
    latency_seconds: float = 0.0
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timing: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {
            "card_version": CARD_VERSION,
            **asdict(self),
            "vocabulary": list(self.vocabulary),
            "classes": {name: list(labels) for name, labels in self.classes.items()},
        }


def is_plain_name(name: str) -> bool:
    """Whether a model or weights file can have that name: no path, not hidden, not too long."""
    return 0 < len(name) <= 200 and not name.startswith(".") and not set(name) & set("/\\\0")


def read_card(path: Path) -> Card:
    """Read a card from JSON.

    Raises:
        WeightsError: The file is missing, not a card, or contradicts itself.
    """
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: not a readable model card: {error}") from error
    if not isinstance(values, dict) or values.pop("card_version", None) != CARD_VERSION:
        raise WeightsError(f"{path}: not a model card of version {CARD_VERSION} (update the card)")
    known = {entry.name for entry in fields(Card)}
    if unknown := sorted(set(values) - known):
        raise WeightsError(f"{path}: unknown entries {', '.join(unknown)} in the model card")
    try:
        card = Card(**{name: _frozen(name, value) for name, value in values.items()})
    except TypeError as error:
        raise WeightsError(f"{path}: incomplete model card: {error}") from error
    if problem := _problem(values, card):
        raise WeightsError(f"{path}: {problem} in the model card (get it again, or correct it)")
    return card


def _frozen(name: str, value: Any) -> Any:
    if name == "vocabulary" and isinstance(value, list):
        return tuple(value)
    if name == "classes" and isinstance(value, dict):
        return {scores: tuple(labels) for scores, labels in value.items()}
    return value


def _problem(values: Mapping[str, Any], card: Card) -> str:
    for kind, names in _KINDS.items():
        allowed = (int, float) if kind is float else kind
        for name in names:
            if name in values and not isinstance(values[name], allowed):
                return f"{name} is {values[name]!r}, not of type {kind.__name__},"
    if not isinstance(card.front_end.get("name"), str):
        return "front_end has no name"
    if not is_plain_name(card.weights):
        return f"weights is {card.weights!r}, not the name of a file beside the card,"
    if card.default_layer not in card.layers:
        return f"default_layer {card.default_layer!r} is none of the layers"
    if card.short not in ("pad", "tile", "error"):
        return f"short is {card.short!r}"
    words = [*card.vocabulary, *(label for labels in card.classes.values() for label in labels)]
    if not all(isinstance(word, str) for word in words):
        return "vocabulary or classes hold more than words"
    return ""
