"""From recordings to latents: one pass or three, in full or projected, with labels that fit."""

import numpy as np
import pytest
import soundfile
import torch

from coala_latent.data.factor_tables import factors_from_names
from coala_latent.embed.embedder import load_model
from coala_latent.errors import ConfigError, DataError, StoreMismatchError
from coala_latent.store import Store
from coala_latent.tasks.latent_rows import RowChoice, recording_rows
from coala_latent.tasks.latents import extract_latents, project_layers
from coala_latent.tasks.stored_latents import fit_layer_projection, project_layer
from coala_latent.types import Embedding

LAYERS = ("layer9", "layer13")
PATTERN = r"(?P<material>[WM])(?P<action>[TR])-(?P<take>\d)"


@pytest.fixture(scope="module")
def model():
    return load_model("yamnet-test", LAYERS, pooling="flatten")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds, é=1")
    rng = np.random.default_rng(0)
    for seconds, name in ((3.0, "WT-1"), (2.5, "MT-1"), (3.0, "WR-2"), (3.5, "MR-2")):
        samples = rng.normal(0, 0.1, round(seconds * 16000)) * np.linspace(
            0.2, 1, round(seconds * 16000)
        )
        soundfile.write(folder / f"{name}.wav", samples, 16000)
    return folder


@pytest.fixture
def table(sounds):
    return factors_from_names(sounds, PATTERN)


def whole(model, table, number=0):
    return model.file(table.paths[number])


def chosen(model, path, **options):
    pieces = list(recording_rows(path, model, RowChoice(**options)))
    return Embedding(
        np.concatenate([piece.values for piece in pieces]),
        np.concatenate([piece.start for piece in pieces]),
        np.concatenate([piece.end for piece in pieces]),
    )


def test_every_row_by_default(model, table):
    found, wanted = chosen(model, table.paths[0]), whole(model, table)
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.start, wanted.start)


@pytest.mark.parametrize(("average", "offset"), [(1, 1), (2, 1), (3, 2), (2, 3), (1, 4)])
@pytest.mark.parametrize("every", [1, 2])
def test_averages_are_those_of_the_whole_recording(model, table, average, offset, every):
    found, rows = (
        chosen(model, table.paths[0], average=average, offset=offset, every=every),
        whole(model, table),
    )
    begins = [
        begin for begin in range(0, len(rows) - average + 1, offset) if begin // offset % every == 0
    ]
    assert len(found) == len(begins)
    for number, begin in enumerate(begins):
        np.testing.assert_allclose(
            found.values[number], rows.values[begin : begin + average].mean(axis=0), 1e-4, 1e-5
        )
        assert found.start[number] == rows.start[begin]
        assert found.end[number] == rows.end[begin + average - 1]


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_a_number_of_rows_is_spread_over_the_recording(model, table, rows):
    found = chosen(model, table.paths[0], rows=rows)
    assert len(found) == min(rows, len(whole(model, table)))
    if rows in (2, 3):
        assert found.start[-1] >= 0.4 * 3.0


