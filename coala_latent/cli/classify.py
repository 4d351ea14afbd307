"""``coala-latent classify``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.cli.clusters import WHOLE_OR_NOT, parse_labels
from coala_latent.cli.options import json_option
from coala_latent.errors import ConfigError, DependencyError
from coala_latent.tasks.progress import console

__all__ = ["classify_command"]

_KINDS = ("linear_svm", "logistic")
_TRAINING = frozenset({"by", "classifiers", "folds", "group", "group_column", "seed", "save"})


@click.command("classify", epilog=WHOLE_OR_NOT)
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    callback=parse_labels,
    metavar="TABLE|folders",
    help="A CSV, TSV or JSON Lines table (FMA's tracks.csv too), or the recordings' folders.",
)
@click.option("--column", help="Column of the table, such as genre_top.")
@click.option("--key", help="Column of the table that names the recordings.")
@click.option(
    "--by",
    type=click.Choice(["files", "rows"]),
    default="files",
    show_default=True,
    help="Classify a recording's mean vector, or each of its rows, whose answers are averaged.",
)
@click.option(
    "--classifier",
    "classifiers",
    multiple=True,
    type=click.Choice(_KINDS),
    help="May be repeated; both by default.",
)
@click.option("--folds", default=5, show_default=True, type=click.IntRange(2))
@click.option(
    "--group",
    metavar="REGEX",
    help="Recordings for whose names its first group captures the same stay in one fold.",
)
@click.option("--group-column", help="Likewise for a column of the table, such as the artist.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for classify.json, predictions.csv and the confusion matrices (csv, png).",
)
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.safetensors",
    help="Train on all labelled recordings and keep the classifier; needs a single --classifier.",
)
@click.option(
    "--apply",
    "model",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.safetensors",
    help="Classify the recordings with a saved classifier instead; labels then only test it.",
)
@click.option(
    "--picture/--no-picture",
    default=None,
    help="Draw the confusion matrices; by default where matplotlib is installed.",
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
@click.pass_context
def classify_command(
    context: click.Context,
    store: Path,
    labels: Any,
    output: Path | None,
    save: Path | None,
    model: Path | None,
    picture: bool | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Test linear classifiers on the labelled recordings of a store; keep one, or apply it."""
    from coala_latent.tasks import classify as task
    from coala_latent.tasks.classify_files import classify_tables

    if model is None and labels is None:
        raise ConfigError("give --labels to train with, or --apply a saved classifier")
    drawn = output is not None and labels is not None and _drawn(picture)
    if model is not None:
        _only_applied(context)
        result = task.apply_classifier(
            model,
            store,
            output,
            labels=labels,
            column=options["column"],
            key=options["key"],
            picture=drawn,
        )
    else:
        options["classifiers"] = options["classifiers"] or _KINDS
        settings = task.ClassifyOptions(labels=labels, picture=drawn, **options)
        result = task.classify(store, settings, output, save=save, quiet=quiet)
    _notes(result)
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        out = Console(highlight=False)
        for table in classify_tables(result):
            out.print(table)
        if model is not None and output is None:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(["path", "class", "score"])
            for each in result["predictions"]:
                writer.writerow([each["path"], each["class"], f"{each['score']:.6f}"])
    for path in (output, save):
        if path is not None:
            console().print(f"-> {path}", markup=False, soft_wrap=True)


def _only_applied(context: click.Context) -> None:
    """Options of training would be passed over in silence."""
    source = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) == source
        if given and parameter.name in _TRAINING:
            raise ConfigError(f"{parameter.opts[0]} is of training: leave it out with --apply")


def _drawn(wanted: bool | None) -> bool:
    """Whether to draw: as asked, or where it is possible."""
    from coala_latent.tasks.pictures import require_matplotlib

    if wanted is None:
        try:
            require_matplotlib()
        except DependencyError as error:
            console().print(f"no picture: {error}", markup=False, soft_wrap=True)
            return False
    return wanted is not False


def _notes(result: dict[str, Any]) -> None:
    """What was left out."""
    out = console()
    lines = [
        f"{count} recordings of {name} are set aside: fewer (or fewer groups) than folds"
        for name, count in result.get("set_aside", {}).items()
    ]
    lines += [f"the classifier knows no {name}" for name in result.get("unknown_labels", ())]
    if result.get("without_label"):
        lines.append(f"{result['without_label']} recordings have no label")
    if result["failed"]:
        lines.append(f"{result['failed']} recordings without vectors are left out")
    for kind, count in result.get("unconverged", {}).items():
        if count:
            lines.append(f"{count} fits of {kind} stopped before they converged")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
