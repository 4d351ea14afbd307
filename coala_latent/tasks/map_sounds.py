"""Where a map's recordings are, and how its page reaches them: linked, embedded or copied."""

from __future__ import annotations

import base64
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import soundfile

from coala_latent.audio.opening import check_path
from coala_latent.errors import AudioError, DataError
from coala_latent.store import FileRecord
from coala_latent.tasks.map_transcode import mp3_bytes
from coala_latent.tasks.progress import progress_bar

__all__ = [
    "MapSounds",
    "copy_sounds",
    "data_url",
    "embed_sounds",
    "find_recordings",
    "link_sounds",
    "portable_path",
    "url_path",
    "write_whole",
]

# What Chromium, Firefox and Safari play; ogg and opus in Safari since 18.4.
_TYPES = {
    **{".mp3": "audio/mpeg", ".wav": "audio/wav", ".wave": "audio/wav", ".flac": "audio/flac"},
    **{".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg", ".webm": "audio/webm"},
    **{".m4a": "audio/mp4", ".m4b": "audio/mp4", ".mp4": "audio/mp4", ".aac": "audio/aac"},
}
_WAV = (".wav", ".wave")
_WAV_SUBTYPES = frozenset({"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"})
# Small already; anything else is embedded as mp3.
_COMPRESSED = frozenset(_TYPES) - {*_WAV, ".flac"}
_MP3_BYTES_A_SECOND = 16_000
_WORDS = {"CON", "PRN", "AUX", "NUL", *(f"{w}{n}" for w in ("COM", "LPT") for n in range(1, 10))}
_UNSAFE = re.compile('[\x00-\x1f\x7f<>:"|?*\\\\\ud800-\udfff]')
_LONGEST = 180  # bytes of a name: file systems hold 255, and endings are added


@dataclass(frozen=True)
class MapSounds:
    """How a page reaches its recordings.

    Attributes:
        urls: One a recording; "" where there is no sound.
        unreachable: Recordings that are there, but that no relative path leads to.
        unplayable: ``(name, why)`` of those that browsers do not play as they are, or that could
            not be converted.
        converted: How many became mp3.
        megabytes: Of what was embedded or copied.
    """

    urls: list[str]
    unreachable: list[str] = field(default_factory=list)
    unplayable: list[tuple[str, str]] = field(default_factory=list)
    converted: int = 0
    megabytes: float = 0.0


def find_recordings(files: Sequence[FileRecord], root: Path | None) -> list[Path | None]:
    """The sounds of a store's recordings.

    Args:
        files: Records, named relative to the root. Arrays of frames such as ``a.mp3.npy`` stand for
            the sound beside them, ``a.mp3``.
        root: Folder of the sounds; None for names that are absolute or relative to the working
            folder.

    Returns:
        A path each, None where there is no file.
    """
    base = Path() if root is None else root
    found = (base / record.path.removesuffix(".npy") for record in files)
    return [path if os.path.isfile(path) else None for path in found]  # noqa: PTH113 - NUL is False


def url_path(target: Path, folder: Path) -> str:
    """The address of a file from a page in `folder`: relative, percent-encoded.

    Bytes of names that are not UTF-8 are encoded as they are.

    Raises:
        ValueError: None leads there (another drive).
    """
    relative = os.path.relpath(target, folder)
    return "/".join(quote(os.fsencode(part), safe="") for part in Path(relative).parts)


def data_url(content: bytes, kind: str) -> str:
    """Bytes as an address of their own."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def portable_path(name: str, taken: set[str]) -> str:
    """A relative path that every file system and zip program accepts.

    Args:
        name: A recording's name, with ``/``. Nothing in it leads out of a folder afterwards.
        taken: Paths that exist, folded; the new one is added. It differs from them in more than
            case, and where it would not, it gets a number.
    """
    parts = [_portable(part) for part in name.split("/") if part not in ("", ".")] or ["_"]
    *folders, last = parts
    stem, dot, suffix = last.rpartition(".")
    stem, ending = (stem, dot + suffix) if stem and len(suffix) <= 5 else (last, "")
    number, wanted = 1, "/".join(parts)
    while (folded := unicodedata.normalize("NFC", wanted).casefold()) in taken:
        number += 1
        wanted = "/".join([*folders, f"{stem} ({number}){ending}"])
    taken.add(folded)
    return wanted


def _portable(part: str) -> str:
    clean = _UNSAFE.sub("_", part)
    stem, dot, suffix = clean.rpartition(".")
    stem, ending = (stem, dot + suffix) if stem and len(suffix) <= 5 else (clean, "")
    while len(stem.encode()) > _LONGEST:
        stem = stem[:-1]
    clean = (stem + ending).rstrip(". ") or "_"
    return f"_{clean}" if clean.split(".")[0].upper() in _WORDS else clean


def write_whole(target: Path, content: bytes, like: Path | None = None) -> None:
    """Write a file whole or not at all.

    Args:
        target: Its folder is made.
        content: What to write.
        like: File whose time it gets, so that a later run sees what has changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{os.getpid()}.{abs(hash(target.name))}.tmp"
    try:
        temporary.write_bytes(content)
        _take_time(temporary, like)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _take_time(target: Path, like: Path | None) -> None:
    if like is not None:
        times = like.stat()
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


def link_sounds(paths: Sequence[Path | None], names: Sequence[str], page: Path) -> MapSounds:
    """Addresses of sounds where they are.

    Args:
        paths: None for those that are not there.
        names: Of the recordings.
        page: The page's folder.
    """
    urls, unreachable, unplayable = [""] * len(paths), [], []
    for number, path in enumerate(paths):
        if path is None:
            continue
        try:
            urls[number] = url_path(path, page)
        except ValueError:
            unreachable.append(names[number])
            continue
        if reason := _unplayable(path):
            unplayable.append((names[number], reason))
    return MapSounds(urls, unreachable, unplayable)


