"""What a hand does to an object: the forces of the four actions, as endless excitation signals.

A gesture yields blocks of `BLOCK_SECONDS`. All that lasts longer than a block (the phase of a
stroke, pieces still falling) is carried over, so that the borders cannot be heard. Events and slow
movements are drawn in seconds: at another sample rate the same gesture happens.

Every block is ``(2, time)``: the force that goes to either of two points of contact (a soft and a
hard one), or for a breaking object ``(3, time)``: large, medium and small pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from coala_latent.data.modal import Material

__all__ = ["ACTION_TABLE", "BLOCK_SECONDS", "Action", "Manner"]

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

BLOCK_SECONDS = 4
# Slow movements are drawn at this rate and interpolated.
_TICKS_PER_SECOND = 100
_TICKS = BLOCK_SECONDS * _TICKS_PER_SECOND
# Spread of the strength of single grains of a texture (log-normal), and its mean square.
_GRAIN_SIGMA = 0.7
_GRAIN_POWER = float(np.exp(2.0 * _GRAIN_SIGMA**2))


@dataclass(frozen=True)
class Manner:
    """How an action is done in one take.

    Attributes:
        rate: Strikes, strokes, breakages or turns per second.
        irregularity: Spread of the time between them, as a share of it.
        force_spread: Spread of their strength, in nepers.
        depth: 0 to 1; bouncing of a tap, pauses of a rub, spread of a breakage in time, or
            modulation of a whirl.
        grain: 0 to 1; from a smooth to a grainy texture.
    """

    rate: float
    irregularity: float
    force_spread: float
    depth: float
    grain: float


Gesture = Callable[[Manner, Material, int, np.random.Generator], Iterator[Float32Array]]


@dataclass(frozen=True)
class Action:
    """What all takes of one action have in common.

    Attributes:
        excite: ``(manner, material, sample_rate, rng)`` to an endless iterator of blocks.
        rate: Usual events per second.
        grain: Usual graininess.
        damping: How much the hand or the ground damps the object while it sounds.
        kind: ``"impact"`` or ``"texture"``.
        sizes: Size of each part that sounds, against the whole object; more than one entry means
            that each is a body of its own.
    """

    excite: Gesture
    rate: float
    grain: float
    damping: float
    kind: str
    sizes: tuple[float, ...] = (1.0,)


class _Drift:
    """Smooth random movement around 0 with unit variance, at the tick rate."""

    def __init__(self, rng: np.random.Generator, seconds: float) -> None:
        self._rng = rng
        self._keep = float(np.exp(-1.0 / (seconds * _TICKS_PER_SECOND)))
        self._last = float(rng.standard_normal())

    def next(self) -> Float64Array:
        """The next ``(ticks + 1,)`` values; the first is the last of the block before."""
        steps = self._rng.standard_normal(_TICKS) * np.sqrt(1.0 - self._keep**2)
        keep = self._keep
        values = np.fromiter(
            accumulate(steps.tolist(), lambda x, step: keep * x + step, initial=self._last),
            dtype=np.float64,
            count=_TICKS + 1,
        )
        self._last = float(values[-1])
        return values


class _Phase:
    """Phase of a repeated movement in cycles, with a rate that drifts."""

    def __init__(self, rng: np.random.Generator, rate: float, irregularity: float) -> None:
        self._drift = _Drift(rng, seconds=0.7)
        self._rate = rate
        self._irregularity = irregularity
        self._last = float(rng.uniform())

    def next(self) -> Float64Array:
        """The next ``(ticks + 1,)`` phases."""
        rates = self._rate * np.exp(self._irregularity * self._drift.next())
        phase = np.concatenate([[0.0], np.cumsum(0.5 * (rates[1:] + rates[:-1]))])
        phase = self._last + phase / _TICKS_PER_SECOND
        self._last = float(phase[-1] % 1.0)
        return phase


class _Agenda:
    """Contacts that are still to come; hands them out block by block."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self._shape = (channels, BLOCK_SECONDS * sample_rate)
        self._sample_rate = sample_rate
        self._times: Float64Array = np.zeros(0)
        self._forces: Float64Array = np.zeros((channels, 0))
        self._start = 0.0

    @property
    def end(self) -> float:
        """End of the next block, in seconds from the beginning."""
        return self._start + BLOCK_SECONDS

    def add(self, times: npt.ArrayLike, forces: Float64Array) -> None:
        """Plan contacts at times in seconds; forces are ``(channels, contacts)``."""
        self._times = np.concatenate([self._times, np.atleast_1d(times)])
        self._forces = np.concatenate([self._forces, forces], axis=1)

    def next(self) -> Float32Array:
        """The next block of single-sample pulses, ``(channels, time)``."""
        positions = ((self._times - self._start) * self._sample_rate).astype(np.int64)
        due = positions < self._shape[1]
        block = np.zeros(self._shape, dtype=np.float32)
        for channel, forces in zip(block, self._forces, strict=True):
            np.add.at(channel, positions[due], forces[due].astype(np.float32))
        self._times, self._forces = self._times[~due], self._forces[:, ~due]
        self._start = self.end
        return block


def _two_points(forces: Float64Array, share: Float64Array) -> Float64Array:
    """Split forces ``(n,)`` over the soft and the hard point, ``(2, n)``."""
    return np.stack([forces * (1.0 - share), forces * share])


