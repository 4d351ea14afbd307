"""Scaling and principal components of latents, as modules that can be undone.

A flow of factors works on some 64 numbers of variance 1, a layer has thousands. As in
TimHenry1995/LatentAudio (no licence stated), latents are standardised, projected on principal
components, and standardised again. The original projects on as many components as there are
dimensions to put edited latents back exactly; `LatentProjection.edit` does the same with the few
that are edited.

Modules compute in the precision of their statistics and answer in that of their input. Nothing is
fitted here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from coala_latent.errors import DataError

__all__ = ["LatentProjection", "LatentScaling", "PrincipalComponents", "Standardise"]

Values: TypeAlias = Tensor | np.ndarray

# How far the products of components may be from those of an orthonormal set.
_ORTHONORMAL = 1e-3


class LatentScaling(nn.Module, ABC):
    """A linear map of latents ``(n, size)`` to ``(n, kept)`` with an inverse.

    Attributes:
        size: Numbers in a latent.
        kept: Numbers in its image; equal to `size` or fewer.
    """

    size: int
    kept: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """``(n, size)`` to ``(n, kept)``.

        Raises:
            DataError: Another shape.
        """

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """``(n, kept)`` to the ``(n, size)`` that `forward` maps there.

        Raises:
            DataError: Another shape.
        """

    @property
    @abstractmethod
    def log_det(self) -> Tensor:
        """Logarithm of the change of volume by `forward`, a scalar.

        With fewer components than dimensions: of volumes in the plane that `inverse` maps to.
        """


class Standardise(LatentScaling):
    """``z = (x - mean) / scale``.

    Args:
        mean: ``(size,)``.
        scale: ``(size,)``, above 0; 1 for dimensions that do not vary.

    Raises:
        DataError: Shapes differ, or values are not finite or not above 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Values, scale: Values) -> None:
        super().__init__()
        self.register_buffer("mean", _statistic("mean", mean, 1))
        self.register_buffer("scale", _statistic("scale", scale, 1))
        if self.mean.shape != self.scale.shape:
            raise DataError(f"{len(self.mean)} means, but {len(self.scale)} scales")
        if not (self.scale > 0).all():
            raise DataError(
                "a scale is not above 0 (give dimensions that do not vary a scale of 1)"
            )
        self.size = self.kept = len(self.mean)

    def forward(self, x: Tensor) -> Tensor:
        """See `LatentScaling`."""
        _check(x, self.size)
        return ((x - self.mean) / self.scale).to(x.dtype)

    def inverse(self, z: Tensor) -> Tensor:
        """See `LatentScaling`."""
        _check(z, self.size)
        return (z * self.scale + self.mean).to(z.dtype)

    @property
    def log_det(self) -> Tensor:
        """See `LatentScaling`."""
        return -self.scale.log().sum()


class PrincipalComponents(LatentScaling):
    """``z = components (x - mean)``, without whitening.

    Args:
        mean: ``(size,)``.
        components: ``(kept, size)``, orthonormal rows.
        explained_variance_ratio: ``(kept,)``: what share of the variance each explains.

    Raises:
        DataError: Shapes do not fit, or components are not orthonormal.
    """

    mean: Tensor
    components: Tensor
    explained_variance_ratio: Tensor

    def __init__(self, mean: Values, components: Values, explained_variance_ratio: Values) -> None:
        super().__init__()
        self.register_buffer("mean", _statistic("mean", mean, 1))
        self.register_buffer("components", _statistic("components", components, 2))
        self.register_buffer(
            "explained_variance_ratio",
            _statistic("explained_variance_ratio", explained_variance_ratio, 1),
        )
        # Products need one precision: the widest of what was given.
        self.to(torch.promote_types(self.mean.dtype, self.components.dtype))
        self.kept, self.size = self.components.shape
        if len(self.mean) != self.size or len(self.explained_variance_ratio) != self.kept:
            raise DataError(
                f"components {tuple(self.components.shape)} do not fit {len(self.mean)} means "
                f"and {len(self.explained_variance_ratio)} shares of variance"
            )
        products = self.components @ self.components.T
        error = (products - torch.eye(self.kept, dtype=products.dtype)).abs().max()
        if not error <= _ORTHONORMAL:
            raise DataError(f"components are not orthonormal: products are off by {error:.2g}")

    def forward(self, x: Tensor) -> Tensor:
        """See `LatentScaling`."""
        _check(x, self.size)
        return ((x.to(self.mean.dtype) - self.mean) @ self.components.T).to(x.dtype)

    def inverse(self, z: Tensor) -> Tensor:
        """See `LatentScaling`."""
        _check(z, self.kept)
        return (z.to(self.mean.dtype) @ self.components + self.mean).to(z.dtype)

    @property
    def log_det(self) -> Tensor:
        """See `LatentScaling`; always 0."""
        return self.mean.new_zeros(())


