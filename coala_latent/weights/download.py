"""Files from addresses and folders into the cache: whole, checked, or not at all.

Written here rather than taken from a library because weights are large and lines are cut: pooch,
the usual choice, begins again from nothing, and hub clients know only their own hub.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from coala_latent.errors import WeightsError
from coala_latent.weights.files import file_sha256, write_json
from coala_latent.weights.home import HOME_VARIABLE, usable
from coala_latent.weights.transport import (
    NETWORK_ERRORS,
    Access,
    DownloadError,
    broken,
    open_url,
    patiently,
    shown,
)

__all__ = ["SIZE_LIMIT", "Progress", "fetch", "is_address", "local_path"]

Progress = Callable[[int, int | None], None]

SIZE_LIMIT = 4 << 30
_BLOCK = 1 << 18


def is_address(source: str) -> bool:
    """Whether it is written as an address, ``scheme://...``, and not as a path."""
    return "://" in source


def local_path(source: str | os.PathLike[str]) -> Path | None:
    """The path that a source names, or None for one on the network.

    Raises:
        WeightsError: A ``file:`` address of another computer, or an unknown scheme.
    """
    text = os.fspath(source)
    if not is_address(text):
        return Path(text)
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise WeightsError(f"{text}: not an address: {error} (correct it)") from error
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise WeightsError(f"{text}: not an address: it names no host (correct it)")
        return None
    if parts.scheme != "file":
        raise WeightsError(f"{shown(text)}: not an http, https or file address (give one of them)")
    if parts.netloc not in ("", "localhost"):
        raise WeightsError(f"{shown(text)}: a file of another computer (copy it here)")
    return Path(url2pathname(parts.path))


def fetch(
    source: str | os.PathLike[str],
    target: Path,
    *,
    sha256: str | None = None,
    limit: int = SIZE_LIMIT,
    access: Access | None = None,
    progress: Progress | None = None,
) -> str:
    """Bring a file to `target`; it appears there complete and checked, or not at all.

    A transfer that was cut is taken up where it ended, in this call or a later one, if the server
    can do that and the file is still the same. Several processes take turns.

    Args:
        source: http, https or file address, or a path.
        target: Where it shall be.
        sha256: What it must hash to; without it, a target that is there is fetched again.
        limit: Largest size in bytes.
        access: How to reach the network.
        progress: Called with bytes so far and in all (None if unknown).

    Returns:
        The file's SHA-256.

    Raises:
        WeightsError: It cannot be had, is too large, or is another file; `target` is as before.
    """
    path = local_path(source)
    expected = sha256.lower() if sha256 else None
    usable(target.parent)
    with _turn(target.with_name(f"{target.name}.lock")):
        if expected and target.is_file() and file_sha256(target) == expected:
            return expected
        part = _Part(target.with_name(f"{target.name}.part"), limit, progress)
        if path is not None:
            return _install(part, target, _copy(path, part), expected, str(path))
        url = os.fspath(source)
        return _download(url, part, target, expected, access or Access())


# Seconds that another process may take for the same file.
_PATIENCE = 1800


@contextmanager
def _turn(lock: Path) -> Iterator[None]:
    """Wait until no other process fetches the same file."""
    try:
        with FileLock(lock, timeout=_PATIENCE):
            yield
    except Timeout as error:
        raise WeightsError(
            f"{lock}: another process has held it for {_PATIENCE} s (end that process, or remove "
            "the file if there is none)"
        ) from error


