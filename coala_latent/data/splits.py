"""Splitting tagged sounds so that both parts have the tags in the same proportions.

Source: Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011,
algorithm 1 (iterative stratification), here over groups: what one person recorded, or one
recording, is never on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from coala_latent.data.epochs import IntArray
from coala_latent.errors import ConfigError, DataError

__all__ = ["stratified_split"]

_TRAIN, _VALIDATION = 0, 1
# Share of the validation part by which it may differ from what was asked for, for rare tags' sake.
_SLACK = 0.1
_SEED = 4


def stratified_split(
    tags: Sequence[Iterable[int]], groups: Sequence[str], fraction: float, seed: int
) -> tuple[IntArray, IntArray]:
    """Split items into a training and a validation part; no group is on both sides.

    Groups with the rarest tags are dealt out first, each to the side that lacks its tag most. Then
    groups are moved so that tags of two groups or more are on both sides, as far as the size of
    the validation part allows, and until that size is as near to the asked one as whole groups
    permit.

    Args:
        tags: Numbers of each item's tags, from 0 on.
        groups: Group of each item.
        fraction: Share of the items that is to be set aside.
        seed: Decides between equals.

    Returns:
        Numbers of the training and of the validation items, ascending.

    Raises:
        ConfigError: `fraction` is not within (0, 1).
        DataError: There are fewer than two groups.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"validation={fraction}: use a number between 0 and 1")
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(
            f"{len(groups)} sounds in {len(names)} group(s) cannot be split into training and "
            "validation (add sounds of other groups)"
        )
    number = {name: position for position, name in enumerate(names)}
    member = np.array([number[group] for group in groups])
    held: list[Counter[int]] = [Counter() for _ in names]
    for group, present in zip(member.tolist(), tags, strict=True):
        held[group].update(set(present))
    parts = _Parts(held, np.bincount(member, minlength=len(names)), fraction, seed)
    parts.deal()
    parts.cover()
    parts.balance()
    inside = parts.side[member] == _VALIDATION
    return np.flatnonzero(~inside), np.flatnonzero(inside)


