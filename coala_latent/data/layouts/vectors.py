"""Embeddings as COALA's ``encode.py`` left them: one ``.npy`` a sound.

::

    data/embeddings/gtzan/embeddings_dual_ae_c_200/blues.00000.npy ...
    data/embeddings/us8k/embeddings_dual_ae_c_200/...
    data/embeddings/nsynth/train/embeddings_dual_ae_c_200/...
    data/embeddings/nsynth/test/embeddings_dual_ae_c_200/...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coala_latent.data.layouts.benchmark import TEST, TRAIN
from coala_latent.data.layouts.files import FileIndex
from coala_latent.errors import DataError

__all__ = ["EmbeddingSet", "find_embeddings", "load_vector"]

_PREFIX = "embeddings_"
_PARTS = (TRAIN, TEST)


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Stored embeddings of one data set by one model.

    Attributes:
        name: Of the model: ``dual_ae_c_200``.
        folders: By part of the data set; ``""`` holds all parts.
    """

    name: str
    folders: Mapping[str, Path]
    _indices: dict[Path, FileIndex] = field(default_factory=dict, repr=False)

    @property
    def root(self) -> Path:
        """The folder that has everything."""
        one, *others = self.folders.values()
        return one.parent.parent if others else one

    def files(self, part: str = "") -> FileIndex:
        """The arrays of a part of the data set, by the stems of its sounds."""
        folder = self.folders.get(part) or self.folders[""]
        if folder not in self._indices:
            self._indices[folder] = FileIndex(sorted(folder.glob("*.npy")))
        return self._indices[folder]


def find_embeddings(folder: Path, data_set: str, *, split: bool = False) -> list[EmbeddingSet]:
    """The embeddings in a folder, by model.

    Args:
        folder: One model's folder of ``.npy`` files; or the data set's, with a folder
            ``embeddings_MODEL`` for each; or ``embeddings``, ``data`` or its parent above that.
        data_set: Folder name in that tree: ``us8k``, ``gtzan``, ``nsynth``, ``esc50``, ``esc10``.
        split: Training and test items are in folders ``train`` and ``test``. One folder of
            ``.npy`` files may hold them together; of two, either may be named.

    Raises:
        DataError: There are none.
    """
    if any(folder.glob("*.npy")):
        name = folder.name.removeprefix(_PREFIX)
        if split and folder.parent.name in _PARTS:
            pair = {part: folder.parent.parent / part / folder.name for part in _PARTS}
            return [EmbeddingSet(name, _both(pair))]
        return [EmbeddingSet(name, {"": folder})]
    tops = ("embeddings", "embedding", "data/embeddings", "data/embedding")
    for base in ("", data_set, *(f"{top}/{data_set}" for top in tops)):
        root = folder / base
        if split:
            models = {part: _models(root / part) for part in _PARTS}
            names = models[TRAIN] or models[TEST]
            found = [
                EmbeddingSet(
                    name.removeprefix(_PREFIX), _both({part: root / part / name for part in _PARTS})
                )
                for name in names
            ]
        else:
            found = [
                EmbeddingSet(name.removeprefix(_PREFIX), {"": root / name})
                for name in _models(root)
            ]
        if found:
            return found
    where = "{train,test}/" if split else ""
    raise DataError(
        f"{folder}: neither .npy files nor folders {data_set}/{where}{_PREFIX}MODEL with them"
    )


def _models(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{_PREFIX}*") if any(path.glob("*.npy")))


def _both(folders: Mapping[str, Path]) -> Mapping[str, Path]:
    for folder in folders.values():
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder (embeddings of both parts are needed)")
    return folders


def load_vector(path: Path) -> npt.NDArray[np.float32]:
    """One vector a sound: the mean over its chunks, each counting alike, as in the original.

    Args:
        path: Array ``(dim,)``, ``(chunks, dim)`` or ``(chunks, 1, dim)``. Pickles are refused.

    Returns:
        ``(dim,)``.

    Raises:
        DataError: Another shape or type, no chunks, or values that are not finite.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"not a readable array: {error}") from error
    if not isinstance(values, np.ndarray) or not np.issubdtype(values.dtype, np.floating):
        raise DataError("not an array of floating-point numbers")
    if not 1 <= values.ndim <= 3 or values.size == 0:
        raise DataError(f"shape {values.shape}, where (chunks, dim) is expected")
    mean = values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        raise DataError("values are not finite")
    vector: npt.NDArray[np.float32] = mean.astype(np.float32)
    return vector
