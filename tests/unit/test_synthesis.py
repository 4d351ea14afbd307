from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from scipy import fft

from coala_latent.data import synthesis
from coala_latent.data.modal import MATERIAL_TABLE, Body, impulse_response, make_body
from coala_latent.data.synthesis import (
    ACTIONS,
    MATERIALS,
    condition_tags,
    synthesise,
    synthesise_blocks,
)
from coala_latent.errors import ConfigError

CONDITIONS = list(product(MATERIALS, ACTIONS))


def bodies(material: str, count: int = 15) -> list[Body]:
    rng = np.random.default_rng(5)
    sizes = np.exp(0.25 * rng.standard_normal(count))
    return [make_body(MATERIAL_TABLE[material], rng, size=size) for size in sizes]


def strike(body: Body, sample_rate: int = 22050) -> np.ndarray:
    return impulse_response(body, 0, sample_rate, np.random.default_rng(0))


def centroid(samples: np.ndarray, sample_rate: int = 22050) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(np.average(np.fft.rfftfreq(len(samples), 1 / sample_rate), weights=power))


def decay_time(samples: np.ndarray, sample_rate: int = 22050) -> float:
    """Time to fall by 20 dB in Schroeder's backward integration, seconds."""
    left = np.cumsum(samples[::-1].astype(np.float64) ** 2)[::-1]
    return float(np.argmax(left < 0.01 * left[0]) / sample_rate)


def median_over_bodies(measure, material: str) -> float:
    return float(np.median([measure(strike(body)) for body in bodies(material)]))


@pytest.mark.parametrize(("material", "action"), CONDITIONS)
def test_every_condition_is_audible_and_within_range(material, action):
    sound = synthesise(material, action)
    assert sound.sample_rate == 22050
    assert sound.samples.shape == (88200,)
    assert sound.samples.dtype == np.float32
    assert np.isfinite(sound.samples).all()
    assert 0.1 < np.abs(sound.samples).max() <= 1.0
    assert sound.samples.std() > 0.002


def test_same_arguments_give_the_same_bits_and_each_argument_matters():
    base = {"take": 1, "index": 2, "seed": 3, "duration": 2.0}
    first = synthesise("glass", "destruct", **base).samples
    assert np.array_equal(first, synthesise("glass", "destruct", **base).samples)
    for change in ({"take": 2}, {"index": 1}, {"seed": 4}):
        other = synthesise("glass", "destruct", **base | change).samples
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.2, change


def test_no_two_conditions_share_their_random_numbers():
    sounds = np.stack([synthesise(m, a, duration=1.0).samples for m, a in CONDITIONS])
    correlations = np.corrcoef(sounds) - np.eye(len(sounds))
    assert np.abs(correlations).max() < 0.3


@pytest.mark.parametrize("action", ACTIONS)
def test_a_longer_recording_begins_like_a_shorter_one(action):
    short = synthesise("metal", action, duration=3.3).samples
    middle = synthesise("metal", action, duration=5.0).samples
    long = synthesise("metal", action, duration=9.0).samples
    assert np.array_equal(short, long[: len(short)])
    assert np.array_equal(middle, long[: len(middle)])


def test_blocks_join_to_the_whole():
    whole = synthesise("wood", "rub", duration=9.5).samples
    blocks = list(synthesise_blocks("wood", "rub", duration=9.5))
    assert len(blocks) > 1
    assert np.array_equal(np.concatenate(blocks), whole)


@pytest.mark.parametrize("cuts", [1, 2, 7])
def test_overlap_add_is_one_convolution_whatever_the_block(cuts):
    rng = np.random.default_rng(0)
    force = rng.standard_normal((2, 420)).astype(np.float32)
    responses = [rng.standard_normal(n).astype(np.float32) for n in (150, 31)]
    room = rng.standard_normal(40).astype(np.float32)
    blocks = iter(np.split(force, cuts, axis=1))
    joined = np.concatenate(list(synthesis._overlap_add(blocks, responses, room)))
    summed = sum(
        np.convolve(np.convolve(f, r), room)[:420] for f, r in zip(force, responses, strict=True)
    )
    np.testing.assert_allclose(joined, summed, atol=1e-5 * np.abs(summed).max())


