"""``coala-latent store export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.options import audio_root_option, json_option
from coala_latent.tasks.progress import console

__all__ = ["store_export_command"]

_TABLES = (".parquet", ".csv", ".jsonl")
# Whoever asks for these wants a file.
_NO_FOLDERS = (".tsv", ".json", ".ndjson", ".xlsx", ".feather", ".arrow", ".npy", ".h5", ".pq")


@click.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--by",
    type=click.Choice(["files", "rows"]),
    default="files",
    show_default=True,
    help="A line of a table is a recording (its mean vector), or a row of the store.",
)
@click.option(
    "--metadata",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="TABLE",
    help="CSV, TSV or JSON Lines about the recordings, for a table; may be repeated.",
)
@click.option("--key", help="Column of these that names the recordings, if not filename ...")
@audio_root_option
@click.option(
    "--projection",
    type=click.Choice(["tsne", "pca", "umap", "none"]),
    default="tsne",
    show_default=True,
    help="Columns x and y of a table.",
)
@click.option(
    "--neighbors",
    default=10,
    show_default=True,
    type=click.IntRange(0),
    help="Nearest others by cosine in a table.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@json_option
def store_export_command(
    path: Path,
    output: Path,
    projection: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Write one .npy a sound below a folder, everything into one .npz, or a table.

    A table (OUTPUT ends in .parquet, .csv or .jsonl) has a line for each point: path, audio file,
    times, vector, place on a plane, neighbors, metadata. Embedding Atlas and Renumics Spotlight
    open it.
    """
    if output.suffix.lower() in _TABLES:
        from coala_latent.tasks.export_tables import export_table

        wanted = None if projection == "none" else projection
        done = export_table(path, output, projection=wanted, **options)
        if done.missing:
            note = f"{len(done.missing)} sounds not found, the first {done.missing[0]}"
            console().print(f"{note} (say where with --audio-root)", markup=False, soft_wrap=True)
        summary = done.to_dict()
        text = f"{done.points} points, {done.megabytes:.1f} MB -> {output}"
    else:
        from coala_latent.errors import ConfigError
        from coala_latent.store import Store, export_npy, export_npz

        if output.suffix.lower() in _NO_FOLDERS:
            raise ConfigError(
                f"{output}: {output.suffix} is not written (use {', '.join(_TABLES)} or .npz; "
                "any other name is that of a folder)"
            )
        with Store(path) as store:
            if output.suffix == ".npz":
                export_npz(store, output)
            else:
                export_npy(store, output)
        summary, text = {"output": str(output)}, f"exported -> {output}"
    if as_json:
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        console().print(text, markup=False, soft_wrap=True)