def _tap(
    manner: Manner, material: Material, sample_rate: int, rng: np.random.Generator
) -> Iterator[Float32Array]:
    """Separate strikes; harder ones are brighter, and some bounce."""
    agenda = _Agenda(2, sample_rate)
    time = float(rng.uniform(0.0, 0.8 / manner.rate))
    while True:
        while time < agenda.end:
            loudness = float(rng.standard_normal())
            force = min(0.55 * np.exp(manner.force_spread * loudness), 1.3)
            bounces = int(rng.poisson(1.2 * manner.depth**2))
            gaps = rng.uniform(0.05, 0.12) * 0.72 ** np.arange(bounces)
            times = time + np.concatenate([[0.0], np.cumsum(gaps)])
            share = np.clip(0.5 + 0.2 * loudness + 0.15 * rng.standard_normal(), 0.0, 1.0)
            forces = force * 0.5 ** np.arange(bounces + 1)
            agenda.add(times, _two_points(forces, np.full(bounces + 1, share)))
            time += float(np.exp(manner.irregularity * rng.standard_normal())) / manner.rate
        yield agenda.next()


def _destruct(
    manner: Manner, material: Material, sample_rate: int, rng: np.random.Generator
) -> Iterator[Float32Array]:
    """A blow, a crack, and a cascade of pieces that fall, again and again."""
    agenda = _Agenda(3, sample_rate)
    time = float(rng.uniform(0.0, 0.4 / manner.rate))
    while True:
        while time < agenda.end:
            force = min(0.8 * float(np.exp(manner.force_spread * rng.standard_normal())), 1.4)
            count = int(rng.poisson(material.fragments * np.exp(0.3 * rng.standard_normal())))
            settling = material.cascade * (0.4 + 0.8 * manner.depth)
            delays = rng.gamma(1.0 + manner.grain, settling, count)
            sizes = rng.choice(3, count, p=(0.15, 0.35, 0.5))
            forces = 0.3 * force * np.exp(0.8 * rng.standard_normal(count) - 0.7 * delays)
            times = np.concatenate([[time], time + delays])
            pieces = np.zeros((3, count + 1))
            pieces[0, 0] = force
            pieces[sizes, np.arange(1, count + 1)] = forces
            agenda.add(times, pieces)
            time += float(np.exp(manner.irregularity * rng.standard_normal())) / manner.rate
        yield agenda.next()


def _rub(
    manner: Manner, material: Material, sample_rate: int, rng: np.random.Generator
) -> Iterator[Float32Array]:
    """Friction noise in strokes to and fro; faster parts of a stroke are brighter."""
    slow, grains, fine = rng.spawn(3)
    phase = _Phase(slow, 0.5 * manner.rate, manner.irregularity)
    force = _Drift(slow, seconds=0.5)
    rest = 0.4 * manner.depth
    while True:
        speed = np.abs(np.sin(2.0 * np.pi * phase.next()))
        pressed = np.maximum(speed - rest, 0.0) / (1.0 - rest)
        pressed = pressed**1.3 * np.exp(manner.force_spread * force.next())
        surface = _surface(manner.grain, material.grain * (0.3 + speed), grains, fine, sample_rate)
        yield _spread(surface, pressed, 0.2 + 0.7 * speed, sample_rate)


def _whirl(
    manner: Manner, material: Material, sample_rate: int, rng: np.random.Generator
) -> Iterator[Float32Array]:
    """Something rolls round and round: grains whose density and place follow the turn."""
    slow, grains, fine = rng.spawn(3)
    phase = _Phase(slow, manner.rate, 0.6 * manner.irregularity)
    force = _Drift(slow, seconds=1.0)
    while True:
        turn = np.cos(2.0 * np.pi * phase.next())
        swell = (1.0 + 0.6 * manner.depth * turn) * np.exp(0.6 * manner.force_spread * force.next())
        density = material.grain * (1.0 + 0.5 * manner.depth * turn)
        surface = _surface(manner.grain, density, grains, fine, sample_rate)
        yield _spread(surface, swell, 0.5 + 0.4 * turn, sample_rate)


def _surface(
    grain: float,
    density: Float64Array,
    grains: np.random.Generator,
    fine: np.random.Generator,
    sample_rate: int,
) -> Float32Array:
    """One block of texture with about unit variance: pulses at a density, and noise."""
    size = BLOCK_SECONDS * sample_rate
    counts = grains.poisson(density[1:] / _TICKS_PER_SECOND)
    ticks = np.repeat(np.arange(_TICKS), counts) + grains.uniform(size=counts.sum())
    strengths = np.exp(_GRAIN_SIGMA * grains.standard_normal(len(ticks)))
    signs = grains.choice((-1.0, 1.0), len(ticks))
    scale = np.sqrt(grain * sample_rate / (density.mean() * _GRAIN_POWER))
    positions = (ticks * (sample_rate / _TICKS_PER_SECOND)).astype(np.int64)
    block = fine.standard_normal(size, dtype=np.float32)
    block *= np.float32(np.sqrt(1.0 - grain))
    np.add.at(block, positions, (scale * strengths * signs).astype(np.float32))
    return block


def _spread(
    surface: Float32Array, level: Float64Array, share: Float64Array, sample_rate: int
) -> Float32Array:
    """Shape a texture by levels at the ticks and share it between the two points."""
    samples = np.arange(len(surface)) * (_TICKS_PER_SECOND / sample_rate)
    ticks = np.arange(_TICKS + 1)
    return np.stack(
        [
            surface * np.interp(samples, ticks, level * part).astype(np.float32)
            for part in (1.0 - share, share)
        ]
    )


ACTION_TABLE = MappingProxyType(
    {
        "tap": Action(_tap, rate=2.2, grain=0.0, damping=1.0, kind="impact"),
        "rub": Action(_rub, rate=2.4, grain=0.2, damping=2.5, kind="texture"),
        "destruct": Action(
            _destruct, rate=0.5, grain=0.3, damping=1.5, kind="impact", sizes=(1.0, 0.6, 0.35)
        ),
        "whirl": Action(_whirl, rate=1.3, grain=0.8, damping=1.6, kind="texture"),
    }
)
