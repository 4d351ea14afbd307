"""The command line: parses and calls tasks.

Exit status: 0 all good, 1 some sounds were skipped, 2 could not run, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import coala_latent
from coala_latent.cli.build_dataset import build_dataset_command
from coala_latent.cli.disentangle import disentangle_command
from coala_latent.cli.export import export_command
from coala_latent.cli.models import models_command
from coala_latent.cli.options import (
    EXIT_STATUS,
    HELP,
    INTERRUPTED,
    Reporting,
    ReportingGroup,
    fail,
    json_option,
    model_options,
    parse_shard,
)
from coala_latent.cli.predict import predict_command
from coala_latent.cli.probe import probe_command
from coala_latent.cli.scores import (
    esc10_command,
    esc50_command,
    gtzan_command,
    nsynth_command,
    us8k_command,
)
from coala_latent.cli.search import search_command
from coala_latent.cli.similarity import pairs_command, similarity_command
from coala_latent.cli.weights import weights_group
from coala_latent.tasks.progress import console, progress_bar

__all__ = ["encode_command", "main"]


@click.group(cls=ReportingGroup, context_settings=HELP)
@click.version_option(coala_latent.__version__, prog_name="coala-latent")
def main() -> None:
    """Audio representation models: train them, and turn any sound into embeddings."""


main.add_command(probe_command)
main.add_command(esc10_command)
main.add_command(esc50_command)
main.add_command(us8k_command)
main.add_command(gtzan_command)
main.add_command(nsynth_command)


def _embedder(options: dict[str, Any]) -> Any:
    from coala_latent.embed.embedder import load_model

    return load_model(
        options["model"],
        options["layer"],
        options["pooling"],
        device=options["device"],
        batch_size=options["batch_size"],
        patch=options["patch"],
        patch_hop=options["patch_hop"],
        short=options["short"],
        channels=options["channels"],
        allow_truncated=options["keep_truncated"],
    )


@main.command(
    "encode",
    cls=Reporting,  # because `encode.py` runs it without the group
    epilog=EXIT_STATUS,
    context_settings=HELP,
)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The store (.h5).")
@model_options
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Of the values in the store.",
)
@click.option(
    "--shard",
    default="0/1",
    callback=parse_shard,
    metavar="i/n",
    help="Every n-th sound from i (0 to n - 1) on; `coala-latent store merge` joins the stores.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads: files at a time on the CPU (one a core by default), else decoders.",
)
@click.option("--retry-failed", is_flag=True, help="Try files again that failed earlier.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
@click.pass_context
def encode_command(
    context: click.Context,
    inputs: tuple[Path, ...],
    output: Path,
    dtype: str,
    shard: tuple[int, int],
    workers: int | None,
    retry_failed: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Embed the sounds of folders and files into a store; takes up where an earlier run ended.

    Folders are searched to the bottom for wav, flac, ogg, mp3 and more, by suffix. Names in the
    store are relative to the folder. Write -- before a name that begins with a dash.
    """
    from coala_latent.tasks.encode import encode

    out = console()
    try:
        summary = encode(
            inputs,
            output,
            _embedder(options),
            dtype=dtype,
            shard=shard,
            workers=workers,
            retry_failed=retry_failed,
            quiet=quiet,
        )
    except KeyboardInterrupt:
        fail(context, "interrupted: run the same command again to go on", INTERRUPTED)
        return
    for entry in summary.skipped:
        out.print(f"skipped {entry['path']}: {entry['error']}", markup=False, soft_wrap=True)
    if summary.skipped and not retry_failed:
        out.print("skipped sounds are tried again with --retry-failed")
    for name in summary.to_dict()["changed"]:
        out.print(
            f"changed since it was embedded, its old rows are kept: {name}",
            markup=False,
            soft_wrap=True,
        )
    if summary.other_root:
        out.print(
            f"{summary.already_done} sounds count as embedded because the store has their names, "
            f"from {summary.other_root}; use another store if that is another collection",
            markup=False,
            soft_wrap=True,
        )
    if as_json:
        click.echo(json.dumps(summary.to_dict(), indent=2))
    else:
        speed = f", {summary.times_real_time:.0f} x real time" if summary.encoded else ""
        out.print(
            f"{summary.encoded} sounds embedded, {summary.already_done} already there, "
            f"{len(summary.skipped)} skipped; {summary.rows} rows{speed} -> {summary.output}",
            markup=False,
            soft_wrap=True,
        )
    context.exit(summary.exit_status)


main.add_command(models_command)
main.add_command(export_command)
main.add_command(predict_command)
main.add_command(search_command)
main.add_command(similarity_command)
main.add_command(pairs_command)
main.add_command(weights_group)
main.add_command(build_dataset_command)
main.add_command(disentangle_command)


@main.command("sounds")
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


@main.command("train", context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def train_command(context: click.Context, overrides: tuple[str, ...]) -> None:
    """Train a model; arguments are Hydra overrides, as of `python train.py`."""
    from coala_latent.tasks.train import main as train

    # Hydra reads the process's arguments.
    sys.argv = ["coala-latent train", *overrides]
    context.exit(train())


@main.group("store")
def store_group() -> None:
    """Look into, merge and export embedding stores."""


@store_group.command("info")
@click.argument("path", type=click.Path(path_type=Path))
def store_info(path: Path) -> None:
    """What a store holds, as JSON."""
    from dataclasses import asdict

    from coala_latent.store import Store
    from coala_latent.store.schema import printable_text

    with Store(path) as store:
        files = store.files
        bad = {printable_text(file.path): file.error for file in files if not file.rows}
        about = {
            "identity": asdict(store.identity),
            "rows": len(store),
            "files": len(files),
            "seconds_of_sound": sum(file.duration for file in files),
            "without_rows": bad,
        }
    click.echo(json.dumps(about, indent=2))


@store_group.command("merge")
@click.argument("output", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True)
def store_merge(output: Path, inputs: tuple[Path, ...], overwrite: bool) -> None:
    """Merge shards into one store."""
    from coala_latent.store import merge_stores

    merge_stores(list(inputs), output, overwrite=overwrite)
    console().print(f"{len(inputs)} stores -> {output}", markup=False, soft_wrap=True)


@store_group.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def store_export(path: Path, output: Path) -> None:
    """Write one .npy a sound below a folder, or everything into one .npz."""
    from coala_latent.store import Store, export_npy, export_npz

    with Store(path) as store:
        if output.suffix == ".npz":
            export_npz(store, output)
        else:
            export_npy(store, output)
    console().print(f"exported -> {output}", markup=False, soft_wrap=True)
