"""How sure the edges of a hierarchy are, by resampling recordings.

Whole recordings are resampled, and one that belongs to several concepts takes its weight to all of
them. The weights are those of the Bayesian bootstrap (exponential), which never leaves a concept
without recordings, however few it has. With ten recordings a concept, intervals are about a tenth
too narrow.

`edge_samples` keeps, from a second pass over the blocks, just the activations that the edges need:
memory grows with edges times recordings a concept. `edge_support` makes the whole hierarchy again
and again, one similarity matrix at a time.

Sources:
    Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981.
    Felsenstein, "Confidence limits on phylogenies: an approach using the bootstrap", Evolution 39,
    1985 (support of an edge).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from coala_latent.analysis.concept_calibration import adjusted_share
from coala_latent.analysis.concept_graph import ConceptGraph, concept_graph
from coala_latent.analysis.concept_projections import Block, membership_array, recording_means
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "EdgeSamples",
    "edge_intervals",
    "edge_samples",
    "edge_support",
    "recording_activations",
    "similarity_draws",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EdgeSamples:
    """Activations behind the similarities that some edges depend on.

    Attributes:
        pairs: ``(q, 2)`` concept and vector, sorted: both directions of each edge, and each
            concept of an edge under its own vector.
        starts: ``(q,)`` where each pair's values begin.
        recording: ``(t,)`` recording numbers.
        value: ``(t,)`` mean activation, or probability, over the recording's slices.
        recordings: Number of recordings that are numbered.
    """

    pairs: Indices
    starts: Indices
    recording: Indices = field(repr=False)
    value: Doubles = field(repr=False)
    recordings: int

    def means(self) -> Doubles:
        """``(q,)`` means of the pairs."""
        return np.asarray(self._weighted(np.ones(self.recordings)))

    def draws(self, n_resamples: int, seed: int) -> Doubles:
        """``(n_resamples, q)`` means with resampled recordings."""
        rng = np.random.default_rng(seed)
        drawn = np.empty((n_resamples, len(self.pairs)))
        for row in drawn:
            row[:] = self._weighted(rng.standard_exponential(self.recordings))
        return drawn

    def _weighted(self, weights: Doubles) -> Doubles:
        if not len(self.pairs):
            return np.zeros(0)
        each = weights[self.recording]
        sums = np.add.reduceat(each * self.value, self.starts)
        return np.asarray(sums / np.add.reduceat(each, self.starts))


def edge_samples(
    blocks: Iterable[Block],
    membership: Any,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    graph: ConceptGraph,
) -> EdgeSamples:
    """Go through the recordings once more and keep what the edges need.

    Args:
        blocks: As for `project_concepts`, from the beginning.
        membership: Likewise.
        weight: Likewise.
        bias: Likewise.
        graph: The hierarchy whose edges are meant. Its protocol says what is kept: activations
            (calibrated) or probabilities (original).

    Raises:
        DataError: As `project_concepts`, or a concept of an edge has no recording.
    """
    members = membership_array(membership)
    heads, offsets = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    links = graph.tree.edges
    kind = 2 if graph.settings.protocol == "original" else 0
    both = np.concatenate([links, links[:, ::-1], links[:, [0, 0]], links[:, [1, 1]]])
    pairs = np.unique(both, axis=0)
    # The pairs of concept i are first[i] to first[i + 1].
    first = np.searchsorted(pairs[:, 0], np.arange(members.shape[1] + 1))
    found: list[tuple[Indices, Indices, Doubles]] = []
    for ids, means in recording_means(blocks, members.shape[0], heads, offsets):
        local = members[ids].tocoo()
        repeats = np.diff(first)[local.col]
        position = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        pair = np.repeat(first[local.col], repeats) + position
        row = np.repeat(local.row, repeats)
        found.append((pair, ids[row], means[kind][row, pairs[pair, 1]]))
    pair = np.concatenate([np.zeros(0, np.int64), *(item[0] for item in found)])
    order = np.argsort(pair, kind="stable")
    counts = np.bincount(pair, minlength=len(pairs))
    if len(pairs) and counts.min() == 0:
        missing = int(pairs[np.argmin(counts), 0])
        raise DataError(f"concept {missing} has no held-out recording: leave it out")
    return EdgeSamples(
        pairs,
        np.cumsum(counts) - counts,
        np.concatenate([np.zeros(0, np.int64), *(item[1] for item in found)])[order],
        np.concatenate([np.zeros(0), *(item[2] for item in found)])[order],
        members.shape[0],
    )


def edge_intervals(
    graph: ConceptGraph,
    samples: EdgeSamples,
    background: npt.ArrayLike | None = None,
    *,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> ConceptGraph:
    """The graph with percentile intervals of its edges' strengths.

    Args:
        graph: A hierarchy.
        samples: `edge_samples` of its tree's edges.
        background: ``(n,)`` that the calibrated protocol used; it is held fixed, as it rests on
            all recordings. Not looked at by the original protocol.
        n_resamples: Number of resamples.
        confidence: Coverage, between 0 and 1.
        seed: Of the weights.

    Raises:
        DataError: The samples are of other edges, or the background is missing.
        ConfigError: A setting is out of range.
    """
    if n_resamples < 1 or not 0.0 < confidence < 1.0:
        raise ConfigError(
            f"n_resamples={n_resamples} must be at least 1 and confidence={confidence} between 0 "
            "and 1"
        )
    if not len(graph.tree.edges):
        return graph.with_intervals(np.zeros(0), np.zeros(0))
    drawn = samples.draws(n_resamples, seed)
    parent, child = graph.tree.edges.T
    n = len(graph)

    def of(rows: Indices, columns: Indices) -> Doubles:
        keys, wanted = samples.pairs @ np.array([n, 1]), rows * n + columns
        where = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        if not (keys[where] == wanted).all():
            raise DataError("the samples are of other edges than the tree's: draw them again")
        return drawn[:, where]

    if graph.settings.protocol == "original":
        straight = graph.settings.orientation == "parents"
        strength = of(parent, child) if straight else of(child, parent)
    else:
        if background is None:
            raise DataError("the calibrated protocol needs the background of the projections")
        outside = np.asarray(background, dtype=np.float64)
        down = adjusted_share(of(parent, child), of(child, child), outside[child])
        up = adjusted_share(of(child, parent), of(parent, parent), outside[parent])
        strength = np.sqrt(down * up)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(strength, [tail, 1.0 - tail], axis=0)
    return graph.with_intervals(low, high, graph.edge_support)


def recording_activations(
    blocks: Iterable[Block],
    recordings: int,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike,
    *,
    probability: bool = False,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """``(recordings, k)`` mean activations of every recording; NaN for one that does not come.

    Args:
        blocks: As for `project_concepts`.
        recordings: Their number.
        weight: ``(k, dim)``.
        bias: ``(k,)``.
        probability: Means of the logistic function, as the original protocol compares.
        out: Array to fill, such as a memory map where the table is greater than memory; None: a
            new one, float32.
    """
    heads, offsets = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    table = np.empty((recordings, len(heads)), np.float32) if out is None else out
    table[:] = np.nan
    for ids, means in recording_means(blocks, recordings, heads, offsets):
        table[ids] = means[2 if probability else 0]
    return table


def similarity_draws(
    activations: npt.NDArray[Any], membership: Any, n_resamples: int, seed: int = 0
) -> Iterator[tuple[Doubles, Doubles]]:
    """Mean activations and backgrounds with resampled recordings, one pair of them at a time.

    Args:
        activations: ``(recordings, n)`` of `recording_activations`.
        membership: ``(recordings, n)``.
        n_resamples: Number of resamples.
        seed: Of the weights.

    Yields:
        ``(n, n)`` and ``(n,)``. The background of a concept that has every recording is 0.

    Raises:
        DataError: Shapes do not fit.
    """
    came = np.isfinite(activations[:, :1]).all(axis=1)
    table = np.asarray(activations[came], dtype=np.float64)
    members = csr_array(membership_array(membership)[np.flatnonzero(came)])
    if members.shape != table.shape:
        raise DataError(f"membership {members.shape} does not fit activations {table.shape}")
    rng = np.random.default_rng(seed)
    for _ in range(n_resamples):
        weights = rng.standard_exponential(len(table))
        weighted = csr_array(members.multiply(weights[:, None])).T
        sums, mass = weighted @ table, np.asarray(weighted.sum(axis=1)).reshape(-1)
        outside = weights.sum() - mass
        rest = weights @ table - np.diagonal(sums)
        alone = np.zeros(len(mass))
        yield sums / mass[:, None], np.divide(rest, outside, out=alone, where=outside > 1e-9)


def edge_support(
    graph: ConceptGraph,
    activations: npt.NDArray[Any],
    membership: Any,
    *,
    n_resamples: int = 100,
    seed: int = 0,
) -> Doubles:
    """``(edges,)`` share of hierarchies from resampled recordings that have each edge.

    Args:
        graph: Whose edges are asked for, with its settings and allowed pairs.
        activations: ``(recordings, n)`` of `recording_activations`.
        membership: ``(recordings, n)``.
        n_resamples: Number of hierarchies; each takes as long as the first did.
        seed: Of the weights.
    """
    parent, child = graph.tree.edges.T
    times = np.zeros(len(parent))
    for similarity, background in similarity_draws(activations, membership, n_resamples, seed):
        again = concept_graph(
            graph.names,
            similarity,
            background=background,
            allowed=graph.allowed,
            settings=graph.settings,
        )
        times += again.tree.matrix()[parent, child]
    return times / max(1, n_resamples)
