"""The concept graph in Chromium: everything a person does with it, by mouse and keys."""

import json
import time
from urllib.parse import quote, unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile

from coala_latent.tasks.concept_export import graphml_text, json_text
from coala_latent.viewer.concept_graph import ConceptPageData, concept_graph_page

RATE = 8000
NASTY = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a \"quoted\", 'name' = x & y",
    "Ünïcödé 木 🔊 \u202eabc",
    "`${alert(1)}` \\ \u2028 \t ]]>",
    "",
    "x" * 300,
    "__proto__",
]
#       0           1          2        3       4        5         6       7
ZOO = ["Animals", "Birds", "Rooster", "Crow", "Dog", "Weather", "Rain", "Clock"]
EDGES = [(0, 1), (1, 2), (1, 3), (0, 4), (5, 6), (5, 3)]
STRENGTH = [0.9, 0.8, 0.7, 0.6, 0.5, 0.3]


def build(folder, n=8, **changes):
    edges = changes.get("edges", EDGES if n == 8 else [])
    m = len(edges)
    strength = np.asarray(changes.pop("strength", STRENGTH[:m]), dtype=float)
    values = {
        "title": "Some concepts",
        "names": ZOO[:n] if n <= 8 else [f"concept {i}" for i in range(n)],
        "strength": strength,
        "low": strength - 0.15,
        "high": strength + 0.05,
        "centrality": np.linspace(1, 0, n),
        "counts": np.arange(n)[::-1] + 3,
        "accuracy": np.linspace(0.9, 0.7, n),
        "settings": {"model": "noise"},
        **changes,
        "edges": np.array(edges, dtype=np.int64).reshape(-1, 2),
    }
    data = ConceptPageData(**values)
    return data, concept_graph_page(data).write(folder / "graph.html")


@pytest.fixture
def zoo(tmp_path, open_page):
    data, path = build(tmp_path)
    page = open_page(path, reduced_motion="reduce").page
    settled(page)
    return data, page


def until(page, expression, arg=None, seconds=20.0):
    """Wait for it; the page's policy forbids playwright's own way, which evaluates text."""
    last = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < last, f"not within {seconds} s: {expression}"
        page.wait_for_timeout(20)


def settled(page, seconds=60.0):
    until(page, "conceptGraph.settled()", seconds=seconds)


def at(page, i):
    settled(page)
    return page.evaluate("i => conceptGraph.screen(i)", i)


def click(page, i):
    page.mouse.click(*at(page, i))
    until(page, "i => conceptGraph.selected() === i", i)


def edges(page):
    return {tuple(edge) for edge in page.evaluate("conceptGraph.edges()")}


def visible(page):
    return set(page.evaluate("conceptGraph.visible()"))


def set_threshold(page, value):
    page.evaluate(
        """value => {
          threshold.value = String(value);
          threshold.dispatchEvent(new Event('input'));
        }""",
        value,
    )
    settled(page)


def downloaded(page, button):
    with page.expect_download() as download:
        page.click(button)
    name = download.value.suggested_filename
    return name, download.value.path().read_bytes().decode("utf-8")


def graphml_edges(text):
    root = ElementTree.fromstring(text.encode())
    names = {"n": "{http://graphml.graphdrawing.org/xmlns}"}["n"]
    labels = {}
    for node in root.iter(f"{names}node"):
        (label,) = (d for d in node if d.get("key") == "label")
        labels[int(node.get("id"))] = label.text or ""
    links = {
        (int(e.get("source")), int(e.get("target"))): {d.get("key"): float(d.text) for d in e}
        for e in root.iter(f"{names}edge")
    }
    return labels, links


def test_the_page_asks_for_nothing_but_itself(tmp_path, open_page):
    _, path = build(tmp_path)
    watched = open_page(path)
    settled(watched.page)
    assert watched.requests == [path.as_uri()]
    assert watched.page.evaluate("conceptGraph.count") == 8
    assert edges(watched.page) == set(EDGES)
    assert visible(watched.page) == set(range(8))
    assert watched.page.text_content("#count") == "8 concepts, 6 edges, 3 at the root"


