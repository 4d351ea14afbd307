"""Spherical k-means beside plain iterations in double precision, and exact answers of tiny sets."""

from itertools import product

import numpy as np
import pytest
import torch

from coala_latent.analysis import spherical_kmeans as module
from coala_latent.analysis import unit_rows as blocks_module
from coala_latent.analysis.spherical_kmeans import seed_centres, spherical_kmeans
from coala_latent.errors import ConfigError, DataError

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def mixture(n=600, dim=8, components=5, spread=0.6, seed=0):
    rng = np.random.default_rng(seed)
    middles = unit(rng.normal(size=(components, dim)))
    labels = rng.integers(components, size=n)
    x = middles[labels] + spread / np.sqrt(dim) * rng.normal(size=(n, dim))
    return (x * rng.uniform(0.01, 100, size=(n, 1))).astype(np.float32), labels


def plain_lloyd(rows, centres, iterations=300, tolerance=1e-4):
    """Every cosine of every row in every iteration, in double precision; no empty clusters."""
    x, centres = unit(rows), unit(centres)
    labels = (x @ centres.T).argmax(axis=1)
    variance = x.var(axis=0).mean()
    passed = 0
    for _ in range(iterations):
        passed += 1
        moved = unit([x[labels == c].sum(axis=0) for c in range(len(centres))])
        squared = ((moved - centres) ** 2).sum()
        centres, before = moved, labels
        labels = (x @ centres.T).argmax(axis=1)
        if squared <= tolerance * variance or (labels == before).all():
            break
    return labels, centres, (x * centres[labels]).sum(axis=1).mean(), passed


def optimum(rows, k):
    """Largest mean cosine of all partitions: the length of the sum of every part."""
    x = unit(rows)
    return max(
        sum(np.linalg.norm(x[np.array(parts) == c].sum(axis=0)) for c in range(k)) / len(x)
        for parts in product(range(k), repeat=len(x))
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("k", "seed"), [(2, 0), (5, 1), (11, 2), (40, 3)])
def test_labels_are_those_of_plain_iterations_from_the_same_centres(k, seed, device, monkeypatch):
    monkeypatch.setattr(blocks_module, "BLOCK_ROWS", 97)
    rows, _ = mixture(seed=seed, spread=2.0)
    begin = rows[np.random.default_rng(seed).choice(len(rows), k, replace=False)]
    wanted, centres, objective, passed = plain_lloyd(rows, begin)
    found = spherical_kmeans(rows, k, centres=begin, device=device)
    np.testing.assert_array_equal(found.labels, wanted)
    np.testing.assert_allclose(found.centres, centres, atol=1e-6)
    assert found.objective == pytest.approx(objective, abs=1e-6)
    assert found.iterations == passed
    assert found.converged


def test_pruned_iterations_do_not_drift_from_plain_ones_over_many_passes():
    rows, _ = mixture(n=4000, dim=16, components=40, spread=3.0)
    begin = rows[:30]
    wanted, _, objective, passed = plain_lloyd(rows, begin, tolerance=0.0)
    found = spherical_kmeans(rows, 30, centres=begin, tolerance=0.0)
    assert passed > 30
    assert found.iterations == passed
    np.testing.assert_array_equal(found.labels, wanted)
    assert found.objective == pytest.approx(objective, abs=1e-6)
    assert found.counts.tolist() == np.bincount(wanted, minlength=30).tolist()


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_restarts_find_the_best_of_all_partitions(k, seed):
    rows = np.random.default_rng(seed).normal(size=(8, 3))
    found = spherical_kmeans(rows, k, restarts=20, seed=seed)
    assert found.objective == pytest.approx(optimum(rows, k), abs=1e-6)
    assert found.restarts == 20


def test_more_restarts_are_never_worse():
    rows, _ = mixture(spread=2.5)
    objectives = [spherical_kmeans(rows, 12, restarts=r).objective for r in (1, 2, 4, 8)]
    assert objectives == sorted(objectives)


