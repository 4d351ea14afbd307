"""Named arrays of a published file, each of which a converter must use exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coala_latent.errors import WeightsError

__all__ = ["Arrays"]


class Arrays:
    """What a weights file holds, and what of it is still to be used.

    Args:
        values: Arrays by the names the file gives them.
        source: The file, for messages.
    """

    def __init__(self, values: Mapping[str, npt.NDArray[Any]], source: str | Path) -> None:
        self.source = str(source)
        self._values = dict(values)
        self._left = set(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._values))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, without using it up."""
        if name not in self._values:
            raise WeightsError(f"{self.source}: {name} is missing (is it another model's file?)")
        return self._values[name].shape

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Use an array up.

        Returns:
            A float32 copy of that shape.

        Raises:
            WeightsError: It is missing, was used before, has another shape, or is not finite.
        """
        found = self.shape(name)
        if name not in self._left:
            raise WeightsError(f"{self.source}: {name} is used twice (the converter is wrong)")
        if found != shape:
            raise WeightsError(
                f"{self.source}: {name} is {found}, not {shape} (is it another model's file?)"
            )
        values = np.array(self._values[name], dtype=np.float32)
        if not np.isfinite(values).all():
            raise WeightsError(f"{self.source}: {name} holds NaN or infinity (get the file again)")
        self._left.discard(name)
        return values

    def finish(self) -> None:
        """Raise `WeightsError` when anything was not used."""
        if self._left:
            names = sorted(self._left)
            listed = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
            raise WeightsError(
                f"{self.source}: {len(names)} arrays are left over: {listed} "
                "(is it another model's file?)"
            )
