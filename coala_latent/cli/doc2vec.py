"""``coala-latent doc2vec``: train document vectors of sound, and use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.clusters import WHOLE_OR_NOT
from coala_latent.cli.options import INTERRUPTED, fail, json_option
from coala_latent.tasks.progress import console

__all__ = ["doc2vec_group"]

_PATH = click.Path(path_type=Path)
quiet_option = click.option("--quiet", is_flag=True, help="No progress.")


@click.group("doc2vec", epilog=WHOLE_OR_NOT)
def doc2vec_group() -> None:
    """Learn a vector for each recording from which sounds occur near each other."""


@doc2vec_group.command("train", epilog=WHOLE_OR_NOT)
@click.argument("frames", type=_PATH)
@click.argument("output", type=_PATH)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@quiet_option
@json_option
@click.pass_context
def train_command(
    context: click.Context,
    frames: Path,
    output: Path,
    settings: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Train on FRAMES (see `coala-latent spectrify`), or go on with the training in OUTPUT.

    It ends where the loss is flat, after epochs=N, or with Ctrl-C, which saves; the same command
    goes on from there. KEY=VALUE are those of configs/doc2vec.yaml, such as compat=true (sound-eval
    to the letter) or doc2vec=small (or default, opt, aggressive: its configurations).
    """
    from coala_latent.tasks.doc2vec import train_doc2vec
    from coala_latent.tasks.doc2vec_settings import compose_doc2vec

    result = train_doc2vec(frames, output, compose_doc2vec(settings), quiet=quiet)
    held_out = "" if result.get("auc") is None else f", AUC {result['auc']:.3f}"
    loss = f"loss {result['loss']:.4f}" if "loss" in result else "no step yet"
    told = f"save {result['saves']}: {loss}{held_out} -> {result['output']}"
    _report(result, told, as_json)
    if result["ended"] == "stopped":
        fail(context, "stopped and saved: the same command goes on", INTERRUPTED)


@doc2vec_group.command("infer")
@click.argument("frames", type=_PATH)
@click.argument("trained", type=_PATH)
@click.option("--output", required=True, type=_PATH, help="The store (.h5).")
@click.option(
    "--pairs",
    default=256,
    show_default=True,
    type=click.IntRange(1),
    help="Neighbours that are drawn of each recording.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--overwrite", is_flag=True, help="Replace the store.")
@json_option
def infer_command(
    trained: Path,
    frames: Path,
    output: Path,
    pairs: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Vectors of other recordings without training: TRAINED's networks stay as they are."""
    from coala_latent.tasks.doc2vec_vectors import infer_vectors

    result = infer_vectors(trained, frames, output, pairs=pairs, seed=seed, overwrite=overwrite)
    _report(result, f"{result['recordings']} recordings -> {output}", as_json)


@doc2vec_group.command("frames")
@click.argument("frames", type=_PATH)
@click.argument("trained", type=_PATH)
@click.argument("output", type=_PATH)
@quiet_option
@json_option
def frames_command(frames: Path, trained: Path, output: Path, quiet: bool, as_json: bool) -> None:
    """A vector for every frame: a .npy file a recording, named and nested as its frames."""
    from coala_latent.tasks.doc2vec_vectors import frame_vectors

    result = frame_vectors(trained, frames, output, quiet=quiet)
    _report(result, f"{result['recordings']} recordings -> {output}", as_json)


@doc2vec_group.command("gather")
@click.argument("frames", type=_PATH)
@click.argument("trained", type=_PATH)
@click.argument("output", type=_PATH)
@click.option(
    "--computed",
    is_flag=True,
    help="FRAMES are vectors already, as `frames` made them, or are to be averaged as they are; "
    "TRAINED, which gives the order, may be a music_list.txt.",
)
@json_option
def gather_command(
    frames: Path, trained: Path, output: Path, computed: bool, as_json: bool
) -> None:
    """Means over time of the vectors of each recording's frames, in the order of music_list.txt."""
    from coala_latent.tasks.doc2vec_vectors import gather_means

    result = gather_means(frames, trained, output, computed=computed)
    _report(result, f"{result['recordings']} recordings -> {output}", as_json)


@doc2vec_group.command("concat")
@click.argument("first", type=_PATH)
@click.argument("second", type=_PATH)
@click.argument("output", type=_PATH)
def concat_command(first: Path, second: Path, output: Path) -> None:
    """Put the rows of two .npy files side by side, such as document vectors and means."""
    from coala_latent.tasks.doc2vec_vectors import concatenate

    rows, values = concatenate(first, second, output)
    _say(f"{rows} rows of {values} values -> {output}")


@doc2vec_group.command("plot")
@click.argument("array", type=_PATH)
@click.argument("picture", type=_PATH)
@click.option(
    "--seconds-per-row", default=1.0, show_default=True, help="Time from a row to the next."
)
def plot_command(array: Path, picture: Path, seconds_per_row: float) -> None:
    """Draw a .npy file of vectors over time as a PNG."""
    from coala_latent.tasks.doc2vec_vectors import plot_vectors

    plot_vectors(array, picture, seconds_per_row)
    _say(f"-> {picture}")


def _report(result: dict[str, Any], told: str, as_json: bool) -> None:
    for name in result.get("without_frames", []):
        _say(f"no frames: {name}")
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        _say(told)


def _say(text: str) -> None:
    console().print(text, markup=False, soft_wrap=True)
