"""The sound map in Chromium: everything a person does with it, by mouse and keys."""

import csv
import io
import time
from urllib.parse import quote, unquote

import numpy as np
import pytest
import soundfile

from coala_latent.viewer.sound_map import SoundMap, sound_map_page

RATE = 8000
NASTY = [
    "a \"quoted\", 'name' = x.wav",
    "<img src=x onerror=alert(1)>.wav",
    "Ünïcödé 木 🔊.wav",
    "100%25 #1?.wav",
    "folder & more/<b>x</b>.wav",
    "=cmd|' /C calc'!A0.wav",
]
SCRIPT = "</script><script>alert(1)</script>"
SELECTED = "soundMap.selected() >= 0"


def write_sound(folder, name, seconds=2.0):
    path = folder / "sounds" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.arange(round(seconds * RATE)) / RATE
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 440 * x), RATE, format="WAV")
    return "sounds/" + quote(name)


def square(n):
    """Positions well apart: a grid in reading order, rows downwards."""
    side = int(np.ceil(np.sqrt(n)))
    i = np.arange(n)
    return np.stack([i % side, -(i // side)], axis=1).astype(np.float32)


def build(folder, n=9, **changes):
    """A map of n sounds of 2 s, with their files."""
    rng = np.random.default_rng(0)
    names = [f"s{i}.wav" for i in range(n)]
    values = {
        "title": "Some sounds",
        "projections": {"grid": square(n), "mirrored": -square(n)},
        "names": names,
        "recording": np.arange(n),
        "start": np.zeros(n),
        "end": np.full(n, 2.0),
        "sounds": changes.get("sounds") or [write_sound(folder, name) for name in names],
        "columns": {
            "kind": [["bell", "dog", "rain"][i % 3] for i in range(n)],
            "loud": [float(i) for i in range(n)],
        },
        "vectors": rng.normal(size=(n, 16)).astype(np.float32),
        "settings": {"model": "noise"},
        **changes,
    }
    points = SoundMap(**values)
    return points, sound_map_page(points).write(folder / "map.html")


@pytest.fixture
def nine(tmp_path, open_page):
    points, path = build(tmp_path)
    return points, open_page(path).page


def until(page, expression, arg=None, seconds=15.0):
    """Wait for it; the page's policy forbids playwright's own way, which evaluates text."""
    last = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < last, f"not within {seconds} s: {expression}"
        page.wait_for_timeout(20)


def at(page, i):
    return page.evaluate("i => soundMap.screen(i)", i)


def click(page, i, **options):
    page.mouse.click(*at(page, i), **options)
    until(page, "i => soundMap.selected() === i", i)


def playing(page):
    until(page, "!player.paused && player.currentTime > 0")


def colors(page, n):
    return [tuple(page.evaluate("i => soundMap.colors(i)", i)) for i in range(n)]


def rows(page, where):
    return page.eval_on_selector_all(
        f"{where} li[data-point]", "rows => rows.map((row) => Number(row.dataset.point))"
    )


def lasso(page, points):
    """Draw around points with the left button."""
    corners = np.array([at(page, i) for i in points])
    (left, top), (right, bottom) = corners.min(axis=0) - 25, corners.max(axis=0) + 25
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=3)
    page.mouse.up()


def exported(page):
    with page.expect_download() as download:
        page.click("#export")
    text = download.value.path().read_bytes().decode("utf-8")
    return text, list(csv.DictReader(io.StringIO(text, newline="")))


def cosine_distances(vectors, i):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return 1 - units @ units[i]


@pytest.mark.parametrize("renderer", ["webgl", "processor"])
def test_points_are_seen_where_the_page_says_they_are(tmp_path, open_page, renderer):
    _, path = build(tmp_path)
    watched = open_page(path, query=f"?renderer={renderer}")
    page = watched.page
    until(page, "soundMap.drawn() > 0")
    kind = page.evaluate("soundMap.renderer")
    assert kind == {"webgl": "WebGL 2", "processor": "processor"}[renderer]
    from PIL import Image

    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    for i in range(9):
        x, y = at(page, i)
        shown = picture[round(y), round(x)]
        assert np.abs(shown - page.evaluate("i => soundMap.colors(i)", i)[:3]).max() < 45
    assert {url.partition("?")[0] for url in watched.requests} == {path.as_uri()}


def test_a_click_plays_the_points_file(nine):
    _, page = nine
    click(page, 4)
    playing(page)
    assert unquote(page.evaluate("player.currentSrc")).endswith("/sounds/s4.wav")
    before = page.evaluate("player.currentTime")
    until(page, f"player.currentTime > {before} + 0.1")
    assert page.text_content("#name") == "s4.wav"
    assert page.get_attribute("#play", "aria-label") == "Pause"
    page.click("#play")
    assert page.evaluate("player.paused")
    click(page, 7)
    playing(page)
    assert page.evaluate("player.currentSrc").endswith("/sounds/s7.wav")
    assert page.evaluate("parseFloat(cursor.style.left)") > 0


def test_a_segment_plays_from_its_start_to_its_end(tmp_path, open_page):
    sound = write_sound(tmp_path, "long.wav", 8.0)
    n = 4
    _, path = build(
        tmp_path,
        n,
        names=["long.wav"] * n,
        recording=np.zeros(n, int),
        start=np.array([0.0, 2.0, 4.0, 6.0]),
        end=np.array([2.0, 4.0, 4.6, 8.0]),
        sounds=[sound],
    )
    page = open_page(path).page
    click(page, 2)
    playing(page)
    assert 4.0 <= page.evaluate("player.currentTime") < 4.6
    until(page, "player.paused")
    assert page.evaluate("player.currentTime") == pytest.approx(4.6, abs=0.1)
    assert page.text_content("#when") == "4.0\u20134.6 s"
    # Again from the segment's start.
    page.click("#play")
    playing(page)
    assert 4.0 <= page.evaluate("player.currentTime") < 4.6
    # What is sought outside the segment plays on.
    box = page.locator("#spectrogram").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.7, box["y"] + 5)
    until(page, "player.currentTime > 5.7")
    assert page.evaluate("player.currentTime") == pytest.approx(5.6, abs=0.6)
    assert not page.evaluate("player.paused")
    page.uncheck("#others")
    assert set(rows(page, "#neighbours")) == {0, 1, 3}
    page.check("#others")
    assert rows(page, "#neighbours") == []


def test_pictures_beside_the_page_are_shown(tmp_path, open_page):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 10)).save(tmp_path / "pictures" / "a #1.png")
    pictures = ["pictures/" + quote("a #1.png"), "", "pictures/none.png"]
    _, path = build(tmp_path, 3, spectrograms=pictures)
    watched = open_page(path)
    page = watched.page
    click(page, 0)
    until(page, "picture.naturalWidth === 40")
    assert page.is_visible("#picture")
    click(page, 1)
    assert page.is_hidden("#picture")
    click(page, 2)
    page.wait_for_selector("#picture", state="hidden")
    # That a file is missing is said in the console, too.
    watched.complaints[:] = [
        said for said in watched.complaints if "ERR_FILE_NOT_FOUND" not in said
    ]


