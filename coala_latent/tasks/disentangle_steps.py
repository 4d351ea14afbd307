"""What the stages of ``coala-latent disentangle`` compute: exploration, measures, transfer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from coala_latent.analysis.exploration import (
    explore_layers,
    explore_original,
    factor_folds,
    time_blocked_folds,
)
from coala_latent.analysis.factor_measures import (
    eta_squared,
    factor_report,
    suggest_dimensions,
)
from coala_latent.analysis.folds import Fold
from coala_latent.analysis.projection import project
from coala_latent.analysis.transfer import (
    LatentEditor,
    TransferReport,
    transfer_effects,
    triplet_effects,
)
from coala_latent.audio.frontends import FrontEnd
from coala_latent.data.latents import LabelledLatents
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import ConfigError, DataError
from coala_latent.store import Store
from coala_latent.tasks.disentangler import Disentangler
from coala_latent.weights import write_json

__all__ = ["explore", "held_out_effects", "measure", "stage_parts"]

_SHUFFLES = 200
_PARTS = 5


def explore(
    layers: Mapping[str, LabelledLatents], folder: Path, settings: Mapping[str, Any], seed: int
) -> None:
    """Accuracy of every layer for every factor, and three layers on a plane.

    Writes ``exploration.json`` and ``planes.npz`` (points by layer, ``rows`` and ``labels``).
    """
    first = next(iter(layers.values()))
    features = {layer: latents.values for layer, latents in layers.items()}
    found: dict[str, Any] = {}
    for number, factor in enumerate(first.factors):
        labels = first.labels[:, number]
        folds, how = _folds(first, labels, settings, seed)
        explored = {"knn": explore_layers(features, labels, folds, neighbors=settings["neighbors"])}
        if settings["linear"]:
            explored["linear"] = explore_layers(features, labels, folds, "linear")
        if settings["original"]:
            explored["original"] = explore_original(
                features,
                labels,
                sample_size=settings["original_rows"],
                neighbors=settings["original_neighbors"],
            )
        found[factor] = {
            "folds": how,
            **{name: each.to_dict() for name, each in explored.items()},
        }
    write_json(folder / "exploration.json", found)
    best = found[first.factors[0]]["knn"]["best"]
    names = list(dict.fromkeys([next(iter(layers)), best, list(layers)[-1]]))
    rows = np.random.default_rng(seed).permutation(len(first))[: settings["tsne_rows"]]
    planes = {name: project(features[name][rows], "tsne", seed=seed) for name in names}
    write_json(
        folder / "planes.json", {"order": names, **{n: p.to_dict() for n, p in planes.items()}}
    )
    points = {f"points_{number}": planes[name].points for number, name in enumerate(names)}
    _save_arrays(folder / "planes.npz", {"labels": first.labels[rows], **points})


def _folds(
    latents: LabelledLatents, labels: npt.NDArray[np.int64], settings: Mapping[str, Any], seed: int
) -> tuple[list[Fold], str]:
    """By take where there are several, else blocks of time."""
    if len(np.unique(latents.take)) > 1 and _takes_cross(latents):
        folds = factor_folds(labels, latents.take, settings["folds"], seed)
        return folds, f"{len(folds)} folds, each of takes that the others do not have"
    if not np.isfinite(latents.start).all():
        folds = factor_folds(labels, np.arange(len(labels)), settings["folds"], seed)
        return folds, (
            f"{len(folds)} folds of random rows, which leaks: no recordings or times are known of "
            "these latents, and a row's neighbours may be on both sides"
        )
    folds = time_blocked_folds(
        latents.recording, latents.start, latents.end, labels, settings["blocks"]
    )
    return folds, f"{len(folds)} blocks of time of every recording, 1 s apart: one take a condition"


def _takes_cross(latents: LabelledLatents) -> bool:
    """Whether each condition was recorded in several takes."""
    pairs = np.unique(np.stack([latents.conditions, latents.take]), axis=1)
    return bool(np.bincount(pairs[0]).min() > 1)


def measure(
    fitted: Disentangler,
    latents: LabelledLatents,
    train: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.int64],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
) -> None:
    """Measures of the code on held-out rows, and shuffled labels beside them.

    Writes ``measures.json`` and ``code.npz`` (held-out ``z`` and ``labels``).
    """
    z = _code(fitted, latents.values)
    slices, factors = fitted.spec.slices, latents.factors
    folds = _held_out_folds(latents, train, held_out, seed)
    kept = np.concatenate([train, held_out])
    report = factor_report(
        z[held_out],
        latents.labels[held_out],
        slices,
        latents.recording[held_out],
        n_resamples=settings["resamples"],
        max_rows=settings["rows"],
        seed=seed,
    )
    whole = factor_report(
        z[kept],
        latents.labels[kept],
        slices,
        latents.recording[kept],
        x=latents.values[kept],
        inverse=lambda code: _inverse(fitted, code),
        folds=dict.fromkeys(factors, folds),
        n_resamples=1,
        max_rows=settings["rows"],
        seed=seed,
    ).to_dict()
    result = {
        **report.to_dict(),
        "swaps": whole["swaps"],
        "round_trip": whole["round_trip"],
        "train_eta_squared": {
            factor: {
                block: found.mean
                for block, found in eta_squared(
                    z[train], latents.labels[train, k], slices, latents.recording[train], 1
                ).items()
            }
            for k, factor in enumerate(factors)
        },
        "shuffled_eta_squared": _shuffled(z[held_out], latents.take_rows(held_out), slices, seed),
        "suggested_dims": dict(
            zip(
                slices,
                suggest_dimensions(latents.values[train], latents.labels[train], fitted.spec.size),
                strict=True,
            )
        ),
        "stages": stage_parts(fitted, latents.values[held_out]),
        "rows": {"train": len(train), "held_out": len(held_out)},
    }
    write_json(folder / "measures.json", result)
    _save_arrays(folder / "code.npz", {"z": z[held_out], "labels": latents.labels[held_out]})


def _held_out_folds(
    latents: LabelledLatents,
    train: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.int64],
    seed: int,
) -> list[Fold]:
    """The training rows against parts of the held-out recordings; numbers within both together."""
    recordings = np.unique(latents.recording[held_out])
    part = np.random.default_rng(seed).permutation(len(recordings)) % min(_PARTS, len(recordings))
    of_row = part[np.searchsorted(recordings, latents.recording[held_out])]
    known = np.arange(len(train))
    return [
        Fold(str(number), known, len(train) + np.flatnonzero(of_row == number))
        for number in range(int(part.max()) + 1)
    ]


def _shuffled(
    z: npt.NDArray[np.float32],
    latents: LabelledLatents,
    slices: Mapping[str, slice],
    seed: int,
) -> dict[str, dict[str, float]]:
    """95 % quantile of eta squared where whole recordings have others' labels."""
    rng = np.random.default_rng(seed)
    recordings, first, of_row = np.unique(latents.recording, return_index=True, return_inverse=True)
    found: dict[str, dict[str, list[float]]] = {
        factor: {block: [] for block in slices} for factor in latents.factors
    }
    for _ in range(_SHUFFLES):
        order = rng.permutation(len(recordings))
        labels = latents.labels[first[order]][of_row]
        for k, factor in enumerate(latents.factors):
            shares = eta_squared(z, labels[:, k], slices, latents.recording, 1)
            for block, share in shares.items():
                found[factor][block].append(share.mean)
    return {
        factor: {block: float(np.quantile(values, 0.95)) for block, values in blocks.items()}
        for factor, blocks in found.items()
    }


