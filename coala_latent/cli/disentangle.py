"""``coala-latent disentangle``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.tasks.overrides import quote_value
from coala_latent.tasks.progress import console

__all__ = ["disentangle_command"]

STAGES = (
    *("recordings", "layers", "latents", "exploration", "flow"),
    *("measures", "transfer", "report"),
)


@click.command("disentangle")
@click.option(
    "--recordings", type=click.Path(path_type=Path), help="Folder of recordings with labels."
)
@click.option(
    "--names",
    metavar="REGEX",
    help="What file names without suffix say, a named group a factor, and `take` if there are "
    "several: '(?P<material>[A-Z])(?P<action>[A-Z])-(?P<take>[0-9]+)'.",
)
@click.option(
    "--table",
    metavar="NAME",
    help="CSV, TSV or JSONL file in the folder, with a column `path` and one a factor.",
)
@click.option("--factor", "factors", multiple=True, help="Column of the table; may be repeated.")
@click.option("--take", help="Column of the table that tells which recordings stay together.")
@click.option(
    "--levels", help="What the folders are, from the outermost on: material,action (or take)."
)
@click.option("--reverb", is_flag=True, help="Add a copy of each recording in another room.")
@click.option(
    "--latents",
    type=click.Path(path_type=Path),
    help="Finished latents instead of recordings: a folder with X.npy and Y.npy.",
)
@click.option("--model", help="Name or .safetensors file; yamnet or else soundnet8 by default.")
@click.option("--layer", help="Whose latents are taken apart.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("outputs/disentangle"),
    show_default=True,
    help="Folder for all results.",
)
@click.option("--stage", type=click.Choice(STAGES), help="Run one, and those it needs.")
@click.option("--again", is_flag=True, help="Run what is there already, too.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Summary as JSON on stdout.")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
def disentangle_command(
    output: Path,
    stage: str | None,
    again: bool,
    quiet: bool,
    as_json: bool,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    """Take the factors apart that a network's latents hold, and hear what changing them does.

    Without recordings the built-in sounds are analysed, materials and actions. Results are kept in
    stages: a second run does what has changed. KEY=VALUE are those of configs/disentangle.yaml,
    such as flow.epochs=50 or latents.split=time.
    """
    from coala_latent.tasks import disentangle as task

    config = task.compose_settings([*_overrides(given), *settings])
    result = task.disentangle(config, output, stage=stage, again=again, quiet=quiet)
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for name, run in result["stages"].items():
        told = "there already" if run["cached"] else f"{run['seconds']:.1f} s"
        console().print(f"{name:12} {told}", markup=False)
    if "report" in result:
        click.echo(result["report"])


def _overrides(given: dict[str, Any]) -> list[str]:
    """Flags as settings."""
    recordings, latents = given["recordings"], given["latents"]
    ways = [name for name in ("names", "table", "levels") if given[name]]
    if recordings and latents:
        raise click.UsageError("give --recordings or --latents, not both")
    if bool(recordings) != (len(ways) == 1) or len(ways) > 1:
        raise click.UsageError(
            "--recordings needs one of --names, --table and --levels, which tell the classes"
        )
    made = []
    if recordings:
        made += ["data=recordings", f"data.root={quote_value(str(recordings))}"]
        if given["names"]:
            made.append(f"data.pattern={quote_value(given['names'])}")
        if given["table"]:
            made.append(f"data.table={quote_value(given['table'])}")
        if given["levels"]:
            made.append(f"data.levels={_listed(given['levels'].split(','))}")
        if given["factors"]:
            made.append(f"data.factors={_listed(given['factors'])}")
        if given["take"]:
            made.append(f"data.take={quote_value(given['take'])}")
    if latents:
        made += ["data=latents", f"data.root={quote_value(str(latents))}"]
    if given["reverb"]:
        if latents:
            raise click.UsageError("--reverb: finished latents have no sound to copy")
        made.append("data.reverb=true")
    for name in ("model", "layer"):
        if given[name]:
            made.append(f"latents.{name}={quote_value(given[name])}")
    return made


def _listed(names: Any) -> str:
    return f"[{','.join(quote_value(str(name).strip()) for name in names)}]"
