"""The output folder of document vectors: weights and vectors of one step, whenever it is killed.

A save is ``state_at_{n}.pt``, one file with networks, vectors, optimisers, random numbers and
counters; ``manifest.json`` names it and is replaced by one rename, which is the moment from which
the save counts. The names that sound-eval's users know (``weights``, ``vector_at_{n}.npy``,
``cost_list.csv``) and the store follow from the state. While they change there is no
``epoc_num.txt``; it is written last. So whoever reads by these names finds files of one step or no
number, and this module, which reads the state, always finds a whole one. What a kill leaves half
done is completed when the training goes on.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import yaml
from filelock import FileLock, Timeout

from coala_latent.data.latent_files import replace_file
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.store import StoreIdentity
from coala_latent.tasks.doc2vec_layout import (
    CONFIG,
    COSTS,
    EPOCH,
    MUSIC_LIST,
    STORE,
    WEIGHTS,
    VectorTable,
    read_music_list,
    read_original,
    recording_names,
    vector_name,
    weight_arrays,
    write_array,
    write_text,
    write_vector_store,
)
from coala_latent.tasks.fitting import versions
from coala_latent.weights import file_sha256, write_json

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["SavedVectors", "VectorFolder", "read_vectors"]

MANIFEST = "manifest.json"
FORMAT, VERSION = "coala_latent.doc2vec", 1
_LOCK, _NEXT = ".lock", ".next"
# What torch's restricted unpickler stumbles over in damaged bytes.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError)


@dataclass(frozen=True)
class SavedVectors:
    """A save: networks and vectors of one step.

    Attributes:
        folder: Where it is.
        number: Of the save.
        model: In evaluation mode, on the CPU; its documents are the rows.
        music_list: A row each.
        manifest: What is known of the training; empty for a folder of the original.
        state: What `DocumentVectors.state` gave, and besides ``lengths``, ``durations`` (frames and
            seconds of each recording) and ``background`` (frames ``(n, bands)`` of the training
            data); empty for a folder of the original.
        costs: Number and mean loss of each save after the first.
        config: The original's configuration, where the folder is the original's.
    """

    folder: Path
    number: int
    model: Doc2Vec
    music_list: list[str]
    manifest: dict[str, Any]
    state: dict[str, Any]
    costs: list[tuple[int, float]]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def original(self) -> bool:
        """Whether sound-eval wrote it."""
        return not self.manifest

    @property
    def names(self) -> list[str]:
        """Of the recordings."""
        return recording_names(self.music_list)

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """``(recordings, dim)`` float32."""
        values: npt.NDArray[np.float32] = self.model.documents.detach().numpy()
        return values

    @property
    def identity(self) -> StoreIdentity:
        """What a store of such vectors says of itself."""
        return StoreIdentity(
            model="doc2vec",
            weights_sha256=self.manifest["state"]["sha256"] if self.manifest else "",
            front_end=self.manifest["frames"]["settings"] if self.manifest else self.config,
            resampler={},
            layer="document",
            pooling="none",
            dim=self.model.dim,
        )


def read_vectors(folder: Path) -> SavedVectors:
    """Read the last save of a folder, also while it is being written to.

    Raises:
        DataError: It is no folder of document vectors, or a file is damaged.
    """
    if not (folder / MANIFEST).exists():
        if not (folder / EPOCH).exists():
            raise DataError(
                f"{folder}: no document vectors (a folder that coala-latent doc2vec train or "
                "sound-eval wrote has manifest.json or epoc_num.txt)"
            )
        old = read_original(folder)
        return SavedVectors(
            folder, old.number, old.model, old.music_list, {}, {}, old.costs, old.config
        )
    while True:
        manifest = _manifest(folder)
        path = folder / manifest["state"]["file"]
        try:
            state = _state(path, manifest["state"]["sha256"])
        except FileNotFoundError as error:
            # A training has made its next save meanwhile.
            if _manifest(folder)["generation"] != manifest["generation"]:
                continue
            raise DataError(f"{path}: missing (restore it, or train anew)") from error
        break
    music_list = read_music_list(folder / MUSIC_LIST)
    model = _model(state["model"], manifest["settings"]["compat"])
    if len(music_list) != len(model.documents):
        raise DataError(
            f"{folder / MUSIC_LIST}: {len(music_list)} lines for {len(model.documents)} vectors"
        )
    costs = [(int(number), float(cost)) for number, cost in manifest["costs"]]
    return SavedVectors(folder, manifest["generation"], model, music_list, manifest, state, costs)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path}: not about document vectors (use another folder)")
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{path}: version {manifest.get('version')}, this package reads {VERSION} (upgrade it)"
        )
    return manifest


def _state(path: Path, sha256: str) -> dict[str, Any]:
    try:
        if file_sha256(path) != sha256:
            raise DataError(f"{path}: damaged (its hash is another than {MANIFEST} says)")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise DataError(f"{path}: damaged ({type(error).__name__})") from error
    state: dict[str, Any] = found
    return state


def _model(weights: Mapping[str, torch.Tensor], compat: bool) -> Doc2Vec:
    hidden, bands = weights["origin.relu.weight"].shape
    documents, dim = weights["documents"].shape
    model = Doc2Vec(documents, bands, hidden, dim, compat=compat)
    model.load_state_dict(dict(weights))
    return model.eval()


class VectorFolder:
    """The folder of a training; one process at a time.

    As a context manager it lets go of the folder at the end.

    Args:
        folder: Made if it does not exist.

    Attributes:
        saved: The last save; None in a new folder.

    Raises:
        ConfigError: Another process works in it, or it holds something else.
        DataError: A file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is a file, not a folder (choose another name)")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.saved: SavedVectors | None = None
        self._lock = FileLock(folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(
                f"{folder}: another process trains in this folder (wait, or use another one)"
            ) from error
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        self._clear()
        if not (self.folder / MANIFEST).exists() and not (self.folder / EPOCH).exists():
            # What a first save leaves when it is killed may be overwritten, and nothing else.
            known = {MUSIC_LIST, CONFIG, vector_name(0), "state_at_0.pt"}
            names = {path.name for path in self.folder.iterdir()} - known
            other = sorted(name for name in names if not name.startswith("."))
            if other:
                raise ConfigError(
                    f"{self.folder}: holds {other[0]!r} and no document vectors (use a new folder)"
                )
            return
        self.saved = read_vectors(self.folder)
        if not self.saved.original:
            self._publish(self.saved)

    def _clear(self) -> None:
        """Remove what a kill may have left."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()
        shutil.rmtree(self.folder / _NEXT, ignore_errors=True)

    def begin(self, music_list: list[str], config: Mapping[str, Any]) -> None:
        """Write what no save changes.

        Raises:
            DataError: A name cannot be a line of a list.
        """
        for line in music_list:
            if "\n" in line or "\r" in line:
                raise DataError(f"{line!r}: a name with a line break cannot be listed (rename it)")
        write_text(self.folder / MUSIC_LIST, "\n".join(music_list))
        write_text(self.folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False))

    def save(self, state: Mapping[str, Any], about: Mapping[str, Any], cost: float | None) -> int:
        """Make the state of a run the folder's save.

        Args:
            state: See `SavedVectors`.
            about: Of the manifest: ``settings``, ``frames``, ``root`` (folder of the sounds, or
                None) and others, JSON-able.
            cost: Mean loss since the last save; None before the first step.

        Returns:
            Number of the save.

        Raises:
            DataError: A vector or weight is not finite. The last save stays.
        """
        now = state.get("current", state)["model"]
        if not all(bool(value.isfinite().all()) for value in now.values()):
            raise DataError(
                f"{self.folder}: the training has diverged; its last save is kept (lower "
                "learning_rate and document_rate)"
            )
        number = 0 if self.saved is None else self.saved.number + 1
        costs = [] if self.saved is None else list(self.saved.costs)
        if cost is not None:
            costs.append((number, cost))
        write_array(self.folder / vector_name(number), state["model"]["documents"].numpy())
        path = self.folder / f"state_at_{number}.pt"
        replace_file(path, lambda file: _write_state(dict(state), file))
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "generation": number,
            "state": {"file": path.name, "sha256": file_sha256(path)},
            **about,
            "costs": costs,
            "versions": versions(),
        }
        # From this rename on the save counts.
        write_json(self.folder / MANIFEST, manifest)
        self.saved = read_vectors(self.folder)
        self._publish(self.saved)
        return number

    def _publish(self, saved: SavedVectors) -> None:
        """Bring all that follows from the state up to it."""
        epoch = self.folder / EPOCH
        if not (epoch.exists() and epoch.read_text("utf-8") == str(saved.number)):
            epoch.unlink(missing_ok=True)
            self._write_known(saved)
            write_text(epoch, str(saved.number))
        kept = saved.manifest["state"]["file"]
        for path in self.folder.glob("state_at_*.pt"):
            if path.name != kept:
                path.unlink()

    def _write_known(self, saved: SavedVectors) -> None:
        write_array(self.folder / vector_name(saved.number), saved.vectors)
        weights = self.folder / WEIGHTS
        weights.mkdir(exist_ok=True)
        for name, values in weight_arrays(saved.model).items():
            write_array(weights / f"{name}.npy", values)
        rows = "".join(f"{number},{cost}\n" for number, cost in saved.costs)
        write_text(self.folder / COSTS, f"epoc,cost\n{rows}")
        store = self.folder / _NEXT / STORE
        shutil.rmtree(store.parent, ignore_errors=True)
        table = VectorTable(
            saved.names,
            saved.vectors,
            saved.state["durations"].numpy(),
            saved.state["lengths"].numpy(),
            saved.manifest.get("root"),
        )
        about = {"generation": saved.number, "steps": saved.state["steps"]}
        write_vector_store(store, table, saved.identity, about)
        store.replace(self.folder / STORE)
        shutil.rmtree(store.parent)

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _write_state(state: dict[str, Any], file: Any) -> None:
    torch.save(state, file)
    file.flush()
    os.fsync(file.fileno())
