"""What a training step costs through the library beside the same arithmetic in plain PyTorch.

    python benchmarks/training_step.py [KEY=VALUE ...]

Both train the same network on the same batches with the same losses, clipping, optimiser and
schedule, in turns and in one process; at the end both must have the same weights. The ratio of the
medians is printed, and the exit status is 1 if it is above ``--at-most``. On the CPU one thread
works and its own time is counted, so that other programs do not matter. Settings are those of
``train.py``; logs are written as in a run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
QUICK = ["data.takes=4", "data.clips_per_take=2", "data.duration=2.5", "patches.crops=8"]


def prepare(settings, output):
    """Objective, data and trainer as ``train.py`` makes them."""
    from hydra import compose, initialize_config_dir

    from coala_latent.tasks import train as task
    from coala_latent.tasks.runs import RunFolder

    with initialize_config_dir(str(task.config_folder()), version_base="1.3"):
        config = compose("train", [*settings, "progress=false", f"output={output}"])
    values = task._plain(config)
    parts = task._build(config, values)
    return parts.objective, parts.data, task._trainer(config, values, RunFolder(output), parts)


def library_steps(settings, output, clock):
    """Seconds from one step's start to the next one's, and the weights in the end."""
    import lightning

    class Clock(lightning.Callback):
        def __init__(self):
            self.starts = []

        def on_train_epoch_start(self, trainer, pl_module):
            self.starts.append([])

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.starts[-1].append(clock())

    objective, data, trainer = prepare(settings, output)
    timed = Clock()
    trainer.callbacks.insert(0, timed)
    trainer.fit(objective, data)
    return differences(timed.starts), objective.cpu().state_dict()


def plain_steps(settings, output, clock):
    """The same in a loop of plain PyTorch."""
    import numpy as np
    import torch

    from coala_latent.training.losses import generalised_kl, tag_bce

    objective, data, trainer = prepare(settings, output)
    device = trainer.strategy.root_device
    objective.to(device).train()
    model, augment, front_end = objective.model, objective.augment, objective.front_end
    loader, epochs = data.train_dataloader(), trainer.max_epochs
    optimizer = objective._optimizer([dict(group) for group, _ in objective._parameter_groups()])
    total = epochs * len(loader)
    schedule = objective._scheduler and objective._scheduler(optimizer, total_steps=total)
    # Those of the library, so that dropout and augmentation are the same.
    seeds = iter(
        [
            int(np.random.SeedSequence([data.seed, number, 0]).generate_state(1)[0])
            for number in range(total)
        ]
    )
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    starts = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        starts.append([])
        for on_cpu in loader:
            starts[-1].append(clock())
            torch.manual_seed(next(seeds))
            batch = type(on_cpu)(*(part.to(device, non_blocking=True) for part in on_cpu))
            log_mel = batch.patches if augment is None else augment.sound(batch.patches, front_end)
            scaled = front_end.scale(log_mel, batch.mask)
            heard = scaled if augment is None else augment.hide(scaled)
            z, z_d = model.audio_encoder(heard[:, None])
            tag_z, tag_z_d = model.tag_encoder(batch.tags)
            terms = {"contrastive": objective.contrastive(z_d, tag_z_d, batch.tags)}
            if model.audio_decoder is not None:
                target = front_end.unit(scaled[:, None])
                terms["audio"] = generalised_kl(model.audio_decoder(z), target)
            if model.tag_decoder is not None:
                terms["tags"] = tag_bce(model.tag_decoder.logits(tag_z), batch.tags)
            loss = sum(objective.weights[name] * term for name, term in terms.items())
            optimizer.zero_grad()
            loss.backward()
            if trainer.gradient_clip_val:
                torch.nn.utils.clip_grad_norm_(parameters, trainer.gradient_clip_val)
            optimizer.step()
            if schedule is not None:
                schedule.step()
    return differences(starts), objective.cpu().state_dict()


def differences(starts):
    """Of the times of each epoch; the first steps warm up."""
    return [after - before for epoch in starts for before, after in itertools.pairwise(epoch[2:])]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="of train.py, such as model=coala_resnet")
    parser.add_argument("--epochs", type=int, default=2, help="of each turn")
    parser.add_argument("--turns", type=int, default=4, help="of each of the two")
    parser.add_argument("--accelerator", default="cpu", help="of Lightning, such as cuda")
    parser.add_argument("--at-most", type=float, default=1.10, help="ratio that is allowed")
    arguments = parser.parse_args()
    on_cpu = arguments.accelerator == "cpu"
    if on_cpu:
        # Read by the linear algebra libraries when NumPy is first imported.
        for variable in THREAD_VARIABLES:
            os.environ[variable] = "1"
    import torch

    if on_cpu:
        torch.set_num_threads(1)
    from coala_latent.tasks.fitting import hush_lightning

    hush_lightning()
    clock = time.process_time if on_cpu else time.perf_counter
    settings = [
        *QUICK,
        f"trainer.accelerator={arguments.accelerator}",
        f"trainer.max_epochs={arguments.epochs}",
        *arguments.settings,
    ]
    seconds, weights = {plain_steps: [], library_steps: []}, {}
    for turn in range(arguments.turns):
        # Who comes second finds the memory that the first has left.
        for way in list(seconds)[:: 1 if turn % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                found, weights[way] = way(settings, Path(folder), clock)
            seconds[way] += found
    apart = max(
        float((weights[library_steps][name].double() - value.double()).abs().max())
        for name, value in weights[plain_steps].items()
    )
    bare, ours = (statistics.median(found) for found in seconds.values())
    print(f"plain    {1000 * bare:8.2f} ms a step ({len(seconds[plain_steps])} steps)")
    print(f"library  {1000 * ours:8.2f} ms a step ({len(seconds[library_steps])} steps)")
    print(f"ratio    {ours / bare:8.3f}")
    print(f"weights differ by at most {apart:.1e} after training")
    return int(ours / bare > arguments.at_most or (on_cpu and apart > 1e-5))


if __name__ == "__main__":
    sys.exit(main())