def test_the_result_fits_together():
    rows, _ = mixture()
    found = spherical_kmeans(rows, 5, seed=3)
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-6)
    labels, cosines = found.predict(rows)
    np.testing.assert_array_equal(labels, found.labels)
    np.testing.assert_allclose(cosines, found.cosines, atol=1e-6)
    np.testing.assert_allclose(
        found.cosines, (unit(rows) @ found.centres.T)[np.arange(len(rows)), labels], atol=1e-6
    )
    assert found.objective == pytest.approx(found.cosines.mean(dtype=np.float64), abs=1e-9)
    assert found.counts.sum() == len(rows)
    assert found.k == 5
    assert found.labels.dtype == np.int64
    assert found.centres.dtype == np.float32
    assert found.to_dict()["seed"] == 3


def test_well_separated_components_are_found():
    rows, labels = mixture(spread=0.15, components=5)
    found = spherical_kmeans(rows, 5)
    pairs = set(zip(labels.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == 5


def test_lengths_of_rows_do_not_matter():
    rows, _ = mixture()
    rng = np.random.default_rng(5)
    scaled = np.ldexp(rows, rng.integers(-100, 100, size=(len(rows), 1)))
    assert scaled.dtype == np.float32
    a, b = spherical_kmeans(rows, 7), spherical_kmeans(scaled, 7)
    np.testing.assert_array_equal(a.labels, b.labels)
    huge = spherical_kmeans(rows.astype(np.float64) * 1e300, 7)
    tiny = spherical_kmeans(rows.astype(np.float64) * 1e-300, 7)
    np.testing.assert_array_equal(huge.labels, a.labels)
    np.testing.assert_array_equal(tiny.labels, a.labels)


def test_the_seed_decides_everything():
    rows, _ = mixture(spread=3.0)
    a, b = (spherical_kmeans(rows, 9, seed=4) for _ in range(2))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.centres, b.centres)
    assert any((spherical_kmeans(rows, 9, seed=s).labels != a.labels).any() for s in (5, 6, 7))


def test_blocks_that_are_read_again_give_the_same_as_an_array():
    rows, _ = mixture()
    passes = []

    def read():
        passes.append(1)
        for begin in range(0, len(rows), 250):
            yield rows[begin : begin + 250]
            yield rows[:0]

    array, stream = spherical_kmeans(rows, 6), spherical_kmeans(read, 6)
    np.testing.assert_array_equal(array.labels, stream.labels)
    assert array.objective == pytest.approx(stream.objective, abs=1e-7)
    assert len(passes) > stream.iterations


def test_a_stream_that_ends_early_on_a_later_pass_is_refused():
    rows, _ = mixture()
    passes = []

    def read():
        passes.append(1)
        yield rows if len(passes) == 1 else rows[:-1]

    with pytest.raises(DataError, match="first pass"):
        spherical_kmeans(read, 3)


@pytest.mark.parametrize("device", DEVICES)
def test_many_rows_are_seeded_on_a_sample(monkeypatch, device):
    rows, _ = mixture(n=5000, spread=0.3, components=6)
    whole = spherical_kmeans(rows, 6, seed=1, restarts=3)
    monkeypatch.setattr(module, "SAMPLE_ROWS", 300)
    for given in (rows, lambda: iter([rows[:1234], rows[1234:]])):
        found = spherical_kmeans(given, 6, seed=1, restarts=3, device=device)
        assert found.objective == pytest.approx(whole.objective, abs=1e-4)
        assert len(found.labels) == 5000


def test_mini_batches_come_near_to_all_rows_at_once():
    rows, _ = mixture(n=4000, dim=16, components=10, spread=1.0)
    whole = spherical_kmeans(rows, 10, restarts=3)
    found = spherical_kmeans(rows, 10, restarts=3, batch=256, iterations=20)
    assert whole.objective - 0.01 < found.objective <= whole.objective + 1e-3
    labels, _ = found.predict(rows)
    np.testing.assert_array_equal(labels, found.labels)
    again = spherical_kmeans(rows, 10, restarts=3, batch=256, iterations=20)
    np.testing.assert_array_equal(again.labels, found.labels)
    stream = spherical_kmeans(lambda: iter([rows]), 10, restarts=3, batch=256, iterations=20)
    assert stream.objective > whole.objective - 0.01


def test_one_cluster_is_the_mean_direction():
    rows, _ = mixture()
    found = spherical_kmeans(rows, 1)
    np.testing.assert_allclose(found.centres[0], unit(unit(rows).sum(axis=0)), atol=1e-6)
    assert set(found.labels) == {0}
    assert found.converged


def test_as_many_clusters_as_rows_hold_one_each():
    rows = np.random.default_rng(0).normal(size=(20, 4))
    found = spherical_kmeans(rows, 20)
    assert sorted(found.labels) == list(range(20))
    assert found.objective == pytest.approx(1, abs=1e-6)


def test_more_clusters_than_rows_are_refused():
    with pytest.raises(ConfigError, match="k=4 clusters of 3 rows"):
        spherical_kmeans(np.eye(3), 4)


def test_duplicates_leave_clusters_empty_where_directions_are_fewer():
    rows = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    found = spherical_kmeans(rows, 5)
    assert sorted(found.counts.tolist()) == [0, 0, 5, 5, 5]
    assert found.objective == pytest.approx(1, abs=1e-6)
    assert found.converged
    alike = spherical_kmeans(np.ones((4, 2)), 4)
    assert sorted(alike.counts.tolist()) == [0, 0, 0, 4]


def test_empty_clusters_get_the_farthest_rows():
    rows, _ = mixture(n=300, spread=0.1, components=4)
    begin = np.repeat(rows[:1], 4, axis=0)  # three of them have no row to begin with
    begin[1:] *= -1
    found = spherical_kmeans(rows, 4, centres=begin)
    assert (found.counts > 0).all()
    assert found.converged
    assert found.objective == pytest.approx(
        spherical_kmeans(rows, 4, restarts=5).objective, abs=1e-3
    )


def test_rows_that_cancel_out_leave_their_centre_where_it_was():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    found = spherical_kmeans(rows, 1, centres=[[0.6, 0.8]])
    np.testing.assert_allclose(found.centres, [[0.6, 0.8]], atol=1e-7)
    assert found.objective == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2], [np.nan, 1]], "row 1 is not finite"),
        ([[1.0, 2], [1, -np.inf]], "row 1 is not finite"),
        ([[1.0, 2], [0, 0]], "row 1 is zero"),
        (np.zeros((0, 3)), r"\(0, 3\)"),
        ([1.0, 2], r"\(2,\)"),
        ([["a", "b"]], "real numbers"),
    ],
)
def test_rows_without_direction_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        spherical_kmeans(rows, 1)


