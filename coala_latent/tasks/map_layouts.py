"""Layouts of a map's points, kept so that a second map of the same vectors is quick.

A layout lies below the library's cache folder under the hash of all it depends on. The folder
``layouts`` there may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

import coala_latent
from coala_latent.analysis.map_projections import MapProjection, map_projection
from coala_latent.tasks.map_sounds import write_whole
from coala_latent.weights.home import home_folder

__all__ = ["kept_layout", "layouts_folder"]

_PACKAGES = {"tsne": "scikit-learn", "umap": "umap-learn"}


def layouts_folder() -> Path:
    """Where layouts are kept."""
    return home_folder() / "layouts"


def kept_layout(
    vectors: npt.NDArray[np.float32], method: str, *, perplexity: float, landmarks: int, seed: int
) -> MapProjection:
    """`map_projection`, or what it gave for the same vectors and settings before.

    Principal components are quick and not kept. Where the cache cannot be written, nothing is.

    Raises:
        CoalaLatentError: See `map_projection`.
    """
    path = None
    if method in _PACKAGES:
        settings = [method, perplexity, landmarks, seed, vectors.shape, str(vectors.dtype)]
        settings += [coala_latent.__version__, _version(_PACKAGES[method])]
        digest = hashlib.sha256(repr(settings).encode())
        digest.update(np.ascontiguousarray(vectors).data)
        path = layouts_folder() / f"{digest.hexdigest()}.npz"
        if (found := _read(path, method, len(vectors))) is not None:
            return found
    made = map_projection(vectors, method, perplexity=perplexity, landmarks=landmarks, seed=seed)
    if path is not None:
        out = io.BytesIO()
        trust = np.nan if made.trustworthiness is None else made.trustworthiness
        np.savez(out, points=made.points, description=made.description, trustworthiness=trust)
        with suppress(OSError):
            write_whole(path, out.getvalue())
    return made


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return ""


def _read(path: Path, method: str, n: int) -> MapProjection | None:
    """A layout of before; None where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            points, trust = file["points"], float(file["trustworthiness"])
            description = str(file["description"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if points.shape != (n, 2) or points.dtype != np.float32 or not np.isfinite(points).all():
        return None
    return MapProjection(method, points, description, None if np.isnan(trust) else trust)
