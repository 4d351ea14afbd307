"""Trained linear classifiers as safetensors files: two arrays, and in words what they are for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

import coala_latent
from coala_latent.analysis.linear_classifier import LINEAR, LinearClassifier
from coala_latent.errors import StoreError, StoreMismatchError, WeightsError
from coala_latent.store import StoreIdentity
from coala_latent.tasks.recordings import PointsBy, RecordingVectors
from coala_latent.weights import read_weights, write_weights

__all__ = ["SavedClassifier", "load_classifier", "save_classifier"]

_FORMAT = "coala_latent.classifier"


@dataclass(frozen=True, eq=False)
class SavedClassifier:
    """A classifier and the vectors it is for.

    Attributes:
        classifier: What says it.
        identity: Of the store it was trained on.
        by: Whether it was trained on recordings or on rows.
        about: What else was kept: number of recordings, column of labels, scores.
    """

    classifier: LinearClassifier
    identity: StoreIdentity
    by: PointsBy
    about: dict[str, Any]

    def check(self, points: RecordingVectors) -> None:
        """Refuse vectors of another model, layer or setting.

        Raises:
            StoreMismatchError: They differ; how is said.
        """
        # How precisely rows are kept is no other setting.
        other = replace(points.identity, dtype=self.identity.dtype)
        if differences := self.identity.differences(other):
            # Of another model everything differs, and one word says it.
            model = [each for each in differences if each.startswith("model:")]
            differences = model or differences
            raise StoreMismatchError(
                f"{points.store}: its vectors are not those the classifier was trained on "
                f"(trained, here): {'; '.join(differences)} (encode these sounds likewise)"
            )


def save_classifier(path: Path, saved: SavedClassifier) -> None:
    """Write a ``.safetensors`` file, whole or not at all.

    Raises:
        WeightsError: The name ends otherwise.
    """
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: name it .safetensors")
    found = saved.classifier
    words = {
        "kind": found.kind,
        "classes": list(found.classes),
        "converged": found.converged,
        "identity": asdict(saved.identity),
        "by": saved.by,
        "about": saved.about,
        "version": coala_latent.__version__,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"weight": torch.from_numpy(found.weight), "bias": torch.from_numpy(found.bias)}
    write_weights(path, arrays, {"format": _FORMAT, "classifier": json.dumps(words)})


def load_classifier(path: Path) -> SavedClassifier:
    """Read what `save_classifier` wrote.

    Raises:
        WeightsError: It is missing, damaged, or something else.
    """
    # Other suffixes would be tried as checkpoints, which a classifier never is.
    if path.is_file() and path.suffix != ".safetensors":
        raise WeightsError(f"{path}: no classifier (save one with coala-latent classify --save)")
    arrays = read_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise WeightsError(f"{path}: no classifier (save one with coala-latent classify --save)")
    try:
        words = json.loads(metadata["classifier"])
        weight, bias = arrays["weight"].double().numpy(), arrays["bias"].double().numpy()
        classifier = LinearClassifier(
            kind=str(words["kind"]),
            classes=tuple(map(str, words["classes"])),
            weight=weight,
            bias=bias,
            converged=bool(words["converged"]),
        )
        saved = SavedClassifier(
            classifier, StoreIdentity(**words["identity"]), words["by"], dict(words["about"])
        )
    except (KeyError, TypeError, ValueError, StoreError) as error:
        raise WeightsError(f"{path}: a damaged classifier: {error!r}") from error
    shape = (len(classifier.classes), saved.identity.dim)
    fits = weight.shape == shape and bias.shape == shape[:1]
    if not fits or classifier.kind not in LINEAR or saved.by not in ("files", "rows"):
        raise WeightsError(f"{path}: a damaged classifier: arrays and words do not fit together")
    return saved