def _save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


@torch.inference_mode()
def _code(fitted: Disentangler, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    blocks = torch.from_numpy(np.array(values)).split(4096)
    return torch.cat([fitted.flow(block)[0] for block in blocks]).numpy()


@torch.inference_mode()
def _inverse(fitted: Disentangler, code: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return fitted.flow.inverse(torch.from_numpy(np.asarray(code, np.float32)))[0].numpy()


def stage_parts(fitted: Disentangler, values: npt.NDArray[np.float32]) -> dict[str, list[float]]:
    """How far each stage of the flow moves a row: its tangent at 0, and what that leaves.

    Returns:
        ``affine`` and ``remainder``, mean lengths by stage.
    """
    x = torch.from_numpy(np.array(values[:512]))
    parts: dict[str, list[float]] = {"affine": [], "remainder": []}
    for stage in fitted.flow.stages:

        def moved(rows: Tensor, stage: Any = stage) -> Tensor:
            return stage(rows)[0]

        origin = torch.zeros_like(x)
        constant, slope = torch.autograd.functional.jvp(moved, origin, x)
        with torch.no_grad():
            y = moved(x)
            parts["affine"].append(float((constant + slope - x).norm(dim=1).mean()))
            parts["remainder"].append(float((y - constant - slope).norm(dim=1).mean()))
            x = y
    return parts


def held_out_effects(
    fitted: Disentangler,
    embedder: Embedder,
    store: Store,
    latents: LabelledLatents,
    rows: npt.NDArray[np.int64],
    folder: Path,
    settings: Mapping[str, Any],
    seed: int,
) -> None:
    """What the network hears when held-out latents are edited; writes ``transfer.json``.

    Args:
        fitted: Flow and projection.
        embedder: Of the layer.
        store: Full rows of the layer.
        latents: All projected rows, in the store's order.
        rows: Numbers of the held-out rows.
        folder: To write to.
        settings: ``transfer`` of the configuration.
        seed: Of rows, pairs and intervals.
    """
    if not isinstance(embedder.model.front_end, FrontEnd):
        reason = f"{embedder.card.name} runs along the waveform: one row of a layer is no input"
        write_json(folder / "transfer.json", {"left_out": reason})
        return
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[: settings["rows"]])
    x = torch.from_numpy(store.values[chosen].astype(np.float32))
    editor = LatentEditor(fitted.flow, fitted.projection, _resume(embedder), settings["clamp"])
    outputs = _outputs(embedder, settings["outputs"], latents.classes)
    slices, labels = fitted.spec.slices, latents.labels[chosen]
    groups = latents.recording[chosen]
    found: dict[str, Any] = {"outputs": outputs, "layer": embedder.layer, "rows": len(chosen)}
    found["pairs"] = transfer_effects(
        editor,
        x,
        labels,
        groups,
        slices,
        n_pairs=settings["pairs"],
        outputs={name: [index] for name, index in outputs.items()},
        seed=seed,
    ).to_dict()
    found["pairs"]["changes"] = _named(found["pairs"]["changes"], latents)
    found["triplets"] = _triplets(editor, x, labels, groups, slices, settings["pairs"], seed)
    write_json(folder / "transfer.json", found)


def _named(changes: Mapping[str, Any], latents: LabelledLatents) -> dict[str, Any]:
    """Changes of outputs by the name of the donor's class instead of its number."""
    names = dict(zip(latents.factors, latents.classes, strict=True))
    return {
        factor: {
            output: {names[factor][int(number)]: each for number, each in classes.items()}
            for output, classes in outputs.items()
        }
        for factor, outputs in changes.items()
    }


def _triplets(
    editor: LatentEditor,
    x: Tensor,
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    slices: Mapping[str, slice],
    count: int,
    seed: int,
) -> dict[str, Any]:
    try:
        found: TransferReport = triplet_effects(
            editor, x, labels, groups, slices, n_triplets=count, seed=seed
        )
    except DataError as error:
        return {"left_out": str(error)}
    return found.to_dict()


def _resume(embedder: Embedder) -> Any:
    """From flattened rows of the layer to the network's first output."""
    model: Any = embedder.model
    network, layer, front_end = model.network, embedder.layer, model.front_end
    silence = front_end.window.new_zeros(1, 1, *front_end.patch_shape)
    with torch.inference_mode():
        shape = network.until(silence, layer).shape[1:]
    output = "logits" if "logits" in network.outputs else network.outputs[0]

    def resume(rows: Tensor) -> Tensor:
        found: Tensor = network.resume(rows.to(silence.device).view(-1, *shape), layer)[output]
        return found.cpu()

    return resume


def _outputs(
    embedder: Embedder, named: list[str] | None, classes: tuple[tuple[str, ...], ...]
) -> dict[str, int]:
    """Places of logits by name; by default those that are called as a factor's class."""
    known = [name for names in embedder.card.classes.values() for name in names]
    places = {name.lower(): place for place, name in enumerate(known)}
    if named is None:
        wanted = [name for group in classes for name in group if name.lower() in places]
    else:
        wanted = list(named)
        for name in wanted:
            if name.lower() not in places:
                raise ConfigError(
                    f"transfer.outputs: {embedder.card.name} has no class {name!r} (`coala-latent "
                    "models` tells them)"
                )
    return {known[places[name.lower()]]: places[name.lower()] for name in wanted}
