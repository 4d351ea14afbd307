"""Labels of recordings from tables and folders, and words of their names."""

import pytest

from coala_latent.errors import ConfigError, DataError
from coala_latent.tasks.recording_labels import folder_labels, name_words, recording_labels

FMA = """,track,track,set
,genre_top,title,split
track_id,,,
2,Hip-Hop,"Food, etc",training
5,,"""


def test_labels_come_from_fmas_own_table(tmp_path):
    table = tmp_path / "tracks.csv"
    table.write_text(FMA + '"x",test\n10,Rock,y,test\n')
    names = ["000/000010.mp3", "000/000002.mp3", "000/000005.mp3", "001/001000.mp3"]
    assert recording_labels(names, table, "genre_top") == ["Rock", "Hip-Hop", None, None]


def test_numbers_are_classes_too(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("path,target\na.wav,1\nb.wav,2.5\nc.wav,\n")
    assert recording_labels(["b.wav", "c.wav", "a.wav"], table) == ["2.5", None, "1"]


@pytest.mark.parametrize(
    ("text", "column", "error", "message"),
    [
        ("path,x,y\na.wav,1,2\n", None, ConfigError, "x, y"),
        ("path,x\na.wav,1\n", "z", DataError, "no column 'z'"),
        ("path,x\nother.wav,1\n", "x", DataError, "none of the 1 recordings"),
        ("path,x,y\na.wav,,1\n", "x", DataError, "is empty"),
    ],
)
def test_tables_that_tell_nothing_are_refused(tmp_path, text, column, error, message):
    table = tmp_path / "t, =.csv"
    table.write_text(text)
    with pytest.raises(error, match=message):
        recording_labels(["a.wav"], table, column)


def test_folders_are_those_that_differ_first():
    assert folder_labels(["all/a/1.wav", "all/b/x/2.wav", "3.wav"]) == ["a", "b", None]
    assert folder_labels(["a/1.wav", "z\udcff/2.wav"]) == ["a", "z\\udcff"]
    for names in (["a/1.wav", "a/2.wav"], ["1.wav", "2.wav"], ["a/1.wav", "2.wav"]):
        with pytest.raises(DataError, match="several folders"):
            folder_labels(names)
    with pytest.raises(ConfigError, match="give a table"):
        recording_labels(["a/1.wav", "b/2.wav"], "folders", "genre")


def test_words_of_a_name_are_its_letters():
    assert name_words("001 - Dog bark/Größe_2-x (live).WAV") == {"dog", "bark", "größe", "live"}
    assert name_words("12/34.mp3") == set()
