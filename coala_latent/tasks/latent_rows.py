"""The rows of a recording that become latents: levelled, averaged, chosen while they stream by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coala_latent.audio.frontends import FrontEnd
from coala_latent.audio.io import AudioReader
from coala_latent.data.factor_sounds import Level, level_gain
from coala_latent.embed.embedder import Embedder
from coala_latent.errors import AudioTooShortError, ConfigError, ModelNotFoundError
from coala_latent.registry import Card, build_model, model_card
from coala_latent.store import StoreIdentity
from coala_latent.types import Embedding

__all__ = [
    "RowChoice",
    "flat_embedder",
    "latent_layer",
    "latent_model",
    "layer_embedder",
    "layer_identity",
    "recording_rows",
]

_MODELS = ("yamnet", "soundnet8")
# LatentAudio's layer 9, counted from 0, heard materials and actions best.
_LAYERS = {"yamnet": "layer10"}


@dataclass(frozen=True)
class RowChoice:
    """Which rows of a recording become latents, chosen while they stream by.

    Attributes:
        average: Rows that are averaged to one.
        offset: Rows between the beginnings of averages.
        every: Of the averages each so manieth is kept.
        rows: Most rows of a recording, evenly spread over its length; None for no limit.

    Raises:
        ConfigError: A number is less than 1.
    """

    average: int = 1
    offset: int = 1
    every: int = 1
    rows: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")


class _Chosen:
    """The chosen rows of one recording; blocks of any size give the same rows."""

    def __init__(self, choice: RowChoice, duration: float) -> None:
        self._choice = choice
        self._duration = duration
        self._held: Embedding | None = None
        self._first = 0  # number of the first row held
        self._next = 0  # number of the next average
        self._slot = -1
        self.heard = 0

    def push(self, rows: Embedding) -> Embedding:
        """The averages that these rows complete, as far as they are kept."""
        self.heard += len(rows)
        held = rows if self._held is None else _joined(self._held, rows)
        choice, kept = self._choice, []
        while True:
            begin = self._next * choice.offset - self._first
            if begin + choice.average > len(held):
                break
            if self._keep(self._next, float(held.start[begin])):
                kept.append(begin)
            self._next += 1
        done = min(max(0, self._next * choice.offset - self._first), len(held))
        self._held = Embedding(held.values[done:], held.start[done:], held.end[done:])
        self._first += done
        return _averages(held, np.array(kept, dtype=np.intp), choice.average)

    def _keep(self, number: int, start: float) -> bool:
        if number % self._choice.every:
            return False
        if self._choice.rows is None:
            return True
        slot = int(start * self._choice.rows / self._duration) if self._duration > 0 else 0
        fresh = self._slot < slot < self._choice.rows
        self._slot = max(self._slot, slot)
        return fresh


def _joined(one: Embedding, other: Embedding) -> Embedding:
    return Embedding(
        np.concatenate([one.values, other.values]),
        np.concatenate([one.start, other.start]),
        np.concatenate([one.end, other.end]),
    )


def _averages(rows: Embedding, begins: npt.NDArray[np.intp], count: int) -> Embedding:
    if count == 1:
        return Embedding(rows.values[begins], rows.start[begins], rows.end[begins])
    values = np.empty((len(begins), rows.dim), np.float32)
    for row, begin in zip(values, begins, strict=True):
        rows.values[begin : begin + count].mean(axis=0, out=row)
    return Embedding(values, rows.start[begins], rows.end[begins + count - 1])


def recording_rows(
    path: Path, embedder: Embedder, choice: RowChoice, level: Level = "none"
) -> Iterator[Embedding]:
    """The chosen rows of one recording in pieces, all layers beside each other.

    Raises:
        AudioError: The recording cannot be used, or is too short for one average.
    """
    gain = level_gain(path, level, embedder.channels)
    with AudioReader(path, allow_truncated=embedder.allow_truncated) as reader:
        encoder = embedder.stream(reader.info.sample_rate)
        chosen = _Chosen(choice, reader.info.duration)
        for block in reader.blocks():
            yield chosen.push(encoder.push(block if gain == 1.0 else block * np.float32(gain)))
        yield chosen.push(encoder.finish())
        if chosen.heard < choice.average:
            raise AudioTooShortError(
                path, f"{chosen.heard} rows, {choice.average} make an average", "use a smaller one"
            )


def layer_identity(
    embedder: Embedder, layer: str, choice: RowChoice, level: Level, dtype: str
) -> StoreIdentity:
    """What a store of one layer's chosen rows is."""
    whole = embedder.identity(dtype)
    front_end = {**whole.front_end, "rows": asdict(choice), "level": level}
    size = embedder.hearing.sizes[layer]
    return replace(whole, layer=layer, dim=size, front_end=front_end)


def layer_embedder(model: Embedder | str | Path, layers: Sequence[str] | None) -> Embedder:
    """An embedder as it is, or of a model's flattened layers.

    Raises:
        ConfigError: An embedder has other layers than those named.
    """
    if not isinstance(model, Embedder):
        return flat_embedder(model, layers)
    if layers is not None and tuple(layers) != model.layers:
        raise ConfigError(
            f"layers {', '.join(layers)}, but the embedder has {model.layer} (make it with these)"
        )
    return model


def flat_embedder(
    model: str | Path, layers: str | Sequence[str] | None, device: str = "cpu"
) -> Embedder:
    """An embedder whose rows are whole maps of a patch, or single time steps along a waveform.

    Raises:
        ConfigError: The model has no such layer.
        ModelNotFoundError: There is no such model.
    """
    module, card = build_model(model)
    pooling = "flatten" if isinstance(module.front_end, FrontEnd) else "mean"
    return Embedder(module, card, layer=layers, pooling=pooling, device=device)


def latent_model(name: str | None) -> Card:
    """The card of a model by name or file, or of the first known one whose weights are here.

    Raises:
        ConfigError: None of these is here.
        ModelNotFoundError: There is no model of that name.
    """
    if name is not None:
        return model_card(name)
    for known in _MODELS:
        try:
            return model_card(known)
        except ModelNotFoundError:
            continue
    raise ConfigError(
        f"latents.model: the weights of none of {', '.join(_MODELS)} are there (run coala-latent "
        "weights get soundnet8, or give latents.model=FILE)"
    )


def latent_layer(card: Card, layer: str | None) -> str:
    """The layer whose latents are taken apart."""
    return layer or _LAYERS.get(card.architecture, card.default_layer)
