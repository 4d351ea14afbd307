"""Factor flows: invertible networks whose output falls into blocks, one for each known factor.

Paper: Esser, Rombach, Ommer, "A Disentangling Invertible Interpretation Network for Explaining
Latent Representations", CVPR 2020 (arXiv 2004.13166). Original projects: TimHenry1995/LatentAudio
(no licence stated) on gyoza (MIT), and the paper's CompVis/iin. Order of the steps and sizes are
LatentAudio's; other couplings, mixings and blocks of several dimensions are new.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from coala_latent.errors import ConfigError, DataError
from coala_latent.models.flow_stages import (
    ActNorm,
    CouplingName,
    MixingName,
    make_coupling,
    make_mixing,
    shuffle,
)

__all__ = ["RESIDUAL", "FactorFlow", "FactorSpec", "FlowStage"]

RESIDUAL = "residual"


@dataclass(frozen=True)
class FactorSpec:
    """How a flow's output falls into blocks: first the residual, then a block for each factor.

    Attributes:
        dims: Dimensions of each block, in order; the first is ``"residual"``.

    Raises:
        ConfigError: No residual in the first place, no factor, or an empty block.
    """

    dims: Mapping[str, int]

    def __post_init__(self) -> None:
        names = list(self.dims)
        if names[:1] != [RESIDUAL] or len(names) < 2:
            raise ConfigError(
                f"blocks {names}: the first must be {RESIDUAL!r}, then at least one factor"
            )
        for name, size in self.dims.items():
            if not isinstance(name, str) or not name:
                raise ConfigError(f"block {name!r}: a name must be a text of some letters")
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ConfigError(f"block {name!r} has {size!r} dimensions: use 1 or more")
        # The caller's mapping may change later.
        object.__setattr__(self, "dims", dict(self.dims))

    def __hash__(self) -> int:
        return hash(tuple(self.dims.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all blocks."""
        return tuple(self.dims)

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the blocks without the residual."""
        return self.names[1:]

    @property
    def size(self) -> int:
        """Dimensions of all blocks together."""
        return sum(self.dims.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Where each block lies in the flow's output."""
        found, begin = {}, 0
        for name, size in self.dims.items():
            found[name] = slice(begin, begin + size)
            begin += size
        return found

    @property
    def mask(self) -> Tensor:
        """``(blocks, size)`` bool: which dimensions belong to which block."""
        mask = torch.zeros(len(self.dims), self.size, dtype=torch.bool)
        for row, place in zip(mask, self.slices.values(), strict=True):
            row[place] = True
        return mask

    def to_dict(self) -> dict[str, Any]:
        """As values for JSON, in a form whose order survives sorted keys."""
        return {"blocks": [{"name": name, "dims": size} for name, size in self.dims.items()]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FactorSpec:
        """From `to_dict`.

        Raises:
            ConfigError: The values are of another form.
        """
        try:
            blocks = [(block["name"], block["dims"]) for block in values["blocks"]]
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"factor specification {values!r}: expected 'blocks' with 'name' and 'dims'"
            ) from error
        if len(dict(blocks)) != len(blocks):
            raise ConfigError(f"factor specification: two blocks of {blocks} have the same name")
        return cls(dict(blocks))

    def split(self, z: Tensor) -> dict[str, Tensor]:
        """Views of the blocks of ``z (n, size)``: each ``(n, dims[name])``."""
        self._check(z)
        return {name: z[:, place] for name, place in self.slices.items()}

    def swap(self, z: Tensor, donor: Tensor, names: Collection[str]) -> Tensor:
        """``z (n, size)`` with some blocks of ``donor (n, size)``, row by row.

        Raises:
            DataError: `donor` has another shape.
            KeyError: No such block.
        """
        self._check(z)
        if donor.shape != z.shape:
            raise DataError(f"donors of shape {tuple(donor.shape)} for rows {tuple(z.shape)}")
        edited = z.clone()
        for name in names:
            place = self._place(name)
            edited[:, place] = donor[:, place]
        return edited

    def set_value(self, z: Tensor, name: str, value: Tensor | float) -> Tensor:
        """``z (n, size)`` with a block set to `value`.

        Args:
            z: Rows.
            name: Of the block.
            value: A number, ``(dims[name],)`` for all rows, or ``(n, dims[name])``.

        Raises:
            KeyError: No such block.
        """
        self._check(z)
        edited = z.clone()
        edited[:, self._place(name)] = torch.as_tensor(value, dtype=z.dtype, device=z.device)
        return edited

    def interpolate(self, z: Tensor, other: Tensor, name: str, weight: Tensor | float) -> Tensor:
        """``z (n, size)`` with a block moved towards that of ``other (n, size)``.

        Args:
            z: Rows, where `weight` is 0.
            other: Rows, where `weight` is 1.
            name: Of the block.
            weight: A number, or ``(n,)``. Below 0 and above 1 the line goes on.

        Raises:
            DataError: `other` has another shape.
            KeyError: No such block.
        """
        goal = self.swap(z, other, (name,))
        share = torch.as_tensor(weight, dtype=z.dtype, device=z.device)
        return torch.lerp(z, goal, share[:, None] if share.ndim else share)

    def _place(self, name: str) -> slice:
        if name not in self.dims:
            raise KeyError(f"no block {name!r}; there are {', '.join(self.names)}")
        return self.slices[name]

    def _check(self, z: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.size:
            raise DataError(f"rows of shape {tuple(z.shape)}: expected (n, {self.size})")


class FlowStage(nn.ModuleDict):
    """Named transforms of `flow_stages`, one after another."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, size)`` through all steps, and their log-determinants ``(n,)`` together."""
        log_det = x.new_zeros(len(x))
        for step in self.values():
            x, change = step(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`, from the last step to the first."""
        log_det = z.new_zeros(len(z))
        for step in reversed(list(self.values())):
            undo: Any = step.inverse
            z, change = undo(z)
            log_det = log_det + change
        return z, log_det


class FactorFlow(nn.Module):
    """Invertible map of latents to blocks of factors.

    A stage is a fixed shuffle, a coupling, the same with the halves' parts exchanged, ActNorm, and
    a mixing. The original couples even with odd dimensions and exchanges them by swapping
    neighbours and swapping back; behind a random shuffle that is the same family of maps as
    coupling halves, without the swaps. ActNorm takes its start from the first rows seen in
    training mode, see `initialise_`.

    Args:
        spec: Blocks of the output; their sizes add up to the input's.
        stages: How many.
        hidden: Units of a conditioner's hidden layer.
        depth: Hidden layers of a conditioner.
        coupling: ``"additive"`` (the original's; its log-determinant is the same for all inputs),
            ``"affine"`` or ``"spline"``.
        mixing: ``"householder"`` (the original's) or ``"lu"``.
        reflections: Of a Householder mixing.
        bins: Pieces of a spline.
        bound: Where splines end.
        seed: Of shuffles and initial weights.

    Raises:
        ConfigError: A setting does not make sense.
    """

    def __init__(
        self,
        spec: FactorSpec,
        stages: int = 3,
        hidden: int = 64,
        depth: int = 3,
        coupling: CouplingName = "additive",
        mixing: MixingName = "householder",
        reflections: int = 8,
        bins: int = 8,
        bound: float = 5.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        counts = {"stages": stages, "hidden": hidden, "depth": depth, "reflections": reflections}
        for name, count in counts.items():
            if count < 1:
                raise ConfigError(f"{name}={count}: use 1 or more")
        if not 2 <= bins <= 512:
            raise ConfigError(f"bins={bins}: use 2 to 512 (8 is usual)")
        if not 0 < bound < math.inf:
            raise ConfigError(f"bound={bound}: use a number above 0 (5 is usual)")
        self.spec = spec
        generator = Generator().manual_seed(seed)

        def half(keep_first: bool) -> nn.Module:
            return make_coupling(
                coupling, spec.size, keep_first, hidden, depth, generator, bins, bound
            )

        self.stages = nn.ModuleList(
            FlowStage(
                {
                    "shuffle": shuffle(spec.size, generator),
                    "first": half(True),
                    "second": half(False),
                    "norm": ActNorm(spec.size),
                    "mixing": make_mixing(mixing, spec.size, reflections, generator),
                }
            )
            for _ in range(stages)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks of latents.

        Args:
            x: ``(n, size)``, best of mean 0 and variance 1.

        Returns:
            ``z (n, size)`` and the log-determinants ``ln|det dz/dx| (n,)``.

        Raises:
            DataError: Another shape.
        """
        self.spec._check(x)
        log_det = x.new_zeros(len(x))
        for stage in self.stages:
            x, change = stage(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of blocks, and ``ln|det dx/dz| (n,)``.

        Raises:
            DataError: Another shape.
        """
        self.spec._check(z)
        log_det = z.new_zeros(len(z))
        for stage in reversed(self.stages):
            assert isinstance(stage, FlowStage)
            z, change = stage.inverse(z)
            log_det = log_det + change
        return z, log_det

    @torch.no_grad()
    def initialise_(self, x: Tensor) -> FactorFlow:
        """Take the start of all ActNorms from ``x (n, size)``, unless they have had one.

        The first `forward` in training mode does it by itself. Where several processes train, each
        has other rows then; calling this with the same rows in all of them keeps them equal.
        """
        training = self.training
        self.train()(x)
        return self.train(training)

    def factors(self, z: Tensor) -> dict[str, Tensor]:
        """See `FactorSpec.split`."""
        return self.spec.split(z)