def test_a_missing_sound_is_said(tmp_path, open_page):
    _, path = build(tmp_path, 2, sounds=["sounds/none.wav", ""])
    watched = open_page(path)
    click(watched.page, 0)
    until(watched.page, "heard.textContent.includes('cannot be played')")
    click(watched.page, 1)
    assert "no sound" in watched.page.text_content("#heard")
    watched.complaints[:] = [
        said for said in watched.complaints if "ERR_FILE_NOT_FOUND" not in said
    ]


def test_neighbours_are_those_of_numpy(tmp_path, open_page):
    n = 60
    points, path = build(tmp_path, n, sounds=[""] * n)
    page = open_page(path).page
    click(page, 17)
    exact = cosine_distances(points.vectors.astype(np.float64), 17)
    order = [int(i) for i in np.argsort(exact) if i != 17][:12]
    assert rows(page, "#neighbours") == order
    shown = page.eval_on_selector_all("#neighbours .number", "all => all.map((x) => x.textContent)")
    np.testing.assert_allclose([float(x) for x in shown], exact[order], atol=1e-3)


def test_colour_by_distance_is_fixed_and_continuous(tmp_path, open_page):
    angle = np.array([0, 0, 0.2, 0.6, 1.0, np.pi / 2, np.pi])
    n = len(angle)
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    vectors = np.vstack([vectors, [[0, 0]]])
    _, path = build(tmp_path, n + 1, vectors=vectors)
    page = open_page(path).page
    page.select_option("#color", label="Distance to selected")
    before = colors(page, n + 1)
    assert len(set(before)) == 1
    click(page, 0)
    after = colors(page, n + 1)
    assert after[0] == after[1]
    assert len(set(after[1:6])) == 5
    assert after[5] == after[6], "1 and more look alike"
    assert after[7] == before[7], "a vector of zeros has no distance"
    click(page, 5)
    assert colors(page, n + 1)[5] == after[0]
    assert "Cosine distance" in page.text_content("#legend")


