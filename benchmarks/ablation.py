"""What COALA's front end and loss contribute: one change at a time, on the same folds and seeds.

    python benchmarks/ablation.py esc10 FOLDER [--folds 1 2] [--seeds 0 1 2] [--epochs 40]
    python benchmarks/ablation.py builtin [--seeds 0 1 2] [--epochs 30]

`esc10`: a model is trained on four folds and probed on the fifth, whose clips it has not heard.
`builtin`: a model is trained on the built-in sounds and probed on takes that it has not heard.
Every variant differs from `reference` (the default settings) by what its name says. Accuracy of
logistic regression and of nearest neighbours on `z`: mean and 95 % interval over the runs of a
variant, and the difference from the reference in the same folds and with the same seeds. Runs that
were finished earlier are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from coala_latent.analysis.probes import run_probe
from coala_latent.analysis.statistics import mean_interval, paired_comparison
from coala_latent.embed.embedder import load_model
from coala_latent.tasks.labelled import esc_folds, labelled_folder, make_folds
from coala_latent.tasks.probe import clip_features
from coala_latent.weights import write_json

ROOT = Path(__file__).resolve().parents[1]
PROBES = ("logistic", "knn")
REFERENCE = "reference"
# Its loss, weights of the terms, decoders and SGD; the networks' sizes stay those of the reference.
ORIGINAL = [
    "objective=alignment_original",
    "model.sizes.decoders=true",
    "trainer.gradient_clip_val=null",
]
VARIANTS: dict[str, list[str]] = {
    REFERENCE: [],
    "legacy front end": ["model.front_end.name=coala_legacy"],
    "loudest patch": ["patches=loudest"],
    "no augmentation": ["objective.augment=null"],
    "pairs alone positive": ["objective.contrastive.positives=pair"],
    "shared tags positive": ["objective.contrastive.positives=shared_tags"],
    "CLIP form": ["objective=alignment_clip"],
    "sigmoid loss": ["objective=alignment_sigmoid"],
    "tags masked": ["objective.tag_masking=0.4"],
    "with decoders": [
        "model.sizes.decoders=true",
        "objective.audio_weight=0.1",
        "objective.tag_weight=1.0",
    ],
    "original objective": ORIGINAL,
    "original, all of it": [*ORIGINAL, "model.front_end.name=coala_legacy", "patches=loudest"],
}
# No two classes of ESC-10 share a tag, and none has more than two.
SAME_ON_ESC10 = ("shared tags positive", "tags masked")


def train(output: Path, settings: list[str]) -> Path:
    command = [sys.executable, str(ROOT / "train.py"), *settings, f"output='{output.resolve()}'"]
    subprocess.run([*command, "progress=false", "logger=csv"], check=True)
    (weights,) = output.glob("*.safetensors")
    return weights


def esc10_score(weights: Path, folder: Path, fold: str) -> dict[str, float]:
    sounds = labelled_folder(folder)
    (held_out,) = (each for each in esc_folds(sounds) if each.name == fold)
    features, skipped = clip_features(sounds, load_model(weights))
    if skipped:
        raise SystemExit(f"unreadable sounds: {skipped}")
    return {probe: run_probe(features, sounds.labels, [held_out], probe).mean for probe in PROBES}


def builtin_score(weights: Path, folder: Path) -> dict[str, float]:
    sounds = labelled_folder(folder, r"^(\d+)-")
    features, _ = clip_features(sounds, load_model(weights))
    folds = make_folds(sounds, 5, 0)
    return {probe: run_probe(features, sounds.labels, folds, probe).mean for probe in PROBES}


def runs(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Name and settings of each run of a variant."""
    epochs = [f"trainer.max_epochs={options.epochs}"]
    for seed in options.seeds:
        if options.data == "builtin":
            yield f"seed{seed}", ["data.takes=8", f"seed={seed}", *epochs]
            continue
        root = f"data.root='{options.folder.resolve()}'"
        for fold in options.folds:
            settings = ["experiment=coala_esc10", root, f"data.fold={fold}", f"seed={seed}"]
            yield f"fold{fold}-seed{seed}", [*settings, *epochs]


def measure(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Scores by variant, run and probe; each is kept as soon as it is known."""
    output = options.output / options.data
    file = output / "scores.json"
    scores: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    heard = output / "sounds"
    if options.data == "builtin" and not heard.is_dir():
        cli = "from coala_latent.cli import main; main()"
        command = [sys.executable, "-c", cli, "sounds", str(heard)]
        subprocess.run([*command, "--takes", "6", "--seed", "1000"], check=True)
    for run, settings in runs(options):
        for variant in options.variants:
            if run in scores.get(variant, {}):
                continue
            weights = train(output / variant.replace(" ", "_") / run, settings + VARIANTS[variant])
            if options.data == "builtin":
                found = builtin_score(weights, heard)
            else:
                found = esc10_score(weights, options.folder, run[4:].partition("-")[0])
            scores.setdefault(variant, {})[run] = found
            write_json(file, scores)
    return scores


def report(scores: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    """Lines of a Markdown table."""
    columns = [f"{probe}{what}" for probe in PROBES for what in ("", ", difference")]
    yield f"| variant | runs | {' | '.join(columns)} |"
    yield "| --- " * (2 + len(columns)) + "|"
    for variant, found in scores.items():
        cells = []
        shared = [run for run in found if run in scores[REFERENCE]]
        for probe in PROBES:
            interval = mean_interval([found[run][probe] for run in found])
            cells.append(spread(interval.mean, interval.low, interval.high))
            own, others = (
                np.array([each[run][probe] for run in shared])
                for each in (found, scores[REFERENCE])
            )
            compared = paired_comparison(own, others, 0.0)
            low, high = compared.interval.low, compared.interval.high
            same = variant == REFERENCE
            cells.append("" if same else spread(compared.difference, low, high, "+"))
        yield f"| {variant} | {len(found)} | {' | '.join(cells)} |"


def spread(mean: float, low: float, high: float, sign: str = "") -> str:
    return f"{100 * mean:{sign}.1f} ({100 * low:{sign}.1f} .. {100 * high:{sign}.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = parser.add_subparsers(dest="data", required=True)
    esc10 = data.add_parser("esc10")
    esc10.add_argument("folder", type=Path)
    esc10.add_argument("--folds", nargs="+", default=["1", "2"])
    heard = [variant for variant in VARIANTS if variant not in SAME_ON_ESC10]
    esc10.set_defaults(epochs=40, variants=heard)
    data.add_parser("builtin").set_defaults(epochs=30, variants=list(VARIANTS))
    for command in data.choices.values():
        command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
        command.add_argument("--epochs", type=int)
        command.add_argument("--variants", nargs="+", choices=list(VARIANTS))
        command.add_argument("--output", type=Path, default=Path("outputs/ablation"))
    options = parser.parse_args()
    scores = measure(options)
    print(f"{options.data}, accuracy in %, {options.epochs} epochs\n", *report(scores), sep="\n")


if __name__ == "__main__":
    main()
