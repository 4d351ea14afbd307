"""Where fetched files and converted weights live on this computer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryFile

from coala_latent.errors import WeightsError

__all__ = ["HOME_VARIABLE", "downloads_folder", "home_folder", "models_folder", "usable"]

HOME_VARIABLE = "COALA_LATENT_HOME"
_NAME = "coala_latent"


def home_folder() -> Path:
    """The cache folder; it need not exist.

    ``COALA_LATENT_HOME`` if it is set, else ``coala_latent`` below the system's folder for caches:
    ``XDG_CACHE_HOME`` or ``~/.cache``, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on
    Windows.
    """
    if named := os.environ.get(HOME_VARIABLE):
        return Path(named).expanduser().absolute()
    return _caches() / _NAME


def _caches() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if Path(cache).is_absolute():  # the XDG rules: anything else is to be ignored
        return Path(cache)
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def models_folder() -> Path:
    """Folder of the converted weights with their cards."""
    return home_folder() / "models"


def downloads_folder() -> Path:
    """Folder of files as they were published; it may be deleted at any time."""
    return home_folder() / "downloads"


def usable(folder: Path) -> Path:
    """The folder, made if need be.

    Raises:
        WeightsError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WeightsError(
            f"{folder}: cannot be made or written to: {error.strerror or error} "
            f"(set {HOME_VARIABLE} to a folder that can be written to)"
        ) from error
    return folder
