"""What every concept vector says about the recordings of every concept, in one pass.

Recordings come in blocks, slice by slice (a slice is a row of embeddings); what is kept is sums per
pair of concepts, so memory grows with the concepts and not with the recordings. A recording counts
once, however long it is: slices are averaged first.

Sources:
    Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
    (arXiv 2207.11231; https://github.com/deezer/concept_hierarchy): the sums and the filters. Their
    published code projects the first slice of a recording only; here all of them count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import expit

from coala_latent.errors import ConfigError, DataError

__all__ = [
    "Block",
    "ConceptProjections",
    "ConceptSelection",
    "membership_array",
    "project_concepts",
    "recording_means",
    "select_concepts",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
# Rows of embeddings (n, dim), and the number of the recording that each is a slice of (n,).
Block = tuple[npt.NDArray[Any], npt.NDArray[Any]]

_BLOCK_VALUES = 300_000  # activations of slices at once: what a processor's cache holds
_HELD_VALUES = 600_000  # means of recordings at once: 5 MB for each of four kinds


@dataclass(frozen=True, eq=False)
class ConceptSelection:
    """Which concepts are worth a place in a hierarchy.

    Attributes:
        kept: Indices of those that pass every filter.
        too_few: Set aside: fewer recordings than asked for.
        too_many: Set aside: as many as the limit, or more.
        inaccurate: Set aside, though of the right size: held-out accuracy not above the limit.
    """

    kept: Indices
    too_few: Indices
    too_many: Indices
    inaccurate: Indices

    def to_dict(self) -> dict[str, list[int]]:
        """Values for JSON."""
        return {
            "kept": self.kept.tolist(),
            "too_few": self.too_few.tolist(),
            "too_many": self.too_many.tolist(),
            "inaccurate": self.inaccurate.tolist(),
        }


def select_concepts(
    counts: npt.ArrayLike,
    accuracy: npt.ArrayLike,
    *,
    min_recordings: int = 39,
    max_recordings: int | None = 251,
    min_accuracy: float = 0.70,
) -> ConceptSelection:
    """The paper's filters: ``min_recordings <= count < max_recordings``, accuracy above the limit.

    Args:
        counts: ``(n,)`` recordings of each concept, of training and test part together.
        accuracy: ``(n,)`` held-out accuracy of each concept's vector on as many positives as
            negatives.
        min_recordings: Fewest recordings.
        max_recordings: That many is too many; None: no limit.
        min_accuracy: Accuracy must be greater, not equal.

    Raises:
        DataError: Lengths differ, or an accuracy is NaN.
        ConfigError: The limits leave no room.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    scores = np.asarray(accuracy, dtype=np.float64)
    if sizes.ndim != 1 or sizes.shape != scores.shape:
        raise DataError(f"counts {sizes.shape} and accuracy {scores.shape} must be of one length")
    if np.isnan(scores).any():
        raise DataError(
            f"accuracy of concept {int(np.argmax(np.isnan(scores)))} is NaN: test its vector on "
            "held-out recordings first, or leave the concept out"
        )
    if max_recordings is not None and max_recordings <= min_recordings:
        raise ConfigError(
            f"max_recordings={max_recordings} must be greater than min_recordings={min_recordings}"
        )
    few = sizes < min_recordings
    many = np.zeros_like(few) if max_recordings is None else sizes >= max_recordings
    wrong = ~few & ~many & ~(scores > min_accuracy)
    return ConceptSelection(
        *(np.flatnonzero(mask) for mask in (~(few | many | wrong), few, many, wrong))
    )


