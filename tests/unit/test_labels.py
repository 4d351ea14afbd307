"""Class names from packages' files and users' files, none of which is executed."""

import csv
import json

import pytest

from coala_latent.errors import WeightsError
from coala_latent.weights.labels import (
    AUDIOSET_ONLY,
    audioset_names,
    checked_count,
    python_names,
    read_labels,
)

CODE = b"""
import missing_package
open("/nowhere/at/all", "w")
TAGS = ['rock', 'r & b', "no vocal"]
class Net:
    places = ['abbey',
              'apartment_building/'
              'outdoor']
    def __init__(self):
        hidden = ['x']
made = [name for name in TAGS]
numbers = [1, 2]
nothing = []
called = list('ab')
"""


def test_lists_are_read_out_of_code_that_could_not_run():
    assert python_names("TAGS", CODE, "a.py") == ("rock", "r & b", "no vocal")
    assert python_names("places", CODE, "a.py") == ("abbey", "apartment_building/outdoor")


@pytest.mark.parametrize(
    ("variable", "match"),
    [
        ("OTHER", "OTHER is missing"),
        ("hidden", "hidden is missing"),
        ("made", "no plain list"),
        ("called", "no plain list"),
        ("numbers", "not a list of class names"),
        ("nothing", "not a list of class names"),
    ],
)
def test_what_is_no_list_of_words(variable, match):
    with pytest.raises(WeightsError, match=rf"a\.py.*{match}"):
        python_names(variable, CODE, "a.py")


@pytest.mark.parametrize("code", [b"TAGS = [", b"\x00", b"\xff\xfe", b"(" * 10000])
def test_what_is_no_code(code):
    with pytest.raises(WeightsError, match="not a Python file"):
        python_names("TAGS", code, "a.py")


def audioset_table(extra=()):
    rows = [
        ("/m/a", "Speech"),
        *((mid, "left out") for mid in sorted(AUDIOSET_ONLY)),
        ("/m/b", "Child, kid"),
    ]
    lines = [f'{number},{mid},"{name}"' for number, (mid, name) in enumerate([*rows, *extra])]
    return "\n".join(["index,mid,display_name", *lines]).encode()


def test_audioset_without_what_yamnet_leaves_out():
    assert audioset_names(audioset_table(), "a.csv") == ("Speech", "Child, kid")


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (b"", "not a table"),
        (b"index,name\n0,Speech\n", "not a table"),
        (b"index,mid,display_name\n0,/m/a,Speech\n", "missing"),
        (b"index,mid,display_name\n0,/m/a\n", "row 2 has more or fewer fields"),
        (b"index,mid,display_name\n0,/m/a,b,c\n", "row 2 has more or fewer fields"),
    ],
)
def test_another_table_than_audiosets(table, match):
    with pytest.raises(WeightsError, match=match):
        audioset_names(table, "a.csv")


NAMES = ("Speech", "Child speech, kid speaking", "Dentist's drill")

FILES = {
    "yamnet.csv": "index,mid,display_name\n0,/m/1,Speech\n"
    '1,/m/2,"Child speech, kid speaking"\n2,/m/3,Dentist\'s drill\n',
    "unordered.csv": 'index,label\n2,Dentist\'s drill\n1,"Child speech, kid speaking"\n0,Speech\n',
    "mark.csv": '\ufeffname\nSpeech\n"Child speech, kid speaking"\nDentist\'s drill\n',
    "list.json": json.dumps(NAMES),
    "numbered.json": json.dumps({str(2 - n): name for n, name in enumerate(reversed(NAMES))}),
    "entries.yml": "- id: /m/1\n  name: Speech\n- id: /m/2\n  name: Child speech, kid speaking\n"
    "- id: /m/3\n  name: Dentist's drill\n",
    "lines.txt": "Speech\nChild speech, kid speaking\r\n  Dentist's drill \n\n",
    "noending": "\n".join(NAMES),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_users(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FILES[name].encode())
    assert read_labels(path) == NAMES


def test_prefixes_of_soundnets_own_lists_are_dropped(tmp_path):
    path = tmp_path / "categories.txt"
    path.write_text(
        "/a/abbey\n/a/apartment_building/outdoor\nn01440764 tench, Tinca tinca\nn1 x\n/a\n"
    )
    expected = ("abbey", "apartment_building/outdoor", "tench, Tinca tinca", "n1 x", "/a")
    assert read_labels(path) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("a.csv", "mid,index\n/m/1,0\n"),
        ("a.csv", "index,name\n0,a\n2,b\n"),
        ("a.csv", "index,name\n0,a\nx,b\n"),
        ("a.csv", 'name\n"never closed\n'),
        ("a.json", "{"),
        ("a.json", "3"),
        ("a.json", "[1, 2]"),
        ("a.json", '["a", ""]'),
        ("a.json", '{"0": "a", "2": "b"}'),
        ("a.json", '{"a": "b"}'),
        ("a.json", '[{"mid": "x"}]'),
        ("a.json", "[" * 100_000),
        ("a.yml", "a: [unclosed"),
        ("a.yml", "!!python/object/apply:os.system ['touch executed']"),
        ("a.txt", "\n \n"),
    ],
)
def test_files_that_hold_something_else(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(WeightsError, match=name):
        read_labels(path)
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_files_that_are_not_there_or_not_text(tmp_path):
    with pytest.raises(WeightsError, match="not a readable list"):
        read_labels(tmp_path / "no.csv")
    with pytest.raises(WeightsError, match="not a readable list"):
        read_labels(tmp_path)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WeightsError, match="not a readable list"):
        read_labels(tmp_path / "b.txt")


def test_the_count_must_fit():
    assert checked_count(NAMES, 3, "a.csv") == NAMES
    with pytest.raises(WeightsError, match=r"a\.csv: 3 class names, the model has 4"):
        checked_count(NAMES, 4, "a.csv")


@pytest.mark.shared
def test_yamnets_own_class_map(shared):
    path = shared / "data" / "weights" / "yamnet" / "yamnet_class_map.csv"
    names = checked_count(read_labels(path), 521, "class map")
    assert (names[0], names[494], names[520]) == ("Speech", "Silence", "Field recording")
    assert names[436] == "Chink, clink"
    with path.open(encoding="utf-8") as file:
        assert not {row["mid"] for row in csv.DictReader(file)} & AUDIOSET_ONLY


@pytest.mark.shared
def test_coalas_own_vocabulary(shared):
    names = read_labels(shared / "data" / "coala" / "id2token_top_1000.json")
    assert len(names) == 1000
    assert names[:4] == ("close", "closing", "drawer", "foley")
