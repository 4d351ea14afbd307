import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.models.geometry import Geometry, Window
from coala_latent.models.soundnet import SoundNetwork


@st.composite
def windows(draw):
    kernel = draw(st.integers(1, 7))
    return Window(kernel, draw(st.integers(1, kernel)), draw(st.integers(0, kernel // 2)))


geometries = st.lists(windows(), min_size=0, max_size=4).map(lambda found: Geometry(tuple(found)))
lengths = st.integers(0, 400)


def sums(geometry, sound):
    """A network of those windows whose kernels are all ones, on ``(batch, time)``."""
    x = torch.as_tensor(sound, dtype=torch.float64)[:, None]
    for window in geometry.windows:
        if x.shape[-1] + 2 * window.pad < window.kernel or x.shape[-1] == 0:
            return x[..., :0]
        ones = torch.ones(1, 1, window.kernel, dtype=x.dtype)
        x = torch.nn.functional.conv1d(x, ones, stride=window.stride, padding=window.pad)
    return x


@settings(deadline=None)
@given(geometries, lengths)
def test_counts_are_those_of_convolutions(geometry, samples):
    assert geometry.count(samples) == sums(geometry, np.ones((1, samples))).shape[-1]


@given(geometries, st.integers(0, 12))
def test_samples_are_the_fewest_that_give_a_count(geometry, count):
    samples = geometry.samples(count)
    assert geometry.count(samples) >= count
    if samples:
        assert geometry.count(samples - 1) < count
    assert geometry.minimum == geometry.samples(1)


def heard(geometry, length):
    """Which step hears which sample, by poking every sample of silence: ``(length, steps)``."""
    return sums(geometry, np.eye(length))[:, 0].numpy() > 0 if length else np.zeros((0, 0), bool)


@settings(max_examples=60, deadline=None)
@given(geometries, st.integers(1, 150))
def test_a_step_hears_its_field_and_nothing_else(geometry, samples):
    found = heard(geometry, samples)
    count = geometry.count(samples)
    assert found.shape[1] == count
    for step in range(count):
        begin = geometry.offset + step * geometry.stride
        inside = np.arange(max(0, begin), min(samples, begin + geometry.field))
        assert not np.delete(found[:, step], inside).any()
    # A step far from both ends hears all of its field.
    for step in range(count):
        begin = geometry.offset + step * geometry.stride
        end = begin + geometry.field
        if begin >= geometry.field and end + geometry.field <= samples:
            assert found[begin:end, step].all()


@settings(max_examples=80, deadline=None)
@given(geometries, st.integers(0, 120))
def test_covering_is_the_smallest_length_at_which_everything_is_heard(geometry, samples):
    length = geometry.covering(samples)
    assert length >= samples
    if samples:
        assert heard(geometry, length)[:samples].any(axis=1).all()
        for shorter in range(max(samples, length - 20), length):
            assert not heard(geometry, shorter)[:samples].any(axis=1).all()
    else:
        assert length == 0


@given(geometries, lengths, st.integers(0, 10))
def test_times_are_fields_clipped_to_the_sound(geometry, samples, first):
    rate, count = 50, 5
    start, end = geometry.times(first, count, rate, samples / rate)
    for place in range(count):
        begin = geometry.offset + (first + place) * geometry.stride
        assert start[place] == min(max(begin, 0), samples) / rate
        assert end[place] == min(max(begin + geometry.field, 0), samples) / rate


@pytest.mark.parametrize("window", [Window(4, 5), Window(4, 0), Window(4, 2, 3), Window(4, 2, -1)])
def test_windows_that_skip_samples_or_hear_nothing_are_refused(window):
    with pytest.raises(ValueError, match="unheard"):
        Geometry((Window(3, 1), window))


@pytest.fixture(scope="module", params=[8, 5])
def tiny(request):
    depth = request.param
    network = SoundNetwork(depth, [2, 3, 2, 3, 2, 3, 2][: 7 if depth == 8 else 4], 3, 2)
    return network.eval()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_counts_are_those_of_soundnet(tiny, data):
    layer = data.draw(st.sampled_from(tiny.layers))
    geometry = tiny.geometry(layer)
    samples = data.draw(st.integers(geometry.minimum, geometry.minimum + 70_000))
    with torch.no_grad():
        steps = tiny.until(torch.zeros(1, 1, samples), layer).shape[-1]
    assert steps == geometry.count(samples)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_step_of_soundnet_changes_only_with_its_field(tiny, data):
    layer = data.draw(st.sampled_from(["pool1", "pool2", "conv3", "conv4"]))
    geometry = tiny.geometry(layer)
    samples = data.draw(st.integers(geometry.minimum, geometry.minimum + 20_000))
    sound = torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(samples))
    place = data.draw(st.integers(0, samples - 1))
    poked = sound.clone()
    poked[..., place] += 100.0
    with torch.no_grad():
        change = tiny.until(poked, layer) - tiny.until(sound, layer)
    begin = geometry.offset + np.arange(change.shape[-1]) * geometry.stride
    inside = (begin <= place) & (place < begin + geometry.field)
    # Rounding in a convolution may depend on what is beside it.
    assert change[0].abs().amax(0).numpy()[~inside].max(initial=0.0) <= 1e-4
