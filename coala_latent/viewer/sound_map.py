"""The sound map: a page on which every point is a sound that a click plays.

The page needs no server and no network. Sounds and spectrograms lie beside it, by relative path,
or are part of it as ``data:`` URLs. Everything the page shows travels in its data elements; the
scripts that draw it are the package's own (``assets/sound_map_*.js``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import DataError
from coala_latent.types import FloatArray
from coala_latent.viewer.packing import pack_array, pack_texts, pack_vectors
from coala_latent.viewer.page import Page

__all__ = ["SoundMap", "check_address", "sound_map_page"]

IndexArray = npt.NDArray[np.integer]
Value = str | float | None

_SCRIPTS = (
    "data",
    "colors",
    "raster",
    "points",
    "view",
    "player",
    "lists",
    "legend",
    "search",
    "overlay",
    "input",
    "main",
)
# What a path may have in a URL, RFC 3986; the rest must be percent-encoded.
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, eq=False)
class SoundMap:
    """What a map shows: n points, each a part of one of some recordings.

    Attributes:
        title: Of the page.
        projections: Name to ``(n, 2)`` positions; the first is shown first.
        names: ``(n,)`` shown at a point, such as the recording's relative path. Where several
            points share a recording, the page adds the seconds itself.
        recording: ``(n,)`` index into ``sounds``.
        start: ``(n,)`` seconds from the beginning of the recording.
        end: ``(n,)`` seconds, not before ``start``.
        sounds: A recording's address: relative to the page and percent-encoded, a ``data:`` URL, or
            "" where there is no sound.
        columns: Name to ``(n,)`` values: metadata, clusters. A column of numbers and None is
            numeric and has a continuous scale, so clusters should be named by text. NaN is
            missing, like None.
        vectors: ``(n, d)`` finite; distances and neighbours are by their cosine.
        citations: ``(n,)`` texts, "" for none.
        spectrograms: One a recording: address of a picture whose width is the whole recording, or
            "".
        settings: Shown at the foot: model, weights, seeds, versions.

    Raises:
        DataError: Lengths that do not agree, values that are not finite, times or addresses that
            are none.
    """

    title: str
    projections: Mapping[str, FloatArray]
    names: Sequence[str]
    recording: IndexArray
    start: FloatArray
    end: FloatArray
    sounds: Sequence[str]
    columns: Mapping[str, Sequence[Value]]
    vectors: FloatArray
    citations: Sequence[str] | None = None
    spectrograms: Sequence[str] | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.projections:
            raise DataError("a sound map needs at least one projection")
        n = len(self.names)
        lengths = {
            "recording": len(self.recording),
            "start": len(self.start),
            "end": len(self.end),
            "vectors": len(self.vectors),
            **{f"projection {name!r}": len(each) for name, each in self.projections.items()},
            **{f"column {name!r}": len(each) for name, each in self.columns.items()},
        }
        if self.citations is not None:
            lengths["citations"] = len(self.citations)
        for name, length in lengths.items():
            if length != n:
                raise DataError(f"{name} of the sound map: {length} values for {n} names")
        for name, points in self.projections.items():
            _plane(name, np.asarray(points))
        _finite("vectors", np.asarray(self.vectors), 2)
        self._check_recordings()

    def __len__(self) -> int:
        return len(self.names)

    def _check_recordings(self) -> None:
        recording, start, end = (np.asarray(x) for x in (self.recording, self.start, self.end))
        _finite("start", start, 1)
        _finite("end", end, 1)
        wrong = np.flatnonzero((start < 0) | (end < start))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(
                f"point {row} of the sound map lasts from {start[row]} to {end[row]} s "
                f"({len(wrong)} such points)"
            )
        if len(recording) and not np.issubdtype(recording.dtype, np.integer):
            raise DataError(f"recording must be integers, got {recording.dtype}")
        if len(recording) and not 0 <= recording.min() <= recording.max() < len(self.sounds):
            raise DataError(
                f"recording has {recording.min()} to {recording.max()}, and there are "
                f"{len(self.sounds)} sounds"
            )
        for url in self.sounds:
            check_address(url, "data:")
        if self.spectrograms is not None:
            if len(self.spectrograms) != len(self.sounds):
                raise DataError(
                    f"{len(self.spectrograms)} spectrograms for {len(self.sounds)} sounds"
                )
            for url in self.spectrograms:
                check_address(url, "data:image/")


def sound_map_page(points: SoundMap) -> Page:
    """Build the page.

    Numbers are kept exactly, but for positions and times (float32) and vectors, which are made
    small (:func:`coala_latent.viewer.packing.pack_vectors`); what that costs is stated on the page.

    Returns:
        The page, to be written. Relative addresses start at the folder it is written to.
    """
    vectors = pack_vectors(np.asarray(points.vectors))
    page = Page(points.title, media=True)
    page.style("sound_map")
    page.markup("sound_map")
    with page.details("About this map"):
        page.pairs({**points.settings, "Vectors in this page": vectors.about})
    page.data("map-points", _points(points))
    page.data("map-vectors", vectors.to_dict())
    for script in _SCRIPTS:
        page.script(f"sound_map_{script}")
    return page


def _points(points: SoundMap) -> dict[str, Any]:
    citations = points.citations
    return {
        "count": len(points),
        "title": points.title,
        "names": pack_texts([str(name) for name in points.names]),
        "recording": pack_array(points.recording, "u4"),
        "start": pack_array(points.start, "f4"),
        "end": pack_array(points.end, "f4"),
        "sounds": list(points.sounds),
        "spectrograms": None if points.spectrograms is None else list(points.spectrograms),
        "citations": None
        if citations is None
        else pack_texts([text or None for text in citations]),
        "columns": [_column(name, values) for name, values in points.columns.items()],
        "projections": [
            {"name": name, "positions": pack_array(_fitted(np.asarray(each)), "f4")}
            for name, each in points.projections.items()
        ],
    }


def _column(name: str, values: Sequence[Value]) -> dict[str, Any]:
    present = [None if _missing(value) else value for value in values]
    known = [value for value in present if value is not None]
    if known and all(_is_number(value) for value in known):
        numbers = [np.nan if value is None else float(value) for value in present]
        return {"name": name, "kind": "number", "values": pack_array(numbers, "f8")}
    texts = [None if value is None else str(value) for value in present]
    return {"name": name, "kind": "text", **pack_texts(texts)}


def _missing(value: object) -> bool:
    return value is None or (_is_number(value) and bool(np.isnan(value)))  # type: ignore[call-overload]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _fitted(positions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Around 0 and within [-1, 1], so that single precision stays fine at any zoom."""
    if not len(positions):
        return np.zeros((0, 2), dtype=np.float32)
    low, high = (edge.astype(np.float64) for edge in (positions.min(axis=0), positions.max(axis=0)))
    half = float((high / 2 - low / 2).max())
    return ((positions - (low / 2 + high / 2)) / (half or 1.0)).astype(np.float32)


