"""GTZAN (Tzanetakis, Cook, "Musical genre classification of audio signals", 2002), fault-filtered.

::

    GTZAN/genres/blues/blues.00000.wav ...

The split leaves out repetitions, distortions and mislabelled tracks (Sturm, "The State of the Art
Ten Years After a State of the Art", 2014; Kereliuk et al., 2015); it is given as two lists of
``blues/blues.00029.wav``, one name a line. COALA's evaluation took the first line of each list for
a heading, so one training and one test track were lost: the *legacy* way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from coala_latent.data.layouts.benchmark import TEST, TRAIN, Benchmark, Item, assemble
from coala_latent.data.layouts.files import locate, read_lines, sound_files, stem_of
from coala_latent.data.layouts.vectors import EmbeddingSet
from coala_latent.errors import DataError

__all__ = ["GENRES", "Lists", "read_gtzan"]

# fmt: off
GENRES = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)
# fmt: on
PLACES = (
    "",
    "genres",
    "GTZAN/genres",
    "data/GTZAN/genres",
    "genres_original",
    "Data/genres_original",
)
NAMES = {TRAIN: "train_filtered.txt", TEST: "test_filtered.txt"}
Lists = Literal["corrected", "legacy"]


def read_gtzan(
    folder: Path,
    train_list: Path | None = None,
    test_list: Path | None = None,
    *,
    lists: Lists = "corrected",
    vectors: EmbeddingSet | None = None,
    allow_missing: bool = False,
) -> Benchmark:
    """GTZAN with the fault-filtered training and test lists.

    Files are found by their stem, so a list of ``.wav`` names serves a folder of ``.au`` files;
    pictures and other files between the sounds do not matter.

    Args:
        folder: The folder of genres, or one that has it as ``genres``, ``GTZAN/genres`` or
            ``data/GTZAN/genres``.
        train_list: By default ``train_filtered.txt`` in or beside the folder of genres.
        test_list: Likewise ``test_filtered.txt``.
        lists: ``"legacy"`` drops the first line of each list.
        vectors: Stored embeddings to take instead of sounds.
        allow_missing: Leave out listed tracks that are not there.

    Returns:
        Labels are the genres.

    Raises:
        DataError: A list is missing, names no genre, or shares a track with the other; or listed
            tracks are missing.
    """
    root = locate(folder, PLACES, GENRES)
    if root is None and vectors is None:
        raise DataError(
            f"{folder}: no folder of a genre such as {GENRES[0]} (name the folder genres)"
        )
    root = root or folder
    items: dict[str, Item] = {}
    listed = dropped = 0
    for part, given in ((TRAIN, train_list), (TEST, test_list)):
        source = given or _beside(root, folder, part)
        lines = read_lines(source)
        if lists == "legacy":
            lines = lines[1:]
            dropped += 1
        for line in lines:
            stem = stem_of(line)
            label = stem.split(".")[0].casefold()
            if label not in GENRES:
                raise DataError(f"{source}: {line!r} begins with no genre, as blues.00029.wav does")
            before = items.setdefault(stem.casefold(), Item(line, label, part, stem))
            if before.part != part:
                raise DataError(f"{source}: {line} is in the training list too")
            listed += 1
    files = vectors.files() if vectors else sound_files(root)
    return assemble(
        "GTZAN",
        vectors.root if vectors else root,
        list(items.values()),
        lambda item: files.find(item.name, item.label),
        fixed=True,
        allow_missing=allow_missing,
        left_out={
            "first line of a list, dropped as the original did": dropped,
            "listed twice": listed - len(items),
        },
    )


def _beside(root: Path, folder: Path, part: str) -> Path:
    for place in (root, root.parent, folder):
        if (place / NAMES[part]).is_file():
            return place / NAMES[part]
    raise DataError(
        f"{root}: no {NAMES[part]} there or beside it (name the list with --{part}-list)"
    )
