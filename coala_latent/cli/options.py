"""What the commands share: how errors are reported, and options that several of them take."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from coala_latent.errors import CoalaLatentError
from coala_latent.tasks.progress import console

__all__ = [
    "EXIT_STATUS",
    "HELP",
    "INTERRUPTED",
    "Reporting",
    "ReportingGroup",
    "audio_root_option",
    "fail",
    "json_option",
    "model_options",
    "parse_names",
    "parse_shard",
    "print_listing",
    "probe_options",
]

HELP = {"help_option_names": ["-h", "--help"]}
FAILURE = 2
INTERRUPTED = 130
POOLINGS = ("mean", "max", "mean+max", "mean+std", "time", "flatten")
EXIT_STATUS = (
    "Exit status: 0 all good, 1 some sounds were skipped, 2 could not run, 130 interrupted."
)


class Reporting(click.Command):
    """Turns the library's errors into one line and exit status 2."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except CoalaLatentError as error:
            fail(context, f"error: {error}", FAILURE)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: click's own case
                raise
            fail(context, f"error: {error}", FAILURE)
        except KeyboardInterrupt:
            fail(context, "interrupted", INTERRUPTED)


class ReportingGroup(Reporting, click.Group):
    """The same for a command with sub-commands."""


def fail(context: click.Context, message: str, status: int) -> None:
    """End the command with a message to the person and an exit status."""
    console().print(message, style="red", markup=False, soft_wrap=True)
    context.exit(status)


def print_listing(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """One line each, nothing cut; the last column, a description, where there is room for it."""
    lines = [headings, *rows]
    *sizes, described = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = Console().width >= sum(sizes) + 2 * len(sizes) + described
    for line in lines:
        cells = [cell.ljust(size) for cell, size in zip(line, sizes, strict=False)]
        click.echo("  ".join([*cells, *line[len(sizes) :][:room]]).rstrip())


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how sounds are embedded."""
    for option in reversed(
        (
            click.option(
                "--model",
                required=True,
                help="Name (`coala-latent models` lists them) or .safetensors file.",
            ),
            click.option(
                "--layer",
                callback=parse_layers,
                help="Layer to embed, or several with commas; the model's default if not given.",
            ),
            click.option(
                "--pooling",
                type=click.Choice(POOLINGS),
                default="mean",
                show_default=True,
                help="How the positions of a layer become one vector.",
            ),
            click.option("--device", default="auto", show_default=True, help="cpu, cuda, auto."),
            click.option(
                "--batch-size",
                default=32,
                show_default=True,
                type=click.IntRange(1),
                help="Rows computed at a time.",
            ),
            click.option(
                "--patch",
                type=click.IntRange(1),
                help="Time steps in a row, of a model that runs along the waveform (SoundNet).",
            ),
            click.option(
                "--patch-hop",
                type=click.IntRange(1),
                help="Frames (or time steps) between rows; a smaller one gives more that overlap.",
            ),
            click.option(
                "--short",
                type=click.Choice(["pad", "tile", "error"]),
                help="Sounds shorter than a patch; the model's policy if not given.",
            ),
            click.option(
                "--channels",
                type=click.Choice(["mean", "first"]),
                default="mean",
                show_default=True,
                help="Average all channels, or take the first.",
            ),
            click.option(
                "--keep-truncated", is_flag=True, help="Use what is there of files cut short."
            ),
        )
    ):
        function = option(function)
    return function


def parse_layers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[str] | None:
    """Names between commas."""
    return None if value is None else [name.strip() for name in value.split(",")]


def parse_shard(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """``i/n`` as two numbers."""
    try:
        index, count = (int(part) for part in value.split("/"))
    except ValueError as error:
        raise click.BadParameter("write it as i/n, such as 0/4") from error
    return index, count


def parse_names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, ...]:
    """Names between commas, each once."""
    if value is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    if not all(names):
        raise click.BadParameter("write names with commas between them")
    return names


def audio_root_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--audio-root``, as the argument ``audio_root``."""
    return click.option(
        "--audio-root",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Where the sounds are, if no longer where they were encoded from.",
    )(function)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Summary as JSON on stdout.")(
        function
    )


def probe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of both probing commands."""
    for option in reversed(
        (
            click.option(
                "--model",
                "models",
                multiple=True,
                help="Name or .safetensors file; may be repeated.",
            ),
            click.option("--layer", help="Layer to embed, of every model."),
            click.option(
                "--layers",
                callback=parse_names,
                metavar="all|NAME,...",
                help="Score each of these layers instead.",
            ),
            click.option(
                "--pictures",
                type=click.Path(path_type=Path, file_okay=False),
                help="With --layers: folder for PNGs of accuracy over layers, and t-SNE of some.",
            ),
            click.option(
                "--tsne",
                callback=parse_names,
                metavar="NAME,...",
                help="Layers for the t-SNE; six, evenly spread, by default.",
            ),
            click.option(
                "--pooling", type=click.Choice(POOLINGS), default="mean", show_default=True
            ),
            click.option("--device", default="auto", show_default=True, help="cpu, cuda, auto."),
            click.option(
                "--probe",
                "probes",
                multiple=True,
                type=click.Choice(["mlp", "logistic", "linear_svm", "knn", "svm", "soundnet_svm"]),
                help="May be repeated; mlp is the original protocol, svm chooses its C within the "
                "training folds. Which are run by default stands below.",
            ),
            click.option(
                "--runs",
                default=10,
                show_default=True,
                type=click.IntRange(1),
                help="Runs of mlp with other seeds.",
            ),
            click.option("--seed", default=0, show_default=True, type=click.IntRange(0)),
            click.option(
                "--baseline/--no-baseline",
                default=True,
                show_default=True,
                help="Score MFCC statistics too.",
            ),
            click.option(
                "--clip-mean",
                type=click.Choice(["time", "rows"]),
                help="Average a clip's rows by the seconds they heard, or all alike.",
            ),
            click.option("--output", type=click.Path(path_type=Path), help="Results as JSON."),
            click.option("--quiet", is_flag=True, help="No progress bars."),
        )
    ):
        function = option(function)
    return json_option(function)
