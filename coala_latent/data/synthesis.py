"""Built-in sounds: 6 materials x 4 actions, synthesised from seeds.

A *condition* is a material and an action. A *take* of it is another object (size, modes, damping),
another gesture (rate, force, regularity), another room, microphone and noise floor; nothing but
the material's and the action's own constants is shared between takes. Within a take, an *index*
is another performance with the same object in the same room, so that performances of one take
resemble each other more than they should for a fair test: keep a take in one split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from coala_latent.data.gestures import ACTION_TABLE, Manner
from coala_latent.data.modal import MATERIAL_TABLE, Body, impulse_response, make_body
from coala_latent.errors import ConfigError
from coala_latent.types import Sound

__all__ = [
    "ACTIONS",
    "DEFAULT_SAMPLE_RATE",
    "MATERIALS",
    "condition_tags",
    "synthesise",
    "synthesise_blocks",
]

Float32Array = npt.NDArray[np.float32]

MATERIALS: tuple[str, ...] = tuple(MATERIAL_TABLE)
ACTIONS: tuple[str, ...] = tuple(ACTION_TABLE)
DEFAULT_SAMPLE_RATE = 22050
_SAMPLE_RATES = (8000, 96000)

# Peak of a usual strike, and root mean square of a usual texture, before the take's gain.
_STRIKE_PEAK = 0.8
_TEXTURE_RMS = 0.12
# The two points of contact are struck with a soft and a hard part of the same striker.
_SOFTNESS = (1.6, 0.7)
_ECHOES = 48


@dataclass(frozen=True)
class _Take:
    """All that stays the same during one take.

    Attributes:
        bodies: What sounds: one object, or the pieces it breaks into.
        manner: How the action is done.
        echo: Level of the room's echoes against the direct sound, as amplitude.
        echo_time: Time in which they fall by 60 dB, seconds.
        noise_db: Noise floor against a usual texture, dB.
        noise_cutoff: Above this frequency the noise floor falls, Hz.
        gain_db: Level of the recording, dB.
    """

    bodies: tuple[Body, ...]
    manner: Manner
    echo: float
    echo_time: float
    noise_db: float
    noise_cutoff: float
    gain_db: float


def synthesise(
    material: str,
    action: str,
    *,
    take: int = 0,
    index: int = 0,
    duration: float = 4.0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    seed: int = 0,
) -> Sound:
    """Synthesise one recording.

    The sound depends on the arguments alone. A longer one begins like a shorter one, and at
    another sample rate the same events happen at the same times.

    Args:
        material: One of `MATERIALS`.
        action: One of `ACTIONS`.
        take: Object, gesture and room; see the module's docstring.
        index: Performance within the take.
        duration: Seconds, 0 or more.
        sample_rate: In Hz, 8000 to 96000.
        seed: Another seed is another world of takes.

    Returns:
        Mono sound, ``(time,)`` float32 within [-1, 1].

    Raises:
        ConfigError: An argument is not one of the choices or out of range.
    """
    samples = np.zeros(_sample_count(duration, sample_rate), dtype=np.float32)
    start = 0
    for block in synthesise_blocks(
        material,
        action,
        take=take,
        index=index,
        duration=duration,
        sample_rate=sample_rate,
        seed=seed,
    ):
        samples[start : start + len(block)] = block
        start += len(block)
    return Sound(samples, sample_rate, source=f"{material}_{action}/{take}-{index}")


def synthesise_blocks(
    material: str,
    action: str,
    *,
    take: int = 0,
    index: int = 0,
    duration: float = 4.0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    seed: int = 0,
) -> Iterator[Float32Array]:
    """Yield the samples of `synthesise` in blocks of a few seconds, for long recordings.

    Args and errors are those of `synthesise`; they are checked before the first block.
    """
    size = _sample_count(duration, sample_rate)
    scene = _draw_take(material, action, take, seed)
    performance = _generator(material, action, take, seed, stream=1, index=index)
    # Drawn per sample, so apart from the take's own draws: those do not know the sample rate.
    detail = _generator(material, action, take, seed, stream=2)

    def blocks() -> Iterator[Float32Array]:
        remaining = size
        if not remaining:
            return
        room = _room(scene, sample_rate, detail)
        responses = _responses(scene, action, sample_rate, detail)
        forces = _excite(scene, material, action, sample_rate, performance)
        for sound in _overlap_add(forces, responses, room):
            yield _limit(sound[:remaining])
            remaining -= len(sound)
            if remaining <= 0:
                return

    return blocks()


def condition_tags(material: str, action: str, take: int = 0, seed: int = 0) -> tuple[str, ...]:
    """Words that describe a take: material, action, and what can be heard.

    They are the material, the action, ``impact`` or ``texture``, ``bright`` or ``dull`` (where the
    energy of the modes lies), ``resonant`` or ``dry`` (how long they ring), ``fast`` or ``slow``
    (against the usual rate of the action), ``indoor`` or ``outdoor`` (echoes or none to speak of),
    ``noisy`` or ``clean`` (the noise floor).

    Raises:
        ConfigError: An argument is not one of the choices or out of range.
    """
    scene = _draw_take(material, action, take, seed)
    usual = ACTION_TABLE[action]
    body = scene.bodies[0]
    return (
        material,
        action,
        usual.kind,
        "bright" if body.centroid() > 1000.0 else "dull",
        "resonant" if body.reverberation_time() > 0.2 else "dry",
        "fast" if scene.manner.rate > usual.rate else "slow",
        "indoor" if scene.echo > 0.3 else "outdoor",
        "noisy" if scene.noise_db > -40.0 else "clean",
    )


def _sample_count(duration: float, sample_rate: int) -> int:
    if not _SAMPLE_RATES[0] <= sample_rate <= _SAMPLE_RATES[1]:
        raise ConfigError(
            f"sample_rate must lie within {_SAMPLE_RATES[0]} and {_SAMPLE_RATES[1]} Hz, "
            f"got {sample_rate}"
        )
    if not (np.isfinite(duration) and duration >= 0):
        raise ConfigError(f"duration must be 0 or more seconds, got {duration}")
    return round(duration * sample_rate)


def _generator(
    material: str, action: str, take: int, seed: int, *, stream: int, index: int = 0
) -> np.random.Generator:
    """Independent random numbers for each condition, take, stream and performance."""
    for name, value, choices in (("material", material, MATERIALS), ("action", action, ACTIONS)):
        if value not in choices:
            raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    for name, number in (("take", take), ("seed", seed), ("index", index)):
        if number < 0:
            raise ConfigError(f"{name} must be 0 or more, got {number}")
    key = (MATERIALS.index(material), ACTIONS.index(action), take, stream, index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _draw_take(material: str, action: str, take: int, seed: int) -> _Take:
    rng = _generator(material, action, take, seed, stream=0)
    usual = ACTION_TABLE[action]

    def vary(spread: float) -> float:
        return float(np.exp(spread * rng.standard_normal()))

    size, damping, contact, burst = vary(0.25), vary(0.3), vary(0.25), vary(0.3)
    tilt = float(rng.uniform(-0.15, 0.15))
    bodies = tuple(
        make_body(
            MATERIAL_TABLE[material],
            rng,
            size=size * part,
            damping=damping * usual.damping,
            contact=contact,
            burst=burst,
            tilt=tilt,
        )
        for part in usual.sizes
    )
    manner = Manner(
        rate=usual.rate * vary(0.3),
        irregularity=float(rng.uniform(0.05, 0.4)),
        force_spread=float(rng.uniform(0.1, 0.5)),
        depth=float(rng.uniform(0.2, 0.9)),
        grain=float(np.clip(usual.grain + 0.1 * rng.standard_normal(), 0.0, 1.0)),
    )
    return _Take(
        bodies=bodies,
        manner=manner,
        echo=float(rng.uniform(0.0, 0.6)),
        echo_time=float(rng.uniform(0.1, 0.4)),
        noise_db=float(rng.uniform(-56.0, -28.0)),
        noise_cutoff=float(200.0 * vary(0.4)),
        gain_db=float(rng.uniform(-8.0, 0.0)),
    )


def _responses(
    scene: _Take, action: str, sample_rate: int, rng: np.random.Generator
) -> list[Float32Array]:
    """One response for each channel of the gesture, and one for the noise floor."""
    if len(scene.bodies) > 1:
        parts = [(body, 0, 1.0) for body in scene.bodies]
    else:
        parts = [(scene.bodies[0], point, softness) for point, softness in enumerate(_SOFTNESS)]
    responses = [
        impulse_response(body, point, sample_rate, rng, softness=softness)
        for body, point, softness in parts
    ]
    if ACTION_TABLE[action].kind == "impact":
        level = _STRIKE_PEAK / max(float(np.abs(response).max()) for response in responses)
    else:
        level = _TEXTURE_RMS / max(float(np.linalg.norm(response)) for response in responses)
    gain = np.float32(level * 10.0 ** (scene.gain_db / 20.0))
    return [*(gain * response for response in responses), _floor(scene, sample_rate)]


def _room(scene: _Take, sample_rate: int, rng: np.random.Generator) -> Float32Array:
    """Response of the room: the direct sound, then echoes whose energy is ``echo**2``."""
    delays = rng.uniform(0.003, 0.6 * scene.echo_time, _ECHOES)
    gains = rng.standard_normal(_ECHOES) * 1000.0 ** (-delays / scene.echo_time)
    gains *= scene.echo / np.sqrt((gains**2).sum())
    positions = (delays * sample_rate).astype(np.int64)
    response = np.zeros(int(positions.max()) + 1, dtype=np.float32)
    response[0] = 1.0
    np.add.at(response, positions, gains.astype(np.float32))
    return response


def _floor(scene: _Take, sample_rate: int) -> Float32Array:
    """Filter of the noise floor: a hiss, and a rumble below the cut-off."""
    decay = 2.0 * np.pi * scene.noise_cutoff / sample_rate
    response = np.exp(-decay * np.arange(int(7.0 / decay) + 1))
    response /= np.sqrt((response**2).sum())
    response[0] += 0.25
    level = _TEXTURE_RMS * 10.0 ** ((scene.noise_db + scene.gain_db) / 20.0)
    return (level * response).astype(np.float32)


def _excite(
    scene: _Take, material: str, action: str, sample_rate: int, rng: np.random.Generator
) -> Iterator[Float32Array]:
    """Endless blocks ``(channels, time)``: the gesture's, and white noise for the floor."""
    hand, floor = rng.spawn(2)
    gesture = ACTION_TABLE[action].excite
    for block in gesture(scene.manner, MATERIAL_TABLE[material], sample_rate, hand):
        hiss = floor.standard_normal((1, block.shape[1]), dtype=np.float32)
        yield np.concatenate([block, hiss])


