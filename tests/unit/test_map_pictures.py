import base64
import io
import os

import numpy as np
import pytest
import soundfile
from PIL import Image

from coala_latent.audio.mel import slaney_mel_filters
from coala_latent.errors import AudioError, DependencyError
from coala_latent.tasks import map_pictures as module
from coala_latent.tasks.map_pictures import map_pictures, spectrogram_picture


def picture(path):
    """``(96, columns)`` brightness in [0, 1], lowest band last."""
    with Image.open(io.BytesIO(spectrogram_picture(path))) as image:
        return np.asarray(image.convert("L"), dtype=float) / 255


def write(path, samples, rate=22050, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def band_of(hertz, rate=22050, window=1024):
    filters = slaney_mel_filters(rate, window, 96, 40.0, 16000.0)
    return int(filters[:, round(hertz * window / rate)].argmax())


@pytest.mark.parametrize("rate", [16000, 22050, 48000, 96000])
def test_a_tone_is_a_line_at_the_same_height_whatever_the_sample_rate(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate)
    shown = picture(write(tmp_path / "x.wav", tone, rate))
    row = int(shown.mean(axis=1).argmax())
    assert abs((95 - row) - band_of(1000)) <= 1
    assert shown[row].min() > 0.7
    assert shown[:20].max() < 0.2  # far above the tone


def test_columns_are_times(tmp_path):
    samples = np.zeros(22050 * 10)
    samples[22050 * 7 : 22050 * 8] = np.random.default_rng(0).normal(0, 0.1, 22050)
    shown = picture(write(tmp_path / "x.wav", samples))
    assert shown.shape == (96, 600)
    loud = np.flatnonzero(shown.mean(axis=0) > 0.3)
    assert loud.min() == pytest.approx(420, abs=4)
    assert loud.max() == pytest.approx(480, abs=4)


@pytest.mark.parametrize("samples", [1, 10, 500, 5000])
def test_short_sounds_have_as_many_columns_as_frames(tmp_path, samples):
    noise = np.random.default_rng(0).normal(0, 0.1, samples)
    shown = picture(write(tmp_path / "x.wav", noise))
    assert shown.shape == (96, 1 + samples // 128)
    assert shown.max() > 0.3


def test_blocks_leave_no_trace(tmp_path, monkeypatch):
    path = write(tmp_path / "x.wav", np.random.default_rng(0).normal(0, 0.1, 50000))
    whole = module._levels(path)
    monkeypatch.setattr("coala_latent.audio.io._BLOCK_VALUES", 777)
    np.testing.assert_allclose(module._levels(path), whole, atol=1e-5)


def test_silence_faint_noise_and_broken_samples_are_drawn(tmp_path):
    assert picture(write(tmp_path / "silent.wav", np.zeros(22050))).max() < 0.05
    dither = np.random.default_rng(0).integers(-1, 2, 22050).astype(np.int16)
    faint = picture(write(tmp_path / "faint.wav", dither))
    assert faint.mean() > 0.05
    samples = np.random.default_rng(0).normal(0, 0.1, (22050, 3)).astype(np.float32)
    samples[500] = np.nan
    samples[600] = np.inf
    broken = picture(write(tmp_path / "broken.wav", samples, subtype="FLOAT"))
    assert np.isfinite(broken).all()
    assert broken.mean() > 0.3


def test_memory_does_not_grow_with_the_length(tmp_path):
    import tracemalloc

    noise = np.random.default_rng(0).normal(0, 0.1, 22050 * 8)
    peaks = []
    for count in (2, 12):
        path = write(tmp_path / f"{count}.flac", np.tile(noise, count))
        tracemalloc.start()
        spectrogram_picture(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_damaged_files_are_audio_errors(tmp_path):
    (tmp_path / "bad.wav").write_text("no sound")
    with pytest.raises(AudioError):
        spectrogram_picture(tmp_path / "bad.wav")


@pytest.fixture
def three(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [write(folder / f"{n}.wav", rng.normal(0, 0.1, 11025)) for n in range(3)]
    names = ["a #1?.wav", "sub/b.wav", "c.wav"]
    return paths, names, tmp_path


def test_few_pictures_are_part_of_the_page(three):
    paths, names, root = three
    done = map_pictures(
        [*paths, None], [*names, "gone"], root, root / "map_files", limit=10**6, quiet=True
    )
    assert done.folder is None
    assert not (root / "map_files").exists()
    assert done.urls[3] == ""
    for path, url in zip(paths, done.urls, strict=False):
        head, _, content = url.partition(",")
        assert head == "data:image/webp;base64"
        assert base64.b64decode(content) == spectrogram_picture(path)
    assert done.megabytes == pytest.approx(sum(map(len, done.urls)) * 0.75 / 1e6, rel=0.05)


def test_many_pictures_lie_beside_the_page_and_are_kept_until_the_sound_changes(three):
    paths, names, root = three
    folder = root / "my map_files"
    limit = len(spectrogram_picture(paths[0])) + 10

    def again():
        return map_pictures(paths, names, root, folder, limit=limit, quiet=True)

    done = again()
    assert done.folder == folder
    assert done.urls == [
        "my%20map_files/a%20%231_.wav.webp",
        "my%20map_files/sub/b.wav.webp",
        "my%20map_files/c.wav.webp",
    ]
    # The first was held back until the limit was passed; it is there too.
    files = [folder / "a #1_.wav.webp", folder / "sub" / "b.wav.webp", folder / "c.wav.webp"]
    for path, file in zip(paths, files, strict=True):
        assert file.read_bytes() == spectrogram_picture(path)
    marked = files[1].read_bytes() + b"\0"
    time = files[1].stat().st_mtime_ns
    files[1].write_bytes(marked)
    os.utime(files[1], ns=(time, time))
    again()
    assert files[1].read_bytes() == marked  # kept
    write(paths[1], np.zeros(9000))
    again()
    assert files[1].read_bytes() == spectrogram_picture(paths[1])


def test_sounds_that_cannot_be_drawn_are_listed(three):
    paths, names, root = three
    paths[1].write_text("no sound any more")
    done = map_pictures(paths, names, root, root / "f", limit=10**6, quiet=True)
    assert [name for name, _ in done.failed] == ["sub/b.wav"]
    assert [bool(url) for url in done.urls] == [True, False, True]


def test_a_pillow_without_webp_is_told(monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(DependencyError, match="--no-spectrograms"):
        module.require_pillow()
