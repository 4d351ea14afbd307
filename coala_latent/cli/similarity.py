"""``coala-latent similarity`` and ``pairs``: what embeddings have in common with other things."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from coala_latent.cli.options import EXIT_STATUS, json_option
from coala_latent.tasks.progress import console

__all__ = ["pairs_command", "similarity_command"]


@click.command("similarity", epilog=EXIT_STATUS)
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    help="Name or .safetensors file; may be repeated.",
)
@click.option("--layer", help="Layer to embed, of every model.")
@click.option(
    "--components",
    type=click.IntRange(0),
    help="Principal components in CCA; 0 for all dimensions; by default one for ten sounds.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, auto.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
@click.pass_context
def similarity_command(
    context: click.Context,
    inputs: tuple[Path, ...],
    models: tuple[str, ...],
    layer: str | None,
    components: int | None,
    seed: int,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """CCA and CKA of the embeddings of sounds with MFCC, chroma and spectral descriptors."""
    from coala_latent.embed.embedder import load_model
    from coala_latent.tasks.labelled import report_skipped
    from coala_latent.tasks.similarity import similarity, similarity_tables

    embedders = {model: load_model(model, layer, device=device) for model in models}
    result = similarity(inputs, embedders, components=components, seed=seed, quiet=quiet)
    report_skipped(result)
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        for table in similarity_tables(result):
            Console().print(table)
        for entry in result["between"]:
            first, second = entry["models"]
            value = entry["cka_unbiased"]
            shown = value if isinstance(value, str) else f"{value:.3f}"
            Console().print(f"unbiased CKA of {first} with {second}: {shown}", markup=False)
        for why in sorted(_errors(result)):
            console().print(f"- {why}", markup=False, soft_wrap=True)
    context.exit(1 if result["skipped"] else 0)


def _errors(result: dict[str, dict[str, dict[str, dict[str, dict[str, str]]]]]) -> set[str]:
    return {
        found["error"]
        for model in result["models"].values()
        for found in model["descriptors"].values()
        if "error" in found
    }


@click.command("pairs", epilog=EXIT_STATUS)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--model", required=True, help="Name or .safetensors file of a COALA model.")
@click.option("--png", required=True, type=click.Path(path_type=Path), help="The picture.")
@click.option(
    "--tags",
    "table",
    type=click.Path(path_type=Path),
    help="CSV, TSV or JSON Lines with columns path and tags; by default the words of the folders' "
    "names.",
)
@click.option(
    "--method",
    type=click.Choice(["tsne", "pca"]),
    default="tsne",
    show_default=True,
    help="Layout.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, auto.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
@json_option
@click.pass_context
def pairs_command(
    context: click.Context,
    folder: Path,
    model: str,
    png: Path,
    table: Path | None,
    method: str,
    seed: int,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Draw sounds and their tags in the space they share, joined by lines."""
    from coala_latent.tasks.labelled import report_skipped
    from coala_latent.tasks.pairs import pairs

    result = pairs(
        folder, model, png, table=table, method=method, seed=seed, device=device, quiet=quiet
    )
    report_skipped(result)
    out = console()
    if result["unknown_tags"]:
        words = ", ".join(result["unknown_tags"])
        out.print(f"not in the vocabulary: {words}", markup=False, soft_wrap=True)
    if result["without_tags"]:
        out.print(f"left out, without a known tag: {len(result['without_tags'])} sounds")
    if as_json:
        click.echo(json.dumps(result, indent=2))
    else:
        out.print(
            f"cosine with own tags {result['cosine_own_tags']:.3f}; own tags nearest for "
            f"{100 * result['own_tags_nearest']:.1f} % of {result['sounds']} sounds; "
            f"picture -> {png}",
            markup=False,
            soft_wrap=True,
        )
    context.exit(1 if result["skipped"] else 0)
