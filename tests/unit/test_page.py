"""Pages: everything is escaped, nothing is fetched, and a file appears whole or not at all."""

import base64
import json
import re
import shutil
import struct
import subprocess
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from coala_latent.errors import ConfigError, DataError
from coala_latent.viewer.page import Page, embedded_json

NASTY = [
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "\"' onload=alert(1) x='",
    "<img src=x onerror=alert(1)>",
    "a & b &amp; c",
    "line\u2028separator\u2029",
    "Ünïcödé 木 🔊",
    "bad \udcff byte",
    "]]> </style> </title> </p>",
]
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 40, 30) + b"rest"


class Read(HTMLParser):
    """Elements, attributes and texts of a page, and what of it is not closed."""

    VOID = ("meta", "img", "link", "br")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("script", "style"):
            self.scripts.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            tag, attrs, before = self.scripts[-1]
            self.scripts[-1] = (tag, attrs, before + data)
        elif data.strip():
            self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def full_page(text):
    page = Page(text, text)
    page.section(text)
    page.heading(text)
    page.text(text)
    page.note(text)
    page.items([text])
    page.code(text)
    page.pairs({text: text})
    page.table([text], [[text]], text)
    page.figure(PNG, text, text)
    with page.details(text):
        page.text(text)
    page.data("names", {text.replace("\udcff", "?"): [text]})
    return page


@pytest.mark.parametrize("text", NASTY)
def test_text_is_text_wherever_it_stands(text, tmp_path):
    path = full_page(text).write(tmp_path / "page.html")
    read, plain = Read(path.read_text("utf-8")), Read(full_page("plain").html())
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in plain.elements]
    shown = text.encode("utf-8", "backslashreplace").decode()
    assert read.texts.count(shown) == plain.texts.count("plain") >= 13
    assert read.all("img")[0]["alt"] == shown
    handlers = [name for _, attrs in read.elements for name in attrs if name.startswith("on")]
    assert not handlers


@pytest.mark.parametrize("text", NASTY)
def test_data_reads_back_equal_and_cannot_end_its_element(text):
    value = {"names": [text], text: 1.5, "nothing": None, "deep": {"x": [True, []]}}
    page = Page("t")
    page.data("table-1", value)
    found = [body for _, attrs, body in Read(page.html()).scripts if attrs.get("id") == "table-1"]
    assert json.loads(found[0]) == value
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", embedded_json(value))


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"x": object()}, np.float32(1)])
def test_data_that_is_no_json(value):
    with pytest.raises(DataError, match="data of a page"):
        Page("t").data("x", value)


@pytest.mark.parametrize("name", ["", "1a", "a b", 'x"><script>', "theme", "s-a", "é"])
def test_names_of_elements(name):
    page = Page("t")
    for add in (lambda: page.data(name, 1), lambda: page.container(name)):
        with pytest.raises(ConfigError, match="no name"):
            add()


def test_a_name_is_taken_once():
    page = Page("t")
    page.container("map")
    with pytest.raises(ConfigError, match="in the page already"):
        page.data("map", 1)


def test_the_policy_forbids_the_network_and_allows_the_pages_own_scripts():
    read = Read(full_page("x").html())
    policy = next(
        meta["content"]
        for meta in read.all("meta")
        if "Content-Security" in str(meta.get("http-equiv"))
    )
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "script-src 'unsafe-inline'" not in policy
    for _, attrs, body in read.scripts:
        if attrs.get("type") != "application/json":
            digest = base64.b64encode(sha256(body.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
    addresses = [
        value
        for _, attrs in read.elements
        for name, value in attrs.items()
        if name in ("src", "href", "action", "srcset")
    ]
    assert addresses
    assert all(value.startswith(("data:", "#")) for value in addresses)


def test_sections_are_listed_and_linked_once_each():
    page = Page("t")
    anchors = [page.section(title) for title in ("Same", "Same", "木", "木", "same!")]
    read = Read(page.html())
    assert len(set(anchors)) == 5
    ids = [attrs["id"] for attrs in read.all("section")]
    assert ids == anchors
    links = [attrs["href"] for attrs in read.all("a") if "class" not in attrs]
    assert links == [f"#{anchor}" for anchor in anchors]


def test_an_empty_page():
    read = Read(Page("t").html())
    assert read.texts.count("t") == 2
    assert not read.all("nav")


def cells(page):
    return re.findall(r"<td([^>]*)>([^<]*)</td>", page.html())


def test_numbers_are_aligned_and_sorted_by_value():
    page = Page("t")
    page.table(["a", "b", "c"], [["x", 0.123456, 3], ["y", None, 12288], ["z", float("nan"), 4]])
    found = cells(page)
    assert found[0] == ("", "x")
    assert found[1] == (' class="number" data-value="0.123456"', "0.123")
    assert found[4] == (' class="number"', "\u2013")
    assert found[5] == (' class="number" data-value="12288.0"', "12\u202f288")
    assert found[7] == (' class="number"', "\u2013")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (999.7, "1000"),
        (12345.6, "12346"),
        (1e-9, "1e-09"),
        (-2.5, "-2.5"),
        (1e30, "1e+30"),
        (float("inf"), "∞"),
        (True, "yes"),
        ([1, 0.5], "1, 0.5"),
        (0, "0"),
    ],
)
def test_how_values_are_shown(value, shown):
    page = Page("t")
    page.table(["a"], [[value]])
    assert cells(page)[0][1] == shown


def test_tables_of_nothing_and_of_uneven_rows():
    page = Page("t")
    page.table(["a", "b"], [])
    assert len(Read(page.html()).all("th")) == 2
    with pytest.raises(DataError, match="row 1 has 1 values, not 2"):
        page.table(["a", "b"], [[1, 2], [1]])


def test_pictures_are_in_the_page():
    page = Page("t")
    page.figure(PNG, "what it shows")
    image = Read(page.html()).all("img")[0]
    assert (image["width"], image["height"], image["alt"]) == ("40", "30", "what it shows")
    assert base64.b64decode(image["src"].partition(",")[2]) == PNG
    with pytest.raises(DataError, match="not a PNG"):
        page.figure(b"GIF89a", "x")


def test_folded_parts_are_closed():
    page = Page("t")
    page.section("one")
    with page.details("more", open_=True):
        page.text("within")
    page.section("two")
    assert "open" in Read(page.html()).all("details")[0]


@pytest.mark.parametrize("name", ["none", "../page", "page.js", "", "Page"])
def test_only_scripts_of_the_package(name):
    for add in (Page("t").script, Page("t").style):
        with pytest.raises(ConfigError, match="package"):
            add(name)


def test_assets_can_stand_in_their_elements():
    for asset in files("coala_latent.viewer").joinpath("assets").iterdir():
        text = asset.read_text("utf-8").lower()
        assert "</script" not in text, asset
        assert "</style" not in text, asset
        assert "<!--" not in text, asset
        assert not re.search(r"https?://|@import|\burl\(", text), asset


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to check the scripts with")
def test_scripts_parse():
    for asset in files("coala_latent.viewer").joinpath("assets").iterdir():
        if asset.name.endswith(".js"):
            subprocess.run(["node", "--check", str(asset)], check=True)


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new folder" / "a, 'b' = é.html"
    full_page("first").write(path)
    before = path.read_bytes()
    assert b"\r" not in before
    page = full_page("second")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        page.write(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_page_is_the_same_file():
    assert full_page("x").html() == full_page("x").html()
