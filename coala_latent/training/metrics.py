"""How well sounds find their tags, and tags their sounds."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["average_precision", "clip_means", "retrieval_scores", "tag_average_precision"]


def clip_means(rows: Tensor, clip: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean of the rows of each clip.

    Args:
        rows: ``(n, dim)``.
        clip: ``(n,)`` int64, the clip a row belongs to.
        weight: ``(n,)``, > 0.

    Returns:
        The clips that occur, ascending, ``(clips,)``, and their means ``(clips, dim)``.
    """
    present, place = clip.unique(return_inverse=True)
    total = rows.new_zeros(len(present), rows.shape[1])
    total.index_add_(0, place, rows * weight[:, None])
    weights = rows.new_zeros(len(present)).index_add_(0, place, weight)
    return present, total / weights[:, None]


def average_precision(scores: Tensor, relevant: Tensor) -> Tensor:
    """Average precision of each query; equal scores rank the irrelevant first.

    Args:
        scores: ``(queries, documents)``.
        relevant: The same shape, bool.

    Returns:
        ``(queries,)``; NaN for a query without relevant documents.
    """
    # Stable sorts by the second key, then the first: relevant ones after irrelevant among equals.
    order = relevant.to(torch.int8).argsort(dim=1, stable=True)
    order = order.gather(1, scores.gather(1, order).argsort(dim=1, descending=True, stable=True))
    hits = relevant.gather(1, order).to(scores.dtype)
    ranks = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    return (hits.cumsum(1) / ranks * hits).sum(1) / hits.sum(1)


def retrieval_scores(sounds: Tensor, tag_sets: Tensor, own: Tensor) -> dict[str, float]:
    """Retrieval by cosine between sounds and the distinct tag sets of a collection.

    Args:
        sounds: ``(sounds, dim)``.
        tag_sets: ``(sets, dim)``, one row per distinct set of tags.
        own: ``(sounds,)`` int64, each sound's set.

    Returns:
        ``audio_to_tags_map``: mean average precision of a sound's own set among all (the mean
        reciprocal rank, as there is one); ``audio_to_tags_recall_at_1``, ``.._5``;
        ``tags_to_audio_map``: of the sounds with exactly a set's tags among all sounds.
    """
    cosines = F.normalize(sounds.float(), dim=1) @ F.normalize(tag_sets.float(), dim=1).T
    relevant = F.one_hot(own, len(tag_sets)).bool()
    to_tags = average_precision(cosines, relevant)
    rank = (cosines >= cosines.gather(1, own[:, None])).sum(1)
    return {
        "audio_to_tags_map": to_tags.mean().item(),
        "audio_to_tags_recall_at_1": (rank <= 1).float().mean().item(),
        "audio_to_tags_recall_at_5": (rank <= 5).float().mean().item(),
        "tags_to_audio_map": average_precision(cosines.T, relevant.T).mean().item(),
    }


def tag_average_precision(scores: Tensor, tags: Tensor) -> float:
    """Mean over tags of the average precision of the clips that have it.

    Args:
        scores: ``(clips, tags)``.
        tags: ``(clips, tags)`` multi-hot; tags that no clip has are left out.
    """
    relevant = tags.T > 0.5
    present = relevant.any(1)
    return average_precision(scores.T[present], relevant[present]).mean().item()
