"""Models as ONNX files: one graph from the waveform to embeddings and scores.

Needs the extra ``onnx`` (``pip install "coala-latent[onnx]"``).
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coala_latent.embed.adapters.onnx_graph import (
    CoveredWaveforms,
    PatchGraph,
    Reading,
    SequenceGraph,
)
from coala_latent.embed.embedder import Embedder
from coala_latent.embed.hearing import PatchHearing
from coala_latent.embed.scores import Predictor
from coala_latent.embed.sequence_hearing import SequenceHearing
from coala_latent.errors import ConfigError, DependencyError
from coala_latent.models.geometry import Geometry
from coala_latent.types import FloatArray

__all__ = ["OPSET", "check_onnx", "export_onnx"]

OPSET = 18
_INPUT = "waveform"
_EMBEDDING = "embedding"
_TIMES = ("start_seconds", "hop_seconds", "window_seconds")


def export_onnx(
    embedder: Embedder, path: str | os.PathLike[str], *, scores: bool = True
) -> dict[str, Any]:
    """Write a model as one ONNX file, weights and front end inside.

    The graph's input ``waveform`` is ``(batch, time)`` float32 at the model's rate, of any batch
    and length from one sample on. Outputs are ``embedding`` ``(batch, rows, dim)``, the rows that
    `embedder` gives for each sound, and for a model with classes ``(batch, rows, classes)`` in
    [0, 1] under the name of each set. Sounds shorter than a row are repeated or extended with
    silence as the embedder does; where it would refuse them, or give no row, they are extended.
    Samples are not checked: what is NaN stays so.

    In the file's ``metadata_props``: ``model``, ``weights_sha256``, ``sample_rate``, ``layer``,
    ``pooling``, ``short``, ``min_samples``, ``drops``, ``licence``, and under ``outputs``, as
    JSON, for each output ``start_seconds`` (of the first row, negative where it begins before the
    sound), ``hop_seconds`` and ``window_seconds`` of its rows, and ``labels`` of its classes.

    Args:
        embedder: Model, layers, pooling, patch hop and treatment of short sounds.
        path: Of the file; one that exists is replaced when the new one is complete.
        scores: Whether the classes are scored too, where the model has any. A network that runs
            along the waveform is evaluated twice for them where they are read from another layer.

    Returns:
        The metadata, ``outputs`` as values.

    Raises:
        ConfigError: The embedder has settings that a graph cannot have.
        DependencyError: The packages of the extra are missing.
    """
    onnx = _required("onnx")
    _required("onnxscript")
    target = Path(path)
    names = tuple(getattr(embedder.model, "scored", {})) if scores else ()
    if embedder.precision != "float32":
        raise ConfigError("export with precision='float32', and let the runtime reduce it")
    if isinstance(embedder.hearing, SequenceHearing):
        proto, outputs = _sequence_proto(onnx, embedder, embedder.hearing, names)
    else:
        proto, outputs = _patch_proto(embedder, names)
    metadata = _metadata(embedder, outputs)
    _finish(onnx, proto, outputs, metadata)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        onnx.save_model(proto, temporary, format="protobuf")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return metadata


def check_onnx(
    path: str | os.PathLike[str],
    embedder: Embedder,
    lengths: Sequence[int] | None = None,
    batches: Sequence[int] = (1, 3),
) -> dict[str, float]:
    """Run a file with onnxruntime, on the CPU, beside the library itself.

    Args:
        path: From `export_onnx`.
        embedder: That it was exported with.
        lengths: Of the sounds, in samples; one sample, half a row, one row, and several by default
            (with ``short="error"`` one row and several).
        batches: How many sounds at a time.

    Returns:
        For each output its largest difference from the library's values, as a fraction of the
        largest value of that output; infinite where one of both is not finite.

    Raises:
        ConfigError: The file is missing, or has another number of rows or values than the embedder.
        DependencyError: onnxruntime is missing.
    """
    runtime = _required("onnxruntime")
    if not Path(path).is_file():
        raise ConfigError(f"{os.fspath(path)}: no such file (export it first)")
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    least = _min_samples(embedder)
    random = np.random.default_rng(0)
    worst, largest = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    short = () if embedder.short == "error" else (1, least // 2 + 1)
    for length in lengths or (*short, least, 2 * least + 4321):
        for batch in batches:
            loudness = np.geomspace(0.3, 0.003, batch)[:, None]
            sounds = (loudness * random.normal(size=(batch, length))).astype(np.float32)
            for name, got in zip(names, session.run(None, {_INPUT: sounds}), strict=True):
                wanted = np.stack([_library_values(embedder, name, sound) for sound in sounds])
                if got.shape != wanted.shape:
                    raise ConfigError(
                        f"{os.fspath(path)}: {name} of {length} samples is {got.shape}, the "
                        f"embedder's {wanted.shape} (export it with this embedder)"
                    )
                apart = float(np.abs(got - wanted).max())
                worst[name] = max(worst[name], apart if math.isfinite(apart) else math.inf)
                largest[name] = max(largest[name], float(np.abs(wanted).max()))
    return {name: worst[name] / max(largest[name], 1e-30) for name in names}


def _library_values(embedder: Embedder, name: str, sound: FloatArray) -> FloatArray:
    if name == _EMBEDDING:
        return embedder(sound, embedder.sample_rate).values
    options: dict[str, Any] = {"short": embedder.short, "device": embedder.device}
    if isinstance(embedder.hearing, PatchHearing):
        options["patch_hop"] = embedder.hearing.front_end.framing.patch_hop
    predictor = Predictor(embedder.model, embedder.card, [name], **options)
    return predictor(sound, embedder.sample_rate)[name].values


def _patch_proto(embedder: Embedder, names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    assert isinstance(embedder.hearing, PatchHearing)
    front_end = copy.deepcopy(embedder.hearing.front_end).cpu()
    graph = PatchGraph(
        copy.deepcopy(embedder.model).cpu(),
        front_end,
        embedder.layers,
        embedder.pooling,
        tile=embedder.short == "tile",
        scores=names,
    )
    framing = front_end.framing
    timing = _timing(embedder, -framing.pad, framing.patch_step, framing.heard_samples)
    outputs = {_EMBEDDING: timing} | {name: timing | _labels(embedder, name) for name in names}
    # Of no special length.
    example = torch.zeros(2, framing.min_samples + 3 * framing.patch_samples + 7)
    return _exported(graph, [example], [_INPUT], list(outputs)), outputs


def _sequence_proto(
    onnx: Any, embedder: Embedder, hearing: SequenceHearing, names: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    grid = hearing.grid
    if len(embedder.layers) > 1 or (grid.patch, grid.patch_hop) != (1, 1):
        raise ConfigError(
            f"{embedder.card.name} runs along the waveform: export one layer and single steps"
        )
    model: Any = copy.deepcopy(embedder.model).cpu()
    # Layers whose steps lie alike hear the same waveform.
    groups: dict[Geometry, list[Reading]] = {}
    outputs: dict[str, Any] = {}
    for reading in (
        Reading(_EMBEDDING, embedder.layer),
        *(Reading(name, model.scored[name], name) for name in names),
    ):
        geometry = model.network.geometry(reading.layer)
        groups.setdefault(geometry, []).append(reading)
        timing = _timing(embedder, geometry.offset, geometry.stride, geometry.field)
        labels = {} if reading.scores is None else _labels(embedder, reading.scores)
        outputs[reading.name] = timing | labels
    inner = [f"covered_{number}" for number in range(len(groups))]
    longest = max(geometry.minimum for geometry in groups)
    covered = _exported(
        CoveredWaveforms(list(groups), embedder.short == "tile"),
        [torch.zeros(2, longest + 1001)],
        [_INPUT],
        inner,
    )
    network = _exported(
        SequenceGraph(model, list(groups.values())),
        # Lengths that differ, lest they be taken for one.
        [torch.zeros(2, 2 * longest + 1001 + 64 * number) for number in range(len(inner))],
        inner,
        [reading.name for group in groups.values() for reading in group],
    )
    merged = onnx.compose.merge_models(
        onnx.compose.add_prefix(covered, "cover/", rename_inputs=False, rename_outputs=False),
        network,
        io_map=[(name, name) for name in inner],
    )
    return merged, outputs


def _exported(
    graph: nn.Module, examples: Sequence[Tensor], inputs: list[str], outputs: list[str]
) -> Any:
    """The exporter's protobuf, batch and time dynamic."""
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes: Any = tuple(dynamic for _ in examples)
    if isinstance(graph, SequenceGraph):
        # Arguments behind a star count as one.
        shapes = (shapes,)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(),
            tuple(examples),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=outputs,
            verbose=False,
        )
    assert program is not None
    # Values within are named after their operators, of which one is called embedding.
    for node in program.model.graph.all_nodes():
        for value in node.outputs:
            if value.name in outputs and not value.is_graph_output():
                value.name = f"inner/{value.name}"
    return program.model_proto


