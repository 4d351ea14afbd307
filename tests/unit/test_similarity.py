"""CKA and CCA: answers known beforehand."""

import numpy as np
import pytest

from coala_latent.analysis.similarity import cca, cca_by_chance, linear_cka
from coala_latent.errors import ConfigError, DataError


@pytest.fixture
def features(rng):
    """400 items of 6 dimensions that differ in scale."""
    return rng.normal(size=(400, 6)) * [1, 2, 4, 0.5, 1, 3] + 7


@pytest.fixture
def rotation(rng):
    return np.linalg.qr(rng.normal(size=(6, 6)))[0]


@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_does_not_see_rotation_scale_and_shift(features, rotation, unbiased):
    moved = -3 * (features @ rotation) + 100
    assert linear_cka(features, moved, unbiased=unbiased) == pytest.approx(1.0, abs=1e-9)
    padded = np.hstack([features, np.ones((400, 3))])
    assert linear_cka(features, padded, unbiased=unbiased) == pytest.approx(1.0, abs=1e-9)


def test_cka_sees_what_cca_does_not(features, rng):
    mixed = features @ rng.normal(size=(6, 6)) * [100, 1, 1, 1, 1, 1]
    assert linear_cka(features, mixed) < 0.95
    assert cca(features, mixed).mean == pytest.approx(1.0, abs=1e-9)


def test_independent_features_have_nothing_in_common(rng):
    x, y = rng.normal(size=(2000, 8)), rng.normal(size=(2000, 5))
    assert linear_cka(x, y) < 0.02
    assert abs(linear_cka(x, y, unbiased=True)) < 0.01
    assert cca(x, y).mean < 0.1


def test_few_items_of_many_dimensions_seem_alike_but_to_the_unbiased_form(rng):
    values = [
        (linear_cka(x, y), linear_cka(x, y, unbiased=True))
        for x, y in (rng.normal(size=(2, 20, 500)) for _ in range(20))
    ]
    plain, unbiased = np.mean(values, axis=0)
    assert plain > 0.9
    assert abs(unbiased) < 0.05


def test_cka_is_what_kernels_give(rng):
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 4))
    n = 9
    k, l = x @ x.T, y @ y.T  # noqa: E741
    h = np.eye(n) - 1 / n
    plain = np.trace(h @ k @ h @ l) / np.sqrt(np.trace(h @ k @ h @ k) * np.trace(h @ l @ h @ l))
    assert linear_cka(x, y) == pytest.approx(plain)

    def hsic(a, b):
        a, b = a - np.diag(np.diag(a)), b - np.diag(np.diag(b))
        one = np.ones(n)
        sums = one @ a @ one * (one @ b @ one) / ((n - 1) * (n - 2))
        return np.trace(a @ b) + sums - 2 / (n - 2) * (one @ a @ b @ one)

    unbiased = hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))
    assert linear_cka(x, y, unbiased=True) == pytest.approx(unbiased)


def test_cca_of_single_columns_is_the_correlation(rng):
    x = rng.normal(size=300)
    y = -0.7 * x + rng.normal(size=300)
    found = cca(x[:, None], y[:, None])
    assert found.mean == pytest.approx(abs(np.corrcoef(x, y)[0, 1]))
    assert found.weighted == pytest.approx(found.mean)
    assert found.ranks == (1, 1)


def test_cca_of_a_column_is_the_multiple_correlation(features, rng):
    y = features @ rng.normal(size=6) + rng.normal(0, 5, 400)
    design = np.hstack([features, np.ones((400, 1))])
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    found = cca(features, y[:, None])
    assert found.mean == pytest.approx(np.corrcoef(fitted, y)[0, 1])


def test_cca_agrees_with_scikit_learn(rng):
    from sklearn.cross_decomposition import CCA

    x = rng.normal(size=(500, 4))
    y = x @ rng.normal(size=(4, 3)) + rng.normal(0, 2, (500, 3))
    a, b = CCA(3, max_iter=5000, tol=1e-12).fit_transform(x, y)
    wanted = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(cca(x, y).correlations, wanted, atol=1e-5)


