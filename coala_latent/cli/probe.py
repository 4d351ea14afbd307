"""``probe``: scores of embeddings, or of every layer of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.cli.options import EXIT_STATUS, probe_options
from coala_latent.errors import ConfigError
from coala_latent.tasks.progress import console

__all__ = ["Scored", "deliver", "load_embedders", "probe_command", "score_layers"]

Scored = tuple[dict[str, Any], list[Any]]

_DEFAULTS = (
    "mlp, logistic and knn are the probes unless --probe names some; with --layers svm and knn."
)


@click.command("probe", epilog=f"{_DEFAULTS} {EXIT_STATUS}")
@click.argument("folder", type=click.Path(path_type=Path))
@probe_options
@click.option(
    "--folds", default=5, show_default=True, type=click.IntRange(2), help="Number of splits."
)
@click.option(
    "--group",
    help="Expression whose first group, found in a file's name, stays on one side: '^(\\d+)-'.",
)
@click.pass_context
def probe_command(
    context: click.Context, folder: Path, folds: int, group: str | None, **options: Any
) -> None:
    """Score embeddings on a folder with one sub-folder a class, beside the MFCC baseline.

    With --layers every layer of the models is scored, and drawn with --pictures.
    """
    from coala_latent.tasks.labelled import labelled_folder

    sounds = labelled_folder(folder, group)
    compute = score_layers if options["layers"] else _embeddings
    context.exit(deliver(lambda: compute(sounds, folds, options), options))


def deliver(compute: Callable[[], Scored], options: dict[str, Any]) -> int:
    """Compute results and their tables, show and write them as the options say; exit status."""
    from coala_latent.tasks.labelled import report_skipped
    from coala_latent.weights import write_json

    output: Path | None = options["output"]
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
    result, tables = compute()
    report_skipped(result)
    if options["as_json"]:
        click.echo(json.dumps(result, indent=2))
    else:
        for table in tables:
            Console().print(table)
    if output:
        write_json(output, result)
        console().print(f"results -> {output}", markup=False, soft_wrap=True)
    return 1 if result["skipped"] else 0


def load_embedders(options: dict[str, Any]) -> dict[str, Any]:
    """Embedders of one layer by name; options that show several layers are refused."""
    from coala_latent.embed.embedder import load_model

    if options["pictures"] or options["tsne"]:
        raise ConfigError("--pictures and --tsne show layers: add --layers all")
    loaded = [
        load_model(model, options["layer"], options["pooling"], device=options["device"])
        for model in options["models"]
    ]
    return _named(loaded, options)


def _named(loaded: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Embedders by their model's name, or by how they were asked for where names are alike."""
    names = [embedder.card.name for embedder in loaded]
    if len(set(names)) < len(names):
        names = list(options["models"])
    return dict(zip(names, loaded, strict=True))


def _embeddings(sounds: Any, folds: Any, options: dict[str, Any]) -> Scored:
    from coala_latent.tasks.probe import probe, probe_table

    result = probe(
        sounds,
        load_embedders(options),
        folds,
        probes=options["probes"] or ("mlp", "logistic", "knn"),
        runs=options["runs"],
        seed=options["seed"],
        baseline=options["baseline"],
        clip_mean=options["clip_mean"],
        quiet=options["quiet"],
    )
    return result, [probe_table(result)]


def score_layers(
    sounds: Any, folds: Any, options: dict[str, Any], probes: Sequence[str] = ("svm", "knn")
) -> Scored:
    """Results and tables of every layer that the options name; `probes` unless they name some."""
    from coala_latent.embed.embedder import load_model
    from coala_latent.registry import model_card
    from coala_latent.tasks.layerwise import layer_tables, layerwise

    if options["layer"]:
        raise ConfigError("--layer embeds one layer, --layers scores several: give one of them")
    loaded = []
    for model in options["models"]:
        layers = options["layers"]
        if layers == ("all",):
            layers = tuple(model_card(model).layers)
        loaded.append(load_model(model, layers, options["pooling"], device=options["device"]))
    result = layerwise(
        sounds,
        _named(loaded, options),
        folds,
        probes=options["probes"] or probes,
        runs=options["runs"],
        seed=options["seed"],
        baseline=options["baseline"],
        weighting=options["clip_mean"],
        pictures=options["pictures"],
        tsne=options["tsne"],
        quiet=options["quiet"],
    )
    for name, model in result["models"].items():
        for layer, why in model.get("not_drawn", {}).items():
            console().print(f"{name}, {layer} is not drawn: {why}", markup=False, soft_wrap=True)
        for path in model.get("pictures", ()):
            console().print(f"picture -> {path}", markup=False, soft_wrap=True)
    return result, layer_tables(result)
