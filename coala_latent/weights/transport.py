"""One request over http or https: how it is made, and which of its failures may pass.

The standard library does it: proxies and certificates are those of the environment, and nothing
that can be fetched this way is ever opened as a local file.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from coala_latent.errors import WeightsError

__all__ = [
    "NETWORK_ERRORS",
    "Access",
    "DownloadError",
    "broken",
    "open_url",
    "patiently",
    "read_page",
    "shown",
]

Result = TypeVar("Result")

# Of a connection in use; which ones mean that another try may help is decided in `broken`.
NETWORK_ERRORS = (OSError, http.client.HTTPException)
# Statuses after which the same request may well succeed.
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_GONE = {401, 403, 404, 410}
_PAGE_LIMIT = 16 << 20


class DownloadError(WeightsError):
    """An address did not give what was asked for.

    Args:
        message: Address, reason and cure.
        status: The server's answer, if it gave one.
        passing: Whether another try may help.
    """

    def __init__(self, message: str, status: int | None = None, passing: bool = False) -> None:
        self.status = status
        self.passing = passing
        super().__init__(message)

    def __reduce__(self) -> tuple[type[DownloadError], tuple[str, int | None, bool]]:
        return type(self), (str(self), self.status, self.passing)


@dataclass(frozen=True)
class Access:
    """How the network is reached.

    Attributes:
        certificates: File or folder of trusted certificates; the system's if not given.
        proxy: For every address; those of the environment if not given.
        timeout: Seconds without an answer.
        attempts: Tries in a row that bring nothing.
        wait: Seconds before the second try; twice as long before each one after it.
    """

    certificates: str = ""
    proxy: str = ""
    timeout: float = 30.0
    attempts: int = 4
    wait: float = 1.0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Only to http and https, and never from https to http."""

    # Python 3.10 does not know this status.
    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise _forbidden(req.full_url, newurl, code)
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)


def _forbidden(url: str, target: str, status: int) -> DownloadError:
    return DownloadError(
        f"{shown(url)}: leads to {shown(target)}, which is not followed (redirects go to http "
        "and https only, and never from https to http)",
        status,
    )


def _opener(access: Access) -> urllib.request.OpenerDirector:
    certificates = access.certificates or None
    folder = certificates is not None and Path(certificates).is_dir()
    try:
        context = ssl.create_default_context(
            cafile=None if folder else certificates, capath=certificates if folder else None
        )
    except OSError as error:
        raise WeightsError(
            f"{certificates}: not usable as certificates: {error} (correct the setting)"
        ) from error
    proxies = {"http": access.proxy, "https": access.proxy} if access.proxy else None
    opener = urllib.request.OpenerDirector()
    # Not build_opener, whose openers also read ftp:, file: and data: addresses.
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def open_url(url: str, access: Access, headers: Mapping[str, str] | None = None) -> Any:
    """Ask for an address; name and password in it are sent to its own host alone.

    Returns:
        The response, to be read and closed, with ``status``, ``headers`` and ``url``.

    Raises:
        DownloadError: Every failure, with whether it may pass.
    """
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    try:
        request = urllib.request.Request(
            bare,
            headers={
                "User-Agent": "coala-latent",
                "Accept-Encoding": "identity",
                **(headers or {}),
            },
        )
        if parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            token = base64.b64encode(pair.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {token}")
        return _opener(access).open(request, timeout=access.timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _answered(url, error) from error
    except ValueError as error:
        raise DownloadError(f"{shown(url)}: not an address: {error} (correct it)") from error
    except NETWORK_ERRORS as error:
        raise broken(url, error) from error


def _answered(url: str, error: urllib.error.HTTPError) -> DownloadError:
    if 300 <= error.code < 400:
        return _forbidden(url, error.headers.get("Location", "nowhere"), error.code)
    cure = ""
    if error.code in _GONE:
        cure = " (check the address, and whether it needs a login)"
    elif error.code in _PASSING:
        cure = " (try again later)"
    return DownloadError(
        f"{shown(url)}: the server answered {error.code} {error.reason}{cure}",
        error.code,
        error.code in _PASSING,
    )


def broken(url: str, error: OSError | http.client.HTTPException) -> DownloadError:
    """The error of a connection that failed or was cut."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    cure, passing = "check the connection and try again", True
    if isinstance(reason, ssl.SSLCertVerificationError):
        cure = "set SSL_CERT_FILE to the certificates of your network"
        passing = False
    elif isinstance(reason, socket.gaierror):
        cure, passing = "is this computer online?", False
    return DownloadError(
        f"{shown(url)}: cannot be reached: {reason or type(reason).__name__} ({cure})",
        passing=passing,
    )


def patiently(access: Access, act: Callable[[], Result], arrived: Callable[[], int]) -> Result:
    """Do something over the network again and again until it succeeds or cannot.

    Args:
        access: Says how often and after how long.
        act: What to do; only its `DownloadError` that are `passing` are followed by another try.
        arrived: Bytes gained so far: a try that brought a MiB or more does not count as failed.
    """
    failed = 0
    while True:
        before = arrived()
        try:
            return act()
        except DownloadError as error:
            failed = 0 if arrived() - before >= 1 << 20 else failed + 1
            if not error.passing or failed >= access.attempts:
                raise
        time.sleep(access.wait * 2 ** max(failed - 1, 0))


def read_page(url: str, access: Access, accept: str) -> tuple[bytes, str, str]:
    """A whole, small page.

    Returns:
        Its bytes, its media type, and its address after redirects.

    Raises:
        DownloadError: It is not to be had, or larger than 16 MiB.
    """

    def read() -> tuple[bytes, str, str]:
        with open_url(url, access, {"Accept": accept}) as response:
            try:
                page = response.read(_PAGE_LIMIT + 1)
            except NETWORK_ERRORS as error:
                raise broken(url, error) from error
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and len(page) < min(int(length), _PAGE_LIMIT):
                raise DownloadError(f"{shown(url)}: cut short (try again)", passing=True)
            return page, response.headers.get_content_type(), response.url

    page, kind, address = patiently(access, read, lambda: 0)
    if len(page) > _PAGE_LIMIT:
        raise DownloadError(f"{shown(url)}: larger than a page may be (is it the right address?)")
    return page, kind, address


def shown(url: str) -> str:
    """The address without name, password and query, which may be secrets."""
    parts = urlsplit(url)
    if not parts.scheme:
        return url
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
