"""``coala-latent export``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from coala_latent.cli.options import POOLINGS, Reporting, json_option
from coala_latent.tasks.progress import console

__all__ = ["export_command"]


@click.command("export", cls=Reporting)
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--layer", "layers", multiple=True, help="Layer to embed; may be repeated for patch models."
)
@click.option("--pooling", type=click.Choice(POOLINGS), default="mean", show_default=True)
@click.option("--patch-hop", type=click.IntRange(1), help="Frames between rows.")
@click.option("--scores/--no-scores", default=True, show_default=True, help="Classes, if any.")
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Run the file with onnxruntime and compare.",
)
@json_option
def export_command(
    model: str,
    output: Path,
    layers: tuple[str, ...],
    pooling: str,
    patch_hop: int | None,
    scores: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Write a model as one ONNX file, from the waveform to embeddings and scores.

    MODEL is a name (`coala-latent models` lists them) or a .safetensors file; OUTPUT ends with
    .onnx. Batch and length of the input stay open.
    """
    from coala_latent.tasks.export import export_model

    done = export_model(
        model,
        output,
        layers=layers,
        pooling=pooling,
        patch_hop=patch_hop,
        scores=scores,
        check=check,
    )
    if as_json:
        summary = {
            "output": str(done.path),
            "megabytes": done.megabytes,
            "errors": done.errors,
            "metadata": done.metadata,
        }
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    out = console()
    for name, error in done.errors.items():
        out.print(f"{name}: within {error:.1e} of the library's largest value", markup=False)
    out.print(f"{done.megabytes:.1f} MB -> {done.path}", markup=False, soft_wrap=True)
