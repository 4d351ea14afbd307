"""Rows of networks that run along the waveform: grids, pooling, lengths."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent import load_model
from coala_latent.embed.sequence import StepGrid, WaveStream
from coala_latent.errors import AudioTooShortError, ConfigError
from coala_latent.models.geometry import Geometry, Window
from coala_latent.registry import build_model

NAME = "soundnet8-test"
RATE = 22050


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def whole(layer, samples):
    """All steps of a layer ``(steps, channels)``, straight from the network."""
    module, _ = build_model(NAME)
    with torch.inference_mode():
        heard = module.front_end(torch.from_numpy(samples))
        return module.network.until(heard, layer)[0].T.numpy()


def close(got, wanted):
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("layer", ["pool5", "conv7", "conv8", "scenes"])
def test_a_row_is_a_step_of_the_network(layer):
    # No length at which a step would be added to hear the end.
    geometry = build_model(NAME)[0].network.geometry(layer)
    samples = noise(geometry.covering(500_000))
    assert geometry.covering(len(samples)) == len(samples)
    embedding = load_model(NAME, layer)(samples, RATE)
    close(embedding.values, whole(layer, samples))
    start, end = geometry.times(0, len(embedding), RATE, len(samples) / RATE)
    np.testing.assert_allclose(embedding.start, start)
    np.testing.assert_allclose(embedding.end, end)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+max", "mean+std", "flatten"])
def test_steps_are_pooled_in_windows_and_only_those_that_exist(pooling):
    samples = noise(RATE * 9)
    steps = load_model(NAME, "pool5")(samples, RATE).values
    rows = load_model(NAME, "pool5", pooling, patch=4, patch_hop=3)(samples, RATE)
    count = 1 + -(-(len(steps) - 4) // 3)
    assert len(rows) == count
    assert len(steps) % 3 != 1, "the last window is to be incomplete"
    for row in range(count):
        window = steps[3 * row : 3 * row + 4]
        parts = {"mean": [window.mean(0)], "max": [window.max(0)]}
        parts["mean+max"] = [window.mean(0), window.max(0)]
        parts["mean+std"] = [window.mean(0), window.std(0)]
        filled = np.zeros((4, steps.shape[1]), np.float32)
        filled[: len(window)] = window
        parts["flatten"] = [filled.T.ravel()]
        wanted = np.concatenate(parts[pooling])
        np.testing.assert_allclose(rows.values[row], wanted, atol=1e-5 * np.abs(steps).max())
    assert rows.end[-1] == pytest.approx(9.0)


def test_faster_layers_are_shared_out_among_the_rows_of_the_slowest():
    samples = noise(RATE * 25)
    embedder = load_model(NAME, ["pool5", "conv7", "conv8"], "max")
    parts = embedder.split(embedder(samples, RATE))
    slow = load_model(NAME, "conv8")(samples, RATE)
    close(parts["conv8"].values, slow.values)
    np.testing.assert_array_equal(parts["pool5"].start, slow.start)
    for layer in ("pool5", "conv7"):
        steps = load_model(NAME, layer)(samples, RATE).values
        close(parts[layer].values.max(0), steps.max(0))
        assert (parts[layer].values.max(0) > parts[layer].values.min(0)).any()


def test_an_event_is_in_the_row_that_is_nearest():
    samples = np.zeros(RATE * 40, np.float32)
    embedder = load_model(NAME, ["pool2", "conv8"], "max")
    quiet = embedder.split(embedder(samples, RATE))["pool2"]
    for second in (7.0, 19.0, 33.0):
        loud = samples.copy()
        loud[int(second * RATE) :][:200] = noise(200) * 8
        changed = embedder.split(embedder(loud, RATE))["pool2"].values != quiet.values
        (rows,) = np.nonzero(changed.any(axis=1))
        middles = (embedder(loud, RATE).start + embedder(loud, RATE).end)[rows] / 2
        # Rows at the ends are clipped to the sound, so compare with the row's place inside it.
        assert len(rows) in (1, 2)
        assert np.abs(middles - second).min() < 3.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 4), st.booleans()), min_size=1, max_size=4
    ),
    st.integers(1, 4),
    st.data(),
)
def test_without_overlap_every_step_is_in_one_row(chain, patch, data):
    windows = [
        Window(kernel, min(stride, kernel), kernel // 2 if padded else 0)
        for kernel, stride, padded in chain
    ]
    layers = {
        f"layer{depth}": Geometry(tuple(windows[:depth])) for depth in range(1, len(windows) + 1)
    }
    grid = StepGrid(layers, patch, patch)
    samples = data.draw(st.integers(grid.minimum, grid.minimum + 400))
    rows = grid.rows(grid.leading.count(samples))
    assert rows >= 1
    for geometry in layers.values():
        borders = [grid.steps(row, geometry) for row in range(rows)]
        assert all(before[1] == after[0] for before, after in itertools.pairwise(borders))
        assert all(end > begin for begin, end in borders)


@pytest.mark.parametrize("short", ["tile", "pad", "error"])
def test_a_clip_too_short_for_the_heads(short):
    clip = noise(5 * RATE)
    embedder = load_model(NAME, "scenes", short=short)
    if short == "error":
        with pytest.raises(AudioTooShortError, match="9\\.495"):
            embedder(clip, RATE)
        return
    embedding = embedder(clip, RATE)
    filled = np.resize(clip, 209_374) if short == "tile" else np.pad(clip, (0, 209_374 - len(clip)))
    close(embedding.values, whole("scenes", filled))
    assert (embedding.start[0], embedding.end[0]) == (0.0, 5.0)


def test_silence_is_added_only_where_the_end_would_not_be_heard():
    module, _ = build_model(NAME)
    geometry = module.network.geometry("pool5")
    grid = StepGrid({"pool5": geometry})
    for samples in range(40_000, 60_000, 777):
        stream = WaveStream(module.front_end, grid)
        given = stream.push(noise(samples)).samples.numel() + stream.finish().samples.numel()
        assert given == geometry.covering(samples)
        last = geometry.offset + (geometry.count(given) - 1) * geometry.stride + geometry.field
        assert last >= samples


def test_settings_that_make_no_sense_are_refused():
    for options in ({"patch": 0}, {"patch": 2, "patch_hop": 3}, {"patch_hop": 0}):
        with pytest.raises(ConfigError, match="patch"):
            load_model(NAME, **options)
    with pytest.raises(ConfigError, match="flatten"):
        load_model(NAME, ["pool5", "conv7"], "flatten")
    with pytest.raises(ConfigError, match="fixed length"):
        load_model("yamnet-test", patch=3)
    assert load_model(NAME, ["conv7", "scenes"]).layer == "conv7+scenes"