@pytest.mark.parametrize("action", ACTIONS)
def test_block_borders_do_not_click(action):
    samples = synthesise("plastic", action, duration=60.0, take=3).samples
    # A click is a jump of the waveform: compare the borders with all other places.
    bend = np.abs(np.diff(samples, 2))
    length = 4 * 22050
    borders = np.concatenate([bend[k * length - 3 : k * length + 2] for k in range(1, 15)])
    assert borders.mean() < 3.0 * bend.mean()
    assert borders.max() <= bend.max()


@pytest.mark.parametrize(("material", "action"), [("metal", "tap"), ("wood", "whirl")])
def test_a_long_recording_does_not_repeat(material, action):
    samples = synthesise(material, action, duration=40.0).samples.astype(np.float64)
    spectrum = np.abs(fft.rfft(samples, 2 * len(samples))) ** 2
    correlation = fft.irfft(spectrum)[: len(samples)]
    far = np.abs(correlation[3 * 22050 :]).max() / correlation[0]
    assert far < 0.3
    blocks = samples.reshape(10, -1)
    assert np.abs(np.corrcoef(blocks) - np.eye(10)).max() < 0.4


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 44100, 48000, 96000])
def test_other_sample_rates_hold_the_same_performance(sample_rate):
    def envelope(samples: np.ndarray, rate: int) -> np.ndarray:
        starts = (np.arange(0, 4.0, 0.02) * rate).astype(int)
        return np.sqrt(np.add.reduceat(samples.astype(np.float64) ** 2, starts) / rate)

    sound = synthesise("wood", "tap", take=2, sample_rate=sample_rate)
    assert sound.samples.shape == (4 * sample_rate,)
    reference = synthesise("wood", "tap", take=2)
    pair = envelope(sound.samples, sample_rate), envelope(reference.samples, 22050)
    assert np.corrcoef(*pair)[0, 1] > 0.9


@pytest.mark.parametrize(("material", "action"), CONDITIONS)
def test_lowest_sample_rate_keeps_every_condition_audible(material, action):
    sound = synthesise(material, action, sample_rate=8000, take=1)
    assert np.isfinite(sound.samples).all()
    assert np.abs(sound.samples).max() > 0.1


@pytest.mark.parametrize(
    ("duration", "size"), [(0.0, 0), (1 / 22050, 1), (0.00001, 0), (0.5, 11025)]
)
def test_short_durations_have_the_right_length(duration, size):
    assert synthesise("stone", "whirl", duration=duration).samples.shape == (size,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"material": "Wood"}, "wood, metal, glass, stone, cardboard, plastic"),
        ({"action": "kick"}, "tap, rub, destruct, whirl"),
        ({"duration": -1.0}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"duration": float("inf")}, "duration"),
        ({"sample_rate": 4000}, "8000"),
        ({"sample_rate": 192000}, "96000"),
        ({"take": -1}, "take"),
        ({"seed": -1}, "seed"),
        ({"index": -1}, "index"),
    ],
)
def test_wrong_arguments_are_refused_before_the_first_block(arguments, message):
    names = {"material": "wood", "action": "tap"} | arguments
    with pytest.raises(ConfigError, match=message):
        synthesise(**names)
    with pytest.raises(ConfigError, match=message):
        synthesise_blocks(**names)


def test_materials_ring_in_the_order_of_their_damping():
    times = {material: median_over_bodies(decay_time, material) for material in MATERIALS}
    order = ["metal", "glass", "stone", "plastic", "cardboard"]
    assert all(times[a] > 1.2 * times[b] for a, b in pairwise(order)), times
    assert times["glass"] > times["wood"] > times["plastic"], times


