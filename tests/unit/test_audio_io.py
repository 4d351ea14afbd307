import os
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch

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
    ConfigError,
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
    assert joined.shape == whole.T.shape
    # mpg123 rounds its last bit otherwise in another block size.
    assert np.abs(joined - whole.T).max() < (1e-6 if suffix == "mp3" else 1e-12)
    if suffix in ("wav", "flac", "aiff"):
        assert np.abs(joined - samples).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("block", [1, 999, 7919])
def test_a_mono_mp3_in_blocks_is_the_sound_that_was_written(tmp_path, rate, block):
    """Frames of low bit rate borrow bits from earlier ones, which a seek between blocks loses."""
    written = 0.3 * np.sin(0.05 * np.arange(20 * block if block == 1 else 50000))
    soundfile.write(tmp_path / "x.mp3", written, rate)
    with AudioReader(tmp_path / "x.mp3") as reader:
        found = np.concatenate(list(reader.blocks(block=block)), axis=1)[0]
    whole, _ = soundfile.read(tmp_path / "x.mp3", dtype="float32")
    assert np.abs(found - whole).max() < 1e-6
    if len(written) > 1000:
        assert np.abs(found[5000:40000] - written[5000:40000]).max() < 0.05


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
@pytest.mark.parametrize("channels", [1, 2])
def test_seeking_gives_the_same_samples(write_sound, suffix, channels):
    path, _ = write_sound(f"x.{suffix}", seconds=2, rate=22050, channels=channels)
    whole = read_audio(path, channels="keep").samples.reshape(channels, -1)
    with AudioReader(path) as reader:
        for start, frames in ((0, 10), (12345, 4000), (44000, None), (3, 1), (1, 30000)):
            part = np.concatenate(
                list(reader.blocks(start=start, frames=frames, block=999)), axis=1
            )
            stop = None if frames is None else start + frames
            assert np.abs(part - whole[:, start:stop]).max() < (1e-6 if suffix == "mp3" else 1e-12)


def test_seeking_near_the_end_of_an_ogg(write_sound):
    """There libsndfile counts from the end of a page that the end of the sound cuts short."""
    path, _ = write_sound("x.ogg", seconds=12.3, rate=22050)
    with AudioReader(path) as reader:
        whole = np.concatenate(list(reader.blocks()), axis=1)
        for before_end in (20000, 11000, 3476, 1888, 1000, 697, 10, 1):
            start = whole.shape[1] - before_end
            part = np.concatenate(list(reader.blocks(start=start)), axis=1)
            assert np.array_equal(part, whole[:, start:])


def test_span_in_seconds(write_sound):
    path, samples = write_sound(seconds=2, rate=8000)
    part = read_audio(path, start=0.5, duration=0.25)
    assert np.abs(part.samples - samples[0, 4000:6000]).max() < 1e-4
    assert part.duration == 0.25
    with pytest.raises(AudioEmptyError, match="span"):
        read_audio(path, duration=0)
    with pytest.raises(AudioEmptyError, match="span"):
        read_audio(path, start=2)


@pytest.mark.parametrize(
    "span",
    [{"start": 3}, {"start": -1}, {"duration": -1}, {"start": np.nan}, {"duration": np.inf}],
)
def test_spans_that_make_no_sense(write_sound, span):
    path, _ = write_sound(seconds=2, rate=8000)
    with pytest.raises(AudioValueError, match=r"noise\.wav"):
        read_audio(path, **span)


def test_options_that_make_no_sense(write_sound):
    path, _ = write_sound(seconds=0.1)
    with pytest.raises(ConfigError, match="left"):
        read_audio(path, channels="left")
    with AudioReader(path) as reader, pytest.raises(ConfigError, match="block"):
        next(reader.blocks(block=0))


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


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "w64", "rf64", "flac", "mp3"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_cut_short_is_an_error_or_used_when_asked(write_sound, suffix, share):
    path, samples = write_sound(f"x.{suffix}", seconds=4)
    whole = read_audio(path).samples
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    kind = AudioDecodeError if suffix == "flac" else AudioTruncatedError
    with pytest.raises(kind, match=rf"x\.{suffix}"):
        read_audio(path)
    with AudioReader(path, allow_truncated=True) as reader:
        part = np.concatenate(list(reader.blocks()), axis=1)[0]
        assert reader.truncated
    assert share - 0.1 < len(part) / samples.shape[1] < share + 0.1
    inner = len(part) - 3000  # the last frame of a lossy file may fade out
    assert np.abs(part[:inner] - whole[:inner]).max() < 1e-6


