"""How many clusters, what they share with labels, and what they could be called.

Sources:
    Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis", J. Comput. Appl. Math. 20, 1987.
    Lange, Roth, Braun, Buhmann, "Stability-based validation of clustering solutions", Neural
    Computation 16, 2004.
    Hubert, Arabie, "Comparing partitions", Journal of Classification 2, 1985 (adjusted Rand index).
    Vinh, Epps, Bailey, "Information theoretic measures for clusterings comparison", JMLR 11, 2010
    (normalised mutual information, and why it is not 0 by chance).
    Efron, Stein, "The jackknife estimate of variance", Annals of Statistics 9, 1981.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import random_table
from sklearn.metrics import adjusted_rand_score, silhouette_score

from coala_latent.analysis.spherical_kmeans import SphericalClusters, spherical_kmeans
from coala_latent.analysis.statistics import Interval
from coala_latent.errors import ConfigError, DataError

__all__ = [
    "Agreement",
    "KChoice",
    "Measure",
    "Word",
    "agreement",
    "choose_k",
    "frequent_words",
    "nmi",
    "purity",
    "rand",
    "typical",
]

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SAMPLE = 2000  # rows whose distances to each other are looked at
_HALVES = 3
_QUANTILE = 1.959964  # of the normal distribution, for 95 %


@dataclass(frozen=True, eq=False)
class KChoice:
    """Figures for each number of clusters.

    Attributes:
        ks: Numbers of clusters, ascending.
        silhouettes: ``(len(ks),)``: mean over a sample of how much nearer, by cosine, rows are to
            their own cluster than to the next, in [-1, 1].
        stability: ``(len(ks),)``: adjusted Rand index of clusterings learned from two halves
            of a sample, when both are asked about the whole sample; 1 if the halves agree, NaN
            where a half has fewer rows than clusters.
        mean_cosines: ``(len(ks),)``: which rise with k and choose nothing.
        best: The number with the largest silhouette, of equals the smallest.
        sample: Rows in the sample.
    """

    ks: tuple[int, ...]
    silhouettes: Doubles
    stability: Doubles
    mean_cosines: Doubles
    best: int
    sample: int

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; None where there is no stability."""
        return {
            "best": self.best,
            "sample": self.sample,
            "k": list(self.ks),
            "silhouette": self.silhouettes.tolist(),
            "stability": [None if math.isnan(value) else value for value in self.stability],
            "mean_cosine": self.mean_cosines.tolist(),
        }


def choose_k(
    rows: npt.NDArray[np.floating],
    ks: Collection[int],
    *,
    seed: int = 0,
    restarts: int = 1,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[KChoice, SphericalClusters]:
    """Cluster with several k, and take the one whose clusters are farthest apart.

    The silhouette decides; the stability says whether another half of the sounds would have given
    the same clusters. Where it is far below 1, numbers and borders of clusters are arbitrary.

    Args:
        rows: ``(n, dim)``, no row zero.
        ks: Numbers to try, from 2 to n - 1.
        seed: Of clusters, sample and halves.
        restarts: Of every clustering.
        device: ``"cpu"``, ``"cuda"``.
        progress: Called with (numbers done, numbers in all).

    Returns:
        The figures, and the clusters of the best.

    Raises:
        ConfigError: No number to try, or one out of range.
        DataError: See `spherical_kmeans`.
    """
    tried = tuple(sorted(set(ks)))
    if not tried or tried[0] < 2 or tried[-1] >= len(rows):
        raise ConfigError(
            f"k={list(tried)}: silhouettes of {len(rows)} rows need k from 2 to {len(rows) - 1}"
        )
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(rows), min(SAMPLE, len(rows)), replace=False))
    silhouettes, stability, cosines = [], [], []
    best: SphericalClusters | None = None
    for done, k in enumerate(tried, start=1):
        found = spherical_kmeans(rows, k, seed=seed, restarts=restarts, device=device)
        silhouettes.append(_silhouette(rows[sample], found.labels[sample]))
        stability.append(_stability(rows[sample], k, seed, restarts))
        cosines.append(found.objective)
        if best is None or silhouettes[-1] > max(silhouettes[:-1]):
            best = found
        if progress is not None:
            progress(done, len(tried))
    assert best is not None
    choice = KChoice(
        ks=tried,
        silhouettes=np.array(silhouettes),
        stability=np.array(stability),
        mean_cosines=np.array(cosines),
        best=best.k,
        sample=len(sample),
    )
    return choice, best


