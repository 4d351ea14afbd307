"""What concept vectors hear: over the time of a sound, and in the recordings of a store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from coala_latent.embed.embedder import Embedder, load_model
from coala_latent.errors import AudioTooShortError, ConfigError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.store import Store, StoreIdentity
from coala_latent.tasks.concept_files import load_concepts, write_csv
from coala_latent.tasks.concept_projecting import check_dimensions
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.recordings import recording_vectors
from coala_latent.tasks.search import StoreModel

__all__ = [
    "Explained",
    "HeardConcept",
    "concept_arithmetic",
    "explain",
    "top_recordings",
    "write_activations",
]

_SIGN = re.compile(r"\s([+-])\s")


@dataclass(frozen=True, eq=False)
class Explained:
    """Concepts in a sound.

    Attributes:
        names: ``(k,)``.
        probability: ``(rows, k)`` of each concept in each row.
        start: ``(rows,)`` seconds.
        end: ``(rows,)``.
    """

    names: tuple[str, ...]
    probability: npt.NDArray[np.float64]
    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]

    def strongest(self, count: int) -> list[tuple[str, float, float, float]]:
        """Concepts with the highest means: name, mean, highest, and when that begins."""
        means, peaks = self.probability.mean(0), self.probability.argmax(0)
        order = np.argsort(-means, kind="stable")[:count]
        return [
            (
                self.names[n],
                float(means[n]),
                float(self.probability[peaks[n], n]),
                float(self.start[peaks[n]]),
            )
            for n in order.tolist()
        ]


@dataclass(frozen=True)
class HeardConcept:
    """A point of a store in which something is heard.

    Attributes:
        path: Of the recording.
        start: Of the row, or 0, in seconds.
        end: Of the row, or the recording's.
        score: Probability of a concept, cosine of an expression.
    """

    path: str
    start: float
    end: float
    score: float


def explain(
    sound: Path, concepts: Path, *, model: str | None = None, device: str = "cpu"
) -> Explained:
    """Concepts over the time of a sound file.

    Args:
        sound: The file.
        concepts: Concept vectors.
        model: Path of the model that they are for, where it is not registered.
        device: Of the model.

    Raises:
        AudioError: The sound cannot be used.
        ModelNotFoundError: The model is not here.
        WeightsError: The vectors cannot be read.
    """
    vectors, info = load_concepts(concepts)
    embedder = _embedder(info, concepts, model, device)
    if embedder.dim != vectors.dim:
        raise ConfigError(
            f"{concepts}: for {vectors.dim} values, {embedder.card.name} {embedder.layer} has "
            f"{embedder.dim} (give the right model)"
        )
    rows = embedder.file(sound)
    if not len(rows):
        raise AudioTooShortError(sound, "too short for a single row", "give a longer sound")
    return Explained(vectors.names, expit(_logits(vectors, rows.values)), rows.start, rows.end)


def _embedder(info: Mapping[str, Any], path: Path, model: str | None, device: str) -> Embedder:
    if not info.get("weights_sha256"):
        return load_model(
            model or info["model"], info["layer"], pooling=info["pooling"], device=device
        )
    known = {each.name: info[each.name] for each in fields(StoreIdentity)}
    return StoreModel(StoreIdentity(**known), path, model, device).embedder()


def _logits(vectors: ConceptVectors, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    weight = vectors.weight.detach().numpy().astype(np.float64)
    return np.asarray(rows @ weight.T + vectors.bias.detach().numpy())


def concept_arithmetic(vectors: ConceptVectors, expression: str) -> npt.NDArray[np.float64]:
    """The direction of sums and differences of concepts, such as ``"jazz + sad - piano"``.

    Signs stand between spaces, so that names may have hyphens. Concepts count by their directions,
    each of length 1.

    Raises:
        ConfigError: There is no such concept, or nothing is left.
    """
    parts = _SIGN.split(f" + {expression.strip()}")[1:]
    total = np.zeros(vectors.dim)
    for sign, name in zip(parts[::2], parts[1::2], strict=True):
        try:
            place = vectors.index(name.strip())
        except KeyError as error:
            raise ConfigError(f"{expression!r}: {error.args[0]}") from error
        total += (1.0 if sign == "+" else -1.0) * vectors.directions()[place].double().numpy()
    length = float(np.linalg.norm(total))
    if length < 1e-9:
        raise ConfigError(f"{expression!r}: nothing is left of these concepts")
    return total / length


def top_recordings(
    store: Path,
    concepts: Path,
    expression: str,
    *,
    count: int = 10,
    by: Literal["files", "rows"] = "files",
) -> list[HeardConcept]:
    """Points of a store in which a concept, or a sum or difference of several, is heard best.

    A single concept is ranked by its probability, an expression (`concept_arithmetic`) by the
    cosine of its direction with the points, seen from the store's mean.

    Raises:
        ConfigError: The store does not fit the concepts, or there is no such concept.
        StoreError: The store cannot be read.
    """
    vectors, info = load_concepts(concepts)
    check_dimensions(store, vectors, info)
    points = recording_vectors(store, by)
    if expression in vectors.names:
        scores = expit(_logits(vectors.take([vectors.index(expression)]), points.values)[:, 0])
    else:
        direction = concept_arithmetic(vectors, expression)
        centred = points.values - points.values.mean(0, dtype=np.float64)
        scores = centred @ direction / np.maximum(np.linalg.norm(centred, axis=1), 1e-12)
    return [
        HeardConcept(
            printable(points.paths[n]),
            float(points.start[n]),
            float(points.end[n]),
            float(scores[n]),
        )
        for n in np.argsort(-scores, kind="stable")[:count].tolist()
    ]


def write_activations(
    store: Path, concepts: Path, output: Path, names: Sequence[str] = ()
) -> tuple[int, int]:
    """A table of each recording's probability of each concept, for the sound map.

    Args:
        store: Of the embeddings.
        concepts: Their file.
        output: A ``.csv`` with the columns ``filename``, ``concept`` (the most probable) and one a
            concept.
        names: The concepts; all by default.

    Returns:
        Recordings and concepts.

    Raises:
        ConfigError: The store does not fit the concepts, or there is no such concept.
        StoreError: The store cannot be read.
    """
    vectors, info = load_concepts(concepts)
    check_dimensions(store, vectors, info)
    if names:
        if unknown := [name for name in names if name not in vectors.names]:
            raise ConfigError(f"{concepts}: no concept {unknown[0]!r} among {len(vectors)}")
        vectors = vectors.take([vectors.index(name) for name in names])
    with Store(store) as opened:
        sums = np.zeros((len(opened.files), len(vectors)))
        for block in opened.iter_blocks():
            np.add.at(sums, block.file, expit(_logits(vectors, block.values)))
        records = opened.files
    lines = [
        [
            printable(record.path),
            vectors.names[int(sums[number].argmax())],
            *(f"{value:.4f}" for value in sums[number] / record.rows),
        ]
        for number, record in enumerate(records)
        if record.rows
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_csv(output, ["filename", "concept", *vectors.names], lines)
    return len(lines), len(vectors)