def _unplayable(path: Path) -> str:
    """Why browsers would not play a file; empty where they do."""
    try:
        check_path(path)
    except AudioError as error:
        return error.reason
    suffix = path.suffix.lower()
    if suffix not in _TYPES:
        return f"browsers do not play {suffix or 'files without suffix'}"
    if suffix in _WAV:
        try:
            info = soundfile.info(os.fsencode(path) if os.name == "posix" else str(path))
        except (soundfile.LibsndfileError, OSError):
            return "not a readable wav file"
        if info.subtype not in _WAV_SUBTYPES:
            return f"browsers do not play wav files with {info.subtype} samples"
    return ""


def embed_sounds(
    paths: Sequence[Path | None],
    files: Sequence[FileRecord],
    *,
    limit: int,
    workers: int | None = None,
    quiet: bool = False,
) -> MapSounds:
    """Sounds as ``data:`` URLs; what is not compressed becomes mp3.

    Args:
        paths: None for those that are not there.
        files: Their records.
        limit: Most bytes of all together, as they lie in the page.
        workers: Sounds at a time; one a core by default.
        quiet: No progress bar.

    Raises:
        DataError: They would be larger than the limit.
    """
    _check_size(sum(map(_expected, paths, files)), len(paths), limit)

    def content(path: Path) -> tuple[str, bool]:
        check_path(path)
        suffix = path.suffix.lower()
        if suffix in _COMPRESSED:
            return data_url(path.read_bytes(), _TYPES[suffix]), False
        return data_url(mp3_bytes(path), "audio/mpeg"), True

    names = [record.path for record in files]
    done = _each(paths, names, content, "embed", workers, quiet)
    _check_size(sum(map(len, done.urls)), len(paths), limit)
    return done


def _expected(path: Path | None, record: FileRecord) -> int:
    """Bytes in the page, before anything is read."""
    if path is None:
        return 0
    as_it_is = path.suffix.lower() in _COMPRESSED
    size = path.stat().st_size if as_it_is else round(record.duration * _MP3_BYTES_A_SECOND)
    return size * 4 // 3


def _check_size(size: int, count: int, limit: int) -> None:
    if size > limit:
        raise DataError(
            f"{count} recordings would make the page {size / 1e6:.0f} MB larger, more than the "
            f"{limit / 1e6:.0f} MB allowed (link them, make a folder with --output FOLDER/, or "
            "raise --embed-limit)"
        )


def copy_sounds(
    paths: Sequence[Path | None],
    names: Sequence[str],
    folder: Path,
    *,
    workers: int | None = None,
    quiet: bool = False,
) -> MapSounds:
    """Copy sounds to ``folder/sounds``; what browsers do not play becomes mp3.

    A copy that was made earlier is kept until its sound changes.

    Args:
        paths: None for those that are not there.
        names: Recordings' names, which the copies keep as far as every system accepts them.
        folder: That of the page.
        workers: Sounds at a time; one a core by default.
        quiet: No progress bar.
    """
    taken: set[str] = set()
    targets: dict[Path, Path] = {}
    for path, name in zip(paths, names, strict=True):
        if path is not None and path not in targets:
            ending = ".mp3" if _unplayable(path) else ""
            plain = name.removesuffix(".npy")
            targets[path] = folder / "sounds" / portable_path(plain + ending, taken)

    def copied(path: Path) -> tuple[str, bool]:
        check_path(path)
        target = targets[path]
        convert = bool(_unplayable(path))
        if not _is_copy(target, path, convert):
            if convert:
                write_whole(target, mp3_bytes(path), like=path)
            else:
                _copy(path, target)
        return url_path(target, folder), convert

    done = _each(paths, names, copied, "copy", workers, quiet)
    size = sum(target.stat().st_size for target in targets.values() if target.is_file())
    return MapSounds(done.urls, [], done.unplayable, done.converted, size / 1e6)


def _is_copy(target: Path, path: Path, converted: bool) -> bool:
    try:
        there, wanted = target.stat(), path.stat()
    except OSError:
        return False
    same_time = there.st_mtime_ns == wanted.st_mtime_ns
    return same_time and (converted or there.st_size == wanted.st_size)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{os.getpid()}.{abs(hash(target.name))}.tmp"
    try:
        shutil.copyfile(path, temporary)
        _take_time(temporary, path)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _each(
    paths: Sequence[Path | None],
    names: Sequence[str],
    work: Callable[[Path], tuple[str, bool]],
    title: str,
    workers: int | None,
    quiet: bool,
) -> MapSounds:
    """Do something with every sound, several at a time; those that fail are listed."""

    def done(path: Path | None) -> tuple[str, bool] | AudioError | None:
        try:
            return None if path is None else work(path)
        except AudioError as error:
            return error

    urls, failed, converted = [""] * len(paths), [], 0
    with (
        progress_bar(quiet=quiet or not any(paths)) as bar,
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
    ):
        task = bar.add_task(title, total=len(paths), note="")
        for number, result in enumerate(pool.map(done, paths)):
            bar.update(task, advance=1)
            if isinstance(result, AudioError):
                failed.append((names[number], result.reason))
            elif result is not None:
                urls[number] = result[0]
                converted += result[1]
    size = sum(len(url) for url in urls) / 1e6
    return MapSounds(urls, [], failed, converted, size)
