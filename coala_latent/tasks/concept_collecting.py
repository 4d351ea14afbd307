"""Concept vectors from several places in one file: published ones, and those that pass a filter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from coala_latent.analysis.concept_projections import select_concepts
from coala_latent.errors import ConfigError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.tasks.concept_files import load_concepts, save_concepts
from coala_latent.weights.converters.concepts import published_vectors
from coala_latent.weights.files import file_sha256

__all__ = ["aggregate", "convert"]

# What the published vectors were trained on, by the paper; see `weights.converters.concepts`.
_PUBLISHED_MODEL = "musicnn-vgg-msd"
_SAME = ("model", "weights_sha256", "layer", "pooling", "front_end", "resampler", "dtype", "dim")


def convert(published: Path, output: Path, layer: str = "pool5") -> int:
    """Published vectors as this library's file.

    Args:
        published: ``apm_genres_cav.npy`` or ``apm_moods_cav.npy``; read without running anything.
        output: ``NAME.safetensors``.
        layer: ``pool3``, ``pool4``, ``pool5`` or ``output``.

    Returns:
        Number of concepts.

    Raises:
        WeightsError: The file cannot be read.
        ConfigError: It has no such layer.
    """
    vectors = published_vectors(published, layer)
    info = {
        "model": _PUBLISHED_MODEL,
        "layer": "logits" if layer == "output" else layer,
        "pooling": "time",
        "published": {"file": published.name, "sha256": file_sha256(published)},
    }
    save_concepts(output, vectors, info)
    return len(vectors)


def aggregate(
    inputs: Sequence[Path],
    output: Path,
    *,
    min_recordings: int = 39,
    max_recordings: int | None = 251,
    min_accuracy: float = 0.7,
) -> dict[str, Any]:
    """One file of the concepts that pass the paper's filters.

    Args:
        inputs: Files of concept vectors for the same embeddings.
        output: ``NAME.safetensors``.
        min_recordings: Fewest recordings of a concept.
        max_recordings: That many is too many; None: no limit.
        min_accuracy: Held-out balanced accuracy must be greater.

    Returns:
        ``kept`` (a number) and the names of those that were left out, by reason.

    Raises:
        ConfigError: The files do not belong together, or nothing is left.
        WeightsError: A file cannot be read.
    """
    loaded = [load_concepts(path) for path in inputs]
    first = loaded[0][1]
    for path, (_, info) in zip(inputs, loaded, strict=True):
        if different := [key for key in _SAME if info.get(key) != first.get(key)]:
            raise ConfigError(
                f"{path}: {different[0]} differs from that of {inputs[0]} (aggregate vectors for "
                "the same embeddings)"
            )
        if lacking := [n for n in info["names"] if n not in info.get("metrics", {})]:
            raise ConfigError(f"{path}: nothing is known of how accurate {lacking[0]!r} is")
    names = [name for _, info in loaded for name in info["names"]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"concept {twice!r} is in two files (rename one, or leave a file out)")
    metrics = {name: info["metrics"][name] for _, info in loaded for name in info["names"]}
    chosen = select_concepts(
        [metrics[name]["recordings"] for name in names],
        [metrics[name]["balanced_accuracy"]["mean"] for name in names],
        min_recordings=min_recordings,
        max_recordings=max_recordings,
        min_accuracy=min_accuracy,
    )
    if not len(chosen.kept):
        raise ConfigError(
            f"none of {len(names)} concepts passes: {len(chosen.too_few)} have too few recordings, "
            f"{len(chosen.too_many)} too many, {len(chosen.inaccurate)} are not accurate enough"
        )
    vectors = ConceptVectors(names, loaded[0][0].dim).assign_(
        torch.cat([each.weight.detach() for each, _ in loaded]),
        torch.cat([each.bias.detach() for each, _ in loaded]),
    )
    kept = vectors.take(chosen.kept.tolist())
    about = {key: first[key] for key in (*_SAME, "settings") if key in first}
    save_concepts(
        output,
        kept,
        {**about, "metrics": {name: metrics[name] for name in kept.names}, "threshold": 0.0},
    )
    left_out = {
        reason: [names[n] for n in places]
        for reason, places in chosen.to_dict().items()
        if reason != "kept"
    }
    return {"kept": len(kept), **left_out}
