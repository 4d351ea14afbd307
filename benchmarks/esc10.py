"""COALA on ESC-10 without looking at the test fold, beside MFCC.

    python benchmarks/esc10.py FOLDER [--output outputs/esc10] [overrides of train.py ...]

For each of the data set's five folds a model is trained on the other four
(`train.py experiment=coala_esc10 data.fold=K`), all clips are encoded with it, and the probes are
fitted on the training folds' clips and tested on the held-out fold's. The MFCC baseline goes
through the same folds. Runs that were finished earlier are not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from coala_latent.analysis.folds import Fold
from coala_latent.analysis.probes import run_probe
from coala_latent.analysis.statistics import corrected_resampled_interval
from coala_latent.embed.embedder import load_model
from coala_latent.tasks.labelled import esc_folds, labelled_folder
from coala_latent.tasks.probe import clip_features, mfcc_features
from coala_latent.weights import write_json

ROOT = Path(__file__).resolve().parents[1]


def train(folder: Path, output: Path, fold: str, overrides: list[str]) -> Path:
    model = output / f"fold{fold}"
    command = [sys.executable, str(ROOT / "train.py"), "experiment=coala_esc10"]
    settings = [f"data.root='{folder.resolve()}'", f"data.fold={fold}", f"output='{model}'"]
    subprocess.run([*command, *settings, *overrides], check=True)
    (weights,) = model.glob("*.safetensors")
    return weights


def score(features: np.ndarray, labels: np.ndarray, fold: Fold, runs: int) -> dict[str, float]:
    return {
        name: run_probe(features, labels, [fold], name, runs=runs).mean
        for name in ("mlp", "logistic", "knn")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=Path("outputs/esc10"))
    parser.add_argument("--runs", type=int, default=10, help="of the MLP")
    options, overrides = parser.parse_known_args()
    sounds = labelled_folder(options.folder)
    folds = esc_folds(sounds)
    mfcc, skipped = mfcc_features(sounds, quiet=False)
    if skipped:
        raise SystemExit(f"unreadable sounds: {skipped}")
    scores: dict[str, dict[str, list[float]]] = {}
    for fold in folds:
        weights = train(options.folder, options.output, fold.name, overrides)
        coala, _ = clip_features(sounds, load_model(weights))
        projected, _ = clip_features(sounds, load_model(weights, layer="z_d"))
        for name, features in (("mfcc", mfcc), ("coala z", coala), ("coala z_d", projected)):
            for probe, accuracy in score(features, sounds.labels, fold, options.runs).items():
                scores.setdefault(name, {}).setdefault(probe, []).append(accuracy)
    report(scores, 1 / len(folds))
    write_json(options.output / "scores.json", scores)


def report(scores: dict[str, dict[str, list[float]]], test_fraction: float) -> None:
    probes = list(next(iter(scores.values())))
    table = Table("features", *probes, title="ESC-10, accuracy in %, mean and 95 % interval")
    for name, by_probe in scores.items():
        cells = []
        for accuracies in by_probe.values():
            interval = corrected_resampled_interval(accuracies, test_fraction)
            low, high = (min(max(end, 0.0), 1.0) for end in (interval.low, interval.high))
            cells.append(f"{100 * interval.mean:.1f} ({100 * low:.1f} .. {100 * high:.1f})")
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
