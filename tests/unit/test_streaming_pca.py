"""Components fitted block by block agree with those of all rows at once."""

import tracemalloc

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from coala_latent.analysis.streaming_pca import ColumnMoments, StreamingPca, fit_projection
from coala_latent.errors import ConfigError, DataError


def spectrum_rows(rows=700, dim=300, directions=40, noise=0.05, seed=0, offset=0.0):
    """Rows with falling variances along random directions, and noise."""
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(rows, directions)) * np.geomspace(10, 0.5, directions)
    values = codes @ rng.normal(size=(directions, dim)) / np.sqrt(dim)
    return (values + noise * rng.normal(size=values.shape) + offset).astype(np.float32)


def blocks_of(values, size):
    return lambda: (values[begin : begin + size] for begin in range(0, len(values), size))


def fitted(values, components, size=100, **options):
    pca = StreamingPca(components, **options)
    for rows in blocks_of(values, size)():
        pca.partial_fit(rows)
    return pca.result()


def test_agrees_with_the_exact_decomposition():
    values = spectrum_rows(offset=100.0)
    found, exact = fitted(values, 16), PCA(16, svd_solver="full").fit(values.astype(np.float64))
    assert np.rad2deg(subspace_angles(found.components.T, exact.components_.T)).max() < 0.2
    np.testing.assert_allclose(found.mean, exact.mean_, rtol=1e-6)
    np.testing.assert_allclose(
        found.explained_variance_ratio, exact.explained_variance_ratio_, rtol=1e-3
    )
    np.testing.assert_allclose(
        found.explained_variance, exact.explained_variance_ * (len(values) - 1) / len(values), 1e-3
    )
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(16), atol=1e-5)


def test_is_exact_while_nothing_is_cut_off():
    values = spectrum_rows(directions=12, noise=0.0)
    found, exact = fitted(values, 8), PCA(8, svd_solver="full").fit(values.astype(np.float64))
    np.testing.assert_allclose(
        np.abs(np.sum(found.components * exact.components_, axis=1)), 1.0, atol=1e-6
    )
    assert (
        np.take_along_axis(found.components, np.abs(found.components).argmax(1)[:, None], axis=1)
        > 0
    ).all()


def test_the_total_variance_is_exact_although_directions_are_dropped():
    values = spectrum_rows(noise=1.0)
    found = fitted(values, 3, kept=3, batch_rows=10)
    np.testing.assert_allclose(found.total_variance, values.astype(float).var(axis=0).sum(), 1e-6)
    assert found.explained_variance_ratio.sum() < 1


def test_more_directions_kept_are_more_exact():
    values = spectrum_rows(noise=0.6)
    exact = PCA(16, svd_solver="full").fit(values.astype(np.float64))

    def error(kept):
        components = fitted(values, 16, kept=kept, batch_rows=50).components
        return subspace_angles(components.T, exact.components_.T).max()

    assert error(64) < 0.5 * error(16)


@pytest.mark.parametrize("size", [1, 7, 256, 700])
def test_the_size_of_blocks_does_not_matter(size):
    values = spectrum_rows()
    np.testing.assert_array_equal(
        fitted(values, 8, size).components, fitted(values, 8, 99).components
    )


def test_a_mean_that_drifts_is_corrected_for():
    values = spectrum_rows(noise=0.1)
    values += np.linspace(0, 20, len(values), dtype=np.float32)[:, None]
    exact = PCA(4, svd_solver="full").fit(values.astype(np.float64))
    found = fitted(values, 4, batch_rows=64)
    np.testing.assert_allclose(
        found.explained_variance_ratio, exact.explained_variance_ratio_, 1e-3
    )
    assert np.rad2deg(subspace_angles(found.components.T, exact.components_.T)).max() < 0.2


def test_moments_are_those_of_all_rows():
    values = spectrum_rows(offset=1000.0, noise=0.01)
    moments = ColumnMoments()
    for rows in blocks_of(values, 33)():
        moments.partial_fit(rows)
    exact = values.astype(np.float64)
    np.testing.assert_allclose(moments.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, exact.var(axis=0), rtol=1e-9)


def project(arrays, values):
    standard = (values - arrays["pre_mean"]) / arrays["pre_scale"]
    codes = (standard - arrays["pca_mean"]) @ arrays["components"].T.astype(np.float64)
    return (codes - arrays["post_mean"]) / arrays["post_scale"]