def test_colour_by_columns(tmp_path, open_page):
    _, path = build(
        tmp_path,
        6,
        columns={
            "kind": ["bell", "dog", "bell", None, "dog", "rain"],
            "loud": [0.0, 1.0, 2.0, float("nan"), None, 10.0],
            "nothing": [None] * 6,
            "equal": [3.0] * 6,
        },
    )
    page = open_page(path).page
    assert page.input_value("#color") == "column:0"
    kind = colors(page, 6)
    assert kind[0] == kind[2]
    assert len({kind[0], kind[1], kind[3], kind[5]}) == 4
    page.select_option("#color", label="loud")
    loud = colors(page, 6)
    assert loud[3] == loud[4] == kind[3], "what has no value is grey"
    lightness = [sum(color[:3]) for color in loud]
    assert lightness[0] > lightness[1] > lightness[2] > lightness[5]
    assert "no value (2)" in page.text_content("#legend")
    for name in ("nothing", "equal", "One colour"):
        page.select_option("#color", label=name)
        assert len(set(colors(page, 6))) == 1


def test_many_classes_become_the_most_frequent_and_others(tmp_path, open_page):
    n = 40
    kinds = [f"k{i}" if i < 30 else f"k{i - 30}" for i in range(n)]
    _, path = build(tmp_path, n, sounds=[""] * n, columns={"kind": kinds})
    page = open_page(path).page
    page.select_option("#color", label="kind")
    names = page.eval_on_selector_all("#legend .class", "all => all.map((x) => x.textContent)")
    assert names == [f"k{i}" for i in range(10)] + ["20 more"]


def test_search_lists_and_goes_to_the_first(nine):
    _, page = nine
    page.keyboard.press("/")
    page.keyboard.type("DOG")
    until(page, "!matches.hidden && matches.textContent.includes('3 sounds')")
    assert rows(page, "#matches") == [1, 4, 7]
    assert [color[3] for color in colors(page, 9)] == [255 if i % 3 == 1 else 38 for i in range(9)]
    page.fill("#search", "s7 dog")
    page.keyboard.press("Enter")
    until(page, "soundMap.selected() === 7")
    playing(page)
    page.fill("#search", "nowhere")
    until(page, "matches.textContent.includes('Nothing found')")
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""
    assert page.is_hidden("#matches")
    assert {color[3] for color in colors(page, 9)} == {255}


def test_lasso_and_export(nine):
    _, page = nine
    page.keyboard.down("Shift")
    lasso(page, [0, 1, 3, 4])
    page.keyboard.up("Shift")
    assert page.evaluate("soundMap.list()") == rows(page, "#list") == [0, 1, 3, 4]
    page.click("#lasso")
    lasso(page, [7, 8])
    assert page.evaluate("soundMap.list()") == [7, 8]
    page.keyboard.down("Shift")
    page.keyboard.down("Control")
    lasso(page, [5, 2])
    page.keyboard.up("Control")
    page.keyboard.up("Shift")
    assert page.evaluate("soundMap.list()") == [7, 8, 2, 5]
    page.click("#list li:nth-child(2) .row-remove")
    _, found = exported(page)
    assert [line["name"] for line in found] == ["s7.wav", "s2.wav", "s5.wav"]
    assert [line["kind"] for line in found] == ["dog", "rain", "rain"]
    assert [float(line["loud"]) for line in found] == [7, 2, 5]
    assert [line["sound"] for line in found] == ["sounds/s7.wav", "sounds/s2.wav", "sounds/s5.wav"]
    assert list(found[0])[:4] == ["point", "name", "start", "end"]
    page.click("#clear")
    assert page.evaluate("soundMap.list()") == []
    assert page.is_disabled("#export")


