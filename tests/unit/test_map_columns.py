import numpy as np
import pytest

from coala_latent.errors import ConfigError, DataError
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter
from coala_latent.tasks.map_clusters import cluster_column
from coala_latent.tasks.map_columns import folder_columns, join_table, point_columns
from coala_latent.tasks.recordings import recording_vectors

NAMES = ["rock/a b.mp3", 'rock/"c", d.mp3', "jazz/é.mp3"]


@pytest.fixture
def points(tmp_path):
    """Two rows a recording, in three directions."""

    def make(by="files", names=NAMES, values=None):
        identity = StoreIdentity("m", "", {}, {}, "layer", "mean", 3)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
        with StoreWriter(path, identity) as writer:
            for number, name in enumerate(names):
                row = np.eye(3)[number % 3] if values is None else values[number]
                writer.begin(name)
                rows = np.stack([row, row]).astype(np.float32)
                writer.append(rows, np.array([0.0, 1.0]), np.array([1.0, 2.5]))
                writer.commit(FileRecord(name, "ok", duration=2.5))
        return recording_vectors(path, by)

    return make


def table(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def test_folders_that_tell_recordings_apart_are_columns():
    assert folder_columns(["a.wav", "b.wav"]) == {}
    assert folder_columns(["x/a.wav", "x/b.wav"]) == {}
    assert folder_columns(["x/1/a.wav", "x/2/b.wav"]) == {"subfolder": ["1", "2"]}
    assert folder_columns(["x/1/a.wav", "y/b.wav", "c.wav"]) == {
        "folder": ["x", "y", None],
        "subfolder": ["1", None, None],
    }


def test_tables_are_joined_and_columns_of_one_name_kept_apart(points, tmp_path):
    first = table(tmp_path, "filename,folder,year\na b.mp3,mine,1999\né.mp3,,2001\n")
    second = table(tmp_path, "file\tyear\nrock/a b.mp3\t7\n", "other one.tsv")
    found = point_columns(points(), [first, second], key=None, citation=None)
    assert found.columns == {
        "folder": ["rock", "rock", "jazz"],
        "folder (table)": ["mine", None, None],
        "year": [1999.0, None, 2001.0],
        "year (other one)": [7.0, None, None],
        "duration": [2.5, 2.5, 2.5],
    }
    assert found.matched == {str(first): 2, str(second): 1}
    assert found.citations is None


def test_rows_have_their_recordings_values_and_a_time(points, tmp_path):
    facts = table(tmp_path, "id,mood\nrock/a b.mp3,calm\n")
    found = point_columns(points("rows"), [facts], key=None, citation=None)
    assert found.columns["mood"] == ["calm", "calm", None, None, None, None]
    assert found.columns["recording"][1:3] == ["rock/a b.mp3", 'rock/"c", d.mp3']
    assert found.columns["time"] == [0.0, 1.0] * 3


def test_citations_are_taken_or_made(points, tmp_path):
    cited = table(tmp_path, "filename,Citation\na b.mp3,By A & B <x>\n")
    found = point_columns(points(), [cited], key=None, citation=None)
    assert found.citations == ["By A & B <x>", "", ""]
    assert "Citation" not in found.columns
    made = table(
        tmp_path,
        "filename,artist_name,track_title,license_title\n"
        "a b.mp3,Ann,Song,CC BY\né.mp3,,Untitled,\n",
        "made.csv",
    )
    found = point_columns(points(), [made], key=None, citation=None)
    assert found.citations == ["Ann: Song (CC BY)", "", "Untitled"]
    assert found.columns["artist_name"] == ["Ann", None, None]
    other = point_columns(points(), [made], key=None, citation="license_title")
    assert other.citations == ["CC BY", "", ""]


def test_tables_that_fit_nothing_are_refused(points, tmp_path):
    wrong = table(tmp_path, "filename,x\nnone.mp3,1\n")
    with pytest.raises(DataError, match="names none of the 3 recordings"):
        point_columns(points(), [wrong], key=None, citation=None)
    right = table(tmp_path, "filename,x\na b.mp3,1\n")
    with pytest.raises(DataError, match="'source' of citations"):
        point_columns(points(), [right], key=None, citation="source")
    named = table(tmp_path, "mine,x\na b.mp3,1\n")
    with pytest.raises(DataError, match="filename"):
        join_table(named, NAMES)
    assert join_table(named, NAMES, key="mine").matched == 1


def test_clusters_are_named_from_the_largest_and_zeros_are_in_none(points):
    values = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0.01, 0], [1, 0, 0.01]])
    names = [f"{n}.wav" for n in range(5)]
    found = cluster_column(points("files", names, values), 2)
    assert found == ["K2", "K1", None, "K1", "K1"]
    with pytest.raises(ConfigError):
        cluster_column(points("files", names, values), 9)


def test_clusters_of_a_table_are_those_of_recordings_or_of_rows(points, tmp_path):
    whole = table(tmp_path, "path,cluster\nrock/a b.mp3,K1\njazz/é.mp3,K2\n")
    assert cluster_column(points(), whole) == ["K1", None, "K2"]
    assert cluster_column(points("rows"), whole) == ["K1", "K1", None, None, "K2", "K2"]
    numbers = table(tmp_path, "path,cluster\nrock/a b.mp3,1\njazz/é.mp3,2\n", "numbers.csv")
    assert cluster_column(points(), numbers) == ["1", None, "2"]  # names, no amounts
    rows = table(
        tmp_path,
        "path,start,end,cluster\nrock/a b.mp3,0.0,1.0,K1\nrock/a b.mp3,1.0000004,2.5,K2\n"
        '"rock/""c"", d.mp3",1,2.5,K1\njazz/é.mp3,0,1,\n',
        "rows.csv",
    )
    assert cluster_column(points("rows"), rows) == ["K1", "K2", None, "K1", None, None]


def test_tables_without_clusters_of_these_points_are_refused(points, tmp_path):
    with pytest.raises(DataError, match="no column 'cluster'"):
        cluster_column(points(), table(tmp_path, "path,k\nrock/a b.mp3,K1\n"))
    other = table(tmp_path, "path,start,cluster\nrock/a b.mp3,0.5,K1\n")
    with pytest.raises(DataError, match="knows none of the 6 rows"):
        cluster_column(points("rows"), other)
    broken = table(tmp_path, "path,start,cluster\nrock/a b.mp3,soon,K1\n")
    with pytest.raises(DataError, match="line 2"):
        cluster_column(points("rows"), broken)


def test_a_table_of_rows_does_for_recordings_where_it_is_unambiguous(points, tmp_path):
    single = table(tmp_path, "path,start,cluster\nrock/a b.mp3,0,K1\njazz/é.mp3,0,K2\n")
    assert cluster_column(points(), single) == ["K1", None, "K2"]
    several = table(tmp_path, "path,start,cluster\nrock/a b.mp3,0,K1\nrock/a b.mp3,1,K2\n")
    with pytest.raises(DataError, match="clusters of rows"):
        cluster_column(points(), several)
