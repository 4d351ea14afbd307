"""Spherical k-means: clusters of directions, by cosine.

Dhillon, Modha, "Concept decompositions for large sparse text data using clustering", Machine
Learning 42, 2001: every row belongs to the centre with the largest cosine, and a centre is the sum
of its rows brought to length 1. The mean cosine of rows with their centres never falls.

Seeds are those of greedy k-means++ (Arthur, Vassilvitskii, SODA 2007) with ``1 - cosine``, half
the squared distance of unit rows. Of many rows a sample is taken for this, and the seeds are
improved on it before all rows are looked at: on a sphere no row is farther away than 2, so that
what centres cost on a sample tells what they cost on all rows (Mishra, Oblinger, Pitt, SODA 2001).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.analysis.spherical_lloyd import Lloyd, MiniBatches
from coala_latent.analysis.unit_rows import ArrayRows, RowBlocks, StreamRows, UnitRows, unit_rows
from coala_latent.errors import ConfigError, DataError

__all__ = ["SAMPLE_ROWS", "SphericalClusters", "seed_centres", "spherical_kmeans"]

SAMPLE_ROWS = 65536
# The sample's own iterations end early: all rows will have their say.
_SAMPLE_ITERATIONS = 50
_SAMPLE_TOLERANCE = 1e-2

Progress = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class SphericalClusters:
    """Clusters of rows.

    Attributes:
        centres: ``(k, dim)`` float32 of length 1.
        labels: ``(n,)`` int64, cluster of each row.
        cosines: ``(n,)`` float32, of each row with its centre.
        counts: ``(k,)`` int64, rows of each. An empty cluster is given the row that is farthest
            from its centre; it stays empty where rows have fewer directions than there are
            clusters, and can where iterations run out.
        objective: Mean of `cosines`.
        iterations: Passes over the rows in the best run.
        converged: Whether its centres came to rest before the last iteration allowed.
        seed: As it was given.
        restarts: Runs of which this is the best.
    """

    centres: npt.NDArray[np.float32] = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)
    cosines: npt.NDArray[np.float32] = field(repr=False)
    counts: npt.NDArray[np.int64] = field(repr=False)
    objective: float
    iterations: int
    converged: bool
    seed: int
    restarts: int

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centres)

    def predict(
        self, rows: npt.ArrayLike, device: str = "cpu"
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Nearest centre of each row ``(n,)`` int64, and the cosine with it ``(n,)`` float32.

        Raises:
            DataError: Rows of another width, not finite or zero.
        """
        given = np.asarray(rows)
        if given.ndim != 2 or given.shape[1] != self.centres.shape[1]:
            raise DataError(
                f"rows of shape {given.shape} do not fit centres of {self.centres.shape[1]} values"
            )
        where = torch.device(device)
        centres = torch.from_numpy(self.centres).to(where).t()
        labels = np.empty(len(given), np.int64)
        cosines = np.empty(len(given), np.float32)
        step = 16384
        for begin in range(0, len(given), step):
            part = slice(begin, begin + step)
            best, nearest = (unit_rows(given[part], where, begin) @ centres).max(dim=1)
            labels[part] = nearest.cpu().numpy()
            cosines[part] = best.clamp(-1.0, 1.0).cpu().numpy()
        return labels, cosines

    def to_dict(self) -> dict[str, Any]:
        """How it went, for JSON; centres and labels are arrays and not in it."""
        return {
            "k": self.k,
            "mean_cosine": self.objective,
            "counts": self.counts.tolist(),
            "iterations": self.iterations,
            "converged": self.converged,
            "seed": self.seed,
            "restarts": self.restarts,
        }