def _overlap_add(
    blocks: Iterator[Float32Array], responses: list[Float32Array], room: Float32Array
) -> Iterator[Float32Array]:
    """Convolve each channel with its response, sum them, and convolve with the room.

    The result is the convolution of the blocks' concatenation, whatever their length.

    Args:
        blocks: Each ``(channels, time)``, all of the same shape.
        responses: One ``(time,)`` for each channel.
        room: ``(time,)``.

    Yields:
        ``(time,)`` float32, as long as the block.
    """
    overlap = max(map(len, responses)) + len(room) - 2
    spectra: npt.NDArray[np.complex64] | None = None
    tail = np.zeros(overlap, dtype=np.float32)
    padded = 0
    for block in blocks:
        size = block.shape[1] + overlap
        if spectra is None:
            # SciPy's transforms, because NumPy's take three times as long in float32.
            padded = fft.next_fast_len(size, real=True)
            spectra = np.stack([fft.rfft(response, padded) for response in responses])
            spectra *= fft.rfft(room, padded)
        total = (fft.rfft(block, padded) * spectra).sum(axis=0)
        sound = fft.irfft(total, padded)[:size]
        sound[:overlap] += tail
        yield sound[: block.shape[1]]
        tail = sound[block.shape[1] :]


def _limit(samples: Float32Array) -> Float32Array:
    """Round off peaks so that nothing leaves [-1, 1]; nearly the identity below 0.5."""
    squared = samples * samples
    return np.asarray(samples / np.sqrt(np.sqrt(1.0 + squared * squared)), dtype=np.float32)
