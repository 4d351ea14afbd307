"""``coala-latent concepts``: concept vectors, and which concept lies in which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coala_latent.cli.concept_listening import (
    activations_command,
    explain_command,
    top_command,
)
from coala_latent.cli.options import audio_root_option, json_option
from coala_latent.tasks.progress import console

__all__ = ["concepts_group"]

_PATH = click.Path(path_type=Path)
_STRONGEST = 20
_RESUME = ("resume=auto", "resume=no")

quiet_option = click.option("--quiet", is_flag=True, help="No progress, no tables.")


def label_options(command: Any) -> Any:
    """Where it stands which recording belongs to which concept."""
    for option in (
        click.option(
            "--labels",
            required=True,
            metavar="TABLE|folders",
            help="A table with columns recording and concept, or with columns of tags "
            "(--column), the published playlists (.npy), or the recordings' folders.",
        ),
        click.option("--column", "columns", multiple=True, help="Of tags; may be repeated."),
        click.option("--key", help="Column that names the recordings."),
        click.option(
            "--group",
            metavar="REGEX",
            help="Recordings for whose names its first group captures the same stay together.",
        ),
        click.option("--group-column", help="Likewise a column of the table, such as the artist."),
    ):
        command = option(command)
    return command


def _source(given: dict[str, Any]) -> Any:
    from coala_latent.tasks.concept_sources import ConceptSource

    labels = given["labels"]
    return ConceptSource(
        labels if labels == "folders" else Path(labels),
        given["columns"],
        given["key"],
        given["group"],
        given["group_column"],
    )


@click.group("concepts")
def concepts_group() -> None:
    """Learn a vector for every concept, and find which concept lies in which."""


@concepts_group.command("train")
@click.argument("store", type=_PATH)
@click.argument("output", type=_PATH)
@label_options
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...")
@quiet_option
@json_option
def train_command(
    store: Path,
    output: Path,
    settings: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Train a vector for every concept on the embeddings of STORE, all at once.

    OUTPUT gets concepts.safetensors, metrics.csv, set_aside.csv and split.csv. KEY=VALUE are those
    of configs/concepts.yaml, such as min_recordings=20 or epochs=50; a run that was cut off goes
    on, with resume=no it starts anew.
    """
    from coala_latent.tasks.concept_settings import compose_concepts
    from coala_latent.tasks.concept_sources import store_concepts
    from coala_latent.tasks.concept_training import train_concepts

    # How to run, not what: no key of the configuration, which says whether a run can go on.
    resume = "no" if "resume=no" in settings else "auto"
    chosen = compose_concepts([each for each in settings if each not in _RESUME])
    table = store_concepts(store, _source(given))
    found = train_concepts(store, table, chosen, output, resume=resume, quiet=quiet or as_json)
    if as_json:
        summary = {
            "output": str(output),
            "accepted": found.accepted,
            "metrics": found.metrics,
            "set_aside": dict(found.set_aside),
        }
        click.echo(json.dumps(summary, indent=2))
        return
    if not quiet:
        _metrics_table(found.metrics)
    for name, why in list(found.set_aside.items())[:_STRONGEST]:
        _say(f"set aside {name}: {why}")
    _say(
        f"{len(found.metrics)} concepts of {len(table.recordings)} recordings, "
        f"{len(found.accepted)} accepted, "
        f"{len(found.set_aside)} set aside -> {output}"
    )


