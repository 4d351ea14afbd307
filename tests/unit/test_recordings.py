"""Vectors of a store as points."""

import numpy as np
import pytest

from coala_latent.errors import ConfigError, DataError, StoreError
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter
from coala_latent.tasks.recordings import recording_vectors

NAMES = ["a b=c,'é.wav", "sub/bad.wav", 'sub/<"ü">.wav', "z\udcff.mp3"]
ROWS = [2, 0, 3, 1]


def write_store(path, dim=3, names=NAMES, rows=ROWS):
    identity = StoreIdentity("model", "", {}, {}, "layer", "mean", dim)
    rng = np.random.default_rng(0)
    with StoreWriter(path, identity) as writer:
        for name, count in zip(names, rows, strict=True):
            writer.begin(name)
            if not count:
                writer.commit(FileRecord(name, "failed", "broken"))
                continue
            start = np.arange(count, dtype=float)
            end = np.minimum(start + 1, count - 0.75)
            writer.append(rng.normal(size=(count, dim)).astype(np.float32), start, end)
            writer.commit(FileRecord(name, "ok", duration=count - 0.75))
    return path


def test_a_recordings_vector_is_the_mean_of_its_rows_weighted_by_seconds_heard(tmp_path):
    store = write_store(tmp_path / "s.h5")
    rows = recording_vectors(store, "rows")
    files = recording_vectors(store, "files")
    assert files.paths == [NAMES[0], NAMES[2], NAMES[3]] == files.names
    assert files.failed == rows.failed == 1
    for number in range(3):
        of = rows.file == number
        weights = (rows.end - rows.start)[of]
        wanted = np.average(rows.values[of].astype(float), axis=0, weights=weights)
        np.testing.assert_allclose(files.values[number], wanted, rtol=1e-6)
        assert files.start[number] == rows.start[of].min()
        assert files.end[number] == rows.end[of].max()
    assert files.values.dtype == np.float32
    assert files.file.dtype == np.int64


def test_rows_name_the_recording_they_are_of_where_one_before_failed(tmp_path):
    rows = recording_vectors(write_store(tmp_path / "s.h5"), "rows")
    assert rows.paths == [NAMES[0]] * 2 + [NAMES[2]] * 3 + [NAMES[3]]
    assert rows.file.tolist() == [0, 0, 1, 1, 1, 2]
    assert [rows.files[number].path for number in rows.file] == rows.paths
    assert rows.start.tolist() == [0, 1, 0, 1, 2, 0]


def test_a_folder_with_a_store_in_it_is_read_too(tmp_path):
    folder = tmp_path / "vectors, of = mine"
    folder.mkdir()
    write_store(folder / "store.h5")
    assert recording_vectors(folder).store == folder / "store.h5"
    assert len(recording_vectors(folder)) == 3


def test_what_cannot_be_used_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"none\.h5"):
        recording_vectors(tmp_path / "none.h5")
    with pytest.raises(StoreError, match=r"store\.h5"):
        recording_vectors(tmp_path)
    store = write_store(tmp_path / "s.h5", names=["bad.wav"], rows=[0])
    with pytest.raises(DataError, match="none of 1 recordings"):
        recording_vectors(store)
    with pytest.raises(ConfigError, match="files, rows"):
        recording_vectors(write_store(tmp_path / "t.h5"), "mean")
