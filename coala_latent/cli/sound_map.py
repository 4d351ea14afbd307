"""``coala-latent map``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.options import audio_root_option, json_option, parse_names
from coala_latent.tasks.progress import console

__all__ = ["map_command"]

_EXIT_STATUS = (
    "Exit status: 0 all good, 1 the map was written but some sounds cannot be heard on it, 2 could "
    "not run, 130 interrupted."
)
_LISTED = 10  # of a kind; --json has all


class _Clusters(click.ParamType):
    """How many, or a table."""

    name = "N|FILE.csv"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Path:
        """A number from 2 on, or a path."""
        if isinstance(value, (int, Path)):
            return value
        if not value.lstrip("+-").isdigit():
            return Path(value)
        if int(value) < 2:
            self.fail(f"{value} clusters: ask for 2 or more", param, ctx)
        return int(value)


@click.command("map", epilog=_EXIT_STATUS)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--output",
    required=True,
    metavar="MAP.html|FOLDER/",
    help="One page that links the sounds where they are, or a folder with the page and copies of "
    "the sounds, to be given away.",
)
@click.option(
    "--by",
    type=click.Choice(["files", "rows"]),
    default="files",
    show_default=True,
    help="A point is a recording (its mean vector), or a row of the store: a piece of it.",
)
@click.option(
    "--metadata",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="TABLE",
    help="CSV, TSV or JSON Lines about the recordings (FMA's tables too); may be repeated. Its "
    "columns colour and filter the points.",
)
@click.option("--key", help="Column of the tables that names the recordings, if not filename ...")
@click.option(
    "--citation",
    help="Column of the tables to cite; by default citation, or artist, title and license.",
)
@click.option(
    "--clusters",
    type=_Clusters(),
    help="Find so many clusters by spherical k-means, or take the column cluster of a table.",
)
@click.option(
    "--projection",
    "projections",
    default="tsne,pca",
    show_default=True,
    callback=parse_names,
    metavar="tsne|pca|umap,...",
    help="Layouts to choose from on the page, the first is shown first; umap is an extra.",
)
@click.option("--perplexity", default=30.0, show_default=True, help="Of t-SNE.")
@click.option(
    "--landmarks",
    default=None,
    type=click.IntRange(4),
    help="Of t-SNE: of more points so many are laid out, the others placed among them "
    "(default: 10000).",
)
@click.option("--seed", default=0, show_default=True, help="Of layouts and clusters.")
@click.option(
    "--max-points",
    default=100_000,
    show_default=True,
    type=click.IntRange(1),
    help="Of more points so many are drawn at random.",
)
@click.option("--title", help="Of the page; the store's name by default.")
@audio_root_option
@click.option(
    "--embed-audio", is_flag=True, help="Sounds become part of the page (as mp3); for small sets."
)
@click.option(
    "--embed-limit",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="MB",
    help="Refuse to embed more than that.",
)
@click.option("--no-audio", is_flag=True, help="A map without sounds and pictures.")
@click.option(
    "--spectrograms/--no-spectrograms",
    default=True,
    show_default=True,
    help="A picture of each recording.",
)
@click.option(
    "--picture-limit",
    default=20.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="MB",
    help="Of pictures in the page; more are written to MAP_files beside it.",
)
@click.option("--workers", type=click.IntRange(1), help="Sounds at a time; one a core by default.")
@click.option("--quiet", is_flag=True, help="No progress bars, and only what went wrong.")
@json_option
@click.pass_context
def map_command(
    context: click.Context,
    store: Path,
    output: str,
    projections: tuple[str, ...],
    landmarks: int | None,
    embed_audio: bool,
    no_audio: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a page on which every sound is a point: look, search, and click to listen.

    STORE is what `coala-latent encode` wrote, or a folder of `coala-latent doc2vec`. The page opens
    by double click; it needs no server and no network. Sounds that are alike lie close together.
    """
    if embed_audio and no_audio:
        raise click.UsageError("--embed-audio and --no-audio exclude each other")
    from coala_latent.tasks import sound_map as task

    audio = "embed" if embed_audio else "none" if no_audio else "link"
    if landmarks is not None:
        options["landmarks"] = landmarks
    wanted = task.MapOptions(projections=projections, audio=audio, **options)  # type: ignore[arg-type]
    summary = task.make_sound_map(store, output, wanted, quiet=quiet or as_json)
    _report(summary.to_dict())
    if as_json:
        click.echo(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
    elif not quiet:
        _results(summary.to_dict())
    context.exit(summary.exit_status)


def _say(text: str) -> None:
    console().print(text, markup=False, highlight=False, soft_wrap=True)


def _report(summary: dict[str, Any]) -> None:
    """What went wrong."""
    _listing(
        f"not found below {summary['root'] or 'the working folder'} (say where with --audio-root)",
        [(name, "") for name in summary["missing"]],
    )
    _listing(
        "on another drive than the page (write it there, or make a folder with --output FOLDER/)",
        [(name, "") for name in summary["unreachable"]],
    )
    _listing("cannot be heard on the page", summary["unplayable"])
    _listing("without picture", summary["no_picture"])
    if summary["without_vector"]:
        _say(f"{summary['without_vector']} recordings have no vector and are left out")


def _listing(title: str, names: list[Any]) -> None:
    for name, why in names[:_LISTED]:
        _say(f"{name}: {why or title}")
    if len(names) > _LISTED:
        _say(f"... and {len(names) - _LISTED} more: {title}")


def _results(summary: dict[str, Any]) -> None:
    for table, matched in summary["matched"].items():
        _say(f"{table}: knows {matched} of {summary['recordings']} recordings")
    for name, text in summary["projections"].items():
        _say(f"{name}: {text}")
    if summary["points"] < summary["points_of"]:
        _say(f"{summary['points']} of {summary['points_of']} points, drawn at random")
    if summary["sounds_megabytes"]:
        converted = f", {summary['converted']} converted to mp3" if summary["converted"] else ""
        _say(f"sounds: {summary['sounds_megabytes']:.1f} MB{converted}")
    if summary["pictures_folder"]:
        size = f"{summary['pictures_megabytes']:.1f} MB"
        _say(f"spectrograms: {size} -> {summary['pictures_folder']} (keep it beside the page)")
    _say(
        f"{summary['points']} points of {summary['recordings']} recordings, "
        f"{summary['page_megabytes']:.1f} MB -> {summary['page']}"
    )
