"""A real browser for pages: Debian's Chromium, driven by playwright."""

import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1200, "height": 800}


def missing(reason):
    """Skip, or fail where tests in a browser are required."""
    if os.environ.get("COALA_LATENT_BROWSER") == "required":
        pytest.fail(f"{reason}, and COALA_LATENT_BROWSER=required")
    pytest.skip(reason)


def chromium() -> str:
    named = os.environ.get("COALA_LATENT_CHROMIUM")
    if named:
        if not Path(named).is_file():
            missing(f"COALA_LATENT_CHROMIUM={named} is no file")
        return named
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        missing(f"no {', '.join(CHROMIUM)} on PATH (apt-get install chromium)")
    return found


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no playwright (pip install playwright)")
    program = chromium()
    # Chromium refuses its sandbox to the root user, as in most containers.
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"] if root else []
        )
        yield opened
        opened.close()


class Watched:
    """A page, what it said to the console, and what it asked for."""

    def __init__(self, page):
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _heard(self, message):
        # Screenshots make software WebGL say that it had to wait for them.
        if message.type in ("error", "warning") and "ReadPixels" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def outside(self):
        """Requests that leave the disk."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture
def open_page(browser):
    """Open a file as by a double click; at the end it must have been quiet and offline."""
    opened = []

    def open_file(path, *, query="", **options):
        context = browser.new_context(**{"viewport": SIZE, "color_scheme": "light", **options})
        watched = Watched(context.new_page())
        opened.append((context, watched))
        watched.page.goto(Path(path).as_uri() + query)
        return watched

    yield open_file
    for context, watched in opened:
        context.close()
        assert not watched.complaints
        assert not watched.outside()
