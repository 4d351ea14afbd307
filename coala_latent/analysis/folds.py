"""Splits into training and test items: a data set's own, or made so that groups stay together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from coala_latent.errors import ConfigError, DataError

__all__ = ["Fold", "encode_labels", "fixed_folds", "grouped_folds", "inner_folds"]

IndexArray = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Fold:
    """One split into training and test items.

    Attributes:
        name: For messages and tables.
        train: Indices of training items.
        test: Indices of test items; none of them is in ``train``.

    Raises:
        DataError: A part is empty, or an item is in both.
    """

    name: str
    train: IndexArray
    test: IndexArray

    def __post_init__(self) -> None:
        if len(self.train) == 0 or len(self.test) == 0:
            raise DataError(
                f"fold {self.name}: {len(self.train)} training and {len(self.test)} test items; "
                "both parts need at least one"
            )
        shared = np.intersect1d(self.train, self.test)
        if len(shared):
            raise DataError(
                f"fold {self.name}: item {shared[0]} is in both the training and the test part"
            )


def fixed_folds(fold_ids: npt.ArrayLike) -> list[Fold]:
    """Folds that come with a data set: each id is the test part once.

    Args:
        fold_ids: ``(n,)``, of any sortable type (ESC: first digit of the file name).

    Returns:
        One fold an id, sorted by it.

    Raises:
        DataError: Fewer than two ids.
    """
    ids, index = encode_labels(fold_ids, "fold_ids")
    if len(ids) < 2:
        raise DataError(f"fold_ids has {len(ids)} distinct id; folds need at least two")
    return [
        Fold(str(name), np.flatnonzero(index != i), np.flatnonzero(index == i))
        for i, name in enumerate(ids.tolist())
    ]


def grouped_folds(
    labels: npt.ArrayLike, groups: npt.ArrayLike, n_folds: int = 5, seed: int = 0
) -> list[Fold]:
    """Balanced folds in which a group is never on both sides (StratifiedGroupKFold).

    Args:
        labels: ``(n,)`` classes.
        groups: ``(n,)`` ids of what belongs together: recording, source, uploader.
        n_folds: Number of folds.
        seed: Seed of the shuffle.

    Raises:
        ConfigError: Fewer than two folds.
        DataError: A class has fewer groups than folds, so some fold could not test it.
    """
    if n_folds < 2:
        raise ConfigError(f"n_folds={n_folds} must be at least 2")
    classes, y = encode_labels(labels, "labels")
    _, group = encode_labels(groups, "groups")
    if len(y) != len(group):
        raise DataError(f"{len(y)} labels but {len(group)} groups; each item needs one of both")
    pairs = np.unique(np.stack([y, group]), axis=1)
    sources = np.bincount(pairs[0], minlength=len(classes))
    poorest = int(np.argmin(sources))
    if sources[poorest] < n_folds:
        most = int(sources[poorest])
        cure = f"use n_folds={most}, or add" if most > 1 else "leave the class out, or add"
        raise DataError(
            f"class {classes[poorest]} comes from {most} group(s), fewer than n_folds={n_folds}: "
            f"{cure} sounds of this class from other sources"
        )
    # Shuffled here, by the order of the groups: scikit-learn's own shuffling loses the balance in
    # versions before 1.8.
    shuffled = np.random.default_rng(seed).permutation(int(group.max()) + 1)[group]
    splitter = StratifiedGroupKFold(n_splits=n_folds)
    splits = splitter.split(np.zeros((len(y), 1)), y, shuffled)
    return [Fold(str(i), train, test) for i, (train, test) in enumerate(splits)]


def inner_folds(folds: Sequence[Fold], index: int) -> list[Fold]:
    """Splits of one fold's training items: each other fold's test items against the rest.

    What the folds keep together stays together in them.

    Args:
        folds: Of a cross-validation.
        index: The fold whose training items are to be split.

    Raises:
        ConfigError: The other folds do not split them; three folds of a cross-validation do.
    """
    outer = folds[index]
    splits = []
    for number, other in enumerate(folds):
        test = np.intersect1d(outer.train, other.test)
        train = np.setdiff1d(outer.train, other.test)
        if number != index and len(test) and len(train):
            splits.append(Fold(f"{outer.name}/{other.name}", train, test))
    if not splits:
        raise ConfigError(
            f"fold {outer.name}: its training items cannot be split by the other "
            f"{len(folds) - 1} fold(s), and this probe chooses its penalty so: "
            "use at least three folds, or linear_svm"
        )
    return splits


def encode_labels(values: npt.ArrayLike, what: str) -> tuple[npt.NDArray[Any], IndexArray]:
    """Distinct values, sorted, and the index of each item's."""
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{what} must be a list of at least one value, got shape {array.shape}")
    distinct, index = np.unique(array, return_inverse=True)
    return distinct, index
