"""Splitting latents so that what is held out was not heard in training.

Neighbouring rows of a recording overlap, and rows of one take share the object and the room. Whole
takes are therefore held out, or, where there is one recording a condition, blocks of time with a
gap. Random rows, as LatentAudio (Henry, 2024) splits them, leak; they are kept for comparison.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from coala_latent.data.epochs import IntArray
from coala_latent.data.latents import LabelledLatents
from coala_latent.errors import ConfigError, DataError

__all__ = ["SplitKind", "split_by_take", "split_by_time", "split_latents", "split_rows"]

SplitKind = Literal["take", "time", "original"]

# Random numbers of their own, whatever else a seed is used for.
_SEED = 5


def split_latents(
    latents: LabelledLatents,
    kind: SplitKind = "take",
    share: float = 0.25,
    gap_seconds: float = 1.0,
    seed: int = 0,
) -> tuple[IntArray, IntArray]:
    """Split rows into a training and a held-out part.

    Args:
        latents: What to split.
        kind: ``"take"``, see `split_by_take`; ``"time"``, see `split_by_time`; ``"original"``, see
            `split_rows`.
        share: Of the rows that is held out, about.
        gap_seconds: Between the parts, for ``"time"``.
        seed: For ``"take"`` and ``"original"``.

    Returns:
        Numbers of the training and of the held-out rows, ascending.

    Raises:
        ConfigError: A setting does not make sense.
        DataError: The rows cannot be split in that way.
    """
    if kind not in get_args(SplitKind):
        raise ConfigError(f"split={kind!r}: use one of {', '.join(get_args(SplitKind))}")
    if kind == "take":
        return split_by_take(latents, share, seed)
    if kind == "time":
        return split_by_time(latents, share, gap_seconds)
    return split_rows(latents, share, seed, protocol="original")


def split_by_take(
    latents: LabelledLatents, share: float, seed: int = 0
) -> tuple[IntArray, IntArray]:
    """Hold out whole takes.

    Of every combination of classes that has two takes or more, takes are held out until those
    held out are as near to `share` of its rows as whole takes permit, at least one and never all;
    a combination with one take stays in training.

    Args:
        latents: What to split.
        share: Of the rows that is held out.
        seed: Of the choice of takes.

    Returns:
        Numbers of the training and of the held-out rows, ascending.

    Raises:
        ConfigError: `share` is not within (0, 1).
        DataError: No take can be held out.
    """
    _check_share(share)
    takes, take = np.unique(latents.take, return_inverse=True)
    take, condition = take.reshape(-1), latents.conditions
    counts = np.zeros((int(condition.max(initial=-1)) + 1, len(takes)), dtype=np.int64)
    np.add.at(counts, (condition, take), 1)
    aside = np.zeros(len(takes), dtype=bool)
    rng = np.random.default_rng([seed, _SEED])
    # Those with the fewest takes first: they have the least choice.
    for row in np.argsort((counts > 0).sum(axis=1), kind="stable"):
        present = np.flatnonzero(counts[row])
        wanted, held = share * counts[row].sum(), counts[row][aside].sum()
        for candidate in rng.permutation(present):
            if held and held + counts[row, candidate] / 2 > wanted:
                break
            # Would a combination lose its last take?
            affected = counts[:, candidate] > 0
            left = (counts[affected][:, ~aside] > 0).sum(axis=1)
            if not aside[candidate] and (left > 1).all():
                aside[candidate] = True
                held += counts[row, candidate]
    if not aside.any():
        raise DataError(
            f"{len(latents)} rows of {len(takes)} takes: none can be held out, because every one "
            "is the only take of a combination of classes (record more takes, or split by time)"
        )
    return np.flatnonzero(~aside[take]), np.flatnonzero(aside[take])


def split_by_time(
    latents: LabelledLatents, share: float, gap_seconds: float
) -> tuple[IntArray, IntArray]:
    """Hold out the end of every recording; rows within the gap before it are in neither part.

    Args:
        latents: What to split; the times must be known.
        share: Of each recording's time that is held out.
        gap_seconds: At least this lies between the end of a training row and the start of a
            held-out row of the same recording; with 0 the parts touch, but do not overlap.

    Returns:
        Numbers of the training and of the held-out rows, ascending.

    Raises:
        ConfigError: `share` is not within (0, 1), or the gap is negative.
        DataError: Times are not known, or a recording is too short to be in both parts.
    """
    _check_share(share)
    if not gap_seconds >= 0:
        raise ConfigError(f"gap_seconds={gap_seconds}: use 0 or more")
    if not (np.isfinite(latents.start).all() and np.isfinite(latents.end).all()):
        raise DataError(
            "latents: not every row has times, so they cannot be split by time (write them with "
            "T.npy, or give split=original knowing that it leaks)"
        )
    train = np.zeros(len(latents), dtype=bool)
    held = np.zeros(len(latents), dtype=bool)
    for recording in np.unique(latents.recording):
        own = latents.recording == recording
        first, last = latents.start[own].min(), latents.end[own].max()
        cut = last - share * (last - first)
        held |= own & (latents.start >= cut)
        train |= own & (latents.end <= cut - gap_seconds)
        if not (own & train).any() or not (own & held).any():
            raise DataError(
                f"recording {recording} is too short ({last - first:.1f} s) to be in both parts "
                "with that gap (use longer recordings or a smaller gap_seconds, or split by take)"
            )
    return np.flatnonzero(train), np.flatnonzero(held)


def split_rows(
    latents: LabelledLatents, share: float, seed: int = 0, *, protocol: str
) -> tuple[IntArray, IntArray]:
    """Hold out random rows, as the original does. It leaks: neighbours land on both sides.

    Args:
        latents: What to split.
        share: Of the rows that is held out.
        seed: Of the choice.
        protocol: Must be ``"original"``, so that nobody does this unawares.

    Returns:
        Numbers of the training and of the held-out rows, ascending.

    Raises:
        ConfigError: `share` is not within (0, 1), or the protocol is another.
        DataError: There are fewer than two rows.
    """
    _check_share(share)
    if protocol != "original":
        raise ConfigError(
            f"protocol={protocol!r}: rows of one recording must not be on both sides (split by "
            "take or time; only protocol=original splits random rows)"
        )
    if len(latents) < 2:
        raise DataError(f"{len(latents)} rows cannot be split")
    count = min(max(1, round(share * len(latents))), len(latents) - 1)
    order = np.random.default_rng([seed, _SEED]).permutation(len(latents))
    return np.sort(order[count:]), np.sort(order[:count])


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise ConfigError(f"share={share}: use a number between 0 and 1")