def test_shared_and_private_dimensions_are_told_apart(rng):
    shared, own, other = rng.normal(size=(3, 3000, 2))
    found = cca(np.hstack([shared, own]), np.hstack([other, shared]) @ rng.normal(size=(4, 4)))
    np.testing.assert_allclose(found.correlations[:2], 1.0, atol=1e-6)
    assert (found.correlations[2:] < 0.1).all()
    assert found.mean == pytest.approx(found.correlations.mean())


def test_the_weighted_mean_counts_directions_by_what_they_explain(rng):
    shared, own, other = rng.normal(size=(3, 3000, 1))
    x = np.hstack([100 * shared, own])
    found = cca(x, np.hstack([shared, other]))
    assert found.mean == pytest.approx(0.5, abs=0.05)
    assert found.weighted > 0.95


def test_dependent_and_constant_columns_do_not_count(features):
    doubled = np.hstack([features, features[:, :2] * 5, np.full((400, 2), 3.0)])
    found = cca(doubled, features)
    assert found.ranks == (6, 6)
    assert found.mean == pytest.approx(1.0, abs=1e-9)


def test_epsilon_is_a_share_of_the_variance(features, rng):
    faint = np.hstack([features, features[:, :1] + 1e-6 * rng.normal(size=(400, 1))])
    assert cca(faint, features).ranks == (7, 6)
    assert cca(faint, features, epsilon=1e-10).ranks == (6, 6)


def test_components_are_the_largest(rng):
    strong = rng.normal(size=(200, 1)) + 0.01 * rng.normal(size=(200, 5))
    x = np.hstack([strong, rng.normal(size=(200, 1))])
    found = cca(x, strong[:, :1], components=1)
    assert found.ranks == (1, 1)
    assert found.mean > 0.99


def test_too_few_items_are_an_error_that_names_the_cure(rng):
    x, y = rng.normal(size=(20, 12)), rng.normal(size=(20, 9))
    with pytest.raises(DataError, match=r"20 items .* 12 and 9 .*components"):
        cca(x, y)
    assert cca(x, y, components=5).mean < 1
    assert cca(x, y[:, :7]).mean < 1


def test_chance_is_what_independent_features_have(rng):
    x, y = rng.normal(size=(100, 20)), rng.normal(size=(100, 1))
    chance = cca_by_chance(x, y, runs=40)
    assert chance == pytest.approx(np.sqrt(20 / 99), abs=0.05)
    assert chance == cca_by_chance(x, y, runs=40)
    assert chance != cca_by_chance(x, y, runs=40, seed=1)
    assert cca_by_chance(x, x[:, :1]) < 0.7 < cca(x, x[:, :1]).mean


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_scale_does_not_matter_however_extreme(features, scale):
    for unbiased in (False, True):
        wanted = linear_cka(features, features[:, :2], unbiased=unbiased)
        found = linear_cka(features * scale, features[:, :2], unbiased=unbiased)
        assert found == pytest.approx(wanted)
    assert cca(features * scale, features[:, :2]).mean == pytest.approx(1.0)
    assert cca(features * [scale, 1, 1, 1, 1, 1], features).mean == pytest.approx(1.0)


@pytest.mark.parametrize("measure", [linear_cka, cca, cca_by_chance])
def test_features_that_do_not_fit_are_refused(measure, features):
    with pytest.raises(DataError, match="400 and 399"):
        measure(features, features[1:])
    with pytest.raises(DataError, match="first features are equal"):
        measure(np.ones((400, 2)), features)
    with pytest.raises(DataError, match="shape"):
        measure(features, features[:, 0])
    for bad in (np.nan, np.inf):
        broken = features.copy()
        broken[7, 1] = bad
        with pytest.raises(DataError, match="second features: row 7"):
            measure(features, broken)
    for count in (0, 1):
        with pytest.raises(DataError):
            measure(features[:count], features[:count])


def test_the_unbiased_form_needs_four_items(features):
    with pytest.raises(DataError, match="at least 4"):
        linear_cka(features[:3], features[:3], unbiased=True)
    assert linear_cka(features[:4], features[:4], unbiased=True) == pytest.approx(1.0)


def test_options_out_of_range_are_refused(features):
    for measure in (cca, cca_by_chance):
        with pytest.raises(ConfigError, match="components"):
            measure(features, features, components=0)
        with pytest.raises(ConfigError, match="epsilon"):
            measure(features, features, epsilon=1.0)
