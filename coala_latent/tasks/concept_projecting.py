"""Held-out recordings projected on concept vectors, kept for the hierarchy.

A folder of three files: ``sums.npz`` (see `ConceptProjections`), ``members.npz`` (which recording
is a held-out example of which concept), ``projections.json`` (names, examples, where all comes
from).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from coala_latent.analysis.concept_projections import (
    Block,
    ConceptProjections,
    project_concepts,
    recording_means,
)
from coala_latent.data.concept_splits import ConceptSplit
from coala_latent.data.concept_tables import ConceptTable
from coala_latent.data.latent_files import replace_file
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.store import Store
from coala_latent.store.schema import printable_text
from coala_latent.tasks.concept_files import SPLIT, accepted_concepts, load_concepts, load_split
from coala_latent.tasks.concept_sources import ConceptSource, store_concepts
from coala_latent.tasks.fitting import versions
from coala_latent.weights import write_json
from coala_latent.weights.files import file_sha256

__all__ = ["Projected", "check_dimensions", "load_projected", "project"]

Part = Literal["test", "all"]
FILE = "projections.json"
_KIND = "concept_projections"
_SUMS, _MEMBERS = "sums.npz", "members.npz"
_EXAMPLES = 8


@dataclass(frozen=True, eq=False)
class Projected:
    """Projections, and what it takes to go through the recordings again.

    Attributes:
        names: Of the concepts.
        projections: Their sums.
        members: ``(recordings, concepts)`` bool.
        recordings: Names in the store, of those that were projected.
        examples: For each concept its recordings with the highest mean activation.
        info: ``store``, ``concepts`` (paths), metrics and versions, JSON-able.
        vectors: The concept vectors, in the order of the names.
    """

    names: tuple[str, ...]
    projections: ConceptProjections
    members: csr_array
    recordings: tuple[str, ...]
    examples: list[list[str]]
    info: dict[str, Any]
    vectors: ConceptVectors

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """``(concepts, dim)``."""
        return np.asarray(self.vectors.weight.detach().numpy())

    @property
    def bias(self) -> npt.NDArray[np.float32]:
        """``(concepts,)``."""
        return np.asarray(self.vectors.bias.detach().numpy())

    def blocks(self) -> Iterator[Block]:
        """The recordings' rows, from the beginning."""
        return _blocks(Path(self.info["store"]), self.recordings)


def project(
    store: Path,
    concepts: Path,
    source: ConceptSource,
    output: Path,
    *,
    part: Part = "test",
    threshold: float | None = None,
    trained: Path | None = None,
) -> Projected:
    """Project the recordings of a store on concept vectors, block by block.

    Args:
        store: Of the embeddings that the vectors are for.
        concepts: Their file; those that are not accurate enough are left out.
        source: Which recordings belong to them.
        output: Folder.
        part: ``"test"``: recordings that were held out in training (``split.csv`` beside the
            vectors); ``"all"``: every recording, for vectors from elsewhere.
        threshold: Least balanced accuracy; the one of the training by default.
        trained: Folder of the training, whose ``split.csv`` tells what was held out; that of the
            vectors by default.

    Raises:
        ConfigError: There are no concepts, or no parts where they are asked for.
        DataError: The table does not fit, or a concept has no recording.
        StoreError: The store cannot be read.
        WeightsError: The vectors cannot be read.
    """
    loaded, info = load_concepts(concepts)
    check_dimensions(store, loaded, info)
    vectors = accepted_concepts(loaded, info, threshold)
    folder = concepts.parent if trained is None else trained
    table, members = _membership(store, folder, info, source, part)
    kept = [name for name in vectors.names if name in table.concepts]
    if not kept:
        raise ConfigError(f"{concepts}: none of its concepts is in the labels")
    vectors = vectors.take([vectors.index(name) for name in kept])
    members = csr_array(members[:, [table.concepts.index(name) for name in kept]])
    heard = np.flatnonzero(_in_part(folder, table, info, part))
    recordings, members = [table.recordings[place] for place in heard], csr_array(members[heard])
    weight, bias = (each.detach().numpy() for each in (vectors.weight, vectors.bias))
    projections = project_concepts(_blocks(store, recordings), members, weight, bias)
    examples = _examples(_blocks(store, recordings), members, weight, bias)
    output.mkdir(parents=True, exist_ok=True)
    sums = {each.name: np.asarray(getattr(projections, each.name)) for each in fields(projections)}
    _write_arrays(output / _SUMS, sums)
    shape = np.array(members.shape, dtype=np.int64)
    _write_arrays(
        output / _MEMBERS, {"indptr": members.indptr, "indices": members.indices, "shape": shape}
    )
    metrics = info.get("metrics", {})
    described = {
        "kind": _KIND,
        "names": kept,
        "recordings": [printable_text(name) for name in recordings],
        "examples": [[printable_text(recordings[n]) for n in places] for places in examples],
        "counts": projections.counts.tolist(),
        "accuracy": [
            metrics[name]["balanced_accuracy"]["mean"] if name in metrics else None for name in kept
        ],
        "part": part,
        "store": printable_text(str(store.resolve())),
        "concepts": printable_text(str(concepts.resolve())),
        "concepts_sha256": file_sha256(concepts.with_suffix(".safetensors")),
        "model": info.get("model"),
        "layer": info.get("layer"),
        "versions": versions(),
    }
    write_json(output / FILE, described)
    return load_projected(output)


