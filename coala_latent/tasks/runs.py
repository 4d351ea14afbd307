"""The folder of a training run: what it holds, and whether a run in it can go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from coala_latent.errors import ConfigError
from coala_latent.weights import write_json

__all__ = ["RunFolder"]


class RunFolder:
    """``run.json`` (settings and state), ``checkpoints/`` and ``logs/`` of one run.

    Args:
        folder: The output folder; made when a run starts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.logs = folder / "logs"
        self._state = folder / "run.json"

    def start(self, settings: dict[str, Any], resume: str) -> Path | None:
        """Begin a run, or go on with one.

        Args:
            settings: What must be equal for a run to go on, as JSON-able values.
            resume: ``"auto"`` goes on with an unfinished run in the folder, ``"no"`` starts anew,
                anything else is a checkpoint to go on from.

        Returns:
            The checkpoint to go on from; None for a new run.

        Raises:
            ConfigError: The unfinished run has other settings, or the checkpoint is missing.
        """
        checkpoint = self._checkpoint(settings, resume)
        if checkpoint is None:
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            shutil.rmtree(self.logs, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._state, {"state": "running", "settings": settings})
        return checkpoint

    def finish(self) -> None:
        """Mark the run as finished: the same command would start anew."""
        state = self._read()
        write_json(self._state, {**state, "state": "finished"})

    def _checkpoint(self, settings: dict[str, Any], resume: str) -> Path | None:
        if resume == "no":
            return None
        if resume != "auto":
            path = Path(resume)
            if not path.is_file():
                raise ConfigError(f"resume={resume}: no such checkpoint (use auto, no or a path)")
            return path
        last = self.checkpoints / "last.ckpt"
        state = self._read()
        if state.get("state") != "running" or not last.is_file():
            return None
        if different := _differences(state.get("settings"), settings):
            raise ConfigError(
                f"{self.folder} holds an unfinished run with other settings "
                f"({', '.join(different[:4])}{' ...' if len(different) > 4 else ''}); start anew "
                "with resume=no, or use another folder with output=FOLDER"
            )
        return last

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads(self._state.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self._state}: not readable: {error} (remove it, or use resume=no)"
            ) from error
        return state if isinstance(state, dict) else {}


def _differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Keys at which two nested mappings differ, with dots."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in sorted({*one, *other})
            for found in _differences(
                one.get(key), other.get(key), f"{path}.{key}" if path else str(key)
            )
        ]
    return [] if one == other else [path or "settings"]
