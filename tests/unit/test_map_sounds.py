import base64
import io
import os
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlparse

import numpy as np
import pytest
import soundfile

from coala_latent.errors import AudioError, DataError
from coala_latent.store import FileRecord
from coala_latent.tasks.map_sounds import (
    copy_sounds,
    embed_sounds,
    find_recordings,
    link_sounds,
    portable_path,
    url_path,
    write_whole,
)
from coala_latent.tasks.map_transcode import mp3_bytes

ODD = [
    "plain.wav",
    "with space.wav",
    "50% #1?.wav",
    "a=b,c;d&e+f.wav",
    """it's "quoted".wav""",
    "<b>&amp;</script>.wav".replace("/", "_"),
    "été Ωß 音.wav",
    "c:colon.wav",
    "sub dir/deep#/x.wav",
    "%41.wav",
]


def opened(url, page):
    """The path that a browser opens for an address on a page."""
    joined = urljoin(Path(page).absolute().as_uri(), url)
    return Path(os.fsdecode(unquote_to_bytes(urlparse(joined).path)))


@pytest.fixture
def library(tmp_path, write_sound):
    root = tmp_path / "music & more"
    for number, name in enumerate(ODD):
        write_sound(name, seconds=0.05, rate=8000, seed=number, folder=root)
    return root


def records(names, seconds=0.05):
    return [FileRecord(name, "ok", duration=seconds, rows=1) for name in names]


