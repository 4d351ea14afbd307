"""``coala-latent store``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from coala_latent.cli.store_export import store_export_command
from coala_latent.tasks.progress import console

__all__ = ["store_group"]


@click.group("store")
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


store_group.add_command(store_export_command)
