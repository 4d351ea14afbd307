import sys

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from coala_latent.analysis.map_projections import (
    MAP_METHODS,
    map_projection,
    require_method,
)
from coala_latent.analysis.projection import principal_components
from coala_latent.errors import ConfigError, DataError, DependencyError

try:
    import umap  # noqa: F401

    METHODS = MAP_METHODS
except ImportError:
    METHODS = ("tsne", "pca")


def groups(n=60, dim=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = np.linalg.qr(rng.normal(size=(dim, 3)))[0].T
    return (centres[labels] + 0.05 * rng.normal(size=(n, dim))).astype(np.float32), labels


def nearest_labels(points, labels):
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return labels[distances.argmin(axis=1)]


@pytest.mark.parametrize("method", METHODS)
def test_groups_stay_together_whatever_the_lengths_of_their_vectors(method):
    x, labels = groups()
    # Lengths over nine orders of magnitude: only directions may count.
    x *= 10.0 ** np.random.default_rng(1).uniform(-4, 5, (len(x), 1)).astype(np.float32)
    layout = map_projection(x, method)
    assert layout.points.shape == (60, 2)
    assert layout.points.dtype == np.float32
    assert (nearest_labels(layout.points, labels) == labels).all()
    assert layout.trustworthiness > 0.8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 11])
@pytest.mark.parametrize("kind", ["any", "equal", "zeros", "half", "duplicates", "one column"])
def test_any_number_of_any_vectors_has_a_finite_layout(method, n, kind):
    x = np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)
    if kind == "equal":
        x[:] = x[0]
    elif kind == "zeros":
        x[:] = 0
    elif kind == "half":
        x[::2] = 0
    elif kind == "duplicates":
        x[n // 2 :] = x[0]
    elif kind == "one column":
        x[:, 1:] = 0
    before = x.copy()
    first = map_projection(x, method)
    assert first.points.shape == (n, 2)
    assert np.isfinite(first.points).all()
    np.testing.assert_array_equal(x, before)
    assert first.description


@pytest.mark.parametrize("method", METHODS)
def test_layouts_repeat_with_their_seed(method):
    x = np.random.default_rng(0).normal(size=(40, 6))
    first, again = map_projection(x, method, seed=5), map_projection(x, method, seed=5)
    np.testing.assert_array_equal(first.points, again.points)


def test_two_points_are_apart_and_their_distance_is_that_of_their_directions():
    layout = map_projection([[2.0, 0.0], [0.0, 7.0]], "tsne")
    assert np.linalg.norm(layout.points[0] - layout.points[1]) == pytest.approx(np.sqrt(2))
    assert layout.trustworthiness is None


def test_extreme_values_neither_overflow_nor_vanish():
    x, labels = groups()
    for scale in (1e-38, 1e37):
        layout = map_projection(x * np.float32(scale), "pca")
        assert (nearest_labels(layout.points, labels) == labels).all()


def test_beyond_the_landmarks_points_join_their_own_group():
    x, labels = groups(300)
    whole = map_projection(x, "tsne")
    placed = map_projection(x, "tsne", landmarks=60)
    assert (nearest_labels(placed.points, labels) == labels).all()
    assert "of 60 points" in placed.description
    assert "other 240" in placed.description
    assert "of 60" not in whole.description
    again = map_projection(x, "tsne", landmarks=60)
    np.testing.assert_array_equal(placed.points, again.points)
    other = map_projection(x, "tsne", landmarks=60, seed=1)
    assert not np.array_equal(placed.points, other.points)


def test_a_copy_of_a_landmark_stands_where_the_landmark_does():
    x, _ = groups(30)
    x = np.concatenate([x, x, x])
    points = map_projection(x, "tsne", landmarks=60).points
    chosen = np.sort(np.random.default_rng(0).choice(90, 60, replace=False))
    others = np.setdiff1d(np.arange(90), chosen)
    reach = np.ptp(points, axis=0).max()
    for row in others:
        twins = [i for i in chosen if i % 30 == row % 30]
        if twins:
            gaps = np.linalg.norm(points[twins] - points[row], axis=1)
            assert gaps.min() < 0.05 * reach


def test_trustworthiness_is_that_of_the_unit_vectors():
    x, _ = groups(50)
    layout = map_projection(x, "pca")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = trustworthiness(unit, layout.points, n_neighbors=5)
    assert layout.trustworthiness == pytest.approx(expected)


def test_principal_components_by_covariance_are_those_of_the_decomposition(monkeypatch):
    x = np.random.default_rng(0).normal(size=(5000, 9)) * np.arange(1, 10) + 100
    expected, kept = principal_components(x, 4)
    monkeypatch.setattr("coala_latent.analysis.projection._LARGE", 100)
    found, share = principal_components(x, 4)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-7)
    assert share == pytest.approx(kept)
    wide, _ = principal_components(x[:5], 50)  # fewer rows than columns: never by covariance
    assert wide.shape == (5, 5)


def test_what_cannot_be_laid_out_is_refused_with_the_row():
    x, _ = groups(9)
    x[4, 2] = np.nan
    with pytest.raises(DataError, match="row 4 is not finite"):
        map_projection(x)
    with pytest.raises(DataError, match="shape"):
        map_projection(np.zeros((0, 3)))
    with pytest.raises(DataError, match="shape"):
        map_projection(np.zeros(3))
    with pytest.raises(ConfigError, match="isomap"):
        map_projection(np.eye(3), "isomap")
    with pytest.raises(ConfigError, match="perplexity"):
        map_projection(np.eye(5), perplexity=1.0)
    with pytest.raises(ConfigError, match="landmarks"):
        map_projection(np.eye(5), landmarks=3)


def test_umap_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(DependencyError, match=r"pip install 'coala-latent\[umap\]'"):
        require_method("umap")
