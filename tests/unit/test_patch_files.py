"""Files of patches: what is written comes back, published files are read as they are."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from coala_latent.audio.frontends import CoalaLegacy, CoalaStandard
from coala_latent.audio.raw import RawWaveform
from coala_latent.data.patch_choice import WaitingPatches, choose_patch, fit_min_max
from coala_latent.data.patch_files import (
    PatchHeader,
    PatchRows,
    PatchWriter,
    analysis_of,
    published_scaling,
)
from coala_latent.data.patch_reader import PatchFile, read_vocabulary
from coala_latent.data.sources import BuiltinSounds
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.data.stored_patches import StoredFiles, StoredPatches
from coala_latent.errors import AudioValueError, ConfigError, DataError
from coala_latent.types import Sound

VOCABULARY = ("dog", "bärk", "rain, heavy")
ODD = "a b, c=d 'e' \"f\" [1]/ü.wav"


def header(front_end: Any = None, **changes: Any) -> PatchHeader:
    scale, offset = published_scaling()
    values: dict[str, Any] = {
        "vocabulary": VOCABULARY,
        "analysis": analysis_of(front_end or CoalaLegacy()),
        "scale": scale,
        "offset": offset,
        "details": {"split_seed": 3},
    }
    return PatchHeader(**{**values, **changes})


def rows(count: int, first: int = 0, **changes: Any) -> PatchRows:
    rng = np.random.default_rng(first)
    values: dict[str, Any] = {
        "ids": np.arange(first, first + count),
        "patches": rng.normal(-5, 2, (count, 96, 96)).astype(np.float32),
        "frames": np.full(count, 96),
        "tags": [(row % 3,) for row in range(count)],
        "sources": [f"{row}.wav" for row in range(first, first + count)],
        "groups": [f"g{row // 2}" for row in range(first, first + count)],
    }
    return PatchRows(**{**values, **changes})


def write(path: Path, count: int = 5, **changes: Any) -> PatchRows:
    written = rows(count, **changes)
    with PatchWriter(path, header()) as writer:
        writer.add(written)
    return written


def publish(path: Path, count: int = 6, tags: int = 3) -> np.ndarray:
    """A file as the original project wrote them: three plain data sets."""
    scaled = np.random.default_rng(0).random((count, 96, 96)).astype(np.float32)
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        group["data"] = scaled
        group["id"] = np.arange(100, 100 + count, dtype=np.int32)[:, None]
        group["label"] = (np.arange(count)[:, None] % tags == np.arange(tags)).astype(np.int16)
    return scaled


@pytest.mark.parametrize("memory", ["always", "never"])
def test_what_is_written_comes_back(tmp_path: Path, memory: Any) -> None:
    path = tmp_path / "set, of=patches [1]"
    first = rows(3, sources=[ODD, "b", "c"], tags=[(0, 2), (), (1,)], frames=np.array([96, 1, 5]))
    with PatchWriter(path, header()) as writer:
        writer.add(first)
        writer.add(rows(0))
        writer.add(rows(4, 3))
        assert not path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    file = PatchFile(path, memory=memory)
    assert (len(file), file.vocabulary, file.published) == (7, VOCABULARY, False)
    assert file.in_memory is (memory == "always")
    assert file.header.details == {"split_seed": 3}
    assert file.sources[:2] == (ODD, "b")
    assert file.groups[:3] == ("g0", "g0", "g1")
    assert file.ids.tolist() == list(range(7))
    assert file.sha256 == writer.sha256 != ""
    chosen = np.array([2, 0, 6, 0])
    batch = file.batch(chosen)
    wanted = np.concatenate([first.patches, rows(4, 3).patches])[chosen]
    assert np.abs(batch.patches.numpy() - wanted).max() < 1e-5
    assert batch.tags.tolist() == [[0, 1, 0], [1, 0, 1], [1, 0, 0], [1, 0, 1]]
    assert batch.mask.sum(1).tolist() == [5, 96, 96, 96]
    assert batch.clip.tolist() == chosen.tolist()
    assert file.batch(np.zeros(0, dtype=np.int64)).patches.shape == (0, 96, 96)


def test_the_layout_is_the_originals(tmp_path: Path) -> None:
    written = write(tmp_path / "set")
    with h5py.File(tmp_path / "set") as file:
        group = file["dataset"]
        assert (group["id"].shape, group["id"].dtype) == ((5, 1), np.int32)
        assert (group["data"].shape, group["data"].dtype) == ((5, 96, 96), np.float32)
        assert (group["label"].shape, group["label"].dtype) == ((5, 3), np.int16)
        scaled = CoalaLegacy().scale(torch.from_numpy(written.patches), torch.ones(5, 96) > 0)
        assert np.array_equal(group["data"][:], scaled.numpy())


def test_published_files_are_read_as_they_are(tmp_path: Path) -> None:
    scaled = publish(tmp_path / "spec_tags_top_1000")
    names = tmp_path / "id2token.json"
    names.write_text(json.dumps({"0": "close", "1": "open", "2": "bell"}), "utf-8")
    file = PatchFile(tmp_path / "spec_tags_top_1000", vocabulary=names)
    assert file.published
    assert file.vocabulary == ("close", "open", "bell")
    assert file.sources[0] == file.groups[0] == "100"
    batch = file.batch(np.arange(6))
    again = CoalaLegacy().scale(batch.patches, batch.mask).numpy()
    assert np.abs(again - scaled).max() < 1e-6
    assert batch.tags.argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert batch.mask.all()


@pytest.mark.shared
def test_the_published_vocabulary_is_read(shared: Path) -> None:
    names = read_vocabulary(shared / "data" / "coala" / "id2token_top_1000.json")
    assert len(names) == 1000
    assert names[:3] == ("close", "closing", "drawer")


def test_auto_holds_in_memory_what_fits(tmp_path: Path) -> None:
    write(tmp_path / "set", 4)
    size = 4 * 4 * 96 * 96
    assert PatchFile(tmp_path / "set", memory_limit=size).in_memory
    assert not PatchFile(tmp_path / "set", memory_limit=size - 1).in_memory
    write(tmp_path / "val", 1, first=9)
    source = StoredFiles(str(tmp_path / "set"), str(tmp_path / "val"), memory_limit=size)
    train, validation = source.open()
    assert (train.in_memory, validation.in_memory) == (False, True)
    with pytest.raises(ConfigError, match="auto, always, never"):
        PatchFile(tmp_path / "set", memory="sometimes")  # type: ignore[arg-type]


class Rows(Dataset[PatchBatch]):
    """Batches of a file in a scattered order."""

    def __init__(self, file: PatchFile) -> None:
        self.file = file

    def __len__(self) -> int:
        return 30

    def __getitem__(self, batch: int) -> PatchBatch:
        if batch >= len(self):
            raise IndexError(batch)
        return self.file.batch((np.arange(8) * 7 + 11 * batch) % len(self.file))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_the_process_itself_reads(tmp_path: Path, start: str) -> None:
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} on this platform")
    write(tmp_path / "set", 40)
    file = PatchFile(tmp_path / "set", memory="never")
    expected = list(Rows(file))
    # The file is open here when the workers start.
    loader = DataLoader(Rows(file), batch_size=None, num_workers=2, multiprocessing_context=start)
    for found, wanted in zip(loader, expected, strict=True):
        assert torch.equal(found.patches, wanted.patches)
        assert torch.equal(found.tags, wanted.tags)
    assert torch.equal(Rows(file)[3].patches, expected[3].patches), "still open and right here"


def test_pickles_hold_neither_handle_nor_patches(tmp_path: Path) -> None:
    write(tmp_path / "set", 40)
    file = PatchFile(tmp_path / "set", memory="always")
    data = pickle.dumps(file)
    assert len(data) < 50_000
    copy = pickle.loads(data)
    assert not copy.in_memory
    assert torch.equal(copy.batch(np.array([5])).patches, file.batch(np.array([5])).patches)


def test_a_failing_or_empty_writer_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "set"
    write(path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="not finite"), PatchWriter(path, header()) as writer:
        writer.add(rows(2, patches=NAN))
    with pytest.raises(DataError, match="no patches"), PatchWriter(path, header()):
        pass
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


NAN = np.full((2, 96, 96), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patches": NAN}, r"0\.wav: a value of its patch is not finite"),
        ({"patches": np.zeros((2, 96, 95), np.float32)}, "96, 95"),
        ({"tags": [(0,), (3,)]}, "outside the vocabulary"),
        ({"tags": [(0,), (-1,)]}, "outside the vocabulary"),
        ({"ids": np.array([1, 2**31])}, "int32"),
        ({"frames": np.array([0, 96])}, "frames"),
        ({"sources": ["one"]}, "entries"),
    ],
)
def test_wrong_rows_are_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with PatchWriter(tmp_path / "set", header()) as writer:
        writer.add(rows(1))
        with pytest.raises(DataError, match=message):
            writer.add(rows(2, **changes))
    assert len(PatchFile(tmp_path / "set")) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": ()}, "vocabulary is empty"),
        ({"vocabulary": ("a", "a")}, "a tag twice"),
        ({"scale": np.ones(95, np.float32)}, "96 frames"),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PatchWriter(tmp_path / "set", header(**changes))
    assert not list(tmp_path.iterdir())


def damage(path: Path, how: str) -> None:
    if how == "cut":
        path.write_bytes(path.read_bytes()[:30_000])
    elif how == "text":
        path.write_text("not HDF5", "utf-8")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "gone":
        path.unlink()
    else:
        with h5py.File(path, "r+") as file:
            group = file["dataset"]
            if how == "other format":
                file.attrs["format"] = "coala_latent.store"
            elif how == "later version":
                file.attrs["format_version"] = 2
            elif how == "no data":
                del group["data"]
            elif how == "no group":
                del file["dataset"]
            elif how == "no scale":
                del file.attrs["scale"]
            elif how == "short ids":
                group["id"].resize(2, axis=0)
            elif how == "label 2":
                group["label"][1, 1] = 2
            elif how == "no rows":
                for name in ("id", "data", "label"):
                    group[name].resize(0, axis=0)
            elif how == "nan":
                group["data"][3, 5, 5] = np.nan


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", "fetch it again"),
        ("text", "fetch it again"),
        ("empty", "fetch it again"),
        ("gone", "no such file"),
        ("other format", r"format coala_latent\.store"),
        ("later version", "version 2"),
        ("no data", "data"),
        ("no group", "dataset"),
        ("no scale", "scale"),
        ("short ids", "do not belong together"),
        ("label 2", "other than 0 and 1"),
        ("no rows", "no patches"),
        ("nan", "row 3 has values that are not finite"),
    ],
)
def test_damaged_and_other_files_are_told(tmp_path: Path, how: str, message: str) -> None:
    path = tmp_path / "set"
    write(path)
    damage(path, how)
    with pytest.raises(DataError, match=message) as caught:
        PatchFile(path, memory="always")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (None, "give their JSON with data.vocabulary"),
        ({"0": "a", "1": "b"}, "3 tags, but the vocabulary has 2"),
        ({"0": "a", "2": "b", "3": "c"}, "count from 0"),
        (["a", "b", "a"], "one twice"),
        (["a", "b", 3], "nor a list of tags"),
        ("text", "nor a list of tags"),
    ],
)
def test_published_files_need_their_vocabulary(
    tmp_path: Path, vocabulary: Any, message: str
) -> None:
    publish(tmp_path / "spec")
    names = None
    if vocabulary is not None:
        names = tmp_path / "names.json"
        names.write_text(json.dumps(vocabulary), "utf-8")
    with pytest.raises(DataError, match=message):
        PatchFile(tmp_path / "spec", vocabulary=names)


def test_vocabularies_are_read_from_objects_lists_and_reports(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    for value in ({"1": "b", "0": "a"}, ["a", "b"], {"vocabulary": {"0": "a", "1": "b"}}):
        path.write_text(json.dumps(value), "utf-8")
        assert read_vocabulary(path) == ("a", "b")
    path.write_text("{", "utf-8")
    with pytest.raises(DataError, match=r"names\.json: not readable as JSON"):
        read_vocabulary(path)
    write(tmp_path / "set")
    path.write_text('["x", "y", "z"]', "utf-8")
    with pytest.raises(DataError, match="another vocabulary"):
        PatchFile(tmp_path / "set", vocabulary=path)


def stored(folder: Path, front_end: Any, **options: Any) -> StoredPatches:
    source = StoredFiles(str(folder / "set"), str(folder / "val"))
    return StoredPatches(source, front_end, batch_size=4, **options)


def test_training_hears_every_patch_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    write(tmp_path / "set", 12)
    write(tmp_path / "val", 5, first=20)
    data = stored(tmp_path, CoalaLegacy(), seed=1)
    data.setup()
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append(torch.cat([batch.clip for batch in loader]).tolist())
    assert sorted(epochs[0]) == list(range(12))
    assert epochs[0] == epochs[2] != epochs[1]
    clips = [batch.clip.tolist() for batch in data.val_dataloader()]
    assert clips == [[0, 1, 2, 3], [4]]
    assert data.sizes() == {"tags": 3}
    assert data.names() == {"vocabulary": VOCABULARY}
    assert data.summary()["clips"] == {"train": 12, "validation": 5}
    assert data.summary()["split_seed"] == 3


def test_the_files_scaling_is_the_legacy_front_ends(tmp_path: Path) -> None:
    scale = np.linspace(0.1, 0.2, 96, dtype=np.float32)
    for name, first in (("set", 0), ("val", 9)):
        with PatchWriter(tmp_path / name, header(scale=scale)) as writer:
            writer.add(rows(4, first))
    data = stored(tmp_path, CoalaLegacy())
    data.setup()
    assert np.array_equal(data.scaling()["scale_by_time"].numpy(), scale)
    batch = next(iter(data.val_dataloader()))
    with h5py.File(tmp_path / "val") as file:
        kept = file["dataset/data"][:4]
    assert np.abs(data.front_end.scale(batch.patches, batch.mask).numpy() - kept).max() < 1e-5


def test_the_standard_front_end_is_fitted_to_real_frames_with_its_own_floor(
    tmp_path: Path,
) -> None:
    frames = np.array([96, 10, 50, 96])
    written = write(tmp_path / "set", 4, frames=frames)
    write(tmp_path / "val", 4, first=9)
    front_end = CoalaStandard()
    data = stored(tmp_path, front_end)
    data.setup()
    batch = data.train_file.batch(np.arange(4))
    lifted = (np.exp(written.patches) - CoalaLegacy().eps + front_end.eps).astype(np.float64)
    heard = np.concatenate(
        [np.log(lifted[row])[:, :count] for row, count in enumerate(frames)], axis=1
    )
    assert np.abs(front_end.mean.numpy() - heard.mean(1)).max() < 1e-4
    assert np.abs(front_end.std.numpy() - heard.std(1)).max() < 1e-4
    assert batch.mask.sum(1).tolist() == frames.tolist()


def test_files_of_another_front_end_are_refused(tmp_path: Path) -> None:
    for name, first in (("set", 0), ("val", 9)):
        with PatchWriter(tmp_path / name, header(CoalaStandard())) as writer:
            writer.add(rows(4, first))
    with pytest.raises(ConfigError, match="a higher floor"):
        stored(tmp_path, CoalaLegacy()).setup()
    with pytest.raises(ConfigError, match="bands 96, not 64"):
        stored(tmp_path, CoalaStandard(bands=64)).setup()
    stored(tmp_path, CoalaStandard()).setup()


def test_other_sources_and_front_ends_are_told() -> None:
    with pytest.raises(ConfigError, match=r"BuiltinSounds and CoalaLegacy .* data=hdf5"):
        StoredPatches(BuiltinSounds(), CoalaLegacy())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="StoredFiles and RawWaveform"):
        StoredPatches(StoredFiles("a", "b"), RawWaveform(16000))  # type: ignore[arg-type]


def test_files_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    write(tmp_path / "set", 4)
    with PatchWriter(tmp_path / "val", header(vocabulary=("x", "y", "z"))) as writer:
        writer.add(rows(2))
    with pytest.raises(DataError, match="different vocabularies"):
        stored(tmp_path, CoalaLegacy()).setup()
    write(tmp_path / "val", 2, first=2)
    with pytest.warns(UserWarning, match=r"2 sounds .* 2\.wav"):
        stored(tmp_path, CoalaLegacy()).setup()


def sound(seconds: float, rate: int = 22000, seed: int = 0) -> Sound:
    samples = np.random.default_rng(seed).normal(0, 0.01, round(seconds * rate))
    return Sound(samples.astype(np.float32), rate, "noise")


def test_the_loudest_patch_is_where_the_sound_is_loud() -> None:
    noise = sound(8.0)
    noise.samples[5 * 22000 : 7 * 22000] *= 30
    front_end = CoalaLegacy()
    patch = choose_patch(noise, front_end, "loudest", "a", 0)
    spectrum = front_end.log_mel(torch.from_numpy(noise.samples)).numpy()
    sums = [spectrum[:, start : start + 96].sum() for start in range(0, 335, 12)]
    start = 12 * int(np.argmax(sums))
    assert np.array_equal(patch.values, spectrum[:, start : start + 96])
    assert patch.frames == 96


def test_random_patches_depend_on_name_and_seed_and_are_of_the_sound() -> None:
    front_end, short = CoalaLegacy(), sound(3.0)
    silence = front_end.log_mel(torch.zeros(22000))[:, 5].numpy()

    def chosen(name: str, seed: int) -> np.ndarray:
        return choose_patch(short, front_end, "random", name, seed).values

    assert np.array_equal(chosen("a", 0), chosen("a", 0))
    for patches in ([chosen("a", seed) for seed in range(12)], [chosen(n, 0) for n in "abcdefgh"]):
        assert len({patch.tobytes() for patch in patches}) > 4
        for patch in patches:
            assert (patch[:, -2] != silence).any(), "not from the silence after the sound"


def test_short_and_useless_sounds() -> None:
    patch = choose_patch(sound(0.5), CoalaStandard(), "loudest", "a", 0)
    assert patch.values.shape == (96, 96)
    assert 1 <= patch.frames < 30
    assert np.array_equal(patch.values[:, patch.frames], patch.values[:, -1])
    one = Sound(np.ones(1, np.float32), 22000, "one")
    for choice in ("loudest", "random"):
        assert choose_patch(one, CoalaStandard(), choice, "a", 0).frames == 1  # type: ignore[arg-type]
    for samples, message in (
        (np.zeros(100, np.float32), "every sample is 0"),
        (np.array([0, np.nan], np.float32), "not a finite number"),
    ):
        with pytest.raises(AudioValueError, match=message):
            choose_patch(Sound(samples, 22000, "x"), CoalaLegacy(), "loudest", "a", 0)


def test_the_scaling_is_fitted_to_the_named_rows_only(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(-5, 2, (4, 96, 96)).astype(np.float32)
    values[3] *= 100
    values[:, :, 7] = -3.0
    with WaitingPatches(tmp_path, 96, 96) as patches:
        for patch in values:
            patches.append(patch)
        scale, offset = fit_min_max(patches, np.arange(3))
    scaled = values[:3] * scale + offset
    varied = np.delete(scaled, 7, axis=2)
    assert np.allclose(varied.min((0, 1)), 0, atol=1e-5)
    assert np.allclose(varied.max((0, 1)), 1, atol=1e-5)
    assert np.allclose(scaled[:, :, 7], 0)
    assert not list(tmp_path.iterdir())
