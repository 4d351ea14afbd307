"""The published concept vectors load as they are and give what a plain NumPy forward gives."""

import h5py
import numpy as np
import pytest
import torch

from coala_latent.audio.io import find_audio, read_audio
from coala_latent.audio.musicnn import MusicnnFrontEnd
from coala_latent.audio.resample import resample
from coala_latent.errors import WeightsError
from coala_latent.models.concepts import concept_features
from coala_latent.models.musicnn import Musicnn, VggNetwork
from coala_latent.weights.converters.concepts import (
    PUBLISHED_LAYERS,
    convert_published,
    published_vectors,
    read_usage_vectors,
)
from coala_latent.weights.converters.musicnn import vgg_from_h5
from coala_latent.weights.readers import read_arrays

SIZES = (1536, 768, 128, 50)


def content(concepts=3, names=None):
    rng = np.random.default_rng(0)
    weights = {n: rng.normal(size=(size, concepts)).astype("f4") for n, size in enumerate(SIZES)}
    biases = {n: rng.normal(size=(1, concepts)).astype("f4") for n in range(len(SIZES))}
    return [weights, biases, names or [f"Genre, {n} é" for n in range(concepts)]]


def write(path, items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    np.save(path, array, allow_pickle=True)
    return path


def test_weights_are_turned_and_names_kept(tmp_path):
    items = content()
    found = convert_published(write(tmp_path / "x.npy", items))
    assert tuple(found) == PUBLISHED_LAYERS
    assert found["pool5"].names == ("Genre, 0 é", "Genre, 1 é", "Genre, 2 é")
    np.testing.assert_array_equal(found["pool4"].weight[2], items[0][1][:, 2])
    vectors = published_vectors(tmp_path / "x.npy")
    h = torch.randn(4, 128)
    expected = h.numpy() @ items[0][2] + items[1][2]
    np.testing.assert_allclose(vectors(h).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(WeightsError, match="no layer 'pool1'"):
        published_vectors(tmp_path / "x.npy", "pool1")


def without(items, place, key, value):
    items[place] = {**items[place], key: value}
    return items


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (content()[:2], "not three objects"),
        ([*content()[:2], "abc"], "not three objects"),
        ([{}, {}, []], "layers"),
        (without(content(), 0, 7, np.zeros((2, 3), "f4")), "layers"),
        (without(content(), 0, 2, np.zeros((127, 3), "f4")), r"pool5\) is \(127, 3\)"),
        (without(content(), 1, 2, np.zeros(3, "f4")), r"is \(3,\)"),
        (without(content(), 1, 2, np.full((1, 3), np.nan, "f4")), "NaN"),
        (without(content(), 0, 2, "text"), "is str"),
        (content(names=["a", "b", "a"]), "'a' is there twice"),
    ],
)
def test_other_files_are_told(tmp_path, items, message):
    with pytest.raises(WeightsError, match=message):
        convert_published(write(tmp_path / "x.npy", items))


def test_usage_vectors(tmp_path):
    path = tmp_path / "usg.npy"
    vectors = {9: np.arange(3.0), 2: np.ones(3)}
    np.save(path, np.array(vectors, dtype=object), allow_pickle=True)
    ids, values = read_usage_vectors(path)
    assert ids == (2, 9)
    np.testing.assert_array_equal(values, [[1, 1, 1], [0, 1, 2]])
    for wrong in ({}, {"a": np.ones(2)}, {1: 3.0}, {1: np.ones(2), 2: np.ones(3)}):
        np.save(path, np.array(wrong, dtype=object), allow_pickle=True)
        with pytest.raises(WeightsError, match=r"usg\.npy"):
            read_usage_vectors(path)


