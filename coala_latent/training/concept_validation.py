"""How well concept vectors tell the validation recordings of all concepts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from coala_latent.data.concept_samples import RecordingRows, stream_keys
from coala_latent.data.concept_splits import ConceptSplit

__all__ = ["ConceptValidation"]

_BLOCK_VALUES = 1 << 22
_POSITIVE, _NEGATIVE = 1, -1


class ConceptValidation:
    """Cross-entropy of all validation recordings, positives and negatives counting half each.

    The original judges by a few random batches, whose scatter decides when a concept ends. Here
    every recording of the part counts, always by the same rows, which costs one matrix product.

    Args:
        split: Which recordings are whose.
        rows: How many rows recordings have.
        values: ``(rows, dim)``, the embeddings as they are trained on.
        most: Rows of a recording that are used, at most; chosen at random.
        seed: Of that choice.
    """

    def __init__(
        self, split: ConceptSplit, rows: RecordingRows, values: Tensor, most: int, seed: int
    ) -> None:
        recordings = split.recordings("validation")
        names = [split.table.recordings[place] for place in recordings]
        keys = stream_keys(names, seed, "validation rows")
        chosen = [
            first + _some(int(count), most, int(key))
            for first, count, key in zip(
                rows.first[recordings], rows.counts[recordings], keys, strict=True
            )
        ]
        counts = np.array([len(each) for each in chosen])
        self._x = values[torch.as_tensor(np.concatenate(chosen), device=values.device)]
        device = values.device
        # By row, which part of its recording it is, and which recording.
        self._share = torch.as_tensor(np.repeat(1 / counts, counts), device=device)
        self._of = torch.as_tensor(np.repeat(np.arange(len(counts)), counts), device=device)
        place = np.full(len(split.table.recordings), -1)
        place[recordings] = np.arange(len(recordings))
        side = np.zeros((len(split.table), len(recordings)), dtype=np.int8)
        for concept in range(len(split.table)):
            if split.part is not None:
                side[concept] = _NEGATIVE
            else:
                side[concept, place[split.negatives("validation", concept)]] = _NEGATIVE
            side[concept, place[split.positives("validation", concept)]] = _POSITIVE
        self._side = torch.as_tensor(side, device=device)
        self._positives = (self._side == _POSITIVE).sum(1)
        self._negatives = (self._side == _NEGATIVE).sum(1)

    def losses(self, weight: Tensor, bias: Tensor, concept: Tensor) -> Tensor:
        """Loss of each vector.

        Args:
            weight: ``(heads, dim)``.
            bias: ``(heads,)``.
            concept: ``(heads,)`` int64, on the CPU, the concept of each.

        Returns:
            ``(heads,)`` float64 on the CPU.
        """
        chunk = max(1, _BLOCK_VALUES // max(1, len(self._x)))
        found = []
        for begin in range(0, len(weight), chunk):
            part = slice(begin, begin + chunk)
            of = concept[part].to(self._x.device)
            found.append(self._losses(weight[part], bias[part], of))
        return torch.cat(found).cpu()

    def _losses(self, weight: Tensor, bias: Tensor, concept: Tensor) -> Tensor:
        # In double precision, so that ends do not depend on which concepts are beside each other.
        logits = (weight @ self._x.T + bias[:, None]).double()
        side = self._side[concept][:, self._of]
        loss = F.softplus(torch.where(side == _POSITIVE, -logits, logits)) * self._share
        positive = torch.where(side == _POSITIVE, loss, 0).sum(1) / self._positives[concept]
        negative = torch.where(side == _NEGATIVE, loss, 0).sum(1) / self._negatives[concept]
        return (positive + negative) / 2


def _some(count: int, most: int, key: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers below `count`, all of them or `most`."""
    if count <= most:
        return np.arange(count)
    rng = np.random.default_rng(key % (1 << 63))
    return np.sort(rng.choice(count, most, replace=False))
