import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coala_latent.audio.frames import Framing


@st.composite
def framings(draw, tail=None):
    window = draw(st.integers(1, 40))
    chosen = tail or draw(st.sampled_from(["pad", "drop"]))
    hop = draw(st.integers(1, window if chosen == "pad" else 40))
    patch = draw(st.integers(1, 12))
    patch_hop = draw(st.integers(1, patch if chosen == "pad" else 2 * patch))
    pad = draw(st.integers(0, 20))
    mode = draw(st.sampled_from(["reflect", "zeros"]))
    least = draw(st.integers(pad + 1, pad + 100))
    return Framing(window, hop, patch, patch_hop, pad, mode, least, chosen)


def count_frames(framing, samples):
    """Frames by walking over the samples."""
    padded = max(samples, framing.min_samples) + 2 * framing.pad
    begins = range(0, padded, framing.hop)
    if framing.tail == "drop":
        return sum(begin + framing.window <= padded for begin in begins)
    count = 1
    while (count - 1) * framing.hop + framing.window < padded:
        count += 1
    return count


def count_patches(framing, frames):
    if framing.tail == "drop":
        return sum(b + framing.patch <= frames for b in range(0, frames, framing.patch_hop))
    count = int(frames > 0)
    while count and (count - 1) * framing.patch_hop + framing.patch < frames:
        count += 1
    return count


@given(framings(), st.integers(0, 600))
def test_counts_equal_a_walk(framing, samples):
    frames = framing.frames(samples)
    assert frames == count_frames(framing, samples)
    assert framing.patches(frames) == count_patches(framing, frames)


@given(framings(), st.integers(0, 600))
def test_padded_samples_hold_all_frames(framing, samples):
    padded = framing.padded_samples(samples)
    frames = framing.frames(samples)
    assert padded >= max(samples, framing.min_samples) + 2 * framing.pad
    if frames:
        assert (frames - 1) * framing.hop + framing.window <= padded
        if framing.tail == "pad":
            assert (frames - 1) * framing.hop + framing.window == padded or frames == 1


@given(framings(tail="pad"), st.integers(1, 600))
def test_every_sample_is_heard_when_the_tail_is_padded(framing, samples):
    count = framing.patches(framing.frames(samples))
    start, end = framing.times(0, count, 100, samples / 100)
    heard = np.zeros(samples, bool)
    for begin, stop in zip(np.round(start * 100), np.round(end * 100), strict=True):
        heard[int(begin) : int(stop)] = True
    assert heard.all()


@given(framings(), st.integers(0, 600), st.integers(0, 20))
def test_times_are_ordered_and_inside(framing, samples, first):
    count = 5
    start, end = framing.times(first, count, 50, samples / 50)
    assert (start <= end).all()
    assert (start >= 0).all()
    assert (end <= samples / 50).all()
    assert (np.diff(start) >= 0).all()
    whole = framing.times(0, first + count, 50, samples / 50)
    assert np.array_equal(whole[0][first:], start)
    assert np.array_equal(whole[1][first:], end)


@given(framings(), st.integers(0, 600))
def test_times_are_where_the_patch_lies(framing, samples):
    rate, count = 100, framing.patches(framing.frames(samples))
    start, end = framing.times(0, count, rate, samples / rate)
    for patch in range(count):
        begin = patch * framing.patch_hop * framing.hop - framing.pad
        stop = begin + (framing.patch - 1) * framing.hop + framing.window
        assert start[patch] == min(max(begin, 0), samples) / rate
        assert end[patch] == min(max(stop, 0), samples) / rate


@pytest.mark.parametrize(
    "change", [{"hop": 11}, {"patch_hop": 5}, {"hop": 0}, {"pad": -1}, {"patch": 0}, {"window": 0}]
)
def test_framings_that_would_skip_samples_are_refused(change):
    with pytest.raises(ValueError, match=r"must|unheard"):
        Framing(**{"window": 10, "hop": 5, "patch": 4, "patch_hop": 4, **change})
    if "hop" in change and change["hop"] == 11:
        assert Framing(window=10, hop=11, patch=4, patch_hop=4, tail="drop").frames(21) == 2


def test_reflection_needs_something_to_mirror():
    with pytest.raises(ValueError, match="reflection"):
        Framing(10, 5, 4, 4, pad=5, pad_mode="reflect", min_samples=5)
