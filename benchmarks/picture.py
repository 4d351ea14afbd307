"""The picture in the README: clips of ESC-10's first fold, which the model has not heard.

    python benchmarks/picture.py FOLDER --model outputs/esc10/fold1/coala-esc10.safetensors

Left the 120 MFCC statistics, right the embeddings, both standardised and laid out by t-SNE.
Needs matplotlib (nflows brings it).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from coala_latent.embed.embedder import load_model
from coala_latent.tasks.labelled import esc_folds, labelled_folder
from coala_latent.tasks.probe import clip_features, mfcc_features

mpl.use("agg")

from matplotlib import pyplot as plt


def layout(features: np.ndarray) -> np.ndarray:
    scaled = StandardScaler().fit_transform(features)
    return TSNE(perplexity=15, init="pca", random_state=0).fit_transform(scaled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True, type=Path, help="trained without fold 1")
    parser.add_argument("--output", type=Path, default=Path("docs/pictures/esc10.png"))
    options = parser.parse_args()
    sounds = labelled_folder(options.folder)
    fold = esc_folds(sounds)[0]
    held_out = np.isin(np.arange(len(sounds.paths)), fold.test)
    sounds = sounds.take(held_out)
    sets = {
        "120 MFCC statistics": mfcc_features(sounds)[0],
        "COALA embedding (z)": clip_features(sounds, load_model(options.model))[0],
    }
    figure, axes = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axis, (title, features) in zip(axes, sets.items(), strict=True):
        points = layout(features)
        for number, label in enumerate(sorted(set(sounds.labels))):
            mine = points[sounds.labels == label]
            name = label.split(" - ")[-1]
            axis.scatter(*mine.T, s=34, label=name, color=plt.cm.tab10(number), edgecolor="white")
        axis.set(title=title, xticks=[], yticks=[])
    axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.suptitle("ESC-10, 80 clips of the fold that was held out")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=110)
    print(options.output)


if __name__ == "__main__":
    main()
