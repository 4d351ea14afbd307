"""Progress bars on standard error, so that standard output stays clean for results."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["console", "progress_bar"]


def console() -> Console:
    """For messages to a person."""
    return Console(stderr=True, highlight=False)


class _Note(ProgressColumn):
    """The field ``note``, where a task has it."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


def progress_bar(*, quiet: bool = False) -> Progress:
    """A bar with count, times and, where it is given, a text ``note``."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        _Note(),
        console=console(),
        disable=quiet,
    )
