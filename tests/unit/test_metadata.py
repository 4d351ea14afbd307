"""Tables of recordings, and which line belongs to which sound."""

import csv
import io
import json

import pytest

from coala_latent.data.metadata import read_metadata
from coala_latent.errors import DataError

# The layout of FMA's table, with invented values.
TRACKS = ''',album,album,artist,set,track,track
,listens,title,name,split,genre_top,title
track_id,,,,,,
2,10,One,A,training,Folk,"Rain, ""again"""
5,10,One,A,test,,Snow
10,,Two,B,training,Rock,"two
lines"
'''


@pytest.fixture
def table(tmp_path):
    def write(text, name="table.csv", key=None):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_metadata(path, key)

    return write


def test_columns_are_numbers_or_words(table):
    found = table(
        "filename,n,word,mixed,code,year,empty,big,sign\n"
        "a.wav,1,x,1,007,1999,,1e400,-.5\n"
        "b.wav,2.50,,two,01,, ,1,+3e2\n"
        "c.wav,NaN, y ,3,12,2001,,2,4.\n"
    )
    assert found.columns == {
        "n": [1.0, 2.5, None],
        "word": ["x", None, "y"],
        "mixed": ["1", "two", "3"],
        "code": ["007", "01", "12"],
        "year": [1999.0, None, 2001.0],
        "empty": [None, None, None],
        "big": ["1e400", "1", "2"],
        "sign": [-0.5, 300.0, 4.0],
    }
    assert (found.key, found.names, len(found)) == ("filename", ["a.wav", "b.wav", "c.wav"], 3)


def test_odd_text_survives(table):
    names = ["a b=c,'é.wav", 'say "<b>".wav', "</script>.wav", "line\nbreak.wav", "日本.wav"]
    text = io.StringIO()
    csv.writer(text).writerows((name, f"{number};x") for number, name in enumerate(names))
    found = table(f"\ufefffile,label\r\n{text.getvalue()}\r\n\r\n")
    assert found.names == names
    assert found.columns["label"] == [f"{number};x" for number in range(5)]
    assert found.joined(names) == found.columns


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "file;n\na.wav;1\nb.wav;2\n"),
        ("t.csv", "file\tn\na.wav\t1\nb.wav\t2\n"),
        ("t.tsv", "file\tn\na.wav\t1\nb.wav\t2\n"),
        ("t.jsonl", '{"file": "a.wav", "n": 1}\n\n{"file": "b.wav", "n": 2}\n'),
        ("t.json", '[{"file": "a.wav", "n": 1}, {"n": 2, "file": "b.wav"}]'),
    ],
)
def test_all_forms_say_the_same(table, name, text):
    found = table(text, name)
    assert found.names == ["a.wav", "b.wav"]
    assert found.columns == {"n": [1.0, 2.0]}


def test_the_first_key_column_there_is_names_the_recordings(table):
    assert table("path,track_id,File\na.wav,1,b.wav\n").names == ["b.wav"]
    assert table("x,track_id\n1,2\n").names == ["2"]
    assert table("a,b\n1,x.wav\n", key="b").names == ["x.wav"]
    with pytest.raises(DataError, match=r"no column 'c'.*there are a, b"):
        table("a,b\n1,x.wav\n", key="c")
    with pytest.raises(DataError, match="no column filename or file or path"):
        table("a,b\n1,x.wav\n")


def test_json_values_become_columns(table):
    lines = [
        {"id": 2, "flag": True, "tags": ["a", "é"], "n": 1.5, "text": "x"},
        {"id": 3, "flag": None, "n": None, "late": 4},
    ]
    found = table("\n".join(map(json.dumps, lines)), "t.jsonl")
    assert found.names == ["2", "3"]
    assert found.columns == {
        "flag": ["true", None],
        "tags": ['["a", "é"]', None],
        "n": [1.5, None],
        "text": ["x", None],
        "late": [None, 4.0],
    }


def test_repeated_and_nameless_lines_are_counted_and_left_out(table):
    found = table("file,n\na.wav,1\n./a.wav,2\nb\\c.wav,3\nb/c.wav,4\n,5\na.wav,6\n")
    assert found.names == ["a.wav", "b/c.wav"]
    assert found.columns == {"n": [1.0, 3.0]}
    assert found.dropped == 4


def test_headings_are_kept_apart(table):
    found = table(",file,n,n,\n0,a.wav,1,2,3\n")
    assert list(found.columns) == ["column 1", "n", "n (2)", "column 5"]


def test_short_lines_are_filled_and_long_ones_are_an_error(table):
    assert table("file,a,b\nx.wav,1\n").columns == {"a": [1.0], "b": [None]}
    with pytest.raises(DataError, match="line 3 has 4 values for 3 columns"):
        table("file,a,b\nx.wav,1,2\ny.wav,1,2,3\n")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", b"file\n\xff\xfe\n", "UTF-8"),
        ("t.csv", 'file,a\n"x.wav,1\n', "not a readable table"),
        ("t.csv", "", "no column .*there are none .*--key"),
        ("t.jsonl", "{", "JSON"),
        ("t.jsonl", "3\n", "list of objects"),
        ("t.json", '{"file": "a"}', "list of objects"),
    ],
)
def test_unreadable_tables_are_named(table, name, text, message):
    with pytest.raises(DataError, match=message) as error:
        table(text, name)
    assert name in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_metadata(tmp_path / "absent.csv")


