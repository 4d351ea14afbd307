import librosa
import numpy as np
import pytest
import torch

from coala_latent.audio.frontends import CoalaLegacy, CoalaStandard
from coala_latent.audio.mel import slaney_mel_filters

BOTH = [CoalaLegacy, CoalaStandard]


@pytest.mark.parametrize(
    ("rate", "n_fft", "bands"), [(22000, 1024, 96), (22050, 2048, 128), (8000, 512, 40)]
)
def test_mel_filters_are_librosas(rate, n_fft, bands):
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands)
    assert np.abs(slaney_mel_filters(rate, n_fft, bands) - expected).max() < 1e-6


def test_standard_log_mel_is_librosas(rng):
    sound = rng.normal(0, 0.1, 50000).astype(np.float32)
    found = CoalaStandard(eps=1e-5).log_mel(torch.from_numpy(sound)).numpy()
    expected = librosa.feature.melspectrogram(
        y=sound, sr=22000, n_fft=1024, hop_length=512, n_mels=96, power=1.0, center=False
    )
    difference = np.abs(found[:, : expected.shape[1]] - np.log(expected + 1e-5))
    assert difference.max() < 1e-4


@pytest.mark.parametrize("kind", BOTH)
def test_batched_equals_single(kind, rng):
    front_end = kind()
    batch = torch.from_numpy(rng.normal(0, 0.1, (3, 230000)).astype(np.float32))
    together = front_end(batch)
    for row, alone in zip(together, batch, strict=True):
        assert torch.allclose(row, front_end(alone), atol=1e-5)


@pytest.mark.parametrize("kind", BOTH)
def test_gradient_reaches_every_heard_sample(kind):
    sound = (0.1 * torch.randn(1, 60000)).requires_grad_()
    kind()(sound).sum().backward()
    assert torch.isfinite(sound.grad).all()
    # The first sample of an uncentred Hann window has weight 0.
    assert (sound.grad[0, 1:] != 0).float().mean() > 0.999


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "sound",
    [
        torch.zeros(1),
        torch.zeros(60000),
        torch.ones(60000),
        torch.full((60000,), 1e-30),
        torch.sin(torch.arange(60000.0)).sign(),
        100 * torch.sin(torch.arange(60000.0)),
    ],
    ids=["one sample", "silence", "DC", "denormal", "clipped", "far too loud"],
)
def test_hard_sounds_are_finite_and_so_is_their_gradient(kind, sound):
    sound = sound.clone().requires_grad_()
    patches = kind()(sound)
    assert torch.isfinite(patches).all()
    patches.sum().backward()
    assert torch.isfinite(sound.grad).all()


@pytest.mark.parametrize("kind", BOTH)
def test_an_empty_batch_stays_empty(kind):
    assert kind()(torch.zeros(0, 60000)).shape == (0, *kind()(torch.zeros(60000)).shape)


@pytest.mark.parametrize("kind", BOTH)
def test_autocast_does_not_touch_the_spectrum(kind, rng):
    sound = torch.from_numpy(rng.normal(0, 0.5, 60000).astype(np.float32))
    front_end = kind()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = front_end.log_mel(sound)
    assert found.dtype == torch.float32
    assert torch.equal(found, front_end.log_mel(sound))


def test_double_precision_stays_double(rng):
    sound = torch.from_numpy(rng.normal(0, 0.1, 50000))
    front_end = CoalaStandard().double()
    found = front_end(sound)
    assert found.dtype == torch.float64
    assert torch.allclose(found.float(), CoalaStandard()(sound.float()), atol=1e-4)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("hop", [1, 7, 48, 96])
def test_any_patch_hop(kind, hop, rng):
    sound = torch.from_numpy(rng.normal(0, 0.1, 240000).astype(np.float32))
    front_end, reference = kind(patch_hop=hop), kind()
    patches = front_end(sound)
    assert len(patches) == front_end.framing.patches(front_end.framing.frames(240000))
    if kind is CoalaStandard:
        assert torch.allclose(patches[0], reference(sound)[0])
        step = 96 // np.gcd(hop, 96)
        if step * hop == 96:
            assert torch.allclose(patches[step], reference(sound)[1], atol=1e-5)