def test_filter_shows_rows_of_one_value(nine):
    _, page = nine
    choices = page.eval_on_selector_all("#filter-value option", "all => all.map((x) => x.label)")
    assert choices == ["All", "bell", "dog", "rain"]
    page.select_option("#filter-value", label="rain")
    assert page.evaluate("soundMap.visible()") == [2, 5, 8]
    assert "3 of 9" in page.text_content("#count")
    x, y = at(page, 0)
    page.mouse.click(x, y)
    assert page.evaluate("soundMap.selected()") == -1, "what is not shown cannot be chosen"
    click(page, 5)
    assert set(rows(page, "#neighbours")) == {2, 8}
    page.select_option("#filter-column", label="loud")
    assert page.evaluate("soundMap.visible().length") == 9
    page.select_option("#filter-value", label="4")
    assert page.evaluate("soundMap.visible()") == [4]
    page.select_option("#filter-value", label="All")
    assert page.evaluate("soundMap.visible().length") == 9


def test_filter_by_ranges_and_missing_values(tmp_path, open_page):
    n = 100
    values = [None if i % 10 == 0 else float(i) for i in range(n)]
    _, path = build(tmp_path, n, sounds=[""] * n, columns={"x": values})
    page = open_page(path).page
    options = page.eval_on_selector_all("#filter-value option", "all => all.map((x) => x.label)")
    assert options[-1] == "(no value)"
    seen = []
    for option in options[1:]:
        page.select_option("#filter-value", label=option)
        seen += page.evaluate("soundMap.visible()")
    assert sorted(seen) == list(range(n)), "every point is in one range"


def test_legend_hides_classes(nine):
    _, page = nine
    page.click("#legend button:has-text('dog')")
    assert page.evaluate("soundMap.visible()") == [0, 2, 3, 5, 6, 8]
    pressed = page.get_attribute("#legend button:has-text('dog')", "aria-pressed")
    assert pressed == "false"
    page.click("#legend button:has-text('dog')")
    page.click("#legend button:has-text('rain')", modifiers=["Shift"])
    assert page.evaluate("soundMap.visible()") == [2, 5, 8]
    page.click("text=Show all")
    assert page.evaluate("soundMap.visible().length") == 9


def test_keys(nine):
    _, page = nine
    click(page, 4)
    for key, expected in (
        ("ArrowRight", 5),
        ("ArrowUp", 2),
        ("ArrowLeft", 1),
        ("ArrowDown", 4),
    ):
        page.keyboard.press(key)
        assert page.evaluate("soundMap.selected()") == expected
    playing(page)
    page.keyboard.press(" ")
    assert page.evaluate("player.paused")
    page.keyboard.press(" ")
    playing(page)
    first, second = rows(page, "#neighbours")[:2]
    page.keyboard.press("j")
    page.keyboard.press("j")
    until(page, f"player.src.endsWith('/s{second}.wav')")
    assert page.evaluate("soundMap.selected()") == 4, "listening does not select"
    page.keyboard.press("k")
    until(page, f"player.src.endsWith('/s{first}.wav')")
    page.keyboard.press("Enter")
    assert page.evaluate("soundMap.selected()") == first
    page.keyboard.press("l")
    assert page.evaluate("soundMap.list()") == [first]
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    assert page.is_hidden("#help")
    assert page.evaluate("soundMap.selected()") == first
    page.keyboard.press("Escape")
    assert page.evaluate("soundMap.selected()") == -1
    assert page.evaluate("player.paused")


def test_zoom_pan_and_fit(nine):
    _, page = nine
    x, y = at(page, 4)
    gap = at(page, 5)[0] - x
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    assert at(page, 4) == pytest.approx([x, y], abs=1), "what is under the mouse stays there"
    assert at(page, 5)[0] - x > 1.3 * gap
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=4)
    page.mouse.up()
    assert at(page, 4) == pytest.approx([x + 40, y + 30], abs=2)
    assert page.evaluate("soundMap.selected()") == -1, "a drag is no click"
    page.click("#fit")
    until(page, f"Math.abs(soundMap.screen(4)[0] - {x}) < 0.01")


