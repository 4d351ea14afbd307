import json

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from coala_latent.analysis.projection import METHODS, project
from coala_latent.errors import ConfigError, DataError


def clusters(n=60, dim=8, apart=20.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    centres = rng.normal(size=(3, dim))
    centres *= apart / np.linalg.norm(centres, axis=1, keepdims=True)
    return centres[labels] + rng.normal(size=(n, dim)), labels


@pytest.mark.parametrize("method", METHODS)
def test_clusters_stay_together(method):
    x, labels = clusters()
    layout = project(x, method)
    assert layout.points.shape == (60, 2)
    distances = np.linalg.norm(layout.points[:, None] - layout.points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert layout.trustworthiness > 0.8
    json.dumps(layout.to_dict(), allow_nan=False)


def test_layouts_repeat_with_their_seed_and_leave_the_input_alone():
    x, _ = clusters()
    before = x.copy()
    first, again = project(x, seed=3), project(x, seed=3)
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(x, before)


def test_pca_is_the_singular_value_decomposition():
    x, _ = clusters()
    layout = project(x, "pca", standardise=False)
    centred = x - x.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:2].T
    np.testing.assert_allclose(np.abs(layout.points), np.abs(expected), atol=1e-9)
    assert layout.explained == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum())
    assert layout.perplexity is None


def test_trustworthiness_is_that_of_the_standardised_features():
    x, _ = clusters(apart=2.0)
    layout = project(x, "pca")
    expected = trustworthiness((x - x.mean(0)) / x.std(0), layout.points, n_neighbors=5)
    assert layout.trustworthiness == pytest.approx(expected)
    assert layout.neighbors == 5
    noise = np.random.default_rng(0).normal(size=(60, 2))
    assert layout.trustworthiness > 0.1 + trustworthiness(x, noise, n_neighbors=5)


def test_scale_and_constant_columns_do_not_matter_when_standardised():
    x, _ = clusters()
    scaled = np.column_stack([1e-170 * x[:, :4], np.full(60, 7.0), 1e170 * x[:, 4:]])
    a, b = project(x, "pca"), project(scaled, "pca")
    np.testing.assert_allclose(a.points, b.points, atol=1e-9)
    assert not np.allclose(project(x, "pca", standardise=False).points, a.points)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "dim"), [(4, 1), (4, 3), (5, 500), (7, 2), (12, 1)])
def test_few_items_and_few_columns(method, n, dim):
    x = np.random.default_rng(n).normal(size=(n, dim))
    layout = project(x, method)
    assert layout.points.shape == (n, 2)
    assert np.isfinite(layout.points).all()
    assert 0.0 <= layout.trustworthiness <= 1.0
    assert layout.neighbors < n / 2
    if method == "tsne":
        assert layout.perplexity == pytest.approx(max(1.0, (n - 1) / 3))


def test_items_that_are_alike_lie_together():
    x, _ = clusters(24)
    layout = project(np.concatenate([x, x]), "pca")
    np.testing.assert_allclose(layout.points[:24], layout.points[24:], atol=1e-9)
    assert np.isfinite(project(np.concatenate([x, x])).points).all()


def test_perplexity_is_bounded_by_the_items():
    x, _ = clusters()
    assert project(x, perplexity=7).perplexity == 7.0
    assert project(x, perplexity=1000).perplexity == pytest.approx(59 / 3)


def test_what_has_no_layout_is_a_typed_error():
    x, _ = clusters()
    bad = x.copy()
    bad[[3, 9], 1] = np.nan
    for features, message in [
        (x[:3], "3 items: a layout needs at least 4"),
        (x[:, 0], r"must be \(n, dim\)"),
        (np.ones((9, 4)), "all 9 items are equal"),
        (np.zeros((9, 0)), "all 9 items are equal"),
        (bad, r"row 3 is not finite \(2 of 60 rows\)"),
    ]:
        with pytest.raises(DataError, match=message):
            project(features)
    with pytest.raises(ConfigError, match="there are tsne, pca"):
        project(x, "umap")
    for perplexity in (1.0, 0.0, -3.0, float("nan")):
        with pytest.raises(ConfigError, match="perplexity"):
            project(x, perplexity=perplexity)
