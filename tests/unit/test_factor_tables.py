"""Labels of recordings from names, folders and tables, and what is written for them."""

import json

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from coala_latent.data.builtin import write_builtin
from coala_latent.data.factor_sounds import (
    _convolved,
    level_gain,
    write_continuous,
    write_reverb_copies,
)
from coala_latent.data.factor_tables import (
    factors_from_builtin,
    factors_from_folders,
    factors_from_names,
    factors_from_table,
    parse_classes,
)
from coala_latent.errors import AudioNotFoundError, ConfigError, DataError

PATTERN = r"(?P<material>[WMG])(?P<action>[TR])(-(?P<take>\d+))?"
MATERIALS = {"W": "wood", "M": "metal", "G": "glass"}


@pytest.fixture
def touch(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return make


def label_names(table):
    return [
        tuple(names[label] for names, label in zip(table.classes, row, strict=True))
        for row in table.labels.tolist()
    ]


def test_names_of_the_original_layout(touch):
    table = factors_from_names(
        touch("MT.wav", "WT.wav", "WR.wav"),
        "(?P<material>[WMG])(?P<action>[TR])",
        {"material": MATERIALS, "action": {"T": "tap", "R": "rub"}},
    )
    assert table.factors == ("material", "action")
    assert table.classes == (("wood", "metal"), ("tap", "rub"))  # in the order of the maps
    assert dict(zip(table.names, label_names(table), strict=True)) == {
        "MT.wav": ("metal", "tap"),
        "WR.wav": ("wood", "rub"),
        "WT.wav": ("wood", "tap"),
    }
    assert table.missing() == [("metal", "rub")]
    assert sorted(table.takes) == [0, 1, 2]  # every recording by itself


def test_files_without_a_match_are_listed_with_the_reason(touch):
    table = factors_from_names(
        touch("WT.wav", "GT.wav", "noise.wav", "WTx.wav", "notes.txt"),
        "(?P<material>[WMG])(?P<action>[TR])",
        {"material": {"W": "wood"}},
    )
    assert table.names == ("WT.wav",)
    assert set(table.unmatched) == {"GT.wav", "noise.wav", "WTx.wav"}
    assert "material 'G' is none of W" in table.unmatched["GT.wav"]
    assert "does not match" in table.unmatched["WTx.wav"]
    assert json.loads(json.dumps(table.to_dict()))["recordings"] == 1


def test_a_take_is_shared_by_the_classes(touch):
    table = factors_from_names(touch("WT-1.wav", "WT-2.wav", "MT-1.wav", "MT-2.wav"), PATTERN)
    by_name = dict(zip(table.names, table.takes.tolist(), strict=True))
    assert by_name["WT-1.wav"] == by_name["MT-1.wav"] != by_name["WT-2.wav"]
    assert table.factors == ("material", "action")


def test_a_missing_take_is_not_made_up(touch):
    table = factors_from_names(touch("WT-1.wav", "WT.wav"), PATTERN)
    assert table.unmatched == {"WT.wav": "no take"}


def test_paths_as_names(touch):
    folder = touch("a b/tap, hard/é='1'.wav", "c/rub/2.flac")
    table = factors_from_names(folder, r"(?P<what>[^/]+)/(?P<how>[^/]+)/.*", match="path")
    assert label_names(table) == [("a b", "tap, hard"), ("c", "rub")]
    assert table.names[0] == "a b/tap, hard/é='1'.wav"


@pytest.mark.parametrize(
    ("pattern", "classes", "message"),
    [
        ("(", {}, "no regular expression"),
        ("(W)", {}, "names no factor"),
        ("(?P<take>.)", {}, "names no factor"),
        ("(?P<a>.)", {"b": {"x": "y"}}, "classes of b"),
    ],
)
def test_wrong_patterns(touch, pattern, classes, message):
    with pytest.raises(ConfigError, match=message):
        factors_from_names(touch("a.wav"), pattern, classes)


def test_nothing_matches(touch, tmp_path):
    with pytest.raises(DataError, match=r"no recording with labels.*first a\.wav"):
        factors_from_names(touch("a.wav"), "(?P<x>b)")
    with pytest.raises(AudioNotFoundError):
        factors_from_names(tmp_path / "none", "(?P<x>b)")


def test_levels_of_folders(touch):
    folder = touch(
        "wood/tap/s1/1.wav", "wood/rub/s2/deep/1.wav", "glass/1.wav", "metal/tap/s1/2.wav"
    )
    table = factors_from_folders(folder, ["material", "action", "take"])
    assert label_names(table) == [("metal", "tap"), ("wood", "rub"), ("wood", "tap")]
    assert table.takes.tolist() == [0, 1, 0]
    assert table.unmatched == {"glass/1.wav": "in 1 folder(s), not 3"}


@pytest.mark.parametrize("levels", [[], ["take"], ["a", "a"], [""]])
def test_levels_without_a_factor(touch, levels):
    with pytest.raises(ConfigError, match="factors"):
        factors_from_folders(touch("a/b.wav"), levels)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_tables(touch, tmp_path, suffix):
    touch("x, 1.wav", "y.wav")
    rows = [
        {"file": "x, 1.wav", "what": "wood", "how": "tap", "session": "3"},
        {"file": "y.wav", "what": "ice é", "how": "rub", "session": "3"},
        {"file": "gone.wav", "what": "wood", "how": "rub", "session": "4"},
        {"file": "y2.wav", "what": "", "how": "rub", "session": "4"},
    ]
    touch("y2.wav")
    path = tmp_path / f"labels.{suffix}"
    if suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", "utf-8")
    else:
        split = "\t" if suffix == "tsv" else ","
        quoted = [[f'"{value}"' for value in row.values()] for row in rows]
        lines = [split.join(line) for line in [list(rows[0]), *quoted]]
        path.write_text("\n".join(lines), "utf-8-sig")
    table = factors_from_table(path, factors=["what", "how"], path="file", take="session")
    assert label_names(table) == [("wood", "tap"), ("ice é", "rub")]
    assert table.takes.tolist() == [0, 0]
    assert table.unmatched == {"gone.wav": "no such file", "y2.wav": "no what"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,what\na.wav\n", "more or fewer fields"),
        ("path,how\na.wav,tap\n", "no column 'what'"),
        ("path,what\n,tap\n", "names no file"),
        ("path,what\na.wav,tap\na.wav,rub\n", "there twice"),
        ("", "no recording"),
    ],
)
def test_damaged_tables(touch, tmp_path, text, message):
    touch("a.wav")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        factors_from_table(tmp_path / "t.csv", factors=["what"])


