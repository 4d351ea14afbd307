"""``coala-latent export``: a model as one ONNX file, checked beside the library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coala_latent.embed.adapters.onnx import check_onnx, export_onnx
from coala_latent.embed.embedder import load_model
from coala_latent.errors import ConfigError

__all__ = ["LARGEST_ERROR", "Exported", "export_model"]

# Of a file's outputs, as a fraction of the largest value; beyond that it is not the model.
LARGEST_ERROR = 1e-4


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        megabytes: Its size.
        metadata: What it says about itself.
        errors: Of each output, the largest difference from the library's values as a fraction of
            the largest value; empty where it was not checked.
    """

    path: Path
    megabytes: float
    metadata: dict[str, Any]
    errors: dict[str, float]


def export_model(
    model: str,
    output: Path,
    *,
    layers: tuple[str, ...] = (),
    pooling: str = "mean",
    patch_hop: int | None = None,
    scores: bool = True,
    check: bool = True,
) -> Exported:
    """Write a model as ONNX and compare it with the library.

    Args:
        model: Registry name or ``.safetensors`` file.
        output: Name of the file, ending with ``.onnx``.
        layers: To embed; the model's default by default.
        pooling: Over the positions of a layer.
        patch_hop: Frames between rows; the model's own by default.
        scores: Whether its classes are scored too.
        check: Whether it is run with onnxruntime.

    Raises:
        ConfigError: The name ends otherwise, its folder does not exist, the model cannot be
            exported so, or the file gives other values than the library (it is then removed).
        DependencyError: A package of the extra ``onnx`` is missing.
    """
    if output.suffix != ".onnx":
        raise ConfigError(f"{output}: the name of an ONNX file ends with .onnx")
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: its folder does not exist (make it first)")
    embedder = load_model(model, layers or None, pooling, patch_hop=patch_hop)
    metadata = export_onnx(embedder, output, scores=scores)
    errors = check_onnx(output, embedder) if check else {}
    if wrong := {name: error for name, error in errors.items() if not error <= LARGEST_ERROR}:
        output.unlink()
        listed = ", ".join(f"{name} by {error:.1e}" for name, error in wrong.items())
        raise ConfigError(
            f"{output}: onnxruntime's values differ from the library's: {listed} of the largest "
            "value (try another version of torch or onnxruntime; --no-check keeps the file)"
        )
    return Exported(output, output.stat().st_size / 1e6, metadata, errors)