def _silhouette(rows: npt.NDArray[np.floating], labels: Indices) -> float:
    """Of a sample; the worst where it shows a single cluster, or no two rows of one."""
    if not 2 <= len(np.unique(labels)) < len(labels):
        return -1.0
    return float(silhouette_score(rows, labels, metric="cosine"))


def _stability(rows: npt.NDArray[np.floating], k: int, seed: int, restarts: int) -> float:
    """See `KChoice.stability`."""
    if len(rows) // 2 < k:
        return math.nan
    scores = []
    for stream in np.random.SeedSequence([seed, k]).spawn(_HALVES):
        order = np.random.default_rng(stream).permutation(len(rows))
        labels = [
            spherical_kmeans(rows[np.sort(half)], k, seed=seed, restarts=restarts).predict(rows)[0]
            for half in np.array_split(order, 2)
        ]
        scores.append(adjusted_rand_score(*labels))
    return float(np.mean(scores))


def nmi(table: npt.ArrayLike) -> Doubles:
    """Normalised mutual information of contingency tables ``(..., rows, columns)``.

    Mutual information over the mean of both entropies; 0 where there is a single row and column.
    """
    joint = np.asarray(table, dtype=np.float64)
    joint = joint / joint.sum(axis=(-2, -1), keepdims=True)
    entropies = [_entropy(joint.sum(axis=axis)) for axis in (-1, -2)]
    mutual = sum(entropies) - _entropy(joint.reshape(*joint.shape[:-2], -1))
    mean = sum(entropies) / 2
    return np.divide(
        np.maximum(mutual, 0.0), mean, out=np.zeros_like(mean), where=np.asarray(mean) > 0
    )


def _entropy(shares: Doubles) -> Doubles:
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.asarray(-(shares * logs).sum(axis=-1))


def rand(table: npt.ArrayLike) -> Doubles:
    """Adjusted Rand index of contingency tables; 0 by chance, 1 where both partitions agree."""
    counts = np.asarray(table, dtype=np.float64)

    def pairs(values: Doubles) -> Doubles:
        return np.asarray((values * (values - 1.0) / 2.0).sum(axis=-1))

    both = pairs(counts.reshape(*counts.shape[:-2], -1))
    first, second = pairs(counts.sum(axis=-1)), pairs(counts.sum(axis=-2))
    n = counts.sum(axis=(-2, -1))
    expected = first * second / np.maximum(n * (n - 1.0) / 2.0, 1.0)
    span = (first + second) / 2 - expected
    # All alone or all together on both sides: there is no other way, and they agree.
    return np.divide(both - expected, span, out=np.ones_like(span), where=span != 0)


def purity(table: npt.ArrayLike) -> Doubles:
    """Share of items whose label (row) is the most frequent of their cluster (column)."""
    counts = np.asarray(table, dtype=np.float64)
    return np.asarray(counts.max(axis=-2).sum(axis=-1) / counts.sum(axis=(-2, -1)))


MEASURES: dict[str, Callable[[npt.ArrayLike], Doubles]] = {
    "nmi": nmi,
    "ari": rand,
    "purity": purity,
}


@dataclass(frozen=True)
class Measure:
    """How well clusters and labels agree, by one measure.

    Attributes:
        interval: Value and its 95 % interval by the jackknife over items.
        chance: Mean of tables drawn at random with the same sizes of labels and clusters.
        p_value: Share of these tables that reach the value, itself counted.
    """

    interval: Interval
    chance: float
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {**self.interval.to_dict(), "chance": self.chance, "p_value": self.p_value}


@dataclass(frozen=True, eq=False)
class Agreement:
    """Clusters beside labels.

    Attributes:
        classes: Labels, sorted.
        contingency: ``(classes, k)`` int64.
        measures: ``nmi``, ``ari`` and ``purity``.
    """

    classes: tuple[str, ...]
    contingency: Indices = field(repr=False)
    measures: dict[str, Measure]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "items": int(self.contingency.sum()),
            "classes": list(self.classes),
            "contingency": self.contingency.tolist(),
            **{name: measure.to_dict() for name, measure in self.measures.items()},
        }


