"""``build-dataset``: from sounds with tags to files to train from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.options import EXIT_STATUS, json_option
from coala_latent.tasks.progress import console

__all__ = ["build_dataset_command"]

# Of what was skipped, how much is printed; all of it is in the report.
_PRINTED = 20


@click.command("build-dataset", epilog=EXIT_STATUS)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--tags",
    "table",
    required=True,
    metavar="CSV|JSONL|folders",
    help="Table with columns path (or id) and tags, or `folders`: the names of the folders.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="NAME of the training file; NAME_val and NAME.json are written beside it.",
)
@click.option("--path-column", help="Column of file names below FOLDER; path, file or filename.")
@click.option("--id-column", help="Column of file names without suffix; id or fs_id.")
@click.option("--tags-column", help="Column of tags between spaces, ; | or ,; tags or tag.")
@click.option("--group", metavar="COLUMN", help="Column of what stays together, as the uploader.")
@click.option(
    "--group-pattern",
    metavar="REGEX",
    help="The same, found in the names by the expression's first group: '^(\\d+)-'.",
)
@click.option(
    "--exclude",
    type=click.Path(path_type=Path),
    help="File of ids, names or groups to leave out: a line each, or a JSON list.",
)
@click.option(
    "--patches",
    type=click.Choice(["loudest", "random"]),
    default="loudest",
    show_default=True,
    help="Which 2.2 s of a sound: the original's rule, or any.",
)
@click.option(
    "--front-end",
    type=click.Choice(["legacy", "standard"]),
    default="legacy",
    show_default=True,
    help="Of the model to be trained; patches of legacy do for both.",
)
@click.option(
    "--scaler",
    type=click.Choice(["fitted", "published"]),
    default="fitted",
    show_default=True,
    help="Scale patches by the training part, or by the original's constants.",
)
@click.option(
    "--size", default=1000, show_default=True, type=click.IntRange(1), help="Tags at most."
)
@click.option(
    "--min-count",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Sounds that a tag must have.",
)
@click.option(
    "--max-share",
    default=0.7,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the sounds beyond which a tag says nothing.",
)
@click.option(
    "--validation",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the sounds, whole groups.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--max-seconds",
    default=600.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Longer sounds are looked at up to here.",
)
@click.option(
    "--workers", type=click.IntRange(1), help="Sounds analysed at a time; one a core by default."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
@click.pass_context
def build_dataset_command(
    context: click.Context,
    folder: Path,
    table: str,
    output: Path,
    path_column: str | None,
    id_column: str | None,
    tags_column: str | None,
    group: str | None,
    group_pattern: str | None,
    exclude: Path | None,
    workers: int | None,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Turn a folder of sounds with tags into HDF5 files to train COALA from.

    Tags are cleaned, the most frequent become the vocabulary, and groups are split so that both
    parts have every tag in the same proportion. Then: python train.py experiment=coala_ae_c
    data=hdf5 patches=stored data.train=NAME data.validation=NAME_val
    """
    from coala_latent.data.tag_sources import TagSource
    from coala_latent.data.tag_tables import TableColumns
    from coala_latent.errors import ConfigError
    from coala_latent.tasks.build_dataset import BuildSettings, build_dataset

    columns = TableColumns(path_column, id_column, tags_column, group)
    if table == "folders" and columns != TableColumns():
        raise ConfigError("--tags folders has no columns (group by --group-pattern)")
    tags = TagSource(None if table == "folders" else Path(table), columns, group_pattern, exclude)
    report = build_dataset(
        folder,
        output,
        tags,
        BuildSettings(**settings),
        overwrite=overwrite,
        workers=workers,
        quiet=quiet,
    )
    _tell(report, output, as_json)
    failed = report["skipped_counts"].keys() & {"unreadable", "missing"}
    context.exit(1 if failed else 0)


def _tell(report: dict[str, Any], output: Path, as_json: bool) -> None:
    out = console()
    for entry in report["skipped"][:_PRINTED]:
        out.print(f"skipped {entry['name']}: {entry['reason']}", markup=False, soft_wrap=True)
    if len(report["skipped"]) > _PRINTED:
        out.print(f"... {len(report['skipped'])} in all, listed in the report")
    if as_json:
        click.echo(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for part in ("train", "validation"):
        made = report[part]
        click.echo(f"{part:10}  {made['sounds']:>7} sounds  {output.with_name(made['file'])}")
    click.echo(f"{'tags':10}  {len(report['vocabulary']):>7}")
    if report["shortened"]:
        limit = report["settings"]["max_seconds"]
        click.echo(f"{'shortened':10}  {report['shortened']:>7} sounds, to {limit:g} s")
