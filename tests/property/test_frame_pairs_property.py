"""Pairs of frames are of the recordings and distances they are said to be, whatever the lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.data.frame_pairs import FramePairs, RecordingFrames, hold_out
from coala_latent.errors import ConfigError, DataError

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any)


def recordings(lengths):
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    frames = torch.arange(float(starts[-1]))[:, None].repeat(1, 2)
    return RecordingFrames(frames, starts)


def drawn(sampler, steps=3, seed=0):
    pairs = sampler.draw(steps, torch.Generator().manual_seed(seed))
    return [each.numpy() for each in pairs]


def owner(data, frame):
    return np.searchsorted(data.starts, frame, side="right") - 1


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 40), st.integers(0, 9))
def test_default_neighbours_are_others_of_the_same_recording(lengths, window, seed):
    data = recordings(lengths)
    document, frame, context = drawn(FramePairs(data, 64, window), seed=seed)
    alone = np.array(lengths)[document] == 1
    assert (owner(data, frame) == document).all()
    assert (owner(data, context) == document).all()
    assert ((context == frame) == alone).all()
    assert (abs(context - frame) <= window).all()


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(0, 40), st.integers(0, 9))
def test_compat_neighbours_are_kept_within_all_frames_only(lengths, window, seed):
    data = recordings(lengths)
    document, frame, context = drawn(FramePairs(data, 64, window, compat=True), seed=seed)
    assert (owner(data, frame) == document).all()
    assert (abs(context - frame)[:, :32] <= window).all()
    assert (context >= 0).all()
    assert (context < len(data.frames)).all()


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.floats(0.01, 0.5), st.integers(1, 9), st.integers(0, 9))
def test_no_frame_is_both_trained_on_and_held_out(lengths, share, window, seed):
    data = recordings(lengths)
    stretch = hold_out(data.starts, share, seed)
    assert (stretch[0] >= data.starts[:-1]).all()
    assert (stretch[1] <= data.starts[1:]).all()
    held = np.zeros(len(data.frames), dtype=bool)
    for begin, end in zip(*stretch, strict=True):
        held[begin:end] = True
    document, frame, context = drawn(FramePairs(data, 64, window, stretch=stretch))
    assert not held[frame].any()
    assert not held[context].any()
    low, high = np.minimum(frame, context), np.maximum(frame, context)
    counted = np.concatenate([[0], np.cumsum(held)])
    assert (counted[low] == counted[high]).all()  # nothing held out lies between
    if held.any():
        inside = FramePairs(data, 64, window, stretch=stretch, inside=True)
        document, frame, context = drawn(inside)
        assert held[frame].all()
        assert held[context].all()
        assert (owner(data, context) == document).all()


def test_compat_draws_as_the_original():
    data = recordings([2, 6, 0, 12])
    document, frame, context = drawn(FramePairs(data, 2000, 3, compat=True), steps=40)
    share = np.bincount(document.ravel(), minlength=4) / document.size
    np.testing.assert_allclose(share, [1 / 3, 1 / 3, 0, 1 / 3], atol=0.01)  # whatever their length
    offset = (context - frame)[:, :1000]
    middle = offset[(frame[:, :1000] >= 3) & (frame[:, :1000] < 17)]
    counts = np.bincount(middle + 3, minlength=7) / middle.size
    np.testing.assert_allclose(counts, np.full(7, 1 / 7), atol=0.01)  # the frame itself too
    crossing = owner(data, context[:, :1000]) != document[:, :1000]
    assert crossing.any()
    first = context[:, :1000][frame[:, :1000] == 0]
    np.testing.assert_allclose(np.mean(first == 0), 4 / 7, atol=0.02)  # kept within the global end
    anywhere = np.bincount(context[:, 1000:].ravel(), minlength=20) / context[:, 1000:].size
    np.testing.assert_allclose(anywhere, np.full(20, 1 / 20), atol=0.005)


def test_default_draws_neighbours_evenly():
    data = recordings([5, 40])
    document, frame, context = drawn(FramePairs(data, 4000, 3), steps=20)
    share = np.bincount(document.ravel()) / document.size
    np.testing.assert_allclose(share, [0.5, 0.5], atol=0.01)
    offset = (context - frame)[(frame >= 8) & (frame < 42)]
    counts = np.bincount(offset + 3, minlength=7) / offset.size
    np.testing.assert_allclose(counts, [1 / 6, 1 / 6, 1 / 6, 0, 1 / 6, 1 / 6, 1 / 6], atol=0.01)
    edge = context[frame == 0]
    np.testing.assert_allclose(np.bincount(edge)[1:] / edge.size, np.full(3, 1 / 3), atol=0.03)


def test_the_same_generator_gives_the_same_pairs_and_goes_on_from_its_state():
    sampler = FramePairs(recordings([9, 30]), 8, 2)
    one, other = torch.Generator().manual_seed(4), torch.Generator()
    sampler.draw(5, one)
    other.set_state(one.get_state())
    for a, b in zip(sampler.draw(5, one), sampler.draw(5, other), strict=True):
        assert torch.equal(a, b)


def test_batches_hold_the_frames_of_their_pairs():
    sampler = FramePairs(recordings([9, 30]), 8, 2)
    pairs = sampler.draw(3, torch.Generator().manual_seed(1))
    batch = sampler.batch(pairs, 2)
    assert batch.frames[:, 0].tolist() == pairs.frame[2].tolist()
    assert batch.contexts[:, 1].tolist() == pairs.context[2].tolist()


def test_each_recording_has_as_many_pairs_as_asked_for():
    sampler = FramePairs(recordings([9, 0, 1, 30]), 8, 2)
    pairs = sampler.of_each(5, torch.Generator().manual_seed(1))
    assert pairs.document.tolist() == [[0] * 5, [2] * 5, [3] * 5]


def test_standardisation_is_that_of_all_frames():
    rng = np.random.default_rng(0)
    frames = rng.normal([1000, -5, 0], [3, 0.5, 0], (5000, 3)).astype(np.float32)
    mean, std = RecordingFrames(torch.from_numpy(frames), np.array([0, 5000])).standardisation()
    np.testing.assert_allclose(mean, frames.mean(0, dtype=np.float64), atol=1e-3)
    np.testing.assert_allclose(std, [frames[:, 0].std(), frames[:, 1].std(), 0.1], rtol=1e-3)


def test_what_cannot_be_drawn_is_refused():
    data = recordings([4, 4])
    with pytest.raises(ConfigError, match="even"):
        FramePairs(data, 7, 2, compat=True)
    with pytest.raises(ConfigError, match="window=0"):
        FramePairs(data, 8, 0)
    with pytest.raises(ConfigError, match="held_out"):
        hold_out(data.starts, 0.6, 0)
    with pytest.raises(DataError, match="no recording"):
        FramePairs(recordings([0, 0]), 8, 2)