def test_materials_are_as_bright_as_they_should_be():
    bright = {material: median_over_bodies(centroid, material) for material in MATERIALS}
    assert min(bright[m] for m in ("glass", "metal", "stone")) > 1.2 * bright["wood"], bright
    assert min(bright, key=bright.__getitem__) == "cardboard"
    assert max(bright, key=bright.__getitem__) == "glass"


def test_larger_objects_are_lower_and_softer_strikes_duller():
    rng = np.random.default_rng
    wood = MATERIAL_TABLE["wood"]
    small, large = (centroid(strike(make_body(wood, rng(1), size=s))) for s in (0.5, 2.0))
    assert large < 0.6 * small
    body = make_body(wood, rng(1))
    hard, soft = (impulse_response(body, 0, 22050, rng(2), softness=s) for s in (0.3, 5.0))
    assert centroid(soft) < centroid(hard)


def test_impulse_response_is_the_sum_of_damped_sines():
    body = Body(
        frequencies=np.array([300.0, 1234.5, 30000.0]),
        decays=np.array([8.0, 30.0, 10.0]),
        shapes=np.ones((1, 3)),
        contact=0.0,
        burst=0.0,
        burst_time=0.001,
        tilt=0.0,
    )
    response = strike(body)
    time = np.arange(len(response)) / 22050
    modes = np.exp(-np.outer(body.decays, time)) * np.sin(
        2 * np.pi * np.outer(body.frequencies, time)
    )
    # The third mode lies above the Nyquist frequency and is left out, but keeps its energy.
    expected = modes[:2].sum(axis=0) / np.sqrt((1 / (4 * body.decays)).sum() * 22050)
    kept = int(0.9 * len(response))
    np.testing.assert_allclose(response[:kept], expected[:kept], atol=2e-5)
    assert abs(response[-1]) < 1e-6


def test_taps_are_separate_and_whirls_are_not():
    def quiet_share(action: str) -> float:
        shares = []
        for take in range(4):
            samples = synthesise("wood", action, take=take).samples
            power = (samples[: 88200 // 441 * 441].reshape(-1, 441) ** 2).mean(axis=1)
            shares.append((power < 0.03 * power.max()).mean())
        return float(np.mean(shares))

    assert quiet_share("tap") > 0.7
    assert quiet_share("whirl") < 0.4
    assert quiet_share("tap") > quiet_share("rub") > quiet_share("whirl")


def test_tags_hold_the_condition_and_one_word_of_each_pair():
    pairs = [
        {"impact", "texture"},
        {"bright", "dull"},
        {"resonant", "dry"},
        {"fast", "slow"},
        {"indoor", "outdoor"},
        {"noisy", "clean"},
    ]
    for material, action in CONDITIONS:
        tags = condition_tags(material, action, take=1, seed=2)
        assert tags[:2] == (material, action)
        assert [len(pair & set(tags)) for pair in pairs] == [1] * len(pairs)
        assert len(tags) == 8


def test_every_tag_is_sometimes_given_and_sometimes_not():
    rows = [condition_tags(m, a, take=t) for m, a in CONDITIONS for t in range(8)]
    for tag in sorted({tag for row in rows for tag in row}):
        share = np.mean([tag in row for row in rows])
        assert 0.1 < share < 0.9, tag


def test_tags_are_true_of_the_sound():
    takes = [(m, t) for m in MATERIALS for t in range(10)]
    tags = [condition_tags(m, "tap", t) for m, t in takes]
    sounds = [synthesise(m, "tap", take=t).samples for m, t in takes]

    def medians(measure, word: str) -> tuple[float, float]:
        values = np.array([measure(sound) for sound in sounds])
        mask = np.array([word in row for row in tags])
        return float(np.median(values[mask])), float(np.median(values[~mask]))

    def quietest(sound: np.ndarray) -> float:
        power = (sound.reshape(200, -1) ** 2).mean(axis=1)
        return float(np.log10(np.quantile(power, 0.02)))

    bright, dull = medians(centroid, "bright")
    assert bright > 1.5 * dull
    noisy, clean = medians(quietest, "noisy")
    assert noisy > clean + 0.5
