"""Typed errors of the library.

Every error names the file or key it is about and says what to do. Catch `CoalaLatentError` to
catch them all; `AudioError` are those that a corpus run skips and lists.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AudioDecodeError",
    "AudioEmptyError",
    "AudioError",
    "AudioFormatError",
    "AudioNotFoundError",
    "AudioTooShortError",
    "AudioTruncatedError",
    "AudioValueError",
    "CoalaLatentError",
    "ConfigError",
    "DataError",
    "DependencyError",
    "ModelNotFoundError",
    "StoreError",
    "StoreFormatError",
    "StoreLockedError",
    "StoreMismatchError",
    "TagError",
    "WeightsError",
]


class CoalaLatentError(Exception):
    """Base of every error the library raises on purpose."""


class AudioError(CoalaLatentError):
    """Something is wrong with one sound.

    Args:
        source: File path, or a description such as ``"array"``.
        reason: What is wrong.
        cure: What the reader can do about it.
    """

    def __init__(self, source: str | Path, reason: str, cure: str = "") -> None:
        self.source = str(source)
        self.reason = reason
        self.cure = cure
        super().__init__(f"{self.source}: {reason}" + (f" ({cure})" if cure else ""))

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str, str]]:
        return type(self), (self.source, self.reason, self.cure)


class AudioNotFoundError(AudioError, FileNotFoundError):
    """The path does not exist, or is a folder."""

    def __str__(self) -> str:
        return str(self.args[0])


class AudioFormatError(AudioError):
    """The file is not in a format that can be read here."""


class AudioDecodeError(AudioError):
    """The file claims a known format, but its bytes do not decode."""


class AudioTruncatedError(AudioDecodeError):
    """The file ends before its header says it should."""


class AudioEmptyError(AudioError):
    """The sound has no samples."""


class AudioTooShortError(AudioError):
    """The sound is shorter than the model needs, and padding was not allowed."""


class AudioValueError(AudioError, ValueError):
    """Samples are not usable: NaN or infinity, a wrong shape, or a missing sample rate."""


class ModelNotFoundError(CoalaLatentError, KeyError):
    """No model or weights file of that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class WeightsError(CoalaLatentError):
    """A weights file cannot be read, or does not fit the model."""


class TagError(CoalaLatentError, KeyError):
    """A tag is not in the model's vocabulary."""

    def __str__(self) -> str:
        return str(self.args[0])


class DataError(CoalaLatentError):
    """A data set, table or folder is not what was expected."""


class ConfigError(CoalaLatentError, ValueError):
    """A configuration value is missing or does not make sense."""


class DependencyError(CoalaLatentError, ImportError):
    """An optional package is missing or cannot be loaded."""


class StoreError(CoalaLatentError):
    """Base of the embedding store's errors."""


class StoreFormatError(StoreError):
    """The file is not an embedding store, or one of an unknown version."""


class StoreMismatchError(StoreError):
    """The store was written with another model, layer or setting."""


class StoreLockedError(StoreError):
    """Another process is writing to the store."""
