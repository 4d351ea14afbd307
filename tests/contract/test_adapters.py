"""HEAR's and X-ARES' published rules, stated once more and checked for every model.

Rules: https://hearbenchmark.com/hear-api.html and its validator; X-ARES' `audio_encoder_checker`.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch

from coala_latent import list_models, load_model, model_card
from coala_latent.embed.adapters import hear, xares
from coala_latent.registry.architectures import ARCHITECTURES

HEAR_RATES = (16000, 22050, 32000, 44100, 48000)

pytestmark = pytest.mark.parametrize("name", list_models())


def is_sequence(card):
    return ARCHITECTURES[card.architecture].hears == "sequence"


def hear_spec(name):
    rate = model_card(name).sample_rate
    return name if rate in HEAR_RATES else f"{name}@22050"


def noise(sounds, samples, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (sounds, samples))
    return torch.from_numpy(values.astype(np.float32))


def test_hear_module_follows_the_rules(name):
    model = hear.load_model(hear_spec(name))
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    assert model.sample_rate in HEAR_RATES
    assert type(model.scene_embedding_size) is int
    assert type(model.timestamp_embedding_size) is int

    for length in (1.07, 1.98, 4.0):
        audio = noise(2, int(length * model.sample_rate))
        before = audio.clone()
        embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
        assert torch.equal(audio, before)
        assert embeddings.dtype == torch.float32
        assert embeddings.device == timestamps.device == audio.device
        assert embeddings.shape == (*timestamps.shape, model.timestamp_embedding_size)
        assert len(embeddings) == 2
        assert torch.isfinite(embeddings).all()
        assert timestamps.min() >= 0
        assert timestamps.max() <= 1000 * length
        if timestamps.shape[1] > 1:
            hops = timestamps.diff(dim=1)
            hop = hops.mean()
            assert hop > 0
            assert (hops - hop).abs().max() < 1
            assert timestamps.min() <= hop
            assert timestamps.max() >= 1000 * length - hop - 1
            if not is_sequence(model_card(name)):
                assert hop <= 50

    scenes = hear.get_scene_embeddings(noise(4, int(2.74 * model.sample_rate)), model)
    assert scenes.dtype == torch.float32
    assert scenes.shape == (4, model.scene_embedding_size)
    assert torch.isfinite(scenes).all()


def test_rows_are_centred_on_their_timestamps(name):
    card = model_card(name)
    model = hear.load_model(name)
    rate = card.sample_rate
    audio = 0.1 * noise(1, round(rate * max(6.0, 4 * card.window_seconds)))
    clicked = audio.clone()
    moment = audio.shape[1] // 2
    clicked[0, moment - 50 : moment + 50] += 0.9
    plain, timestamps = hear.get_timestamp_embeddings(audio, model)
    changed = (hear.get_timestamp_embeddings(clicked, model)[0] - plain)[0].abs().amax(1) > 0
    assert changed.any()
    where = timestamps[0][changed]
    hop = model.centred.hop_ms
    click = 1000 * moment / rate
    # A row hears half a window on either side of its timestamp: no more, and on both alike.
    assert (where - click).abs().max() <= 500 * card.window_seconds + 10
    assert abs((where.min() + where.max()) / 2 - click) <= hop + 10
    if not card.drops:
        assert where.max() - where.min() >= 0.6 * 1000 * card.window_seconds - 2 * hop


def test_scenes_are_means_of_the_librarys_rows_and_alike_alone_and_together(name):
    card = model_card(name)
    model = hear.load_model(name)
    audio = noise(3, card.sample_rate + 123)
    together = hear.get_scene_embeddings(audio, model)
    rows, _ = hear.get_timestamp_embeddings(audio, model)
    embedder = load_model(name)
    for number, sound in enumerate(audio):
        wanted = embedder(sound, card.sample_rate).mean()
        scale = max(float(np.abs(wanted).max()), 1e-12)
        np.testing.assert_allclose(together[number] / scale, wanted / scale, atol=1e-5)
        alone, _ = hear.get_timestamp_embeddings(sound[None], model)
        scale = max(float(rows.abs().max()), 1e-12)
        torch.testing.assert_close(rows[number] / scale, alone[0] / scale, atol=1e-5, rtol=0)
    none, times = hear.get_timestamp_embeddings(audio[:0], model)
    assert none.shape == (0, rows.shape[1], model.timestamp_embedding_size)
    assert times.shape == none.shape[:2]
    assert hear.get_scene_embeddings(audio[:0], model).shape == (0, model.scene_embedding_size)


@pytest.mark.parametrize("samples", [1, 999, "minimum"])
def test_short_sounds_have_a_row(name, samples):
    card = model_card(name)
    model = hear.load_model(name)
    count = card.min_samples - 1 if samples == "minimum" else samples
    rows, timestamps = hear.get_timestamp_embeddings(noise(2, count), model)
    assert rows.shape[:2] == timestamps.shape
    assert rows.shape[1] >= 1
    assert torch.isfinite(rows).all()
    assert timestamps.max() <= 1000 * count / card.sample_rate + 1e-3
    assert torch.isfinite(hear.get_scene_embeddings(noise(2, count), model)).all()


def test_networks_along_the_waveform_keep_their_own_steps(name):
    card = model_card(name)
    if not is_sequence(card):
        pytest.skip("a patch model's rows are moved to their instants")
    model = hear.load_model(name)
    audio = 0.1 * noise(1, 3 * card.min_samples + 777)
    rows, timestamps = hear.get_timestamp_embeddings(audio, model)
    if model.centred.instants.lead:
        pytest.skip("its first row is centred too late")
    wanted = load_model(name)(audio, card.sample_rate)
    count = rows.shape[1]
    assert 0 <= len(wanted) - count <= 2
    np.testing.assert_allclose(rows[0], wanted.values[:count], rtol=1e-5, atol=1e-7)
    # Away from both ends a row's middle is its timestamp.
    middles = 500 * (wanted.start + wanted.end)[1 : count - 1]
    inner = (wanted.start > 0) & (wanted.end < wanted.end.max())
    np.testing.assert_allclose(
        timestamps[0, 1:-1][inner[1 : count - 1]], middles[inner[1 : count - 1]], atol=0.1
    )


def test_xares_encoder_follows_the_rules(name):
    class TestedEncoder(xares.ModelEncoder):
        def __init__(self):
            super().__init__(name)

    encoder = TestedEncoder()
    assert type(encoder).__name__.endswith("Encoder")
    assert isinstance(encoder, torch.nn.Module)
    assert encoder.sampling_rate == model_card(name).sample_rate
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(2, 50000, generator=generator)
    frames = encoder(audio)
    assert isinstance(frames, torch.Tensor)
    assert frames.ndim == 3
    assert frames.shape[0] == 2
    assert frames.shape[2] == encoder.output_dim
    assert frames.dtype == torch.float32
    hops = 1000 * 50000 / encoder.sampling_rate / encoder.hop_size_in_ms
    assert abs(frames.shape[1] - hops) <= 1
    with torch.inference_mode():
        alone = encoder(audio[0])
    scale = float(frames.abs().max())
    torch.testing.assert_close(alone / scale, frames[:1] / scale, atol=1e-5, rtol=0)
    assert encoder(audio[:, :3000]).shape[1] >= 1


PEAK = """
import resource, sys, torch
from coala_latent.embed.adapters import hear
torch.set_num_threads(1)
model = hear.HearModel(sys.argv[1], batch_size=8)
audio = torch.zeros(1, int(sys.argv[2]) * 60 * model.sample_rate)
rows, _ = hear.get_timestamp_embeddings(audio, model)
given = audio.nbytes + rows.nbytes
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, given / 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_twenty_minutes_take_little_more_memory_than_the_sound_and_its_rows(name):
    if not name.endswith("-test"):
        pytest.skip("the size of the network is another matter")
    peaks = []
    for minutes in (1, 20):
        command = [sys.executable, "-c", PEAK, name, str(minutes)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append([float(number) for number in done.stdout.split()])
    (small, _), (large, given) = peaks
    assert large - small < 3 * given + 150, f"{peaks} MiB"