@pytest.mark.parametrize("place", ["map.html", "pages #1/of me/map.html", "music & more/map.html"])
def test_a_browser_finds_every_linked_sound(library, tmp_path, place):
    page = tmp_path / place
    paths = find_recordings(records(ODD), library)
    assert all(paths)
    linked = link_sounds(paths, ODD, page.parent)
    for name, url in zip(ODD, linked.urls, strict=True):
        assert opened(url, page) == library / name
        assert not set(url) & set(" #?\"'<>\\")
        assert ":" not in url.split("/")[0]
    assert linked.unplayable == []
    assert linked.unreachable == []


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are for Linux")
def test_names_that_are_no_utf8_are_linked_byte_by_byte(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp3")
    path.write_bytes(b"x")
    assert url_path(path, tmp_path / "elsewhere") == "../caf%E9.mp3"


def test_sounds_that_are_gone_have_no_address(library):
    names = ["plain.wav", "gone.wav", "sub dir", "with space.wav.npy", "nul\0.wav"]
    paths = find_recordings(records(names), library)
    assert [path is not None for path in paths] == [True, False, False, True, False]
    assert link_sounds(paths, names, library).urls == ["plain.wav", "", "", "with%20space.wav", ""]


def test_another_drive_is_told_apart(library, monkeypatch):
    def no_path(*_):
        raise ValueError("path is on mount 'D:'")

    monkeypatch.setattr(os.path, "relpath", no_path)
    linked = link_sounds([library / "plain.wav", None], ["plain.wav", "x"], library)
    assert linked.urls == ["", ""]
    assert linked.unreachable == ["plain.wav"]


def test_formats_that_browsers_do_not_play_are_reported(tmp_path):
    tone = np.zeros(800, np.float32)
    soundfile.write(tmp_path / "a.aiff", tone, 8000)
    soundfile.write(tmp_path / "b.wav", tone, 8000, subtype="IMA_ADPCM")
    soundfile.write(tmp_path / "c.wav", tone, 8000, subtype="PCM_24")
    (tmp_path / "d.wav").write_text("no sound")
    (tmp_path / "e.mp3").touch()
    names = ["a.aiff", "b.wav", "c.wav", "d.wav", "e.mp3"]
    linked = link_sounds([tmp_path / name for name in names], names, tmp_path)
    reasons = dict(linked.unplayable)
    assert list(reasons) == ["a.aiff", "b.wav", "d.wav", "e.mp3"]
    assert ".aiff" in reasons["a.aiff"]
    assert "IMA_ADPCM" in reasons["b.wav"]
    assert "not a readable wav" in reasons["d.wav"]
    assert reasons["e.mp3"] == "no bytes"


def decoded(url):
    head, _, content = url.partition(",")
    return head, base64.b64decode(content)


def test_embedded_sounds_are_the_sounds_and_small(tmp_path, write_sound):
    tone = 0.5 * np.sin(np.arange(22050) * 0.1).astype(np.float32)
    for name in ("a.wav", "b.flac", "c.aiff", "d.ogg", "e.mp3"):
        soundfile.write(tmp_path / name, tone, 22050)
    names = ["a.wav", "b.flac", "c.aiff", "d.ogg", "e.mp3"]
    paths = [*(tmp_path / name for name in names), None]
    done = embed_sounds(paths, records([*names, "f"], 1.0), limit=10**6, quiet=True)
    assert done.converted == 3
    assert done.urls[5] == ""
    for name, url in zip(names, done.urls, strict=False):
        head, content = decoded(url)
        assert head == ("data:audio/ogg;base64" if name == "d.ogg" else "data:audio/mpeg;base64")
        samples, rate = soundfile.read(io.BytesIO(content))
        assert rate == 22050
        assert len(samples) == len(tone)
        # Away from the edges the tone is there, in time and height.
        assert np.abs(samples[2000:-2000] - tone[2000:-2000]).max() < 0.05
    assert decoded(done.urls[3])[1] == (tmp_path / "d.ogg").read_bytes()


def test_too_much_to_embed_is_refused_before_and_after_it_is_made(tmp_path, write_sound):
    path, _ = write_sound("a.wav", seconds=1.0)
    with pytest.raises(DataError, match=r"2 recordings .* 0 MB larger.*--embed-limit"):
        embed_sounds([path, path], records(["a", "b"], 1.0), limit=1000, quiet=True)
    with pytest.raises(DataError, match="144 MB larger, more than the 100 MB"):
        embed_sounds([path] * 6, records("abcdef", 1125.0), limit=100_000_000, quiet=True)
    # The table of the store may not know the duration.
    with pytest.raises(DataError, match="larger"):
        embed_sounds([path], records(["a"], 0.0), limit=1000, quiet=True)


def test_sounds_that_do_not_decode_are_listed_not_embedded(tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no sound at all")
    done = embed_sounds([bad], records(["bad.wav"]), limit=10**6, quiet=True)
    assert done.urls == [""]
    assert done.unplayable[0][0] == "bad.wav"


@pytest.mark.parametrize(
    ("rate", "channels", "expected"),
    [(44100, 2, (44100, 2)), (192000, 1, (48000, 1)), (9000, 3, (11025, 1)), (8000, 1, (8000, 1))],
)
def test_any_rate_and_number_of_channels_becomes_mp3(write_sound, rate, channels, expected):
    path, samples = write_sound("x.wav", seconds=0.5, rate=rate, channels=channels)
    info = soundfile.info(io.BytesIO(mp3_bytes(path)))
    assert (info.samplerate, info.channels) == expected
    assert info.frames == pytest.approx(samples.shape[1] / rate * expected[0], abs=2000)


def test_loud_and_broken_samples_do_not_spoil_an_mp3(tmp_path):
    tone = (4 * np.sin(np.arange(16000) * 0.05)).astype(np.float32)
    tone[100] = np.nan
    soundfile.write(tmp_path / "x.wav", tone, 16000, subtype="FLOAT")
    samples, _ = soundfile.read(io.BytesIO(mp3_bytes(tmp_path / "x.wav")))
    assert np.isfinite(samples).all()
    assert np.corrcoef(samples[2000:14000], np.clip(tone[2000:14000], -1, 1))[0, 1] > 0.99
    with pytest.raises(AudioError):
        mp3_bytes(tmp_path / "none.wav")


def test_copies_have_names_for_every_system_and_keep_their_bytes(library, tmp_path):
    names = ["plain.wav", "50% #1?.wav", "sub dir/deep#/x.wav", "c:colon.wav"]
    paths = find_recordings(records(names), library)
    done = copy_sounds([*paths, None], [*names, "gone"], tmp_path / "gift", quiet=True)
    page = tmp_path / "gift" / "index.html"
    for name, url in zip(names, done.urls, strict=False):
        assert url.startswith("sounds/")
        assert opened(url, page).read_bytes() == (library / name).read_bytes()
    assert done.urls[-1] == ""
    assert opened(done.urls[1], page).name == "50% #1_.wav"
    assert opened(done.urls[3], page).name == "c_colon.wav"
    assert done.megabytes > 0
    assert not list((tmp_path / "gift").rglob("*.tmp"))


def test_a_copy_is_made_again_only_when_its_sound_has_changed(library, tmp_path):
    path, copy = library / "plain.wav", tmp_path / "out" / "sounds" / "plain.wav"
    copy_sounds([path], ["plain.wav"], tmp_path / "out", quiet=True)
    first = copy.stat().st_ino
    copy_sounds([path], ["plain.wav"], tmp_path / "out", quiet=True)
    assert copy.stat().st_ino == first
    soundfile.write(path, np.ones(100), 8000)
    copy_sounds([path], ["plain.wav"], tmp_path / "out", quiet=True)
    assert copy.read_bytes() == path.read_bytes()


def test_what_browsers_do_not_play_is_converted_in_a_folder(tmp_path):
    soundfile.write(tmp_path / "a.aiff", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "a.aiff.mp3", np.zeros(8000), 8000)
    names = ["a.aiff", "a.aiff.mp3"]
    done = copy_sounds([tmp_path / n for n in names], names, tmp_path / "out", quiet=True)
    assert done.urls == ["sounds/a.aiff.mp3", "sounds/a.aiff%20%282%29.mp3"]
    assert done.converted == 1
    assert soundfile.info(tmp_path / "out" / "sounds" / "a.aiff.mp3").format == "MP3"


def test_nothing_leads_out_of_the_folder_and_no_two_names_meet():
    taken = set()
    made = [
        portable_path(name, taken)
        for name in ["../../etc/passwd", "/etc/passwd", "a/../b.wav", "A.wav", "a.wav", "a.WAV"]
    ]
    for path in made:
        assert ".." not in path.split("/")
        assert not path.startswith("/")
    assert len({path.casefold() for path in made}) == len(made)
    assert made[4] == "a (2).wav"
    assert portable_path("CON.wav", taken) == "_CON.wav"
    assert portable_path("dots... ", taken) == "dots"
    assert portable_path("bad\udce9\x07name.wav", taken) == "bad__name.wav"
    assert portable_path("音" * 200 + ".flac", taken).endswith("音.flac")
    assert len(portable_path("音" * 200 + ".flac", taken).encode()) < 250
    assert portable_path("", taken) == "_"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "x.bin"
    write_whole(target, b"12345")
    assert target.read_bytes() == b"12345"
    with pytest.raises(FileNotFoundError):
        write_whole(target, b"678", like=tmp_path / "none")
    assert target.read_bytes() == b"12345"
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]
