"""``coala-latent encode``, which is ``python encode.py``, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.options import (
    EXIT_STATUS,
    HELP,
    INTERRUPTED,
    Reporting,
    fail,
    json_option,
    model_options,
    parse_shard,
)
from coala_latent.tasks.progress import console

__all__ = ["encode_command"]


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


@click.command(
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
