"""All concept vectors at once beside one after the other.

    python benchmarks/concepts.py [--concepts 500] [--recordings 50000] [--threads 2] [--busy]

Embeddings are normal; a concept's recordings are those with the largest products with a direction
of its own, after noise, 40 to 250 of them. Compared are, in one run and with the same settings
(batches of 128, dropout 0.25, 100 steps an epoch, early stopping by all validation recordings):
all concepts together; a few of them, each alone in the same code; and the same few with
`torch.nn.Linear` and `torch.optim.Adam`, whose seconds are extrapolated to all. Also printed: mean
cosine of the vectors and the planted directions, mean held-out balanced accuracy, and by how much
vectors trained alone differ. Exit status 1 if all together take more than the limit.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def planted(recordings: int, concepts: int, dim: int):
    """Embeddings, a table, and the direction behind each concept in the table's order."""
    from coala_latent.data.concept_samples import RecordingRows
    from coala_latent.data.concept_tables import concepts_from_lists

    rng = np.random.default_rng(0)
    x = rng.standard_normal((recordings, dim), dtype=np.float32)
    directions = rng.standard_normal((concepts, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    names = [f"{number:07d}" for number in range(recordings)]
    found = {}
    for number, direction in enumerate(directions):
        heard = x @ direction + rng.standard_normal(recordings)
        size = int(rng.integers(40, 251))
        members = np.argpartition(-heard, size)[:size]
        found[f"{number:05d}"] = [names[member] for member in members]
    rows = RecordingRows(x, np.ones(recordings, np.int64))
    return rows, concepts_from_lists(found, names), directions


def together(rows, split, settings, clock):
    """Seconds, epochs that concepts were trained for in all, and the training."""
    from coala_latent.training.concept_vectors import ConceptTraining

    began = clock()
    training, epochs = ConceptTraining(rows, split, settings), 0
    while not training.finished:
        report = training.run_epoch()
        epochs += report.active
        if len(split.table) > 1:
            note = f"epoch {report.epoch}: {report.active} in training, loss {report.loss:.4f}, "
            print(f"{note}{clock() - began:.1f} s", file=sys.stderr, flush=True)
    return clock() - began, epochs, training


def plain_loop(rows, split, settings, clock) -> tuple[float, int]:
    """One concept with PyTorch's own layer and optimiser."""
    import torch
    from torch.nn import functional as F

    began = clock()
    values = torch.from_numpy(rows.values)
    sides = {}
    for part in ("train", "validation"):
        sides[part] = [torch.from_numpy(c(part, 0)) for c in (split.positives, split.negatives)]
    torch.manual_seed(0)
    layer, half = torch.nn.Linear(values.shape[1], 1), settings.batch_size // 2
    optimizer = torch.optim.Adam(layer.parameters(), settings.learning_rate, eps=1e-7)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=settings.factor,
        patience=settings.plateau - 1,
        threshold=settings.least,
        threshold_mode="abs",
        min_lr=settings.min_rate,
    )
    label = torch.cat([torch.ones(half), torch.zeros(half)])
    mark, waited, epoch = float("inf"), 0, 0
    while waited < settings.patience and epoch < settings.epochs:
        for _ in range(settings.steps):
            places = [side[torch.randint(len(side), (half,))] for side in sides["train"]]
            x = F.dropout(values[torch.cat(places)], settings.dropout)
            loss = F.binary_cross_entropy_with_logits(layer(x)[:, 0], label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            positive, negative = (layer(values[side])[:, 0] for side in sides["validation"])
            judged = float(F.softplus(-positive).mean() + F.softplus(negative).mean()) / 2
        plateau.step(judged)
        mark, waited = (judged, 0) if judged < mark - settings.least else (mark, waited + 1)
        epoch += 1
    return clock() - began, epoch


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concepts", type=int, default=500)
    parser.add_argument("--recordings", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--alone", type=int, default=3, help="concepts trained one by one")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="one thread, and its own time counts, so that other programs do not matter",
    )
    arguments = parser.parse_args()
    threads = 1 if arguments.busy else arguments.threads
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    import torch

    from coala_latent.data.concept_splits import recording_split
    from coala_latent.tasks.concept_scores import held_out_scores
    from coala_latent.training.concept_vectors import ConceptSettings

    torch.set_num_threads(threads)
    clock = time.process_time if arguments.busy else time.perf_counter
    settings = ConceptSettings(epochs=arguments.epochs)
    rows, table, directions = planted(arguments.recordings, arguments.concepts, arguments.dim)
    began = clock()
    split = recording_split(table).trainable()
    count = len(split.table)
    print(
        f"{count} concepts on {arguments.recordings} embeddings of {arguments.dim}, {threads} "
        f"thread(s); split {clock() - began:.1f} s",
        flush=True,
    )
    seconds, epochs, training = together(rows, split, settings, clock)
    print(f"together      {seconds:8.1f} s, {epochs / count:.1f} epochs a concept", flush=True)
    weight, bias = (each[0].numpy() for each in training.vectors())
    unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    # Names are numbers of directions.
    cosines = (unit * directions[[int(name) for name in split.table.concepts]]).sum(axis=1)
    accuracy = [each.balanced_accuracy.mean for each in held_out_scores(rows, split, weight, bias)]
    print(f"mean cosine {cosines.mean():.3f}, held-out balanced accuracy {np.mean(accuracy):.3f}")
    alone, loops, off = [], [], 0.0
    for place in np.linspace(0, count - 1, min(arguments.alone, count)).astype(int):
        own = split.only([split.table.concepts[place]])
        taken, _, single = together(rows, own, settings, clock)
        alone.append(taken)
        off = max(off, float(np.abs(single.vectors()[0][0, 0].numpy() - weight[place]).max()))
        loops.append(plain_loop(rows, own, settings, clock)[0])
    for name, found in (("one by one", alone), ("PyTorch loop", loops)):
        every = float(np.mean(found)) * count
        print(f"{name:14s}{every:8.1f} s by {len(found)} of them, ratio {every / seconds:.1f}")
    print(f"largest difference to vectors trained alone {off:.1e}")
    return int(seconds > arguments.limit)


if __name__ == "__main__":
    sys.exit(main())