def test_concepts_are_seen_where_the_page_says_they_are(tmp_path, open_page):
    import io

    from PIL import Image

    _, path = build(tmp_path)
    for scheme in ("light", "dark"):
        page = open_page(path, color_scheme=scheme, reduced_motion="reduce").page
        for layout in ("tree", "radial", "force"):
            page.select_option("#layout", layout)
            places = [at(page, i) for i in range(8)]
            with Image.open(io.BytesIO(page.screenshot())) as image:
                picture = np.asarray(image.convert("RGB")).astype(int)
            for i, (x, y) in enumerate(places):
                color = page.evaluate("i => conceptGraph.color(i)", i)
                expected = [int(part) for part in color[4:-1].split(",")]
                assert np.abs(picture[round(y), round(x)] - expected).max() < 30, (layout, i)
            assert len({tuple(place) for place in places}) == 8


def test_a_click_tells_of_a_concept_and_highlights_its_relatives(zoo):
    _, page = zoo
    click(page, 1)
    assert page.text_content("#name") == "Birds"
    assert page.locator("#path button").all_text_contents() == ["Animals"]
    assert page.locator("#parents li").all_text_contents() == ["Animals0.90 (0.75 to 0.95)"]
    assert page.locator("#children .row-name").all_text_contents() == ["Rooster", "Crow"]
    assert "Accuracy0.871" in page.text_content("#values").replace("\n", "")
    assert set(page.evaluate("conceptGraph.highlighted()")) == {0, 1, 2, 3}
    # Crow has two parents; both are its ancestors.
    page.click("#children .row-name >> text=Crow")
    assert page.evaluate("conceptGraph.selected()") == 3
    assert set(page.evaluate("conceptGraph.highlighted()")) == {0, 1, 3, 5}
    page.mouse.click(30, 780)
    until(page, "conceptGraph.selected() === -1")
    assert page.evaluate("conceptGraph.highlighted()") == []
    assert page.is_visible("#nothing")


def test_examples_play_from_their_start_to_their_end(tmp_path, open_page):
    name = 'a #1 "b" é.wav'
    (tmp_path / "sounds").mkdir()
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE)
    soundfile.write(tmp_path / "sounds" / name, tone, RATE)
    url = "sounds/" + quote(name)
    examples = [[("one", url, 1.0, 1.5), ("two", url, 2.0, 4.0)], *[[]] * 7]
    _, path = build(tmp_path, examples=examples)
    page = open_page(path).page
    click(page, 0)
    assert page.locator("#examples .row-name").all_text_contents() == ["one", "two"]
    page.click("#examples li:nth-child(1) .row-play")
    until(page, "!player.paused && player.currentTime > 1")
    assert unquote(page.evaluate("player.currentSrc")).endswith(name)
    assert page.evaluate("player.currentTime") < 1.5
    until(page, "player.paused")
    assert page.evaluate("player.currentTime") == pytest.approx(1.5, abs=0.1)
    page.keyboard.press("j")
    until(page, "!player.paused && player.currentTime > 2")
    assert page.get_attribute("#examples li:nth-child(2)", "class") == "playing"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    until(page, "player.paused")
    page.keyboard.press(" ")
    until(page, "!player.paused")
    click(page, 4)
    assert page.evaluate("player.paused")
    assert page.is_visible("#no-examples")
    assert page.locator("#examples li").count() == 0


def test_a_missing_example_is_said(tmp_path, open_page):
    _, path = build(tmp_path, examples=[[("gone", "none.wav", 0.0, 1.0)], *[[]] * 7])
    watched = open_page(path)
    click(watched.page, 0)
    watched.page.click("#examples .row-play")
    until(watched.page, "heard.textContent.includes('cannot be played')")
    watched.complaints[:] = [
        said for said in watched.complaints if "ERR_FILE_NOT_FOUND" not in said
    ]


