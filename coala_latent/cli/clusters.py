"""``coala-latent clusters``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.cli.options import json_option
from coala_latent.errors import DependencyError
from coala_latent.tasks.progress import console

__all__ = ["WHOLE_OR_NOT", "clusters_command", "parse_labels"]

WHOLE_OR_NOT = "Exit status: 0 all good, 2 could not run, 130 interrupted."
_NUMBERS = re.compile(r"(\d+)(?:\.\.(\d+))?")


def parse_labels(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """``folders``, or the path of a table."""
    return value if value in (None, "folders") else Path(str(value))


def _parse_k(context: click.Context, parameter: click.Parameter, value: str) -> range:
    """``8``, or ``2..30`` with both ends."""
    found = _NUMBERS.fullmatch(value)
    if found is None:
        raise click.BadParameter("write a number, or two such as 2..30")
    low, high = int(found[1]), int(found[2] or found[1])
    if not 1 <= low <= high:
        raise click.BadParameter(f"{value} is no number of clusters")
    return range(low, high + 1)


@click.command("clusters", epilog=WHOLE_OR_NOT)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for clusters.csv, clusters.json, clusters.png and centres.npy.",
)
@click.option(
    "--k",
    default="8",
    show_default=True,
    callback=_parse_k,
    metavar="N|LOW..HIGH",
    help="Number of clusters, or a range of which the one with the largest silhouette is taken.",
)
@click.option(
    "--labels",
    callback=parse_labels,
    metavar="TABLE|folders",
    help="Labels to compare with: a CSV, TSV or JSON Lines table, or the recordings' folders.",
)
@click.option("--column", help="Column of the table.")
@click.option("--key", help="Column of the table that names the recordings.")
@click.option(
    "--by",
    type=click.Choice(["files", "rows"]),
    default="files",
    show_default=True,
    help="Cluster recordings, or every row of the store.",
)
@click.option("--centre", is_flag=True, help="Subtract the mean of all points first.")
@click.option("--restarts", default=10, show_default=True, type=click.IntRange(1))
@click.option("--batch", type=click.IntRange(1), help="Mini-batches of so many points.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, auto.")
@click.option(
    "--top",
    default=5,
    show_default=True,
    type=click.IntRange(1),
    help="Labels and sounds that a cluster is described with.",
)
@click.option(
    "--picture/--no-picture",
    default=None,
    help="Draw the bars; by default where matplotlib is installed.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def clusters_command(
    store: Path,
    output: Path,
    picture: bool | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Cluster the recordings of a store by cosine, and say what the clusters could be called."""
    from coala_latent.tasks.clusters import ClusterOptions, cluster, cluster_tables
    from coala_latent.tasks.pictures import require_matplotlib

    if picture is None:
        try:
            require_matplotlib()
            picture = True
        except DependencyError as error:
            console().print(f"no picture: {error}", markup=False, soft_wrap=True)
            picture = False
    result = cluster(store, output, ClusterOptions(picture=picture, **options), quiet=quiet)
    if result["failed"]:
        console().print(f"{result['failed']} recordings without vectors are left out")
    for path in result["without_direction"]:
        console().print(f"in no cluster, its vector is zero: {path}", markup=False, soft_wrap=True)
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        return
    out = Console(highlight=False)
    for table in cluster_tables(result):
        out.print(table)
    console().print(f"-> {output}", markup=False, soft_wrap=True)