def test_an_ogg_declares_no_length_so_a_cut_one_is_a_shorter_one(write_sound):
    path, samples = write_sound("x.ogg", seconds=4)
    whole = read_audio(path).samples
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = read_audio(path).samples
    assert 0 < len(part) < 0.6 * samples.shape[1]
    assert np.abs(part[:-2048] - whole[: len(part) - 2048]).max() < 1e-6


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
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


@pytest.mark.parametrize("rate", [1, 99, 2**31 - 1])
def test_a_header_with_a_rate_of_no_recorder(write_sound, rate):
    path, _ = write_sound(seconds=0.1)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(bytes(content))
    with pytest.raises(AudioDecodeError, match=f"{rate} Hz"):
        read_audio(path)


@pytest.mark.parametrize("channels", [0, 1025, 65535])
def test_a_header_with_absurd_channels(write_sound, channels):
    path, _ = write_sound(seconds=0.1)
    content = bytearray(path.read_bytes())
    content[22:24] = struct.pack("<H", channels)
    path.write_bytes(bytes(content))
    with pytest.raises(AudioError, match=r"noise\.wav"):
        read_audio(path)


def test_a_header_that_claims_days_of_sound_costs_no_memory(write_sound):
    path, _ = write_sound("x.flac", seconds=0.5)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F  # the 36 bits of the number of samples
    content[22:26] = b"\xff" * 4
    path.write_bytes(bytes(content))
    assert AudioReader(path).info.frames == 2**36 - 1
    tracemalloc.start()
    with pytest.raises(AudioDecodeError, match=r"x\.flac"):
        read_audio(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("name", ["x" * 5000 + ".wav", "x\0.wav", "loop.wav", "file.wav/x.wav"])
def test_paths_that_lead_nowhere(tmp_path, write_sound, name):
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    write_sound("file.wav", seconds=0.1)
    with pytest.raises(AudioNotFoundError, match="no such file"):
        read_audio(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    with pytest.raises(AudioNotFoundError, match="pipe"):
        read_audio(tmp_path / "x.wav")


def test_a_file_that_may_not_be_read(write_sound):
    path, _ = write_sound(seconds=0.1)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(AudioNotFoundError, match="permissions"):
        read_audio(path)


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


@pytest.mark.parametrize("suffix", ["m4a", "mkv"])
def test_containers_in_blocks_are_the_whole(tmp_path, suffix):
    reason = "the optional torchcodec is not installed"
    encoders = pytest.importorskip("torchcodec.encoders", reason=reason)
    written = 0.3 * torch.sin(0.05 * torch.arange(40 * 44100)).repeat(2, 1)
    path = tmp_path / f"x.{suffix}"
    encoders.AudioEncoder(written, sample_rate=44100).to_file(path)
    with AudioReader(path) as reader:
        assert (reader.info.sample_rate, reader.info.channels) == (44100, 2)
        assert reader.info.decoder == "torchcodec"
        whole = np.concatenate(list(reader.blocks()), axis=1)
        again = np.concatenate(list(reader.blocks(block=100003)), axis=1)
        assert np.array_equal(whole, again)
        assert abs(whole.shape[1] - written.shape[1]) < 5000
        for start in (0, 1, 16 * 44100 - 7, 30 * 44100, 1000):
            part = np.concatenate(list(reader.blocks(start=start, frames=9000)), axis=1)
            assert np.array_equal(part, whole[:, start : start + 9000])
    # A sine is smooth over the borders of what is decoded at once.
    steps = np.abs(np.diff(whole[0, 5000:-5000]))
    assert steps.max() < (0.02 if suffix == "m4a" else 0.3)
