"""`coala-latent map`: from a store to a page, through the command."""

import base64
import json
import os
import re
import shutil
from html import unescape
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlparse

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from coala_latent.cli.options import ReportingGroup
from coala_latent.cli.sound_map import map_command
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter
from coala_latent.tasks import map_layouts

NAMES = [
    "a/plain.wav",
    'a/say "hi", <b>x=1&y #2.wav',
    "a/it's 50% ?.wav",
    "b/été 音.wav",
    "b/</script><img src=x onerror=alert(1)>.wav".replace("</s", "<|s"),
    "b/last.flac",
]


@click.group(cls=ReportingGroup)
def group():
    pass


group.add_command(map_command)


def run(*arguments, status=0):
    done = CliRunner().invoke(group, ["map", *map(str, arguments)])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COALA_LATENT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def sounds(tmp_path):
    root = tmp_path / "my music"
    for number, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, 0.1, 8000 + 800 * number)
        soundfile.write(path, noise, 8000)
    return root


def write_store(path, root, names=NAMES, rows=3, dim=8):
    identity = StoreIdentity("a <model>", "ab" * 32, {}, {}, "layer", "mean", dim)
    metadata = {} if root is None else {"root": str(root)}
    with StoreWriter(path, identity, metadata=metadata) as writer:
        for number, name in enumerate(names):
            values = np.random.default_rng(number).normal(size=(rows, dim)).astype(np.float32)
            start = np.arange(rows) / 3
            writer.begin(name)
            writer.append(values, start, start + 1 / 3)
            writer.commit(FileRecord(name, "ok", duration=1.0 + 0.1 * number))
        writer.begin("bad.wav")
        writer.commit(FileRecord("bad.wav", "failed", "AudioDecodeError: no"))
    return path


@pytest.fixture
def store(tmp_path, sounds):
    return write_store(tmp_path / "my store.h5", sounds)


def shown(page):
    """The data of a page's points."""
    text = Path(page).read_text("utf-8")
    found = re.search(r'<script type="application/json" id="map-points">(.*?)</script>', text, re.S)
    return json.loads(found[1])


def texts(packed):
    codes = np.frombuffer(base64.b64decode(packed["codes"]["base64"]), "<u4")
    return [None if code == len(packed["values"]) else packed["values"][code] for code in codes]


def column(data, name):
    (found,) = [each for each in data["columns"] if each["name"] == name]
    if found["kind"] == "text":
        return texts(found)
    return np.frombuffer(base64.b64decode(found["values"]["base64"]), "<f8").tolist()


def opened(url, page):
    joined = urljoin(Path(page).absolute().as_uri(), url)
    return Path(os.fsdecode(unquote_to_bytes(urlparse(joined).path)))


def test_a_map_links_every_sound_by_a_name_that_opens(store, sounds, tmp_path):
    page = tmp_path / "maps & more" / "map #1.html"
    done = run(store, "--output", page, "--quiet")
    assert done.stderr.strip() == "1 recordings have no vector and are left out"
    data = shown(page)
    assert data["count"] == 6
    assert sorted(texts(data["names"])) == sorted(NAMES)
    recording = np.frombuffer(base64.b64decode(data["recording"]["base64"]), "<u4")
    for name, number in zip(texts(data["names"]), recording, strict=True):
        assert opened(data["sounds"][number], page) == sounds / name
        assert data["spectrograms"][number].startswith("data:image/webp;base64,")
    assert [each["name"] for each in data["projections"]] == ["tsne", "pca"]
    assert set(column(data, "folder")) == {"a", "b"}
    text = page.read_text("utf-8")
    assert "a &lt;model&gt;" in text
    assert "trustworthiness" in unescape(text)


def test_sounds_that_are_gone_are_counted_and_named(store, sounds, tmp_path):
    (sounds / NAMES[0]).unlink()
    page = tmp_path / "map.html"
    done = run(store, "--output", page, status=1)
    assert NAMES[0] in done.stderr
    assert "--audio-root" in done.stderr
    assert shown(page)["sounds"].count("") == 1
    done = run(store, "--output", page, "--json", status=1)
    summary = json.loads(done.stdout)
    assert summary["missing"] == [NAMES[0]]
    assert summary["points"] == 6