def test_two_fingers_zoom(tmp_path, open_page):
    _, path = build(tmp_path)
    page = open_page(path, viewport={"width": 400, "height": 800}, has_touch=True).page
    before = at(page, 1)[0] - at(page, 0)[0]
    session = page.context.new_cdp_session(page)
    x, y = at(page, 4)

    def touch(kind, *gaps):
        points = [{"x": x + gap, "y": y, "id": i} for i, gap in enumerate(gaps)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -20)
    touch("touchStart", -20, 20)
    for gap in (25, 30, 35, 40):
        touch("touchMove", -gap, gap)
    touch("touchEnd")
    assert at(page, 1)[0] - at(page, 0)[0] == pytest.approx(2 * before, rel=0.1)
    page.touchscreen.tap(*at(page, 4))
    until(page, "soundMap.selected() === 4")
    playing(page)


def test_theme(tmp_path, open_page):
    _, path = build(tmp_path)
    page = open_page(path).page
    light = colors(page, 3)
    page.click("#theme")
    assert colors(page, 3) != light
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = open_page(path, color_scheme="dark").page
    assert colors(dark, 3) == colors(page, 3)


def test_projections(nine):
    _, page = nine
    first = [at(page, i) for i in range(9)]
    click(page, 0)
    page.select_option("#projection", label="mirrored")
    second = [at(page, i) for i in range(9)]
    np.testing.assert_allclose(second[8], first[0], atol=0.1)
    np.testing.assert_allclose(second[0], first[8], atol=0.1)
    page.wait_for_timeout(900)
    click(page, 2)


def test_a_link_opens_its_point(tmp_path, open_page):
    names = ["s0.wav", NASTY[0], NASTY[2]]
    _, path = build(tmp_path, 3, names=names)
    page = open_page(path).page
    click(page, 2)
    address = page.url
    assert page.evaluate("document.getElementById('link').href") == address
    again = open_page(path, query="#" + address.partition("#")[2]).page
    until(again, SELECTED)
    assert again.text_content("#name") == NASTY[2]
    assert again.evaluate("player.paused"), "nobody has clicked yet"
    # A map that was built again may have another order.
    _, path = build(tmp_path, 3, names=names[::-1])
    moved = open_page(path, query="#" + address.partition("#")[2]).page
    until(moved, SELECTED)
    assert moved.evaluate("soundMap.selected()") == 0


def test_names_break_and_inject_nothing(tmp_path, open_page):
    n = len(NASTY)
    names = [name.replace("/", "_") if "<b>" not in name else name for name in NASTY]
    files = [
        write_sound(tmp_path, f"{i} " + name.replace("/", "_")) for i, name in enumerate(NASTY)
    ]
    texts = [SCRIPT, "<b>bold</b>", 'say "hi", ok\r\nnext', "&amp;", " outer ", "\u2028"]
    _, path = build(
        tmp_path,
        n,
        title=f"Map {SCRIPT} & 'more'",
        names=names,
        sounds=files,
        columns={SCRIPT: texts, "<i>n</i>": [1.0, None, 2.5, -3.0, 0.0, 1e-9]},
        citations=[f"<em>{i}</em> {SCRIPT}" for i in range(n)],
        projections={SCRIPT: square(n), "<u>": -square(n)},
        settings={"<s>": SCRIPT},
    )
    page = open_page(path).page
    assert page.title() == f"Map {SCRIPT} & 'more'"
    for i, name in enumerate(names):
        click(page, i)
        playing(page)
        assert page.text_content("#name") == name
        assert page.text_content("#citation") == f"<em>{i}</em> {SCRIPT}"
        assert unquote(page.evaluate("player.currentSrc")).endswith(
            f"{i} " + NASTY[i].replace("/", "_")
        )
    page.fill("#search", "木")
    until(page, "matches.textContent.includes('1 sound')")
    assert rows(page, "#matches") == [2]
    page.keyboard.press("Escape")
    page.keyboard.down("Shift")
    lasso(page, range(n))
    page.keyboard.up("Shift")
    text, found = exported(page)
    assert [line["name"] for line in found] == names
    assert [line[SCRIPT] for line in found] == texts
    assert [line["<i>n</i>"] for line in found] == ["1", "", "2.5", "-3", "0", "1e-9"]
    assert text.startswith("point,name,start,end,sound,x,y,")
    assert text.endswith("\r\n")
    elements = (
        "document.querySelectorAll('main b, main i:not(.swatch), main em, main u, main s').length"
    )
    assert page.evaluate(elements) == 0