def test_the_three_headings_of_fma(table):
    found = table(TRACKS, "tracks.csv")
    assert (found.key, found.names) == ("track_id", ["2", "5", "10"])
    assert found.columns == {
        "album.listens": [10.0, 10.0, None],
        "album.title": ["One", "One", "Two"],
        "artist.name": ["A", "A", "B"],
        "split": ["training", "test", "training"],
        "genre_top": ["Folk", None, "Rock"],
        "title": ['Rain, "again"', "Snow", "two\nlines"],
    }
    paths = ["000/000002.mp3", "000/000010.mp3.npy", "./000/000003.mp3", "000005.wav"]
    assert found.joined(paths)["genre_top"] == ["Folk", "Rock", None, None]
    assert found.joined(paths)["split"] == ["training", "training", None, "test"]
    assert found.matched(paths) == 3


def test_other_tables_of_fma(table):
    raw = table("track_id,album_id,track_title\n2,1,x\n134,,y\n", "raw_tracks.csv")
    assert raw.joined(["000/000134.mp3"])["track_title"] == ["y"]
    info = table("id,title\n000/000002.mp3,x\n000/000005.mp3,y\n", "track_info.csv")
    assert info.joined(["000/000005.mp3", "000002.mp3"])["title"] == ["y", "x"]


def test_lines_are_found_by_path_before_anything_else(table):
    found = table("file,n\na/x.wav,1\nb/x.wav,2\nx.wav,3\n")
    assert found.rows(["b/x.wav", "a/x.wav", "./x.wav", "a\\x.wav", "/b//x.wav"]) == [1, 0, 2, 0, 1]


def test_other_formats_of_a_recording_share_its_line(table):
    found = table("file,n\na/x.wav,1\na/y,2\n")
    assert found.rows(["a/x.mp3", "a/x.wav", "a/x.ogg.npy", "a/y.flac"]) == [0, 0, 0, 1]
    assert table("file,n\nx.1,1\n").rows(["x.2", "x.1.wav"]) == [None, 0]  # a dot of the name


def test_ambiguous_names_are_not_guessed(table):
    by_name = table("file,n\nx.wav,1\ny.wav,2\n")
    assert by_name.rows(["a/x.wav", "b/x.wav", "c/y.wav"]) == [None, None, 1]
    in_folders = table("file,n\na/x.wav,1\nb/x.wav,2\n")
    assert in_folders.rows(["x.wav"]) == [None]
    assert in_folders.rows(["a/x.wav", "c/x.wav"]) == [0, None]


def test_a_line_goes_to_one_recording_only(table):
    found = table("file,n\nx.wav,1\n")
    assert found.rows(["x.wav", "sub/x.wav"]) == [0, None]


def test_paths_that_are_there_twice_are_no_ambiguity(table):
    found = table("file,n\nx.wav,1\n")
    assert found.joined(["a/x.wav"] * 3) == {"n": [1.0, 1.0, 1.0]}
    assert found.matched(["a/x.wav"] * 3) == 3


def test_numbers_count_only_as_ids(table):
    names = table("file,n\nkick1.wav,1\nkick2.wav,2\n")
    assert names.rows(["song1.mp3", "song2.mp3"]) == [None, None]
    ids = table("id,n\n1,a\n0002,b\n2,c\n3,d\n")
    assert ids.rows(["song1.mp3", "t 2.mp3", "3-3.mp3", "x/003.mp3"]) == [0, None, None, 3]
    assert ids.rows(["a/003.mp3", "b/3.mp3"]) == [None, 3]


def test_composed_and_decomposed_letters_are_equal(table):
    assert table("file,n\ncafe\u0301.wav,1\n").rows(["caf\u00e9.wav"]) == [0]


def test_no_lines_and_no_paths(table):
    empty = table("file,n\n")
    assert (len(empty), empty.columns) == (0, {"n": []})
    assert empty.joined(["a.wav"]) == {"n": [None]}
    assert empty.joined([]) == {"n": []}


def test_a_column_that_is_not_there_is_named(table):
    found = table("file,n\na.wav,1\n")
    assert found.column("n") == [1.0]
    with pytest.raises(DataError, match="no column 'genre'; there are n"):
        found.column("genre")


def test_thousands_of_rows(tmp_path):
    count = 20_000
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["track_id", "n", "word"])
        writer.writerows((number, number / 2, f'"{number}"') for number in range(count))
    found = read_metadata(tmp_path / "t.csv")
    paths = [f"{number // 1000:03d}/{number:06d}.mp3" for number in reversed(range(count))]
    joined = found.joined(paths)
    assert joined["n"] == [number / 2 for number in reversed(range(count))]
    assert joined["word"][0] == f'"{count - 1}"'
