"""TCAV: how much of a class a concept makes, by directional derivatives.

Paper: Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept
Activation Vectors", ICML 2018 (arXiv 1711.11279), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.analysis.concept_tests import ControlTest, against_controls
from coala_latent.analysis.differences import Correction
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.concepts import concept_features
from coala_latent.models.layered import Layered

__all__ = ["TcavScores", "tcav_scores", "tcav_test"]

Doubles = npt.NDArray[np.float64]
Pooling: TypeAlias = Literal["mean", "time", "flatten"]


@dataclass(frozen=True, eq=False)
class TcavScores:
    """Derivatives of class logits along concept vectors.

    Attributes:
        score: ``(classes, concepts)``, the share of inputs whose logit rises along the concept.
        mean: ``(classes, concepts)``, the mean derivative along the vector at length 1.
        inputs: How many there were.
    """

    score: Doubles
    mean: Doubles
    inputs: int


def tcav_scores(
    network: Layered,
    hidden: Tensor,
    layer: str,
    classes: Sequence[int],
    vectors: Tensor,
    *,
    pooling: Pooling = "mean",
    output: str | None = None,
    batch_size: int = 64,
) -> TcavScores:
    r"""Share of inputs for which a class becomes more likely in a concept's direction.

    With the logit :math:`f_k(h)` of class `k` from the activations `h` at a layer and the concept's
    vector `v`, the score is the share of inputs with :math:`\nabla f_k(h) \cdot v > 0`. A vector of
    pooled activations moves every position that was pooled: its derivative is the sum over these.

    Args:
        network: In evaluation mode, and not in half precision.
        hidden: ``(n, channels, ...)`` activations at `layer`, as ``network.until(x, layer)`` gives
            them; inputs of the class, in Kim et al.'s use.
        layer: Where the concept vectors belong.
        classes: Numbers of the classes.
        vectors: ``(concepts, dim)``.
        pooling: How the activations became the vectors' embeddings: ``"mean"`` over all positions,
            ``"time"`` (the published vectors'), or not at all (``"flatten"``).
        output: The network's output with the logits; its only one by default. Logits at several
            steps are summed.
        batch_size: Inputs at a time.

    Raises:
        ConfigError: The vectors do not fit the layer, the pooling has no derivative along a vector,
            or there is no such output or class.
        DataError: There are no inputs.
    """
    if not len(hidden):
        raise DataError("TCAV scores need at least one input")
    if output is None:
        if len(network.outputs) > 1:
            raise ConfigError(f"name the output: there are {', '.join(network.outputs)}")
        output = network.outputs[0]
    elif output not in network.outputs:
        raise ConfigError(f"no output {output!r}; there are {', '.join(network.outputs)}")
    if pooling not in get_args(Pooling):
        raise ConfigError(
            f"pooling {pooling!r}: directional derivatives need {', '.join(get_args(Pooling))}"
        )
    unit = torch.nn.functional.normalize(vectors.to(hidden), dim=1)
    shape = (len(classes), len(unit))
    positive, total = np.zeros(shape), np.zeros(shape)
    for part in hidden.split(batch_size):
        gradients = _gradients(network, part, layer, output, classes)
        for place, gradient in enumerate(gradients):
            pooled = _summed(gradient, pooling, network.time_axis)
            if pooled.shape[1] != unit.shape[1]:
                raise ConfigError(
                    f"vectors of {unit.shape[1]} values for a layer of {pooled.shape[1]} "
                    f"(pooling {pooling}): were they trained on another layer?"
                )
            derivative = (pooled @ unit.T).double().cpu().numpy()
            positive[place] += (derivative > 0).sum(axis=0)
            total[place] += derivative.sum(axis=0)
    return TcavScores(positive / len(hidden), total / len(hidden), len(hidden))


def tcav_test(
    scores: TcavScores, controls: TcavScores, correction: Correction = "holm"
) -> ControlTest:
    """Whether scores differ from those of random concepts, class by class, on either side.

    Args:
        scores: Of concepts.
        controls: Of vectors trained on random recordings, for the same classes and inputs.
        correction: See `against_controls`.

    Returns:
        Of shape ``(classes, concepts)``; mean and deviation ``(classes,)``.
    """
    return against_controls(scores.score, controls.score, two_sided=True, correction=correction)


def _gradients(
    network: Layered, hidden: Tensor, layer: str, output: str, classes: Sequence[int]
) -> list[Tensor]:
    """Of each class's logit by the activations."""
    with torch.enable_grad():
        leaf = hidden.detach().clone().requires_grad_()
        logits = network.resume(leaf, layer)[output]
        # Inputs do not see each other, so that the sum over them has each one's own gradient.
        summed = logits.flatten(2).sum(2) if logits.dim() > 2 else logits
        if not all(0 <= number < summed.shape[1] for number in classes):
            raise ConfigError(f"classes {list(classes)}: there are {summed.shape[1]}, from 0 on")
        found = []
        for place, number in enumerate(classes):
            target = summed[:, number].sum()
            last = place + 1 == len(classes)
            (gradient,) = torch.autograd.grad(target, leaf, retain_graph=not last)
            found.append(gradient)
    return found


def _summed(gradient: Tensor, pooling: Pooling, time_axis: int) -> Tensor:
    """The gradient by a shift of the pooled activations, ``(n, dim)``."""
    if pooling == "flatten" or gradient.dim() == 2:
        return gradient.flatten(1)
    if pooling == "mean":
        return gradient.flatten(2).sum(2)
    steps = gradient.shape[time_axis if gradient.dim() == 4 else 2]
    return concept_features(gradient, time_axis) * steps
