"""Recordings with classes of several factors, described by settings: built-in or of one's own."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coala_latent.data.factor_sounds import write_continuous, write_reverb_copies
from coala_latent.data.factor_tables import (
    FactorTable,
    factors_from_folders,
    factors_from_names,
    factors_from_table,
)
from coala_latent.data.synthesis import ACTIONS, MATERIALS
from coala_latent.errors import ConfigError

__all__ = ["BuiltinRecordings", "LabelledRecordings", "RecordingSource"]


class RecordingSource(ABC):
    """Where recordings with classes come from.

    Args:
        reverb: Add a copy of each in another room, see `write_reverb_copies`.
        seed: Of the rooms.
    """

    def __init__(self, reverb: bool, seed: int) -> None:
        self.reverb = reverb
        self.seed = seed

    def table(self, folder: Path) -> FactorTable:
        """The recordings.

        Args:
            folder: For those that have to be made.

        Raises:
            ConfigError: The settings do not make sense.
            DataError: No recording has classes.
            AudioError: There are none, or one that is copied cannot be read.
        """
        found = self._recordings(folder)
        if not self.reverb:
            return found
        return write_reverb_copies(found, folder / "reverb", seed=self.seed)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the recordings are, as JSON-able values without paths."""

    @abstractmethod
    def _recordings(self, folder: Path) -> FactorTable:
        """Those without copies."""


class BuiltinRecordings(RecordingSource):
    """Continuous recordings of the built-in generator; takes differ in object, gesture and room.

    Args:
        materials: Those to make; None for all.
        actions: Likewise.
        takes: Recordings of each material and action.
        seconds: Of each recording.
        seed: Of the generator, and of the rooms of copies.
        reverb: See `RecordingSource`.
    """

    def __init__(
        self,
        materials: Sequence[str] | None = None,
        actions: Sequence[str] | None = None,
        takes: int = 4,
        seconds: float = 30.0,
        seed: int = 0,
        reverb: bool = False,
    ) -> None:
        super().__init__(reverb, seed)
        self.materials = tuple(MATERIALS if materials is None else materials)
        self.actions = tuple(ACTIONS if actions is None else actions)
        self.takes = takes
        self.seconds = seconds

    def _recordings(self, folder: Path) -> FactorTable:
        return write_continuous(
            folder,
            self.materials,
            self.actions,
            takes=self.takes,
            seconds=self.seconds,
            seed=self.seed,
        )

    def describe(self) -> dict[str, Any]:
        """Arguments of the generator; they determine every sample."""
        return {"name": "built-in recordings", **vars(self)}


class LabelledRecordings(RecordingSource):
    """Recordings of one's own, with their classes in names, in a table or in folders.

    Args:
        root: Folder of the recordings.
        pattern: See `factors_from_names`, like the next.
        meanings: By factor, what stands in a name and the class it means.
        table: Table in the folder, see `factors_from_table`, like the next two.
        factors: Its columns.
        take: Its column of takes.
        levels: See `factors_from_folders`.
        keep: Classes to keep by factor; None for all.
        reverb: See `RecordingSource`, like the next.
        seed: Of the rooms.

    Raises:
        ConfigError: Not exactly one of `pattern`, `table` and `levels` is given.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        pattern: str | None = None,
        meanings: Mapping[str, Mapping[str, str]] | None = None,
        table: str | None = None,
        factors: Sequence[str] = (),
        take: str | None = None,
        levels: Sequence[str] | None = None,
        keep: Mapping[str, Sequence[str]] | None = None,
        reverb: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(reverb, seed)
        given = {"pattern": pattern, "table": table, "levels": levels}
        if sum(value is not None for value in given.values()) != 1:
            raise ConfigError(
                f"recordings: give one of {', '.join(given)}, which tells the classes"
            )
        self.root = Path(root)
        self.pattern = pattern
        self.meanings = meanings or {}
        self.table_name = table
        self.factors = tuple(factors)
        self.take = take
        self.levels = levels
        self.keep = keep

    def _recordings(self, folder: Path) -> FactorTable:
        if self.pattern is not None:
            found = factors_from_names(self.root, self.pattern, self.meanings)
        elif self.table_name is not None:
            found = factors_from_table(
                self.root / self.table_name, self.root, factors=self.factors, take=self.take
            )
        else:
            found = factors_from_folders(self.root, list(self.levels or ()))
        return found.subset(self.keep) if self.keep else found

    def describe(self) -> dict[str, Any]:
        """Which classes are kept, and what was added."""
        told: dict[str, Any] = {"name": "recordings"}
        if self.keep:
            told["keep"] = {factor: list(classes) for factor, classes in self.keep.items()}
        if self.reverb:
            told["reverb"] = {"seed": self.seed}
        return told
