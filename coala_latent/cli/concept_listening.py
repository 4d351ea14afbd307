"""``coala-latent concepts explain``, ``top`` and ``activations``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.options import json_option
from coala_latent.tasks.progress import console

__all__ = ["activations_command", "explain_command", "top_command"]

_PATH = click.Path(path_type=Path)


@click.command("explain")
@click.argument("sound", type=_PATH)
@click.argument("concepts", type=_PATH)
@click.option("--top", default=10, show_default=True, type=click.IntRange(1))
@click.option("--png", type=_PATH, help="Draw the concepts over time.")
@click.option("--model", help="Model file, where it is not registered by name.")
@click.option("--device", default="cpu", show_default=True)
@json_option
def explain_command(
    sound: Path,
    concepts: Path,
    top: int,
    png: Path | None,
    model: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Which of CONCEPTS (.safetensors) are heard in SOUND, and when."""
    from rich.table import Table
    from rich.text import Text

    from coala_latent.tasks.concept_listening import explain

    found = explain(sound, concepts, model=model, device=device)
    strongest = found.strongest(top)
    if png is not None:
        from coala_latent.tasks.concept_pictures import draw_activations

        draw_activations(
            found.names, found.probability, found.start, found.end, png, title=sound.name
        )
    if as_json:
        listed = [
            {"concept": name, "mean": mean, "highest": peak, "highest_at": at}
            for name, mean, peak, at in strongest
        ]
        click.echo(json.dumps({"sound": str(sound), "concepts": listed}, indent=2))
        return
    table = Table("concept", "mean", "highest", "at")
    for name, mean, peak, at in strongest:
        table.add_row(Text(name), f"{mean:.3f}", f"{peak:.3f}", f"{at:.1f} s")
    console().print(table)


@click.command("top")
@click.argument("store", type=_PATH)
@click.argument("concepts", type=_PATH)
@click.argument("expression")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1))
@click.option("--by", type=click.Choice(["files", "rows"]), default="files", show_default=True)
@json_option
def top_command(
    store: Path, concepts: Path, expression: str, top: int, by: Any, as_json: bool
) -> None:
    """Recordings of STORE in which a concept is heard best; 'jazz + sad - piano' works, too."""
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from coala_latent.tasks.concept_listening import top_recordings

    found = top_recordings(store, concepts, expression, count=top, by=by)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=2))
        return
    table = Table("recording", "seconds", "score")
    for each in found:
        table.add_row(Text(each.path), f"{each.start:.1f} .. {each.end:.1f}", f"{each.score:.3f}")
    console().print(table)


@click.command("activations")
@click.argument("store", type=_PATH)
@click.argument("concepts", type=_PATH)
@click.argument("output", type=_PATH)
@click.option("--concept", "names", multiple=True, help="Only these; may be repeated.")
def activations_command(store: Path, concepts: Path, output: Path, names: tuple[str, ...]) -> None:
    """A CSV of each recording's concepts, for `coala-latent map STORE --metadata OUTPUT`."""
    from coala_latent.tasks.concept_listening import write_activations

    recordings, count = write_activations(store, concepts, output, names)
    done = f"{recordings} recordings, {count} concepts -> {output}"
    console().print(done, markup=False, highlight=False, soft_wrap=True)
