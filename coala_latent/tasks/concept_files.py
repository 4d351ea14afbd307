"""Concept vectors as files: ``NAME.safetensors``, and ``NAME.json`` with what they are.

Beside them a training leaves which recording was in which part: ``split.csv``.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import coala_latent
from coala_latent.data.concept_splits import PARTS, ConceptSplit, original_split
from coala_latent.data.concept_tables import ConceptTable
from coala_latent.errors import ConfigError, DataError, WeightsError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.weights import read_weights, write_json, write_weights
from coala_latent.weights.files import file_sha256

__all__ = [
    "KIND",
    "SPLIT",
    "accepted_concepts",
    "load_concepts",
    "load_split",
    "save_concepts",
    "save_split",
    "write_csv",
]

KIND = "concept_vectors"
SPLIT = "split.csv"
_FORMAT = 1
# What this module writes itself.
_OWN = ("kind", "format", "version", "sha256", "names", "dim")


def save_concepts(path: Path, vectors: ConceptVectors, info: Mapping[str, Any]) -> None:
    """Write vectors and what is known of them; each file is whole or not there.

    Args:
        path: ``NAME.safetensors``; its folder is made.
        vectors: To write.
        info: JSON values: ``model``, ``layer``, ``pooling``, ``front_end``, ``weights_sha256``,
            ``metrics`` (by name) ...

    Raises:
        WeightsError: The name ends otherwise.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: name it .safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = write_weights(path, vectors.state_dict(), {"format": KIND})
    words = {
        "kind": KIND,
        "format": _FORMAT,
        "version": coala_latent.__version__,
        "sha256": digest,
        "dim": vectors.dim,
        **{name: value for name, value in info.items() if name not in _OWN},
        "names": list(vectors.names),
    }
    write_json(path.with_suffix(".json"), words)


def load_concepts(path: Path) -> tuple[ConceptVectors, dict[str, Any]]:
    """Read what `save_concepts` wrote.

    Args:
        path: Either of the two files.

    Returns:
        The vectors, and what is in the JSON file.

    Raises:
        WeightsError: A file is missing or damaged, or the two do not belong together.
    """
    words_path, weights_path = path.with_suffix(".json"), path.with_suffix(".safetensors")
    try:
        words = json.loads(words_path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{words_path}: no such file (concept vectors are two files)") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{words_path}: not readable: {error}") from error
    if not isinstance(words, dict) or words.get("kind") != KIND:
        raise WeightsError(f"{words_path}: not the description of concept vectors")
    if words.get("format") != _FORMAT:
        raise WeightsError(
            f"{words_path}: format {words.get('format')!r}, this version reads {_FORMAT} "
            "(update coala_latent)"
        )
    arrays = read_weights(weights_path)
    if file_sha256(weights_path) != words.get("sha256"):
        raise WeightsError(
            f"{weights_path}: not the file that {words_path.name} describes (its hash differs: get "
            "or train both again)"
        )
    names = words.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WeightsError(f"{words_path}: names are no list of texts")
    if set(arrays) != {"weight", "bias"} or arrays["weight"].dim() != 2:
        raise WeightsError(f"{weights_path}: not the arrays of concept vectors")
    try:
        vectors = ConceptVectors(names, arrays["weight"].shape[1])
        return vectors.assign_(arrays["weight"], arrays["bias"]), words
    except ConfigError as error:
        raise WeightsError(f"{words_path}: {error}") from error


def accepted_concepts(
    vectors: ConceptVectors, info: Mapping[str, Any], threshold: float | None = None
) -> ConceptVectors:
    """The concepts whose held-out balanced accuracy is above a threshold.

    Args:
        vectors: As loaded.
        info: As loaded; concepts without metrics are kept, as those of published vectors.
        threshold: The one they were trained with by default.

    Raises:
        ConfigError: None is left.
    """
    least = float(info.get("threshold", 0.0)) if threshold is None else threshold
    metrics = info.get("metrics", {})
    kept = [
        place
        for place, name in enumerate(vectors.names)
        if name not in metrics or metrics[name]["balanced_accuracy"]["mean"] > least
    ]
    if not kept:
        raise ConfigError(
            f"none of {len(vectors)} concepts has a balanced accuracy above {least} (lower the "
            "threshold, or train on more recordings)"
        )
    return vectors.take(kept)


def save_split(folder: Path, split: ConceptSplit) -> None:
    """Write ``split.csv``: recording, group, part. The original's has no such parts: no file."""
    if split.part is None:
        return
    table = split.table
    named = zip(table.recordings, table.groups, split.part.tolist(), strict=True)
    lines = ([name, group, PARTS[part]] for name, group, part in named)
    write_csv(folder / SPLIT, ("recording", "group", "part"), lines)


def load_split(folder: Path, table: ConceptTable, info: Mapping[str, Any]) -> ConceptSplit:
    """The parts that vectors were trained with, for the concepts that were trained.

    Args:
        folder: The training's.
        table: The one it was given, with the store's names (`match_recordings`).
        info: Of its vectors, see `load_concepts`.

    Raises:
        DataError: ``split.csv`` is missing or damaged, or lacks a recording of the table.
    """
    table = table.keep(info["names"])
    if info.get("settings", {}).get("protocol") == "original":
        return original_split(table)
    path = folder / SPLIT
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            found = {line["recording"]: PARTS.index(line["part"]) for line in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not the parts of a training: {error!r}") from error
    if lacking := [name for name in table.recordings if name not in found]:
        raise DataError(
            f"{path}: {len(lacking)} of the table's recordings, such as {lacking[0]}, had no part "
            "in the training (give the table that it was given)"
        )
    return ConceptSplit(table, np.array([found[name] for name in table.recordings]))


def write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write a table under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([header, *lines])
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