def test_the_number_of_a_bad_row_counts_over_blocks(monkeypatch):
    monkeypatch.setattr(blocks_module, "BLOCK_ROWS", 10)
    rows = np.ones((50, 2))
    rows[37] = 0
    for given in (rows, lambda: iter([rows[:25], rows[25:]])):
        with pytest.raises(DataError, match="row 37 is zero"):
            spherical_kmeans(given, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 0},
        {"restarts": 0},
        {"iterations": 0},
        {"tolerance": -1.0},
        {"tolerance": float("nan")},
        {"batch": 0},
        {"centres": np.zeros((2, 3))},
        {"centres": np.ones((3, 3))},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError):
        spherical_kmeans(np.eye(3), **{"k": 2, **settings})


def test_seeds_are_distinct_rows_and_spread_out():
    rows, labels = mixture(n=500, spread=0.05, components=6)
    x = torch.from_numpy(unit(rows).astype(np.float32))
    for seed in range(5):
        seeds = seed_centres(x, 6, np.random.default_rng(seed)).numpy()
        nearest = (unit(rows) @ seeds.T).argmax(axis=0)
        assert len(set(labels[nearest])) == 6


def test_rows_of_other_kinds_are_taken():
    rows = np.random.default_rng(0).integers(1, 9, size=(30, 3))
    wanted = spherical_kmeans(rows.astype(np.float32), 3).labels
    read_only = rows.astype(np.float32)
    read_only.flags.writeable = False
    for given in (rows, rows.tolist(), rows.astype(np.float16), read_only, np.asfortranarray(rows)):
        np.testing.assert_array_equal(spherical_kmeans(given, 3).labels, wanted)
