"""How much a probe finds on each layer of a network.

SoundNet's authors asked it of a linear SVM (Aytar, Vondrick, Torralba, "SoundNet: Learning Sound
Representations from Unlabeled Video", NIPS 2016); nearest neighbours ask it of the distances alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.analysis.folds import Fold
from coala_latent.analysis.probes import ProbeResult, Progress, run_probes
from coala_latent.analysis.statistics import PairedComparison, paired_comparison

__all__ = ["LayerCurve", "constant_columns", "probe_layers"]


@dataclass(frozen=True, eq=False)
class LayerCurve:
    """One probe on several layers, on the same items and folds.

    Attributes:
        probe: Name of the probe.
        results: By layer, in the order given.
        best: The layer with the highest mean accuracy; of several equally good the first.
        behind: Every other layer minus `best`, by fold. As the best was found on these folds, the
            p-values favour it somewhat.
    """

    probe: str
    results: dict[str, ProbeResult]
    best: str
    behind: dict[str, PairedComparison]

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "probe": self.probe,
            "best": self.best,
            "layers": {layer: result.to_dict() for layer, result in self.results.items()},
            "behind": {layer: difference.to_dict() for layer, difference in self.behind.items()},
        }


def probe_layers(
    features: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    folds: Sequence[Fold],
    probe: str = "svm",
    runs: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> LayerCurve:
    """Run a probe on every layer.

    Args:
        features: ``(n, dim)`` by layer; dims may differ.
        labels: ``(n,)`` classes.
        folds: See `coala_latent.analysis.folds`.
        probe: One of `coala_latent.analysis.probes.PROBES`.
        runs: Repetitions of probes that depend on a seed.
        seed: Seed of the first run.
        progress: Called with (fits done, fits in all) of each layer in turn.

    Raises:
        DataError: No layers, or as in `run_probe`, naming the layer.
        ConfigError: As in `run_probe`.
    """
    results = run_probes(features, labels, folds, probe, runs, seed, progress).results
    best = max(results, key=lambda layer: results[layer].mean)
    reference = results[best].accuracy.mean(axis=0)
    behind = {
        layer: paired_comparison(result.accuracy.mean(axis=0), reference, result.test_fraction)
        for layer, result in results.items()
        if layer != best
    }
    return LayerCurve(probe, results, best, behind)


def constant_columns(features: npt.ArrayLike) -> int:
    """How many columns of ``(n, dim)`` features have one value for all items: dead units."""
    return int((np.ptp(np.asarray(features), axis=0) == 0).sum())