class _Part:
    """A file that is still coming, and what is known about where it comes from."""

    def __init__(self, path: Path, limit: int, progress: Progress | None) -> None:
        self.path = path
        self.note = path.with_name(f"{path.name}.json")
        self.limit = limit
        self.progress = progress

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def validator(self, url: str) -> str:
        """What the server called the version that the beginning is of; empty if unknown."""
        try:
            note = json.loads(self.note.read_text("utf-8"))
            return str(note["validator"]) if note["address"] == _digest(url) else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def remember(self, url: str, validator: str) -> None:
        write_json(self.note, {"address": _digest(url), "validator": validator})

    def make_room(self, total: int | None, have: int, source: str) -> None:
        """Refuse what is too large before it comes."""
        if total is None:
            return
        if total > self.limit:
            raise self.too_large(source)
        free = shutil.disk_usage(self.path.parent).free
        if total - have > free:
            raise _full(self.path.parent, total - have, free)

    def too_large(self, source: str) -> WeightsError:
        self.discard()
        return WeightsError(
            f"{source}: larger than {self.limit / 1e6:.0f} MB (is it the right file?)"
        )

    def receive(
        self, read: Callable[[int], bytes], file: IO[bytes], have: int, total: int | None, name: str
    ) -> int:
        """Write what `read` gives until its end, and return the size."""
        while block := read(_BLOCK):
            have += len(block)
            if have > self.limit:
                raise self.too_large(name)
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                raise _unwritable(self.path, error) from error
            if self.progress is not None:
                self.progress(have, total)
        return have


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _full(folder: Path, needed: int, free: int) -> WeightsError:
    return WeightsError(
        f"{folder}: {needed / 1e6:.1f} MB are needed, {free / 1e6:.1f} MB are free (make room, "
        f"or set {HOME_VARIABLE} to a folder on another disk)"
    )


def _unwritable(path: Path, error: OSError) -> WeightsError:
    if error.errno == errno.ENOSPC:
        return _full(path.parent, path.stat().st_size, shutil.disk_usage(path.parent).free)
    return WeightsError(f"{path}: cannot be written: {error.strerror or error}")


def _copy(path: Path, part: _Part) -> str:
    part.discard()
    try:
        with path.open("rb") as source, part.path.open("wb") as file:
            total = os.fstat(source.fileno()).st_size
            part.make_room(total, 0, str(path))
            part.receive(source.read, file, 0, total, str(path))
    except OSError as error:
        part.discard()
        raise WeightsError(
            f"{path}: cannot be read: {error.strerror or error} (check the path)"
        ) from error
    return file_sha256(part.path)


def _install(part: _Part, target: Path, found: str, expected: str | None, source: str) -> str:
    if expected and found != expected:
        part.discard()
        raise WeightsError(
            f"{source}: its sha256 is {found}, not {expected} "
            "(it is another file, or was damaged on its way; nothing of it is kept)"
        )
    part.path.replace(target)
    part.discard()
    return found


def _download(url: str, part: _Part, target: Path, expected: str | None, access: Access) -> str:
    if expected and part.size and file_sha256(part.path) == expected:
        return _install(part, target, expected, expected, shown(url))

    def receive() -> bool:
        return _receive(url, part, access, checked=bool(expected))

    joined = patiently(access, receive, lambda: part.size)
    found = file_sha256(part.path)
    if expected and found != expected and joined:
        # The beginning may have been of another version.
        part.discard()
        patiently(access, receive, lambda: part.size)
        found = file_sha256(part.path)
    return _install(part, target, found, expected, shown(url))


def _receive(url: str, part: _Part, access: Access, *, checked: bool) -> bool:
    """One connection's worth of a file, to its end; returns whether it was only the rest of it."""
    have, validator = part.size, part.validator(url)
    headers = {}
    if have and (validator or checked):
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = open_url(url, access, headers)
    except DownloadError as error:
        if error.status == 416:  # what we have is longer than the file
            part.discard()
            error.passing = True
        raise
    with response:
        begins = _begin(response)
        if begins not in (0, have):
            part.discard()
            raise DownloadError(f"{shown(url)}: the server sent another part", passing=True)
        have = begins
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        part.make_room(total, have, shown(url))
        if not have:
            part.discard()
            part.remember(url, _validator(response.headers))
        try:
            file = part.path.open("ab" if have else "wb")
        except OSError as error:
            raise _unwritable(part.path, error) from error
        with file:
            have = part.receive(_reader(url, response), file, have, total, shown(url))
    if total is not None and have < total:
        raise DownloadError(
            f"{shown(url)}: cut after {have} of {total} bytes (try again: it goes on from there)",
            passing=True,
        )
    return begins > 0


def _begin(response: Any) -> int:
    """The byte that a response begins with."""
    if response.status != 206:
        return 0
    unit, _, where = response.headers.get("Content-Range", "").partition(" ")
    first = where.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1


def _validator(headers: Any) -> str:
    tag = headers.get("ETag", "")
    # A weak tag says "alike", which is not enough to join two pieces.
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _reader(url: str, response: Any) -> Callable[[int], bytes]:
    def read(size: int) -> bytes:
        try:
            return bytes(response.read(size))
        except NETWORK_ERRORS as error:
            raise broken(url, error) from error

    return read