def spherical_kmeans(
    rows: npt.ArrayLike | Tensor | RowBlocks,
    k: int,
    *,
    seed: int = 0,
    restarts: int = 1,
    iterations: int = 300,
    tolerance: float = 1e-4,
    batch: int | None = None,
    centres: npt.ArrayLike | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> SphericalClusters:
    """Cluster rows by direction. The same arguments give the same answer on the same machine.

    Args:
        rows: ``(n, dim)``, of any lengths; copied once as float32. Or a function that gives the
            same blocks ``(rows, dim)`` whenever it is called: these are read again on every pass,
            and memory is bounded by a block and 12 bytes a row.
        k: Number of clusters.
        seed: Of sample, seeds, and the order of mini-batches.
        restarts: Runs with other seeds; the one with the largest mean cosine is kept.
        iterations: At most so many passes over the rows in a run.
        tolerance: Centres rest when their squared moves sum up to less than this share of the
            rows' mean variance of a value, which is what scikit-learn's ``tol`` means too.
        batch: Mini-batch mode: centres move after so many rows, and for at most `iterations`
            passes. Faster to a good answer, not to an exact one.
        centres: ``(k, dim)`` where to begin, instead of seeds; one run.
        device: ``"cpu"``, ``"cuda"``.
        progress: Called with the iterations done and the squared moves over the variance.

    Raises:
        ConfigError: A setting makes no sense, or k is larger than the number of rows.
        DataError: There are no rows, or one is not finite or is zero, which has no direction.
    """
    for name, value in (("k", k), ("restarts", restarts), ("iterations", iterations)):
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1")
    if not tolerance >= 0 or (batch is not None and batch < 1):
        raise ConfigError(f"tolerance={tolerance} must not be negative, batch={batch} at least 1")
    where = torch.device(device)
    given: UnitRows = StreamRows(rows, where) if callable(rows) else ArrayRows(rows, where)
    if k > given.count:
        raise ConfigError(f"k={k} clusters of {given.count} rows: use at most {given.count}")
    begin = None if centres is None else _checked_centres(centres, k, given)
    best: tuple[float, Lloyd, int, bool, Tensor] | None = None
    runs = restarts if begin is None else 1
    for stream in np.random.SeedSequence(seed).spawn(runs):
        rng = np.random.default_rng(stream)
        start = _seeds(given, k, rng) if begin is None else begin
        found = _run(given, start, rng, iterations, tolerance, batch, progress)
        if best is None or found[0] > best[0]:
            best = found
    assert best is not None
    objective, lloyd, passes, converged, cosines = best
    return SphericalClusters(
        centres=lloyd.centres.float().cpu().numpy(),
        labels=lloyd.labels.cpu().numpy(),
        cosines=cosines.clamp(-1.0, 1.0).cpu().numpy(),
        counts=lloyd.counts.cpu().numpy(),
        objective=objective,
        iterations=passes,
        converged=converged,
        seed=seed,
        restarts=runs,
    )


def _run(
    rows: UnitRows,
    start: Tensor,
    rng: np.random.Generator,
    iterations: int,
    tolerance: float,
    batch: int | None,
    progress: Progress | None,
) -> tuple[float, Lloyd, int, bool, Tensor]:
    """Mean cosine, the last labels and centres, passes, whether they converged, and cosines."""
    if batch is None:
        moving: Lloyd | MiniBatches = Lloyd(rows, start)
    else:
        moving = MiniBatches(rows, start, batch, rng)
    for moved in moving.run(iterations, tolerance):
        if progress is not None:
            progress(moving.iterations, moved)
    lloyd = moving if isinstance(moving, Lloyd) else Lloyd(rows, moving.centres)
    cosines = lloyd.cosines()
    objective = float(cosines.double().mean())
    return objective, lloyd, moving.iterations, moving.converged, cosines


def _checked_centres(centres: npt.ArrayLike, k: int, rows: UnitRows) -> Tensor:
    values = np.asarray(centres, dtype=np.float64)
    if values.shape != (k, rows.dim):
        raise ConfigError(f"centres have the shape {values.shape}, not {(k, rows.dim)}")
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ConfigError("centres must be finite and not zero")
    return torch.from_numpy(values / lengths).to(rows.device)


def _seeds(rows: UnitRows, k: int, rng: np.random.Generator) -> Tensor:
    """Where to begin: k-means++ on all rows if they are few, else on a sample, and improved."""
    size = max(SAMPLE_ROWS, 10 * k)
    if rows.count <= size:
        return seed_centres(rows.take(np.arange(rows.count)), k, rng)
    numbers = np.sort(rng.choice(rows.count, size, replace=False, shuffle=False))
    sample = rows.take(numbers)
    lloyd = Lloyd(ArrayRows(sample, rows.device), seed_centres(sample, k, rng))
    for _ in lloyd.run(_SAMPLE_ITERATIONS, _SAMPLE_TOLERANCE):
        pass
    return lloyd.centres


def seed_centres(rows: Tensor, k: int, rng: np.random.Generator) -> Tensor:
    """Greedy k-means++ on the sphere.

    A row is drawn with a probability in proportion to ``1 - cosine`` with the nearest seed so far;
    of ``2 + log k`` rows drawn so the one that lowers the sum most becomes a seed.

    Args:
        rows: ``(n, dim)`` float32 of length 1, ``n >= k``.
        k: Number of seeds.
        rng: Source of chance.

    Returns:
        ``(k, dim)`` float64: rows, each at most once.
    """
    draws = 2 + int(math.log(k))
    chosen = [int(rng.integers(len(rows)))]
    distance = (1.0 - rows @ rows[chosen[0]]).clamp_(min=0.0)
    distance[chosen] = 0.0
    while len(chosen) < k:
        total = torch.cumsum(distance, 0, dtype=torch.float64)
        if float(total[-1]) <= 0:  # as many seeds as there are directions: others at random
            left = np.setdiff1d(np.arange(len(rows)), chosen)
            chosen += rng.choice(left, k - len(chosen), replace=False).tolist()
            break
        # In (0, 1], so that a row of distance 0 is never drawn.
        points = torch.from_numpy(1.0 - rng.random(draws)).to(rows.device) * total[-1]
        drawn = torch.searchsorted(total, points).clamp_(max=len(rows) - 1)
        distances = (1.0 - rows @ rows[drawn].t()).clamp_(min=0.0)
        distances = torch.minimum(distances, distance[:, None])
        best = int(distances.sum(dim=0, dtype=torch.float64).argmin())
        chosen.append(int(drawn[best]))
        distance = distances[:, best].contiguous()
        distance[chosen[-1]] = 0.0
    seeds = rows[torch.tensor(chosen, device=rows.device)].double()
    return seeds / torch.linalg.vector_norm(seeds, dim=1, keepdim=True)
