"""Hydra overrides that hold paths and other free text."""

from __future__ import annotations

import re

__all__ = ["quote_path", "quote_value"]

# Values that Hydra's grammar would misread where a path has spaces, commas, = or brackets.
_PATHS = (
    *("data.root", "data.train", "data.validation", "data.vocabulary"),
    *("latents.model", "model.start", "output", "resume"),
)


def quote_path(argument: str) -> str:
    """Quote the value of an override that is a path, unless it is quoted already."""
    key, _, value = argument.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if not value or quoted or key.lstrip("+") not in _PATHS:
        return argument
    if re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return argument
    return f"{key}={quote_value(value)}"


def quote_value(value: str) -> str:
    """A text as Hydra's grammar reads it back unchanged."""
    # A backslash counts as itself unless it stands before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + m[2].replace("'", "\\'"), value)
    return f"'{escaped}'"