def test_projected_rows_have_mean_0_and_variance_1():
    values = spectrum_rows(offset=3.0)
    arrays = fit_projection(blocks_of(values, 64), 12)
    projected = project(arrays, values)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(projected.std(axis=0), 1, rtol=2e-3)
    np.testing.assert_allclose(np.corrcoef(projected.T), np.eye(12), atol=0.01)


def test_agrees_with_scaler_and_components_of_scikit_learn():
    values = spectrum_rows() * np.geomspace(1e-3, 1e3, 300).astype(np.float32)
    arrays = fit_projection(blocks_of(values, 64), 6)
    standard = StandardScaler().fit_transform(values.astype(np.float64))
    exact = PCA(6, svd_solver="full").fit(standard)
    np.testing.assert_allclose(
        arrays["explained_variance_ratio"], exact.explained_variance_ratio_, rtol=1e-3
    )
    wanted = StandardScaler().fit_transform(exact.transform(standard))
    for mine, theirs in zip(project(arrays, values).T, wanted.T, strict=True):
        assert abs(np.corrcoef(mine, theirs)[0, 1]) > 0.999


@pytest.mark.parametrize("constant", [0.0, 1.0, 1e-3, 12345.678])
def test_columns_that_never_vary_give_no_nan(constant):
    values = spectrum_rows()
    values[:, 10:200] = constant
    arrays = fit_projection(blocks_of(values, 37), 5)
    assert all(np.isfinite(array).all() for array in arrays.values())
    np.testing.assert_array_equal(arrays["pre_scale"][10:200], 1.0)
    np.testing.assert_allclose(arrays["components"][:, 10:200], 0.0, atol=1e-6)


@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_very_small_and_large_values(size):
    values = (spectrum_rows() * size).astype(np.float32)
    found = fitted(values, 5)
    np.testing.assert_allclose(
        found.explained_variance_ratio, fitted(spectrum_rows(), 5).explained_variance_ratio, 1e-3
    )


@pytest.mark.parametrize("rows", [0, 1, 8])
def test_too_few_rows(rows):
    values = spectrum_rows()[:rows]
    with pytest.raises(DataError, match=f"{rows} rows"):
        fit_projection(blocks_of(values, 4), 8)
    with pytest.raises(DataError, match=f"{rows} rows.*at least 9"):
        fitted(values, 8)


def test_one_row_more_than_components_is_enough():
    assert fitted(spectrum_rows()[:9], 8).components.shape == (8, 300)


def test_rows_that_vary_in_too_few_directions():
    with pytest.raises(DataError, match="vary in 3 directions"):
        fitted(spectrum_rows(directions=3, noise=0.0), 4)
    with pytest.raises(DataError, match="vary in 0 directions"):
        fitted(np.ones((50, 6), np.float32), 4)


def test_more_components_than_columns():
    with pytest.raises(DataError, match="300 values"):
        fit_projection(blocks_of(spectrum_rows(rows=500), 100), 301)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(bad):
    values = spectrum_rows()
    values[3, 3] = bad
    with pytest.raises(DataError, match="NaN or infinity"):
        fitted(values, 4)


def test_rows_of_another_width():
    pca = StreamingPca(4).partial_fit(np.zeros((3, 10), np.float32))
    with pytest.raises(DataError, match="rows of 11 values after rows of 10"):
        pca.partial_fit(np.zeros((3, 11), np.float32))
    with pytest.raises(DataError, match=r"\(n, dim\)"):
        pca.partial_fit(np.zeros(10, np.float32))


def test_readings_that_differ():
    values, readings = spectrum_rows(), []

    def blocks():
        readings.append(1)
        return iter([values[: -len(readings)]])

    with pytest.raises(DataError, match="699 rows in the first reading, 698"):
        fit_projection(blocks, 4)


@pytest.mark.parametrize("options", [{"components": 0}, {"components": 4, "kept": 3}])
def test_numbers_out_of_range(options):
    with pytest.raises(ConfigError, match="components"):
        StreamingPca(**options)


def test_memory_does_not_grow_with_rows():
    def peak(count):
        tracemalloc.start()
        pca = StreamingPca(4, batch_rows=32)
        for seed in range(count):
            pca.partial_fit(np.random.default_rng(seed).normal(size=(32, 5000)).astype(np.float32))
        pca.result()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(12) < 1.1 * peak(3)


def test_more_rows_may_follow_a_result():
    values = spectrum_rows()
    pca = StreamingPca(4).partial_fit(values[:300])
    assert pca.result().rows == 300
    found = pca.partial_fit(values[300:]).result()
    assert found.rows == 700
    np.testing.assert_allclose(
        found.explained_variance_ratio, fitted(values, 4).explained_variance_ratio, rtol=1e-3
    )