@pytest.mark.parametrize("n", [0, 1])
def test_few_sounds(tmp_path, open_page, n):
    _, path = build(tmp_path, n)
    page = open_page(path).page
    until(page, "soundMap.drawn() > 0")
    assert page.evaluate("soundMap.count") == n
    assert page.is_visible("#message") == (n == 0)
    for key in ("ArrowRight", "j", " ", "0", "Enter"):
        page.keyboard.press(key)
    page.mouse.move(400, 300)
    for option in page.eval_on_selector_all("#color option", "all => all.map((x) => x.value)"):
        page.select_option("#color", option)
    if n:
        assert page.evaluate("soundMap.selected()") == 0
        assert rows(page, "#neighbours") == []
        click(page, 0)
        playing(page)


def test_a_sound_within_the_page(tmp_path, open_page):
    import base64

    relative = write_sound(tmp_path, "in.wav")
    file = tmp_path / "sounds" / "in.wav"
    url = "data:audio/wav;base64," + base64.b64encode(file.read_bytes()).decode()
    file.unlink()
    _, path = build(tmp_path, 2, sounds=[url, url], start=np.array([0, 1.0]))
    assert relative
    page = open_page(path).page
    click(page, 1)
    playing(page)
    assert page.evaluate("player.currentTime") >= 1.0
    page.keyboard.press("l")
    _, found = exported(page)
    assert found[0]["sound"] == "", "a table holds no sounds"


def test_hover_shows_name_and_values(nine):
    _, page = nine
    page.mouse.move(*at(page, 4))
    page.wait_for_selector("#hover", state="visible")
    assert page.locator("#hover").inner_text().split() == ["s4.wav", "kind", "dog", "loud", "4"]
    page.mouse.move(300, 780)
    page.wait_for_selector("#hover", state="hidden")


def test_every_control_has_a_name(nine):
    _, page = nine
    click(page, 4)
    nameless = page.eval_on_selector_all(
        "button, input, select, a, audio ~ [tabindex], [role]",
        """all => all.filter((x) => x.checkVisibility() &&
          !x.matches('[role=status]') && !x.getAttribute('aria-label') &&
          !x.textContent.trim() && !x.labels?.[0]?.innerText.trim()
        ).map((x) => x.outerHTML)""",
    )
    assert nameless == []


def test_a_hundred_thousand_points(tmp_path, open_page):
    n = 100_000
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(n, 2)).astype(np.float32)
    sound = write_sound(tmp_path, "one.wav", 20.0)
    vectors = rng.normal(size=(n, 16)).astype(np.float32)
    _, path = build(
        tmp_path,
        n,
        names=[f"{i // 10}.wav" for i in range(n)],
        projections={"normal": positions},
        recording=np.arange(n) // 10,
        start=(np.arange(n) % 10) * 2.0,
        end=(np.arange(n) % 10) * 2.0 + 2,
        sounds=[sound] * (n // 10),
        columns={"kind": [f"k{i % 30}" for i in range(n)], "x": positions[:, 0].tolist()},
        vectors=vectors,
    )
    page = open_page(path).page
    until(page, "soundMap.drawn() > 0")
    # One that stands alone, so that the click cannot mean another.
    i = int(np.argmax(positions[:, 0]))
    click(page, i)
    playing(page)
    assert i % 10 * 2 <= page.evaluate("player.currentTime") < i % 10 * 2 + 2
    page.uncheck("#others")
    order = np.argsort(cosine_distances(vectors.astype(np.float64), i))[1:13]
    assert rows(page, "#neighbours")[:3] == order[:3].tolist()
    page.select_option("#color", label="Distance to selected")
    page.fill("#search", "k7")
    until(page, "matches.textContent.includes('sounds')")
    page.mouse.move(450, 400)
    for _ in range(10):
        page.mouse.wheel(0, -60)
    until(page, "soundMap.frameTimes().length > 0")