def _finish(onnx: Any, proto: Any, outputs: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Names of axes, metadata, and nothing of the place where it was made."""
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    proto.graph.ClearField("value_info")
    proto.graph.ClearField("metadata_props")
    proto.ClearField("metadata_props")
    for value in (*proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")
        axes = value.type.tensor_type.shape.dim
        axes[0].dim_param = "batch"
        if value.name == _INPUT:
            axes[1].dim_param = "time"
            continue
        alike = all(outputs[value.name][time] == outputs[_EMBEDDING][time] for time in _TIMES)
        axes[1].dim_param = "rows" if alike else f"{value.name}_rows"
    proto.producer_name = "coala-latent"
    proto.graph.name = "waveform_to_embedding"
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in metadata.items()
    }
    onnx.helper.set_model_props(proto, texts)
    onnx.checker.check_model(proto, full_check=True)


def _metadata(embedder: Embedder, outputs: Mapping[str, Any]) -> dict[str, Any]:
    card = embedder.card
    return {
        "model": card.name,
        "description": card.description,
        "weights_sha256": card.sha256,
        "licence": card.licence,
        "sample_rate": embedder.sample_rate,
        "layer": embedder.layer,
        "pooling": embedder.pooling,
        "short": "tile" if embedder.short == "tile" else "pad",
        "min_samples": _min_samples(embedder),
        "drops": card.drops,
        "outputs": dict(outputs),
    }


def _min_samples(embedder: Embedder) -> int:
    if isinstance(embedder.hearing, SequenceHearing):
        return embedder.hearing.grid.minimum
    assert isinstance(embedder.hearing, PatchHearing)
    return embedder.hearing.front_end.framing.row_samples


def _timing(embedder: Embedder, start: int, hop: int, window: int) -> dict[str, Any]:
    rate = embedder.sample_rate
    return {
        name: samples / rate for name, samples in zip(_TIMES, (start, hop, window), strict=True)
    }


def _labels(embedder: Embedder, name: str) -> dict[str, Any]:
    card = embedder.card
    return {"labels": list(card.classes.get(name) or card.vocabulary)}


def _required(name: str) -> Any:
    try:
        module = import_module(name)
        if name == "onnx":
            import_module("onnx.compose")
    except ImportError as error:
        raise DependencyError(
            f'{name} cannot be imported: {error} (pip install "coala-latent[onnx]")'
        ) from error
    return module


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about packages and forms that are none of the reader's."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(before)
