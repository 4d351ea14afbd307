"""``coala-latent predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.cli.options import EXIT_STATUS
from coala_latent.errors import ConfigError
from coala_latent.tasks.progress import console

__all__ = ["predict_command"]


@click.command("predict", epilog=EXIT_STATUS)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    required=True,
    help="Name (`coala-latent models` lists them) or .safetensors file, of a model with classes.",
)
@click.option(
    "--scores",
    "names",
    multiple=True,
    help="Set of classes, such as scenes; may be repeated; all of the model's by default.",
)
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Classes a row.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
)
@click.option("--png", type=click.Path(path_type=Path), help="Score map over time, of one file.")
@click.option(
    "--histograms",
    type=click.Path(path_type=Path),
    help="All scores at each step of time, as a PNG, of one file.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, auto.")
@click.option("--patch-hop", type=click.IntRange(1), help="Frames between rows.")
@click.option("--short", type=click.Choice(["pad", "tile", "error"]), help="Short sounds.")
@click.option("--keep-truncated", is_flag=True, help="Use what is there of files cut short.")
@click.pass_context
def predict_command(
    context: click.Context,
    inputs: tuple[Path, ...],
    model: str,
    names: tuple[str, ...],
    top: int,
    form: str,
    png: Path | None,
    histograms: Path | None,
    device: str,
    patch_hop: int | None,
    short: Any,
    keep_truncated: bool,
) -> None:
    """Print the classes with the highest scores over time, of files or folders."""
    from coala_latent.embed.scores import load_predictor
    from coala_latent.tasks import predict as task

    predictor = load_predictor(
        model,
        names or None,
        device=device,
        patch_hop=patch_hop,
        short=short,
        allow_truncated=keep_truncated,
    )
    paths = task.sound_files(inputs)
    if (png or histograms) and len(paths) != 1:
        raise ConfigError(f"--png and --histograms draw one file: {len(paths)} are given")
    failed, entries = False, []
    if form == "csv":
        click.echo(task.csv_header(), nl=False)
    for path in paths:
        file = task.predict_file(predictor, path)
        failed = failed or bool(file.error)
        if file.error:
            console().print(f"skipped {file.error}", markup=False, soft_wrap=True)
        if form == "json":
            entries.append(task.prediction_json(file, top))
        elif form == "csv":
            click.echo(task.prediction_csv(file, top), nl=False)
        elif not file.error:
            for table in task.prediction_tables(file, top):
                Console().print(table)
        if not file.error:
            _draw(file, png, histograms)
    if form == "json":
        values = task.predictions_json(predictor, entries)
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
    context.exit(1 if failed else 0)


def _draw(file: Any, png: Path | None, histograms: Path | None) -> None:
    if not (png or histograms):
        return
    from coala_latent.tasks.score_pictures import draw_score_histograms, draw_score_map

    for path, draw in ((png, draw_score_map), (histograms, draw_score_histograms)):
        if path is None:
            continue
        for name, scores in file.scores.items():
            target = path.with_stem(f"{path.stem}-{name}") if len(file.scores) > 1 else path
            draw(scores, f"{file.path.name}: {name}", target)
            console().print(f"picture -> {target}", markup=False, soft_wrap=True)