def test_padding_frames_are_the_band_mean():
    front_end = CoalaStandard(mean=[-3.0] * 96, std=[2.0] * 96)
    patches = front_end(0.1 * torch.randn(60000))
    mask = front_end.patch_mask(60000)
    assert mask.shape == (2, 96)
    assert mask.sum() == front_end.framing.frames(60000)
    assert (patches[1][:, ~mask[1]] == 0).all()
    assert (patches[0] != 0).any()


def test_what_follows_does_not_change_earlier_patches():
    front_end, sound = CoalaStandard(), 0.1 * torch.randn(150000)
    shorter = front_end(sound[:110000])
    assert torch.allclose(front_end(sound)[:2], shorter[:2], atol=1e-6)


def test_trailing_silence_leaves_complete_patches_alone():
    front_end, sound = CoalaStandard(), 0.1 * torch.randn(120000)
    complete = int(front_end.patch_mask(120000).all(1).sum())
    longer = front_end(torch.cat([sound, torch.zeros(90000)]))
    assert complete == 2
    assert torch.allclose(longer[:complete], front_end(sound)[:complete], atol=1e-6)


def test_one_sample_more_than_a_patch_begins_a_second_one():
    front_end = CoalaStandard()
    full = front_end.framing.patch_samples
    for samples, patches, heard in ((1, 1, 1), (full - 1, 1, 96), (full, 1, 96), (full + 1, 2, 97)):
        assert front_end(torch.ones(samples)).shape == (patches, 96, 96)
        assert front_end.patch_mask(samples).sum() == heard


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"mean": [0.0]},
            {"mean": [[0.0] * 96]},
            {"std": [1.0] * 95 + [0.0]},
            {"std": [-1.0] * 96},
        ),
        *({"std": [float("nan")] * 96}, {"sample_rate": 0}, {"bands": 0}, {"patch_hop": 97}),
    ],
)
def test_settings_that_would_give_nonsense(settings):
    with pytest.raises((ValueError, TypeError)):
        CoalaStandard(**settings)


def test_unit_is_between_0_and_1():
    for kind in BOTH:
        patches = kind()(0.5 * torch.randn(60000))
        unit = kind().unit(patches)
        assert unit.min() >= 0
        if kind is CoalaStandard:
            assert unit.max() <= 1


def test_legacy_patches_are_scaled_by_time_not_by_band():
    front_end = CoalaLegacy()
    patches = front_end.scale(torch.zeros(1, 96, 96), torch.ones(1, 96, dtype=torch.bool))
    assert (patches[0] == patches[0, :1]).all()
    assert patches[0, 0, 30] != patches[0, 0, 31]


def test_pad_noise_is_asked_for_and_seeded():
    front_end, sound = CoalaLegacy(), torch.zeros(1000)
    assert front_end(sound).equal(front_end(sound))

    def noisy(seed):
        return front_end.add_pad_noise(sound, torch.Generator().manual_seed(seed))

    assert noisy(0).equal(noisy(0))
    assert not noisy(0).equal(noisy(1))
    assert len(noisy(0)) == 220000
    assert 0 <= noisy(0).min() <= noisy(0).max() < 5e-4
    long = torch.zeros(220001)
    assert front_end.add_pad_noise(long, torch.Generator()).equal(long)


def test_state_dict_holds_the_scaler_and_nothing_that_follows_from_settings():
    assert set(CoalaLegacy().state_dict()) == {"scale_by_time", "offset_by_time"}
    assert set(CoalaStandard().state_dict()) == {"mean", "std"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("kind", BOTH)
def test_cuda_equals_cpu(kind):
    sound = 0.1 * torch.randn(60000)
    assert torch.allclose(kind().cuda()(sound.cuda()).cpu(), kind()(sound), atol=1e-4)
