"""Document vectors of recordings that were not trained on: the networks stay as they are.

With frozen networks the training's loss is convex in a document's vector: logistic regression
whose inputs are contexts and whose offsets are the words' own logits. Newton's method finds its
only minimum, for many recordings at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from coala_latent.data.frame_pairs import FramePairs, RecordingFrames
from coala_latent.models.doc2vec import Doc2Vec, words_heard

__all__ = ["fit_documents"]

_ITERATIONS = 50
_HALVINGS = 20
# Of a step: the next one would be about as small as its square.
_TOLERANCE = 1e-3
_TOGETHER = 32
# Of the contexts' mean square: keeps the minimum finite where a recording can be told perfectly.
# The original's training has no prior and ends long before its minimum, which is like a larger one.
_LEAST_PRIOR, _COMPAT_PRIOR = 0.01, 0.1


@torch.no_grad()
def fit_documents(
    model: Doc2Vec,
    recordings: RecordingFrames,
    background: Tensor,
    window: int,
    *,
    word_dropout: float = 0.0,
    prior: float = 0.0,
    pairs: int = 256,
    seed: int = 0,
) -> Tensor:
    """Fit a vector to each recording, by the loss of the training.

    Neighbours are drawn from the recording, and told from the contexts of `background`.

    Args:
        model: In evaluation mode; its own document vectors play no part.
        recordings: Frames on the model's device.
        background: Frames ``(n, bands)`` from many recordings, such as the training's.
        window: Frames from a frame to its neighbour, at most.
        word_dropout: See `Doc2Vec.loss`.
        prior: See `Doc2Vec.loss`; at least a hundredth of the mean square of the scaled contexts is
            used, and a tenth for a `compat` model.
        pairs: Neighbours drawn of each recording.
        seed: Of the drawing; the same gives the same vectors.

    Returns:
        ``(recordings, dim)`` float32; zeros for a recording without frames.

    Raises:
        DataError: No recording has a frame.
        ConfigError: `pairs` or `window` is below 1.
    """
    device = model.documents.device
    sampler = FramePairs(recordings, pairs, window).to(device, frames=False)
    drawn = sampler.of_each(pairs, torch.Generator(device).manual_seed(seed))
    # A score is then the product of origin and context.
    scale = model.scores(torch.eye(model.dim, device=device), torch.eye(model.dim, device=device))
    factor = scale[0, 0].double()
    heard = words_heard(pairs, word_dropout, device)
    far = model.context_vectors(background.to(device)).double() * factor
    least = (_COMPAT_PRIOR if model.compat else _LEAST_PRIOR) * float(far.square().mean())
    vectors = torch.zeros(len(recordings.lengths), model.dim, device=device)
    for begin in range(0, sampler.documents, _TOGETHER):
        rows = [
            sampler.batch(drawn, row)
            for row in range(begin, min(begin + _TOGETHER, sampler.documents))
        ]
        words = model.word_vectors(torch.stack([row.frames for row in rows])).double()
        words = words * heard[:, None]
        near = model.context_vectors(torch.stack([row.contexts for row in rows])).double() * factor
        place = torch.stack([row.document[0] for row in rows])
        vectors[place] = _newton(words, near, far, max(prior, least)).float()
    return vectors


def _newton(words: Tensor, near: Tensor, far: Tensor, ridge: float) -> Tensor:
    """Minima ``(n, dim)`` for words and scaled contexts ``(n, pairs, dim)`` and ``(m, dim)``."""
    n, pairs, dim = words.shape
    eye = torch.eye(dim, dtype=words.dtype, device=words.device)
    v = words.new_zeros(n, dim)
    loss = _loss(v, words, near, far, ridge)
    for _ in range(_ITERATIONS):
        origins = words + v[:, None]
        miss = torch.sigmoid(-(origins * near).sum(2))
        alarm = torch.sigmoid(origins @ far.T)
        gradient = (
            alarm.mean(1) @ far / len(far) - (miss[..., None] * near).mean(1)
        ) / 2 + ridge * v
        slopes = (miss * (1 - miss))[..., None]
        hessian = (near * slopes).transpose(1, 2) @ near / pairs
        background = (alarm * (1 - alarm)).mean(1) / len(far)
        hessian = hessian + torch.einsum("nk,kd,ke->nde", background, far, far)
        step = torch.linalg.solve(hessian / 2 + ridge * eye, gradient)
        if float(step.norm(dim=1).max()) <= _TOLERANCE * (1 + float(v.norm(dim=1).max())):
            break
        v, loss = _descend(v, step, loss, (words, near, far, ridge))
    return v


def _descend(
    v: Tensor, step: Tensor, loss: Tensor, terms: tuple[Tensor, Tensor, Tensor, float]
) -> tuple[Tensor, Tensor]:
    """Go along `step`, half as far and half again where the loss would rise."""
    size = torch.ones_like(loss)
    for _ in range(_HALVINGS):
        tried = v - size[:, None] * step
        found = _loss(tried, *terms)
        worse = found > loss
        if not worse.any():
            break
        size = torch.where(worse, size / 2, size)
    stays = found > loss
    return torch.where(stays[:, None], v, tried), torch.where(stays, loss, found)


def _loss(v: Tensor, words: Tensor, near: Tensor, far: Tensor, ridge: float) -> Tensor:
    origins = words + v[:, None]
    missed = F.softplus(-(origins * near).sum(2)).mean(1)
    false = F.softplus(origins @ far.T).mean((1, 2))
    return (missed + false) / 2 + ridge / 2 * v.square().sum(1)
