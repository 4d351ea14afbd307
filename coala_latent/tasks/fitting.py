"""What every training run shares, whatever is trained: trainer, fitting, resuming, scoring."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import Logger

import coala_latent
from coala_latent.data.module import TrainingData
from coala_latent.errors import CoalaLatentError, ConfigError, WeightsError
from coala_latent.tasks.runs import RunFolder
from coala_latent.training.checkpoints import SafeCheckpointIO, checkpoint_callbacks
from coala_latent.training.objective import Objective, StepSeed

__all__ = [
    "Outcome",
    "TrainingParts",
    "fit_and_score",
    "hush_lightning",
    "instantiated",
    "trainer_parts",
    "versions",
]


@dataclass(frozen=True)
class Outcome:
    """What a finished run came to.

    Attributes:
        epochs: That were trained, with those before an interruption.
        metrics: Of the exported weights on the validation part.
    """

    epochs: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrainingParts:
    """What is trained, on what, and what becomes of it.

    Attributes:
        data: Set up already.
        objective: With the model in it.
        export: Writes the trained model into a folder.
    """

    data: TrainingData
    objective: Objective
    export: Callable[[Path, Outcome], None]


def instantiated(node: Any, *args: Any, **extra: Any) -> Any:
    """Hydra's instantiate, with errors that say what is wrong in one line.

    Raises:
        ConfigError: What the node describes cannot be made.
    """
    try:
        return instantiate(node, *args, **extra)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, CoalaLatentError):
            raise cause from error
        raise ConfigError(" ".join(str(error).split())) from error


def trainer_parts(
    run: RunFolder,
    objective: Objective,
    seed: int,
    *,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Arguments of Lightning's trainer that make a run repeatable and able to go on.

    Args:
        run: Where checkpoints are written.
        objective: Says what its best weights are.
        seed: The run's.
        callbacks: Others.
        loggers: None: nothing is logged.
        progress: A bar.
    """
    best, last = checkpoint_callbacks(run.checkpoints, objective.monitor, objective.monitor_mode)
    # Lightning refuses to begin when there is nowhere to write the rate to.
    extra = [each for each in callbacks if loggers or not isinstance(each, LearningRateMonitor)]
    return {
        # The order matters: `last` knows what `best` did in the same epoch.
        "callbacks": [StepSeed(seed), *extra, best, last],
        "logger": list(loggers) or False,
        "plugins": [SafeCheckpointIO()],
        "default_root_dir": str(run.folder),
        "enable_progress_bar": progress,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }


def fit_and_score(
    trainer: lightning.Trainer,
    objective: Objective,
    data: TrainingData,
    checkpoint: Path | None,
    chosen: Path,
) -> Outcome:
    """Train, load the chosen weights, and score them on the validation part.

    Args:
        trainer: With the arguments of `trainer_parts`.
        objective: Holds the chosen weights afterwards.
        data: To train and score on.
        checkpoint: To go on from; None to begin.
        chosen: Checkpoint with the weights to keep, written by the run.

    Raises:
        WeightsError: `checkpoint` cannot be resumed from.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        _fit(trainer, objective, data, checkpoint)
        loaded = torch.load(chosen, map_location="cpu", weights_only=True)
        objective.load_state_dict(loaded["state_dict"])
        # One set of scores for each of several loaders.
        found = trainer.validate(objective, data, verbose=False)
    finally:
        torch.use_deterministic_algorithms(deterministic)
    scores = {name: value for part in found for name, value in part.items()}
    metrics = {name: round(float(value), 6) for name, value in scores.items()}
    return Outcome(trainer.current_epoch, metrics)


def _fit(
    trainer: lightning.Trainer, objective: Objective, data: TrainingData, checkpoint: Path | None
) -> None:
    resumed = None if checkpoint is None else str(checkpoint)
    try:
        trainer.fit(objective, data, ckpt_path=resumed)
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        if checkpoint is None or trainer.global_step:
            raise
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{checkpoint}: cannot be resumed from: {reason} (start anew with resume=no)"
        ) from error
    except SystemExit as stop:
        # Lightning's answer to Ctrl-C.
        raise (KeyboardInterrupt if trainer.interrupted else stop) from None


def hush_lightning() -> None:
    """Leave out what is not about the run: hardware, tips, its own deprecations."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec.*", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def versions() -> dict[str, str]:
    """Of the packages that a trained model depends on."""
    return {
        "coala_latent": coala_latent.__version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }
