"""Features laid out on a plane, with a figure for how far the picture can be trusted.

Sources:
    van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.
    Kobak, Berens, "The art of using t-SNE for single-cell transcriptomics", Nature Communications
    10, 2019 (initialisation by principal components, so that the global layout means something).
    Venna, Kaski, "Neighborhood preservation in nonlinear projection methods", ICANN 2001
    (trustworthiness).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from coala_latent.errors import ConfigError, DataError

__all__ = ["METHODS", "Projection", "project"]

METHODS = ("tsne", "pca")

_FEWEST = 4
_COMPONENTS = 50  # kept before t-SNE: the rest is noise that costs time
_NEIGHBORS = 5


@dataclass(frozen=True, eq=False)
class Projection:
    """Points on a plane.

    Attributes:
        method: ``"tsne"`` or ``"pca"``.
        points: ``(n, 2)`` float64.
        trustworthiness: In [0, 1]: 1 where no point has neighbours on the plane that are not its
            neighbours in the features; about 0.5 for points laid out at random.
        neighbors: How many neighbours of each point that regards.
        perplexity: Of t-SNE, as it was used; None for PCA.
        explained: Share of the variance that the plane of PCA keeps; None for t-SNE.
    """

    method: str
    points: npt.NDArray[np.float64] = field(repr=False)
    trustworthiness: float
    neighbors: int
    perplexity: float | None
    explained: float | None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the points, for JSON."""
        return {
            "method": self.method,
            "trustworthiness": self.trustworthiness,
            "neighbors": self.neighbors,
            "perplexity": self.perplexity,
            "explained": self.explained,
        }


def project(
    features: npt.ArrayLike,
    method: str = "tsne",
    *,
    perplexity: float = 30.0,
    standardise: bool = True,
    seed: int = 0,
) -> Projection:
    """Lay out ``(n, dim)`` features on a plane.

    Args:
        features: One row an item, at least four. Columns that do not vary are left out.
        method: ``"tsne"``, begun at the first two principal components, or ``"pca"``.
        perplexity: Of t-SNE: about how many neighbours a point should stay close to. At most a
            third of the other items is used.
        standardise: Give every column the same variance first.
        seed: Of t-SNE.

    Raises:
        DataError: Too few items, values that are not finite, or items that are all equal.
        ConfigError: Unknown method, or a perplexity that is not above 1.
    """
    if method not in METHODS:
        raise ConfigError(f"no projection {method!r}; there are {', '.join(METHODS)}")
    if not perplexity > 1:
        raise ConfigError(f"perplexity={perplexity} must be above 1")
    x = _varying(features, standardise)
    n = len(x)
    used, explained = None, None
    if method == "pca":
        points, explained = _principal(x, 2)
    else:
        used = max(1.0, min(float(perplexity), (n - 1) / 3))
        reduced, _ = _principal(x, _COMPONENTS)
        points = TSNE(perplexity=used, init="pca", random_state=seed).fit_transform(reduced)
    neighbors = min(_NEIGHBORS, (n - 1) // 2)
    return Projection(
        method=method,
        points=points.astype(np.float64),
        trustworthiness=float(trustworthiness(x, points, n_neighbors=neighbors)),
        neighbors=neighbors,
        perplexity=used,
        explained=explained,
    )


def _varying(features: npt.ArrayLike, standardise: bool) -> npt.NDArray[np.float64]:
    """Checked and centred; at least one column varies."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise DataError(f"features must be (n, dim), got shape {x.shape}")
    if len(x) < _FEWEST:
        raise DataError(f"{len(x)} items: a layout needs at least {_FEWEST}")
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise DataError(
            f"features: row {int(np.argmin(finite))} is not finite "
            f"({int((~finite).sum())} of {len(x)} rows): leave these items out"
        )
    x = x[:, np.ptp(x, axis=0) > 0]
    if x.shape[1] == 0:
        raise DataError(
            f"the features of all {len(x)} items are equal: there is nothing to lay out"
        )
    x = x - x.mean(axis=0)
    if standardise:
        # The largest value first, so that squares of very small and large ones stay in range.
        x /= np.abs(x).max(axis=0)
        x /= x.std(axis=0)
    return x


def _principal(x: npt.NDArray[np.float64], count: int) -> tuple[npt.NDArray[np.float64], float]:
    """The first principal components, at least two columns, and their share of the variance."""
    pca = PCA(min(count, *x.shape), svd_solver="full")
    found = pca.fit_transform(x)
    missing = max(0, 2 - found.shape[1])
    return np.pad(found, ((0, 0), (0, missing))), float(pca.explained_variance_ratio_.sum())