def _plane(name: str, positions: npt.NDArray[Any]) -> None:
    _finite(f"projection {name!r}", positions, 2)
    if positions.shape[1] != 2:
        raise DataError(f"projection {name!r} of the sound map must be (n, 2), {positions.shape}")


def _finite(name: str, values: npt.NDArray[Any], dimensions: int) -> None:
    if values.ndim != dimensions:
        raise DataError(f"{name} of the sound map: {dimensions} dimensions, not {values.shape}")
    finite = np.isfinite(values) if dimensions == 1 else np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{name} of the sound map: row {int(np.argmin(finite))} is not finite "
            f"({int((~finite).sum())} of {len(values)} rows; leave these points out)"
        )


def check_address(url: str, embedded: str) -> None:
    """Whether a page may point there: beside itself, or with the data in the address.

    Args:
        url: The address.
        embedded: How an address with its data begins, such as ``data:image/``.

    Raises:
        DataError: It is neither.
    """
    if url.startswith(embedded):
        return
    # A colon before the first slash would make what stands before it a scheme.
    if url.startswith("/") or ":" in url.partition("/")[0] or not _PATH.fullmatch(url):
        raise DataError(
            f"{url[:200]!r} is no address beside the page (a relative path that is "
            f"percent-encoded, or {embedded}...)"
        )
