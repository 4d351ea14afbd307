"""``coala-latent similarity``: what embeddings have in common with low-level descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from coala_latent.analysis.similarity import cca, cca_by_chance, linear_cka
from coala_latent.audio.io import read_audio
from coala_latent.audio.lowlevel import LOW_LEVEL, STATISTICS, low_level_statistics
from coala_latent.audio.resample import resample
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import AudioError, DataError
from coala_latent.tasks.encode import list_sounds
from coala_latent.tasks.labelled import LabelledSounds, printable
from coala_latent.tasks.probe import clip_features
from coala_latent.tasks.progress import progress_bar

__all__ = ["similarity", "similarity_tables"]

_RATE = 22000
# Fewer items a component, and even features at random correlate highly.
_ITEMS_A_COMPONENT = 10

_Features = npt.NDArray[np.floating]


def similarity(
    inputs: Sequence[Path],
    embedders: Mapping[str, Embedder],
    *,
    components: int | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Correlate clip embeddings with descriptors, each by its mean, variance and skewness.

    Args:
        inputs: Folders and files.
        embedders: Models by their names in the table.
        components: CCA regards at most that many principal components; by default one for every
            ten sounds. 0: all, as the original did with its 19,103 sounds.
        seed: Of the pairings at random that show what is found by chance.
        quiet: No progress bars.

    Returns:
        JSON-able results: ``models``, by model and descriptor ``cca`` (mean canonical
        correlation), ``cca_weighted``, ``cca_by_chance``, ``cka`` and ``cka_unbiased``, or
        ``error``; and ``between``, the unbiased CKA of each two models.

    Raises:
        DataError: There are no sounds, or fewer than two can be used.
    """
    root, named = list_sounds(inputs)
    paths = [path for _, path in named]
    descriptors, skipped = _descriptors(paths, quiet)
    # Neither classes nor groups matter here.
    sounds = LabelledSounds(root, paths, np.full(len(paths), ""), np.full(len(paths), ""))
    embeddings: dict[str, _Features] = {}
    for name, embedder in embedders.items():
        embeddings[name], bad = clip_features(sounds, embedder, quiet=quiet)
        skipped |= bad
    keep = np.array([str(path) not in skipped for path in paths])
    if keep.sum() < 2:
        raise DataError(f"{root}: {keep.sum()} sounds can be used; this needs more than a few")
    if components is None:
        components = max(1, int(keep.sum()) // _ITEMS_A_COMPONENT)
    return {
        "root": printable(root),
        "sounds": int(keep.sum()),
        "components": components,
        "seed": seed,
        "skipped": {printable(path): printable(why) for path, why in skipped.items()},
        "models": {
            name: {
                "model": embedders[name].card.name,
                "sha256": embedders[name].card.sha256,
                "layer": embedders[name].layer,
                "descriptors": {
                    kind: _compared(values[keep], descriptors[kind][keep], components, seed)
                    for kind in descriptors
                },
            }
            for name, values in embeddings.items()
        },
        "between": [
            {"models": [a, b], "cka_unbiased": _cka(embeddings[a][keep], embeddings[b][keep])}
            for a, b in combinations(embeddings, 2)
        ],
    }


def _descriptors(paths: Sequence[Path], quiet: bool) -> tuple[dict[str, _Features], dict[str, str]]:
    """Each ``(n, values)``, NaN where skipped, and ``path: reason`` of what was."""
    found: dict[int, dict[str, npt.NDArray[np.float64]]] = {}
    skipped = {}
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("describe", total=len(paths), note="")
        for number, path in enumerate(paths):
            try:
                sound = read_audio(path)
                samples = resample(sound.samples, sound.sample_rate, _RATE)
                found[number] = low_level_statistics(samples, _RATE)
            except AudioError as error:
                skipped[str(path)] = str(error)
            bar.update(task, advance=1)
    if not found:
        raise DataError(f"none of {len(paths)} sounds can be read; {next(iter(skipped.values()))}")
    kinds = {kind: len(values) for kind, values in next(iter(found.values())).items()}
    tables = {kind: np.full((len(paths), size), np.nan) for kind, size in kinds.items()}
    for number, values in found.items():
        for kind, table in tables.items():
            table[number] = values[kind]
    return tables, skipped


def _compared(
    embedding: _Features, descriptor: _Features, components: int, seed: int
) -> dict[str, Any]:
    limit = components or None
    try:
        found = cca(embedding, descriptor, components=limit)
        return {
            "cca": found.mean,
            "cca_weighted": found.weighted,
            "cca_by_chance": cca_by_chance(embedding, descriptor, components=limit, seed=seed),
            "ranks": list(found.ranks),
            "cka": linear_cka(embedding, descriptor),
            "cka_unbiased": linear_cka(embedding, descriptor, unbiased=True),
        }
    except DataError as error:
        return {"error": str(error)}


def _cka(a: _Features, b: _Features) -> float | str:
    try:
        return linear_cka(a, b, unbiased=True)
    except DataError as error:
        return str(error)


def similarity_tables(result: Mapping[str, Any]) -> list[Table]:
    """Canonical correlations and CKA of each model with each descriptor, and of the models."""
    limit = result["components"]
    about = f"{limit} principal components" if limit else "all dimensions"
    cells = {
        f"mean canonical correlation (by chance); {result['sounds']} sounds, {about}": (
            lambda found: f"{found['cca']:.3f} [dim]({found['cca_by_chance']:.3f})[/dim]"
        ),
        "linear CKA, unbiased": lambda found: f"{found['cka_unbiased']:.3f}",
    }
    tables = []
    for title, cell in cells.items():
        for model, values in result["models"].items():
            table = Table(title=f"{model}: {title}", title_justify="left")
            table.add_column("descriptor")
            for statistic in STATISTICS:
                table.add_column(statistic, justify="right")
            for name in LOW_LEVEL:
                found = [values["descriptors"][f"{name} {kind}"] for kind in STATISTICS]
                table.add_row(name, *("-" if "error" in each else cell(each) for each in found))
            tables.append(table)
    return tables
