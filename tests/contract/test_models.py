"""What every model of the registry must hold: one file, parametrised over `list_models()`."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from coala_latent import Sound, list_models, load_model, model_card
from coala_latent.embed.pooling import POOLINGS, pooled_size
from coala_latent.errors import (
    AudioEmptyError,
    AudioError,
    AudioTooShortError,
    AudioValueError,
    ConfigError,
)
from coala_latent.registry import build_model
from coala_latent.registry.architectures import ARCHITECTURES
from coala_latent.store import Store, merge_stores
from coala_latent.tasks.encode import encode
from coala_latent.types import Embedding

TOLERANCE = 1e-5

pytestmark = pytest.mark.parametrize("name", list_models())


def noise(samples, seed=0, channels=None):
    shape = samples if channels is None else (channels, samples)
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def assert_same(got, wanted):
    assert got.values.shape == wanted.values.shape
    scale = max(float(np.abs(wanted.values).max()), 1e-12)
    np.testing.assert_allclose(got.values / scale, wanted.values / scale, atol=TOLERANCE, rtol=0)
    np.testing.assert_array_equal(got.start, wanted.start)
    np.testing.assert_array_equal(got.end, wanted.end)


def assert_sound(embedding, duration):
    """Finite, in order, inside the sound."""
    assert len(embedding) > 0
    assert np.isfinite(embedding.values).all()
    assert (embedding.start <= embedding.end).all()
    assert (np.diff(embedding.start) >= 0).all()
    assert embedding.start[0] == 0.0
    assert embedding.end.max() <= duration + 1e-9


def is_sequence(card):
    return ARCHITECTURES[card.architecture].hears == "sequence"


def finer(card):
    """Options that make rows overlap."""
    return {"patch": 5, "patch_hop": 2} if is_sequence(card) else {"patch_hop": 7}


def longest_minimum(card):
    return max([card.min_samples, *(int(each["min_samples"]) for each in card.timing.values())])


def example_input(module, card, samples):
    """What the network reads, of a whole sound."""
    heard = module.front_end(torch.from_numpy(samples))
    return heard if is_sequence(card) else heard[:, None]


def streamed(embedder, samples, rng, largest, rate=None):
    """Rows of samples that arrive in blocks of random sizes."""
    stream, parts, begin = embedder.stream(rate or embedder.sample_rate), [], 0
    while begin < len(samples):
        step = int(rng.integers(0, largest))
        parts.append(stream.push(samples[begin : begin + step]))
        begin += step
    parts.append(stream.finish())
    values = np.concatenate([part.values for part in parts])
    start = np.concatenate([part.start for part in parts])
    return Embedding(values, start, np.concatenate([part.end for part in parts]))


def test_the_card_is_there_before_the_weights_and_true(name):
    card = model_card(name)
    embedder = load_model(name)
    assert embedder.model.card == card == embedder.card
    assert card.name == name
    assert card.description
    assert card.sample_rate == embedder.sample_rate
    assert card.default_layer in card.layers
    assert tuple(card.layers) == tuple(embedder.model.network.layers)
    assert (len(card.sha256) == 64) == bool(card.weights)
    count = 6 * max(card.min_samples, round(card.window_seconds * card.sample_rate))
    embedding = embedder(noise(count), card.sample_rate)
    # Away from what is added at both ends.
    inside = (embedding.start > 0) & (embedding.end < count / card.sample_rate)
    start, end = embedding.start[inside], embedding.end[inside]
    assert len(start) > 2
    np.testing.assert_allclose(np.diff(start), card.hop_seconds, rtol=1e-9)
    np.testing.assert_allclose(end - start, card.window_seconds)
    for scores, labels in card.classes.items():
        assert len(labels) == card.layers[embedder.model.scored[scores]]


@pytest.mark.parametrize("layer", ["default", "deepest"])
def test_a_stream_gives_each_row_when_its_last_sample_comes(name, layer):
    card = model_card(name)
    chosen = card.default_layer if layer == "default" else list(card.layers)[-1]
    embedder = load_model(name, chosen)
    rate, step = card.sample_rate, 480
    samples = noise(3 * longest_minimum(card))
    stream, given = embedder.stream(rate), []
    for begin in range(0, len(samples), step):
        rows = stream.push(samples[begin : begin + step])
        pushed = min(begin + step, len(samples)) / rate
        for start, end in zip(rows.start, rows.end, strict=True):
            assert end <= pushed + 1e-9
            # Behind the first rows, which begin before the sound does.
            if start > 0 and not card.drops:
                latency = card.timing.get(chosen, {}).get("latency_seconds", card.latency_seconds)
                assert pushed - start <= latency + step / rate + 1e-9
            given.append(end)
    assert given
    assert card.latency_seconds >= card.window_seconds
    stream.finish()
    with pytest.raises(AudioValueError, match="finished"):
        stream.push(samples)


def test_several_layers_at_once_are_their_columns_side_by_side(name):
    card = model_card(name)
    layers = list(card.layers)[-3:]
    samples = noise(5 * longest_minimum(card))
    both = load_model(name, layers, "mean+max")
    rows = both(samples, card.sample_rate)
    assert rows.dim == both.dim == sum(both.hearing.sizes.values())
    parts = both.split(rows)
    assert list(parts) == layers
    for layer in layers:
        alone = load_model(name, layer, "mean+max")(samples, card.sample_rate)
        if len(alone) == len(rows):
            assert_same(parts[layer], alone)
        else:
            # A layer with shorter steps: the rows hold all of it.
            assert is_sequence(card)
            np.testing.assert_allclose(
                parts[layer].values.max(), alone.values.max(), rtol=1e-5, atol=1e-7
            )
    with pytest.raises(ConfigError, match="once"):
        load_model(name, [layers[0], layers[0]])
    with pytest.raises(ConfigError, match="once"):
        load_model(name, [])


def test_the_same_input_gives_the_same_bits(name):
    samples = noise(70_000)
    one, two = load_model(name), load_model(name)
    first = one(samples, 22050)
    one(noise(50_000, seed=1), 8000)
    for again in (one(samples, 22050), two(samples, 22050)):
        assert again.values.tobytes() == first.values.tobytes()
        assert again.end.tobytes() == first.end.tobytes()


@pytest.mark.parametrize("seconds", [0.7, 2.9, 11.3])
def test_array_file_blocks_and_batch_give_one_answer(name, seconds, rng, write_sound):
    embedder = load_model(name)
    path, samples = write_sound("a.wav", seconds, rate=44100, channels=2)
    samples = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    whole = embedder(samples, 44100)
    assert_same(embedder.file(path), whole)
    others = [Sound(noise(count, 3), 22050) for count in (900, 90_000)]
    assert_same(embedder.batch([others[0], path, others[1]])[1], whole)
    small = load_model(name, batch_size=3)
    assert_same(small.batch([others[1], path, others[0]])[1], whole)


@pytest.mark.parametrize("largest", [700, 20_000, 400_000])
@pytest.mark.parametrize("overlapping", [False, True])
def test_blocks_of_random_sizes_give_the_rows_of_the_whole(name, largest, overlapping, rng):
    embedder = load_model(name, **(finer(model_card(name)) if overlapping else {}))
    rate = embedder.sample_rate
    for count in (1, embedder.card.min_samples, 12 * rate + 311):
        samples = noise(count)
        assert_same(streamed(embedder, samples, rng, largest), embedder(samples, rate))


def test_shards_merged_give_the_rows_of_one_run(name, tmp_path, write_sound):
    folder = tmp_path / "sounds"
    for number, seconds in enumerate((0.2, 3.0, 5.1, 1.0, 10.5)):
        write_sound(f"{number}.wav", seconds, seed=number, folder=folder)
    encode([folder], tmp_path / "all.h5", load_model(name), quiet=True)
    shards = [tmp_path / f"{index}.h5" for index in range(2)]
    for index, shard in enumerate(shards):
        encode([folder], shard, load_model(name, batch_size=2), shard=(index, 2), quiet=True)
    merge_stores(shards, tmp_path / "merged.h5")
    with Store(tmp_path / "all.h5") as one, Store(tmp_path / "merged.h5") as merged:
        assert sorted(record.path for record in merged.files) == [f"{n}.wav" for n in range(5)]
        for record in one.files:
            assert_same(merged.rows_of(record.path), one.rows_of(record.path))
            assert_same(one.rows_of(record.path), load_model(name).file(folder / record.path))


@pytest.mark.parametrize("seconds", [0.3, 2.3, 7.7, 23.9])
def test_every_sample_is_covered_unless_the_card_says_what_is_dropped(name, seconds):
    embedder = load_model(name)
    rate = embedder.sample_rate
    samples = noise(round(seconds * rate))
    embedding = embedder(samples, rate)
    assert (embedding.start[1:] <= embedding.end[:-1] + 1e-9).all()
    if embedder.card.drops:
        assert embedding.end[-1] <= seconds
        return
    assert embedding.end[-1] == pytest.approx(len(samples) / rate, abs=1e-9)
    # It is heard, too: a noise at the very end changes the last row and no row that ends before.
    samples[-300:] = 50 * noise(300, seed=1)
    changed = np.abs(embedder(samples, rate).values - embedding.values).max(axis=1) > 0
    assert changed[-1]
    before = embedding.end < (len(samples) - 300) / rate
    assert not changed[before].any()


@pytest.mark.parametrize("short", ["pad", "tile", "error"])
@pytest.mark.parametrize("offset", [None, -1, 0, 1])
def test_lengths_around_the_minimum(name, short, offset):
    embedder = load_model(name, short=short)
    count = 1 if offset is None else embedder.card.min_samples + offset
    samples = noise(count)
    rate = embedder.sample_rate
    if short == "error" and count < embedder.card.min_samples:
        with pytest.raises(AudioTooShortError, match=r"short="):
            embedder(samples, rate)
        return
    embedding = embedder(samples, rate)
    assert_sound(embedding, count / rate)
    if short == "tile" and count < embedder.card.min_samples:
        tiled = np.resize(samples, embedder.card.min_samples)
        wanted = embedder(tiled, rate).values
        np.testing.assert_allclose(embedding.values, wanted, atol=TOLERANCE * np.abs(wanted).max())


def test_no_samples_are_a_typed_error(name, tmp_path):
    embedder = load_model(name)
    with pytest.raises(AudioEmptyError):
        embedder(np.zeros(0, np.float32), 22050)
    with pytest.raises(AudioEmptyError):
        embedder(np.zeros((2, 0), np.float32), 22050)
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 22050)
    with pytest.raises(AudioEmptyError, match=r"empty\.wav"):
        embedder.file(path)
    assert embedder.batch([]) == []


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: np.zeros(n), id="silence"),
        pytest.param(lambda n: np.full(n, 0.7), id="dc"),
        pytest.param(lambda n: np.sign(np.sin(np.arange(n) / 9.0)), id="square"),
        pytest.param(lambda n: np.full(n, 3e4), id="sixteen-bit-scale"),
        pytest.param(lambda n: np.full(n, 1e-40), id="denormal"),
        pytest.param(lambda n: np.eye(1, n, n // 2)[0], id="click"),
    ],
)
def test_odd_but_legal_sounds_give_finite_rows(name, make):
    for rate in (22050, load_model(name).sample_rate):
        samples = make(3 * rate).astype(np.float32)
        assert_sound(load_model(name)(samples, rate), 3.001)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, 1e300])
def test_unusable_samples_are_a_typed_error(name, value, tmp_path):
    embedder = load_model(name)
    samples = noise(60_000).astype(np.float64)
    samples[40_000] = value
    with pytest.raises(AudioValueError):
        embedder(samples, 44100)
    soundfile.write(tmp_path / "bad.wav", samples, 44100, subtype="DOUBLE")
    with pytest.raises(AudioValueError, match=r"bad\.wav"):
        embedder.file(tmp_path / "bad.wav")
    with pytest.raises(AudioValueError), np.errstate(over="ignore"):
        embedder.stream(embedder.sample_rate).push(samples.astype(np.float32))


def test_eight_channels_and_192_kilohertz(name, write_sound):
    embedder = load_model(name)
    path, _ = write_sound("many.wav", 1.5, rate=192_000, channels=8)
    samples = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    embedding = embedder.file(path)
    assert_sound(embedding, 1.501)
    assert_same(embedder(samples, 192_000), embedding)
    assert_same(embedder(samples.mean(axis=0), 192_000), embedding)
    first = load_model(name, channels="first").file(path)
    assert_same(first, embedder(samples[0], 192_000))
    assert np.abs(first.values - embedding.values).max() > 0


@pytest.mark.parametrize("rate", [1, 8, 8000, 11_025, 384_000, 4_294_967_291])
def test_any_sample_rate_is_taken(name, rate):
    assert_sound(load_model(name)(noise(min(3 * rate, 30_000)), rate), 3.5)


def test_every_kind_of_array_gives_the_same_rows(name):
    embedder = load_model(name)
    ints = (noise(60_000) * 20_000).astype(np.int16)
    floats = ints / np.float32(32768)
    wanted = embedder(floats, 22050)
    frozen = floats.copy()
    frozen.setflags(write=False)
    for same in (
        ints,
        ints.astype(np.int32) << 16,
        floats.astype(np.float64),
        floats[None],
        frozen,
        np.ascontiguousarray(floats[::-1])[::-1],
        torch.from_numpy(floats),
        torch.from_numpy(floats).requires_grad_(),
        torch.from_numpy(ints),
        floats.tolist(),
        Sound(floats, 22050),
    ):
        assert_same(embedder(same, None if isinstance(same, Sound) else 22050), wanted)
    half = embedder(torch.from_numpy(floats).bfloat16(), 22050)
    assert half.values.shape == wanted.values.shape


@pytest.mark.filterwarnings("error")
def test_arrays_that_cannot_be_written_to_give_no_warning(name):
    embedder = load_model(name)
    samples = noise(60_000)
    samples.setflags(write=False)
    embedder(samples, embedder.sample_rate)


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        (np.zeros(100, np.float32), None),
        (np.zeros(100, np.float32), 0),
        (np.zeros(100, np.float32), -8000),
        (np.zeros(100, np.float32), 22050.5),
        (np.zeros(100, np.float32), float("nan")),
        (np.zeros(100, np.float32), float("inf")),
        (np.zeros(100, np.float32), "fast"),
        (np.float32(0.5), 22050),
        (np.zeros((2, 3, 4), np.float32), 22050),
        (np.zeros((44_100, 2), np.float32), 22050),
        (np.zeros(100, complex), 22050),
        (np.zeros(100, bool), 22050),
        (np.zeros(100, np.uint8), 22050),
        (np.zeros(100, np.int64), 22050),
        ([[0.1], [0.1, 0.2]], 22050),
        ([object()], 22050),
        ("sound.wav", None),
    ],
    ids=lambda value: str(getattr(value, "shape", value))[:20],
)
def test_wrong_arrays_and_rates_are_typed_errors(name, samples, rate):
    with pytest.raises(AudioValueError):
        load_model(name)(samples, rate)


def test_every_layer_can_be_embedded_with_every_pooling(name):
    card = model_card(name)
    module, _ = build_model(name)
    samples = noise(longest_minimum(card) + card.min_samples)
    heard = example_input(module, card, samples)
    for layer, channels in card.layers.items():
        with torch.inference_mode():
            shape = module.network.until(heard, layer).shape
        assert shape[1] == channels
        positions = int(np.prod(shape[2:])) if len(shape) > 2 else 0
        positions = 1 if is_sequence(card) else positions
        for pooling in (*POOLINGS, "flatten"):
            embedder = load_model(name, layer, pooling)
            embedding = embedder(samples, card.sample_rate)
            assert embedding.dim == embedder.dim == pooled_size(channels, positions, pooling)
            assert np.isfinite(embedding.values).all()
            assert embedder.identity().dim == embedder.dim


def test_a_network_can_be_cut_in_two_at_every_layer(name):
    module, card = build_model(name)
    patches = example_input(module, card, noise(longest_minimum(card) + card.min_samples))
    with torch.inference_mode():
        wanted = module.network.activations(patches, module.network.outputs)
        for layer in card.layers:
            resumed = module.network.resume(module.network.until(patches, layer), layer)
            assert resumed.keys() == ({layer} if layer in wanted else wanted.keys())
            for output, values in resumed.items():
                torch.testing.assert_close(values, wanted[output])
    with pytest.raises(KeyError, match="no layer"):
        module.network.until(patches, "nowhere")


@pytest.mark.parametrize(
    "options",
    [
        {"layer": "nowhere"},
        {"pooling": "median"},
        {"device": "abacus"},
        {"batch_size": 0},
        {"batch_size": -1},
        {"patch_hop": 0},
        {"short": "stretch"},
        {"channels": "left"},
        {"precision": "float8"},
        {"patch": 0},
    ],
    ids=str,
)
def test_wrong_options_are_typed_errors(name, options):
    with pytest.raises(ConfigError):
        load_model(name, **options)


def test_a_patch_hop_is_the_embedders_own(name):
    from coala_latent.embed.embedder import Embedder

    module, card = build_model(name)
    plain = Embedder(module, card)
    before = plain(noise(200_000), 22050)
    fine = Embedder(module, card, **finer(card))
    assert len(fine(noise(200_000), 22050)) != len(before)
    assert_same(plain(noise(200_000), 22050), before)
    assert fine.identity() != plain.identity()


def test_a_bad_file_in_a_batch_is_named(name, tmp_path, write_sound):
    good, _ = write_sound("good.wav")
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        load_model(name).batch([good, bad])


PEAK = """
import resource, sys
from coala_latent import load_model
load_model(sys.argv[1], batch_size=8).file(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_memory_does_not_grow_with_the_length_of_a_file(name, tmp_path):
    peaks = []
    for minutes in (1, 20):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as file:
            for minute in range(minutes):
                file.write(noise(60 * 8000, seed=minute))
        command = [sys.executable, "-c", PEAK, name, path]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 100, f"{peaks} MB"
