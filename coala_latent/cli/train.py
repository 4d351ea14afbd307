"""``coala-latent train`` and the built-in sounds to train on."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from coala_latent.tasks.progress import console, progress_bar

__all__ = ["sounds_command", "train_command"]


@click.command("sounds")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--takes", default=4, show_default=True, type=click.IntRange(1))
@click.option("--clips-per-take", default=1, show_default=True, type=click.IntRange(1))
@click.option("--duration", default=4.0, show_default=True, help="Seconds of a clip.")
@click.option("--sample-rate", default=22050, show_default=True)
@click.option("--seed", default=0, show_default=True)
def sounds_command(
    folder: Path, takes: int, clips_per_take: int, duration: float, sample_rate: int, seed: int
) -> None:
    """Write the built-in sounds (6 materials x 4 actions) as wav files, a folder per class."""
    from coala_latent.data.builtin import write_builtin
    from coala_latent.data.synthesis import ACTIONS, MATERIALS

    total = len(MATERIALS) * len(ACTIONS) * takes * clips_per_take
    with progress_bar() as bar:
        task = bar.add_task("sounds", total=total, note="")
        paths = write_builtin(
            folder,
            takes=takes,
            clips_per_take=clips_per_take,
            duration=duration,
            sample_rate=sample_rate,
            seed=seed,
            written=lambda path: bar.update(task, advance=1),
        )
    console().print(f"{len(paths)} sounds -> {folder}", markup=False, soft_wrap=True)


@click.command("train", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def train_command(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Train a model; arguments are Hydra overrides, as of `python train.py`."""
    from coala_latent.tasks.train import main as train

    # Hydra reads the process's arguments.
    sys.argv = ["coala-latent train", *overrides]
    context.exit(train())
