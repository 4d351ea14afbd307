"""``coala-latent predict``: which classes a model hears, when, in sound files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from coala_latent.audio.io import find_audio
from coala_latent.embed.scores import Predictor, Scores
from coala_latent.errors import AudioError

__all__ = [
    "FileScores",
    "csv_header",
    "predict_file",
    "prediction_csv",
    "prediction_json",
    "prediction_tables",
    "predictions_json",
    "sound_files",
]


@dataclass(frozen=True)
class FileScores:
    """What a model heard in one file.

    Attributes:
        path: The file.
        scores: Each set of classes; empty when the file could not be used.
        error: Why it could not.
    """

    path: Path
    scores: Mapping[str, Scores]
    error: str = ""


def sound_files(inputs: Sequence[Path]) -> list[Path]:
    """The files given, and the sounds in the folders given."""
    return [path for given in inputs for path in (find_audio(given) if given.is_dir() else [given])]


def predict_file(predictor: Predictor, path: Path) -> FileScores:
    """Scores of a file, or why it has none."""
    try:
        return FileScores(path, predictor.file(path))
    except AudioError as error:
        return FileScores(path, {}, str(error))


def predictions_json(predictor: Predictor, files: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was heard in several files, and by which model, as JSON-able values."""
    card = predictor.embedder.card
    return {"model": card.name, "weights_sha256": card.sha256, "files": list(files)}


def prediction_json(file: FileScores, top: int) -> dict[str, Any]:
    """One file: the highest of each row and of the mean over time."""
    return {
        "path": str(file.path),
        **({"error": file.error} if file.error else {}),
        "scores": {
            name: {
                "mean": _entries(scores.top(top)),
                "rows": [
                    {
                        "start": float(scores.start[row]),
                        "end": float(scores.end[row]),
                        "top": _entries(scores.top(top, row)),
                    }
                    for row in range(len(scores.values))
                ],
            }
            for name, scores in file.scores.items()
        },
    }


def _entries(top: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in top]


def csv_header() -> str:
    """Names of the columns of `prediction_csv`."""
    return "path,scores,start,end,rank,label,score\n"


def prediction_csv(file: FileScores, top: int) -> str:
    """One line for each of the highest scores of each row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for name, scores in file.scores.items():
        for row in range(len(scores.values)):
            times = [f"{scores.start[row]:.4f}", f"{scores.end[row]:.4f}"]
            for rank, (label, score) in enumerate(scores.top(top, row), start=1):
                writer.writerow([file.path, name, *times, rank, label, f"{score:.6f}"])
    return out.getvalue()


def prediction_tables(file: FileScores, top: int) -> list[Table]:
    """A table for each set of classes: rows of time, and the mean over all of it."""
    return [_table(file.path, scores, top) for scores in file.scores.values()]


def _table(path: Path, scores: Scores, top: int) -> Table:
    table = Table(title=f"{path.name}: {scores.name}", title_justify="left", title_style="bold")
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("score  class")
    for row in range(len(scores.values)):
        times = f"{scores.start[row]:.2f} .. {scores.end[row]:.2f}"
        table.add_row(times, _lines(scores.top(top, row)))
    table.add_section()
    table.add_row("mean", _lines(scores.top(top)))
    return table


def _lines(top: Sequence[tuple[str, float]]) -> str:
    return "\n".join(f"{score:5.3f}  {label}" for label, score in top)