def _metrics_table(metrics: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("concept", "recordings", "balanced accuracy", "AUC")
    order = sorted(metrics.items(), key=lambda item: -item[1]["balanced_accuracy"]["mean"])
    for name, found in order[:_STRONGEST]:
        scores = [found["balanced_accuracy"], found["auc"]]
        shown = [f"{s['mean']:.3f} ({s['low']:.3f} .. {s['high']:.3f})" for s in scores]
        table.add_row(Text(name), str(found["recordings"]), *shown)
    console().print(table)
    if len(order) > _STRONGEST:
        _say(f"... and {len(order) - _STRONGEST} more in metrics.csv")


@concepts_group.command("convert")
@click.argument("published", type=_PATH)
@click.argument("output", type=_PATH)
@click.option(
    "--layer",
    type=click.Choice(["pool3", "pool4", "pool5", "output"]),
    default="pool5",
    show_default=True,
)
def convert_command(published: Path, output: Path, layer: str) -> None:
    """Read published vectors (apm_genres_cav.npy ...) and write OUTPUT (.safetensors)."""
    from coala_latent.tasks.concept_collecting import convert

    _say(f"{convert(published, output, layer)} concepts -> {output}")


@concepts_group.command("aggregate")
@click.argument("inputs", nargs=-1, required=True, type=_PATH)
@click.option("--output", required=True, type=_PATH, help="A .safetensors file.")
@click.option("--min-recordings", default=39, show_default=True, type=click.IntRange(1))
@click.option("--max-recordings", default=251, show_default=True, type=click.IntRange(1))
@click.option("--min-accuracy", default=0.7, show_default=True, type=click.FloatRange(0, 1))
@json_option
def aggregate_command(inputs: tuple[Path, ...], output: Path, as_json: bool, **limits: Any) -> None:
    """One file of the concepts with enough recordings (below the maximum) and accuracy."""
    from coala_latent.tasks.concept_collecting import aggregate

    found = aggregate(inputs, output, **limits)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    left = ", ".join(
        f"{len(names)} {reason.replace('_', ' ')}"
        for reason, names in found.items()
        if reason != "kept"
    )
    _say(f"{found['kept']} concepts kept ({left}) -> {output}")


@concepts_group.command("project")
@click.argument("store", type=_PATH)
@click.argument("concepts", type=_PATH)
@click.argument("output", type=_PATH)
@label_options
@click.option(
    "--part",
    type=click.Choice(["test", "all"]),
    default="test",
    show_default=True,
    help="Recordings held out in training, or all (for vectors from elsewhere).",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Least balanced accuracy of a concept; that of the training by default.",
)
@click.option(
    "--trained",
    type=_PATH,
    metavar="FOLDER",
    help="Of the training, which tells what was held out; the folder of CONCEPTS by default.",
)
def project_command(
    store: Path,
    concepts: Path,
    output: Path,
    part: Any,
    threshold: float | None,
    trained: Path | None,
    **given: Any,
) -> None:
    """Project held-out recordings of STORE on CONCEPTS (.safetensors); OUTPUT is a folder."""
    from coala_latent.tasks.concept_projecting import project

    found = project(
        store, concepts, _source(given), output, part=part, threshold=threshold, trained=trained
    )
    _say(
        f"{len(found.recordings)} recordings on {len(found.names)} concepts -> {output}",
    )


@concepts_group.command("hierarchy")
@click.argument("projections", type=_PATH)
@click.argument("output", type=_PATH)
@click.option(
    "--protocol",
    type=click.Choice(["calibrated", "original"]),
    default="calibrated",
    show_default=True,
    help="original: the paper's graph, betweenness and tree.",
)
@click.option("--threshold", default=0.5, show_default=True, help="Of the links.")
@click.option("--density", type=click.FloatRange(0, 1), help="Choose the threshold by density.")
@click.option("--max-children", default=20, show_default=True, type=click.IntRange(1))
@click.option("--parents", default=1, show_default=True, type=click.IntRange(1))
@click.option("--min-similarity", default=0.2, show_default=True)
@click.option("--margin", default=0.2, show_default=True)
@click.option(
    "--false-edge-rate",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Expected share of false edges (calibrated); 1: no test.",
)
@click.option(
    "--pivots", type=click.IntRange(1), help="Estimate betweenness from so many concepts."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--reference",
    type=_PATH,
    metavar="TABLE",
    help="CSV with columns parent and child: what should be found.",
)
@click.option(
    "--vectors",
    multiple=True,
    metavar="NAME=FILE.csv",
    help="Other vectors of the concepts, such as word embeddings: a line is a name, then numbers.",
)
@click.option("--intervals/--no-intervals", default=True, show_default=True)
@quiet_option
@json_option
def hierarchy_command(
    projections: Path,
    output: Path,
    false_edge_rate: float,
    reference: Path | None,
    vectors: tuple[str, ...],
    intervals: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Find which concept lies in which; OUTPUT is a folder with hierarchy.json."""
    from coala_latent.analysis.concept_graph import HierarchySettings
    from coala_latent.tasks.concept_hierarchies import edges_table, hierarchy

    named = {}
    for each in vectors:
        name, equals, file = each.partition("=")
        if not equals:
            raise click.UsageError(f"--vectors {each}: write NAME=FILE.csv")
        named[name] = Path(file)
    rate = None if false_edge_rate >= 1 else false_edge_rate
    chosen = HierarchySettings(false_edge_rate=rate, **settings)
    found = hierarchy(
        projections, output, chosen, reference=reference, vectors=named, intervals=intervals
    )
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not quiet:
        _edges(edges_table(found, _STRONGEST), found)
    tree = found["tree"]["statistics"]
    _say(
        f"{tree['concepts']} concepts, {tree['edges']} edges, {tree['top']} at the root, depth "
        f"{tree['depth']} -> {output}"
    )


def _edges(lines: list[tuple[str, ...]], found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("concept", "lies in", "strength", "95 % interval")
    for parent, child, strength, interval in lines:
        table.add_row(Text(child), Text(parent), strength, interval)
    console().print(table)
    if found["comparison"]:
        table = Table("graph", "edges", "precision", "recall", "F1", "F1 of ancestors")
        for name, figures in found["comparison"]["graphs"].items():
            edges, above = figures["edges"], figures["ancestors"]
            shown = [f"{edges[key]:.2f}" for key in ("precision", "recall", "f1")]
            table.add_row(name, str(edges["found"]), *shown, f"{above['f1']:.2f}")
        console().print(table)


@concepts_group.command("graph")
@click.argument("hierarchy", type=_PATH)
@click.option(
    "--output",
    required=True,
    type=_PATH,
    help="An interactive page (.html), a picture (.png), or .graphml, .json, .nwk, .csv.",
)
@click.option("--title")
@audio_root_option
@click.option("--threshold", type=float, help="Leave out weaker edges (not of a page).")
@click.option("--matrix", is_flag=True, help="Draw the similarities instead of the tree (.png).")
@json_option
@click.pass_context
def graph_command(
    context: click.Context, hierarchy: Path, output: Path, as_json: bool, **options: Any
) -> None:
    """Write a hierarchy as a page to look at and to listen to, as a picture, or for programs.

    Exit status: 1 where example sounds were not found.
    """
    from coala_latent.tasks.concept_pages import write_concept_graph

    done = write_concept_graph(hierarchy, output, **options)
    if done.missing:
        _say(
            f"{len(done.missing)} sounds not found, the first {done.missing[0]} (say where with "
            "--audio-root)"
        )
    if as_json:
        click.echo(json.dumps(done.to_dict(), indent=2))
    else:
        _say(f"{done.concepts} concepts, {done.edges} edges -> {done.path}")
    context.exit(1 if done.missing else 0)


def _say(text: str) -> None:
    console().print(text, markup=False, highlight=False, soft_wrap=True)


for _command in (explain_command, top_command, activations_command):
    concepts_group.add_command(_command)