@pytest.mark.shared
def test_the_published_files(shared):
    folder = shared / "data" / "concepts"
    for name, count, ends, norm in (
        ("apm_genres_cav", 219, ("Funk Rock", "Smooth Jazz"), 1.84),
        ("apm_moods_cav", 165, ("Excited", "Celebratory"), 1.27),
    ):
        found = convert_published(folder / f"{name}.npy")
        assert [each.weight.shape for each in found.values()] == [(count, d) for d in SIZES]
        names = found["pool5"].names
        assert (names[0], names[-1]) == ends
        lengths = np.linalg.norm(found["pool5"].weight, axis=1)
        assert lengths.mean() == pytest.approx(norm, abs=0.005)
    ids, usage = read_usage_vectors(folder / "usg.npy")
    assert usage.shape == (len(ids), 128) == (3607, 128)
    assert np.linalg.norm(usage, axis=1).mean() == pytest.approx(0.784, abs=0.001)


def reference_pools(patch, file):
    """Pools 3 to 5 ``(time, frequency, channel)`` and tag probabilities, from the h5 file alone."""

    def norm(x, name):
        gamma, beta, mean, variance = (
            file[f"{name}/{name}/{part}:0"][:].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta

    x, found = norm(patch[..., None].astype(np.float64), "bn_input"), []
    pools = [(4, 1, 2, 2), (2, 2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 2), (4, 4, 4, 4)]
    for number, (tall, wide, down, across) in enumerate(pools, 1):
        kernel = file[f"{number}CNN/{number}CNN/kernel_1:0"][:].astype(np.float64)
        bias = file[f"{number}CNN/{number}CNN/bias_1:0"][:]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        rows, columns = x.shape[:2]
        x = sum(
            padded[i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3)
        )
        x = norm(np.maximum(x + bias, 0), f"bn_conv{number}")
        high, broad = (rows - tall) // down + 1, (columns - wide) // across + 1
        x = np.max(
            [
                x[i : i + down * high : down, j : j + across * broad : across][:high, :broad]
                for i in range(tall)
                for j in range(wide)
            ],
            axis=0,
        )
        found.append(x)
    kernel, bias = (file[f"output/output/{part}:0"][:] for part in ("kernel", "bias"))
    return found[2:], 1 / (1 + np.exp(-(x.reshape(-1) @ kernel + bias)))


@pytest.mark.shared
@pytest.mark.parity
def test_projections_of_recordings_are_those_of_a_numpy_forward(shared):
    folder = shared / "data" / "concepts"
    model = Musicnn(MusicnnFrontEnd(), VggNetwork()).eval()
    model.load_state_dict(vgg_from_h5(read_arrays(folder / "MSD_vgg.h5")))
    published = [convert_published(folder / f"apm_{name}_cav.npy") for name in ("genres", "moods")]
    modules = [
        {layer: published_vectors(folder / f"apm_{name}_cav.npy", layer) for layer in found}
        for name, found in zip(("genres", "moods"), published, strict=True)
    ]
    worst = 0.0
    with h5py.File(folder / "MSD_vgg.h5") as file, torch.inference_mode():
        for path in find_audio(shared / "data" / "fma"):
            sound = read_audio(path)
            samples = np.atleast_2d(sound.samples).mean(0)
            start = len(samples) // 2
            samples = samples[start : start + 4 * sound.sample_rate]
            wave = torch.from_numpy(resample(samples, sound.sample_rate, 16000))
            patch = model.front_end(wave)[..., 0, :, :].reshape(1, 1, 187, 96)
            maps = model.network.activations(patch, PUBLISHED_LAYERS[:3])
            features = {layer: concept_features(found) for layer, found in maps.items()}
            features["output"] = model.network.concept_features(patch)["output"]
            pools, tags = reference_pools(patch[0, 0].numpy(), file)
            plain = dict(
                zip(
                    PUBLISHED_LAYERS,
                    [*(each.mean(0).reshape(-1) for each in pools), tags],
                    strict=True,
                )
            )
            for found, of_layer in zip(published, modules, strict=True):
                for layer, (_, weight, bias) in found.items():
                    expected = plain[layer] @ weight.T.astype(np.float64) + bias
                    ours = of_layer[layer](features[layer])[0].numpy()
                    worst = max(worst, np.abs(ours - expected).max())
    assert worst < 1e-4
