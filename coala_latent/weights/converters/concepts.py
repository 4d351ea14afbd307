"""Published concept vectors (deezer/concept_hierarchy, MIT), and vectors of how playlists are used.

Paper: Afchar, Hennequin, Guigue, "Learning Unsupervised Hierarchies of Audio Concepts", ISMIR 2022
(arXiv 2207.11231). The files are arrays of objects; nothing in them is run.

The vectors fit together: related names are neighbours, alike in all four layers (Hip Hop and Rap in
``pool5``: cosine 0.84, mean of all pairs 0.14). They have the sizes of the published backbone, but
not its channels: weights of filters that are constant there are as large as those of others, and
the largest weights on its 50 tags belong to unrelated ones (Hip Hop: country). They seem to have
been trained on another run of that network. What they say of a sound through the published backbone
is what the published code computes, and should not be taken for the sound's genre.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.errors import WeightsError
from coala_latent.models.concepts import ConceptVectors
from coala_latent.weights.readers.npy_pickle import read_object_npy

__all__ = [
    "PUBLISHED_LAYERS",
    "PublishedVectors",
    "convert_published",
    "published_vectors",
    "read_usage_vectors",
]

# By the files' own numbers, with the sizes of the VGG network's layers. `output` is the
# probability of each tag, the sigmoid of the network's layer `logits`; the others are layers of the
# same name, as `concept_features` pools them.
PUBLISHED_LAYERS = ("pool3", "pool4", "pool5", "output")
_SIZES = (1536, 768, 128, 50)


class PublishedVectors(NamedTuple):
    """Concept vectors of one layer.

    Attributes:
        names: Of the concepts, as published.
        weight: ``(concepts, dim)`` float32.
        bias: ``(concepts,)`` float32.
    """

    names: tuple[str, ...]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


def convert_published(path: str | os.PathLike[str]) -> dict[str, PublishedVectors]:
    """Read ``apm_genres_cav.npy``, ``apm_moods_cav.npy`` or another file of their form.

    Args:
        path: An array of three objects: weights ``(dim, concepts)`` by the layer's number, biases
            ``(1, concepts)`` likewise, and the names.

    Returns:
        By layer, in the order of `PUBLISHED_LAYERS`.

    Raises:
        WeightsError: The file is missing, damaged, or of another form.
    """
    content = read_object_npy(Path(path))
    match content:
        case [dict() as weights, dict() as biases, list() as names]:
            pass
        case _:
            raise WeightsError(
                f"{path}: not three objects, weights, biases and names (is it a file of published "
                "concept vectors?)"
            )
    if set(weights) != set(biases) or not set(weights) <= set(range(len(_SIZES))) or not weights:
        raise WeightsError(
            f"{path}: layers {sorted(map(str, weights))} and {sorted(map(str, biases))} instead of "
            f"{', '.join(map(str, range(len(_SIZES))))}"
        )
    titles = tuple(map(_title, names))
    if len(set(titles)) < len(titles):
        twice = next(name for name in titles if titles.count(name) > 1)
        raise WeightsError(f"{path}: concept {twice!r} is there twice (get the file again)")
    return {
        PUBLISHED_LAYERS[number]: PublishedVectors(
            titles,
            _numbers(path, number, weights[number], (_SIZES[number], len(names))).T.copy(),
            _numbers(path, number, biases[number], (1, len(names)))[0],
        )
        for number in sorted(weights)
    }


def published_vectors(path: str | os.PathLike[str], layer: str = "pool5") -> ConceptVectors:
    """The published vectors of one layer as a module.

    Args:
        path: See `convert_published`.
        layer: One of `PUBLISHED_LAYERS`; ``pool5`` is the one that was studied.

    Raises:
        WeightsError: As in `convert_published`, or the file lacks the layer.
    """
    found = convert_published(path)
    if layer not in found:
        raise WeightsError(f"{path}: no layer {layer!r}; there are {', '.join(found)}")
    names, weight, bias = found[layer]
    vectors = ConceptVectors(names, weight.shape[1])
    return vectors.assign_(torch.from_numpy(weight), torch.from_numpy(bias))


def read_usage_vectors(
    path: str | os.PathLike[str],
) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Read ``usg.npy``: a vector of collaborative filtering for each playlist.

    Returns:
        The playlists' numbers, ascending, and their vectors ``(playlists, dim)``.

    Raises:
        WeightsError: The file is missing, damaged, or of another form.
    """
    content = read_object_npy(Path(path))
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: no dictionary of vectors by playlist (is it another file?)")
    if not all(type(key) is int for key in content):
        raise WeightsError(f"{path}: its playlists are not numbers (is it another file?)")
    ids = tuple(sorted(content))
    first = content[ids[0]]
    if not isinstance(first, np.ndarray) or first.ndim != 1 or not len(first):
        raise WeightsError(f"{path}: playlist {ids[0]} has no vector (is it another file?)")
    vectors = np.empty((len(ids), len(first)))
    for line, key in enumerate(ids):
        vectors[line] = _checked(path, f"playlist {key}", content[key], first.shape)
    return ids, vectors


def _title(name: Any) -> str:
    # Later files have numbers of playlists in place of names.
    return name if isinstance(name, str) else str(name)


def _numbers(
    path: str | os.PathLike[str], layer: int, values: Any, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    found = _checked(path, f"layer {layer} ({PUBLISHED_LAYERS[layer]})", values, shape)
    return found.astype(np.float32)


def _checked(
    path: str | os.PathLike[str], what: str, values: Any, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.shape != shape:
        found = values.shape if isinstance(values, np.ndarray) else type(values).__name__
        raise WeightsError(f"{path}: {what} is {found}, not {shape} (is it another model's file?)")
    if not np.isfinite(values).all():
        raise WeightsError(f"{path}: {what} holds NaN or infinity (get the file again)")
    return values
