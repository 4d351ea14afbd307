"""From embeddings and a table of concepts to concept vectors, with scores of each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.analysis.concept_tests import (
    ConceptScores,
    against_controls,
    vector_stability,
)
from coala_latent.data.concept_samples import RecordingRows
from coala_latent.data.concept_splits import (
    PARTS,
    ConceptSplit,
    original_split,
    recording_split,
)
from coala_latent.data.concept_tables import ConceptTable, random_concepts
from coala_latent.embed.embedder import pick_device
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.store import Store
from coala_latent.tasks.concept_files import save_concepts, save_split, write_csv
from coala_latent.tasks.concept_rows import rows_of_store
from coala_latent.tasks.concept_scores import held_out_scores
from coala_latent.tasks.concept_settings import ConceptTrainSettings
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.progress import progress_bar
from coala_latent.tasks.runs import RunFolder
from coala_latent.training.checkpoints import SafeCheckpointIO
from coala_latent.training.concept_vectors import ConceptTraining

__all__ = ["TrainedConcepts", "split_of", "train_concepts", "train_on_rows"]

FILE, CONTROLS = "concepts.safetensors", "controls.safetensors"
METRICS, SET_ASIDE = "metrics.csv", "set_aside.csv"
_SECONDS_PER_SAVE = 30.0


@dataclass(frozen=True, eq=False)
class TrainedConcepts:
    """What a training came to.

    Attributes:
        folder: With ``concepts.safetensors`` and ``.json``, ``metrics.csv``, ``set_aside.csv`` and,
            where recordings have one part each, ``split.csv``.
        vectors: Of all concepts that were trained.
        metrics: By concept: numbers of recordings, scores with intervals, whether it is accepted.
        split: The parts, and the table of the concepts trained.
        set_aside: Concepts that were not trained, and why.
    """

    folder: Path
    vectors: ConceptVectors
    metrics: Mapping[str, dict[str, Any]]
    split: ConceptSplit
    set_aside: Mapping[str, str]

    @property
    def accepted(self) -> list[str]:
        """Concepts whose held-out balanced accuracy is above the threshold."""
        return [name for name, found in self.metrics.items() if found["accepted"]]


def train_concepts(
    store: Path,
    table: ConceptTable,
    settings: ConceptTrainSettings,
    folder: Path,
    *,
    resume: str = "auto",
    quiet: bool = False,
) -> TrainedConcepts:
    """Train the concepts of a table on the embeddings of a store.

    Args:
        store: Its rows are the embeddings.
        table: Which of its recordings belong to which concept.
        settings: See there.
        folder: Where results go; made.
        resume: ``"auto"`` goes on with an unfinished run in the folder, ``"no"`` starts anew.
        quiet: Show no progress.

    Raises:
        ConfigError: Settings do not make sense, or the folder has an unfinished run with others.
        DataError: The table does not fit the store, or no concept has enough recordings.
        StoreError: The store cannot be read.
    """
    rows, matched = rows_of_store(store, table, max_rows=settings.max_rows, seed=settings.seed)
    with Store(store) as opened:
        info = {**asdict(opened.identity), "store": printable(str(store))}
    return train_on_rows(rows, matched, settings, folder, info=info, resume=resume, quiet=quiet)


def train_on_rows(
    rows: RecordingRows,
    table: ConceptTable,
    settings: ConceptTrainSettings,
    folder: Path,
    *,
    info: Mapping[str, Any],
    resume: str = "auto",
    quiet: bool = False,
) -> TrainedConcepts:
    """Train on embeddings in memory, of exactly the table's recordings; see `train_concepts`.

    Args:
        rows: Of the table's recordings.
        table: Recordings and concepts.
        settings: See there.
        folder: Where results go.
        info: JSON values about the embeddings, kept with the vectors.
        resume: As in `train_concepts`.
        quiet: Show no progress.
    """
    split = split_of(table, settings)
    if not len(split.table):
        reasons = "; ".join(f"{name}: {why}" for name, why in split.table.set_aside.items())
        raise DataError(f"no concept has enough recordings ({reasons[:300]})")
    run = RunFolder(folder)
    going_on = run.start(settings.identity(), resume) is not None
    last = run.checkpoints / "last.ckpt"
    training = ConceptTraining(
        rows,
        split,
        settings.training,
        replicas=settings.replicas,
        device=pick_device(settings.device),
    )
    _train(training, last, going_on, "concepts", quiet)
    weights, biases = (each.numpy() for each in training.vectors())
    vectors = _module(split.table.concepts, weights[0], biases[0])
    scores = held_out_scores(rows, split, weights[0], biases[0], settings.confidence)
    metrics = _metrics(split, scores, training, weights[0], settings.threshold)
    if settings.replicas:
        _add_stability(metrics, weights)
    if settings.controls:
        found = _random_scores(rows, split, settings, run, info, quiet=quiet, going_on=going_on)
        _add_controls(metrics, scores, found)
    _write(folder, split, metrics)
    save_concepts(
        folder / FILE,
        vectors,
        {
            **info,
            "settings": settings.identity(),
            "threshold": settings.threshold,
            "recordings": len(table.recordings),
            "metrics": metrics,
            "set_aside": dict(split.table.set_aside),
        },
    )
    run.finish()
    return TrainedConcepts(folder, vectors, metrics, split, split.table.set_aside)


def split_of(table: ConceptTable, settings: ConceptTrainSettings) -> ConceptSplit:
    """The parts that a training with these settings has, and the concepts it trains."""
    chosen = table.select(settings.min_recordings, settings.max_recordings)
    # A concept that is set aside has no say in which recordings go where.
    if not len(chosen):
        return ConceptSplit(chosen, np.zeros(len(table.recordings), dtype=np.int64))
    if settings.protocol == "original":
        return original_split(chosen).trainable(settings.min_part)
    return recording_split(chosen, settings.seed).trainable(settings.min_part)


def _module(
    names: tuple[str, ...], weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
) -> ConceptVectors:
    made = ConceptVectors(names, weight.shape[1])
    return made.assign_(torch.from_numpy(weight), torch.from_numpy(bias))


def _train(
    training: ConceptTraining, checkpoint: Path, going_on: bool, what: str, quiet: bool
) -> None:
    """Train to the end; a checkpoint now and then lets a run that is cut off go on."""
    files = SafeCheckpointIO()
    if going_on and checkpoint.is_file():
        training.restore(files.load_checkpoint(checkpoint))
    saved = time.monotonic()
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task(f"train {what}", total=training.settings.epochs)
        bar.update(task, completed=training.epoch)
        while not training.finished:
            report = training.run_epoch()
            note = f"{report.active - report.ended} in training, loss {report.loss:.4f}"
            bar.update(task, completed=report.epoch, note=note)
            if training.finished or time.monotonic() - saved > _SECONDS_PER_SAVE:
                files.save_checkpoint(training.state(), checkpoint)
                saved = time.monotonic()


def _random_scores(
    rows: RecordingRows,
    split: ConceptSplit,
    settings: ConceptTrainSettings,
    run: RunFolder,
    info: Mapping[str, Any],
    *,
    quiet: bool,
    going_on: bool,
) -> list[ConceptScores]:
    """Train concepts of random recordings in the same parts, keep their vectors, score them."""
    table = random_concepts(split.table, settings.controls, settings.seed)
    random = original_split(table) if split.part is None else ConceptSplit(table, split.part)
    random = random.trainable(settings.min_part)
    if not len(random.table):
        raise ConfigError(
            f"controls={settings.controls}: no random concept has {settings.min_part} recordings "
            "in every part (use more of them, or a smaller min_part)"
        )
    training = ConceptTraining(rows, random, settings.training, device=pick_device(settings.device))
    _train(training, run.checkpoints / "controls.ckpt", going_on, "controls", quiet)
    weights, biases = (each.numpy() for each in training.vectors())
    vectors = _module(random.table.concepts, weights[0], biases[0])
    save_concepts(run.folder / CONTROLS, vectors, info)
    return held_out_scores(rows, random, weights[0], biases[0], settings.confidence)


def _metrics(
    split: ConceptSplit,
    scores: list[ConceptScores],
    training: ConceptTraining,
    weight: npt.NDArray[np.float32],
    threshold: float,
) -> dict[str, dict[str, Any]]:
    losses, epochs = training.losses()
    sizes, norms = split.table.sizes, np.linalg.norm(weight, axis=1)
    return {
        name: {
            "recordings": int(sizes[place]),
            **{part: len(split.positives(part, place)) for part in PARTS},
            **scores[place].to_dict(),
            "validation_loss": float(losses[place]),
            "epoch": int(epochs[place]),
            "norm": float(norms[place]),
            "accepted": scores[place].balanced_accuracy.mean > threshold,
        }
        for place, name in enumerate(split.table.concepts)
    }


def _add_stability(metrics: dict[str, dict[str, Any]], weights: npt.NDArray[np.float32]) -> None:
    found = vector_stability(weights[0], weights[1:])
    for place, entry in enumerate(metrics.values()):
        between = float(found.between[place])
        entry["stability"] = {
            "mean": float(found.mean[place]),
            "low": float(found.low[place]),
            "between": between if np.isfinite(between) else None,
            "resamples": len(weights) - 1,
        }


def _add_controls(
    metrics: dict[str, dict[str, Any]], scores: list[ConceptScores], controls: list[ConceptScores]
) -> None:
    """Rank of each accuracy among those of random concepts."""
    test = against_controls(
        [each.balanced_accuracy.mean for each in scores],
        [each.balanced_accuracy.mean for each in controls],
    )
    for place, entry in enumerate(metrics.values()):
        entry["control"] = {
            "p_value": float(test.p_value[place]),
            "adjusted": float(test.adjusted[place]),
            "mean": float(test.mean),
            "deviation": float(test.deviation),
            "controls": len(controls),
        }


def _write(folder: Path, split: ConceptSplit, metrics: Mapping[str, dict[str, Any]]) -> None:
    lines = [{"concept": name, **_flat(entry)} for name, entry in metrics.items()]
    write_csv(folder / METRICS, list(lines[0]), [list(line.values()) for line in lines])
    aside = [[name, reason] for name, reason in sorted(split.table.set_aside.items())]
    write_csv(folder / SET_ASIDE, ["concept", "reason"], aside)
    save_split(folder, split)


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in entry.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}_")
        else:
            found[f"{prefix}{name}"] = value
    return found
