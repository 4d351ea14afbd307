"""Disentanglers by ``train.py``: latents, their split and projection, and a flow on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from coala_latent.analysis.streaming_pca import fit_projection
from coala_latent.data.factor_sources import RecordingSource
from coala_latent.data.factor_tables import FactorTable
from coala_latent.data.latent_instances import FinishedLatents
from coala_latent.data.latent_pairs import LatentPairs
from coala_latent.data.latent_splits import SplitKind, split_latents
from coala_latent.data.latents import LabelledLatents, from_store
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.latent_scaling import LatentProjection
from coala_latent.tasks.disentangler import (
    Disentangler,
    described,
    factor_spec,
    make_flow,
    save_disentangler,
)
from coala_latent.tasks.fitting import Outcome, TrainingParts, instantiated
from coala_latent.tasks.latent_rows import (
    RowChoice,
    flat_embedder,
    latent_layer,
    latent_model,
)
from coala_latent.tasks.latents import extract_latents
from coala_latent.tasks.stored_latents import apply_projection, make_projection
from coala_latent.training.disentangling import Disentangling

__all__ = ["LatentSettings", "disentangler_parts", "projected", "recorded_latents"]

_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class LatentSettings:
    """How latents are made of recordings, projected and split.

    Attributes:
        model: Name or file; None for the first of YAMNet and SoundNet whose weights are there.
        layer: None: ``layer10`` of YAMNet, else the card's default.
        average: See `RowChoice`, like the next two.
        offset: Rows from one average to the next.
        rows: At most so many of a recording; None for all.
        level: See `level_gain`.
        components: Principal components, at most; None: latents as they are.
        split: See `split_latents`, like the next two.
        share: Of the rows that is held out.
        gap_seconds: Between the parts, for ``split="time"``.
    """

    model: str | None = None
    layer: str | None = None
    average: int = 1
    offset: int = 1
    rows: int | None = None
    level: Any = "none"
    components: int | None = 64
    split: SplitKind = "take"
    share: float = 0.25
    gap_seconds: float = 1.0


def disentangler_parts(
    config: DictConfig, settings: dict[str, Any], told: dict[str, Any]
) -> TrainingParts:
    """What a configuration with ``task: disentangler`` describes.

    Recordings and full latents are kept in the output folder, so that a run that goes on finds
    them.

    Args:
        config: As composed.
        settings: The same as plain values.
        told: Those of them that the description of the result tells.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: The latents cannot be read, split or paired.
    """
    seed, chosen = int(settings["seed"]), _latent_settings(settings)
    folder, quiet = Path(settings["output"]), not settings["progress"]
    source = instantiated(config.data)
    if isinstance(source, FinishedLatents):
        latents = source.load()
    elif isinstance(source, RecordingSource):
        table = source.table(folder / "sounds")
        latents = recorded_latents(table, chosen, folder / "latents", quiet=quiet)
    else:
        raise ConfigError(
            f"{type(source).__name__} has no factors (use data=builtin_recordings, "
            "data=recordings or data=latents)"
        )
    train, held_out = split_latents(latents, chosen.split, chosen.share, chosen.gap_seconds, seed)
    projection, parts = None, (latents.take_rows(train), latents.take_rows(held_out))
    if chosen.components is not None:
        projection, parts = projected(*parts, chosen.components)
    data = _pairs(config, *parts, seed)
    model = dict(settings["model"])
    sizes = {name: value for name, value in model.items() if name not in ("block", "dims")}
    spec = factor_spec(
        data.train_latents.dim, latents.factors, model.get("block", 1), model.get("dims")
    )
    objective: Disentangling = instantiated(
        config.objective, model=make_flow(data, spec, sizes, seed)
    )

    def export(folder: Path, outcome: Outcome) -> None:
        info = described(data, sizes, outcome, told, seed)
        info["training"]["data"] = {**source.describe(), **info["training"]["data"]}
        flow = objective.model.cpu().eval()
        save_disentangler(folder / settings["name"], Disentangler(flow, projection, info))

    return TrainingParts(data, objective, export)


def _latent_settings(settings: dict[str, Any]) -> LatentSettings:
    if settings.get("latents") is None:
        raise ConfigError("latents: a disentangler needs their settings (use latents=default)")
    try:
        return LatentSettings(**settings["latents"])
    except TypeError as error:
        raise ConfigError(f"latents: {error}") from error


def recorded_latents(
    table: FactorTable, settings: LatentSettings, folder: Path, *, quiet: bool = False
) -> LabelledLatents:
    """Latents of recordings in full, memory for all of them being needed.

    Args:
        table: The recordings.
        settings: Model, layer and rows.
        folder: For the store, which a later call with the same settings finds.
        quiet: No progress bar.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: No recording can be used.
        ModelNotFoundError: There is no such model.
    """
    card = latent_model(settings.model)
    layer = latent_layer(card, settings.layer)
    embedder = flat_embedder(settings.model or card.name, layer)
    choice = RowChoice(settings.average, settings.offset, rows=settings.rows)
    stores = extract_latents(
        table, embedder, folder, choice=choice, level=settings.level, quiet=quiet
    )
    if not stores.rows:
        reason = next(iter(stores.skipped.items()), ("no recording", "there is none"))
        raise DataError(f"{table.root}: no latents; {reason[0]}: {reason[1]}")
    (path,) = stores.paths.values()
    labels = {
        name: [classes[label] for classes, label in zip(table.classes, row, strict=True)]
        for name, row in zip(table.names, table.labels.tolist(), strict=True)
    }
    takes = dict(zip(table.names, map(str, table.takes.tolist()), strict=True))
    return from_store(path, labels, table.factors, takes, table.classes)


def _pairs(
    config: DictConfig, train: LabelledLatents, validation: LabelledLatents, seed: int
) -> LatentPairs:
    # In two steps, because Hydra would take the latents apart.
    make = instantiated(config.patches, _partial_=True)
    try:
        data = make(train=train, validation=validation, seed=seed)
    except TypeError as error:
        raise ConfigError(f"patches: {error} (a disentangler takes patches=pairs)") from error
    if not isinstance(data, LatentPairs):
        raise ConfigError(f"{type(data).__name__} gives no pairs (use patches=pairs)")
    data.setup()
    return data


def projected(
    train: LabelledLatents, validation: LabelledLatents, components: int
) -> tuple[LatentProjection, tuple[LabelledLatents, LabelledLatents]]:
    """Standardised principal components, fitted on the training rows alone.

    Args:
        train: Rows to fit on.
        validation: Rows to project likewise.
        components: At most so many; fewer where rows or their values are fewer.

    Returns:
        The projection, and both parts after it.

    Raises:
        ConfigError: `components` is below 2.
        DataError: The rows vary in too few directions.
    """
    if components < 2:
        raise ConfigError(f"latents.components={components}: use 2 or more, or null for all")
    count = min(components, train.dim, len(train) - 1)
    begins = range(0, len(train), _BLOCK_ROWS)
    found = fit_projection(
        lambda: (train.values[begin : begin + _BLOCK_ROWS] for begin in begins), count
    )
    projection = make_projection(found)
    first, second = (
        part.with_values(apply_projection(projection, part.values)) for part in (train, validation)
    )
    return projection, (first, second)
