"""Scores of concept vectors on recordings that they were not trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.concept_tests import ConceptScores, concept_scores
from coala_latent.data.concept_samples import RecordingRows
from coala_latent.data.concept_splits import ConceptSplit
from coala_latent.data.concept_tables import IntArray

__all__ = ["held_out_scores"]

_CONCEPTS_AT_A_TIME = 256
_ROWS_AT_A_TIME = 1 << 14


def held_out_scores(
    rows: RecordingRows,
    split: ConceptSplit,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    confidence: float = 0.95,
) -> list[ConceptScores]:
    """Scores of each concept on its test recordings.

    Args:
        rows: Of the split's table.
        split: Its parts; every concept needs positives and negatives in the test part.
        weight: ``(concepts, dim)``.
        bias: ``(concepts,)``.
        confidence: Of the intervals.
    """
    recordings = split.recordings("test")
    groups = np.unique(np.array(split.table.groups, dtype=object), return_inverse=True)[1]
    place = np.full(len(split.table.recordings), -1)
    place[recordings] = np.arange(len(recordings))
    found = []
    for begin in range(0, len(weight), _CONCEPTS_AT_A_TIME):
        part = slice(begin, begin + _CONCEPTS_AT_A_TIME)
        logits, shares = _recording_means(rows, recordings, weight[part], bias[part])
        for column in range(logits.shape[1]):
            positives = split.positives("test", begin + column)
            negatives = split.negatives("test", begin + column)
            here = np.concatenate([positives, negatives])
            member = np.arange(len(here)) < len(positives)
            at = place[here]
            scores = concept_scores(
                logits[at, column], shares[at, column], member, groups[here], confidence
            )
            found.append(scores)
    return found


def _recording_means(
    rows: RecordingRows,
    recordings: IntArray,
    weight: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean logit and share of positive rows of each recording, ``(recordings, concepts)``."""
    counts = rows.counts[recordings]
    logits, shares = (np.zeros((len(recordings), len(weight))) for _ in range(2))
    of = np.repeat(np.arange(len(recordings)), counts)
    within = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    source = np.repeat(rows.first[recordings], counts) + within
    for begin in range(0, len(of), _ROWS_AT_A_TIME):
        block = slice(begin, begin + _ROWS_AT_A_TIME)
        found = rows.values[source[block]] @ weight.T + bias
        # Rows lie recording after recording, so each one's are a slice.
        ours, starts = np.unique(of[block], return_index=True)
        logits[ours] += np.add.reduceat(found, starts, axis=0, dtype=np.float64)
        shares[ours] += np.add.reduceat(found > 0, starts, axis=0, dtype=np.float64)
    return logits / counts[:, None], shares / counts[:, None]
