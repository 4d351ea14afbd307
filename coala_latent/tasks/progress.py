"""Progress bars on standard error, so that standard output stays clean for results."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["console", "progress_bar"]


def console() -> Console:
    """For messages to a person."""
    return Console(stderr=True, highlight=False)


def progress_bar(*, quiet: bool = False) -> Progress:
    """A bar with count, times and a free text field ``note``."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console(),
        disable=quiet,
    )
