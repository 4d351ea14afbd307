"""``deezer_playlists.npy``: the playlists of the published data set (zenodo record 7382664)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from coala_latent.errors import WeightsError
from coala_latent.weights.readers.npy_pickle import read_object_npy

__all__ = ["Playlist", "read_playlists"]


class Playlist(NamedTuple):
    """A playlist, which stands for a concept.

    Attributes:
        number: The data set's.
        title: As shown; several playlists may have the same.
        tracks: Ids of its recordings, in its order.
    """

    number: int
    title: str
    tracks: tuple[str, ...]


def read_playlists(path: str | os.PathLike[str]) -> list[Playlist]:
    """Read the playlists; nothing in the file is run.

    Args:
        path: A pickled dictionary in an array of objects: by number, a dictionary with
            ``tracks_array`` and ``formatted_title``, and perhaps more.

    Returns:
        By number, ascending.

    Raises:
        WeightsError: The file is missing, damaged, or of another form.
    """
    content = read_object_npy(Path(path))
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: no dictionary of playlists (is it another file?)")
    found = []
    for number, entry in content.items():
        if type(number) is not int or not isinstance(entry, dict):
            raise WeightsError(f"{path}: {number!r} is no numbered playlist (is it another file?)")
        title, tracks = entry.get("formatted_title"), _tracks(entry.get("tracks_array"))
        if not isinstance(title, str) or tracks is None:
            raise WeightsError(
                f"{path}: playlist {number} lacks a text formatted_title or a list tracks_array of "
                "track ids (is it another file?)"
            )
        found.append(Playlist(number, title, tracks))
    return sorted(found)


def _tracks(values: Any) -> tuple[str, ...] | None:
    """Track ids as text; None where they are anything else."""
    items = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(items, list | tuple):
        return None
    if not all(isinstance(item, str) or type(item) is int for item in items):
        return None
    return tuple(str(item) for item in items)