@dataclass(frozen=True, eq=False)
class ConceptProjections:
    r"""Sums over the held-out recordings of each concept (rows), for each vector (columns).

    With :math:`V` the activation :math:`w_j \cdot h + b_j` of a slice and :math:`\sigma` the
    logistic function, a recording adds the mean over its slices.

    Attributes:
        counts: ``(n,)`` recordings behind each row.
        value: ``(n, k)`` sums of :math:`V`.
        value_squared: Of :math:`V^2`.
        probability: Of :math:`\sigma(V)`.
        probability_squared: Of :math:`\sigma(V)^2`.
        mean_value_squared: Sums of the *square of a recording's mean* :math:`V`: the scatter
            between recordings, which standard errors need.
        mean_probability_squared: Of the squared mean :math:`\sigma(V)`.
        recordings: Recordings met, members of any concept or none.
        total: ``(k,)`` sums of :math:`V` over all of them.
        total_squared: ``(k,)`` sums of the squared recording means over all of them.
    """

    counts: Indices
    value: Doubles = field(repr=False)
    value_squared: Doubles = field(repr=False)
    probability: Doubles = field(repr=False)
    probability_squared: Doubles = field(repr=False)
    mean_value_squared: Doubles = field(repr=False)
    mean_probability_squared: Doubles = field(repr=False)
    recordings: int
    total: Doubles = field(repr=False)
    total_squared: Doubles = field(repr=False)

    @property
    def similarity(self) -> Doubles:
        r"""``(n, k)``: :math:`S_{ij}`, mean :math:`\sigma(V_j)` over the recordings of concept i.

        Rows are whose recordings, columns whose vector: it is not symmetric.

        Raises:
            DataError: A concept has no held-out recording.
        """
        return self.probability / self._sizes()

    @property
    def similarity_error(self) -> Doubles:
        """``(n, k)`` standard errors of `similarity`; infinite for a single recording.

        For a mean this is the jackknife over recordings.
        """
        return self._error(self.probability, self.mean_probability_squared)

    @property
    def activation(self) -> Doubles:
        """``(n, k)`` mean :math:`V_j` over the recordings of concept i: it does not saturate.

        Raises:
            DataError: A concept has no held-out recording.
        """
        return self.value / self._sizes()

    @property
    def activation_error(self) -> Doubles:
        """``(n, k)`` standard errors of `activation`; infinite for a single recording."""
        return self._error(self.value, self.mean_value_squared)

    @property
    def background(self) -> Doubles:
        """``(n,)`` mean activation of each vector over recordings that are not its concept's.

        Raises:
            DataError: Concepts and vectors are not the same, or a concept has every recording.
        """
        if self.value.shape[0] != self.value.shape[1]:
            raise DataError(
                f"{self.value.shape[0]} concepts but {self.value.shape[1]} vectors: "
                "the background needs the vector of each concept"
            )
        others = self.recordings - self.counts
        if (others == 0).any():
            raise DataError(
                f"concept {int(np.argmin(others))} has every held-out recording, so nothing tells "
                "what its vector says of other sounds: add recordings without it, leave it out, "
                "or use the protocol original"
            )
        return np.asarray((self.total - np.diagonal(self.value)) / others)

    def _error(self, sums: Doubles, squares: Doubles) -> Doubles:
        sizes = self._sizes()
        scatter = np.maximum(squares / sizes - (sums / sizes) ** 2, 0.0)
        alone = np.full(scatter.shape, np.inf)
        return np.sqrt(np.divide(scatter, sizes - 1, out=alone, where=sizes > 1))

    def _sizes(self) -> Indices:
        if (self.counts == 0).any():
            raise DataError(
                f"concept {int(np.argmin(self.counts))} has no held-out recording: leave it out, "
                "or hold out a greater part"
            )
        return self.counts[:, None]


