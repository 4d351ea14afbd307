"""What trained document vectors are used for: new recordings, vectors of frames, and their means.

`frame_vectors`, `gather_means`, `concatenate` and `plot_vectors` do what the small tools of
sound-eval (B. Black, https://github.com/benblack769/sound-eval) do.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from coala_latent.data.frame_files import FrameFiles
from coala_latent.data.frame_pairs import FramePairs, RecordingFrames
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.tasks.doc2vec import recording_seconds, sounds_root
from coala_latent.tasks.doc2vec_folder import SavedVectors, read_vectors
from coala_latent.tasks.doc2vec_layout import (
    MUSIC_LIST,
    VectorTable,
    read_music_list,
    read_numbers,
    recording_names,
    write_array,
    write_vector_store,
)
from coala_latent.tasks.pictures import new_figure, plain, save_picture
from coala_latent.tasks.progress import progress_bar
from coala_latent.training.document_inference import fit_documents

__all__ = ["concatenate", "frame_vectors", "gather_means", "infer_vectors", "plot_vectors"]

_BACKGROUND = 512
_BLOCK = 1 << 16
_WINDOW = 3


def infer_vectors(
    trained: Path,
    frames: Path,
    output: Path,
    *,
    pairs: int = 256,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Vectors of recordings without training: the networks stay, a vector is fitted to each.

    Args:
        trained: Folder of document vectors, sound-eval's too. That has no frames of its training;
            neighbours are then told from frames of the new recordings.
        frames: Folder or store of the new recordings' frames, computed as those of the training.
        output: A store with one row a recording.
        pairs: See `fit_documents`, like `seed`.
        seed: Of the pairs.
        overwrite: Replace `output`.

    Returns:
        JSON-able: ``output``, ``recordings`` and ``without_frames`` (names).

    Raises:
        DataError: A folder cannot be read, or the frames are of another front end.
        ConfigError: `output` exists.
    """
    if output.exists() and not overwrite:
        raise ConfigError(f"{output}: exists already (choose another name, or --overwrite)")
    saved, files = read_vectors(trained), FrameFiles(frames)
    _check_front_end(saved, files)
    recordings = RecordingFrames.load(files)
    settings = saved.manifest.get("settings", {})
    background = saved.state.get("background")
    if background is None:
        sampler = FramePairs(recordings, _BACKGROUND, 1)
        background = sampler.batch(sampler.draw(1, torch.Generator().manual_seed(seed)), 0).frames
    vectors = fit_documents(
        saved.model,
        recordings,
        background,
        max(1, int(settings.get("window", saved.config.get("WINDOW_SIZE", _WINDOW)))),
        word_dropout=0.0 if saved.model.compat else float(settings["word_dropout"]),
        prior=0.0 if saved.model.compat else float(settings["prior"]),
        pairs=pairs,
        seed=seed,
    )
    table = VectorTable(
        files.names,
        vectors.numpy(),
        recording_seconds(files),
        recordings.lengths,
        sounds_root(files),
    )
    about = {"generation": saved.number, "pairs": pairs, "seed": seed}
    unfinished = output.parent / f".{output.name}.next"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        identity = replace(saved.identity, pooling="inferred")
        write_vector_store(unfinished / output.name, table, identity, about)
        (unfinished / output.name).replace(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return {
        "output": str(output),
        "recordings": len(files),
        "without_frames": _empty(files),
    }


def frame_vectors(
    trained: Path, frames: Path, output: Path, *, quiet: bool = False
) -> dict[str, Any]:
    """Words of every frame: a ``(time, dim)`` array a recording, named and nested as its frames.

    Returns:
        JSON-able: ``output``, ``recordings``, ``frames``.

    Raises:
        DataError: A folder cannot be read, a name leads out of `output`, or the frames are of
            another front end.
    """
    saved, files = read_vectors(trained), FrameFiles(frames)
    _check_front_end(saved, files)
    if output.resolve() == files.path.resolve():
        raise ConfigError(f"{output}: holds the frames themselves (choose another folder)")
    targets = [_target(output, name) for name in files.names]
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task("frames", total=len(files), note="")
        for index, target in enumerate(targets):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_array(target, _words(saved.model, files.read(index)))
            bar.update(task, advance=1)
    return {"output": str(output), "recordings": len(files), "frames": sum(files.lengths)}


def gather_means(
    frames: Path, listed: Path, output: Path, *, computed: bool = False
) -> dict[str, Any]:
    """Mean over time of the words of each recording, in the order of a list.

    Args:
        frames: Folder or store of frames, of words with `computed`.
        listed: Folder of document vectors; with `computed` a ``music_list.txt`` alone does.
        output: A ``.npy`` file ``(recordings, dim)`` float32; zeros for a recording without frames.
        computed: Take the mean of what is in `frames`.

    Returns:
        JSON-able: ``output``, ``recordings`` and ``without_frames`` (names).

    Raises:
        DataError: A folder or list cannot be read, or a recording of the list has no frames there.
    """
    files = FrameFiles(frames)
    model: Doc2Vec | None = None
    if computed:
        path = listed / MUSIC_LIST if listed.is_dir() else listed
        names = recording_names(read_music_list(path))
    else:
        saved = read_vectors(listed)
        _check_front_end(saved, files)
        model, names = saved.model, saved.names
    place = {name: index for index, name in enumerate(files.names)}
    if missing := [name for name in names if name not in place]:
        raise DataError(
            f"{frames}: no frames of {missing[0]}"
            f"{f' and {len(missing) - 1} others' if len(missing) > 1 else ''} of the list"
        )
    means = np.zeros((len(names), files.width if model is None else model.dim), np.float32)
    for row, name in enumerate(names):
        values = files.read(place[name])
        if len(values):
            words = values if model is None else _words(model, values)
            means[row] = words.mean(axis=0, dtype=np.float64)
    write_array(output, means)
    empty = [name for name in names if not files.lengths[place[name]]]
    return {"output": str(output), "recordings": len(names), "without_frames": empty}


def concatenate(first: Path, second: Path, output: Path) -> tuple[int, int]:
    """Put the rows of two arrays side by side, such as document vectors and mean words.

    Returns:
        Shape of the result.

    Raises:
        DataError: An array cannot be read, is not ``(n, dim)``, or they differ in `n`.
    """
    one, other = _table(first), _table(second)
    if len(one) != len(other):
        raise DataError(
            f"{first} has {len(one)} rows, {second} {len(other)} (both need a row a recording)"
        )
    values = np.concatenate([one, other], axis=1)
    write_array(output, values)
    return values.shape[0], values.shape[1]


def plot_vectors(array: Path, picture: Path, seconds_per_row: float = 1.0) -> None:
    """Draw a ``(time, dim)`` array, time from left to right.

    Raises:
        DataError: The array cannot be read, is not of this shape, or has no rows.
        ConfigError: `seconds_per_row` is not above 0.
        DependencyError: matplotlib is missing.
    """
    if not 0 < seconds_per_row < float("inf"):
        raise ConfigError(f"seconds_per_row={seconds_per_row}: use a number above 0")
    values = _table(array)
    if not values.size:
        raise DataError(f"{array}: has shape {values.shape}, nothing to draw")
    figure = new_figure(10.0, 4.0)
    axes = figure.subplots()
    extent = (0.0, len(values) * seconds_per_row, 0.0, float(values.shape[1]))
    image = axes.imshow(values.T, aspect="auto", origin="lower", extent=extent, cmap="viridis")
    axes.set_xlabel("row" if seconds_per_row == 1 else "seconds")
    axes.set_ylabel("dimension")
    axes.set_title(plain(array.name))
    figure.colorbar(image, ax=axes)
    save_picture(figure, picture)


def _check_front_end(saved: SavedVectors, files: FrameFiles) -> None:
    if files.width != saved.model.bands:
        raise DataError(
            f"{files.path}: {files.width} values in a frame, {saved.folder} was trained on "
            f"{saved.model.bands} (compute the frames as those of the training)"
        )
    then = {} if saved.original else saved.manifest["frames"]["settings"]
    now = files.settings
    if then and now and then != now:
        different = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
        raise DataError(
            f"{files.path}: frames of another front end than {saved.folder} was trained on "
            f"({', '.join(different)}); compute them as those of the training"
        )


@torch.inference_mode()
def _words(model: Doc2Vec, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    blocks = torch.from_numpy(frames).split(_BLOCK)
    words: npt.NDArray[np.float32] = torch.cat([model.word_vectors(b) for b in blocks]).numpy()
    return words


def _target(folder: Path, name: str) -> Path:
    parts = PurePosixPath(f"{name}.npy").parts
    if ".." in parts or PurePosixPath(name).is_absolute():
        raise DataError(f"{name}: would be written outside {folder}")
    return folder.joinpath(*parts)


def _empty(files: FrameFiles) -> list[str]:
    return [name for name, length in zip(files.names, files.lengths, strict=True) if not length]


def _table(path: Path) -> npt.NDArray[np.float32]:
    values = read_numbers(path)
    if values.ndim != 2:
        raise DataError(f"{path}: has shape {values.shape}, not (rows, values)")
    return values
