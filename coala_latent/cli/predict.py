"""``coala-latent predict``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.cli.options import EXIT_STATUS
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
    found = []
    for file in task.predict_files(predictor, inputs):
        found.append(file)
        if file.error:
            console().print(f"skipped {file.error}", markup=False, soft_wrap=True)
        elif form == "table":
            for table in task.prediction_tables(file, top):
                Console().print(table)
    if form == "json":
        values = task.predictions_json(predictor, found, top)
        click.echo(json.dumps(values, indent=2, ensure_ascii=False))
    elif form == "csv":
        click.echo(task.predictions_csv(found, top), nl=False)
    _draw(found, png, histograms)
    context.exit(1 if any(file.error for file in found) else 0)


def _draw(found: list[Any], png: Path | None, histograms: Path | None) -> None:
    from coala_latent.errors import ConfigError
    from coala_latent.tasks.score_pictures import draw_score_histograms, draw_score_map

    wanted = [(png, draw_score_map), (histograms, draw_score_histograms)]
    if not any(path for path, _ in wanted):
        return
    heard = [file for file in found if not file.error]
    if len(heard) != 1 or len(found) != 1:
        raise ConfigError("--png and --histograms draw one file: give one that can be read")
    for path, draw in wanted:
        if path is None:
            continue
        for name, scores in heard[0].scores.items():
            several = len(heard[0].scores) > 1
            target = path.with_stem(f"{path.stem}-{name}") if several else path
            draw(scores, f"{heard[0].path.name}: {name}", target)
            console().print(f"picture -> {target}", markup=False, soft_wrap=True)
