"""Embedders given what people give them: lists, empty pieces, other poolings, short sounds."""

import numpy as np
import pytest
import torch

from coala_latent import build_model, list_models, load_model
from coala_latent.errors import AudioValueError, ConfigError
from coala_latent.types import Sound

# The original COALA's front end has four rows of any short sound.
SHORT = [name for name in list_models() if name.endswith("-test") and "legacy" not in name]


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def test_batches_take_arrays_tensors_sounds_and_files(write_sound):
    embedder = load_model("yamnet-test")
    path, _ = write_sound("x.wav", 1.3, 16000)
    stereo = np.stack([noise(40000, 2), noise(40000, 3)])
    given = [noise(16000), torch.from_numpy(noise(31000, 1)), stereo, path, str(path)]
    given.append(Sound(noise(20000, 4), 8000, "own rate"))
    found = embedder.batch(tuple(given), 16000)
    alone = [
        *(embedder(sound, 16000) for sound in given[:3]),
        embedder.file(path),
        embedder.file(path),
        embedder(given[5]),
    ]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(one.start, other.start)
    with pytest.raises(AudioValueError, match="sample rate"):
        embedder.batch([noise(16000)])
    with pytest.raises(ConfigError, match=r"use file\(\)"):
        embedder.batch(str(path))
    assert embedder.batch([]) == []


@pytest.mark.parametrize("name", SHORT)
def test_tiling_gives_no_row_that_hears_nothing(name):
    embedder = load_model(name, short="tile")
    least = embedder.card.min_samples
    for samples in (1, least // 2, least - 1, least, least + 1):
        rows = embedder(noise(samples), embedder.sample_rate)
        assert len(rows) >= 1
        assert (rows.end > rows.start).all()
    assert len(embedder(noise(least // 2), embedder.sample_rate)) == 1


def test_the_shortest_sound_that_fills_a_row_is_enough():
    embedder = load_model("musicnn-test", short="error")
    least = embedder.card.min_samples
    assert least == 186 * 256  # centred frames: half a window less on both sides
    assert len(embedder(noise(least), 16000)) == 1
    tiled = load_model("musicnn-test", short="tile")
    once = noise(least // 2)
    np.testing.assert_allclose(
        tiled(once, 16000).values, embedder(np.tile(once, 2), 16000).values, rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("piece", [np.zeros(0, np.float32), torch.zeros(0), []])
def test_an_empty_piece_of_a_stream_gives_no_rows(piece):
    stream = load_model("yamnet-test").stream(16000)
    assert len(stream.push(piece)) == 0
    rows = [stream.push(noise(20000)), stream.push(piece), stream.finish()]
    assert sum(map(len, rows)) == len(load_model("yamnet-test")(noise(20000), 16000))


@pytest.mark.parametrize("rate", [None, "x", 0, 22050.5])
def test_a_stream_wants_a_sample_rate(rate):
    with pytest.raises(AudioValueError, match="sample rate"):
        load_model("yamnet-test").stream(rate)


@pytest.mark.parametrize(
    "layers",
    ["pool5", "scenes", ("pool5", "conv7"), ("pool2", "scenes")],
)
def test_a_stream_says_when_its_rows_come(layers):
    embedder = load_model("soundnet8-test", layers)
    rate, step = embedder.sample_rate, 500
    stream = embedder.stream(rate)
    waited = []
    for pushed in range(step, 900_000, step):
        rows = stream.push(noise(step, pushed))
        waited.extend(pushed / rate - rows.start)
    assert len(waited) > 5
    assert max(waited) <= stream.latency_seconds + step / rate + 1e-9
    # Not said far too long either: rows inside the sound take all of it.
    assert max(waited) >= 0.8 * stream.latency_seconds


def test_pooling_over_time_keeps_the_bands_as_concept_vectors_want_them():
    model, card = build_model("musicnn-vgg-test")
    sound = torch.from_numpy(noise(60000))
    with torch.inference_mode():
        patches = model.front_end(sound)[:, None]
        wanted = model.network.concept_features(patches)
    for layer in ("pool3", "pool4", "pool5"):
        rows = load_model("musicnn-vgg-test", layer, "time")(sound, 16000)
        np.testing.assert_allclose(rows.values, wanted[layer], rtol=1e-4, atol=1e-6)
    assert load_model("musicnn-vgg-test", "pool3", "time").dim == 12 * card.layers["pool3"]


def test_pooling_over_time_is_over_frames_whichever_axis_they_are_on():
    coala, _ = build_model("coala-test")
    assert coala.network.time_axis == 3
    # Mel bands of a map (channels, bands, frames): 48 rows after one convolution.
    assert load_model("coala-test", "conv1", "time").dim % 48 == 0
    assert load_model("coala-test", "z", "time").dim == load_model("coala-test", "z").dim
    steps = load_model("soundnet8-test", "pool5", "time", patch=4)
    mean = load_model("soundnet8-test", "pool5", "mean", patch=4)
    sound = noise(200_000)
    np.testing.assert_allclose(steps(sound, 22050).values, mean(sound, 22050).values, rtol=1e-5)
