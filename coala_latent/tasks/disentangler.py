"""Disentanglers: fitting a factor flow to latents, keeping it, and getting it back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from coala_latent.data.latent_pairs import LatentPairs
from coala_latent.data.latents import LabelledLatents
from coala_latent.errors import ConfigError, DataError, WeightsError
from coala_latent.models.flows import RESIDUAL, FactorFlow, FactorSpec
from coala_latent.models.latent_scaling import LatentProjection
from coala_latent.tasks.fitting import Outcome, fit_and_score, trainer_parts, versions
from coala_latent.tasks.runs import RunFolder
from coala_latent.training.disentangling import Disentangling, PairLossFactory
from coala_latent.training.pair_losses import JointPairLoss
from coala_latent.weights import file_sha256, load_into, read_weights, write_json, write_weights

__all__ = [
    "Disentangler",
    "DisentanglerSettings",
    "described",
    "factor_spec",
    "fit_disentangler",
    "load_disentangler",
    "make_flow",
    "save_disentangler",
]

KIND, VERSION = "factor_flow", 1
_FLOW, _PROJECTION = "flow.", "projection."
# What a description must have besides its kind; the first are no part of `Disentangler.info`.
_FORM = ("version", "sha256", "spec", "projection")
_REQUIRED = (*_FORM, "classes", "flow", "training")


@dataclass(frozen=True)
class DisentanglerSettings:
    """How a disentangler is fitted.

    Attributes:
        block: Dimensions of each factor's block.
        dims: Dimensions of single factors' blocks, where they differ from `block`.
        flow: Arguments of `FactorFlow` besides blocks and seed.
        pairs: Arguments of `LatentPairs` besides the latents and seed.
        sigma: Correlation of alike pairs in a factor's block.
        loss: Makes another loss than the joint likelihood from the blocks; None for that.
        epochs: Of ``pairs["batches"]`` batches each.
        learning_rate: The highest; it warms up to it and falls to almost nothing.
        clip: Largest norm of the gradient.
        noise: On training rows, see `Disentangling`.
        seed: Of flow, pairs and steps.
    """

    block: int = 1
    dims: Mapping[str, int] | None = None
    flow: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, Any] = field(default_factory=lambda: {"batches": 50})
    sigma: float = 0.98
    loss: PairLossFactory | None = None
    epochs: int = 20
    learning_rate: float = 3e-3
    clip: float = 5.0
    noise: float = 0.5
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; a loss of one's own by its name."""
        loss = None if self.loss is None else getattr(self.loss, "__name__", repr(self.loss))
        plain = asdict(replace(self, loss=None))
        return {**plain, "loss": loss}


@dataclass(frozen=True)
class Disentangler:
    """A trained flow, and what belongs before it.

    Attributes:
        flow: In evaluation mode.
        projection: From the model's latents to the flow's input; None where the flow takes the
            latents as they are.
        info: JSON-able: ``classes`` by factor, ``flow`` (its sizes), ``latents`` (model, layer,
            front end and hash of the weights that they are from), ``training``.
    """

    flow: FactorFlow
    projection: LatentProjection | None
    info: Mapping[str, Any]

    @property
    def spec(self) -> FactorSpec:
        """Blocks of the flow's output."""
        return self.flow.spec

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of each factor's classes."""
        return {factor: tuple(names) for factor, names in self.info["classes"].items()}

    @property
    def metrics(self) -> dict[str, float]:
        """Of the validation part."""
        return dict(self.info["training"]["metrics"])


def factor_spec(
    dim: int, factors: tuple[str, ...], block: int = 1, dims: Mapping[str, int] | None = None
) -> FactorSpec:
    """Blocks for all factors; what is left is the residual.

    Args:
        dim: Of the latents.
        factors: Names.
        block: Dimensions of each factor's block.
        dims: Those of single factors.

    Raises:
        ConfigError: There is no such factor, or the latents have too few dimensions.
    """
    given = dict(dims or {})
    if unknown := sorted(set(given) - set(factors)):
        raise ConfigError(f"dims: {unknown[0]!r} is no factor (there are {', '.join(factors)})")
    blocks = {factor: given.get(factor, block) for factor in factors}
    rest = dim - sum(blocks.values())
    if rest < 1:
        raise ConfigError(
            f"blocks of {sum(blocks.values())} dimensions for latents of {dim} leave no residual "
            "(use smaller blocks or more components)"
        )
    return FactorSpec({RESIDUAL: rest, **blocks})


def make_flow(
    data: LatentPairs, spec: FactorSpec, sizes: Mapping[str, Any], seed: int
) -> FactorFlow:
    """A flow whose ActNorms have their start from the first training batch.

    Args:
        data: Set up already.
        spec: Blocks.
        sizes: Arguments of `FactorFlow` besides blocks and seed.
        seed: Of the flow.

    Raises:
        ConfigError: A size is unknown or does not make sense.
    """
    try:
        flow = FactorFlow(spec, **sizes, seed=seed)
    except TypeError as error:
        raise ConfigError(f"flow: {error}") from error
    first = data.train_pairs[0, 0]
    # Before training, so that all processes start from the same rows.
    return flow.initialise_(torch.cat([first.a, first.b]))