def agreement(
    labels: Sequence[str | None],
    clusters: npt.ArrayLike,
    k: int,
    *,
    tables: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compare clusters with labels.

    Args:
        labels: ``(n,)``; items without are left out.
        clusters: ``(n,)``, from 0 to k - 1; negative ones are left out.
        k: Number of clusters.
        tables: How many are drawn for `Measure.chance`.
        seed: Of these.

    Raises:
        DataError: Other lengths, or fewer than two items are left.
    """
    of = np.asarray(clusters, dtype=np.int64)
    if of.shape != (len(labels),):
        raise DataError(f"{len(labels)} labels but clusters of shape {of.shape}")
    kept = [
        (label, int(c)) for label, c in zip(labels, of, strict=True) if label is not None and c >= 0
    ]
    if len(kept) < 2:
        raise DataError(f"{len(kept)} item(s) with a label and a cluster; this needs two or more")
    classes = sorted({label for label, _ in kept})
    number = {label: index for index, label in enumerate(classes)}
    table = np.zeros((len(classes), k), dtype=np.int64)
    for label, cluster in kept:
        table[number[label], cluster] += 1
    used = table[:, table.sum(axis=0) > 0]
    drawn = _tables(used, tables, seed)
    measures = {}
    for name, measure in MEASURES.items():
        value, by_chance = _jackknife(used, measure), measure(drawn)
        reached = int((by_chance >= value.mean - 1e-12).sum())
        p_value = (1 + reached) / (1 + tables)
        measures[name] = Measure(value, float(by_chance.mean()), p_value)
    return Agreement(tuple(classes), table, measures)


def _tables(table: Indices, count: int, seed: int) -> Doubles:
    """``(count, ...)`` tables with the sums of this one, as of labels that are shuffled."""
    if 1 in table.shape:  # the only one there is
        return np.repeat(table[None].astype(np.float64), count, axis=0)
    sums = random_table(table.sum(axis=1), table.sum(axis=0), seed=seed)
    return np.asarray(sums.rvs(count), dtype=np.float64)


def _jackknife(table: Indices, measure: Callable[[npt.ArrayLike], Doubles]) -> Interval:
    """Items of a cell are alike, so that a value is computed for every cell that has some."""
    n = int(table.sum())
    value = float(measure(table))
    cells = np.argwhere(table > 0)
    values, weights = np.empty(len(cells)), table[tuple(cells.T)]
    for place, (row, column) in enumerate(cells):
        table[row, column] -= 1
        values[place] = measure(table)
        table[row, column] += 1
    mean = weights @ values / n
    error = math.sqrt((n - 1) / n * float(weights @ (values - mean) ** 2))
    half = _QUANTILE * error
    lowest = -1.0 if measure is rand else 0.0
    return Interval(value, max(value - half, lowest), min(value + half, 1.0), n)


@dataclass(frozen=True)
class Word:
    """A word or label in a cluster.

    Attributes:
        text: The word.
        count: Items of the cluster that have it.
        share: Of the cluster's items.
        lift: Share over the share of all items.
    """

    text: str
    count: int
    share: float
    lift: float


def frequent_words(
    words: Sequence[Collection[str]], clusters: npt.ArrayLike, k: int, top: int = 5
) -> list[list[Word]]:
    """Words that are more frequent in a cluster than elsewhere, for each cluster.

    They are ordered by ``count * log(lift)``, what they add to the mutual information of word and
    cluster, so that neither rare words nor those that all items have come first.

    Args:
        words: ``(n,)`` words of each item; several of the same count once.
        clusters: ``(n,)``, from 0 to k - 1; negative ones are left out.
        k: Number of clusters.
        top: Most words of a cluster.
    """
    of = np.asarray(clusters, dtype=np.int64)
    inside = [Counter[str]() for _ in range(k)]
    for item, cluster in zip(words, of.tolist(), strict=True):
        if cluster >= 0:
            inside[cluster].update(set(item))
    total: Counter[str] = sum(inside, Counter())
    sizes = np.bincount(of[of >= 0], minlength=k)
    everyone = int(sizes.sum())
    found = []
    for counts, size in zip(inside, sizes.tolist(), strict=True):
        each = [
            Word(text, count, count / size, count / size / (total[text] / everyone))
            for text, count in counts.items()
        ]
        raised = [word for word in each if word.lift > 1]
        raised.sort(key=lambda word: (-word.count * math.log(word.lift), word.text))
        found.append(raised[:top])
    return found


def typical(
    clusters: Indices, cosines: npt.NDArray[np.floating], items: Indices, k: int, top: int = 5
) -> list[list[int]]:
    """Rows that are nearest to each cluster's centre, at most one of an item.

    Args:
        clusters: ``(n,)``, from 0 to k - 1; negative ones are left out.
        cosines: ``(n,)`` with the centre.
        items: ``(n,)`` what a row is of, a recording for example.
        k: Number of clusters.
        top: Most rows of a cluster.
    """
    found: list[list[int]] = []
    order = np.argsort(-cosines, kind="stable")
    for cluster in range(k):
        rows = order[clusters[order] == cluster]
        first = np.sort(np.unique(items[rows], return_index=True)[1])
        found.append(rows[first[:top]].tolist())
    return found
