"""Spectrograms as small pictures, drawn while the sound is decoded.

A picture is as wide as the recording is long: 600 columns, fewer where the sound has fewer frames.
Its 96 rows are Slaney's mel bands from 40 Hz to 16 kHz for a recording of any sample rate, so that
pictures can be compared; bands above half its rate are black. Colours show 70 dB below the loudest
point of the recording.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft
from scipy.sparse import csr_array

from coala_latent.audio.io import AudioReader, mix_channels
from coala_latent.audio.mel import slaney_mel_filters
from coala_latent.errors import AudioError, DependencyError
from coala_latent.tasks.map_sounds import data_url, portable_path, url_path, write_whole
from coala_latent.tasks.progress import progress_bar

__all__ = ["Pictures", "map_pictures", "require_pillow", "spectrogram_picture"]

_COLUMNS, _BANDS = 600, 96
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 16000.0
_WINDOW_SECONDS = 0.04
_DECIBELS = 70.0
# A recording whose loudest point is below this is drawn as dark as it is: dither is no music.
# (A sine of full scale has about -35 dB in bands of unit area.)
_FAINT = -80.0
_QUALITY = 60
# Black, violet, red, yellow: about as matplotlib's magma, evenly brighter to the eye.
_COLOURS = (
    *((0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122)),
    *((229, 80, 100), (251, 135, 97), (254, 194, 135), (252, 253, 191)),
)


@dataclass(frozen=True)
class Pictures:
    """Pictures of recordings.

    Attributes:
        urls: One a recording: an address relative to the page, a ``data:`` URL, or "".
        megabytes: Of all pictures.
        folder: Where they were written; None where they are part of the page.
        failed: ``(name, why)`` of recordings that could not be drawn.
    """

    urls: list[str]
    megabytes: float = 0.0
    folder: Path | None = None
    failed: list[tuple[str, str]] = field(default_factory=list)


def require_pillow() -> None:
    """Say at once whether pictures can be written.

    Raises:
        DependencyError: Pillow is not installed, or was built without WebP.
    """
    try:
        from PIL import features
    except ImportError as error:
        raise DependencyError(
            "spectrograms need Pillow (pip install pillow), or do without (--no-spectrograms)"
        ) from error
    if not features.check("webp"):
        raise DependencyError(
            "this Pillow cannot write WebP (pip install --upgrade --force-reinstall pillow), or do "
            "without (--no-spectrograms)"
        )


def spectrogram_picture(path: Path) -> bytes:
    """A recording's spectrogram as a WebP picture; memory does not grow with its length.

    Raises:
        AudioError: The file cannot be used.
        DependencyError: Pillow is missing.
    """
    require_pillow()
    from PIL import Image

    levels = _levels(path)
    shades = np.linspace(0, len(_COLOURS) - 1, 256)
    table = np.array(_COLOURS, dtype=np.float64)
    palette = np.stack([np.interp(shades, range(len(table)), c) for c in table.T], axis=1)
    pixels = palette.round().astype(np.uint8)[(levels[::-1] * 255).round().astype(np.uint8)]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "WEBP", quality=_QUALITY)
    return out.getvalue()


def _levels(path: Path) -> npt.NDArray[np.float64]:
    """``(bands, columns)`` in [0, 1], lowest band first."""
    with AudioReader(path, allow_truncated=True) as reader:
        rate, declared = reader.info.sample_rate, reader.info.frames
        window = max(64, 2 ** round(np.log2(rate * _WINDOW_SECONDS)))
        hop = int(np.clip(declared // _COLUMNS, window // 8, window // 2))
        columns = _Columns(_filters(rate, window), hop, 1 + declared // hop)
        for block in reader.blocks():
            columns.push(np.nan_to_num(mix_channels(block, "mean"), posinf=0.0, neginf=0.0))
    magnitudes = columns.finish()
    decibels = 20 * np.log10(np.maximum(magnitudes, 10 ** ((_FAINT - _DECIBELS) / 20)))
    return np.clip(1 + (decibels - max(decibels.max(), _FAINT)) / _DECIBELS, 0.0, 1.0)


@lru_cache(maxsize=8)
def _filters(rate: int, window: int) -> csr_array:
    """``(window // 2 + 1, bands)``. Sparse, so that files side by side need no threads of BLAS."""
    return csr_array(slaney_mel_filters(rate, window, _BANDS, _LOWEST_HZ, _HIGHEST_HZ).T)


class _Columns:
    """Frames of mel magnitudes, averaged over the columns of a picture as they come.

    Args:
        filters: ``(window // 2 + 1, bands)``.
        hop: Samples between frames; frame t is centred on sample ``t * hop``.
        frames: How many there will be, as the header says; more fall into the last column.
    """

    def __init__(self, filters: csr_array, hop: int, frames: int) -> None:
        self._filters = filters
        self._window = 2 * (filters.shape[0] - 1)
        # Scaled so that a sine of full scale has a magnitude of about 1 in its bin.
        shape = np.hanning(self._window + 1)[:-1]
        self._shape = (shape * (2 / shape.sum())).astype(np.float32)
        self._hop = hop
        self._frames = frames
        self._width = min(frames, _COLUMNS)
        self._sums = np.zeros((self._width, filters.shape[1]))
        self._counts = np.zeros(self._width, dtype=np.int64)
        self._seen = 0
        self._waiting = np.zeros(self._window // 2, dtype=np.float32)

    def push(self, samples: npt.NDArray[np.floating]) -> None:
        """Take ``(time,)`` samples in."""
        self._waiting = np.concatenate([self._waiting, samples.astype(np.float32, copy=False)])
        if len(self._waiting) < self._window:
            return
        frames = np.lib.stride_tricks.sliding_window_view(self._waiting, self._window)[:: self._hop]
        mel = np.abs(rfft(frames * self._shape, axis=1)) @ self._filters
        place = self._seen + np.arange(len(mel))
        place = np.minimum(place * self._width // self._frames, self._width - 1)
        firsts = np.flatnonzero(np.diff(place, prepend=-1))
        self._sums[place[firsts]] += np.add.reduceat(mel, firsts, axis=0)
        self._counts[place[firsts]] += np.diff(firsts, append=len(place))
        self._seen += len(mel)
        self._waiting = self._waiting[len(mel) * self._hop :]

    def finish(self) -> npt.NDArray[np.float64]:
        """``(bands, columns)`` mean magnitudes; only columns that the sound reached."""
        self.push(np.zeros(self._window - self._window // 2, dtype=np.float32))
        reached = max(1, int(np.flatnonzero(self._counts)[-1]) + 1)
        return (self._sums[:reached] / np.maximum(self._counts[:reached], 1)[:, None]).T


def map_pictures(
    paths: Sequence[Path | None],
    names: Sequence[str],
    page: Path,
    folder: Path,
    *,
    limit: int,
    workers: int | None = None,
    quiet: bool = False,
) -> Pictures:
    """Draw recordings, into the page or beside it.

    Pictures become ``data:`` URLs as long as all of them together are not larger than `limit`;
    otherwise all are written. A picture that was written earlier is kept until its sound changes.

    Args:
        paths: Sounds; None for those that are not there.
        names: Recordings' names, of which those of the pictures are made.
        page: The page's folder.
        folder: Where pictures would be written.
        limit: Bytes of pictures in the page.
        workers: Sounds at a time; one a core by default.
        quiet: No progress bar.

    Raises:
        DependencyError: Pillow is missing.
    """
    require_pillow()
    taken: set[str] = set()
    targets = [folder / f"{portable_path(name, taken)}.webp" for name in names]
    held: dict[int, bytes] = {}
    urls, failed, total, beside = [""] * len(paths), [], 0, False

    def drawn(number: int) -> bytes | AudioError | None:
        path = paths[number]
        if path is None:
            return None
        try:
            return _kept(path, targets[number]) or spectrogram_picture(path)
        except AudioError as error:
            return error

    with (
        progress_bar(quiet=quiet or not any(paths)) as bar,
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
    ):
        task = bar.add_task("spectrograms", total=len(paths), note="")
        for number, picture in enumerate(pool.map(drawn, range(len(paths)))):
            bar.update(task, advance=1)
            if isinstance(picture, AudioError):
                failed.append((names[number], picture.reason))
            elif picture is not None:
                held[number] = picture
                total += len(picture)
                beside = beside or total > limit
            if beside:
                _write(held, paths, targets)
                held.clear()
    for number in range(len(paths)):
        if number in held:
            urls[number] = data_url(held[number], "image/webp")
        elif beside and paths[number] is not None and targets[number].is_file():
            urls[number] = url_path(targets[number], page)
    return Pictures(urls, total / 1e6, folder if beside else None, failed)


def _kept(sound: Path, target: Path) -> bytes | None:
    """The picture of an earlier run: its time is that of the sound."""
    try:
        same = target.stat().st_mtime_ns == sound.stat().st_mtime_ns
        return target.read_bytes() if same else None
    except OSError:
        return None


def _write(held: dict[int, bytes], paths: Sequence[Path | None], targets: list[Path]) -> None:
    for number, picture in held.items():
        sound: Any = paths[number]
        write_whole(targets[number], picture, like=sound)
