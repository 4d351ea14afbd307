"""NSynth instrument families (Engel et al., "Neural Audio Synthesis of Musical Notes", 2017).

::

    nsynth/nsynth-train/audio_selected/guitar_acoustic_010-066-100.wav ...   (or audio/)
    nsynth/nsynth-test/audio/bass_electronic_018-022-100.wav ...
    nsynth/nsynth-test/examples.json                                         (used if it is there)

As in the COALA paper: trained on a selection of notes, given as a JSON file of lists of note names
by family, and tested on the whole test set; ten families, because the test set has no synth_lead.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from coala_latent.data.layouts.benchmark import TEST, TRAIN, Benchmark, Item, assemble
from coala_latent.data.layouts.files import FileIndex, locate, read_text, sound_files, stem_of
from coala_latent.data.layouts.vectors import EmbeddingSet
from coala_latent.errors import DataError

__all__ = ["FAMILIES", "read_nsynth", "read_selection"]

# fmt: off
FAMILIES = (
    "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "vocal",
)
# fmt: on
PLACES = ("", "nsynth", "data/nsynth")
SYNTH = "synth"  # the first token of synth_lead
PUBLISHED = {TRAIN: 20_000, TEST: 4096}


def read_nsynth(
    folder: Path,
    selection: Path,
    *,
    vectors: EmbeddingSet | None = None,
    allow_missing: bool = False,
) -> Benchmark:
    """NSynth's ten families: the selected training notes and all test notes.

    Args:
        folder: Holds ``nsynth-train`` and ``nsynth-test``, or is the parent of ``nsynth`` or
            ``data/nsynth`` which do.
        selection: JSON file ``{family: [note, ...]}`` of training notes.
        vectors: Stored embeddings to take instead of sounds.
        allow_missing: Leave out listed notes that are not there. Of the test set that can be seen
            only where its ``examples.json`` lists them.

    Returns:
        Labels are the families, groups the instruments; none is in both parts of the data set.

    Raises:
        DataError: The selection or a folder is damaged or missing, notes are missing, or one is in
            both parts.
    """
    root = locate(folder, PLACES, ["nsynth-train", "nsynth-test"])
    if root is None and vectors is None:
        raise DataError(f"{folder}: no nsynth-train and nsynth-test (name the folder with both)")
    root = root or folder
    left_out: Counter[str] = Counter()
    train = list(_items(read_selection(selection), TRAIN, left_out))
    files = _files(root, vectors)
    listed = _read_json(root / "nsynth-test" / "examples.json")
    names = files[TEST].names if listed is None else sorted(listed)
    test = list(_items(names, TEST, left_out))
    if both := {item.name for item in train} & {item.name for item in test}:
        raise DataError(f"{selection}: {min(both)} is a note of the test set")
    return assemble(
        "NSynth",
        vectors.root if vectors else root,
        train + test,
        lambda item: files[item.part].find(item.name),
        fixed=True,
        allow_missing=allow_missing,
        left_out=left_out,
        published=PUBLISHED,
    )


def _files(root: Path, vectors: EmbeddingSet | None) -> dict[str, FileIndex]:
    if vectors:
        return {part: vectors.files(part) for part in (TRAIN, TEST)}
    selected = root / "nsynth-train" / "audio_selected"
    train = selected if selected.is_dir() else root / "nsynth-train" / "audio"
    return {TRAIN: sound_files(train), TEST: sound_files(root / "nsynth-test" / "audio")}


def read_selection(path: Path) -> list[str]:
    """Note names of a selection ``{family: [note, ...]}``.

    Raises:
        DataError: The file is not of that kind, a note is listed twice, or under a family that is
            not its own.
    """
    found = _read_json(path)
    if found is None:
        raise DataError(f"{path}: no such file (a JSON file of note names by family)")
    names: dict[str, None] = {}
    for family, notes in found.items():
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise DataError(f"{path}: {family} is not a list of note names")
        for note in map(stem_of, notes):
            if not note.startswith(f"{family}_"):
                raise DataError(f"{path}: {note} is listed as {family}")
            if note in names:
                raise DataError(f"{path}: {note} is listed twice")
            names[note] = None
    return list(names)


def _items(names: Iterable[str], part: str, left_out: Counter[str]) -> Iterable[Item]:
    for stem in map(stem_of, names):
        family = stem.split("_")[0]
        if family == SYNTH:
            left_out["synth_lead"] += 1
        elif "_d" in stem:
            left_out["_d in the name, as in the original"] += 1
        elif family not in FAMILIES:
            raise DataError(
                f"NSynth: {stem} ({part}) begins with no family, as bass_acoustic_010-066-100 does"
            )
        else:
            yield Item(stem, family, part, stem.split("-")[0])


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: not a JSON object")
    return found
