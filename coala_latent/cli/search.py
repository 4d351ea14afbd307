"""``coala-latent search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.tasks.progress import console

__all__ = ["search_command"]


@click.command("search")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--tags",
    multiple=True,
    help='Tags of one sound, such as "dog bark"; may be repeated. The store must hold layer z_d.',
)
@click.option(
    "--sound",
    "sounds",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Sound file; may be repeated.",
)
@click.option("--top", default=10, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "--by",
    type=click.Choice(["rows", "files", "mean"]),
    help="Rank rows, files by their best row (by default for tags), or files by their mean (for "
    "sounds).",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
)
@click.option("--model", help="The store's model as .safetensors file, where it has no known name.")
@click.option("--ignore-unknown", is_flag=True, help="Pass over tags the model does not know.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, auto.")
def search_command(
    store: Path,
    tags: tuple[str, ...],
    sounds: tuple[Path, ...],
    top: int,
    by: Any,
    form: str,
    model: str | None,
    ignore_unknown: bool,
    device: str,
) -> None:
    """Find the sounds of a store that are nearest to tags, or to other sounds, by cosine."""
    from coala_latent.tasks import search as task

    queries = task.search(
        store,
        tags=tags,
        sounds=sounds,
        top=top,
        by=by,
        model=model,
        device=device,
        ignore_unknown=ignore_unknown,
    )
    for query in queries:
        if query.unknown:
            passed = ", ".join(query.unknown)
            console().print(f"not in the vocabulary: {passed}", markup=False, soft_wrap=True)
    if form == "json":
        click.echo(task.search_json(store, queries))
    elif form == "csv":
        click.echo(task.search_csv(queries), nl=False)
    else:
        out = Console(highlight=False)
        for query in queries:
            title = f"{query.kind}: {task.printable(query.text)}"
            out.print(title, style="bold", markup=False, soft_wrap=True)
            out.print(task.search_table(query))