def test_an_example_without_a_sound_is_only_named(tmp_path, open_page):
    _, path = build(tmp_path, examples=[[("silent", "", 0.0, 1.0)], *[[]] * 7])
    page = open_page(path).page
    click(page, 0)
    assert page.text_content("#examples li") == "silent"
    assert page.locator("#examples button").count() == 0
    page.keyboard.press(" ")
    page.keyboard.press("j")
    assert page.is_hidden("#deck")


def test_hovering_shows_numbers_of_concept_and_edges(zoo):
    _, page = zoo
    page.mouse.move(*at(page, 3))
    page.wait_for_selector("#hover", state="visible")
    shown = page.locator("#hover").inner_text()
    for text in ("Crow", "Recordings", "7", "0.814", "Parents", "Birds", "0.70 (0.55 to 0.75)"):
        assert text in shown
    assert "Weather" in shown
    page.mouse.move(*at(page, 0))
    until(page, "hover.innerText.includes('Children')")
    page.mouse.move(30, 780)
    page.wait_for_selector("#hover", state="hidden")


def test_the_threshold_takes_weak_edges_and_hangs_their_children_on_the_root(zoo):
    _, page = zoo
    click(page, 3)
    set_threshold(page, 0.65)
    assert edges(page) == {(0, 1), (1, 2), (1, 3)}
    assert visible(page) == set(range(8))
    assert page.text_content("#count") == "8 concepts, 3 of 6 edges, 5 at the root"
    assert page.text_content("#threshold-value") == "0.65"
    assert set(page.evaluate("conceptGraph.highlighted()")) == {0, 1, 3}
    page.check("#cautious")
    settled(page)
    assert edges(page) == {(0, 1), (1, 2)}, "their lower ends are 0.75 and 0.65"
    page.uncheck("#cautious")
    set_threshold(page, 5)
    assert edges(page) == set(), "the slider ends above the strongest edge"
    set_threshold(page, -5)
    assert edges(page) == set(EDGES)


def test_a_concept_with_two_parents_changes_sides_when_its_edge_goes(tmp_path, open_page):
    low = np.array([0.85, 0.75, 0.1, 0.55, 0.45, 0.25])
    _, path = build(tmp_path, low=low)
    page = open_page(path).page
    click(page, 3)
    assert page.locator("#path button").all_text_contents() == ["Animals", "Birds"]
    page.check("#cautious")
    set_threshold(page, 0.25)
    assert edges(page) == {(0, 1), (1, 2), (0, 4), (5, 6), (5, 3)}
    assert page.locator("#path button").all_text_contents() == ["Weather"]


def test_search_lists_and_enter_flies(zoo):
    _, page = zoo
    page.keyboard.press("/")
    page.keyboard.type("R")
    until(page, "document.querySelectorAll('#matches li').length > 0")
    found = page.eval_on_selector_all(
        "#matches li", "all => all.map((x) => Number(x.dataset.concept))"
    )
    assert page.evaluate("conceptGraph.radius(6)") >= 3
    # Those that begin with it first, then those of most recordings.
    assert found == [2, 6, 1, 3, 5]
    assert set(page.evaluate("conceptGraph.highlighted()")) == set(found)
    page.keyboard.type("AIN")
    page.keyboard.press("Enter")
    until(page, "conceptGraph.selected() === 6")
    box = page.locator("#graph").bounding_box()
    assert 0 < at(page, 6)[0] - box["x"] < box["width"]
    assert page.input_value("#search") == ""
    page.fill("#search", "nothing like it")
    until(page, "matches.textContent === 'Nothing found.'")
    page.keyboard.press("Escape")
    assert page.is_hidden("#matches")
    assert page.evaluate("conceptGraph.selected()") == 6
    page.keyboard.press("Escape")
    assert page.evaluate("conceptGraph.selected()") == -1


