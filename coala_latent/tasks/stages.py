"""Long analyses in stages: each leaves a folder, and is run again when what it depends on changed.

A stage is known by a key: the SHA-256 of its name, version, settings, the hashes of files it reads
from outside, and the content of the stages it needs. A stage whose key is that of the finished
folder is not run. A stage works in ``.NAME.KEY.part`` and is renamed when it is done; the next run
finds a part with its own key again, so that a stage which can go on does, and removes the others.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.progress import console
from coala_latent.weights import file_sha256, write_json

__all__ = ["Folders", "Stage", "StageRun", "Stages"]

Folders = Mapping[str, Path]
_RECORD = "stage.json"


@dataclass(frozen=True)
class Stage:
    """One step of an analysis.

    Attributes:
        name: Also the name of its folder.
        run: Called with the folder to fill and the folders of the stages it needs.
        needs: Names of earlier stages.
        settings: What the result depends on, JSON-able.
        inputs: SHA-256 of what is read from elsewhere, by name.
        version: Raised whenever the same settings give another result.
    """

    name: str
    run: Callable[[Path, Folders], None]
    needs: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True)
class StageRun:
    """What became of a stage.

    Attributes:
        folder: Its results.
        key: Of name, settings and everything it depends on.
        cached: Whether the results were there already.
        seconds: That the stage took when it ran.
    """

    folder: Path
    key: str
    cached: bool
    seconds: float


class Stages:
    """Stages in an output folder.

    Args:
        folder: Holds a folder for each stage.
        stages: In an order in which each comes after those it needs.

    Raises:
        ConfigError: Two stages have one name, or one needs a stage that does not come before it.
    """

    def __init__(self, folder: Path, stages: Sequence[Stage]) -> None:
        self.folder = folder
        self._stages: dict[str, Stage] = {}
        for stage in stages:
            missing = [name for name in stage.needs if name not in self._stages]
            if stage.name in self._stages or missing:
                raise ConfigError(f"stage {stage.name}: twice, or before {', '.join(missing)}")
            self._stages[stage.name] = stage

    def run(
        self, wanted: Collection[str] = (), *, again: Collection[str] = (), quiet: bool = False
    ) -> dict[str, StageRun]:
        """Run stages and those they need, unless their results are there.

        Args:
            wanted: Names; all by default.
            again: Names of stages to run although nothing has changed.
            quiet: Do not say what is run.

        Returns:
            By name, the stages that were asked for and those they need.

        Raises:
            ConfigError: No such stage, or another process works in the folder.
        """
        for name in (*wanted, *again):
            if name not in self._stages:
                raise ConfigError(f"no stage {name!r}; there are {', '.join(self._stages)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                return self._run(self._with_needs(wanted or self._stages), again, quiet)
        except Timeout as error:
            raise ConfigError(
                f"{self.folder}: another process works in this folder (wait, or use another output)"
            ) from error

    def _with_needs(self, wanted: Collection[str]) -> set[str]:
        found = set(wanted)
        for stage in reversed(self._stages.values()):
            if stage.name in found:
                found.update(stage.needs)
        return found

    def _run(self, chosen: set[str], again: Collection[str], quiet: bool) -> dict[str, StageRun]:
        done: dict[str, StageRun] = {}
        contents: dict[str, str] = {}
        for name, stage in self._stages.items():
            if name not in chosen:
                continue
            key = self._key(stage, contents)
            record = self._record(name)
            cached = record.get("key") == key and name not in again
            if not cached:
                if not quiet:
                    console().print(f"[bold]{name}[/bold]")
                record = self._work(stage, key, {need: done[need].folder for need in stage.needs})
            done[name] = StageRun(self.folder / name, key, cached, float(record["seconds"]))
            contents[name] = str(record["content"])
        return done

    def _key(self, stage: Stage, contents: Mapping[str, str]) -> str:
        depends = {
            "name": stage.name,
            "version": stage.version,
            "settings": stage.settings,
            "inputs": stage.inputs,
            "needs": {need: contents[need] for need in stage.needs},
        }
        text = json.dumps(depends, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _record(self, name: str) -> dict[str, Any]:
        """What is known of the finished stage; empty where it is missing or damaged."""
        folder = self.folder / name
        try:
            record = json.loads((folder / _RECORD).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(record, dict) or record.get("content") != _content(folder):
            return {}
        return record

    def _work(self, stage: Stage, key: str, folders: Folders) -> dict[str, Any]:
        final = self.folder / stage.name
        if final.exists() and not (final / _RECORD).is_file():
            raise DataError(
                f"{final} is not of this analysis (move it away, or use another output)"
            )
        part = self.folder / f".{stage.name}.{key[:12]}.part"
        for other in self.folder.glob(f".{stage.name}.*.part"):
            if other != part:
                shutil.rmtree(other)
        part.mkdir(exist_ok=True)
        began = time.monotonic()
        stage.run(part, folders)
        record = {
            "stage": stage.name,
            "key": key,
            "version": stage.version,
            "settings": dict(stage.settings),
            "inputs": dict(stage.inputs),
            "needs": list(stage.needs),
            "seconds": round(time.monotonic() - began, 2),
            "content": _content(part),
        }
        write_json(part / _RECORD, record)
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        return record


def _content(folder: Path) -> str:
    """SHA-256 over names and contents of all files but the record."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _RECORD:
            name = path.relative_to(folder).as_posix()
            digest.update(f"{name}\0{file_sha256(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
