"""What a run over many sounds did, as encode and spectrify tell it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from coala_latent.store.schema import printable_text

__all__ = ["RunSummary"]


@dataclass
class RunSummary:
    """Counts of a run that can be taken up again.

    Attributes:
        output: The store or folder.
        files: Sounds asked for.
        already_done: Found from an earlier run.
        seconds_of_sound: Newly done.
        seconds: Time it took.
        skipped: ``{"path", "kind", "error"}`` of every file that could not be used, those of
            earlier runs too.
        changed: Files whose size is no longer what it was when they were done.
    """

    output: str
    files: int = 0
    already_done: int = 0
    seconds_of_sound: float = 0.0
    seconds: float = 0.0
    skipped: list[dict[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def times_real_time(self) -> float:
        """Seconds of sound done in a second."""
        return self.seconds_of_sound / self.seconds if self.seconds else 0.0

    @property
    def exit_status(self) -> int:
        """0 where every file is done, 1 where some were skipped."""
        return 1 if self.skipped else 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; names that are not Unicode are escaped."""
        result = asdict(self) | {"times_real_time": round(self.times_real_time, 1)}
        result["output"] = printable_text(self.output)
        result["changed"] = [printable_text(name) for name in self.changed]
        return result
