"""The split keeps groups together, hits the asked share, and deals out every tag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.data.splits import stratified_split
from coala_latent.errors import ConfigError, DataError


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[set[int]], list[str]]:
    count = draw(st.integers(2, 60))
    tags = draw(st.lists(st.sets(st.integers(0, 9), max_size=4), min_size=count, max_size=count))
    groups = draw(st.lists(st.integers(0, 20).map(str), min_size=count, max_size=count))
    groups[:2] = ["one", "two"]
    return tags, groups


@given(tagged(), st.floats(0.02, 0.6), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_groups_stay_whole_and_the_share_is_as_near_as_groups_permit(
    drawn: tuple[list[set[int]], list[str]], fraction: float, seed: int
) -> None:
    tags, groups = drawn
    train, validation = stratified_split(tags, groups, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(tags)))
    assert len(train)
    assert len(validation)
    assert not {groups[i] for i in train} & {groups[i] for i in validation}
    wanted = fraction * len(tags)
    sizes = [groups.count(group) for group in set(groups)]
    # Nothing but the sizes of groups and a tenth (at least one item) keeps it from the share.
    assert abs(len(validation) - wanted) <= max(1.0, 0.1 * wanted, max(sizes))
    again = stratified_split(tags, groups, fraction, seed)
    assert np.array_equal(again[0], train)


def random_tags(count: int, tags: int, seed: int = 0) -> list[set[int]]:
    rng = np.random.default_rng(seed)
    share = 1 / (np.arange(tags) + 2)
    chosen = [
        rng.choice(tags, rng.integers(1, 6), p=share / share.sum()).tolist() for _ in range(count)
    ]
    return [set(row) for row in chosen]


def shares(tags: list[set[int]], rows: np.ndarray, least: int) -> np.ndarray:
    """Share that `rows` have of each tag of at least so many items."""
    number = 1 + max(set().union(*tags))
    counts = np.zeros((2, number))
    for row, present in enumerate(tags):
        counts[0, list(present)] += 1
        counts[1, list(present)] += row in set(rows.tolist())
    return counts[1, counts[0] >= least] / counts[0, counts[0] >= least]


def test_every_tag_is_dealt_out_in_proportion_better_than_by_chance() -> None:
    tags = random_tags(1000, 120)
    groups = [str(row) for row in range(1000)]
    _, validation = stratified_split(tags, groups, 0.1, 0)
    assert len(validation) == 100
    on_both = shares(tags, validation, 2)
    assert (on_both > 0).all()
    assert (on_both < 1).all()
    chance = np.random.default_rng(0).permutation(1000)[:100]
    off = [np.abs(shares(tags, rows, 10) - 0.1).mean() for rows in (validation, chance)]
    assert off[0] < 0.5 * off[1]


def test_uploaders_of_any_size_stay_together_and_training_has_every_tag() -> None:
    tags = random_tags(800, 60, seed=1)
    uploaders = [str(n % 150) for n in np.random.default_rng(2).zipf(1.5, 800)]
    train, validation = stratified_split(tags, uploaders, 0.1, 0)
    assert not {uploaders[i] for i in train} & {uploaders[i] for i in validation}
    assert abs(len(validation) - 80) <= 8
    assert set().union(*(tags[i] for i in validation)) <= set().union(*(tags[i] for i in train))


def test_a_tag_of_two_groups_is_on_both_sides_and_one_of_a_single_group_in_training() -> None:
    tags = [{0} for _ in range(40)]
    tags[3] |= {1}
    tags[17] |= {1}
    tags[25] |= {2}
    for seed in range(5):
        train, validation = stratified_split(tags, [str(i) for i in range(40)], 0.1, seed)
        assert {3, 17} & set(validation.tolist())
        assert {3, 17} & set(train.tolist())
        assert 25 in train


def test_another_seed_gives_another_split() -> None:
    tags, groups = random_tags(100, 20), [str(i) for i in range(100)]
    first = stratified_split(tags, groups, 0.2, 0)[1]
    assert not np.array_equal(first, stratified_split(tags, groups, 0.2, 1)[1])


def test_the_order_of_items_in_a_group_and_items_without_tags_do_not_matter() -> None:
    train, validation = stratified_split([set()] * 20, [str(i // 2) for i in range(20)], 0.2, 0)
    assert (len(train), len(validation)) == (16, 4)


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "a", "a"]])
def test_one_group_cannot_be_split(groups: list[str]) -> None:
    with pytest.raises(DataError, match="cannot be split"):
        stratified_split([{0}] * len(groups), groups, 0.1, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_must_be_one(fraction: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        stratified_split([{0}, {0}], ["a", "b"], fraction, 0)
