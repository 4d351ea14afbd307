"""What a sound map accepts, how it travels in its page, and what its vectors lose."""

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from coala_latent.errors import ConfigError, DataError
from coala_latent.viewer.packing import pack_array, pack_texts, pack_vectors
from coala_latent.viewer.page import Page
from coala_latent.viewer.sound_map import SoundMap, sound_map_page


def sound_map(n=4, **changes):
    rng = np.random.default_rng(0)
    values = {
        "title": "t",
        "projections": {"plane": rng.normal(size=(n, 2)).astype(np.float32)},
        "names": [f"{i}.wav" for i in range(n)],
        "recording": np.arange(n),
        "start": np.zeros(n),
        "end": np.ones(n),
        "sounds": [f"{i}.wav" for i in range(n)],
        "columns": {"kind": ["a", "b", None, "a"][:n], "x": [1, 2.5, None, float("nan")][:n]},
        "vectors": rng.normal(size=(n, 8)).astype(np.float32),
        **changes,
    }
    return SoundMap(**values)


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.data, self.inside, self.policy = [], {}, None, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.inside = attrs.get("id") if attrs.get("type") == "application/json" else None
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]

    def handle_data(self, data):
        if self.inside:
            self.data[self.inside] = self.data.get(self.inside, "") + data


def read(points):
    found = Elements(sound_map_page(points).html())
    return {name: json.loads(text) for name, text in found.data.items()}


def unpacked(packed):
    return np.frombuffer(base64.b64decode(packed["base64"]), packed["type"])


def test_values_travel_exactly():
    points = sound_map()
    data = read(points)["map-points"]
    assert data["count"] == 4
    kind, x = data["columns"]
    assert kind["values"] == ["a", "b"]
    assert unpacked(kind["codes"]).tolist() == [0, 1, 2, 0]
    np.testing.assert_array_equal(unpacked(x["values"]), [1, 2.5, np.nan, np.nan])
    assert unpacked(data["recording"]).tolist() == [0, 1, 2, 3]
    assert unpacked(data["end"]).tolist() == [1, 1, 1, 1]


def test_positions_keep_their_shape_and_fill_the_square():
    positions = np.array([[1e6, 5.0], [1e6 + 4, 6.0], [1e6 + 2, 5.5], [1e6, 5.0]])
    data = read(sound_map(projections={"a": positions, "b": np.zeros((4, 2))}))["map-points"]
    first = unpacked(data["projections"][0]["positions"]).reshape(-1, 2)
    np.testing.assert_allclose(first, [[-1, -0.25], [1, 0.25], [0, 0], [-1, -0.25]])
    assert not unpacked(data["projections"][1]["positions"]).any()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, np.float32(2), np.int64(3)], "number"),
        ([1, "a", None, 2], "text"),
        ([True, False, None, True], "text"),
        ([None] * 4, "text"),
        ([float("nan")] * 4, "text"),
        ([float("inf"), 1, 2, 3], "number"),
        (["1", "2", "3", "4"], "text"),
    ],
)
def test_kinds_of_columns(values, kind):
    (column,) = read(sound_map(columns={"c": values}))["map-points"]["columns"]
    assert column["kind"] == kind


@pytest.mark.parametrize("n", [0, 1])
def test_few_points(n):
    data = read(sound_map(n, citations=[""] * n))
    assert data["map-points"]["count"] == n
    assert data["map-vectors"]["dim"] == 8


def test_ids_are_there_once():
    ids = Elements(sound_map_page(sound_map()).html()).ids
    wanted = "map color filter-column filter-value search selected player spectrogram cursor"
    wanted += " neighbours list export legend theme projection"
    assert set(wanted.split()) <= set(ids)
    assert len(ids) == len(set(ids))
    used = set()
    for asset in files("coala_latent.viewer").joinpath("assets").iterdir():
        if asset.name.startswith("sound_map_"):
            used |= set(re.findall(r'(?<![.\w])get\("([\w-]+)"\)', asset.read_text("utf-8")))
    assert used <= set(ids), "scripts ask for what the page does not have"


def test_only_a_map_may_load_what_lies_beside_it():
    policy = Elements(sound_map_page(sound_map()).html()).policy
    assert "media-src 'self' file: data: blob:" in policy
    assert "img-src 'self' file: data: blob:" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy
    strict = Elements(Page("t").html()).policy
    assert "file:" not in strict
    assert "'self'" not in strict


def test_markup_takes_its_ids():
    page = Page("t")
    page.container("map")
    with pytest.raises(ConfigError, match="'map' is in the page already"):
        page.markup("sound_map")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projections": {}}, "at least one projection"),
        ({"projections": {"p": np.zeros((3, 2))}}, "projection 'p'.*3 values for 4 names"),
        ({"projections": {"p": np.zeros((4, 3))}}, r"must be \(n, 2\)"),
        ({"projections": {"p": np.array([[0, 0], [np.nan, 0], [0, 0], [0, 0]])}}, "row 1 is not"),
        ({"vectors": np.full((4, 2), np.inf)}, "vectors of the sound map: row 0"),
        ({"vectors": np.zeros(4)}, "2 dimensions"),
        ({"start": np.full(4, 2.0)}, "point 0 .* lasts from 2.0 to 1.0"),
        ({"start": np.array([0, 0, -1, 0.0])}, "point 2"),
        ({"end": np.array([1, 1, 1, np.nan])}, "end of the sound map: row 3"),
        ({"recording": np.array([0, 1, 2, 4])}, "0 to 4, and there are 4 sounds"),
        ({"recording": np.array([0, -1, 2, 3])}, "-1 to 3"),
        ({"recording": np.zeros(4)}, "must be integers"),
        ({"columns": {"c": [1, 2]}}, "column 'c'"),
        ({"citations": ["a"]}, "citations"),
        ({"spectrograms": ["a.png"]}, "1 spectrograms for 4 sounds"),
        ({"spectrograms": ["data:text/html,x", "", "", ""]}, "no address"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        sound_map(**changes)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.wav",
        "//example.org/a.wav",
        "/etc/a.wav",
        "file:///a.wav",
        "javascript:alert(1)",
        "C:\\a.wav",
        "a b.wav",
        "a#1.wav",
        "a?b.wav",
        "50%.wav",
        "ü.wav",
        "a\nb.wav",
        'a".wav',
    ],
)
def test_addresses_that_are_not_beside_the_page(url):
    with pytest.raises(DataError, match="no address beside the page"):
        sound_map(sounds=[url] * 4)