def test_search_knows_no_accents_and_its_list_is_walked_by_keys(tmp_path, open_page):
    _, path = build(tmp_path, names=["Café", "cafe noir", "木", *ZOO[3:]])
    page = open_page(path).page
    page.fill("#search", "CAFE")
    until(page, "document.querySelectorAll('#matches li').length === 2")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    until(page, "conceptGraph.selected() === 1")


@pytest.mark.parametrize("layout", ["tree", "radial", "force"])
def test_a_double_click_collapses_and_expands(tmp_path, open_page, layout):
    _, path = build(tmp_path)
    page = open_page(path).page
    page.select_option("#layout", layout)
    page.mouse.dblclick(*at(page, 1))
    until(page, "conceptGraph.visible().length === 6")
    assert visible(page) == {0, 1, 4, 5, 6, 7}
    assert edges(page) == {(0, 1), (0, 4), (5, 6)}
    assert page.text_content("#count").startswith("6 of 8 concepts")
    # Within a collapsed branch: a search opens what it has found.
    page.fill("#search", "crow")
    page.keyboard.press("Enter")
    until(page, "conceptGraph.visible().length === 8")
    page.mouse.dblclick(*at(page, 0))
    until(page, "conceptGraph.visible().length === 4")
    page.click("#unfold")
    assert visible(page) == set(range(8))
    click(page, 5)
    page.click("#fold")
    assert visible(page) == set(range(8)) - {6}


def test_keys_walk_the_tree(zoo):
    _, page = zoo
    way = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft",
                "ArrowDown", "ArrowLeft", "ArrowDown", "ArrowDown", "ArrowDown"):  # fmt: skip
        page.keyboard.press(key)
        way.append(page.evaluate("conceptGraph.selected()"))
    assert way == [0, 1, 2, 3, 2, 1, 4, 0, 5, 7, 7]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("c")
    assert visible(page) == set(range(8)) - {6}
    page.keyboard.press("Enter")
    assert visible(page) == set(range(8))
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    assert page.evaluate("conceptGraph.selected()") == 5


def test_wheel_and_drag_move_the_view(zoo):
    _, page = zoo
    before = [at(page, i) for i in range(8)]
    page.mouse.move(460, 430)
    page.mouse.wheel(0, -400)
    settled(page)
    zoomed = [at(page, i) for i in range(8)]
    assert np.ptp(zoomed, axis=0).min() > 1.5 * np.ptp(before, axis=0).min()
    page.mouse.down()
    page.mouse.move(360, 430, steps=4)
    page.mouse.up()
    assert at(page, 0)[0] == pytest.approx(zoomed[0][0] - 100, abs=1)
    page.keyboard.press("0")
    settled(page)
    np.testing.assert_allclose([at(page, i) for i in range(8)], before, atol=0.5)


def test_exports_are_those_of_python(tmp_path, open_page):
    data, path = build(tmp_path, names=NASTY, accuracy=None, title="a/b: <c>")
    page = open_page(path).page
    name, text = downloaded(page, "#export-json")
    assert name == "a b c.json"
    assert json.loads(text) == json.loads(json_text(data))
    name, text = downloaded(page, "#export-graphml")
    assert name == "a b c.graphml"
    assert graphml_edges(text) == graphml_edges(graphml_text(data))
    assert graphml_edges(text)[0] == dict(enumerate(NASTY))
    # What is visible: without what is weak or folded away.
    set_threshold(page, 0.55)
    page.mouse.dblclick(*at(page, 1))
    until(page, "conceptGraph.visible().length === 6")
    held = json.loads(downloaded(page, "#export-json")[1])
    assert {(e["source"], e["target"]) for e in held["edges"]} == {(0, 1), (0, 4)}
    assert {node["id"] for node in held["nodes"]} == {0, 1, 4, 5, 6, 7}
    assert held["graph"]["threshold"] == 0.55


