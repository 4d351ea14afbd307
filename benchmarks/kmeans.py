"""Spherical k-means beside scikit-learn's KMeans on the same rows of length 1.

    python benchmarks/kmeans.py [--rows 1000000] [--threads 2] [--busy] [--only ours]

Both begin with k-means++ of their own (one run, seed 0) and end when the squared moves of the
centres sum up to less than 1e-4 of the mean variance of a value, or after 300 iterations. The rows
are a mixture of more components than clusters, which overlap, share a common direction and differ
in size, as rows of embeddings do. Compared are seconds with seeding, and the mean cosine of rows
and the directions of their clusters; exit status 1 if ours is not the faster one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def mixture(rows: int, dim: int, components: int = 250) -> np.ndarray:
    """``(rows, dim)`` float32 of length 1."""
    rng = np.random.default_rng(0)
    basis = (rng.normal(size=(dim, dim)) * np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    middles = 0.9 * rng.normal(size=(components, dim)).astype(np.float32) @ basis.T
    middles += 1.5 * basis[:, 0]
    sizes = rng.dirichlet(np.ones(components))
    x = np.empty((rows, dim), np.float32)
    for begin in range(0, rows, 65536):
        part = x[begin : begin + 65536]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) @ basis.T
        part += middles[rng.choice(components, size=len(part), p=sizes)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return x


def mean_cosine(x: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Of rows and the direction of their cluster's sum, in double precision."""
    sums = np.zeros((k, x.shape[1]))
    for begin in range(0, len(x), 65536):
        part, of = x[begin : begin + 65536].astype(np.float64), labels[begin : begin + 65536]
        order = np.argsort(of, kind="stable")
        clusters, starts = np.unique(of[order], return_index=True)
        sums[clusters] += np.add.reduceat(part[order], starts, axis=0)
    return float(np.linalg.norm(sums, axis=1).sum() / len(x))


def ours(x: np.ndarray, k: int, clock) -> tuple[float, float, int, bool, np.ndarray]:
    """Seconds in all and until all rows are looked at, iterations, converged, labels."""
    from coala_latent.analysis import spherical_kmeans as module

    seeded = [0.0]

    def seeds(*arguments):
        began = clock()
        found = find_seeds(*arguments)
        seeded[0] += clock() - began
        return found

    find_seeds, module._seeds = module._seeds, seeds
    began = clock()
    found = module.spherical_kmeans(x, k)
    return clock() - began, seeded[0], found.iterations, found.converged, found.labels


def theirs(x: np.ndarray, k: int, clock) -> tuple[float, float, int, bool, np.ndarray]:
    """The same of scikit-learn; its seeding is timed apart from the run."""
    from sklearn.cluster import KMeans, kmeans_plusplus

    began = clock()
    kmeans_plusplus(x, k, random_state=0)
    seeded = clock() - began
    began = clock()
    found = KMeans(k, n_init=1, tol=1e-4, random_state=0).fit(x)
    seconds = clock() - began
    return seconds, seeded, found.n_iter_, found.n_iter_ < found.max_iter, found.labels_


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["ours", "theirs"])
    parser.add_argument(
        "--busy",
        action="store_true",
        help="one thread, and its own time counts, so that other programs do not matter",
    )
    arguments = parser.parse_args()
    threads = 1 if arguments.busy else arguments.threads
    # scikit-learn's OpenMP reads them when it is first imported.
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    clock = time.process_time if arguments.busy else time.perf_counter
    x = mixture(arguments.rows, arguments.dim)
    print(f"{arguments.rows} x {arguments.dim} into {arguments.clusters}, {threads} thread(s)")
    taken = {}
    for name, fit in (("ours", ours), ("theirs", theirs)):
        if arguments.only in (None, name):
            with threadpool_limits(threads):
                seconds, seeded, passes, rests, labels = fit(x, arguments.clusters, clock)
            taken[name] = seconds
            print(
                f"{name:8s}{seconds:8.1f} s, seeding {seeded:.1f} s of it, {passes} iterations"
                f"{'' if rests else ' (not at rest)'}, mean cosine "
                f"{mean_cosine(x, labels, arguments.clusters):.6f}",
                flush=True,
            )
    if len(taken) < 2:
        return 0
    print(f"ratio   {taken['theirs'] / taken['ours']:8.2f}")
    return int(taken["theirs"] <= taken["ours"])


if __name__ == "__main__":
    sys.exit(main())
