"""Drawing without a window, and writing pictures whole or not at all.

Needs matplotlib (``pip install 'coala-latent[pictures]'``). Figures are made without pyplot, so no
window, backend or style of the caller's is touched.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from coala_latent.errors import DependencyError

__all__ = [
    "COLOURS",
    "MARKERS",
    "figure_png",
    "new_figure",
    "plain",
    "require_matplotlib",
    "save_picture",
]

_DPI = 110
MARKERS = "os^Dv<>pPX"
# Okabe and Ito's colours, told apart by colour-blind readers too, and two greys.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#b8a800", "#000000", "#8c5a2b", "#999999"),
)


def require_matplotlib() -> None:
    """Say at once whether pictures can be drawn.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "pictures need matplotlib (pip install 'coala-latent[pictures]')"
        ) from error


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, without a window.

    Args:
        width: Inches.
        height: Inches.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def figure_png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def save_picture(figure: Any, path: Path) -> None:
    """Write a PNG under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(figure_png(figure))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def plain(text: str) -> str:
    """As matplotlib shows it letter by letter: dollars begin no formula, odd bytes are escaped."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")