class _Parts:
    """Groups on two sides.

    Args:
        held: Of each group, how many of its items have each tag.
        size: Items of each group.
        fraction: Share of the validation side.
        seed: Of the order among equals.
    """

    def __init__(
        self, held: list[Counter[int]], size: IntArray, fraction: float, seed: int
    ) -> None:
        self.held = held
        self.size = size
        self.wanted = np.array([1 - fraction, fraction]) * size.sum()
        self.side = np.full(len(held), _TRAIN)
        self.rank = np.random.default_rng([seed, _SEED]).permutation(len(held))
        self.total: Counter[int] = Counter()
        self.owners: dict[int, list[int]] = {}
        for group, counts in enumerate(held):
            self.total.update(counts)
            for tag in counts:
                self.owners.setdefault(tag, []).append(group)
        # Groups of each side that have a tag, all its groups, and its items.
        self.present: list[Counter[int]] = [Counter(), Counter()]
        self.count, self.items = [0, 0], [0, 0]

    def deal(self) -> None:
        """Iterative stratification: the rarest tag that is left, then the next."""
        left = self.wanted.copy()
        share = self.wanted / self.wanted.sum()
        lacking = {tag: share * count for tag, count in self.total.items()}
        remaining, dealt = Counter(self.total), np.zeros(len(self.held), dtype=bool)
        rarest = sorted((count, tag) for tag, count in remaining.items())
        while rarest:
            count, tag = heappop(rarest)
            # Counts fall on the way; an entry with an older one has a younger in its place.
            if count == 0 or count != remaining[tag]:
                continue
            for group in sorted(self.owners[tag], key=lambda g: (-self.held[g][tag], self.rank[g])):
                if dealt[group]:
                    continue
                side = self._lacks_more(lacking[tag], left)
                # One rare tag is not to bring a group into validation that is too large for it.
                if self.size[group] > left[_VALIDATION] + self.slack:
                    side = _TRAIN
                dealt[group] = True
                self._put(group, side)
                left[side] -= self.size[group]
                for other, count in self.held[group].items():
                    lacking[other][side] -= count
                    remaining[other] -= count
                    heappush(rarest, (remaining[other], other))
        rest = np.flatnonzero(~dealt).tolist()
        for group in sorted(rest, key=lambda g: (-self.size[g], self.rank[g])):
            side = int(left[_VALIDATION] > left[_TRAIN])
            self._put(group, side)
            left[side] -= self.size[group]

    @staticmethod
    def _lacks_more(lacking: npt.NDArray[np.float64], left: npt.NDArray[np.float64]) -> int:
        one, other = lacking if not np.isclose(lacking[0], lacking[1]) else left
        return int(other > one)

    def _put(self, group: int, side: int) -> None:
        self.side[group] = side
        self.present[side].update(dict.fromkeys(self.held[group], 1))
        self.count[side] += 1
        self.items[side] += int(self.size[group])

    def _move(self, group: int) -> None:
        side = int(self.side[group])
        self.present[side].subtract(dict.fromkeys(self.held[group], 1))
        self.count[side] -= 1
        self.items[side] -= int(self.size[group])
        self._put(group, 1 - side)

    @property
    def excess(self) -> float:
        """Items that the validation side has beyond what it is to have."""
        return float(self.items[_VALIDATION] - self.wanted[_VALIDATION])

    @property
    def slack(self) -> float:
        return max(1.0, _SLACK * float(self.wanted[_VALIDATION]))

    def _spare(self, group: int) -> bool:
        """Whether its side keeps all tags without it, and at least one group."""
        here = self.present[int(self.side[group])]
        return all(here[tag] > 1 for tag in self.held[group]) and self._not_alone(group)

    def _not_alone(self, group: int) -> bool:
        return self.count[int(self.side[group])] > 1

    def cover(self) -> None:
        """Bring tags that only one side has to the other, rarest first: training needs all."""
        tags = sorted(self.total, key=lambda tag: (self.total[tag], tag))
        # Each group is asked once whether validation can do without it.
        leaving = iter(sorted(self._of(_VALIDATION), key=lambda g: self.rank[g]))
        for side in (_TRAIN, _VALIDATION):
            for tag in tags:
                if self.present[side][tag] == 0 and len(self.owners[tag]) > side:
                    self._bring(tag, side, leaving)

    def _bring(self, tag: int, side: int, leaving: Iterator[int]) -> None:
        for group in sorted(self.owners[tag], key=lambda g: (self.size[g], self.rank[g])):
            # A tag of a single group belongs to training, whatever else validation loses by that.
            if not (self._not_alone(group) if side == _TRAIN else self._spare(group)):
                continue
            change = int(self.size[group]) * (1 if side == _VALIDATION else -1)
            if side == _VALIDATION:
                self._make_room(change, leaving)
            if abs(self.excess + change) <= max(self.slack, abs(self.excess)):
                self._move(group)
                return

    def _make_room(self, size: int, leaving: Iterator[int]) -> None:
        """Send groups whose tags validation has elsewhere back to training."""
        while size <= self.slack < self.excess + size:
            group = next(leaving, None)
            if group is None:
                return
            if self.side[group] == _VALIDATION and self._spare(group):
                self._move(group)

    def _of(self, side: int) -> list[int]:
        return [int(group) for group in np.flatnonzero(self.side == side)]

    def balance(self) -> None:
        """Come nearer to the asked size, if possible without taking a side's last of a tag."""
        for careful in (True, False):
            if careful or abs(self.excess) > self.slack:
                self._shift(careful)
        for side in (_TRAIN, _VALIDATION):
            if self.count[side] == 0:
                self._move(min(range(len(self.held)), key=lambda g: (self.size[g], self.rank[g])))

    def _shift(self, careful: bool) -> None:
        excess = self.excess
        source = _VALIDATION if excess > 0 else _TRAIN
        # Large groups first: small ones fill what they leave.
        order = sorted(self._of(source), key=lambda g: (-self.size[g], self.rank[g]))
        off = abs(excess)
        for group in order:
            fits = abs(off - self.size[group]) < off
            if fits and (self._spare(group) if careful else self._not_alone(group)):
                self._move(group)
                off -= float(self.size[group])
                if off <= 0:
                    return
