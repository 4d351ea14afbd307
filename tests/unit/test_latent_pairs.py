"""Pairs of latents: what is drawn, how often, and what cannot be drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.data.latent_pairs import LatentPairs, LatentRows
from coala_latent.data.latents import LabelledLatents
from coala_latent.data.pair_sampler import PairSampler
from coala_latent.errors import ConfigError, DataError

FACTORS = ("material", "action")


def make_latents(
    labels: np.ndarray, take: np.ndarray | None = None, dim: int = 3, seed: int = 0
) -> LabelledLatents:
    rows = len(labels)
    number = np.arange(rows) if take is None else take
    tops = [max(1, int(column.max(initial=0)) + 1) for column in labels.T]
    return LabelledLatents(
        values=np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32),
        labels=labels.astype(np.int64),
        factors=FACTORS[: labels.shape[1]],
        classes=tuple(tuple(map(str, range(top))) for top in tops),
        recording=number,
        take=number,
        start=np.zeros(rows),
        end=np.ones(rows),
    )


def crossed(materials: int = 3, actions: int = 2, rows: int = 4) -> np.ndarray:
    pairs = itertools.product(range(materials), range(actions), range(rows))
    return np.array([pair[:2] for pair in pairs])


def partners(labels: np.ndarray, kind: set[int], exact: bool) -> dict[int, list[int]]:
    """By trying all pairs."""
    varied = [column for column in range(labels.shape[1]) if np.ptp(labels[:, column])]

    def fits(a: int, b: int) -> bool:
        equal = labels[a] == labels[b]
        inside = all(equal[column] for column in kind)
        outside = all(not equal[column] for column in varied if column not in kind)
        return a != b and inside and (outside or not exact)

    rows = range(len(labels))
    found = {a: [b for b in rows if fits(a, b)] for a in rows}
    return {a: those for a, those in found.items() if those}


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=14),
    groups=st.one_of(st.none(), st.integers(1, 4)),
    kind=st.sampled_from([(), (0,), (1,), (0, 1)]),
    exact=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_pair_is_one_that_a_search_finds(
    labels: list[tuple[int, int]],
    groups: int | None,
    kind: tuple[int, ...],
    exact: bool,
    seed: int,
) -> None:
    table = np.array(labels)
    if not np.ptp(table, axis=0).any():
        return
    take = None if groups is None else np.arange(len(table)) % groups
    allowed = partners(table, set(kind), exact)
    name = "+".join(FACTORS[column] for column in kind) or "none"
    match = "exact" if exact else "at_least"
    if not allowed:
        with pytest.raises(DataError, match=name.replace("+", r"\+")):
            PairSampler(table, FACTORS, take, {name: 1.0}, match=match)
        return
    sampler = PairSampler(table, FACTORS, take, {name: 1.0}, match=match, seed=seed)
    if take is not None:
        for a, those in allowed.items():
            allowed[a] = [b for b in those if take[a] != take[b]] or those
    drawn = {*zip(*(part.tolist() for part in sampler.draw(4000)), strict=True)}
    assert drawn <= {(a, b) for a, those in allowed.items() for b in those}
    assert {a for a, _ in drawn} == set(allowed)


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 2] * 6)])
@pytest.mark.parametrize("match", ["exact", "at_least"])
def test_a_is_uniform_and_b_is_uniform_among_its_partners(
    groups: np.ndarray | None, match: str
) -> None:
    labels = crossed()
    sampler = PairSampler(labels, FACTORS, groups, {"material": 1.0}, match=match)
    a, b = sampler.draw(240_000)
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (a, b), 1)
    allowed = partners(labels, {0}, match == "exact")
    for first, those in allowed.items():
        others = those if groups is None else [o for o in those if groups[o] != groups[first]]
        expected = 240_000 / len(labels) / len(others)
        assert np.abs(counts[first, others] - expected).max() < 6 * np.sqrt(expected)
        assert counts[first].sum() == counts[first, others].sum()


def test_kinds_have_the_shares_that_were_asked_for() -> None:
    labels = crossed()
    shares = {"material": 3.0, "action": 1.0, "material+action": 1.0, "none": 5.0}
    a, b = PairSampler(labels, FACTORS, kinds=shares).draw(100_000)
    alike = labels[a] == labels[b]
    for pattern, share in (((1, 0), 0.3), ((0, 1), 0.1), ((1, 1), 0.1), ((0, 0), 0.5)):
        assert (alike == pattern).all(axis=1).mean() == pytest.approx(share, abs=0.01)


def test_by_default_each_factor_is_as_frequent_and_unlike_pairs_have_their_share() -> None:
    sampler = PairSampler(crossed(), FACTORS, unlike=0.5)
    assert sampler.shares == {"material": 0.25, "action": 0.25, "none": 0.5}
    assert "none" not in PairSampler(crossed(), FACTORS, unlike=0).shares


def test_uniform_pairs_are_independent_but_never_of_one_row() -> None:
    labels = crossed(2, 2, 1)
    a, b = PairSampler(labels, FACTORS, kinds="uniform").draw(60_000)
    counts = np.zeros((4, 4))
    np.add.at(counts, (a, b), 1)
    assert not np.diagonal(counts).any()
    off = counts[~np.eye(4, dtype=bool)]
    assert np.abs(off - 5000).max() < 400


def test_draws_follow_from_seed_epoch_and_batch_alone() -> None:
    sampler = PairSampler(crossed(), FACTORS, seed=3)
    first = sampler.draw(64, 2, 5)
    sampler.draw(64, 0, 0)
    again = sampler.draw(64, 2, 5)
    assert np.array_equal(first, again)
    for other in ((2, 6), (3, 5)):
        assert not np.array_equal(first, sampler.draw(64, *other))
    assert not np.array_equal(first, PairSampler(crossed(), FACTORS, seed=4).draw(64, 2, 5))


def test_impossible_kinds_are_left_out_of_the_default_and_told_otherwise() -> None:
    # Each material has an action of its own: no pair differs in the material alone.
    diagonal = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
    assert PairSampler(diagonal, FACTORS).shares == {"none": 1.0}
    with pytest.raises(DataError, match="'material'"):
        PairSampler(diagonal, FACTORS, kinds={"material": 1})
    assert PairSampler(diagonal, FACTORS, kinds={"material+action": 1}).shares


def test_a_factor_with_one_class_is_left_out() -> None:
    labels = np.array([[0, 0], [0, 0], [1, 0], [1, 0]])
    sampler = PairSampler(labels, FACTORS)
    assert set(sampler.shares) == {"material", "none"}
    a, b = sampler.draw(500)
    assert (labels[a, 1] == labels[b, 1]).all()
    with pytest.raises(DataError, match="two classes"):
        PairSampler(labels[:2], FACTORS)


def test_a_class_with_one_row_is_never_a_pair_with_itself() -> None:
    labels = np.array([[0, 0], [1, 0], [1, 1], [1, 1]])
    a, b = PairSampler(labels, FACTORS, kinds={"material": 1}, match="at_least").draw(1000)
    assert 0 not in a
    assert 0 not in b
    assert (a != b).all()


def test_the_only_take_of_a_class_is_its_own_partner() -> None:
    labels = np.array([[0, 0], [0, 0], [1, 0], [1, 1]])
    take = np.array([7, 7, 8, 9])
    a, b = PairSampler(labels, FACTORS, take, {"material+action": 1}).draw(100)
    assert {*zip(a.tolist(), b.tolist(), strict=True)} == {(0, 1), (1, 0)}


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_make_no_pair(rows: int) -> None:
    with pytest.raises(DataError, match=f"{rows} rows"):
        PairSampler(np.zeros((rows, 2), np.int64), FACTORS)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kinds": "both"}, "factors, uniform"),
        ({"kinds": {"colour": 1}}, "'colour' is no factor"),
        ({"kinds": {"material+colour": 1}}, "'colour' is no factor"),
        ({"kinds": {"material": -1}}, "shares"),
        ({"kinds": {"material": float("nan")}}, "shares"),
        ({"kinds": {}}, "shares"),
        ({"unlike": 1.0}, "unlike"),
        ({"match": "some"}, "exact, at_least"),
    ],
)
def test_settings_that_make_no_sense_are_told(setting: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PairSampler(crossed(), FACTORS, **setting)


def test_a_factor_may_have_a_plus_in_its_name() -> None:
    sampler = PairSampler(crossed(), ("a+b", "none of it"), kinds={"a+b": 1})
    labels = crossed()
    a, b = sampler.draw(100)
    assert (labels[a, 0] == labels[b, 0]).all()


@pytest.fixture
def parts() -> Callable[..., LatentPairs]:
    def make(**settings: object) -> LatentPairs:
        labels = np.concatenate([crossed()] * 2)
        take = np.repeat([0, 1], len(labels) // 2)
        validation = make_latents(crossed(rows=2), np.full(12, 2), seed=1)
        data = LatentPairs(make_latents(labels, take), validation, **{"batch_size": 16, **settings})
        data.setup()
        return data

    return make


def test_pairs_never_cross_the_split(parts: Callable[..., LatentPairs]) -> None:
    data = parts(batches=3)
    own = {tuple(row) for row in data.train_latents.values.tolist()}
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 3
    for a, b, alike in batches:
        assert {tuple(row) for row in [*a.tolist(), *b.tolist()]} <= own
        assert (alike.dtype, alike.shape) == (torch.bool, (16, 2))
    held = {tuple(row) for row in data.validation_latents.values.tolist()}
    pairs, rows = data.val_dataloader()
    for a, b, _ in pairs:
        assert {tuple(row) for row in [*a.tolist(), *b.tolist()]} <= held
    assert torch.equal(next(iter(rows)).labels, torch.from_numpy(data.validation_latents.labels))


def test_alike_is_what_the_labels_say(parts: Callable[..., LatentPairs]) -> None:
    data = parts()
    batch = data.train_pairs[1, 0]
    place = {tuple(row): n for n, row in enumerate(data.train_latents.values.tolist())}
    a, b = ([place[tuple(row)] for row in part.tolist()] for part in batch[:2])
    labels = data.train_latents.labels
    assert np.array_equal(batch.alike.numpy(), labels[a] == labels[b])
    assert (data.train_latents.take[a] != data.train_latents.take[b]).all()


def test_epochs_differ_and_validation_does_not(parts: Callable[..., LatentPairs]) -> None:
    data = parts(validation_batches=2)
    loader = data.train_dataloader()
    first = next(iter(loader))
    loader.sampler.set_epoch(1)
    assert not torch.equal(first.a, next(iter(loader)).a)
    pairs, _ = data.val_dataloader()
    once, again = list(pairs), list(pairs)
    assert all(torch.equal(x.b, y.b) for x, y in zip(once, again, strict=True))
    assert not torch.equal(once[0].a, once[1].a)


def test_an_epoch_is_as_many_pairs_as_rows_unless_it_is_told(
    parts: Callable[..., LatentPairs],
) -> None:
    assert len(parts().train_dataloader()) == 48 // 16
    assert len(parts(batch_size=500).train_dataloader()) == 1
    with pytest.raises(ConfigError, match="batches=0"):
        parts(batches=0)


def test_parts_of_different_classes_or_with_nan_are_told() -> None:
    one, other = make_latents(crossed()), make_latents(crossed(materials=4))
    with pytest.raises(DataError, match="classes"):
        LatentPairs(one, other)
    with pytest.raises(DataError, match="dim 3"):
        LatentPairs(one, make_latents(crossed(), dim=4))
    one.values[2, 1] = np.nan
    with pytest.raises(DataError, match="NaN"):
        LatentPairs(one, one).setup()


def test_rows_are_given_once_and_in_order() -> None:
    latents = make_latents(crossed())
    rows = LatentRows(latents, batch_size=10)
    together = torch.cat([rows[number].values for number in range(len(rows))])
    assert np.array_equal(together.numpy(), latents.values)
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_the_summary_tells_rows_takes_and_shares(parts: Callable[..., LatentPairs]) -> None:
    summary = parts(kinds={"material": 1, "none": 3}).summary()
    assert summary["rows"] == {"train": 48, "validation": 12}
    assert summary["takes"] == {"train": 2, "validation": 1}
    assert summary["pairs"] == {"material": 0.25, "none": 0.75}
