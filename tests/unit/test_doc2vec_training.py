"""Training of document vectors: resuming, refusing, sound-eval's folders, ending."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from coala_latent.errors import ConfigError, DataError
from coala_latent.store import Store
from coala_latent.tasks.doc2vec import train_doc2vec
from coala_latent.tasks.doc2vec_folder import read_vectors
from coala_latent.tasks.doc2vec_layout import weight_arrays
from coala_latent.tasks.doc2vec_settings import Doc2VecSettings, compose_doc2vec
from coala_latent.tasks.train import config_folder
from coala_latent.training import document_vectors
from coala_latent.training.document_vectors import Flattening, pair_auc

LENGTHS = {"a/one.mp3": 40, "a/two, three=.wav": 25, "ö <b>.flac": 30, "empty.wav": 0, "z.wav": 2}
QUICK = ("hidden=8", "dim=4", "batch_size=32", "negatives=3", "pairs_per_save=640", "block=4")


def write_frames(folder: Path, lengths: dict[str, int] = LENGTHS, bands: int = 5) -> Path:
    for number, (name, length) in enumerate(lengths.items()):
        rng = np.random.default_rng(number)
        values = rng.normal(rng.normal(-5, 2, bands), 1, (length, bands)).astype(np.float32)
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)
    return folder


def chosen(*overrides: str) -> Doc2VecSettings:
    return compose_doc2vec([*QUICK, *overrides])


def train(frames: Path, output: Path, *overrides: str):
    return train_doc2vec(frames, output, chosen(*overrides), quiet=True)


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("vector_at_*.npy"))}


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    return write_frames(tmp_path_factory.mktemp("frames"))


@pytest.mark.parametrize("mode", [["compat=true"], []])
def test_a_run_in_pieces_is_the_run_in_one(frames, tmp_path, mode):
    train(frames, tmp_path / "one", "epochs=4", *mode)
    for epochs in (1, 3, 4):
        train(frames, tmp_path / "pieces", f"epochs={epochs}", *mode)
    assert len(tables(tmp_path / "one")) == 5
    assert tables(tmp_path / "one") == tables(tmp_path / "pieces")
    costs = [(tmp_path / each / "cost_list.csv").read_text() for each in ("one", "pieces")]
    assert costs[0] == costs[1]
    assert costs[0].startswith("epoc,cost\n1,0.")


def test_ctrl_c_saves_in_the_middle_of_an_epoch_and_the_rest_is_as_if_it_had_not_come(
    frames, tmp_path, monkeypatch
):
    whole = train(frames, tmp_path / "one", "epochs=3")
    step = document_vectors.DocumentVectors.training_step

    def interrupted(self, batch, index):
        step(self, batch, index)
        if self.steps_done == 28:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(document_vectors.DocumentVectors, "training_step", interrupted)
        stopped = train(frames, tmp_path / "two", "epochs=3")
    assert (stopped["ended"], stopped["steps"], stopped["epochs"]) == ("stopped", 28, 1)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    rest = train(frames, tmp_path / "two", "epochs=3")
    assert rest["ended"] == "epochs"
    one, two = (read_vectors(tmp_path / each) for each in ("one", "two"))
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert {key: rest[key] for key in ("steps", "loss", "held_out_loss", "auc")} == {
        key: whole[key] for key in ("steps", "loss", "held_out_loss", "auc")
    }


def test_the_folder_has_the_names_people_know(frames, tmp_path):
    result = train(frames, tmp_path, "epochs=2")
    assert result["without_frames"] == ["empty.wav"]
    listed = (tmp_path / "music_list.txt").read_text("utf-8")
    assert listed.split("\n") == [f"./{name}.npy" for name in sorted(LENGTHS)]
    assert (tmp_path / "epoc_num.txt").read_text() == "2"
    saved = read_vectors(tmp_path)
    vectors = np.load(tmp_path / "vector_at_2.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, saved.vectors)
    assert (tmp_path / "cost_list.csv").read_text().count("\n") == 3
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["NUM_MEL_BINS"], config["HIDDEN_SIZE"], config["OUTPUT_VECTOR_SIZE"]) == (
        5,
        8,
        4,
    )
    with Store(tmp_path / "store.h5") as store:
        assert [record.path for record in store.files] == sorted(LENGTHS)
        assert {record.path for record in store.files if not record.rows} == {"empty.wav"}
        embedding = store.rows_of("a/one.mp3")
        np.testing.assert_array_equal(
            embedding.values[0], saved.vectors[saved.names.index("a/one.mp3")]
        )
        assert (embedding.start[0], embedding.end[0]) == (0.0, pytest.approx(4.0))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["settings"]["seed"] == 0
    assert set(manifest["versions"]) >= {"torch", "coala_latent"}


def test_known_weights_hear_unscaled_frames(frames, tmp_path):
    train(frames, tmp_path, "epochs=1")
    w = {path.stem: np.load(path) for path in (tmp_path / "weights").glob("*.npy")}
    assert w["relu_originW"].shape == (5, 8)
    values = np.load(frames / "a" / "one.mp3.npy")
    hidden = np.maximum(values @ w["relu_originW"] + w["relu_originb"], 0)
    words = hidden @ w["soft_originW"] + w["soft_originb"]
    model = read_vectors(tmp_path).model
    with torch.no_grad():
        np.testing.assert_allclose(words, model.word_vectors(torch.from_numpy(values)), atol=1e-5)


def test_other_recordings_settings_or_frames_are_refused_by_name(frames, tmp_path):
    output = tmp_path / "out"
    train(frames, output, "epochs=1")
    before = tables(output)
    other = write_frames(tmp_path / "other", {"a/one.mp3": 40, "new, one.wav": 9})
    with pytest.raises(DataError, match=r"1 new \(new, one\.wav\), 4 missing"):
        train(other, output, "epochs=2")
    with pytest.raises(ConfigError, match="window: 3 there, 5 here"):
        train(frames, output, "epochs=2", "window=5")
    with pytest.raises(ConfigError, match="compat: False there, True here"):
        train(frames, output, "epochs=2", "compat=true")
    changed = write_frames(tmp_path / "changed")
    np.save(changed / "z.wav.npy", np.ones((2, 5), np.float32))
    with pytest.raises(DataError, match="other values"):
        train(changed, output, "epochs=2")
    longer = write_frames(tmp_path / "wide", bands=6)
    with pytest.raises(DataError, match="bands: 5 there, 6 here"):
        train(longer, output, "epochs=2")
    assert tables(output) == before


def test_a_folder_of_something_else_is_left_alone(frames, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        train(frames, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tex"] == ["thesis.tex"]


def test_only_one_process_trains_in_a_folder(frames, tmp_path):
    from coala_latent.tasks.doc2vec_folder import VectorFolder

    with VectorFolder(tmp_path), pytest.raises(ConfigError, match="another process"):
        train(frames, tmp_path)


def original_folder(folder: Path, names: list[str], rng: np.random.Generator) -> Path:
    """As sound-eval leaves it after save 7."""
    (folder / "weights").mkdir(parents=True)
    for place in ("origin", "cross"):
        for kind, size in (("relu", (5, 8)), ("soft", (8, 4))):
            for what, shape in (("W", size), ("b", size[1:])):
                values = rng.normal(0, 0.3, shape).astype(np.float32)
                np.save(folder / "weights" / f"{kind}_{place}{what}.npy", values)
    np.save(folder / "vector_at_7.npy", rng.normal(0, 1, (len(names), 4)).astype(np.float32))
    (folder / "music_list.txt").write_text("\n".join(f"./{name}.npy" for name in names), "utf-8")
    (folder / "epoc_num.txt").write_text("7")
    (folder / "config.yaml").write_text("WINDOW_SIZE: 3\nHIDDEN_SIZE: 8\n")
    (folder / "cost_list.csv").write_text("epoc,cost\n0,0.69\n7,0.4\n7,0.39\n")
    return folder


def test_a_folder_of_the_original_opens_and_is_gone_on_with(frames, tmp_path, rng):
    folder = original_folder(tmp_path / "old", sorted(LENGTHS), rng)
    weights = {path.stem: np.load(path) for path in (folder / "weights").glob("*.npy")}
    saved = read_vectors(folder)
    assert saved.original
    assert saved.number == 7
    assert saved.names == sorted(LENGTHS)
    np.testing.assert_array_equal(saved.vectors, np.load(folder / "vector_at_7.npy"))
    for name, values in weight_arrays(saved.model).items():
        np.testing.assert_allclose(values, weights[name], rtol=1e-6)
    with pytest.raises(ConfigError, match="compat=true"):
        train(frames, folder, "epochs=1")
    with pytest.raises(ConfigError, match="hidden: 8 there, 9 here"):
        train(frames, folder, "epochs=1", "compat=true", "hidden=9")
    before = saved.vectors.copy()
    result = train(frames, folder, "epochs=1", "compat=true", "learning_rate=0.00001")
    assert result["saves"] == 8
    after = read_vectors(folder)
    assert not after.original
    assert np.abs(after.vectors - before).max() < 0.01
    assert not np.array_equal(after.vectors, before)
    assert after.costs[:3] == [(0, 0.69), (7, 0.4), (7, 0.39)]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "epoc_num.txt").write_text("x"), "epoc_num"),
        (lambda f: (f / "weights" / "soft_crossb.npy").unlink(), "soft_crossb"),
        (lambda f: np.save(f / "vector_at_7.npy", np.zeros((2, 4), np.float32)), "documents"),
        (lambda f: np.save(f / "weights" / "relu_originb.npy", np.zeros(3)), "origin.relu.bias"),
        (lambda f: np.save(f / "vector_at_7.npy", np.array([{}])), "vector_at_7"),
        (lambda f: np.save(f / "vector_at_7.npy", np.zeros(4, np.float32)), "vector_at_7"),
        (lambda f: (f / "config.yaml").write_text("{"), "config.yaml"),
    ],
)
def test_damaged_folders_of_the_original_are_told(tmp_path, rng, damage, told):
    folder = original_folder(tmp_path / "old", ["a.mp3", "b.mp3", "c.mp3"], rng)
    damage(folder)
    with pytest.raises(DataError, match=told):
        read_vectors(folder)


def test_a_damaged_state_is_told(frames, tmp_path):
    train(frames, tmp_path, "epochs=1")
    state = next(tmp_path.glob("state_at_*.pt"))
    state.write_bytes(state.read_bytes()[:-100] + b"\0" * 100)
    with pytest.raises(DataError, match="damaged"):
        read_vectors(tmp_path)


def test_one_recording_needs_compat(tmp_path):
    frames = write_frames(tmp_path / "frames", {"only.wav": 30})
    with pytest.raises(ConfigError, match="compat=true"):
        train(frames, tmp_path / "out", "epochs=1")
    assert train(frames, tmp_path / "compat", "epochs=1", "compat=true")["recordings"] == 1


def test_recordings_shorter_than_the_window_are_trained(tmp_path):
    frames = write_frames(tmp_path / "frames", {"a.wav": 2, "b.wav": 1, "c.wav": 3})
    result = train(frames, tmp_path / "out", "epochs=2", "window=10")
    assert result["held_out_loss"] is None  # nothing can be spared
    assert np.linalg.norm(read_vectors(tmp_path / "out").vectors, axis=1).min() > 0


def test_frames_on_disk_train_as_those_in_memory(frames, tmp_path):
    for place in ("mapped", "memory", "device"):
        train(frames, tmp_path / place, "epochs=1", f"frames={place}")
    assert tables(tmp_path / "mapped") == tables(tmp_path / "memory") == tables(tmp_path / "device")
    assert not (tmp_path / "mapped" / ".frames.npy").exists()


def test_half_precision_trains(frames, tmp_path):
    result = train(frames, tmp_path, "epochs=2", "precision=bf16-mixed")
    assert 0 < result["loss"] < 0.7
    assert read_vectors(tmp_path).vectors.dtype == np.float32


def test_a_flat_loss_lowers_the_rate_and_then_ends_the_run(frames, tmp_path):
    settings = replace(chosen(), patience=1, least=0.9, cuts=2)
    result = train_doc2vec(frames, tmp_path, settings, quiet=True)
    # The first loss is the best; each of three others cuts the rate or ends the run.
    assert (result["ended"], result["epochs"]) == ("flat", 4)
    again = train_doc2vec(frames, tmp_path, settings, quiet=True)
    assert (again["ended"], again["epochs"]) == ("flat", 4)


def test_the_weights_of_the_lowest_held_out_loss_count(frames, tmp_path):
    result = train(frames, tmp_path, "learning_rate=0.05", "patience=2", "cuts=1")
    assert result["ended"] == "flat"
    assert 0 < result["saved_step"] < result["steps"]
    best = result["saved_step"] // 20  # steps in an epoch
    last = tables(tmp_path)[f"vector_at_{result['saves']}.npy"]
    assert last == tables(tmp_path)[f"vector_at_{best}.npy"]
    assert last != tables(tmp_path)[f"vector_at_{best - 1}.npy"]
    # A second call has nothing to do.
    assert train(frames, tmp_path, "learning_rate=0.05", "patience=2", "cuts=1") == result


def test_a_diverged_training_keeps_the_last_save(frames, tmp_path):
    with pytest.raises(DataError, match="diverged"):
        train(frames, tmp_path, "learning_rate=1e30")
    saved = read_vectors(tmp_path)
    assert saved.number == 0
    assert np.isfinite(saved.vectors).all()


def test_flattening_counts_only_real_improvements():
    flat = Flattening(patience=2, least=0.1, factor=0.5, cuts=1)
    for loss in (1.0, 0.95, 0.8, 0.79):
        flat.update(loss)
    assert (flat.best, flat.rate, flat.ended) == (0.8, 1.0, False)
    flat.update(0.78)
    assert (flat.rate, flat.ended) == (0.5, False)
    flat.update(0.9)
    flat.update(0.9)
    assert (flat.rate, flat.ended) == (0.5, True)
    never = Flattening(patience=None)
    for _ in range(50):
        never.update(1.0)
    assert not never.ended


def test_auc_counts_equal_scores_half():
    near, far = torch.tensor([3.0, 1.0]), torch.tensor([0.0, 1.0, 2.0])
    assert pair_auc(near, far) == pytest.approx((3 + 1.5) / 6)
    assert pair_auc(near, far[:0]) is None


GROUP = sorted(path.stem for path in (config_folder() / "doc2vec").glob("*.yaml"))
# M, H, D, window, batch, as sound-eval's configurations.
SIZES = {
    "default": (64, 128, 32, 3, 256, 7_812, 24_896),
    "small": (80, 128, 32, 4, 120, 166_666, 28_992),
    "opt": (80, 192, 48, 4, 1024, 19_531, 49_632),
    "aggressive": (80, 512, 80, 4, 1024, 19_531, 165_024),
}


def test_every_configuration_is_tested():
    assert {*SIZES, "standard"} == set(GROUP)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("compat", ["false", "true"])
def test_the_originals_configurations_are_carried_over(name, compat, tmp_path):
    from coala_latent.models.doc2vec import Doc2Vec

    made = compose_doc2vec([f"doc2vec={name}", f"compat={compat}"])
    bands, hidden, dim, window, batch, steps, parameters = SIZES[name]
    assert (made.bands, made.hidden, made.dim) == (bands, hidden, dim)
    assert (made.window, made.batch_size, made.learning_rate) == (window, batch, 0.001)
    assert made.steps.steps == steps
    assert batch % (made.negatives + 1) == 0
    model = Doc2Vec(0, bands, hidden, dim, compat=made.compat)
    assert sum(each.numel() for each in model.parameters()) == parameters
    with pytest.raises(ConfigError, match=f"bands 5, the configuration is for {bands}"):
        train_doc2vec(write_frames(tmp_path), tmp_path / "out", made, quiet=True)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dim=0", "dim=0"),
        ("window=0", "window"),
        ("learning_rate=fast", "learning_rate"),
        ("compat=1", "compat"),
        ("frames=moon", "frames"),
        ("precision=8", "precision"),
        ("accelerator=gpu0", "accelerator='gpu0'"),
        pytest.param(
            "accelerator=cuda",
            "no device 'cuda' here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here"),
        ),
        ("pairs_per_save=10", "pairs_per_save"),
        ("unknown=1", "unknown"),
        ("doc2vec=large", "large"),
        ("held_out=nan", "held_out"),
        ("batch_size=33", "multiple of 4"),
    ],
)
def test_settings_that_make_no_sense_are_refused(frames, tmp_path, override, told):
    with pytest.raises(ConfigError, match=told):
        train(frames, tmp_path / "out", override)


@pytest.mark.parametrize("override", ["unknown=1", "doc2vec=large", "epochs"])
def test_refused_settings_come_without_advice_for_other_programs(override):
    with pytest.raises(ConfigError, match=r"configs/doc2vec\.yaml") as error:
        compose_doc2vec([override])
    for advice in ("+unknown", "search path", "hydra"):
        assert advice not in str(error.value)


def test_frames_of_other_settings_are_refused_by_what_differs(frames, tmp_path):
    output = tmp_path / "out"
    train(frames, output, "epochs=1")
    other = write_frames(tmp_path / "other")
    (other / "spectrify.json").write_text('{"settings": {"hop": 0.2, "low": 80.0}}')
    with pytest.raises(DataError, match=r"hop: None there, 0\.2 here; low: None there, 80\.0 here"):
        train(other, output, "epochs=2")


def test_a_file_in_the_folders_place_is_told(frames, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        train(frames, tmp_path / "out", "epochs=1")
    assert (tmp_path / "out").read_text() == "mine"
