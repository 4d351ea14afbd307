"""Modal synthesis: what a struck object sounds like.

A solid body answers a force with a sum of damped sinusoids, its modes. The material decides how
the modes' frequencies are spread and how fast they die away, the size shifts all frequencies, and
the contact decides how many of the high modes are woken (van den Doel and Pai, "The sounds of
physical shapes", Presence 7(4), 1998; Gaver, "What in the world do we hear?", Ecological
Psychology 5(1), 1993). The constants below are round numbers for hand-sized objects, chosen to
sound right, not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

__all__ = ["MATERIAL_TABLE", "Body", "Material", "impulse_response", "make_body"]

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

# Modes closer to the Nyquist frequency than this share of the sample rate are left out.
_HIGHEST_MODE = 0.47
_LONGEST_RESPONSE = 2.5
# A response is cut where its slowest mode has fallen by this many nepers (60 dB).
_NEPERS_60_DB = float(np.log(1000.0))
# Columns of the matrix product that evaluates the modes; any value gives the same response.
_COLUMNS = 256


@dataclass(frozen=True)
class Material:
    """What all objects of one material have in common.

    Attributes:
        lowest: Frequency of the lowest mode of a medium-sized object, Hz.
        modes: Number of modes.
        spread: Distance from the first mode to the second, as a share of the first.
        growth: Exponent of that distance over the mode number: above 1 for bars and shells, whose
            modes move apart, below 1 for solid blocks, whose modes crowd together.
        loss: Loss factor; a mode of frequency f decays with ``rubbing + pi * loss * f`` nepers
            per second.
        rubbing: Decay rate that does not depend on the frequency, nepers per second.
        contact: Contact time of a strike, seconds; longer is duller.
        burst: Level of the noise of the contact itself against the modes, as amplitude.
        burst_time: Decay time of that noise, seconds.
        grain: Contacts per second when something rolls or scrapes over the surface.
        fragments: Number of pieces that fall when the object breaks.
        cascade: Time that they take to settle, seconds.
    """

    lowest: float
    modes: int
    spread: float
    growth: float
    loss: float
    rubbing: float
    contact: float
    burst: float
    burst_time: float
    grain: float
    fragments: float
    cascade: float


MATERIAL_TABLE = MappingProxyType(
    {
        "wood": Material(
            lowest=330.0,
            modes=16,
            spread=0.9,
            growth=1.25,
            loss=0.016,
            rubbing=22.0,
            contact=6e-4,
            burst=0.35,
            burst_time=0.006,
            grain=160.0,
            fragments=45.0,
            cascade=0.22,
        ),
        "metal": Material(
            lowest=480.0,
            modes=40,
            spread=0.7,
            growth=1.1,
            loss=0.0008,
            rubbing=2.2,
            contact=2e-4,
            burst=0.06,
            burst_time=0.003,
            grain=240.0,
            fragments=45.0,
            cascade=0.35,
        ),
        "glass": Material(
            lowest=1050.0,
            modes=18,
            spread=0.95,
            growth=1.15,
            loss=0.0028,
            rubbing=5.0,
            contact=1.5e-4,
            burst=0.08,
            burst_time=0.002,
            grain=320.0,
            fragments=140.0,
            cascade=0.4,
        ),
        "stone": Material(
            lowest=800.0,
            modes=30,
            spread=0.38,
            growth=0.9,
            loss=0.011,
            rubbing=18.0,
            contact=2.5e-4,
            burst=0.3,
            burst_time=0.004,
            grain=120.0,
            fragments=100.0,
            cascade=0.5,
        ),
        "cardboard": Material(
            lowest=170.0,
            modes=24,
            spread=0.5,
            growth=0.95,
            loss=0.06,
            rubbing=90.0,
            contact=1.2e-3,
            burst=0.9,
            burst_time=0.009,
            grain=400.0,
            fragments=220.0,
            cascade=0.3,
        ),
        "plastic": Material(
            lowest=420.0,
            modes=18,
            spread=0.6,
            growth=1.05,
            loss=0.026,
            rubbing=30.0,
            contact=4e-4,
            burst=0.4,
            burst_time=0.006,
            grain=240.0,
            fragments=70.0,
            cascade=0.22,
        ),
    }
)


@dataclass(frozen=True)
class Body:
    """One object: its modes, and the noise of touching it.

    Attributes:
        frequencies: ``(modes,)`` Hz.
        decays: ``(modes,)`` nepers per second.
        shapes: ``(points, modes)`` how strongly each mode is woken at each point of contact.
        contact: Contact time, seconds.
        burst: Level of the contact noise against the modes, as amplitude.
        burst_time: Its decay time, seconds.
        tilt: Exponent over the frequency (re 1 kHz) with which the object and the microphone
            colour the sound.
    """

    frequencies: Float64Array
    decays: Float64Array
    shapes: Float64Array
    contact: float
    burst: float
    burst_time: float
    tilt: float

    def amplitudes(self, point: int) -> Float64Array:
        """``(modes,)`` amplitudes of the modes after a unit strike on a point."""
        return self.shapes[point] * self.colour(self.frequencies, self.contact)

    def colour(self, frequencies: Float64Array, contact: float) -> Float64Array:
        """Gain at the given frequencies: contact low-pass times tilt."""
        return (np.maximum(frequencies, 20.0) / 1000.0) ** self.tilt / (
            1.0 + (frequencies * contact) ** 2
        )

    def energies(self) -> Float64Array:
        """``(modes,)`` energy that each mode gives off after a strike, mean over the points."""
        amplitudes = np.array([self.amplitudes(point) for point in range(len(self.shapes))])
        return (amplitudes**2).mean(axis=0) / (4.0 * self.decays)

    def centroid(self) -> float:
        """Energy-weighted mean frequency of the modes, Hz."""
        return float(np.average(self.frequencies, weights=self.energies()))

    def reverberation_time(self) -> float:
        """Time in which the modes fall by 60 dB, seconds, mean weighted by their energy."""
        return float(np.average(_NEPERS_60_DB / self.decays, weights=self.energies()))


def make_body(
    material: Material,
    rng: np.random.Generator,
    *,
    points: int = 2,
    size: float = 1.0,
    damping: float = 1.0,
    contact: float = 1.0,
    burst: float = 1.0,
    tilt: float = 0.0,
) -> Body:
    """Draw one object of a material.

    Args:
        material: What it is made of.
        rng: Draws the inharmonicity and the points of contact.
        points: Number of points where it can be touched.
        size: Linear size against a medium object; frequencies fall with it.
        damping: Factor on all decay rates (a hand that holds the object, a table under it).
        contact: Factor on the contact time (a soft or a hard striker).
        burst: Factor on the level of the contact noise.
        tilt: See `Body`.
    """
    numbers = np.arange(material.modes)
    ratios = 1.0 + material.spread * numbers**material.growth
    ratios[1:] *= np.exp(0.06 * rng.standard_normal(material.modes - 1))
    frequencies = np.asarray(material.lowest / size * ratios, dtype=np.float64)
    friction = material.rubbing + np.pi * material.loss * frequencies
    decays = np.asarray(damping * friction, dtype=np.float64)
    decays *= np.exp(0.2 * rng.standard_normal(material.modes))
    return Body(
        frequencies=frequencies,
        decays=decays,
        shapes=np.exp(0.7 * rng.standard_normal((points, material.modes))),
        contact=material.contact * contact,
        burst=material.burst * burst,
        burst_time=material.burst_time,
        tilt=tilt,
    )


def impulse_response(
    body: Body, point: int, sample_rate: int, rng: np.random.Generator, *, softness: float = 1.0
) -> Float32Array:
    """The sound of one unit strike.

    Args:
        body: The object.
        point: Where it is struck, a row of `Body.shapes`.
        sample_rate: In Hz; modes above its Nyquist frequency stay silent.
        rng: Draws the noise of the contact.
        softness: Factor on the contact time of this strike.

    Returns:
        ``(time,)`` float32 that starts at 0 and ends at -60 dB or less. Its energy is 1 if all
        modes lie below the Nyquist frequency and there is no contact noise.
    """
    amplitudes = body.shapes[point] * body.colour(body.frequencies, softness * body.contact)
    amplitudes /= np.sqrt((amplitudes**2 / (4.0 * body.decays)).sum() * sample_rate)
    heard = body.frequencies < _HIGHEST_MODE * sample_rate
    slowest = body.decays[heard].min(initial=np.inf)
    noise = _contact_noise(body, softness, sample_rate, rng)
    seconds = min(_LONGEST_RESPONSE, _NEPERS_60_DB / slowest)
    length = max(len(noise), int(seconds * sample_rate))
    response = _ring(
        amplitudes[heard], body.frequencies[heard], body.decays[heard], length, sample_rate
    )
    response[: len(noise)] += noise
    fade = length // 10
    if fade:
        response[-fade:] *= np.linspace(1.0, 0.0, fade, dtype=np.float32) ** 2
    return response


def _ring(
    amplitudes: Float64Array,
    frequencies: Float64Array,
    decays: Float64Array,
    length: int,
    sample_rate: int,
) -> Float32Array:
    """Sum of damped sines, ``(length,)``.

    With z = exp((-decay + 2 pi i frequency) / sample_rate), sample ``r * columns + c`` is the
    imaginary part of sum over modes of amplitude * z^(r * columns) * z^c: one matrix product.
    """
    rows = -(-length // _COLUMNS)
    step = (-decays + 2j * np.pi * frequencies) / sample_rate
    left = amplitudes * np.exp(np.outer(np.arange(rows) * _COLUMNS, step))
    right = np.exp(np.outer(step, np.arange(_COLUMNS)))
    # Im(a b) = Re(a) Im(b) + Im(a) Re(b), as one real product of twice the inner size.
    left_parts = np.concatenate([left.real, left.imag], axis=1).astype(np.float32)
    right_parts = np.concatenate([right.imag, right.real]).astype(np.float32)
    return (left_parts @ right_parts).reshape(-1)[:length]


def _contact_noise(
    body: Body, softness: float, sample_rate: int, rng: np.random.Generator
) -> Float32Array:
    """Coloured noise that dies away, energy ``burst**2``; coloured first, so it stays causal."""
    length = max(2, int(7.0 * body.burst_time * sample_rate))
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequencies = np.asarray(np.fft.rfftfreq(length, 1.0 / sample_rate), dtype=np.float64)
    noise = np.fft.irfft(
        spectrum * body.colour(frequencies, softness * body.contact), length
    ) * np.exp(-np.arange(length) / (body.burst_time * sample_rate))
    noise *= body.burst / max(float(np.sqrt((noise**2).sum())), 1e-12)
    return noise.astype(np.float32)