@pytest.mark.parametrize(
    "url", ["", "a.wav", "../a/b%20c.wav", "%C3%BC.wav", "data:audio/wav;base64,AAAA", "a/b:c.wav"]
)
def test_addresses_beside_the_page(url):
    assert read(sound_map(sounds=[url] * 4))["map-points"]["sounds"] == [url] * 4


def test_texts_are_kept_once():
    packed = pack_texts(["b", "a", None, "a", ""])
    assert packed["values"] == ["a", "b", ""]
    assert unpacked(packed["codes"]).tolist() == [1, 0, 3, 0, 2]


def test_arrays_are_little_endian():
    packed = pack_array(np.array([1.5, -2], dtype=">f8"), "f4")
    np.testing.assert_array_equal(unpacked(packed).astype("<f4"), [1.5, -2])


def cosines(vectors):
    units = vectors.astype(float)
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    return units @ units.T


def test_vectors_keep_their_cosines(rng):
    vectors = rng.normal(size=(200, 48)).astype(np.float32) * rng.uniform(1e-20, 1e20, (200, 1))
    exact = cosines(vectors)
    for budget, dtype, bound in ((10**6, np.float16, 1e-3), (200 * 48, np.int8, 0.02)):
        packed = pack_vectors(vectors, budget)
        assert packed.values.dtype == dtype
        assert packed.values.nbytes <= budget
        worst = np.abs(cosines(packed.values) - exact).max()
        assert packed.mean_error <= packed.largest_error <= worst + 1e-6
        assert worst < bound


def test_vectors_are_shortened_where_they_must_be(rng):
    # Twelve directions hold nearly all of what there is.
    vectors = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 400))
    vectors = (vectors + 0.01 * rng.normal(size=vectors.shape)).astype(np.float32)
    packed = pack_vectors(vectors, budget=300 * 20)
    assert packed.values.shape == (300, 20)
    assert np.abs(cosines(packed.values) - cosines(vectors)).max() < 0.02
    assert packed.about.startswith("20 principal components of 400 values, int8; ")
    assert pack_vectors(vectors, budget=1).values.shape == (300, 16)


def test_vectors_of_zeros_and_of_nothing():
    vectors = np.zeros((3, 4), dtype=np.float32)
    vectors[1] = [0, 3, 4, 0]
    for budget in (1000, 12):
        packed = pack_vectors(vectors, budget)
        assert packed.pairs == 0
        assert not packed.values[0].any()
        assert packed.values[1].any()
    assert pack_vectors(np.zeros((0, 4), dtype=np.float32)).values.shape == (0, 4)


def test_a_page_of_many_points_stays_small(rng):
    n = 20_000
    points = SoundMap(
        title="many",
        projections={"p": rng.normal(size=(n, 2))},
        names=[f"folder/{i:06d}.mp3" for i in range(n)],
        recording=np.arange(n),
        start=np.zeros(n),
        end=np.ones(n),
        sounds=[f"sounds/folder/{i:06d}.mp3" for i in range(n)],
        columns={"genre": [f"g{i % 8}" for i in range(n)]},
        vectors=rng.normal(size=(n, 700)).astype(np.float32),
    )
    html = sound_map_page(points).html()
    assert json.loads(Elements(html).data["map-vectors"])["dim"] == 64
    assert len(html) < 6e6


def test_the_same_map_is_the_same_page():
    points = sound_map()
    assert sound_map_page(points).html() == sound_map_page(dataclasses.replace(points)).html()


def linear(colors):
    values = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colors])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(np.clip(rgb @ lms.T, 0, None)) @ lab.T


# Machado, Oliveira, Fernandes, "A Physiologically-based Model for Simulation of Color Vision
# Deficiency", 2009, severity 1, and the least distance of two colours under it.
VISIONS = {
    "normal": (np.eye(3), 0.17),
    "protan": (
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        0.085,
    ),
    "deutan": (
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        0.085,
    ),
    "tritan": (
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
        0.1,
    ),
}


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_of_classes_stay_apart(theme, vision):
    script = files("coala_latent.viewer").joinpath("assets/sound_map_colors.js").read_text("utf-8")
    colors = re.findall(r"#[0-9a-f]{6}", re.search(rf"{theme}: (\[\"#.*\])", script)[1])
    assert len(colors) == 10
    matrix, least = VISIONS[vision]
    seen = oklab(np.clip(linear(colors) @ np.array(matrix).T, 0, 1))
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(len(seen))
    assert distances.min() >= least
