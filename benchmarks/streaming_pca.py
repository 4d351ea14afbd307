"""Principal components in bounded memory, beside scikit-learn's IncrementalPCA.

    python benchmarks/streaming_pca.py [--columns 12288] [--rows 2048]
        [--components 64] [--threads 2]

Each runs in a process of its own over the same blocks of 256 rows (200 directions of falling
strength, and noise), made on the fly; the time to make them is taken off. Told are seconds, the
growth of the largest memory, and how much less variance each keeps than the best subspace of the
rows (from their exact inner products).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BLOCK, DIRECTIONS = 256, 200


def blocks(columns, rows):
    """The same rows at each call."""
    import numpy as np

    rng = np.random.default_rng(0)
    basis = rng.normal(size=(DIRECTIONS, columns)).astype(np.float32)
    strength = np.geomspace(10, 0.1, DIRECTIONS).astype(np.float32)
    for begin in range(0, rows, BLOCK):
        count = min(BLOCK, rows - begin)
        scores = rng.normal(size=(count, DIRECTIONS)).astype(np.float32) * strength
        yield scores @ basis + rng.normal(size=(count, columns)).astype(np.float32) + 3


def fitted(which, columns, rows, components):
    """Components ``(components, columns)`` by one of the two."""
    if which == "streaming":
        from coala_latent.analysis.streaming_pca import StreamingPca

        pca = StreamingPca(components)
        for block in blocks(columns, rows):
            pca.partial_fit(block)
        return pca.result().components
    from sklearn.decomposition import IncrementalPCA

    pca = IncrementalPCA(components)
    for block in blocks(columns, rows):
        if len(block) >= components:
            pca.partial_fit(block)
    return pca.components_


def measured(which, columns, rows, components):
    """Seconds, memory and variance kept of one of the two."""
    import numpy as np
    import sklearn.decomposition  # noqa: F401  (not part of the memory that is measured)
    import torch  # noqa: F401

    begin = time.perf_counter()
    for _ in blocks(columns, rows):
        pass
    making = time.perf_counter() - begin
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    found = np.asarray(fitted(which, columns, rows, components), np.float32)
    seconds = time.perf_counter() - begin - making
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    mean = sum(block.sum(0, dtype=np.float64) for block in blocks(columns, rows)) / rows
    centred = np.concatenate([block - mean.astype(np.float32) for block in blocks(columns, rows)])
    best = np.linalg.eigvalsh((centred @ centred.T).astype(np.float64))[-components:].sum()
    kept = float(np.square(centred @ np.linalg.qr(found.T)[0], dtype=np.float64).sum())
    return {"seconds": seconds, "megabytes": memory / 1024, "variance_lost": 1 - kept / best}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--columns", type=int, default=12288)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--components", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("streaming", "sklearn"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = (args.columns, args.rows, args.components)
    if args.only:
        print(json.dumps(measured(args.only, *sizes)))
        return
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(args.threads))}
    results = {}
    for which in ("streaming", "sklearn"):
        command = [sys.executable, __file__, "--only", which, *sys.argv[1:]]
        told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
        results[which] = json.loads(told)
        found = results[which]
        print(
            f"{which:10} {found['seconds']:8.1f} s {found['megabytes']:8.0f} MB "
            f"{found['variance_lost']:.2e} of the variance lost"
        )
    ratio = results["sklearn"]["seconds"] / results["streaming"]["seconds"]
    print(f"ratio      {ratio:8.1f}")


if __name__ == "__main__":
    main()
