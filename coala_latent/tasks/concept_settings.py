"""Settings of concept vectors, as Hydra composes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from omegaconf import OmegaConf

from coala_latent.errors import ConfigError
from coala_latent.tasks.composing import composed
from coala_latent.training.concept_vectors import ConceptSettings

__all__ = ["ConceptProtocol", "ConceptTrainSettings", "compose_concepts"]

ConceptProtocol = Literal["recordings", "original"]


@dataclass(frozen=True)
class ConceptTrainSettings:
    """The keys of ``configs/concepts.yaml``, which says what they mean.

    Raises:
        ConfigError: A value does not make sense.
    """

    seed: int
    protocol: ConceptProtocol
    min_recordings: int
    max_recordings: int | None
    min_part: int
    threshold: float
    max_rows: int | None
    epochs: int
    steps: int
    batch_size: int
    learning_rate: float
    dropout: float
    l1: float
    l2: float
    patience: int
    plateau: int
    factor: float
    min_rate: float
    least: float
    crop: int
    validation_rows: int
    standardise: bool
    replicas: int
    controls: int
    confidence: float
    device: str

    def __post_init__(self) -> None:
        for name, least in (
            *(("seed", 0), ("min_recordings", 1), ("min_part", 1), ("replicas", 0)),
            *((each.name, 1) for each in fields(ConceptSettings) if each.type == "int"),
            ("controls", 0),
        ):
            value = getattr(self, name)
            self._check(name, _whole(value, 0 if name == "seed" else least), f"{least} or more")
        for name in ("max_recordings", "max_rows"):
            value = getattr(self, name)
            self._check(name, value is None or _whole(value, 1), "null, or 1 or more")
        for name in (
            *("threshold", "learning_rate", "dropout", "l1", "l2", "factor", "min_rate", "least"),
            "confidence",
        ):
            value = getattr(self, name)
            plain = isinstance(value, int | float) and not isinstance(value, bool)
            self._check(name, plain, "a number")
        self._check("threshold", 0 <= self.threshold < 1, "a number from 0 to below 1")
        self._check("confidence", 0 < self.confidence < 1, "a number between 0 and 1")
        self._check("protocol", self.protocol in get_args(ConceptProtocol), "recordings, original")
        self._check("standardise", isinstance(self.standardise, bool), "true or false")
        # What is left is checked there.
        _ = self.training

    def _check(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise ConfigError(f"{name}={getattr(self, name)!r}: use {wanted}")

    @property
    def training(self) -> ConceptSettings:
        """What the training needs of them."""
        return ConceptSettings(
            **{each.name: getattr(self, each.name) for each in fields(ConceptSettings)}
        )

    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to go on."""
        return {name: value for name, value in asdict(self).items() if name != "device"}


def compose_concepts(overrides: Collection[str] = ()) -> ConceptTrainSettings:
    """The configuration ``concepts`` with overrides ``key=value``.

    Raises:
        ConfigError: An override does not make sense.
    """
    values = OmegaConf.to_container(composed("concepts", overrides), resolve=True)
    try:
        return ConceptTrainSettings(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise ConfigError(f"concepts: {error}") from error


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
