"""Scalers and projections: their inverses, volumes, edits and states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from coala_latent.errors import DataError
from coala_latent.models.latent_scaling import LatentProjection, PrincipalComponents, Standardise


def latents(count=300, size=12, seed=0):
    """Correlated rows, some dimensions of a large offset and none after the original's ReLU."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, size)) @ rng.standard_normal((size, size))
    return np.maximum(values * np.geomspace(0.01, 100, size) + np.linspace(0, 50, size), 0)


def fitted(values, kept, dtype=np.float64):
    """The chain as scikit-learn fits it, and as a module."""
    before = StandardScaler().fit(values)
    pca = PCA(kept, svd_solver="full").fit(before.transform(values))
    after = StandardScaler().fit(pca.transform(before.transform(values)))
    projection = LatentProjection(
        Standardise(before.mean_.astype(dtype), before.scale_.astype(dtype)),
        PrincipalComponents(
            pca.mean_.astype(dtype),
            pca.components_.astype(dtype),
            pca.explained_variance_ratio_.astype(dtype),
        ),
        Standardise(after.mean_.astype(dtype), after.scale_.astype(dtype)),
    )
    return (before, pca, after), projection


def test_the_projection_is_scikit_learns():
    values = latents()
    (before, pca, after), projection = fitted(values, 5)
    expected = after.transform(pca.transform(before.transform(values)))
    z = projection(torch.as_tensor(values))
    assert (projection.size, projection.kept) == (12, 5)
    np.testing.assert_allclose(z.numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(z.numpy().std(0), 1, atol=1e-9)
    np.testing.assert_allclose(
        projection.explained_variance_ratio.numpy(), pca.explained_variance_ratio_
    )
    back = before.inverse_transform(pca.inverse_transform(after.inverse_transform(expected)))
    np.testing.assert_allclose(projection.inverse(z).numpy(), back, atol=1e-9)


@pytest.mark.parametrize("kept", [1, 5, 12])
def test_what_is_kept_comes_back(kept):
    _, projection = fitted(latents(), kept)
    z = torch.randn(7, kept, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(projection(projection.inverse(z)), z)
    if kept == 12:
        x = torch.as_tensor(latents(20, seed=1))
        torch.testing.assert_close(projection.inverse(projection(x)), x)


def test_the_log_determinant_is_the_jacobians():
    _, projection = fitted(latents(), 12)
    x = torch.as_tensor(latents(1)[0])
    for module in (projection, projection.before, projection.principal):
        jacobian = torch.autograd.functional.jacobian(lambda v, m=module: m(v[None])[0], x)
        torch.testing.assert_close(module.log_det, torch.linalg.slogdet(jacobian).logabsdet)


def test_with_fewer_components_volumes_are_those_in_the_plane():
    _, projection = fitted(latents(), 4)
    z = torch.zeros(4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: projection.inverse(v[None])[0], z)
    plane = torch.linalg.slogdet(jacobian.T @ jacobian).logabsdet / 2
    torch.testing.assert_close(projection.log_det, -plane)


def test_an_edit_is_that_of_the_full_projection_with_other_components_kept():
    values = latents()
    _, few = fitted(values, 3)
    _, full = fitted(values, 12)
    x = torch.as_tensor(values[:9])
    new_z = few(x) + torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).double()
    edited = few.edit(x, new_z)
    torch.testing.assert_close(few(edited), new_z)
    everything = full(x)
    everything[:, :3] = new_z * few(x).sign() * everything[:, :3].sign()
    torch.testing.assert_close(edited, full.inverse(everything))
    torch.testing.assert_close(edited, x + few.inverse(new_z) - few.inverse(few(x)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_edit_changes_no_bit(dtype):
    _, projection = fitted(latents(), 3)
    x = torch.as_tensor(latents(30, seed=2), dtype=dtype)
    edited = projection.edit(x, projection(x))
    assert edited.dtype == dtype
    assert torch.equal(edited, x)


@pytest.mark.parametrize("statistics", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [torch.float32, torch.float64])
def test_answers_have_the_inputs_precision(statistics, rows):
    _, projection = fitted(latents(), 3, statistics)
    x = torch.as_tensor(latents(4), dtype=rows)
    z = projection(x)
    assert z.dtype == projection.inverse(z).dtype == rows
    assert projection.before.mean.numpy().dtype == statistics
    exact = fitted(latents(), 3)[1](x.double())
    torch.testing.assert_close(z.double(), exact, atol=1e-4, rtol=1e-4)


def test_a_projection_is_made_again_from_its_state():
    _, projection = fitted(latents(), 3)
    state = projection.state_dict()
    again = LatentProjection.from_state_dict(state)
    x = torch.as_tensor(latents(4), dtype=torch.float32)
    assert torch.equal(again(x), projection(x))
    assert (again.size, again.kept) == (12, 3)
    del state["after.mean"]
    with pytest.raises(DataError, match=r"after\.mean"):
        LatentProjection.from_state_dict(state)


def test_statistics_do_not_follow_the_arrays_they_came_from():
    mean, scale = np.zeros(2), np.ones(2)
    scaling = Standardise(mean, scale)
    mean += 5
    assert torch.equal(scaling(torch.ones(1, 2)), torch.ones(1, 2))
    assert not list(scaling.parameters())


def test_no_rows_and_one_row():
    _, projection = fitted(latents(), 3)
    for count in (0, 1):
        x = torch.as_tensor(latents(5)[:count])
        assert projection(x).shape == (count, 3)
        assert projection.edit(x, projection(x)).shape == x.shape


@pytest.mark.parametrize(
    ("mean", "scale", "named"),
    [
        ([0.0, 0.0], [1.0], "2 means, but 1 scales"),
        ([0.0, 0.0], [1.0, 0.0], "not above 0"),
        ([0.0, 0.0], [1.0, -1.0], "not above 0"),
        ([0.0, np.nan], [1.0, 1.0], "mean is not finite"),
        ([0.0, 0.0], [1.0, np.inf], "scale is not finite"),
        ([[0.0]], [1.0], "expected 1 axes"),
        ([], [], "not empty"),
    ],
)
def test_senseless_scalers_are_refused(mean, scale, named):
    with pytest.raises(DataError, match=named):
        Standardise(np.array(mean), np.array(scale))


@pytest.mark.parametrize(
    ("mean", "components", "ratio", "named"),
    [
        ([0.0, 0.0], [[1.0, 0.0, 0.0]], [1.0], "do not fit"),
        ([0.0, 0.0], [[1.0, 0.0]], [0.5, 0.5], "do not fit"),
        ([0.0, 0.0], [[2.0, 0.0]], [1.0], "not orthonormal"),
        ([0.0, 0.0], [[1.0, 0.0], [1.0, 0.0]], [0.5, 0.5], "not orthonormal"),
    ],
)
def test_senseless_components_are_refused(mean, components, ratio, named):
    with pytest.raises(DataError, match=named):
        PrincipalComponents(np.array(mean), np.array(components), np.array(ratio))


def test_parts_of_other_sizes_and_rows_of_other_sizes_are_refused():
    _, projection = fitted(latents(), 3)
    with pytest.raises(DataError, match="do not fit a projection of 12 on 3"):
        LatentProjection(projection.after, projection.principal, projection.after)
    for run, width in ((projection, 11), (projection.inverse, 12)):
        with pytest.raises(DataError, match="expected"):
            run(torch.zeros(2, width))
    with pytest.raises(DataError, match="1 edited rows for 2"):
        projection.edit(torch.zeros(2, 12), torch.zeros(1, 3))
