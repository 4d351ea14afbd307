"""A folder of ``.npy`` files that knows what is in it, and takes up where a killed run stopped."""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any

from filelock import FileLock, Timeout

from coala_latent.data.frame_files import JOURNAL, SETTINGS, read_journal, read_settings
from coala_latent.data.latent_files import replace_file
from coala_latent.errors import AudioError, ConfigError, DataError
from coala_latent.store.schema import FAILED, printable_text
from coala_latent.tasks.frame_workers import TEMPORARY, FramesDone
from coala_latent.weights import write_json

__all__ = ["FAILED_LIST", "FrameFolder", "file_state"]

FAILED_LIST = "failed.csv"


class FrameFolder:
    """The output folder of a run; one run at a time.

    ``spectrify.json`` holds the settings, ``spectrify.jsonl`` a line for each sound, written when
    its frames are in place, and ``failed.csv`` the sounds that could not be used. Nothing in the
    folder is ever removed but unfinished files of a run that was killed.

    Args:
        folder: Made if it does not exist.
        settings: Of the frames, JSON-able.
        root: Folder of the sounds, kept for those who want to hear them.

    Raises:
        ConfigError: It has frames with other settings, frames of unknown settings, is a file, or
            another run writes to it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], root: str) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is a file (give a folder, or a name that ends in .h5)")
        folder.mkdir(parents=True, exist_ok=True)
        self._root = folder.resolve()
        self._inside: set[Path] = set()
        self._lock = FileLock(folder / ".spectrify.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(
                f"{folder}: another run writes to this folder (wait, or use another output)"
            ) from error
        self._file: IO[str] | None = None
        try:
            self._check(settings)
            described = {"version": 1, "root": root, "settings": dict(settings)}
            write_json(folder / SETTINGS, described)
            self._entries = read_journal(folder)
            self._compact()
            self._file = (folder / JOURNAL).open("a", encoding="ascii")
        except BaseException:
            self._lock.release()
            raise

    def _check(self, settings: Mapping[str, Any]) -> None:
        found = read_settings(self.folder)
        if not found:
            if stranger := next(iter(sorted(self.folder.rglob("*.npy"))), None):
                raise ConfigError(
                    f"{self.folder} has arrays of unknown settings, such as {stranger.name} (use "
                    "another folder)"
                )
            return
        differences = [
            f"{key}: {found.get(key)!r}, {settings.get(key)!r}"
            for key in sorted({*found, *settings})
            if found.get(key) != settings.get(key)
        ]
        if differences:
            raise ConfigError(
                f"{self.folder} was written with other settings (there, now): "
                f"{'; '.join(differences)} (use another folder, or those settings)"
            )
        for left in self.folder.rglob(TEMPORARY):
            left.unlink(missing_ok=True)

    def check_names(self, names: Sequence[str]) -> None:
        """Raise `DataError` where a file and a folder would have the same name."""
        folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
        if twice := next((name for name in names if f"{name}.npy" in folders), None):
            raise DataError(
                f"{twice}: its frames would be {twice}.npy, but a folder has that name (rename one)"
            )

    def target(self, name: str) -> Path:
        """Where the frames of a sound belong; the folder for it is made.

        Raises:
            ConfigError: A link leads out of the output folder.
        """
        target = self.folder / f"{name}.npy"
        parent = target.parent
        if parent not in self._inside:
            if not parent.resolve().is_relative_to(self._root):
                raise ConfigError(f"{parent}: a link leads out of {self.folder} (remove the link)")
            parent.mkdir(parents=True, exist_ok=True)
            self._inside.add(parent)
        return target

    def is_done(self, name: str, sound: Path, *, retry_failed: bool = False) -> bool:
        """Whether a sound has its frames, or has failed, and has not changed since."""
        entry = self._entries.get(name)
        if entry is None or [entry.get("bytes"), entry.get("changed")] != list(file_state(sound)):
            return False
        if entry.get("status") == FAILED:
            return not retry_failed
        # Not more than a look: a file that is complete has the size it was written with.
        return file_state(self.folder / f"{name}.npy")[0] == entry.get("size")

    def add(self, name: str, state: tuple[int, int], done: FramesDone | AudioError) -> None:
        """Note what became of a sound.

        Args:
            name: Of the sound.
            state: `file_state` of the sound before it was read.
            done: What was written, or what is wrong.
        """
        entry: dict[str, Any] = {"path": name, "bytes": state[0], "changed": state[1]}
        if isinstance(done, AudioError):
            reason = f"{done.reason} ({done.cure})" if done.cure else done.reason
            entry |= {"status": FAILED, "kind": type(done).__name__, "error": reason}
        else:
            entry |= {
                "status": "truncated" if done.truncated else "ok",
                "frames": done.frames,
                "duration": done.info.duration,
                "size": file_state(self.folder / f"{name}.npy")[0],
            }
        assert self._file is not None
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        self._entries[name] = entry

    def failed(self, names: Iterable[str]) -> list[dict[str, str]]:
        """``{"path", "kind", "error"}`` of those sounds that could not be used."""
        entries = [self._entries[name] for name in names if name in self._entries]
        return [
            {
                "path": printable_text(entry["path"]),
                "kind": str(entry["kind"]),
                "error": printable_text(str(entry["error"])),
            }
            for entry in entries
            if entry.get("status") == FAILED
        ]

    def close(self) -> None:
        """Write the list of failed sounds and let others write to the folder."""
        try:
            if self._file is not None:
                self._file.close()
                self._compact()
                self._write_failed()
        finally:
            self._lock.release()

    def _compact(self) -> None:
        """One line a sound, whole lines only."""
        lines = [json.dumps(self._entries[name]) + "\n" for name in sorted(self._entries)]
        replace_file(self.folder / JOURNAL, lambda file: file.write("".join(lines).encode("ascii")))

    def _write_failed(self) -> None:
        path, failed = self.folder / FAILED_LIST, self.failed(sorted(self._entries))
        if not failed:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, ["path", "kind", "error"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(failed)
        replace_file(path, lambda file: file.write(text.getvalue().encode()))

    def __enter__(self) -> FrameFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def file_state(path: Path) -> tuple[int, int]:
    """Bytes of a file, and when it was last changed in ns; zeros for what is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return 0, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (0, 0)
