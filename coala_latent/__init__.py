"""Audio representation models in PyTorch.

>>> from coala_latent import load_model
>>> embedder = load_model("coala-test")
>>> embedding = embedder.file("dog.wav")          # doctest: +SKIP
>>> embedding.values, embedding.start, embedding.end   # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coala_latent.types import Embedding, Sound

if TYPE_CHECKING:
    from coala_latent.audio.io import read_audio
    from coala_latent.embed.embedder import Embedder, load_model
    from coala_latent.embed.live import StreamEncoder
    from coala_latent.embed.original import (
        extract_audio_embedding,
        extract_audio_embedding_chunks,
        extract_tag_embedding,
        return_loaded_model,
    )
    from coala_latent.registry import Card, build_model, list_models, model_card
    from coala_latent.store import Store

__version__ = "0.1.0"

__all__ = [
    "Card",
    "Embedder",
    "Embedding",
    "Sound",
    "Store",
    "StreamEncoder",
    "build_model",
    "extract_audio_embedding",
    "extract_audio_embedding_chunks",
    "extract_tag_embedding",
    "list_models",
    "load_model",
    "model_card",
    "read_audio",
    "return_loaded_model",
]

# Loaded on first use, so that `import coala_latent` stays quick and light.
_LAZY = {
    "Card": "coala_latent.registry",
    "Embedder": "coala_latent.embed.embedder",
    "Store": "coala_latent.store",
    "StreamEncoder": "coala_latent.embed.live",
    "build_model": "coala_latent.registry",
    "extract_audio_embedding": "coala_latent.embed.original",
    "extract_audio_embedding_chunks": "coala_latent.embed.original",
    "extract_tag_embedding": "coala_latent.embed.original",
    "list_models": "coala_latent.registry",
    "load_model": "coala_latent.embed.embedder",
    "model_card": "coala_latent.registry",
    "read_audio": "coala_latent.audio.io",
    "return_loaded_model": "coala_latent.embed.original",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
