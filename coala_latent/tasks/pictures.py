"""Drawing without a window, and writing pictures whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from coala_latent.errors import DependencyError

__all__ = ["new_figure", "save_picture"]


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, without a window.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "pictures need matplotlib (pip install 'coala-latent[pictures]')"
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_picture(figure: Any, path: Path) -> None:
    """Write a PNG under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=110)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
