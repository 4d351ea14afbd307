"""Pictures of class scores over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from coala_latent.embed.scores import Scores
from coala_latent.errors import ConfigError
from coala_latent.tasks.pictures import new_figure, save_picture

__all__ = ["draw_score_histograms", "draw_score_map"]

_MOST_ROWS = 40
_MOST_NAMES = 30


def draw_score_map(scores: Scores, title: str, path: Path, classes: int = 12) -> None:
    """The classes with the highest peaks, over time, as shades.

    Args:
        scores: Of one set of classes.
        title: Above the picture.
        path: PNG to write.
        classes: How many to show.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    peaks = scores.values.max(axis=0)
    chosen = np.argsort(-peaks, kind="stable")[:classes]
    # Two rows that overlap share the time between their middles.
    middles = (scores.start + scores.end) / 2
    borders = np.concatenate(
        [[scores.start[0]], (middles[1:] + middles[:-1]) / 2, [scores.end.max()]]
    )
    figure = new_figure(9.0, 1.4 + 0.28 * len(chosen))
    axes = figure.subplots()
    shades = axes.pcolormesh(
        borders, np.arange(len(chosen) + 1), scores.values[:, chosen].T, cmap="magma", vmin=0.0
    )
    axes.set_yticks(np.arange(len(chosen)) + 0.5, [scores.labels[index] for index in chosen])
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(_plain(title), loc="left")
    figure.colorbar(shades, ax=axes, label="score")
    save_picture(figure, path)


def draw_score_histograms(scores: Scores, title: str, path: Path) -> None:
    """For each step of time a panel with the scores of all classes, the highest named.

    Args:
        scores: Of one set of classes.
        title: Above the picture.
        path: PNG to write.

    Raises:
        DependencyError: matplotlib is not installed.
        ConfigError: There are too many steps to draw.
    """
    rows, classes = scores.values.shape
    if rows > _MOST_ROWS:
        raise ConfigError(
            f"{path}: {rows} steps of time are too many for one picture of histograms "
            f"(at most {_MOST_ROWS}: give a shorter sound)"
        )
    figure = new_figure(9.0, 0.8 + 1.3 * rows)
    panels = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for row, axes in enumerate(panels):
        axes.bar(np.arange(classes), scores.values[row], width=1.0, color="#3b528b")
        best = int(scores.values[row].argmax())
        axes.annotate(
            _plain(scores.labels[best]),
            (best, float(scores.values[row, best])),
            xytext=(0, 2),
            textcoords="offset points",
            ha="left" if best < classes / 2 else "right",
            fontsize=9,
        )
        axes.set_ylim(0.0, 1.3 * max(float(scores.values[row, best]), 1e-6))
        axes.set_ylabel(f"{scores.start[row]:.1f} .. {scores.end[row]:.1f} s", fontsize=8)
        axes.margins(x=0.01)
    panels[0].set_title(_plain(title), loc="left")
    if classes <= _MOST_NAMES:
        names = [_plain(label) for label in scores.labels]
        panels[-1].set_xticks(np.arange(classes), names, rotation=45, ha="right")
    panels[-1].set_xlabel("class")
    save_picture(figure, path)


def _plain(text: str) -> str:
    """A dollar sign would begin a formula."""
    return text.replace("$", r"\$")
