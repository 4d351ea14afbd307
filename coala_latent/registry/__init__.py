"""Models by name: a card each, and the module it describes."""

from coala_latent.registry.architectures import build_front_end, build_module
from coala_latent.registry.card import Card
from coala_latent.registry.describe import describe_model
from coala_latent.registry.models import (
    build_model,
    list_models,
    load_checkpoint,
    model_card,
    save_model,
)

__all__ = [
    "Card",
    "build_front_end",
    "build_model",
    "build_module",
    "describe_model",
    "list_models",
    "load_checkpoint",
    "model_card",
    "save_model",
]
