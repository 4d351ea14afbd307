r"""Recordings of a hierarchy that is known: what a method finds in them can be counted.

Concepts are the nodes of a full tree. Each has a direction :math:`u_c`, uniform on the sphere. A
recording is of one leaf concept :math:`\ell`; its clean embedding is

.. math:: s = \frac{\sum_{c \in A(\ell)} u_c}{\lVert \sum_{c \in A(\ell)} u_c \rVert},

with :math:`A(\ell)` the leaf and its ancestors, and the embedding a unit vector at exactly the
cosine distance ``noise`` from it, :math:`x = (1 - \nu) s + \sqrt{1 - (1 - \nu)^2}\, z`, :math:`z`
uniform on the unit sphere orthogonal to :math:`s`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from coala_latent.errors import ConfigError

__all__ = ["PlantedConcepts", "planted_concepts"]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PlantedConcepts:
    """A known hierarchy and recordings of it.

    Attributes:
        parent: ``(n,)``: -1 for concepts at the top.
        embeddings: ``(recordings, dim)`` unit vectors.
        membership: ``(recordings, n)`` boolean.
        leaf: ``(recordings,)`` the leaf concept that each recording is of.
    """

    parent: Indices
    embeddings: Doubles = field(repr=False)
    membership: npt.NDArray[np.bool_] = field(repr=False)
    leaf: Indices = field(repr=False)

    @property
    def edges(self) -> Indices:
        """``(m, 2)`` parent and child."""
        child = np.flatnonzero(self.parent >= 0)
        return np.stack([self.parent[child], child], axis=1)


def planted_concepts(
    branching: Sequence[int] = (6, 3, 2),
    recordings: int = 50,
    noise: float = 0.3,
    dim: int = 128,
    *,
    complete: bool = False,
    seed: int = 0,
) -> PlantedConcepts:
    """Draw a hierarchy and its recordings.

    Args:
        branching: Concepts at the top, children of each, their children, and so on. (6, 3, 2) has
            6 + 18 + 36 = 60 concepts.
        recordings: Labels a concept; with ``complete``, recordings a leaf.
        noise: Cosine distance of a recording to its clean embedding, in [0, 2].
        dim: Of the embeddings.
        complete: False: like playlists: each concept has its own recordings, of leaves drawn from
            those under it, and a recording has that one label, so that other concepts' examples
            include many that are unlabelled. True: a recording is labelled with its leaf and all
            of its ancestors.
        seed: Of every draw.

    Raises:
        ConfigError: A setting is out of range.
    """
    if not branching or min(branching) < 1 or recordings < 1 or dim < 2 or not 0 <= noise <= 2:
        raise ConfigError(
            f"branching={tuple(branching)} and recordings={recordings} must be at least 1, "
            f"dim={dim} at least 2, noise={noise} from 0 to 2"
        )
    rng = np.random.default_rng(seed)
    parent, ancestors = _full_tree(branching)
    n = len(parent)
    leaves = np.setdiff1d(np.arange(n), parent)
    directions = _unit(rng.standard_normal((n, dim)))
    clean = _unit(ancestors[leaves].astype(np.float64) @ directions)

    labelled = leaves if complete else np.arange(n)
    concept = np.repeat(labelled, recordings)
    # Under concept c lie the leaves that have c among their ancestors; one is drawn for each label.
    choice = [rng.choice(np.flatnonzero(ancestors[leaves, c]), recordings) for c in labelled]
    drawn = np.concatenate(choice)
    signal = clean[drawn]
    other = rng.standard_normal(signal.shape)
    other = _unit(other - (other * signal).sum(axis=1, keepdims=True) * signal)
    embeddings = (1 - noise) * signal + np.sqrt(1 - (1 - noise) ** 2) * other
    membership = ancestors[leaves[drawn]] if complete else concept[:, None] == np.arange(n)
    return PlantedConcepts(parent, embeddings, membership, leaves[drawn])


def _full_tree(branching: Sequence[int]) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Parents, and ``(n, n)`` whether the column is the row itself or above it."""
    parents: list[int] = []
    above = [-1]
    for width in branching:
        begin = len(parents)
        parents += [concept for concept in above for _ in range(width)]
        above = list(range(begin, len(parents)))
    ancestors = np.eye(len(parents), dtype=bool)
    for child, parent in enumerate(parents):
        if parent >= 0:
            ancestors[child] |= ancestors[parent]
    return np.array(parents, dtype=np.int64), ancestors


def _unit(rows: Doubles) -> Doubles:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
