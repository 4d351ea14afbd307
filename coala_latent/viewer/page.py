"""One HTML file that opens by double click: no server, no network, nothing beside it.

Text is escaped wherever it comes from, scripts and styles are the package's own and are put into
the page, and a content security policy forbids the browser to fetch anything. Data for scripts is
JSON in an element that is never executed.
"""

from __future__ import annotations

import base64
import html
import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from coala_latent.errors import ConfigError, DataError

__all__ = ["Page", "embedded_json"]

_PNG = b"\x89PNG\r\n\x1a\n"
_NONE = "\u2013"
# Floats from here on keep their exponent.
_LARGE = 1e9
_NAME = re.compile(r"[A-Za-z][\w.-]*")
# What could end the element, begin a comment in it, or break a script that reads it.
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def embedded_json(value: Any) -> str:
    """JSON that can stand in a page's ``<script>`` element and reads back equal.

    Raises:
        DataError: NaN, infinity, or something that is no JSON.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"data of a page: {error} (use None for numbers that are missing)"
        ) from error
    # Half a surrogate pair, as names that are not UTF-8 have, is no text that can be written.
    text = re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)
    return "".join(_ESCAPES.get(character, character) for character in text)


class Page:
    """A page that is built from top to bottom and then written.

    Args:
        title: Of the page.
        subtitle: A line below it.
        media: Sounds and pictures that lie beside the page may be shown, by relative path.
    """

    def __init__(self, title: str, subtitle: str | None = None, *, media: bool = False) -> None:
        self.title = title
        self.subtitle = subtitle
        self.media = media
        self._body: list[str] = []
        self._contents: list[tuple[str, str]] = []
        self._anchors: set[str] = set()
        self._data: dict[str, str] = {}
        self._styles: list[str] = []
        self._scripts: list[str] = []
        self._section_open = False

    def section(self, title: str) -> str:
        """Begin a section; it is listed in the contents.

        Returns:
            Its anchor, for links within the page.
        """
        anchor = self._anchor(title)
        self._contents.append((anchor, title))
        if self._section_open:
            self._body.append("</section>")
        self._body.append(f'<section id="{anchor}"><h2>{_text(title)}{_link(anchor, title)}</h2>')
        self._section_open = True
        return anchor

    def heading(self, title: str) -> None:
        """A heading within a section."""
        self._body.append(f"<h3>{_text(title)}</h3>")

    def text(self, *paragraphs: str) -> None:
        """Paragraphs of plain text."""
        self._body += [f"<p>{_text(paragraph)}</p>" for paragraph in paragraphs]

    def note(self, text: str) -> None:
        """A paragraph that stands out, for what a reader must not overlook."""
        self._body.append(f'<p class="note">{_text(text)}</p>')

    def items(self, entries: Sequence[str]) -> None:
        """A list."""
        self._body.append(
            "<ul>" + "".join(f"<li>{_text(entry)}</li>" for entry in entries) + "</ul>"
        )

    def code(self, text: str) -> None:
        """A block of code or of a command."""
        self._body.append(f"<pre><code>{_text(text)}</code></pre>")

    def pairs(self, values: Mapping[str, Any]) -> None:
        """Names and values, such as settings and versions."""
        rows = "".join(
            f"<dt>{_text(name)}</dt><dd>{_text(_shown(value))}</dd>"
            for name, value in values.items()
        )
        self._body.append(f'<dl class="pairs">{rows}</dl>')

    def table(
        self,
        header: Sequence[str],
        rows: Sequence[Sequence[Any]],
        caption: str | None = None,
        *,
        digits: int = 3,
    ) -> None:
        """A table that a click on a heading sorts.

        Args:
            header: Of the columns.
            rows: Values; columns of numbers (and of None, shown as –) are aligned right.
            caption: Below it.
            digits: Significant digits of floats.

        Raises:
            DataError: A row has another number of values than the header.
        """
        for number, row in enumerate(rows):
            if len(row) != len(header):
                raise DataError(f"table row {number} has {len(row)} values, not {len(header)}")
        numeric = [
            any(_is_number(row[column]) for row in rows)
            and all(row[column] is None or _is_number(row[column]) for row in rows)
            for column in range(len(header))
        ]
        kinds = [' class="number"' if right else "" for right in numeric]
        head = "".join(
            f'<th scope="col"{kind}><button type="button">{_text(name)}</button></th>'
            for name, kind in zip(header, kinds, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f"<td{kind}{_sort_key(value)}>{_text(_shown(value, digits))}</td>"
                for value, kind in zip(row, kinds, strict=True)
            )
            + "</tr>"
            for row in rows
        )
        under = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
        self._body.append(
            f'<figure class="table"><div class="scroll"><table class="sortable"><thead><tr>{head}'
            f"</tr></thead><tbody>{body}</tbody></table></div>{under}</figure>"
        )

    def figure(self, png: bytes, caption: str, alt: str | None = None) -> None:
        """A picture.

        Args:
            png: A PNG file's bytes.
            caption: Below it.
            alt: What it shows, for who does not see it; the caption by default.

        Raises:
            DataError: They are not those of a PNG.
        """
        if not png.startswith(_PNG) or len(png) < 24:
            raise DataError(f"figure {caption!r}: not a PNG (give the bytes of one)")
        width, height = struct.unpack(">II", png[16:24])
        source = base64.b64encode(png).decode("ascii")
        self._body.append(
            f'<figure class="picture"><img width="{width}" height="{height}" '
            f'alt="{_text(alt or caption)}" src="data:image/png;base64,{source}">'
            f"<figcaption>{_text(caption)}</figcaption></figure>"
        )

    @contextmanager
    def details(self, summary: str, *, open_: bool = False) -> Iterator[None]:
        """What is added within the block can be folded away.

        Args:
            summary: What is always seen.
            open_: Unfolded at first.
        """
        self._body.append(
            f"<details{' open' if open_ else ''}><summary>{_text(summary)}</summary><div>"
        )
        yield
        self._body.append("</div></details>")

    def container(self, name: str) -> None:
        """An empty element with that id, for a script to draw in.

        Raises:
            ConfigError: The name is none for an element, or is taken.
        """
        self._take(name)
        self._body.append(f'<div id="{name}"></div>')

    def markup(self, name: str) -> None:
        """Put ``assets/NAME.html`` of the package in: fixed elements that its scripts fill.

        Raises:
            ConfigError: The package has no such file, or an id in it is taken.
        """
        text = _asset(f"{name}.html")
        for identifier in re.findall(r'\sid="([^"]*)"', text):
            self._take(identifier)
        self._body.append(text)

    def data(self, name: str, value: Any) -> None:
        """JSON for scripts: ``JSON.parse(document.getElementById(name).textContent)``.

        Raises:
            ConfigError: The name is none for an element, or is taken.
            DataError: The value is no JSON.
        """
        text = embedded_json(value)
        self._take(name)
        self._data[name] = text

    def script(self, name: str) -> None:
        """Put ``assets/NAME.js`` of the package in; scripts run in this order, after the data.

        Raises:
            ConfigError: The package has no such script.
        """
        self._scripts.append(_asset(f"{name}.js"))

    def style(self, name: str) -> None:
        """Put ``assets/NAME.css`` of the package in, after the page's own style.

        Raises:
            ConfigError: The package has no such style.
        """
        self._styles.append(_asset(f"{name}.css"))

    def html(self) -> str:
        """The page."""
        styles = [_asset("page.css"), *self._styles]
        scripts = [_asset("page.js"), *self._scripts]
        policy = _policy(styles, scripts, self.media)
        subtitle = f'<p class="subtitle">{_text(self.subtitle)}</p>' if self.subtitle else ""
        links = "".join(
            f'<li><a href="#{anchor}">{_text(title)}</a></li>' for anchor, title in self._contents
        )
        contents = f'<nav aria-label="Contents"><ol>{links}</ol></nav>' if links else ""
        body = "".join([*self._body, "</section>" if self._section_open else ""])
        data = "".join(
            f'<script type="application/json" id="{name}">{text}</script>'
            for name, text in self._data.items()
        )
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{_text(self.title)}</title>\n"
            + "".join(f"<style>{style}</style>\n" for style in styles)
            + f"</head>\n<body>\n<header><div><h1>{_text(self.title)}</h1>{subtitle}</div>"
            '<button type="button" id="theme" hidden>Theme</button></header>\n'
            f'<div class="page">{contents}<main>{body}</main></div>\n{data}\n'
            + "".join(f"<script>{script}</script>\n" for script in scripts)
            + "</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page; the file appears whole or not at all.

        Returns:
            Its path.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            temporary.write_text(self.html(), "utf-8", newline="\n")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _anchor(self, title: str) -> str:
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        anchor, number = f"s-{plain}", 1
        while anchor in self._anchors:
            number += 1
            anchor = f"s-{plain}-{number}"
        self._anchors.add(anchor)
        return anchor

    def _take(self, name: str) -> None:
        if not _NAME.fullmatch(name) or name == "theme" or name.startswith("s-"):
            raise ConfigError(f"{name!r} is no name for an element (letters, digits, - and _)")
        if name in self._anchors:
            raise ConfigError(f"{name!r} is in the page already (take another name)")
        self._anchors.add(name)


def _asset(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*\.(js|css|html)", name):
        raise ConfigError(f"{name!r} is no script, style or markup of the package")
    asset = files("coala_latent.viewer").joinpath("assets").joinpath(name)
    if not asset.is_file():
        raise ConfigError(f"the package has no {name} among its viewer's assets")
    # A file that was checked out with other line ends would have another hash in a browser.
    return asset.read_text("utf-8").replace("\r\n", "\n")


def _policy(styles: Sequence[str], scripts: Sequence[str], media: bool) -> str:
    """Nothing but the page's own scripts and styles, by hash, and pictures in the page."""
    # Browsers disagree whether what lies beside a page on the disk is of its own origin.
    sources = "'self' file: data: blob:" if media else "data: blob:"
    return (
        f"default-src 'none'; script-src {_hashes(scripts)}; "
        # Scripts of maps and graphs set positions and colours as style attributes.
        f"style-src {_hashes(styles)}; style-src-attr 'unsafe-inline'; "
        f"img-src {sources}; media-src {sources}; base-uri 'none'; form-action 'none'"
    )


def _hashes(texts: Sequence[str]) -> str:
    digests = (base64.b64encode(sha256(text.encode()).digest()).decode() for text in texts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _text(text: Any) -> str:
    """Escaped for elements and quoted attributes; what is no Unicode is spelled out."""
    printable = str(text).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return html.escape(printable, quote=True)


def _link(anchor: str, title: str) -> str:
    return f'<a class="anchor" href="#{anchor}" aria-label="Link to {_text(title)}">#</a>'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any, digits: int = 3) -> str:
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return _NONE if math.isnan(value) else ("∞" if value > 0 else "-∞")
        short = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e+" in short and abs(value) < _LARGE else short
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(each, digits) for each in value)
    return str(value)


def _sort_key(value: Any) -> str:
    if not _is_number(value) or not math.isfinite(value):
        return ""
    return f' data-value="{float(value)!r}"'
