"""Exact nearest rows, block by block."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.analysis.retrieval import cosines, nearest
from coala_latent.errors import ConfigError, DataError
from coala_latent.store import RowBlock
from coala_latent.types import Embedding


def blocks(values, files=None, start=None, end=None, step=3):
    values = np.asarray(values, np.float32)
    files = np.arange(len(values)) if files is None else np.asarray(files)
    start = np.zeros(len(values)) if start is None else start
    end = np.ones(len(values)) if end is None else end
    for begin in range(0, len(values), step):
        part = slice(begin, begin + step)
        yield RowBlock(values[part], start[part], end[part], files[part].astype(np.int32))


def brute_cosines(queries, rows):
    """Single precision of exact scores, one pair after the other."""
    scores = np.zeros((len(queries), len(rows)))
    for i, query in enumerate(np.asarray(queries, float)):
        for j, row in enumerate(np.asarray(rows, float)):
            norms = np.sqrt((query**2).sum() * (row**2).sum())
            scores[i, j] = query @ row / norms if norms else 0.0
    return scores.astype(np.float32)


def brute_nearest(queries, values, files, start, end, k, by):
    names = list(dict.fromkeys(files.tolist()))
    first = np.array([int(np.argmax(files == name)) for name in names], dtype=int)
    if by == "rows":
        scores, rows, of = brute_cosines(queries, values), np.arange(len(values)), files
        rows = np.broadcast_to(rows, scores.shape)
    elif by == "files":
        each = brute_cosines(queries, values)
        scores = np.array([[row[files == name].max() for name in names] for row in each])
        rows = np.array(
            [
                [f + row[files == n].argmax() for n, f in zip(names, first, strict=True)]
                for row in each
            ]
        )
        of = np.array(names)
    else:
        means = [
            Embedding(values[files == n].astype(float), start[files == n], end[files == n]).mean()
            for n in names
        ]
        scores = brute_cosines(queries, np.array(means))
        rows, of = np.broadcast_to(first, scores.shape), np.array(names)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    take = np.take_along_axis
    return take(scores, order, 1), take(rows, order, 1), of[order]


@st.composite
def tables(draw):
    count = draw(st.integers(1, 25))
    dim = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Powers of two in small numbers: many exact ties, and zero rows.
    values = rng.choice([-1.0, 0.0, 1.0, 2.0], (count, dim)).astype(np.float32)
    files = np.cumsum(rng.integers(0, 3, count))
    start = rng.integers(0, 3, count).astype(float)
    end = start + rng.integers(0, 3, count)
    queries = rng.choice([-1.0, 0.0, 1.0], (draw(st.integers(1, 3)), dim))
    return queries, values, files, start, end, draw(st.integers(1, 30)), draw(st.integers(1, 30))


@settings(max_examples=150, deadline=None)
@given(tables(), st.sampled_from(["rows", "files", "mean"]))
def test_blocks_find_what_brute_force_finds(table, by):
    queries, values, files, start, end, k, step = table
    found = nearest(queries, blocks(values, files, start, end, step), k, by)
    scores, rows, of = brute_nearest(queries, values, files, start, end, k, by)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    if by != "mean":  # means of thirds may tie but for the last bit
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.files, of)


@pytest.mark.parametrize("by", ["rows", "files", "mean"])
def test_block_size_makes_no_difference(by, rng):
    values = rng.normal(size=(500, 16))
    files = np.sort(rng.integers(0, 60, 500))
    start = rng.uniform(0, 9, 500)
    end = start + rng.uniform(0, 1, 500)
    queries = rng.normal(size=(4, 16))
    ways = [
        nearest(queries, blocks(values, files, start, end, step), 12, by) for step in (1, 7, 500)
    ]
    for other in ways[1:]:
        np.testing.assert_array_equal(ways[0].rows, other.rows)
        np.testing.assert_array_equal(ways[0].files, other.files)
        np.testing.assert_allclose(ways[0].scores, other.scores, atol=1e-6)
    assert (np.diff(ways[0].scores, axis=1) <= 0).all()


@pytest.mark.parametrize("by", ["rows", "files", "mean"])
def test_equal_rows_come_in_their_order_wherever_they_stand(by, rng):
    row = rng.normal(size=33)
    values = np.tile(row, (200, 1))
    found = nearest([row, -row], blocks(values, step=13), 50, by)
    np.testing.assert_array_equal(found.rows, [np.arange(50)] * 2)
    np.testing.assert_allclose(found.scores[0], 1.0, atol=1e-6)
    np.testing.assert_allclose(found.scores[1], -1.0, atol=1e-6)


def test_length_of_a_vector_does_not_matter():
    rows = np.array([[1e-30, 0], [0, 1e30], [3, 3]], np.float32)
    found = nearest([[1e300, 0.0]], blocks(rows), 3, "rows")
    np.testing.assert_array_equal(found.rows, [[0, 2, 1]])
    np.testing.assert_allclose(found.scores, [[1, np.sqrt(0.5), 0]], atol=1e-6)


def test_zero_rows_score_nothing_and_stand_between_near_and_opposite():
    found = nearest([[1.0, 0.0]], blocks([[-1, 0], [0, 0], [1, 0]]), 5, "rows")
    np.testing.assert_array_equal(found.rows, [[2, 1, 0]])
    np.testing.assert_array_equal(found.scores, [[1, 0, -1]])


def test_a_zero_query_scores_nothing():
    found = nearest([[0.0, 0.0]], blocks([[1, 0], [0, 1]]), 5, "rows")
    np.testing.assert_array_equal(found.scores, [[0, 0]])


@pytest.mark.parametrize("by", ["rows", "files", "mean"])
def test_nothing_is_found_in_nothing(by):
    for some in ([], blocks(np.zeros((0, 2)), step=1), [next(blocks(np.zeros((1, 2))))][:0]):
        found = nearest([[1.0, 0.0]], some, 3, by)
        assert found.scores.shape == found.rows.shape == found.files.shape == (1, 0)


def test_a_file_counts_once_with_its_best_row_also_across_blocks():
    rows = [[0, 1], [1, 1], [1, 0], [1, 0], [0, 1], [1, 0.1]]
    found = nearest([[1.0, 0.0]], blocks(rows, [0, 4, 4, 4, 4, 9], step=2), 9, "files")
    np.testing.assert_array_equal(found.files, [[4, 9, 0]])
    np.testing.assert_array_equal(found.rows, [[2, 5, 0]])


def test_the_mean_counts_rows_by_the_seconds_they_heard():
    rows = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    end = np.array([3.0, 1.0, 0.0, 0.0])
    found = nearest([[1.0, 0.0]], blocks(rows, [0, 0, 1, 1], None, end, 1), 2, "mean")
    np.testing.assert_allclose(found.scores, [[3 / np.sqrt(10), np.sqrt(0.5)]], atol=1e-6)
    np.testing.assert_array_equal(found.rows, [[0, 2]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("by", ["rows", "files", "mean"])
def test_rows_that_are_not_finite_are_refused(bad, by):
    values = np.ones((7, 2), np.float32)
    values[5, 1] = bad
    with pytest.raises(DataError, match="row 5 is not finite"):
        nearest([[1.0, 0.0]], blocks(values), 3, by)
    with pytest.raises(DataError, match="query 0 is not finite"):
        nearest([[1.0, bad]], blocks(np.ones((2, 2))), 3, by)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(DataError, match=r"2 values .* 3"):
        nearest(np.ones((1, 3)), blocks(np.ones((2, 2))), 1)
    with pytest.raises(DataError, match="neighbours"):
        nearest(np.ones((1, 2)), blocks(np.ones((3, 2)), [1, 0, 1], step=1), 1)
    with pytest.raises(DataError, match="neighbours"):
        nearest(np.ones((1, 2)), blocks(np.ones((3, 2)), [1, 0, 1], step=3), 1)
    with pytest.raises(DataError, match="shape"):
        nearest(np.ones(2), blocks(np.ones((2, 2))), 1)
    with pytest.raises(ConfigError, match="k=0"):
        nearest(np.ones((1, 2)), blocks(np.ones((2, 2))), 0)
    with pytest.raises(ConfigError, match="by"):
        nearest(np.ones((1, 2)), blocks(np.ones((2, 2))), 1, "folders")


def test_cosines_are_those_of_all_pairs(rng):
    a, b = rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    a[2] = 0
    np.testing.assert_allclose(cosines(a, b), brute_cosines(a, b), atol=1e-6)
    with pytest.raises(DataError, match="4"):
        cosines(a, b[:, :4])