def described(
    data: LatentPairs,
    sizes: Mapping[str, Any],
    outcome: Outcome,
    settings: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """What `Disentangler.info` says of a trained flow."""
    latents = data.train_latents
    return {
        **data.names(),
        "flow": {**sizes, "seed": seed},
        "latents": dict(latents.source),
        "training": {
            "data": data.summary(),
            "config": dict(settings),
            "metrics": outcome.metrics,
            "epochs": outcome.epochs,
            "seed": seed,
            "versions": versions(),
        },
    }


def fit_disentangler(
    train: LabelledLatents,
    validation: LabelledLatents,
    settings: DisentanglerSettings | None = None,
    *,
    projection: LatentProjection | None = None,
    folder: Path | None = None,
    quiet: bool = True,
) -> Disentangler:
    """Fit a factor flow; the weights that tell validation pairs best are kept.

    Args:
        train: What the flow sees, after `projection`.
        validation: The same of other takes or times, to choose weights and score them.
        settings: See there.
        projection: Kept with the flow; it is not applied here.
        folder: Of the run, which goes on in it after an interruption; None: nothing is kept.
        quiet: No progress bar.

    Raises:
        ConfigError: A setting does not make sense, or the folder holds another unfinished run.
        DataError: There are no pairs in the latents.
    """
    chosen = settings or DisentanglerSettings()
    if chosen.epochs < 1 or not chosen.learning_rate > 0:
        raise ConfigError(
            f"epochs={chosen.epochs}, learning_rate={chosen.learning_rate}: use 1 or more, and "
            "a number above 0"
        )
    data = LatentPairs(train, validation, **chosen.pairs, seed=chosen.seed)
    data.setup()
    spec = factor_spec(train.dim, train.factors, chosen.block, chosen.dims)
    flow = make_flow(data, spec, chosen.flow, chosen.seed)
    objective = Disentangling(
        flow,
        lambda groups: torch.optim.Adam(groups, lr=chosen.learning_rate),
        lambda optimizer, total_steps: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, chosen.learning_rate, total_steps, pct_start=0.1, cycle_momentum=False
        ),
        chosen.loss or (lambda blocks: JointPairLoss(blocks, chosen.sigma)),
        chosen.noise,
    )
    with nullcontext(folder) if folder else TemporaryDirectory() as place:
        run = RunFolder(Path(place))
        identity = {"settings": chosen.to_dict(), "latents": data.summary()}
        checkpoint = run.start(json.loads(json.dumps(identity)), "auto")
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=chosen.epochs,
            gradient_clip_val=chosen.clip,
            deterministic=True,
            log_every_n_steps=1,
            **trainer_parts(
                run,
                objective,
                chosen.seed,
                loggers=[CSVLogger(str(run.logs), name="csv", version="")],
                progress=not quiet,
            ),
        )
        outcome = fit_and_score(trainer, objective, data, checkpoint, run.checkpoints / "best.ckpt")
        run.finish()
    info = described(data, chosen.flow, outcome, chosen.to_dict(), chosen.seed)
    return Disentangler(flow.cpu().eval(), projection, info)


def save_disentangler(path: str | os.PathLike[str], disentangler: Disentangler) -> Path:
    """Write ``NAME.safetensors``, then ``NAME.json`` with its hash.

    Args:
        path: With or without one of these suffixes; the folder is made if missing.
        disentangler: What to write.

    Returns:
        Path of the weights.
    """
    weights_path, info_path = _paths(Path(path))
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    parts: dict[str, nn.Module] = {_FLOW: disentangler.flow}
    if disentangler.projection is not None:
        parts[_PROJECTION] = disentangler.projection
    weights = {
        prefix + name: value
        for prefix, module in parts.items()
        for name, value in module.state_dict().items()
    }
    # Without it the weights do not count, so an interrupted run leaves no mixture.
    info_path.unlink(missing_ok=True)
    digest = write_weights(weights_path, weights, {"kind": KIND})
    write_json(
        info_path,
        {
            "kind": KIND,
            "version": VERSION,
            "sha256": digest,
            "spec": disentangler.spec.to_dict(),
            "projection": disentangler.projection is not None,
            **disentangler.info,
        },
    )
    return weights_path


def load_disentangler(path: str | os.PathLike[str]) -> Disentangler:
    """Read what `save_disentangler` wrote.

    Args:
        path: Of either file, or without suffix.

    Raises:
        WeightsError: A file is missing or damaged, or the two do not go together.
    """
    weights_path, info_path = _paths(Path(path))
    about = _read_info(info_path)
    weights = read_weights(weights_path)
    if file_sha256(weights_path) != about["sha256"]:
        raise WeightsError(f"{weights_path}: not the weights that {info_path.name} is about")
    try:
        flow = FactorFlow(FactorSpec.from_dict(about["spec"]), **about["flow"])
    except (ConfigError, TypeError, KeyError) as error:
        raise WeightsError(f"{info_path}: describes no flow: {error}") from error
    load_into(flow, _part(weights, _FLOW), weights_path)
    projection = None
    if about["projection"]:
        try:
            projection = LatentProjection.from_state_dict(_part(weights, _PROJECTION))
        except DataError as error:
            raise WeightsError(f"{weights_path}: {error}") from error
    info = {name: value for name, value in about.items() if name not in ("kind", *_FORM)}
    return Disentangler(flow.eval(), projection, info)


def _part(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def _paths(path: Path) -> tuple[Path, Path]:
    """Of weights and description; a dot in a name without suffix is part of the name."""
    plain = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    return plain.with_name(f"{plain.name}.safetensors"), plain.with_name(f"{plain.name}.json")


def _read_info(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: not readable: {error} (save the disentangler again)"
        ) from error
    if not isinstance(about, dict) or about.get("kind") != KIND:
        raise WeightsError(f"{path}: does not describe a disentangler (check the path)")
    if missing := [name for name in _REQUIRED if name not in about]:
        raise WeightsError(f"{path}: has no {', '.join(missing)} (save the disentangler again)")
    if about["version"] != VERSION:
        raise WeightsError(
            f"{path}: version {about['version']}, this package reads {VERSION} (use a later "
            "package, or train again)"
        )
    return about