@pytest.mark.parametrize("name", ["average", "offset", "every", "rows"])
def test_a_choice_of_nothing(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 1"):
        RowChoice(**{name: 0})


def test_a_store_for_each_layer(model, table, tmp_path):
    stores = extract_latents(table, model, tmp_path, quiet=True)
    assert set(stores.paths) == set(LAYERS)
    wanted = model.split(whole(model, table, 2))
    for layer, path in stores.paths.items():
        with Store(path) as store:
            assert store.identity.layer == layer
            assert len(store) == stores.rows
            rows = store.rows_of(table.names[2])
            np.testing.assert_allclose(rows.values, wanted[layer].values, rtol=1e-5, atol=1e-6)
    assert not stores.skipped


def test_a_row_is_what_the_network_goes_on_from(model, table, tmp_path):
    stores = extract_latents(table, model, tmp_path, quiet=True)
    network = model.model.network
    with Store(stores.paths["layer9"]) as store:
        row = torch.from_numpy(store.values[:1])
    silence = torch.zeros(1, 1, *model.model.front_end.patch_shape)
    shape = network.until(silence, "layer9").shape
    outputs = network.resume(row.unflatten(1, shape[1:]), "layer9")
    assert outputs["logits"].shape[0] == 1


def test_a_run_goes_on_and_does_nothing_twice(model, table, tmp_path):
    first = extract_latents(table.take_rows(np.array([0, 1])), model, tmp_path, quiet=True)
    second = extract_latents(table, model, tmp_path, quiet=True)
    with Store(second.paths["layer9"]) as store:
        assert [record.path for record in store.files] == list(table.names)
    assert second.rows > first.rows
    (tmp_path / "layer13.h5").unlink()
    assert extract_latents(table, model, tmp_path, quiet=True).rows == second.rows
    with Store(tmp_path / "layer13.h5") as store:
        assert len(store) == second.rows


def test_other_rows_do_not_go_into_the_same_store(model, table, tmp_path):
    extract_latents(table, model, tmp_path, quiet=True)
    with pytest.raises(StoreMismatchError, match="every"):
        extract_latents(table, model, tmp_path, choice=RowChoice(every=2), quiet=True)
    with pytest.raises(StoreMismatchError, match="level"):
        extract_latents(table, model, tmp_path, level="peak", quiet=True)


def test_files_that_cannot_be_used_are_listed(model, sounds, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    for path in sounds.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "WT-3.wav").write_bytes(b"not a sound")
    cut = (folder / "MT-1.wav").read_bytes()
    (folder / "MT-1.wav").write_bytes(cut[: len(cut) // 2])
    table = factors_from_names(folder, PATTERN)
    stores = extract_latents(table, model, tmp_path / "stores", quiet=True)
    assert set(stores.skipped) == {"WT-3.wav", "MT-1.wav"}
    layers = project_layers(table, model, k=3, quiet=True)
    assert set(layers.skipped) == {"WT-3.wav", "MT-1.wav"}
    latents = layers.latents["layer9"]
    assert set(latents.recording) == {
        number for number, name in enumerate(table.names) if name not in stores.skipped
    }
    assert layers.fitted_rows == stores.rows == len(latents)
    with Store(stores.paths["layer9"]) as store:
        projected = project_layer(store, fit_layer_projection(store, 3), table)
    np.testing.assert_allclose(projected.values, latents.values, atol=1e-3)


def test_too_short_for_an_average(model, table, tmp_path):
    stores = extract_latents(table, model, tmp_path, choice=RowChoice(average=100), quiet=True)
    assert set(stores.skipped) == set(table.names)
    assert stores.rows == 0
    assert "100 make an average" in stores.skipped[table.names[0]]


def test_projected_layers_have_labels_takes_and_unit_variance(model, table):
    layers = project_layers(table, model, k=4, quiet=True)
    for layer in LAYERS:
        latents = layers.latents[layer]
        assert latents.values.shape == (layers.fitted_rows, 4)
        np.testing.assert_allclose(latents.values.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(latents.values.std(axis=0), 1, rtol=1e-3)
        np.testing.assert_array_equal(latents.labels, table.labels[latents.recording])
        np.testing.assert_array_equal(latents.take, table.takes[latents.recording])
        assert latents.source["layer"] == layer
    about = layers.to_dict()["layers"]["layer9"]
    assert about["values"] == model.hearing.sizes["layer9"]
    assert 0 < about["explained"] <= 1
    assert about["explained"] == pytest.approx(sum(about["explained_variance_ratio"]))


def test_projections_know_nothing_of_held_out_recordings(model, table, sounds, tmp_path):
    train = table.takes == table.takes[0]
    layers = project_layers(table, model, k=3, train=train, quiet=True)
    folder = tmp_path / "louder"
    folder.mkdir()
    for path, kept in zip(table.paths, train, strict=True):
        samples, rate = soundfile.read(path)
        soundfile.write(folder / path.name, samples if kept else samples * 5, rate)
    other = project_layers(factors_from_names(folder, PATTERN), model, k=3, train=train, quiet=True)
    for layer in LAYERS:
        for name, values in layers.projections[layer].state_dict().items():
            torch.testing.assert_close(values, other.projections[layer].state_dict()[name])
        assert len(layers.latents[layer]) == len(other.latents[layer])
    stores = extract_latents(table, model, tmp_path / "stores", quiet=True)
    names = [name for name, kept in zip(table.names, train, strict=True) if kept]
    with Store(stores.paths["layer9"]) as store:
        fitted = fit_layer_projection(store, 3, names)
    torch.testing.assert_close(
        fitted.explained_variance_ratio,
        layers.projections["layer9"].explained_variance_ratio,
        rtol=1e-3,
        atol=1e-4,
    )


def test_too_few_rows_and_wrong_names(model, table, tmp_path):
    with pytest.raises(DataError, match="rows to fit 500 components"):
        project_layers(table, model, k=500, quiet=True)
    with pytest.raises(DataError, match="rows to fit"):
        project_layers(table, model, k=2, train=np.zeros(4, bool), quiet=True)
    with pytest.raises(DataError, match="train of shape"):
        project_layers(table, model, train=np.ones(3, bool), quiet=True)
    with pytest.raises(ConfigError, match="the embedder has"):
        project_layers(table, model, ["layer1"], quiet=True)
    stores = extract_latents(table, model, tmp_path, quiet=True)
    with Store(stores.paths["layer9"]) as store:
        with pytest.raises(DataError, match="no recording other"):
            fit_layer_projection(store, 2, ["other"])
        with pytest.raises(DataError, match="rows"):
            fit_layer_projection(store, 200)


def test_a_part_of_the_table_is_a_part_of_the_latents(model, table, tmp_path):
    stores = extract_latents(table, model, tmp_path, quiet=True)
    part = table.subset({"material": ["W"]})
    with Store(stores.paths["layer13"]) as store:
        projection = fit_layer_projection(store, 3)
        latents = project_layer(store, projection, part)
        assert 0 < len(latents) < len(store)
        assert latents.classes[0] == ("W",)
        stranger = factors_from_names(table.root, "(?P<x>W)T-1")
        stranger = type(stranger)(**{**vars(stranger), "names": ("other.wav",)})
        with pytest.raises(DataError, match="no recording of the table"):
            project_layer(store, projection, stranger)


def test_a_level_takes_the_loudness_away(model, table, tmp_path):
    quiet = tmp_path / "quiet.wav"
    samples, rate = soundfile.read(table.paths[0])
    soundfile.write(quiet, samples * 0.1, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "same.wav", samples, rate, subtype="FLOAT")

    def values(path, level):
        return np.concatenate(
            [rows.values for rows in recording_rows(path, model, RowChoice(), level)]
        )

    for level in ("peak", "rms", "maximum"):
        np.testing.assert_allclose(
            values(quiet, level), values(tmp_path / "same.wav", level), rtol=1e-3, atol=1e-4
        )
    assert np.abs(values(quiet, "none") - values(tmp_path / "same.wav", "none")).max() > 1e-3
