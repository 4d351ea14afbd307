"""How well a factor flow takes synthetic latents apart whose factors are known.

    python benchmarks/synthetic_factors.py [--rows 400] [--threads 2] [--own 0.85] [--other 0.02]

5 materials x 3 actions in 64 dimensions: the class means of each factor lie in six dimensions of
their own, everything else is noise, and a nonlinear map mixes it all. Whole takes are held out; the
settings are the library's defaults. Told is the share of a block's scatter between a factor's
classes (eta squared) with 95 % intervals. The exit status is 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MATERIALS, ACTIONS, TAKES, DIM = 5, 3, 4, 64
WIDTH = 6  # dimensions that a factor lives in
SPREAD, WITHIN = 1.5, 0.5  # of class means, and around them


def synthetic(rows, seed):
    """Latents with `rows` of each condition, and the takes they belong to."""
    import numpy as np

    from coala_latent.data.latents import LabelledLatents

    rng = np.random.default_rng(seed)
    grid = np.stack(
        np.meshgrid(range(MATERIALS), range(ACTIONS), range(rows), indexing="ij"), -1
    ).reshape(-1, 3)
    sources = rng.normal(size=(len(grid), DIM))
    for factor, count in enumerate((MATERIALS, ACTIONS)):
        own = slice(factor * WIDTH, (factor + 1) * WIDTH)
        means = SPREAD * rng.normal(size=(count, WIDTH))
        sources[:, own] = WITHIN * sources[:, own] + means[grid[:, factor]]
    first, second = rng.normal(size=(2, DIM, DIM)) / np.sqrt(DIM)
    mixed = sources @ first + 0.6 * np.tanh(1.5 * sources @ second)
    take = grid[:, 2] * TAKES // rows
    return LabelledLatents(
        values=((mixed - mixed.mean(0)) / mixed.std(0)).astype(np.float32),
        labels=grid[:, :2].copy(),
        factors=("material", "action"),
        classes=(tuple("wmgpc"), tuple("trw")),
        recording=(grid[:, 0] * ACTIONS + grid[:, 1]) * TAKES + take,
        take=take,
        start=grid[:, 2] * 1.0,
        end=grid[:, 2] + 1.0,
    )


def measured(rows, seed, epochs, settings):
    """Eta squared of own and other blocks on the take held out."""
    import numpy as np
    import torch

    from coala_latent.analysis.factor_measures import eta_squared
    from coala_latent.tasks.disentangler import DisentanglerSettings, fit_disentangler
    from coala_latent.tasks.fitting import hush_lightning

    hush_lightning()
    latents = synthetic(rows, seed)
    held_out = latents.take == TAKES - 1
    train, test = (latents.take_rows(np.flatnonzero(part)) for part in (~held_out, held_out))
    begin = time.perf_counter()
    fitted = fit_disentangler(
        train, test, DisentanglerSettings(epochs=epochs, seed=seed, **settings)
    )
    with torch.inference_mode():
        z = fitted.flow(torch.from_numpy(test.values))[0].numpy()
    found = {}
    for k, factor in enumerate(latents.factors):
        shares = eta_squared(z, test.labels[:, k], fitted.spec.slices, test.recording)
        found[factor] = {
            block: [round(each, 3) for each in (share.mean, share.low, share.high)]
            for block, share in shares.items()
        }
    return {"seed": seed, "seconds": round(time.perf_counter() - begin, 1), "eta_squared": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=400, help="of each of the 15 conditions")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10, help="as coala-latent disentangle")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--own", type=float, default=0.85)
    parser.add_argument("--other", type=float, default=0.02)
    parser.add_argument("--settings", type=json.loads, default={}, help="of the fit, as JSON")
    args = parser.parse_args()
    for name in THREAD_VARIABLES:
        os.environ[name] = str(args.threads)

    missed = False
    for seed in range(args.seeds):
        result = measured(args.rows, seed, args.epochs, args.settings)
        print(json.dumps(result))
        table = result["eta_squared"]
        own = min(table["material"]["material"][0], table["action"]["action"][0])
        other = max(table["material"]["action"][0], table["action"]["material"][0])
        missed = missed or own < args.own or other > args.other
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
