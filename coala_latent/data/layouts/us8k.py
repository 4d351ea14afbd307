"""UrbanSound8K (Salamon, Jacoby, Bello, "A Dataset and Taxonomy for Urban Sound Research", 2014).

::

    UrbanSound8K/metadata/UrbanSound8K.csv
    UrbanSound8K/audio/fold1/101415-3-0-2.wav ...
"""

from __future__ import annotations

from pathlib import Path

from coala_latent.data.layouts.benchmark import Benchmark, Item, assemble
from coala_latent.data.layouts.files import locate, read_table, sound_files
from coala_latent.data.layouts.vectors import EmbeddingSet
from coala_latent.errors import DataError

__all__ = ["read_us8k"]

TABLE = "metadata/UrbanSound8K.csv"
PLACES = ("", "UrbanSound8K", "data/UrbanSound8K")
SOUNDS = 8732


def read_us8k(
    folder: Path, *, vectors: EmbeddingSet | None = None, allow_missing: bool = False
) -> Benchmark:
    """UrbanSound8K with its ten folds.

    Args:
        folder: The data set, or a folder that has it as ``UrbanSound8K`` or ``data/UrbanSound8K``.
        vectors: Stored embeddings to take instead of sounds.
        allow_missing: Leave out listed sounds that are not there.

    Returns:
        Labels are the names of the classes, groups the Freesound ids of the recordings.

    Raises:
        DataError: The table is missing or damaged, or listed sounds are missing.
    """
    root = locate(folder, PLACES, [TABLE])
    if root is None:
        raise DataError(f"{folder}: no {TABLE} (name the folder of UrbanSound8K)")
    columns = ("slice_file_name", "fsID", "fold", "class")
    items = [
        Item(row["slice_file_name"], row["class"], row["fold"], row["fsID"])
        for row in read_table(root / TABLE, columns)
    ]
    files = vectors.files() if vectors else sound_files(root / "audio")
    return assemble(
        "UrbanSound8K",
        vectors.root if vectors else root,
        items,
        lambda item: files.find(item.name, f"fold{item.part}"),
        fixed=False,
        allow_missing=allow_missing,
        published={"sounds": SOUNDS},
    )