def project_concepts(
    blocks: Iterable[Block],
    membership: Any,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
) -> ConceptProjections:
    """Project the held-out recordings of concepts on concept vectors.

    Args:
        blocks: Pairs of rows ``(n, dim)`` and the number of each row's recording ``(n,)``. A
            recording may go on in the next block, but not come back after another one. Give
            recordings of no concept too: they say what is ordinary.
        membership: ``(recordings, n)`` sparse or dense, true where a recording is a *held-out*
            example of a concept.
        weight: ``(k, dim)`` concept vectors.
        bias: ``(k,)``.

    Returns:
        Sums in float64. Members that never came count nowhere: see its ``counts``.

    Raises:
        DataError: Shapes do not fit, values are not finite, or a recording comes back.
    """
    members = membership_array(membership)
    heads, offsets = _checked_heads(weight, bias)
    concepts, vectors = members.shape[1], len(heads)
    sums = np.zeros((6, concepts, vectors))
    totals = np.zeros((2, vectors))
    counts = np.zeros(concepts, dtype=np.int64)
    recordings = 0
    found = recording_means(blocks, members.shape[0], heads, offsets)
    for ids, means in _gathered(found, max(1, _HELD_VALUES // max(1, vectors))):
        kinds = (*means, means[0] ** 2, means[2] ** 2)
        totals[0] += means[0].sum(axis=0)
        totals[1] += kinds[4].sum(axis=0)
        recordings += len(ids)
        # Only rows of concepts that these recordings belong to are touched: with thousands of
        # concepts, adding whole matrices would take longer than the projections.
        present = csr_array(members[ids].T)
        rows = np.flatnonzero(np.diff(present.indptr))
        counts[rows] += np.diff(present.indptr)[rows]
        chosen = present[rows]
        for total, kind in zip(sums, kinds, strict=True):
            total[rows] += chosen @ kind
    return ConceptProjections(
        counts=counts,
        value=sums[0],
        value_squared=sums[1],
        probability=sums[2],
        probability_squared=sums[3],
        mean_value_squared=sums[4],
        mean_probability_squared=sums[5],
        recordings=recordings,
        total=totals[0],
        total_squared=totals[1],
    )


def recording_means(
    blocks: Iterable[Block], recordings: int, weight: Doubles, bias: Doubles
) -> Iterator[tuple[Indices, Doubles]]:
    r"""Means over the slices of each recording, a few recordings at a time.

    Args:
        blocks: As for `project_concepts`.
        recordings: Recording numbers are below this.
        weight: ``(k, dim)`` float64.
        bias: ``(k,)`` float64.

    Yields:
        Recording numbers ``(r,)`` and ``(4, r, k)`` means of :math:`V`, :math:`V^2`,
        :math:`\sigma(V)` and :math:`\sigma(V)^2`.

    Raises:
        DataError: As for `project_concepts`.
    """
    seen = np.zeros(recordings, dtype=bool)
    open_id, open_sum, open_count = -1, np.zeros((4, len(weight))), 0
    step = max(1, _BLOCK_VALUES // max(1, len(weight)))
    for values, owners in blocks:
        rows, ids = _checked_block(values, owners, recordings, weight.shape[1])
        for begin in range(0, len(rows), step):
            part = ids[begin : begin + step]
            starts = np.flatnonzero(np.diff(part, prepend=-1))
            sums = _slice_sums(rows[begin : begin + step], starts, weight, bias)
            counts = np.diff(starts, append=len(part))
            whose = part[starts]
            if whose[0] == open_id:
                sums[:, 0] += open_sum
                counts[0] += open_count
            elif open_count:
                yield np.array([open_id]), (open_sum / open_count)[:, None]
            _mark(seen, whose[1:] if whose[0] == open_id else whose)
            if len(whose) > 1:
                yield whose[:-1], sums[:, :-1] / counts[:-1, None]
            open_id, open_sum, open_count = int(whose[-1]), sums[:, -1].copy(), int(counts[-1])
    if open_count:
        yield np.array([open_id]), (open_sum / open_count)[:, None]


def membership_array(membership: Any) -> csr_array:
    """``(recordings, concepts)`` as a sparse float64 array of zeros and ones.

    Raises:
        DataError: It is no matrix, or has NaN.
    """
    members = csr_array(membership, dtype=np.float64)
    if members.ndim != 2:
        raise DataError(f"membership must be (recordings, concepts), got shape {members.shape}")
    if not np.isfinite(members.data).all():
        raise DataError("membership has values that are not finite; give booleans")
    members.sum_duplicates()
    members.eliminate_zeros()
    return csr_array(
        (np.ones_like(members.data), members.indices, members.indptr), shape=members.shape
    )


def _gathered(
    found: Iterable[tuple[Indices, Doubles]], most: int
) -> Iterator[tuple[Indices, Doubles]]:
    """The same means, of about ``most`` recordings at a time."""
    ids: list[Indices] = []
    means: list[Doubles] = []
    held = 0
    for some, values in found:
        ids.append(some)
        means.append(values)
        held += len(some)
        if held >= most:
            yield np.concatenate(ids), np.concatenate(means, axis=1)
            ids, means, held = [], [], 0
    if held:
        yield np.concatenate(ids), np.concatenate(means, axis=1)


def _slice_sums(rows: Doubles, starts: Indices, weight: Doubles, bias: Doubles) -> Doubles:
    value = rows @ weight.T + bias
    probability = expit(value)
    kinds = (value, value**2, probability, probability**2)
    return np.stack([np.add.reduceat(kind, starts, axis=0) for kind in kinds])


def _mark(seen: npt.NDArray[np.bool_], ids: Indices) -> None:
    distinct, times = np.unique(ids, return_counts=True)
    again = distinct[(times > 1) | seen[distinct]]
    if len(again):
        raise DataError(
            f"recording {int(again[0])} comes back after another one: give the rows of a "
            "recording together, as a store's own order does"
        )
    seen[ids] = True


def _checked_block(
    values: npt.ArrayLike, owners: npt.ArrayLike, recordings: int, dim: int
) -> tuple[Doubles, Indices]:
    rows = np.asarray(values, dtype=np.float64)
    ids = np.asarray(owners, dtype=np.int64)
    if rows.ndim != 2 or rows.shape[1] != dim or ids.shape != rows.shape[:1]:
        raise DataError(
            f"a block of rows {rows.shape} with recordings {ids.shape} does not fit vectors of "
            f"{dim} values: take embeddings of the layer that the concepts were trained on"
        )
    if len(ids) and (ids.min() < 0 or ids.max() >= recordings):
        raise DataError(
            f"a block names recording {int(ids.max() if ids.min() >= 0 else ids.min())}, but the "
            f"membership has rows for {recordings}"
        )
    if not np.isfinite(rows).all():
        bad = int(ids[np.argmin(np.isfinite(rows).all(axis=1))])
        raise DataError(f"recording {bad}: an embedding is not finite; encode the file again")
    return rows, ids


def _checked_heads(weight: npt.ArrayLike, bias: npt.ArrayLike) -> tuple[Doubles, Doubles]:
    heads = np.asarray(weight, dtype=np.float64)
    offsets = np.asarray(bias, dtype=np.float64)
    if heads.ndim != 2 or offsets.shape != heads.shape[:1]:
        raise DataError(
            f"concept vectors must be (k, dim) with k biases, got {heads.shape} and {offsets.shape}"
        )
    if not (np.isfinite(heads).all() and np.isfinite(offsets).all()):
        raise DataError("a concept vector or bias is not finite; train the concept again")
    return heads, offsets
