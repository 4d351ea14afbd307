"""How fast document vectors train: batches drawn on the device beside one example at a time.

    python benchmarks/doc2vec.py [--device cuda]

Three figures of one run: pairs a second through ``coala-latent doc2vec train``'s own loop, the same
model trained in plain PyTorch by an example at a time (drawn in Python, one step of Adam each), and
the time of a step with four times the recordings. The exit status is 1 if the ratio is below
``--at-least`` or the step grows by more than ``--growth``. On the CPU one thread works, and its own
time is counted, so that other programs do not matter.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

SIZES = {"bands": 64, "hidden": 128, "dim": 32}


def make_recordings(count, length, bands):
    import numpy as np
    import torch

    from coala_latent.data.frame_pairs import RecordingFrames

    starts = np.arange(count + 1, dtype=np.int64) * length
    frames = torch.randn(count * length, bands, generator=torch.Generator().manual_seed(0))
    return RecordingFrames(frames, starts)


def library_seconds(recordings, batch_size, compat, device, clock, steps):
    """Seconds of a step, the median over blocks, through Lightning."""
    import statistics

    import lightning
    import torch

    from coala_latent.data.frame_pairs import FramePairs
    from coala_latent.models.doc2vec import Doc2Vec
    from coala_latent.training.document_vectors import DocumentSteps, DocumentVectors

    class Clock(lightning.Callback):
        def __init__(self):
            self.times = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if device == "cuda":
                torch.cuda.synchronize()
            self.times.append(clock())

    model = Doc2Vec(len(recordings.lengths), **SIZES, compat=compat)
    pairs = FramePairs(recordings, batch_size, 3, compat=compat)
    objective = DocumentVectors(model, pairs, DocumentSteps(steps=steps, block=32))
    timed = Clock()
    trainer = lightning.Trainer(
        accelerator=device,
        devices=1,
        max_epochs=1,
        logger=False,
        callbacks=[timed],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    pairs.to(trainer.strategy.root_device)
    trainer.fit(objective)
    gaps = [after - before for before, after in zip(timed.times[2:], timed.times[3:], strict=False)]
    return statistics.median(gaps) / 32


def single_seconds(recordings, compat, clock, examples):
    """Seconds of an example in a loop over examples."""
    import torch

    from coala_latent.models.doc2vec import Doc2Vec

    model = Doc2Vec(len(recordings.lengths), **SIZES, compat=compat)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    choose, starts = random.Random(0), recordings.starts
    total = len(recordings.frames)
    began = clock()
    for number in range(examples):
        document = choose.randrange(len(starts) - 1)
        frame = choose.randrange(starts[document], starts[document + 1])
        near = number % 2 == 0
        context = frame + choose.randint(-3, 3) if near else choose.randrange(total)
        context = min(max(context, 0), total - 1)
        origin = model.word_vectors(recordings.frames[frame]) + model.documents[document]
        logit = model.pair_scores(origin, model.context_vectors(recordings.frames[context]))
        optimizer.zero_grad()
        torch.nn.functional.softplus(-logit if near else logit).backward()
        optimizer.step()
    return (clock() - began) / examples


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--recordings", type=int, default=500)
    parser.add_argument("--length", type=int, default=300, help="frames of each")
    parser.add_argument("--steps", type=int, default=480, help="timed through the library")
    parser.add_argument("--examples", type=int, default=1500, help="timed one by one")
    parser.add_argument("--at-least", type=float, default=20, help="ratio that is wanted")
    parser.add_argument("--growth", type=float, default=1.25, help="of a step, that is allowed")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    if arguments.device == "cpu":
        torch.set_num_threads(1)
    from coala_latent.tasks.fitting import hush_lightning

    hush_lightning()
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter
    small = make_recordings(arguments.recordings, arguments.length, SIZES["bands"])
    large = make_recordings(4 * arguments.recordings, arguments.length, SIZES["bands"])
    failed = False
    for name, batch_size, compat in (("default", 1024, False), ("compat", 256, True)):
        one = single_seconds(small, compat, clock, arguments.examples)
        times = [
            library_seconds(data, batch_size, compat, arguments.device, clock, arguments.steps)
            for data in (small, large)
        ]
        ratio, growth = one * batch_size / times[0], times[1] / times[0]
        print(f"{name:8} {batch_size / times[0]:12,.0f} pairs/s, one by one {1 / one:8,.0f}")
        print(f"{'':8} {ratio:12.0f} times as many; a step with 4 times the data {growth:.2f}")
        failed |= ratio < arguments.at_least or growth > arguments.growth
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
