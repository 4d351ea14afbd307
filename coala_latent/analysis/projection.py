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
from scipy.linalg import eigh
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from coala_latent.errors import ConfigError, DataError

__all__ = ["METHODS", "Projection", "principal_components", "project", "tsne"]

METHODS = ("tsne", "pca")

_FEWEST = 4
_COMPONENTS = 50  # kept before t-SNE: the rest is noise that costs time
_NEIGHBORS = 5
# From so many values on, a tall matrix is decomposed through its columns' covariance.
_LARGE = 2_000_000
_BLOCK = 4096


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
        points, explained = principal_components(x, 2)
    else:
        points, used = tsne(x, perplexity, seed)
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


def tsne(
    x: npt.NDArray[np.floating], perplexity: float, seed: int
) -> tuple[npt.NDArray[np.float32], float]:
    """t-SNE of Euclidean distances, begun at the first two principal components.

    Args:
        x: ``(n, dim)``, at least four rows that are not all equal; more than 50 columns are reduced
            to 50 principal components first.
        perplexity: At most a third of the other rows is used.
        seed: Of ties in the optimisation.

    Returns:
        Points ``(n, 2)``, and the perplexity that was used.
    """
    used = max(1.0, min(float(perplexity), (len(x) - 1) / 3))
    reduced, _ = principal_components(x, _COMPONENTS)
    found = TSNE(perplexity=used, init="pca", random_state=seed).fit_transform(reduced)
    return found, used


def principal_components(
    x: npt.NDArray[np.floating], count: int
) -> tuple[npt.NDArray[np.floating], float]:
    """The first principal components of rows that are not all equal.

    Args:
        x: ``(n, dim)``.
        count: How many; there are no more than rows or columns.

    Returns:
        ``(n, components)`` with at least two columns, zeros where there is no second one, and the
        share of the variance that they keep.
    """
    if x.size > _LARGE and len(x) > x.shape[1]:
        found, kept = _by_covariance(x, min(count, x.shape[1]))
    else:
        pca = PCA(min(count, *x.shape), svd_solver="full")
        found = pca.fit_transform(x)
        kept = float(pca.explained_variance_ratio_.sum())
    missing = max(0, 2 - found.shape[1])
    return np.pad(found, ((0, 0), (0, missing))), kept


def _by_covariance(
    x: npt.NDArray[np.floating], count: int
) -> tuple[npt.NDArray[np.floating], float]:
    """As principal_components, block by block: the rows are never copied as a whole."""
    n, dim = x.shape
    mean = x.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((dim, dim))
    for begin in range(0, n, _BLOCK):
        centred = x[begin : begin + _BLOCK] - mean
        covariance += centred.T @ centred
    values, axes = eigh(covariance, subset_by_index=(dim - count, dim - 1))
    axes = axes[:, ::-1]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(count)])
    found = np.empty((n, count), x.dtype)
    for begin in range(0, n, _BLOCK):
        found[begin : begin + _BLOCK] = (x[begin : begin + _BLOCK] - mean) @ axes
    return found, float(values.sum() / np.trace(covariance))
