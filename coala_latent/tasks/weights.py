"""``coala-latent weights``: public weights fetched and converted into this library's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from coala_latent.errors import CoalaLatentError, ConfigError, WeightsError
from coala_latent.registry import Card, model_card, save_model
from coala_latent.registry.conversion import assemble, read_published
from coala_latent.registry.known import KNOWN_WEIGHTS, KnownWeights, known_weights
from coala_latent.tasks.progress import console
from coala_latent.weights import download, file_sha256
from coala_latent.weights.home import downloads_folder, models_folder, usable
from coala_latent.weights.labels import checked_count, read_labels
from coala_latent.weights.packages import extract_member, obtain_package, read_member
from coala_latent.weights.transport import DownloadError, shown

__all__ = ["WeightsStatus", "convert", "get", "installed_card", "status"]


@dataclass(frozen=True)
class WeightsStatus:
    """One line of ``coala-latent weights list``.

    Attributes:
        name: Of the weights.
        description: One sentence.
        licence: Of the weights.
        path: Where the converted file is; empty if it is not here.
        bytes: Its size.
        source: Where it came from; or where it is to be had, if it is not here.
        problem: Why what is here cannot be used; empty if it can.
    """

    name: str
    description: str
    licence: str
    path: str = ""
    bytes: int = 0
    source: str = ""
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def status() -> list[WeightsStatus]:
    """All public weights that are known, whether they are here or not."""
    return [_status(known) for known in KNOWN_WEIGHTS.values()]


def _status(known: KnownWeights) -> WeightsStatus:
    path = _path(known.name)
    about = (known.name, known.description, known.licence)
    if not path.is_file():
        return WeightsStatus(*about, source=_published(known))
    try:
        card = model_card(path)
    except CoalaLatentError as error:
        return WeightsStatus(*about, str(path), problem=str(error))
    origin = str(card.origin.get("source", "")) or "unknown"
    return WeightsStatus(*about, str(path), path.stat().st_size, origin)


def _published(known: KnownWeights) -> str:
    if known.package is not None:
        return known.package.requirement
    return f"--source {known.address or 'FILE or FOLDER'}"


def _path(name: str, folder: Path | None = None) -> Path:
    return (folder or models_folder()) / f"{name}.safetensors"


def installed_card(name: str) -> Card | None:
    """The card of weights that are here and are what their card says; None otherwise."""
    path = _path(name)
    if not path.is_file():
        return None
    try:
        card = model_card(path)
    except CoalaLatentError:
        return None
    return card if file_sha256(path) == card.sha256 else None


def get(
    name: str,
    source: str | None = None,
    *,
    labels: Sequence[Path] = (),
    force: bool = False,
    sha256: str | None = None,
    quiet: bool = False,
) -> Card:
    """Fetch public weights and convert them into the cache folder.

    Args:
        name: One of `KNOWN_WEIGHTS`.
        source: Address or path to take them from; the package that holds them if not given.
        labels: Files with names of classes; those of a public package if not given.
        force: Do it although they are here.
        sha256: What the file from `source` must hash to.
        quiet: No progress bar.

    Returns:
        The card, which lies beside the weights.

    Raises:
        CoalaLatentError: They are not to be had, are other files, or do not fit the model.
    """
    known = known_weights(name)
    if not force and (here := installed_card(name)) is not None:
        return here
    with _download_bar(name, quiet=quiet) as progress:
        if source is not None:
            path = _fetched(known, source, sha256, progress)
            return _convert(known, [path], labels, None, {"source": _named(source)}, progress)
        if sha256 is not None:
            raise ConfigError("--sha256 goes with --source; hashes of packages are known")
        return _from_package(known, labels, progress)


def _named(source: str) -> str:
    """What a card says about a source: no secrets of an address, no folders of this computer."""
    path = download.local_path(source)
    return shown(source) if path is None else path.name


def _fetched(
    known: KnownWeights, source: str, sha256: str | None, progress: download.Progress
) -> Path:
    path = download.local_path(source)
    if path is None:
        last = Path(urlsplit(source).path).name or "weights"
        target = downloads_folder() / f"{known.name}-{last}"
        try:
            download.fetch(source, target, sha256=sha256, progress=progress)
        except DownloadError as error:
            raise DownloadError(
                f"{error}\nWithout a connection: download the file on another computer and run "
                f"`coala-latent weights convert {known.name} FILE`",
                error.status,
            ) from error
        return target
    if sha256 and path.is_dir():
        raise ConfigError(f"{path}: a folder has no sha256 (name one file)")
    if sha256 and path.is_file() and (found := file_sha256(path)) != sha256.lower():
        raise WeightsError(f"{path}: its sha256 is {found}, not {sha256} (it is another file)")
    return path


def _from_package(known: KnownWeights, labels: Sequence[Path], progress: download.Progress) -> Card:
    package = known.package
    if package is None:
        raise ConfigError(
            f"{known.name}: its weights are in no package of the Python index; give them with "
            f"--source {known.address or 'FILE or FOLDER'}"
            + (", where the project itself publishes them, or a copy" if known.address else "")
        )
    folder = downloads_folder()
    try:
        archive = obtain_package(package, folder, progress=progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nWithout a connection: download {package.filename} of {package.project} on "
            f"another computer, put it into {folder} and run this command again",
            error.status,
        ) from error
    origin = {
        "source": package.requirement,
        "archive": package.filename,
        "archive_sha256": package.sha256,
        "members": [member.path for member in known.members.values()],
    }
    with TemporaryDirectory(dir=folder, prefix=f".{known.name}-") as room:
        paths = [Path(room) / name for name in known.members]
        for path, member in zip(paths, known.members.values(), strict=True):
            extract_member(archive, member, path)
        return _convert(known, paths, labels, None, origin, progress)


def convert(
    name: str,
    files: Sequence[Path],
    *,
    labels: Sequence[Path] = (),
    output: Path | None = None,
    quiet: bool = False,
) -> Card:
    """Convert published files that are on this computer.

    Args:
        name: One of `KNOWN_WEIGHTS`.
        files: The file, or the folder it is in.
        labels: Files with names of classes; those of a public package if not given.
        output: Folder for the converted file and its card; the cache folder if not given.
        quiet: No progress bar where names of classes are fetched.

    Returns:
        The card, which lies beside the weights.

    Raises:
        CoalaLatentError: The files are others, damaged, or do not fit the model.
    """
    known = known_weights(name)
    origin = {"source": ", ".join(path.name for path in files)}
    with _download_bar("class names", quiet=quiet) as progress:
        return _convert(known, files, labels, output, origin, progress)


def _convert(
    known: KnownWeights,
    files: Sequence[Path],
    labels: Sequence[Path],
    output: Path | None,
    origin: Mapping[str, Any],
    progress: download.Progress,
) -> Card:
    published = read_published(known, files)
    if known.vocabulary and not labels:
        labels = _vocabulary_near(known, files)
    names, named_by = _class_names(known, published.classes, labels, progress)
    module, card = assemble(known, published, names, {**origin, "names": named_by})
    return save_model(module, card, usable(output or models_folder()))


def _vocabulary_near(known: KnownWeights, files: Sequence[Path]) -> list[Path]:
    """The vocabulary where the original project has it, some folders above its weights."""
    for folder in files[0].resolve().parents[:3]:
        if (found := folder / known.vocabulary).is_file():
            return [found]
    return []


def _class_names(
    known: KnownWeights,
    counts: Mapping[str, int],
    labels: Sequence[Path],
    progress: download.Progress,
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Names of every set of classes, and where they are from."""
    names: dict[str, tuple[str, ...]] = {}
    origins: dict[str, str] = {}
    for path in labels:
        found = read_labels(path)
        fitting = [name for name, count in counts.items() if count == len(found)]
        if not fitting:
            wanted = " or ".join(f"{count} {name}" for name, count in counts.items())
            raise WeightsError(f"{path}: {len(found)} class names; {known.name} has {wanted}")
        names[fitting[0]], origins[fitting[0]] = found, path.name
    for name, count in counts.items():
        if name not in names:
            names[name], origins[name] = _published_names(known, name, count, progress)
    return {name: names[name] for name in counts}, origins


def _published_names(
    known: KnownWeights, name: str, count: int, progress: download.Progress
) -> tuple[tuple[str, ...], str]:
    if name not in known.labels:
        hint = f" (the original project's {known.vocabulary})" if known.vocabulary else ""
        raise ConfigError(f"{known.name}: give its {count} {name} with --labels FILE{hint}")
    source = known.labels[name]
    try:
        archive = obtain_package(source.package, downloads_folder(), progress=progress)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nThe {count} names of {name} are in that package; they can also be given "
            "with --labels FILE",
            error.status,
        ) from error
    where = f"{source.package.requirement}: {source.member.path}"
    content = read_member(archive, source.member)
    return checked_count(source.read(content, where), count, where), where


@contextmanager
def _download_bar(name: str, *, quiet: bool) -> Iterator[download.Progress]:
    """A bar in bytes, which shows as soon as something comes over the network."""
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console(),
        disable=quiet,
        transient=True,
    )
    task = bar.add_task(name, total=None)

    def progress(done: int, total: int | None) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield progress
    finally:
        if bar.live.is_started:
            bar.stop()