def test_names_run_nothing(tmp_path, open_page):
    examples = [[(each, "", 0.0, 1.0)] for each in NASTY]
    _, path = build(tmp_path, names=NASTY, examples=examples, title=NASTY[0])
    page = open_page(path).page
    assert page.title() == NASTY[0]
    for i, name in enumerate(NASTY):
        click(page, i)
        assert page.text_content("#name") == (name or "(no name)")
        assert page.locator("#examples .row-name").all_text_contents() == [name]
        page.mouse.move(30, 780)
        page.mouse.move(*at(page, (i + 1) % 8))
        page.wait_for_selector("#hover", state="visible")
    page.fill("#search", "<")
    until(page, "document.querySelectorAll('#matches li').length === 2")
    assert page.locator("#stage img, #side img[src]").count() == 0


def test_the_address_remembers_the_selected_concept(tmp_path, open_page):
    _, path = build(tmp_path, names=["a & b=c #1", "a & b=c #1", *ZOO[2:]])
    page = open_page(path).page
    click(page, 1)
    address = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(address)
    until(page, "window.conceptGraph && conceptGraph.selected() === 1")


@pytest.mark.parametrize("layout", ["tree", "radial", "force"])
def test_names_never_lie_over_each_other(tmp_path, open_page, layout):
    n = 120
    rng = np.random.default_rng(1)
    links = [(int(rng.integers(0, i)), i) for i in range(1, n) if rng.random() > 0.1]
    _, path = build(tmp_path, n, edges=links, strength=rng.uniform(0.2, 1, len(links)))
    page = open_page(path).page
    page.select_option("#layout", layout)
    settled(page)
    labels = page.evaluate("conceptGraph.labels()")
    assert len(labels) > 15
    spots = []
    for label in labels:
        along = np.arange(3.0, label["width"] - 3, 3.0)
        turn = np.array([np.cos(label["angle"]), np.sin(label["angle"])])
        spots.append(np.array([label["x"], label["y"]]) + along[:, None] * turn)
    for i, one in enumerate(spots):
        for other in spots[i + 1 :]:
            gap = np.linalg.norm(one[:, None] - other[None], axis=-1).min()
            assert gap > 0.7 * labels[0]["height"]


def test_layouts_are_the_same_each_time(tmp_path, open_page):
    rng = np.random.default_rng(2)
    n = 60
    links = [(int(rng.integers(0, i)), i) for i in range(1, n)]
    _, path = build(tmp_path, n, edges=links, strength=rng.uniform(0.2, 1, n - 1))
    places = []
    for motion in ("reduce", "no-preference"):
        page = open_page(path, reduced_motion=motion).page
        page.select_option("#layout", "force")
        places.append([at(page, i) for i in range(n)])
    np.testing.assert_array_equal(places[0], places[1])


def test_colours_and_sizes_follow_what_is_chosen(zoo):
    _, page = zoo

    def colors():
        return [page.evaluate("i => conceptGraph.color(i)", i) for i in range(8)]

    def sizes():
        return [page.evaluate("i => conceptGraph.radius(i)", i) for i in range(8)]

    branch = colors()
    assert branch[0] == branch[1] == branch[2] == branch[4] != branch[5] == branch[6] != branch[7]
    assert sizes() == sorted(sizes(), reverse=True)
    page.select_option("#size", "equal")
    assert len(set(sizes())) == 1
    for choice in ("accuracy", "centrality", "counts"):
        page.select_option("#color", choice)
        assert len(set(colors())) == 8
    page.select_option("#color", "branch")
    page.click("#legend button >> nth=1")
    assert page.evaluate("conceptGraph.selected()") == 5


def test_the_theme_changes_ground_and_colours(zoo):
    _, page = zoo
    before = page.evaluate("[conceptGraph.color(0), getComputedStyle(stage).backgroundColor]")
    page.click("#theme")
    settled(page)
    after = page.evaluate("[conceptGraph.color(0), getComputedStyle(stage).backgroundColor]")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_small_screens_show_graph_and_selection(tmp_path, open_page):
    _, path = build(tmp_path)
    options = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
    page = open_page(path, **options).page
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for i in range(8):
        x, y = at(page, i)
        assert 0 < x < 360
        assert 0 < y < 360
    page.touchscreen.tap(*at(page, 5))
    until(page, "conceptGraph.selected() === 5")
    assert page.locator("#name").bounding_box()["y"] < 640


