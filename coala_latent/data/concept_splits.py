"""Training, validation and test recordings of concepts.

Each recording has one part for all concepts, because what one concept was trained on cannot say
how another relates to it. What the original did is here for comparison (`original_split`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from coala_latent.data.concept_tables import ConceptTable, IntArray
from coala_latent.data.splits import stratified_split
from coala_latent.errors import ConfigError, DataError

__all__ = ["PARTS", "ConceptSplit", "Part", "original_split", "recording_split"]

Part: TypeAlias = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
SHARES = (0.7, 0.1, 0.2)
ORIGINAL_SEED = 123


@dataclass(frozen=True, eq=False)
class ConceptSplit:
    """Positive and negative recordings of each concept in each part.

    Attributes:
        table: What was split.
        part: ``(recordings,)`` int8, the part of each recording as its place in `PARTS`; None in
            the original's protocol, where it differs between concepts.
        own: In the original's protocol, places of the positives and negatives of each concept, by
            part: ``own[part][concept]``. None otherwise.
    """

    table: ConceptTable
    part: IntArray | None = None
    own: dict[Part, list[tuple[IntArray, IntArray]]] | None = None

    def recordings(self, part: Part) -> IntArray:
        """Places of all recordings that are in a part for some concept, ascending."""
        if self.part is not None:
            return np.flatnonzero(self.part == PARTS.index(part))
        assert self.own is not None
        pairs = self.own[part]
        found = np.zeros(len(self.table.recordings), dtype=bool)
        for positives, negatives in pairs:
            found[positives] = found[negatives] = True
        return np.flatnonzero(found)

    def positives(self, part: Part, concept: int) -> IntArray:
        """Places of a concept's recordings in a part; ascending but in the original's protocol."""
        if self.own is not None:
            return self.own[part][concept][0]
        assert self.part is not None
        members = self.table.of_concept(concept)
        return members[self.part[members] == PARTS.index(part)]

    def negatives(self, part: Part, concept: int) -> IntArray:
        """Places of the recordings in a part that do not belong to a concept."""
        if self.own is not None:
            return self.own[part][concept][1]
        return np.setdiff1d(self.recordings(part), self.table.of_concept(concept))

    def trainable(self, least: int = 1) -> ConceptSplit:
        """The concepts with enough positives and negatives in every part; others are set aside.

        Args:
            least: Positives, and negatives, that every part needs.
        """
        reasons = dict(self.table.set_aside)
        for concept, name in enumerate(self.table.concepts):
            for part in PARTS:
                total = len(self.recordings(part)) if self.part is not None else 0
                count = len(self.positives(part, concept))
                other = total - count if total else len(self.negatives(part, concept))
                if min(count, other) < least:
                    reasons.setdefault(
                        name,
                        f"{count} recordings and {other} others in the {part} part, fewer than "
                        f"{least}",
                    )
        found = self.only(name for name in self.table.concepts if name not in reasons)
        return replace(found, table=replace(found.table, set_aside=reasons))

    def only(self, names: Iterable[str]) -> ConceptSplit:
        """The same parts for the concepts of these names alone."""
        table = self.table.keep(names)
        own = self.own
        if own is not None:
            wanted = set(table.concepts)
            kept = [place for place, name in enumerate(self.table.concepts) if name in wanted]
            own = {part: [pairs[place] for place in kept] for part, pairs in own.items()}
        return ConceptSplit(table, self.part, own)


def recording_split(
    table: ConceptTable, seed: int = 0, shares: Sequence[float] = SHARES
) -> ConceptSplit:
    """Parts by recording, in which groups stay together and concepts have their proportions.

    Depends on the table's content and the seed alone: not on the order of its lines, nor on how
    Python hashes strings.

    Args:
        table: To split.
        seed: Of the choice among equals.
        shares: Of training, validation and test.

    Raises:
        ConfigError: The shares are not three positive numbers that sum to 1.
        DataError: There are fewer than three groups.
    """
    if len(shares) != 3 or min(shares) <= 0 or not np.isclose(sum(shares), 1):
        raise ConfigError(f"shares {tuple(shares)}: use three positive numbers that sum to 1")
    if len(set(table.groups)) < 3:
        raise DataError(
            f"{len(table.recordings)} recordings in {len(set(table.groups))} group(s) cannot be "
            "split into three parts (add recordings of other groups)"
        )
    # By names, so that a table made in another order is split alike.
    order = np.array(sorted(range(len(table.recordings)), key=table.recordings.__getitem__))
    column = np.empty(len(table), dtype=np.int64)
    column[sorted(range(len(table)), key=table.concepts.__getitem__)] = np.arange(len(table))
    tags = [
        column[table.members.indices[table.members.indptr[row] : table.members.indptr[row + 1]]]
        for row in order
    ]
    groups = [table.groups[row] for row in order]
    part = np.zeros(len(order), dtype=np.int64)
    rest, test = _divided(tags, groups, np.arange(len(order)), shares[2], seed)
    part[order[test]] = PARTS.index("test")
    _, validation = _divided(tags, groups, rest, shares[1] / (shares[0] + shares[1]), seed)
    part[order[validation]] = PARTS.index("validation")
    return ConceptSplit(table, part)


def _divided(
    tags: Sequence[IntArray], groups: Sequence[str], rows: IntArray, share: float, seed: int
) -> tuple[IntArray, IntArray]:
    kept, set_aside = stratified_split(
        [tags[row].tolist() for row in rows], [groups[row] for row in rows], share, seed
    )
    return rows[kept], rows[set_aside]


def original_split(table: ConceptTable) -> ConceptSplit:
    """The original's parts: a shuffle of each concept's positives, then one of its negatives.

    Both begin at NumPy's legacy generator with seed 123 and are cut at rounded shares of 0.7 and
    0.8. The original's negatives came in the order of Python's hashes, which changes from run to
    run; here they are in the table's. A recording may be trained on for one concept and tested on
    for another, and a group may be on both sides.
    """
    own: dict[Part, list[tuple[IntArray, IntArray]]] = {part: [] for part in PARTS}
    everyone = np.arange(len(table.recordings))
    for concept in range(len(table)):
        positives = table.of_concept(concept)
        rng = np.random.RandomState(ORIGINAL_SEED)
        cut = [_cut(each, rng) for each in (positives, np.setdiff1d(everyone, positives))]
        for number, part in enumerate(PARTS):
            own[part].append((cut[0][number], cut[1][number]))
    return ConceptSplit(table, None, own)


def _cut(rows: IntArray, rng: np.random.RandomState) -> list[IntArray]:
    shuffled = rows.copy()
    rng.shuffle(shuffled)
    ends = [round(share * len(rows)) for share in (SHARES[0], SHARES[0] + SHARES[1])]
    return np.split(shuffled, ends)
