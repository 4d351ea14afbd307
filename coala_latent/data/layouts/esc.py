"""ESC-50 and ESC-10 (Piczak, "ESC: Dataset for Environmental Sound Classification", 2015).

Two layouts: that of the repository ESC-50, where ESC-10 is a column of the table, and that of the
repository ESC-10, a folder a class::

    ESC-50/meta/esc50.csv
    ESC-50/audio/1-100032-A-0.wav ...

    ESC-10/001 - Dog bark/1-30226-A.ogg ...
"""

from __future__ import annotations

import re
from pathlib import Path

from coala_latent.audio.io import find_audio
from coala_latent.data.layouts.benchmark import Benchmark, Item, assemble
from coala_latent.data.layouts.files import read_table, sound_files
from coala_latent.data.layouts.vectors import EmbeddingSet
from coala_latent.errors import DataError

__all__ = ["esc_name", "read_esc10", "read_esc50"]

TABLE = "meta/esc50.csv"
_ESC50 = ("ESC-50", "ESC-50-master", "data/ESC-50", "data/ESC-50-master")
_ESC10 = ("ESC-10", "ESC-10-master", "data/ESC-10", "data/ESC-10-master")
PLACES = {"ESC-50": ("", *_ESC50), "ESC-10": ("", *_ESC10, *_ESC50)}
SIZES = {"ESC-50": 2000, "ESC-10": 400}
_NAME = re.compile(r"^(?P<fold>\d)-(?P<source>\d+)-(?P<take>[A-Z])")


def esc_name(path: Path) -> re.Match[str]:
    """``fold``, ``source`` (the recording's Freesound id) and ``take`` in a file's name.

    Raises:
        DataError: The name is not of the ESC pattern.
    """
    match = _NAME.match(path.name)
    if match is None:
        raise DataError(f"{path}: not an ESC file name such as 1-17092-A.ogg")
    return match


def read_esc50(
    folder: Path, *, vectors: EmbeddingSet | None = None, allow_missing: bool = False
) -> Benchmark:
    """ESC-50 with its five folds.

    Args:
        folder: The data set in either layout, or a folder that has it as ``ESC-50``,
            ``ESC-50-master`` or ``data/ESC-50``.
        vectors: Stored embeddings to take instead of the sounds that the table lists.
        allow_missing: Leave out listed sounds that are not there. Folders list nothing.

    Returns:
        Labels are categories, or names of folders; groups the Freesound ids of the recordings.

    Raises:
        DataError: Neither layout, a damaged table, or listed sounds that are missing.
    """
    return _read("ESC-50", folder, vectors, allow_missing)


def read_esc10(
    folder: Path, *, vectors: EmbeddingSet | None = None, allow_missing: bool = False
) -> Benchmark:
    """ESC-10 with its five folds, also out of an ESC-50 folder; see `read_esc50`."""
    return _read("ESC-10", folder, vectors, allow_missing)


def _read(name: str, folder: Path, vectors: EmbeddingSet | None, allow_missing: bool) -> Benchmark:
    for place in PLACES[name]:
        root = folder / place
        if (root / TABLE).is_file():
            return _listed(name, root, vectors, allow_missing)
        if name in place and root.is_dir():
            return _folders(name, root)
    return _folders(name, folder)


def _listed(name: str, root: Path, vectors: EmbeddingSet | None, allow_missing: bool) -> Benchmark:
    items = [
        Item(row["filename"], row["category"], row["fold"], row["src_file"])
        for row in read_table(root / TABLE, ("filename", "fold", "category", "esc10", "src_file"))
        if name == "ESC-50" or row["esc10"].casefold() == "true"
    ]
    files = vectors.files() if vectors else sound_files(root / "audio")
    return assemble(
        name,
        vectors.root if vectors else root,
        items,
        lambda item: files.find(item.name),
        fixed=False,
        allow_missing=allow_missing,
        published={"sounds": SIZES[name]},
    )


def _folders(name: str, root: Path) -> Benchmark:
    paths = {
        path.relative_to(root).as_posix(): path for path in find_audio(root) if path.parent != root
    }
    items = []
    for listed, path in paths.items():
        match = esc_name(path)
        items.append(Item(listed, listed.split("/")[0], match["fold"], match["source"]))
    if len({item.label for item in items}) < 2:
        raise DataError(f"{root}: neither {TABLE} nor a sub-folder for each of two or more classes")
    return assemble(
        name,
        root,
        items,
        lambda item: paths[item.name],
        fixed=False,
        published={"sounds": SIZES[name]},
    )
