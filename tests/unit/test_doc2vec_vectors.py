"""What trained document vectors are used for: new recordings, words of frames, their means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coala_latent.data.frame_pairs import FramePairs, RecordingFrames
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.doc2vec import Doc2Vec
from coala_latent.store import Store
from coala_latent.tasks.doc2vec import train_doc2vec
from coala_latent.tasks.doc2vec_folder import read_vectors
from coala_latent.tasks.doc2vec_settings import compose_doc2vec
from coala_latent.tasks.doc2vec_vectors import (
    concatenate,
    frame_vectors,
    gather_means,
    infer_vectors,
    plot_vectors,
)
from coala_latent.training.document_inference import fit_documents

LENGTHS = {"a/one.mp3": 40, "a/two, three=.wav": 30, "ö <b>.flac": 50, "empty.wav": 0, "z.wav": 35}


def write_frames(folder, lengths, bands=6, noise=0):
    for number, (name, length) in enumerate(lengths.items()):
        centre = np.random.default_rng(number).normal(-5, 2, bands)
        values = np.random.default_rng([number, noise]).normal(centre, 1, (length, bands))
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("frames"), LENGTHS)


@pytest.fixture(scope="module", params=["compat=false", "compat=true"])
def trained(frames, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("trained")
    settings = compose_doc2vec(
        [
            *("hidden=16", "dim=6", "batch_size=64", "negatives=7", "pairs_per_save=25600"),
            *("epochs=2", "learning_rate=0.01", request.param),
        ]
    )
    train_doc2vec(frames, folder, settings, quiet=True)
    return folder


def unit(values):
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_a_recordings_nearest_neighbour_is_itself_and_empty_ones_are_listed(
    frames, trained, tmp_path
):
    result = infer_vectors(trained, frames, tmp_path / "new.h5")
    assert result["without_frames"] == ["empty.wav"]
    saved = read_vectors(trained)
    heard = [row for row, name in enumerate(saved.names) if name != "empty.wav"]
    with Store(tmp_path / "new.h5") as store:
        assert store.identity.dim == 6
        assert store.identity.weights_sha256 == saved.identity.weights_sha256
        assert [record.path for record in store.files if record.rows] == [
            saved.names[row] for row in heard
        ]
        likeness = unit(store.values[:]) @ unit(saved.vectors[heard]).T
        assert store.end[0] == pytest.approx(4.0)
    assert (likeness.argmax(1) == np.arange(len(heard))).all()


def test_other_frames_of_the_same_source_are_recognised(trained, tmp_path):
    new = write_frames(tmp_path / "new", LENGTHS, noise=1)
    infer_vectors(trained, new, tmp_path / "new.h5")
    saved = read_vectors(trained)
    heard = [row for row, name in enumerate(saved.names) if name != "empty.wav"]
    with Store(tmp_path / "new.h5") as store:
        likeness = unit(store.values[:]) @ unit(saved.vectors[heard]).T
    assert (likeness.argmax(1) == np.arange(len(heard))).all()


def test_inference_is_deterministic_and_replaces_only_when_told(frames, trained, tmp_path):
    values = []
    for name in ("one.h5", "two.h5"):
        infer_vectors(trained, frames, tmp_path / name)
        with Store(tmp_path / name) as store:
            values.append(store.values[:])
    np.testing.assert_array_equal(*values)
    with pytest.raises(ConfigError, match="overwrite"):
        infer_vectors(trained, frames, tmp_path / "one.h5")
    infer_vectors(trained, frames, tmp_path / "one.h5", seed=1, overwrite=True)
    with Store(tmp_path / "one.h5") as store:
        assert not np.array_equal(store.values[:], values[0])
        assert store.metadata["seed"] == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".h5") == [
        "one.h5",
        "two.h5",
    ]


@pytest.mark.parametrize("compat", [False, True])
def test_fitted_vectors_are_the_minimum_of_the_loss(compat):
    torch.manual_seed(0)
    model = Doc2Vec(0, 5, 8, 4, compat=compat, seed=2).eval()
    if not compat:
        for network in (model.origin, model.cross):
            torch.nn.init.normal_(network.soft.weight)
    frames, background = torch.randn(70, 5) + 1, torch.randn(30, 5)
    data = RecordingFrames(frames, np.array([0, 40, 40, 70]))
    prior = 0.5
    found = fit_documents(model, data, background, 3, prior=prior, pairs=32, seed=4)
    sampler = FramePairs(data, 32, 3)
    pairs = sampler.of_each(32, torch.Generator().manual_seed(4))
    assert not found[1].any()
    for row, place in enumerate((0, 2)):
        v = found[place].clone().requires_grad_()
        batch = sampler.batch(pairs, row)
        origins = model.word_vectors(batch.frames) + v
        near = model.pair_scores(origins, model.context_vectors(batch.contexts))
        far = model.scores(origins, model.context_vectors(background))
        loss = (F.softplus(-near).mean() + F.softplus(far).mean()) / 2
        (loss + prior / 2 * v.square().sum()).backward()
        assert float(v.grad.norm()) < 1e-4
        assert float(v.detach().norm()) > 1e-4


def test_frames_of_another_kind_are_refused(trained, tmp_path):
    other = write_frames(tmp_path / "wide", {"a.wav": 9}, bands=7)
    for use in (
        lambda: infer_vectors(trained, other, tmp_path / "x.h5"),
        lambda: frame_vectors(trained, other, tmp_path / "x", quiet=True),
        lambda: gather_means(other, trained, tmp_path / "x.npy"),
    ):
        with pytest.raises(DataError, match="7 values in a frame"):
            use()
    with pytest.raises(DataError, match="no document vectors"):
        infer_vectors(tmp_path, other, tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_words_of_frames_keep_their_names_and_means_agree(frames, trained, tmp_path):
    words = tmp_path / "words"
    assert frame_vectors(trained, frames, words, quiet=True)["frames"] == 155
    model = read_vectors(trained).model
    for name, length in LENGTHS.items():
        values = np.load(words / f"{name}.npy")
        assert values.shape == (length, 6)
        with torch.no_grad():
            wanted = model.word_vectors(torch.from_numpy(np.load(frames / f"{name}.npy")))
        np.testing.assert_allclose(values, wanted, atol=1e-6)
    result = gather_means(frames, trained, tmp_path / "means.npy")
    assert result["without_frames"] == ["empty.wav"]
    gather_means(words, trained, tmp_path / "computed.npy", computed=True)
    gather_means(words, trained / "music_list.txt", tmp_path / "list.npy", computed=True)
    means = np.load(tmp_path / "means.npy")
    for other in ("computed", "list"):
        np.testing.assert_allclose(means, np.load(tmp_path / f"{other}.npy"), atol=1e-6)
    order = read_vectors(trained).names
    np.testing.assert_allclose(
        means[order.index("z.wav")], np.load(words / "z.wav.npy").mean(0), atol=1e-5
    )
    assert not means[order.index("empty.wav")].any()


def test_a_recording_of_the_list_without_frames_file_is_told(trained, tmp_path):
    few = write_frames(tmp_path / "few", {"z.wav": 9})
    with pytest.raises(DataError, match=r"no frames of a/one\.mp3 and 3 others"):
        gather_means(few, trained, tmp_path / "means.npy")


def test_arrays_are_put_side_by_side(tmp_path):
    one, two, out = (tmp_path / f"{name}, =.npy" for name in ("one", "two", "out"))
    np.save(one, np.ones((3, 2)))
    np.save(two, np.zeros((3, 4)))
    assert concatenate(one, two, out) == (3, 6)
    np.testing.assert_array_equal(np.load(out), [[1, 1, 0, 0, 0, 0]] * 3)
    np.save(two, np.zeros((2, 4)))
    with pytest.raises(DataError, match="3 rows"):
        concatenate(one, two, out)
    np.save(two, np.zeros(3))
    with pytest.raises(DataError, match="not \\(rows, values\\)"):
        concatenate(one, two, out)


def test_vectors_over_time_are_drawn(tmp_path):
    array, picture = tmp_path / "$a$.npy", tmp_path / "new" / "a.png"
    np.save(array, np.random.default_rng(0).normal(size=(50, 4)))
    plot_vectors(array, picture, 0.1)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="seconds_per_row"):
        plot_vectors(array, picture, 0.0)
    np.save(array, np.zeros((0, 4)))
    with pytest.raises(DataError, match="nothing to draw"):
        plot_vectors(array, picture)
