"""Losses against values recorded from the original code, and its formulas worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from coala_latent.training.losses import generalised_kl, nt_xent_original

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / "coala_golden.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.shared
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_contrastive_loss_equals_the_originals(
    golden: dict[str, np.ndarray], temperature: float
) -> None:
    a, b = (torch.from_numpy(golden[name]).double() for name in ("za", "zt"))
    expected = float(golden[f"ntxent.t{temperature}"])
    assert nt_xent_original(a, b, temperature).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.shared
def test_generalised_kl_equals_the_originals(golden: dict[str, np.ndarray]) -> None:
    a, b = (torch.from_numpy(golden[name]).double() for name in ("a", "b"))
    expected = float(golden["gkl(y_hat=a,y=b)"])
    assert generalised_kl(prediction=a, target=b).item() == pytest.approx(expected, abs=1e-9)


@pytest.fixture(scope="module")
def waves() -> tuple[torch.Tensor, torch.Tensor]:
    i, j = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    return torch.sin(1 + 6 * i + j).double(), torch.cos(2 + 3 * i + j).double()


@pytest.mark.parametrize(
    ("temperature", "expected"), [(0.1, 6.447829354464648), (1.0, 2.2985933382910053)]
)
def test_contrastive_loss_of_waves(
    waves: tuple[torch.Tensor, torch.Tensor], temperature: float, expected: float
) -> None:
    assert nt_xent_original(*waves, temperature).item() == pytest.approx(expected, abs=1e-5)


def test_generalised_kl_of_ramp_and_constants() -> None:
    ramp = (torch.arange(64).double() / 64).reshape(1, 1, 8, 8)
    half = torch.full_like(ramp, 0.5)
    assert generalised_kl(half, ramp).item() == pytest.approx(0.7929297731449689, abs=1e-9)
    x = torch.full((1, 1, 96, 96), 0.4, dtype=torch.float64)
    y = torch.full_like(x, 0.5)
    assert generalised_kl(y, x).item() == pytest.approx(1.0314796252144482, abs=1e-9)
