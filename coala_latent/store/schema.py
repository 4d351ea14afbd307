"""What a store says about itself: the identity of its model, its records, its root attributes.

Text is written as UTF-8, and bytes of a file name that are not UTF-8 are kept as they are
(``surrogateescape``), so every name that ``os.fsdecode`` returns reads back equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from coala_latent.errors import StoreError, StoreFormatError, StoreMismatchError

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "FileRecord",
    "Header",
    "StoreIdentity",
    "check_identity",
    "decode_text",
    "encode_text",
    "new_header",
    "open_checked",
    "plain_json",
    "printable_text",
    "read_header",
    "write_header",
]

FORMAT = "coala_latent.store"
FORMAT_VERSION = 1
FAILED = "failed"
_INT32_MAX = 2**31 - 1


def plain_json(value: Any, what: str) -> Any:
    """Return ``value`` as JSON gives it back: tuples are lists, NumPy scalars are numbers.

    Args:
        value: Anything made of dicts, lists, tuples, strings, numbers, booleans, None and NumPy.
        what: Its name, for the message.

    Raises:
        StoreError: Something in it is no JSON (an object, NaN, infinity).
    """

    def from_numpy(item: Any) -> Any:
        if isinstance(item, np.generic | np.ndarray):
            return item.tolist()
        raise TypeError(f"{type(item).__name__} is not JSON")

    try:
        return json.loads(json.dumps(value, default=from_numpy, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{what} cannot be stored: {error} (use strings, finite numbers, lists and dicts)"
        ) from error


def encode_text(text: str, what: str) -> bytes:
    """Return the UTF-8 bytes of ``text``.

    Args:
        text: A file name or a word; undecodable bytes as ``os.fsdecode`` escapes them.
        what: Its name, for the message.

    Raises:
        StoreError: The text would not read back equal: it holds a NUL, a surrogate that stands
            for no byte, or escapes that together are valid UTF-8.
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise StoreError(f"{what} {text!r} is not valid Unicode (rename the file)") from error
    if b"\0" in data or decode_text(data) != text:
        raise StoreError(f"{what} {text!r} does not survive as UTF-8 (rename the file)")
    return data


def decode_text(data: bytes) -> str:
    """Return the text of which `encode_text` made ``data``."""
    return data.decode("utf-8", "surrogateescape")


def printable_text(text: str) -> str:
    """Return ``text``, or where it could not be stored a version with escapes spelled out."""
    try:
        encode_text(text, "text")
    except StoreError:
        return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    return text


@dataclass(frozen=True)
class StoreIdentity:
    """What must agree for rows to live in one store.

    Attributes:
        model: Name in the registry, or a description.
        weights_sha256: Checksum of the weights file; empty for a model without weights.
        front_end: Settings of the front end, JSON values only.
        resampler: Settings of the resampler, JSON values only.
        layer: Name of the embedded layer.
        pooling: How the layer became rows.
        dim: Values in a row.
        dtype: How they are stored.
    """

    model: str
    weights_sha256: str
    front_end: dict[str, Any]
    resampler: dict[str, Any]
    layer: str
    pooling: str
    dim: int
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if isinstance(self.dim, bool) or not isinstance(self.dim, int | np.integer) or self.dim < 1:
            raise StoreError(f"dim must be a whole number of 1 or more, not {self.dim!r}")
        if self.dtype not in ("float32", "float16"):
            raise StoreError(f"dtype must be float32 or float16, not {self.dtype!r}")
        for name in ("model", "weights_sha256", "layer", "pooling"):
            encode_text(getattr(self, name), name)
        # As JSON gives them back, so that an identity equals the one read from a file.
        object.__setattr__(self, "dim", int(self.dim))
        object.__setattr__(self, "front_end", plain_json(self.front_end, "front_end"))
        object.__setattr__(self, "resampler", plain_json(self.resampler, "resampler"))

    def differences(self, other: StoreIdentity) -> list[str]:
        """Return one line for each setting in which ``other`` differs, such as ``dim: 64, 128``."""
        mine, theirs = _flat(asdict(self)), _flat(asdict(other))
        return [
            f"{key}: {mine.get(key, 'absent')!r}, {theirs.get(key, 'absent')!r}"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key, _ABSENT) != theirs.get(key, _ABSENT)
        ]