def test_sounds_that_moved_are_found_below_another_root(store, sounds, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(sounds, moved)
    page = tmp_path / "map.html"
    run(store, "--output", page, status=1)
    assert set(shown(page)["sounds"]) == {""}
    run(store, "--output", page, "--audio-root", moved)
    assert {opened(url, page) for url in shown(page)["sounds"]} == {moved / n for n in NAMES}


def test_a_store_without_a_root_still_makes_a_map(sounds, tmp_path):
    store = write_store(tmp_path / "s.h5", None)
    run(store, "--output", tmp_path / "map.html", status=1)
    run(store, "--output", tmp_path / "map.html", "--audio-root", sounds)
    run(store, "--output", tmp_path / "map.html", "--no-audio")
    assert shown(tmp_path / "map.html")["spectrograms"] is None


def test_a_folder_can_be_moved_as_it_is(store, sounds, tmp_path):
    gift = tmp_path / "gift"
    done = run(store, "--output", f"{gift}/", "--picture-limit", "0")
    assert "MB" in done.output
    shutil.rmtree(sounds)
    moved = tmp_path / "given away"
    gift.rename(moved)
    data = shown(moved / "index.html")
    for url in [*data["sounds"], *data["spectrograms"]]:
        path = opened(url, moved / "index.html")
        assert path.is_file()
        assert path.is_relative_to(moved)
        assert not set(path.name) & set('<>:"|?*')


def test_pictures_lie_beside_the_page_where_they_are_many(store, tmp_path):
    page = tmp_path / "my map.html"
    done = run(store, "--output", page, "--picture-limit", "0.001")
    assert "keep it beside the page" in done.stderr
    for url in shown(page)["spectrograms"]:
        assert opened(url, page).parent.is_relative_to(tmp_path / "my map_files")
    run(store, "--output", page, "--no-spectrograms")
    assert shown(page)["spectrograms"] is None


def test_embedded_sounds_make_the_page_whole(store, sounds, tmp_path):
    page = tmp_path / "map.html"
    run(store, "--output", page, "--embed-audio")
    shutil.rmtree(sounds)
    assert all(url.startswith("data:audio/mpeg;base64,") for url in shown(page)["sounds"])
    done = run(store, "--output", page, "--embed-audio", "--audio-root", tmp_path, status=1)
    assert "not found below" in done.stderr


def test_too_much_to_embed_leaves_the_page_as_it_was(store, tmp_path):
    page = tmp_path / "map.html"
    page.write_text("before")
    done = run(store, "--output", page, "--embed-audio", "--embed-limit", "0.01", status=2)
    assert "6 recordings would make the page 0 MB larger" in done.stderr
    assert page.read_text() == "before"


def test_rows_are_points_and_a_part_of_them_can_be_drawn(store, tmp_path):
    page = tmp_path / "map.html"
    run(store, "--output", page, "--by", "rows", "--projection", "pca", "--no-spectrograms")
    data = shown(page)
    assert data["count"] == 18
    assert len(data["sounds"]) == 6
    assert column(data, "time")[:3] == pytest.approx([0, 1 / 3, 2 / 3])
    done = run(store, "--output", page, "--by", "rows", "--max-points", 4, "--projection", "pca")
    assert "4 of 18 points, drawn at random" in done.stderr
    data = shown(page)
    assert data["count"] == 4
    assert len(data["sounds"]) <= 4
    assert "4 of 18, drawn at random with seed 0" in page.read_text("utf-8")


def test_tables_and_clusters_become_columns(store, tmp_path):
    facts = tmp_path / "my facts.csv"
    facts.write_text("filename,mood,bpm,citation\nplain.wav,calm,90,By me\nlast.flac,loud,,\n")
    more = tmp_path / "more.jsonl"
    more.write_text('{"path": "b/last.flac", "mood": "other"}\n')
    page = tmp_path / "map.html"
    options = ["--metadata", facts, "--metadata", more, "--clusters", 2, "--no-audio"]
    done = run(store, "--output", page, *options, "--title", "My <map>")
    assert "knows 2 of 6 recordings" in done.stderr
    data = shown(page)
    row = texts(data["names"]).index("b/last.flac")
    plain = texts(data["names"]).index("a/plain.wav")
    assert column(data, "mood")[row] == "loud"
    assert column(data, "mood (more)")[row] == "other"
    assert column(data, "bpm")[plain] == 90
    assert texts(data["citations"])[plain] == "By me"
    assert set(column(data, "cluster")) == {"K1", "K2"}
    assert "<title>My &lt;map&gt;</title>" in page.read_text("utf-8")
    clusters = tmp_path / "clusters.csv"
    clusters.write_text("path,cluster,cosine\na/plain.wav,K7,0.5\n")
    run(store, "--output", page, "--clusters", clusters, "--no-audio")
    assert column(shown(page), "cluster")[plain] == "K7"


def test_the_same_store_makes_the_same_page_and_its_layout_is_kept(store, tmp_path, monkeypatch):
    first, again = tmp_path / "1.html", tmp_path / "2.html"
    run(store, "--output", first, "--title", "x")

    calls = []
    real = map_layouts.map_projection
    monkeypatch.setattr(
        map_layouts,
        "map_projection",
        lambda vectors, method, **rest: calls.append(method) or real(vectors, method, **rest),
    )
    run(store, "--output", again, "--title", "x")
    assert calls == ["pca"]  # t-SNE was kept
    assert first.read_bytes() == again.read_bytes()
    run(store, "--output", again, "--seed", 1)
    run(store, "--output", again, "--perplexity", 2)
    assert calls.count("tsne") == 2


def test_a_damaged_layout_is_made_again(store, home, tmp_path):
    page = tmp_path / "map.html"
    run(store, "--output", page)
    before = page.read_bytes()
    (kept,) = (home / "layouts").iterdir()
    for damage in (b"", b"nonsense", kept.read_bytes()[:200]):
        kept.write_bytes(damage)
        run(store, "--output", page)
        assert page.read_bytes() == before


def test_a_folder_of_document_vectors_is_a_store(sounds, tmp_path):
    folder = tmp_path / "vectors"
    folder.mkdir()
    write_store(folder / "store.h5", sounds, [f"{name}.npy" for name in NAMES], rows=1)
    page = tmp_path / "map.html"
    run(folder, "--output", page)
    assert sorted(texts(shown(page)["names"])) == sorted(NAMES)
    assert all(shown(page)["sounds"])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_recordings_make_a_map_too(sounds, tmp_path, count):
    store = write_store(tmp_path / "s.h5", sounds, NAMES[:count])
    run(store, "--output", tmp_path / "map.html")
    assert shown(tmp_path / "map.html")["count"] == count


def test_what_makes_no_sense_is_said_in_a_line(store, tmp_path):
    page = tmp_path / "map.html"
    for options, said in [
        (["--projection", "isomap"], "no projection 'isomap'"),
        (["--clusters", "1"], "ask for 2 or more"),
        (["--clusters", "99"], "99"),
        (["--clusters", "none.csv"], "none.csv"),
        (["--metadata", "none.csv"], "none.csv"),
        (["--embed-audio", "--no-audio"], "exclude each other"),
        (["--perplexity", "0.5"], "perplexity"),
    ]:
        done = run(store, "--output", page, "--no-spectrograms", *options, status=2)
        assert said in done.output
        assert not page.exists()
    done = run(store, "--output", tmp_path / "folder", "--embed-audio", status=2)
    assert "embedded in a page or copied to a folder" in done.stderr
    done = run(tmp_path / "none.h5", "--output", page, status=2)
    assert "none.h5" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes are for POSIX")
def test_names_that_are_no_utf8_are_linked(sounds, tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    soundfile.write(os.fsencode(sounds / name), np.zeros(8000), 8000)
    store = write_store(tmp_path / "s.h5", sounds, [name])
    run(store, "--output", tmp_path / "map.html")
    (url,) = shown(tmp_path / "map.html")["sounds"]
    assert url == "my%20music/caf%E9.wav"
    (sounds / name).unlink()
    done = run(store, "--output", tmp_path / "map.html", "--json", status=1)
    assert json.loads(done.stdout)["missing"] == ["caf\\udce9.wav"]