class LatentProjection(LatentScaling):
    """Standardise, project on principal components, standardise again.

    Args:
        before: Of all dimensions.
        principal: Components of what comes out.
        after: Of the components, so that each has variance 1.

    Raises:
        DataError: Their sizes do not fit.
    """

    def __init__(
        self, before: Standardise, principal: PrincipalComponents, after: Standardise
    ) -> None:
        super().__init__()
        if before.size != principal.size or after.size != principal.kept:
            raise DataError(
                f"scalers of {before.size} and {after.size} do not fit a projection of "
                f"{principal.size} on {principal.kept}"
            )
        self.before, self.principal, self.after = before, principal, after
        self.size, self.kept = principal.size, principal.kept

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> LatentProjection:
        """The projection that a state dictionary is of.

        Raises:
            DataError: An entry is missing or left over, or does not fit.
        """
        expected = (
            *("before.mean", "before.scale", "after.mean", "after.scale", "principal.mean"),
            *("principal.components", "principal.explained_variance_ratio"),
        )
        if set(state) != set(expected):
            wrong = ", ".join(sorted(set(state) ^ set(expected)))
            raise DataError(f"not the state of a projection: missing or unknown {wrong}")
        return cls(
            Standardise(state["before.mean"], state["before.scale"]),
            PrincipalComponents(
                state["principal.mean"],
                state["principal.components"],
                state["principal.explained_variance_ratio"],
            ),
            Standardise(state["after.mean"], state["after.scale"]),
        )

    @property
    def explained_variance_ratio(self) -> Tensor:
        """``(kept,)``: what share of the variance each component explains."""
        return self.principal.explained_variance_ratio

    def forward(self, x: Tensor) -> Tensor:
        """See `LatentScaling`."""
        z: Tensor = self.after(self.principal(self.before(x)))
        return z

    def inverse(self, z: Tensor) -> Tensor:
        """See `LatentScaling`."""
        return self.before.inverse(self.principal.inverse(self.after.inverse(z)))

    @property
    def log_det(self) -> Tensor:
        """See `LatentScaling`."""
        stretched = self.principal.components * self.before.scale.to(self.principal.mean.dtype)
        # Of the plane's volumes: with all components, the sum of the logarithms of the scales.
        plane = torch.linalg.slogdet(stretched @ stretched.T).logabsdet / 2
        return self.after.log_det - plane

    def edit(self, x: Tensor, new_z: Tensor) -> Tensor:
        """Latents with other components, and everything outside the components kept.

        ``x + inverse(new_z) - inverse(forward(x))``: where nothing changes, exactly `x`.

        Args:
            x: ``(n, size)``.
            new_z: ``(n, kept)``, what `forward` of the result is to be.

        Returns:
            ``(n, size)``.

        Raises:
            DataError: Another shape.
        """
        _check(new_z, self.kept)
        z = self(x)
        if new_z.shape != z.shape:
            raise DataError(f"{len(new_z)} edited rows for {len(z)} latents")
        change = (new_z - z) * self.after.scale
        change = change.to(self.principal.components.dtype) @ self.principal.components
        return (x + change * self.before.scale).to(x.dtype)


def _statistic(name: str, values: Values, axes: int) -> Tensor:
    """A copy of an array of float32 or float64 (others become float32), checked."""
    tensor = torch.as_tensor(values).detach().clone()
    if tensor.dtype != torch.float64:
        tensor = tensor.float()
    if tensor.ndim != axes or not tensor.numel():
        raise DataError(f"{name} of shape {tuple(tensor.shape)}: expected {axes} axes, not empty")
    if not tensor.isfinite().all():
        raise DataError(f"{name} is not finite everywhere")
    return tensor


def _check(rows: Tensor, size: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != size:
        raise DataError(f"rows of shape {tuple(rows.shape)}: expected (n, {size})")
