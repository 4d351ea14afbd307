"""Results of classifiers: files, pictures and tables for people."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.markup import escape
from rich.table import Table

from coala_latent.analysis.confusion import Confusion
from coala_latent.tasks.labelled import printable
from coala_latent.tasks.pictures import new_figure, plain, save_picture
from coala_latent.weights import write_json

__all__ = ["Answers", "classify_tables", "draw_confusion", "write_results"]

_NUMBERED = 24  # classes up to which every cell shows its number


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier said about recordings.

    Attributes:
        said: Class of each.
        scores: ``(recordings,)`` decision value of this class, or its probability.
        labels: What they are, where that is known.
        fold: ``(recordings,)`` in which each was tested, where there are folds.
    """

    said: list[str]
    scores: npt.NDArray[np.float64]
    labels: Sequence[str | None] | None
    fold: npt.NDArray[np.int64] | None


def write_results(
    output: Path,
    result: Mapping[str, Any],
    names: Sequence[str],
    answers: Mapping[str, Answers],
    confusions: Mapping[str, Confusion],
    picture: bool,
) -> None:
    """Write ``predictions.csv``, the confusion matrices, and last ``classify.json``.

    Args:
        output: Folder; made if needed.
        result: For ``classify.json``.
        names: Of the recordings.
        answers: By classifier.
        confusions: By classifier.
        picture: Draw the confusion matrices too.

    Raises:
        DependencyError: A picture is wanted, and matplotlib is not installed.
    """
    output.mkdir(parents=True, exist_ok=True)
    first = next(iter(answers.values()))
    heading = ["path"]
    columns: list[Sequence[object]] = [[printable(name) for name in names]]
    if first.labels is not None:
        heading.append("label")
        columns.append([printable(label or "") for label in first.labels])
    if first.fold is not None:
        heading.append("fold")
        columns.append(first.fold.tolist())
    for kind, each in answers.items():
        heading += [kind, f"{kind}_score"]
        columns.append([printable(said) for said in each.said])
        columns.append([f"{score:.6f}" for score in each.scores.tolist()])
    _write_csv(output / "predictions.csv", [heading, *zip(*columns, strict=True)])
    for kind, confusion in confusions.items():
        classes = [printable(name) for name in confusion.classes]
        rows = zip(classes, confusion.table.tolist(), strict=True)
        lines = [["true \\ predicted", *classes], *([name, *row] for name, row in rows)]
        _write_csv(output / f"confusion_{kind}.csv", lines)
        if picture:
            draw_confusion(output / f"confusion_{kind}.png", confusion, kind)
    write_json(output / "classify.json", result)


def _write_csv(path: Path, lines: Sequence[Sequence[object]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(out.getvalue(), "utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def draw_confusion(path: Path, confusion: Confusion, title: str) -> None:
    """Shares of each true class as shades, and numbers where there is room.

    Args:
        path: The PNG.
        confusion: What to draw.
        title: Above, before the figures.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    table = confusion.table
    classes = [plain(name) for name in confusion.classes]
    support = table.sum(axis=1, keepdims=True)
    shares = table / np.maximum(support, 1)
    side = max(3.2, 0.42 * len(classes))
    figure = new_figure(side + 2.2, side + 1.4)
    axes = figure.subplots()
    shades = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(np.arange(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(np.arange(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= _NUMBERED:
        for row, column in np.argwhere(table > 0).tolist():
            colour = "white" if shares[row, column] > 0.6 else "black"
            text = str(int(table[row, column]))
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figures = f"accuracy {confusion.accuracy.mean:.3f}, macro F1 {confusion.macro_f1.mean:.3f}"
    axes.set_title(f"{plain(title)}: {figures}", loc="left", fontsize=10)
    figure.colorbar(shades, ax=axes, label="share of the true class", shrink=0.8)
    save_picture(figure, path)


def classify_tables(result: Mapping[str, Any]) -> list[Table]:
    """Accuracy and macro F1 of each classifier, then each class."""
    if not result["classifiers"]:
        return []
    tables = [_overall(result["classifiers"])]
    for kind, scores in result["classifiers"].items():
        table = Table(title=kind, title_justify="left")
        table.add_column("class", overflow="fold")
        for heading in ("precision", "recall", "F1", "support"):
            table.add_column(heading, justify="right")
        for each in scores["per_class"]:
            cells = [_cell(each[name]) for name in ("precision", "recall", "f1")]
            table.add_row(escape(each["class"]), *cells, str(each["support"]))
        tables.append(table)
    return tables


def _overall(classifiers: Mapping[str, Any]) -> Table:
    table = Table(title="mean and 95 % interval", title_justify="left")
    table.add_column("classifier")
    for heading in ("accuracy", "macro F1", "largest class"):
        table.add_column(heading, justify="right", no_wrap=True)
    for kind, scores in classifiers.items():
        cells = [_interval(scores[name]) for name in ("accuracy", "macro_f1")]
        table.add_row(kind, *cells, f"{scores['chance']:.3f}")
    return table


def _interval(value: Mapping[str, Any]) -> str:
    return f"{value['mean']:.3f} [dim]({value['low']:.3f} .. {value['high']:.3f})[/dim]"


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