def load_projected(folder: Path) -> Projected:
    """Read what `project` wrote.

    Raises:
        DataError: A file is missing or damaged, or the vectors have changed since.
    """
    try:
        info = json.loads((folder / FILE).read_text("utf-8"))
        if not isinstance(info, dict) or info.get("kind") != _KIND:
            raise ValueError(f"{FILE} does not describe any")
        with np.load(folder / _SUMS, allow_pickle=False) as sums:
            values = {each.name: sums[each.name] for each in fields(ConceptProjections)}
        with np.load(folder / _MEMBERS, allow_pickle=False) as found:
            ones = np.ones(len(found["indices"]), dtype=bool)
            members = csr_array(
                (ones, found["indices"], found["indptr"]), shape=tuple(found["shape"].tolist())
            )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder}: not a folder of projections: {error} (coala-latent concepts project makes "
            "one)"
        ) from error
    values["recordings"] = int(values["recordings"])
    concepts = Path(info["concepts"])
    vectors, _ = load_concepts(concepts)
    if file_sha256(concepts.with_suffix(".safetensors")) != info["concepts_sha256"]:
        raise DataError(f"{concepts}: has changed since {folder} was made (project again)")
    return Projected(
        tuple(info["names"]),
        ConceptProjections(**values),
        members,
        tuple(info["recordings"]),
        info["examples"],
        info,
        vectors.take([vectors.index(name) for name in info["names"]]),
    )


def check_dimensions(store: Path, vectors: ConceptVectors, info: dict[str, Any]) -> None:
    """Whether a store holds what the vectors are for.

    Raises:
        ConfigError: Another model, layer, pooling or size.
    """
    with Store(store) as opened:
        identity = asdict(opened.identity)
    wrong = [
        f"{key}: {info[key]} of the concepts, {identity[key]} of the store"
        for key in ("model", "weights_sha256", "layer", "pooling", "dim")
        if info.get(key) and info[key] != identity[key]
    ]
    if not wrong and vectors.dim != identity["dim"]:
        wrong = [f"dim: {vectors.dim} of the concepts, {identity['dim']} of the store"]
    if wrong:
        raise ConfigError(f"{store}: {'; '.join(wrong)} (encode the sounds as the concepts need)")


def _membership(
    store: Path, folder: Path, info: dict[str, Any], source: ConceptSource, part: Part
) -> tuple[ConceptTable, csr_array]:
    """Who is a held-out example of what."""
    table = store_concepts(store, source)
    if part == "all":
        return table, table.members
    split = _split(folder, table, info)
    members = split.table.members.tolil()
    members[:] = False
    for concept in range(len(split.table)):
        members[split.positives("test", concept), concept] = True
    return split.table, csr_array(members)


def _in_part(
    folder: Path, table: ConceptTable, info: dict[str, Any], part: Part
) -> npt.NDArray[np.bool_]:
    """Recordings that are projected, members of a concept or of none."""
    chosen = np.ones(len(table.recordings), dtype=bool)
    if part == "test":
        chosen[:] = False
        chosen[_split(folder, table, info).recordings("test")] = True
    return chosen


def _split(folder: Path, table: ConceptTable, info: dict[str, Any]) -> ConceptSplit:
    original = info.get("settings", {}).get("protocol") == "original"
    if not original and not (folder / SPLIT).exists():
        raise ConfigError(
            f"{folder}: has no {SPLIT}, so nothing says what was held out (name the training's "
            "folder with --trained, or project all recordings with --part all)"
        )
    return load_split(folder, table, info)


def _blocks(store: Path, recordings: tuple[str, ...] | list[str]) -> Iterator[Block]:
    """Rows of some recordings with their numbers, in the store's order."""
    with Store(store) as opened:
        numbers = {name: number for number, name in enumerate(recordings)}
        found = [numbers.get(printable_text(record.path), -1) for record in opened.files]
        place = np.array(found, dtype=np.int64)
        for block in opened.iter_blocks():
            owner = place[block.file]
            if (owner >= 0).any():
                yield block.values[owner >= 0], owner[owner >= 0]


def _examples(
    blocks: Iterator[Block],
    members: csr_array,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
) -> list[list[int]]:
    """Each concept's recordings with the highest mean activation, the highest first."""
    count = members.shape[1]
    best = np.full((_EXAMPLES, count), -np.inf)
    who = np.full((_EXAMPLES, count), -1)
    means = recording_means(
        blocks, members.shape[0], weight.astype(np.float64), bias.astype(np.float64)
    )
    for ids, found in means:
        values = np.where(members[ids].toarray(), found[0], -np.inf)
        scores = np.concatenate([best, values])
        whose = np.concatenate([who, np.broadcast_to(ids[:, None], values.shape)])
        order = np.argsort(-scores, axis=0, kind="stable")[:_EXAMPLES]
        best, who = np.take_along_axis(scores, order, 0), np.take_along_axis(whose, order, 0)
    return [
        [int(n) for n, value in zip(who[:, c], best[:, c], strict=True) if np.isfinite(value)]
        for c in range(count)
    ]


def _write_arrays(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    replace_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
