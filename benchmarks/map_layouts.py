"""Seconds, memory and trustworthiness of the sound map's layouts.

    python benchmarks/map_layouts.py [--points 1000 10000 100000] [--dim 1024]

The vectors are classes of different sizes in 20 of the dimensions, and noise.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from coala_latent.analysis.map_projections import map_projection

CLASSES, WIDTH = 50, 20


def vectors(points, dim):
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(CLASSES, WIDTH))
    kind = (CLASSES * rng.random(points) ** 2).astype(int)
    low = centres[kind] + rng.normal(size=(points, WIDTH))
    mixed = low.astype(np.float32) @ rng.normal(size=(WIDTH, dim)).astype(np.float32)
    return mixed + rng.normal(size=(points, dim)).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--methods", nargs="+", default=["pca", "tsne"])
    args = parser.parse_args()
    for points in args.points:
        rows = vectors(points, args.dim)
        for method in args.methods:
            begin = time.perf_counter()
            found = map_projection(rows, method)
            seconds = time.perf_counter() - begin
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            told = f"{seconds:.1f} s, trustworthiness {found.trustworthiness:.2f}"
            print(f"{points} points, {method}: {told}, at most {memory:.1f} GB", flush=True)


if __name__ == "__main__":
    main()
