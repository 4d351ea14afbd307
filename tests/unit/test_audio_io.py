import os
import struct

import numpy as np
import pytest
import soundfile

from coala_latent.audio.containers import ContainerFile
from coala_latent.audio.io import AudioReader, check_finite, find_audio, mix_channels, read_audio
from coala_latent.errors import (
    AudioDecodeError,
    AudioEmptyError,
    AudioError,
    AudioFormatError,
    AudioNotFoundError,
    AudioTruncatedError,
    AudioValueError,
)

ODD_NAMES = [
    "a b.wav",
    "a,b=c.wav",
    'it\'s "quoted".wav',
    "[1]{2}(3)#%.wav",
    "-dash.wav",
    "ünïcödé 音.wav",
    "new\nline.wav",
]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_decode_in_blocks_as_whole(write_sound, suffix, channels):
    path, samples = write_sound(f"x.{suffix}", seconds=2.3, rate=44100, channels=channels)
    with AudioReader(path) as reader:
        assert (reader.info.sample_rate, reader.info.channels) == (44100, channels)
        assert abs(reader.info.frames - samples.shape[1]) < 3000
        blocks = list(reader.blocks(block=7919))
    assert all(block.dtype == np.float32 for block in blocks)
    joined = np.concatenate(blocks, axis=1)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    # An mp3 encoder may break a frame of noise, and decoders conceal that differently in blocks.
    if suffix != "mp3":
        assert np.array_equal(joined, whole.T)
    assert joined.shape == whole.T.shape
    if suffix in ("wav", "flac", "aiff"):
        assert np.abs(joined - samples).max() < 1e-4


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_seeking_gives_the_same_samples(write_sound, suffix):
    path, _ = write_sound(f"x.{suffix}", seconds=2, rate=22050)
    whole = read_audio(path).samples
    with AudioReader(path) as reader:
        for start, frames in ((0, 10), (12345, 4000), (44000, None), (3, 1)):
            part = np.concatenate(
                list(reader.blocks(start=start, frames=frames, block=999)), axis=1
            )
            stop = None if frames is None else start + frames
            assert np.array_equal(part[0], whole[start:stop])


def test_span_in_seconds(write_sound):
    path, samples = write_sound(seconds=2, rate=8000)
    part = read_audio(path, start=0.5, duration=0.25)
    assert np.abs(part.samples - samples[0, 4000:6000]).max() < 1e-4
    assert part.duration == 0.25
    with pytest.raises(AudioValueError, match="outside"):
        read_audio(path, start=3)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8"])
def test_sample_formats_of_wav(tmp_path, subtype, rng):
    samples = rng.uniform(-0.9, 0.9, 1000)
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype=subtype)
    tolerance = 1e-2 if subtype == "PCM_U8" else 1e-4
    assert np.abs(read_audio(tmp_path / "x.wav").samples - samples).max() < tolerance


@pytest.mark.parametrize(("channels", "rate"), [(8, 48000), (1, 192000), (2, 8000)])
def test_channels_and_rates(write_sound, channels, rate):
    path, samples = write_sound(channels=channels, rate=rate, seconds=0.2)
    assert read_audio(path, channels="keep").samples.shape == samples.shape
    assert np.allclose(read_audio(path).samples, samples.mean(axis=0), atol=1e-4)
    assert np.allclose(read_audio(path, channels="first").samples, samples[0], atol=1e-4)
    assert read_audio(path).sample_rate == rate


def test_mixing_keeps_or_drops_channels():
    samples = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    assert mix_channels(samples, "keep") is samples
    assert mix_channels(samples, "mean").tolist() == [2.0, 3.0]
    assert mix_channels(samples, "first").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(write_sound, name):
    path, samples = write_sound(name, seconds=0.1)
    assert len(read_audio(path).samples) == samples.shape[1]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only on POSIX")
def test_a_name_that_is_not_unicode(write_sound, tmp_path):
    path, _ = write_sound(seconds=0.1)
    odd = tmp_path / os.fsdecode(b"\xff\xfe.wav")
    try:
        path.rename(odd)
    except OSError:
        pytest.skip("this file system keeps Unicode names only")
    assert read_audio(odd).duration == pytest.approx(0.1)


