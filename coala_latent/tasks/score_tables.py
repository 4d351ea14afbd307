"""Scores of benchmarks as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from coala_latent.tasks.probe import score_cell

__all__ = ["notes", "score_tables"]

_BESIDE = 3  # probes whose intervals have room beside their means


def score_tables(result: Mapping[str, Any]) -> list[Table]:
    """Accuracies, one row a feature set and one column a probe; and the differences of any two."""
    tables = [_accuracies(result)]
    if any(comparison["pairs"] for comparison in result["comparisons"].values()):
        tables.append(_differences(result))
    return tables


def _accuracies(result: Mapping[str, Any]) -> Table:
    comparisons = result["comparisons"]
    fixed = "test" in result["parts"]
    over = (
        f"bootstrap over {result['parts']['test']} test items"
        if fixed
        else f"over {result['folds']} folds"
    )
    table = Table(
        title=(
            f"{result['benchmark']}: accuracy in %, mean and 95 % interval {over}; "
            f"{result['sounds']} sounds, {len(result['classes'])} classes"
        )
    )
    table.add_column("features")
    for kind in comparisons:
        table.add_column(kind, justify="right")
    first = next(iter(comparisons.values()))["results"]
    for name in first:
        cells = [score_cell(comparison["results"][name]) for comparison in comparisons.values()]
        if len(cells) > _BESIDE:
            cells = [cell.replace(" [dim]", "\n[dim]") for cell in cells]
        table.add_row(escape(name), *cells)
    chance = next(iter(first.values()))["chance"]
    table.caption = f"largest class: {100 * chance:.1f} %"
    return table


def _differences(result: Mapping[str, Any]) -> Table:
    comparisons = result["comparisons"]
    by = "test items" if "test" in result["parts"] else "folds"
    table = Table(title=f"differences in percentage points, paired over {by}")
    table.add_column("features")
    table.add_column("probe")
    for heading in ("difference", "95 % interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    columns = [comparison["pairs"] for comparison in comparisons.values()]
    for row in zip(*columns, strict=True):
        name = f"{row[0]['a']} - {row[0]['b']}"
        for kind, pair in zip(comparisons, row, strict=True):
            cells = _difference(pair["items" if "items" in pair else "folds"])
            table.add_row(escape(name), kind, *cells, end_section=kind == list(comparisons)[-1])
            name = ""
    if len(columns[0]) > 1:
        table.caption = f"p is not corrected for {len(columns[0])} comparisons"
    return table


def _difference(test: Mapping[str, Any]) -> tuple[str, str, str]:
    mean, interval = f"{100 * test['difference']:+.1f}", test["interval"]
    if interval["low"] is None:
        return mean, "", ""
    low, high = 100 * interval["low"], 100 * interval["high"]
    p = "< 0.001" if test["p_value"] < 0.001 else f"{test['p_value']:.3f}"
    return mean, f"{low:+.1f} .. {high:+.1f}", p


def notes(result: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the scores should know of the files."""
    for what, missing in result["missing"].items():
        if missing["count"]:
            first = missing["first"][0]
            yield f"{missing['count']} missing of {what}, left out; the first: {first}"
    for reason, count in result["left_out"].items():
        yield f"{count} left out: {reason}"
    for part, size in result["published"].items():
        if result["found"][part] != size:
            yield f"{result['found'][part]} {part}, where all of {result['benchmark']} has {size}"
