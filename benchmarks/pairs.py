"""How many pairs of latents a second a factor flow is trained on, sampling included.

    python benchmarks/pairs.py [--threads 2] [--busy] [--at-least 40000]

A step draws a batch of pairs, sends both rows through the flow, and updates the weights. Beside it
a plain loop does the same, as far as published tools go: each pair is drawn in Python until it is
alike enough, the flow is made of nflows' stock transforms, a and b go through it one after the
other, and the loss selects the pairs of each factor. The exit status is 1 below ``--at-least``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MATERIALS, ACTIONS, TAKES, ROWS = 5, 3, 4, 60
SIGMA = 0.9


def latents(dim):
    """Noise with the labels of crossed recordings: learning costs the same as with any values."""
    import numpy as np

    from coala_latent.data.latents import LabelledLatents

    grid = itertools.product(range(MATERIALS), range(ACTIONS), range(TAKES), range(ROWS))
    table = np.array(list(grid))
    return LabelledLatents(
        values=np.random.default_rng(0).normal(size=(len(table), dim)).astype(np.float32),
        labels=table[:, :2].copy(),
        factors=("material", "action"),
        classes=(tuple("wmgpc"), tuple("trw")),
        recording=table[:, 2],
        take=table[:, 2],
        start=table[:, 3] * 0.48,
        end=table[:, 3] * 0.48 + 0.96,
    )


def library_step(rows, stages, batch):
    """One step through the library, as a function of the step's number."""
    import torch

    from coala_latent.data.latent_pairs import LatentPairs
    from coala_latent.models.flows import FactorFlow, FactorSpec
    from coala_latent.training.disentangling import Disentangling

    data = LatentPairs(rows, rows, batch_size=batch, batches=1 << 30)
    data.setup()
    spec = FactorSpec({"residual": rows.dim - 2, "material": 1, "action": 1})
    objective = Disentangling(FactorFlow(spec, stages=stages), torch.optim.Adam)
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)

    def step(number):
        optimizer.zero_grad()
        objective.pair_loss(data.train_pairs[0, number]).backward()
        optimizer.step()

    return step


def stock_flow(dim, stages):
    """The same stages of nflows' own transforms."""
    import torch
    from nflows.transforms import (
        ActNorm,
        AdditiveCouplingTransform,
        CompositeTransform,
        HouseholderSequence,
        Permutation,
        RandomPermutation,
    )
    from torch import nn

    class Conditioner(nn.Sequential):
        def __init__(self, inputs, outputs):
            sizes = [inputs, 64, 64, 64]
            layers = [
                [nn.Linear(one, other), nn.LeakyReLU(0.3)]
                for one, other in itertools.pairwise(sizes)
            ]
            super().__init__(*itertools.chain.from_iterable(layers), nn.Linear(64, outputs))

        def forward(self, x, context=None):
            return super().forward(x)

    mask = (torch.arange(dim) % 2 == 0).int()
    swap = torch.arange(dim).view(-1, 2).flip(1).reshape(-1)
    parts = []
    for _ in range(stages):
        parts += [
            RandomPermutation(dim),
            AdditiveCouplingTransform(mask, Conditioner),
            Permutation(swap),
            AdditiveCouplingTransform(mask, Conditioner),
            Permutation(swap),
            ActNorm(dim),
            HouseholderSequence(dim, 8),
        ]
    return CompositeTransform(parts)


def plain_step(rows, stages, batch):
    """One step of the plain loop."""
    import random

    import torch

    values, labels = torch.from_numpy(rows.values), rows.labels.tolist()
    flow = stock_flow(rows.dim, stages)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3)
    source = random.Random(0)
    places = {0: rows.dim - 2, 1: rows.dim - 1}

    def alike_in(a, b):
        return [one == other for one, other in zip(labels[a], labels[b], strict=True)]

    def draw():
        a = source.randrange(len(labels))
        while True:
            b = source.randrange(len(labels))
            if a != b and any(
                one == other for one, other in zip(labels[a], labels[b], strict=True)
            ):
                return a, b

    def step(_):
        pairs = [draw() for _ in range(batch)]
        first, second = zip(*pairs, strict=True)
        alike = torch.tensor(
            [[x == y for x, y in zip(labels[a], labels[b], strict=True)] for a, b in pairs]
        )
        z_a, log_det_a = flow(values[list(first)])
        z_b, log_det_b = flow(values[list(second)])
        energy = (z_a.square().sum(1) + z_b.square().sum(1)) / 2
        loss = energy.mean() - (log_det_a + log_det_b).mean()
        for factor, place in places.items():
            chosen = alike[:, factor]
            near = (z_b[chosen, place] - SIGMA * z_a[chosen, place]).square() / (1 - SIGMA**2)
            loss = loss + (near - z_b[chosen, place].square()).sum() / 2 / batch
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def pairs_a_second(step, batch, seconds, clock):
    """After some steps to warm up."""
    for number in range(3):
        step(number)
    began, done = clock(), 0
    while clock() - began < seconds:
        step(3 + done)
        done += 1
    return done * batch / (clock() - began)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dim", type=int, default=64, help="of the latents")
    parser.add_argument("--stages", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each of the two, in turns")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--at-least", type=float, default=40_000, help="pairs a second")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="one thread, and its own time counts, so that other programs do not matter",
    )
    arguments = parser.parse_args()
    threads = 1 if arguments.busy else arguments.threads
    # Read by the linear algebra libraries when NumPy is first imported.
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rows = latents(arguments.dim)
    steps = {
        name: make(rows, arguments.stages, arguments.batch)
        for name, make in (("plain", plain_step), ("library", library_step))
    }
    clock = time.process_time if arguments.busy else time.perf_counter
    best = dict.fromkeys(steps, 0.0)
    for _ in range(arguments.turns):
        for name, step in steps.items():
            rate = pairs_a_second(step, arguments.batch, arguments.seconds / arguments.turns, clock)
            best[name] = max(best[name], rate)
    print(f"plain    {best['plain']:10.0f} pairs a second")
    print(f"library  {best['library']:10.0f} pairs a second ({threads} threads)")
    print(f"ratio    {best['library'] / best['plain']:10.2f}")
    return int(best["library"] < arguments.at_least)


if __name__ == "__main__":
    sys.exit(main())