def test_right_sound_wrong_suffix_is_read_by_its_bytes(write_sound, tmp_path):
    path, samples = write_sound(seconds=0.1)
    path.rename(tmp_path / "really_wav.mp3")
    assert len(read_audio(tmp_path / "really_wav.mp3").samples) == samples.shape[1]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("missing.wav", None, AudioNotFoundError),
        ("empty.wav", b"", AudioEmptyError),
        ("text.wav", b"hello, this is no sound " * 20, AudioDecodeError),
        ("text.mp3", b"hello, this is no sound " * 20, AudioError),
        ("notes.txt", b"hello " * 100, AudioFormatError),
        ("samples.raw", bytes(1000), AudioFormatError),
        ("noise.flac", bytes(range(256)) * 40, AudioDecodeError),
        ("film.mp4", b"\0\0\0\x18ftypmp42" + bytes(500), AudioError),
    ],
)
def test_what_is_no_sound(tmp_path, name, content, kind):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind, match=name) as caught:
        read_audio(path)
    assert caught.value.source == str(path)
    assert caught.value.cure or "pip install" in caught.value.reason


def test_a_folder_is_no_sound(tmp_path):
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(AudioNotFoundError, match="folder"):
        read_audio(tmp_path / "x.wav")


def test_a_wav_without_samples(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 8000)
    with pytest.raises(AudioEmptyError, match="no samples"):
        read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_file_cut_short_is_an_error_or_used_when_asked(write_sound, suffix):
    path, samples = write_sound(f"x.{suffix}", seconds=4)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioDecodeError, match=r"x\."):
        read_audio(path)
    if suffix == "wav":
        with pytest.raises(AudioTruncatedError, match="missing"):
            read_audio(path)
        half = read_audio(path, allow_truncated=True)
        assert 0.4 < len(half.samples) / samples.shape[1] < 0.6


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_recorder_that_never_wrote_the_size(write_sound, size):
    path, samples = write_sound(seconds=0.5)
    content = bytearray(path.read_bytes())
    where = content.index(b"data") + 4
    content[where : where + 4] = struct.pack("<I", size)
    path.write_bytes(bytes(content))
    if size:
        assert len(read_audio(path).samples) == samples.shape[1]
    else:
        with pytest.raises(AudioEmptyError):
            read_audio(path)


def test_rf64(tmp_path, rng):
    soundfile.write(tmp_path / "x.rf64", rng.uniform(-1, 1, 4000), 8000, format="RF64")
    assert read_audio(tmp_path / "x.rf64").duration == 0.5


def test_samples_that_are_not_numbers(tmp_path):
    samples = np.zeros(100, np.float32)
    samples[37] = np.nan
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(AudioValueError, match="sample 37"):
        check_finite(read_audio(tmp_path / "x.wav").samples, "x.wav")


def test_finding_sounds(write_sound, tmp_path):
    for name in ("b.wav", "a/x.FLAC", "a/.hidden.wav", ".cache/y.wav", "a/b/z.ogg"):
        write_sound(name, seconds=0.05)
    (tmp_path / "notes.txt").write_text("no")
    found = [path.relative_to(tmp_path).as_posix() for path in find_audio(tmp_path)]
    assert found == ["a/b/z.ogg", "a/x.FLAC", "b.wav"]
    with pytest.raises(AudioNotFoundError):
        find_audio(tmp_path / "nowhere")


def test_containers_say_what_to_install(tmp_path):
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        (tmp_path / "x.m4a").write_bytes(b"\0\0\0\x18ftypM4A " + bytes(100))
        with pytest.raises(AudioFormatError, match=r"coala-latent\[codecs\]"):
            read_audio(tmp_path / "x.m4a")
    else:
        pytest.skip("torchcodec is installed")


def test_containers_decode_where_torchcodec_is_installed(write_sound):
    pytest.importorskip("torchcodec.decoders", reason="the optional torchcodec is not installed")
    path, samples = write_sound(seconds=2)
    file = ContainerFile(path)
    assert (file.sample_rate, file.channels, file.frames) == (22050, 1, samples.shape[1])
    file.seek(100)
    assert np.abs(file.read(1000) - samples[:, 100:1100]).max() < 1e-3
