"""The Python package index that this computer is set up for: where a file of a package is.

pip is asked for its settings; the pages are those of the "simple" index (PEP 503 and 691).
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from coala_latent.errors import WeightsError
from coala_latent.weights.download import local_path
from coala_latent.weights.transport import Access, DownloadError, read_page, shown

__all__ = ["IndexSettings", "find_file", "index_settings", "run_pip"]

PUBLIC_INDEX = "https://pypi.org/simple"
_ACCEPT = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1"
)
# Later ones win.
_SECTIONS = ("global", "download", ":env:")


@dataclass(frozen=True)
class IndexSettings:
    """Where pip looks.

    Attributes:
        indexes: Addresses of simple indexes, in order.
        links: Folders and pages that list files, looked at first.
        access: How to reach them.
    """

    indexes: tuple[str, ...] = (PUBLIC_INDEX,)
    links: tuple[str, ...] = ()
    access: Access = field(default_factory=Access)


def run_pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python's pip, away from the current folder, whose modules it would import."""
    with tempfile.TemporaryDirectory() as empty:
        return subprocess.run(
            [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=empty,
            env=os.environ | {"PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"},
            check=False,
        )


def index_settings() -> IndexSettings:
    """Settings of pip, from its files and environment; from the environment alone without pip."""
    listed = run_pip("config", "list")
    if listed.returncode == 0:
        found = _listed(listed.stdout)
    else:
        found = {
            name.removeprefix("PIP_").lower().replace("_", "-"): value
            for name, value in os.environ.items()
            if name.startswith("PIP_") and value
        }
    timeout = found.get("timeout", found.get("default-timeout", ""))
    access = Access(certificates=found.get("cert", ""), proxy=found.get("proxy", ""))
    if timeout.replace(".", "", 1).isdigit():
        access = Access(access.certificates, access.proxy, max(float(timeout), 1.0))
    indexes = [found.get("index-url", PUBLIC_INDEX), *found.get("extra-index-url", "").split()]
    if found.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = []
    return IndexSettings(tuple(indexes), tuple(found.get("find-links", "").split()), access)


def _listed(text: str) -> dict[str, str]:
    """``section.name='value'`` lines of ``pip config list``."""
    sections: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.strip().rpartition(".")
        if section in sections:
            try:
                sections[section][name] = str(ast.literal_eval(value.strip()))
            except (ValueError, SyntaxError) as error:
                raise WeightsError(f"pip config list: unreadable line {line!r}") from error
    return {name: value for section in _SECTIONS for name, value in sections[section].items()}


def find_file(project: str, filename: str, settings: IndexSettings) -> Iterator[str]:
    """Addresses and paths of a package's file, from each place that has it.

    Raises:
        DownloadError: Raised after the last place, if some could not be reached.
    """
    name = re.sub(r"[-_.]+", "-", project).lower()
    places = [*settings.links, *(f"{index.rstrip('/')}/{name}/" for index in settings.indexes)]
    unreachable = []
    for place in places:
        try:
            found = _look(place, filename, settings.access)
        except DownloadError as error:
            if error.status != 404:
                unreachable.append(error)
            continue
        if found:
            yield found
    if unreachable:
        raise unreachable[0]


def _look(place: str, filename: str, access: Access) -> str:
    """Address of the file in a folder or on a page; empty where it is not."""
    folder = local_path(place)
    if folder is None:
        page, kind, address = read_page(place, access, _ACCEPT)
        links = _json_links(page, place) if kind.endswith("+json") else _html_links(page)
        return _with_login(place, _resolved(links, address, filename))
    folder = folder.expanduser()
    if folder.is_dir():
        beside = folder / filename
        if beside.is_file():
            return str(beside)
        folder = folder / "index.html"
    if not folder.is_file():
        return ""
    return _resolved(_html_links(folder.read_bytes()), folder.absolute().as_uri(), filename)


def _resolved(links: Mapping[str, str], base: str, filename: str) -> str:
    if filename not in links:
        return ""
    return urldefrag(urljoin(base, links[filename])).url


def _with_login(page: str, address: str) -> str:
    """A file on the host of its page needs the page's name and password."""
    login, at, host = urlsplit(page).netloc.rpartition("@")
    parts = urlsplit(address)
    if not at or parts.netloc != host:
        return address
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def _json_links(page: bytes, place: str) -> dict[str, str]:
    try:
        return {entry["filename"]: entry["url"] for entry in json.loads(page)["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"{shown(place)}: not a page of a package index: {error}") from error


def _html_links(page: bytes) -> dict[str, str]:
    parser = _Anchors()
    parser.feed(page.decode("utf-8", "replace"))
    parser.close()
    return {
        _last_part(target): urljoin(parser.base, target) if parser.base else target
        for target in parser.targets
    }


def _last_part(target: str) -> str:
    return unquote(urlsplit(target).path.rpartition("/")[2])


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if target and tag == "a":
            self.targets.append(target)
        elif target and tag == "base" and not self.base:
            self.base = target