def test_a_line_that_is_not_json(tmp_path):
    (tmp_path / "t.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="line 1 is not an object"):
        factors_from_table(tmp_path / "t.jsonl", factors=["what"])
    with pytest.raises(DataError, match="no such file"):
        factors_from_table(tmp_path / "none.csv", factors=["what"])


def test_subsets_are_numbered_as_asked_for(touch):
    table = factors_from_names(
        touch("WT.wav", "MT.wav", "GT.wav", "GR.wav"), "(?P<material>.)(?P<action>.)"
    )
    part = table.subset(parse_classes(["material=W, G", "action=T"]))
    assert part.classes == (("W", "G"), ("T",))
    assert dict(zip(part.names, part.labels[:, 0].tolist(), strict=True)) == {
        "GT.wav": 1,
        "WT.wav": 0,
    }
    assert part.missing() == []
    for classes, message in (
        ({"size": ["S"]}, "no factor 'size'"),
        ({"material": ["W", "Q"]}, "no class 'Q'"),
        ({"material": []}, "at least one"),
        ({"material": ["W"], "action": ["R"]}, "no recording"),
    ):
        with pytest.raises(DataError, match=message):
            table.subset(classes)


@pytest.mark.parametrize("text", ["material", "=a", "a=", "a=b,,c"])
def test_classes_that_are_not_written_right(text):
    with pytest.raises(ConfigError, match="FACTOR=CLASS"):
        parse_classes([text])


def test_a_factor_named_twice():
    with pytest.raises(ConfigError, match="twice"):
        parse_classes(["a=b", "a=c"])


def test_continuous_recordings(tmp_path):
    table = write_continuous(tmp_path, ["wood", "glass"], ["tap", "rub"], takes=2, seconds=1.5)
    assert len(table) == 8
    assert table.missing() == []
    assert not table.unmatched
    assert np.bincount(table.takes).tolist() == [4, 4]
    samples, rate = soundfile.read(table.paths[0])
    assert len(samples) == 1.5 * rate
    again = factors_from_builtin(tmp_path)
    assert again.names == table.names
    other = write_continuous(
        tmp_path / "o", ["wood", "glass"], ["tap", "rub"], takes=2, seconds=1.5
    )
    np.testing.assert_array_equal(
        soundfile.read(other.paths[3])[0], soundfile.read(table.paths[3])[0]
    )


def test_the_built_in_data_set_is_a_table(tmp_path):
    write_builtin(tmp_path, takes=2, duration=0.1)
    table = factors_from_builtin(tmp_path)
    assert len(table) == 48
    assert list(map(len, table.classes)) == [6, 4]


@pytest.mark.parametrize("options", [{"takes": 0}, {"materials": []}, {"materials": ["cheese"]}])
def test_continuous_recordings_of_nothing(tmp_path, options):
    with pytest.raises(ConfigError):
        write_continuous(tmp_path, **{"seconds": 0.1, **options})


def test_copies_stay_with_their_source(tmp_path):
    table = write_continuous(tmp_path / "dry", ["wood"], ["tap", "rub"], takes=2, seconds=1.0)
    both = write_reverb_copies(table, tmp_path / "wet", seed=1)
    assert len(both) == 8
    assert both.names[4] == f"reverb/{table.names[0]}.wav"
    np.testing.assert_array_equal(both.labels[4:], table.labels)
    np.testing.assert_array_equal(both.takes[4:], table.takes)
    dry, wet = (soundfile.read(both.paths[place])[0] for place in (0, 4))
    assert len(dry) == len(wet)
    assert 1.05 < np.sqrt((wet**2).mean() / (dry**2).mean()) < 2
    again = write_reverb_copies(table, tmp_path / "again", seed=1)
    np.testing.assert_array_equal(soundfile.read(again.paths[4])[0], wet)
    with pytest.raises(DataError, match="already"):
        write_reverb_copies(both, tmp_path / "wet")


@pytest.mark.parametrize("size", [1, 50, 400, 5000])
def test_convolution_in_blocks_is_the_convolution(size, rng):
    sound, response = (rng.normal(size=n).astype(np.float32) for n in (1000, 300))
    blocks = (sound[begin : begin + size] for begin in range(0, 1000, size))
    found = np.concatenate(list(_convolved(blocks, response)))
    np.testing.assert_allclose(found, fftconvolve(sound, response)[:1000], atol=1e-4)


def test_levels(tmp_path):
    samples = np.array([0.25, -0.5, 0.1, 0.0] * 100)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "silent.wav", np.zeros(50), 16000)
    soundfile.write(tmp_path / "below.wav", np.full(50, -0.5), 16000)
    assert level_gain(tmp_path / "a.wav", "none") == 1.0
    assert level_gain(tmp_path / "a.wav", "peak") == pytest.approx(2.0)
    assert level_gain(tmp_path / "a.wav", "maximum") == pytest.approx(4.0)
    rms = np.sqrt(np.mean((samples * level_gain(tmp_path / "a.wav", "rms")) ** 2))
    assert rms == pytest.approx(0.1)
    for level in ("peak", "rms", "maximum"):
        assert level_gain(tmp_path / "silent.wav", level) == 1.0
    assert level_gain(tmp_path / "below.wav", "maximum") == 1.0
    with pytest.raises(ConfigError, match="loud"):
        level_gain(tmp_path / "a.wav", "loud")