def test_every_control_has_a_name(zoo):
    _, page = zoo
    click(page, 1)
    nameless = page.eval_on_selector_all(
        "button, input, select, a, [tabindex], [role]",
        """all => all.filter((x) => x.checkVisibility() &&
          !x.matches('[role=status]') && !x.getAttribute('aria-label') &&
          !x.textContent.trim() && !x.labels?.[0]?.innerText.trim()
        ).map((x) => x.outerHTML)""",
    )
    assert nameless == []


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_concepts_without_edges(tmp_path, open_page, n):
    _, path = build(tmp_path, n)
    page = open_page(path).page
    for layout in ("tree", "radial", "force"):
        page.select_option("#layout", layout)
        settled(page)
    assert page.is_disabled("#threshold")
    assert page.is_visible("#message") == (n == 0)
    if n:
        click(page, n - 1)
        assert page.text_content("#name") == ZOO[n - 1]
    for key in ("ArrowDown", "ArrowRight", "Enter", "0", "Escape", "ArrowUp"):
        page.keyboard.press(key)
    assert len(json.loads(downloaded(page, "#export-json")[1])["nodes"]) == n


def test_circles_do_not_hang(tmp_path, open_page):
    links = [(0, 1), (1, 2), (2, 0), (3, 4), (4, 3), (2, 3)]
    _, path = build(tmp_path, 6, edges=links, strength=[0.5, 0.9, 0.8, 0.4, 0.4, 0.3])
    page = open_page(path).page
    for layout in ("tree", "radial", "force"):
        page.select_option("#layout", layout)
        settled(page)
    assert edges(page) == set(links)
    click(page, 0)
    # Each of a circle is above and below the others.
    assert set(page.evaluate("conceptGraph.highlighted()")) == {0, 1, 2, 3, 4}
    assert page.locator("#path button").all_text_contents() == ["Birds", "Rooster"]
    set_threshold(page, 0.45)
    assert set(page.evaluate("conceptGraph.highlighted()")) == {0, 1, 2}
    page.mouse.dblclick(*at(page, 1))
    until(page, "conceptGraph.visible().length === 4")


def test_a_chain_as_deep_as_the_graph_is_large(tmp_path, open_page):
    n = 3000
    links = [(i, i + 1) for i in range(n - 1)]
    _, path = build(tmp_path, n, edges=links, strength=np.ones(n - 1))
    page = open_page(path).page
    settled(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("conceptGraph.selected()") == 1
    assert len(page.evaluate("conceptGraph.highlighted()")) == n


def test_thousands_of_concepts_answer(tmp_path, open_page):
    n = 3500
    rng = np.random.default_rng(0)
    links = [(int(i * rng.random() ** 1.5), i) for i in range(1, n) if rng.random() > 0.05]
    strength = rng.uniform(0.2, 1, len(links))
    _, path = build(tmp_path, n, edges=links, strength=strength)
    page = open_page(path).page
    settled(page)
    i = 0
    click(page, i)
    assert page.text_content("#name") == "concept 0"
    before = at(page, 3210)
    page.fill("#search", "concept 3210")
    page.keyboard.press("Enter")
    until(page, "conceptGraph.selected() === 3210")
    assert np.hypot(*np.subtract(at(page, 3210), before)) > 20, "the view flies there"
    click(page, 3210)
    set_threshold(page, 0.9)
    assert len(edges(page)) == int((strength >= 0.9).sum())
    page.keyboard.press("0")
    begin = page.evaluate("performance.now()")
    set_threshold(page, 0.2)
    assert page.evaluate("performance.now()") - begin < 15000
    page.select_option("#layout", "force")
    settled(page)
    x = [page.evaluate("i => conceptGraph.screen(i)", i) for i in range(0, n, 100)]
    assert np.ptp(x, axis=0).min() > 100
