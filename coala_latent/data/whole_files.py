"""HDF5 files that get their names when they are complete."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import h5py
import numpy as np

from coala_latent.store.schema import encode_text

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WholeFile", "write_text"]


class WholeFile(ABC):
    """Writes an HDF5 file under a temporary name, and renames it at the end.

    As a context manager it closes at the end; after an exception no file is left, and one that was
    there stays.

    Args:
        path: The file; one of that name is replaced at the end.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file = h5py.File(self._temporary, "w")
        try:
            self._lay_out()
        except BaseException:
            self._abandon()
            raise

    @abstractmethod
    def _lay_out(self) -> None:
        """Attributes and empty data sets."""

    @abstractmethod
    def _complete(self) -> None:
        """What is written last; an exception leaves no file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon()

    def close(self) -> None:
        """Write what is missing and give the file its name.

        Raises:
            DataError: Nothing was added.
        """
        try:
            self._complete()
            self._file.close()
            with self._temporary.open("rb+") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        finally:
            self._abandon()

    def _abandon(self) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def write_text(group: h5py.Group, name: str, texts: Sequence[str]) -> None:
    """A data set of texts, which may be names of files that are no Unicode."""
    data = np.array([encode_text(text, name) for text in texts], dtype=object)
    group.create_dataset(name, data=data, dtype=h5py.string_dtype())