_ABSENT = object()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One line of the file table.

    Attributes:
        path: As the caller names the file: relative to the corpus root, with ``/``.
        status: ``"ok"``, ``"failed"`` (no rows), or another word such as ``"truncated"``.
        error: Why, in words; empty if nothing is wrong.
        duration: Seconds of the whole file.
        sample_rate: Of the file, in Hz.
        channels: Of the file.
        bytes: Size of the file.
        first_row: First of its rows in the file that holds this record.
        rows: How many rows it has.
    """

    path: str
    status: str
    error: str = ""
    duration: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    bytes: int = 0
    first_row: int = 0
    rows: int = 0

    @property
    def rank(self) -> int:
        """Which of two records of a path is kept: 2 is ok, 1 has rows, 0 is neither."""
        return 2 if self.status == "ok" else int(self.rows > 0)

    def check(self) -> None:
        """Raise `StoreError` if the record cannot be written and read back equal."""
        if not self.path or not self.status:
            raise StoreError(f"a record needs a path and a status, got {self!r}")
        encode_text(self.path, "path")
        encode_text(self.status, f"{self.path}: status")
        if not np.isfinite(self.duration) or self.duration < 0:
            raise StoreError(f"{self.path}: duration {self.duration} is not a time in seconds")
        for name, largest in (
            ("sample_rate", _INT32_MAX),
            ("channels", _INT32_MAX),
            ("bytes", 2**63 - 1),
        ):
            if not 0 <= getattr(self, name) <= largest:
                raise StoreError(f"{self.path}: {name} {getattr(self, name)} is out of range")
        if self.status == FAILED and self.rows:
            raise StoreError(
                f"{self.path}: a failed file has no rows, got {self.rows} (roll back before commit)"
            )


@dataclass(frozen=True)
class Header:
    """The root attributes of a store.

    Attributes:
        identity: What the rows are.
        metadata: Anything else the caller wants kept, JSON values only.
        created: ISO 8601, UTC: when its first row was written.
        package_version: Of the package that wrote the file.
    """

    identity: StoreIdentity
    metadata: dict[str, Any]
    created: str
    package_version: str


def new_header(identity: StoreIdentity, metadata: Mapping[str, Any] | None = None) -> Header:
    """Return the header of a store that is written now, by this version."""
    try:
        package_version = version("coala-latent")
    except PackageNotFoundError:
        package_version = "unknown"
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Header(identity, plain_json(dict(metadata or {}), "metadata"), created, package_version)


def write_header(handle: h5py.File, header: Header) -> None:
    """Write the root attributes: numbers and words as they are, dicts as JSON."""
    handle.attrs["format"] = FORMAT
    handle.attrs["format_version"] = FORMAT_VERSION
    handle.attrs["package_version"] = header.package_version
    handle.attrs["created"] = header.created
    for field in fields(StoreIdentity):
        value = getattr(header.identity, field.name)
        handle.attrs[field.name] = json.dumps(value) if isinstance(value, dict) else value
    handle.attrs["metadata"] = json.dumps(header.metadata)


def read_header(handle: h5py.File, path: Path) -> Header:
    """Read the root attributes.

    Raises:
        StoreFormatError: They are not those of a store, or of a later format.
    """
    attrs = handle.attrs
    if attrs.get("format") != FORMAT:
        raise StoreFormatError(f"{path}: an HDF5 file, but not an embedding store")
    found = int(attrs.get("format_version", 0))
    if not 1 <= found <= FORMAT_VERSION:
        raise StoreFormatError(
            f"{path}: store format {found}, this version reads up to {FORMAT_VERSION} "
            "(upgrade coala_latent)"
        )
    try:
        identity = StoreIdentity(
            model=attrs["model"],
            weights_sha256=attrs["weights_sha256"],
            front_end=json.loads(attrs["front_end"]),
            resampler=json.loads(attrs["resampler"]),
            layer=attrs["layer"],
            pooling=attrs["pooling"],
            dim=int(attrs["dim"]),
            dtype=attrs["dtype"],
        )
        metadata = json.loads(attrs["metadata"])
        return Header(identity, metadata, attrs["created"], attrs["package_version"])
    except (KeyError, ValueError, TypeError, StoreError) as error:
        raise StoreFormatError(f"{path}: damaged store attributes: {error}") from error


def open_checked(path: Path) -> tuple[h5py.File, Header]:
    """Open a store, or a part of one, for reading.

    Returns:
        The open file and its header. Its caller closes it.

    Raises:
        StoreError: It does not exist or cannot be read.
        StoreFormatError: It is not a store, is damaged, or has a later format.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise StoreError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        # A finished store is never written to, only replaced: there is nothing to lock, and
        # HDF5's own locks fail on some network file systems.
        handle = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise StoreFormatError(f"{path}: not an HDF5 file, or a damaged one ({error})") from error
    try:
        header = read_header(handle, path)
        _check_layout(handle, header.identity, path)
    except BaseException:
        handle.close()
        raise
    return handle, header


def _check_layout(handle: h5py.File, identity: StoreIdentity, path: Path) -> None:
    try:
        shape = handle["values"].shape
        rows = {handle[name].shape for name in ("start", "end", "file")}
        table = {handle[f"files/{field.name}"].shape for field in fields(FileRecord)}
    except (KeyError, AttributeError) as error:
        raise StoreFormatError(f"{path}: a store without all its datasets: {error}") from error
    if shape[1:] != (identity.dim,) or rows != {shape[:1]} or len(table) != 1:
        raise StoreFormatError(f"{path}: a store whose datasets do not fit together")


def check_identity(path: Path, stored: StoreIdentity, wanted: StoreIdentity) -> None:
    """Raise `StoreMismatchError` if ``path`` was written with other settings.

    Args:
        path: The store, for the message.
        stored: What it holds.
        wanted: What is about to be written.
    """
    differences = stored.differences(wanted)
    if differences:
        raise StoreMismatchError(
            f"{path} was written with other settings (stored, wanted): "
            f"{'; '.join(differences)}. Use another output file, or the settings stored."
        )
