"""Files by the names that lists give them, and tables and lists as benchmarks have them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from coala_latent.audio.io import AUDIO_SUFFIXES, find_audio
from coala_latent.errors import DataError

__all__ = ["FileIndex", "locate", "read_lines", "read_table", "read_text", "sound_files", "stem_of"]

_KNOWN = AUDIO_SUFFIXES | {".npy"}


def stem_of(name: str) -> str:
    """The name without folders and without a suffix of sounds or arrays: ``blues.00029``."""
    last = PurePosixPath(name.replace("\\", "/"))
    return last.stem if last.suffix.lower() in _KNOWN else last.name


class FileIndex:
    """Finds files by listed names, whatever the case and the format they were converted to.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._by_stem: dict[str, list[Path]] = {}
        for path in paths:
            self._by_stem.setdefault(stem_of(path.name).casefold(), []).append(path)

    def __len__(self) -> int:
        return sum(map(len, self._by_stem.values()))

    @property
    def names(self) -> list[str]:
        """File names, sorted; of several formats of a sound the preferred one."""
        return sorted(self._preferred(paths, "", "").name for paths in self._by_stem.values())

    def find(self, name: str, folder: str = "") -> Path | None:
        """The file of a listed name, or None.

        Args:
            name: With or without folders and suffix.
            folder: Name of the folder to prefer; the listed one if not given.
        """
        paths = self._by_stem.get(stem_of(name).casefold())
        if paths is None:
            return None
        listed = PurePosixPath(name.replace("\\", "/"))
        return self._preferred(paths, listed.name, folder or listed.parent.name)

    @staticmethod
    def _preferred(paths: Sequence[Path], name: str, folder: str) -> Path:
        def rank(path: Path) -> tuple[bool, bool, bool, bool, str]:
            return (
                path.parent.name.casefold() != folder.casefold(),
                path.name != name,
                stem_of(path.name) != stem_of(name),
                path.suffix.lower() != ".wav",
                str(path),
            )

        return min(paths, key=rank)


def sound_files(folder: Path) -> FileIndex:
    """All sounds below a folder.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder (the sounds are expected there)")
    return FileIndex(find_audio(folder))


def locate(root: Path, places: Sequence[str], markers: Sequence[str]) -> Path | None:
    """The first of `places` below `root` that holds one of the `markers`, files or folders."""
    for place in places:
        for marker in markers:
            if (root / place / marker).exists():
                return root / place
    return None


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without byte order mark.

    Raises:
        DataError: It is missing or not readable.
    """
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable: {error} (save it as UTF-8)") from error


def read_lines(path: Path) -> list[str]:
    """Lines of a list without surrounding blanks; empty ones do not count.

    Raises:
        DataError: The file cannot be read or has no lines.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    found = [line for line in lines if line]
    if not found:
        raise DataError(f"{path}: the list is empty")
    return found


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV file that has these columns, perhaps with others.

    Raises:
        DataError: The file cannot be read, lacks a column, or a row lacks a value.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise DataError(f"{path}: no column {', '.join(lacking)} in its first line")
        rows = []
        for row in reader:
            for name in columns:
                if not row[name]:
                    raise DataError(f"{path}: line {reader.line_num} has no {name}")
            rows.append({name: row[name] for name in columns})
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from error
    if not rows:
        raise DataError(f"{path}: no rows below the first line")
    return rows
