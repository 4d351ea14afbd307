"""Serialised tensors are read as TensorFlow writes them, and damaged ones are told."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.data.tensor_protos import find_tensors, parse_tensor, read_tensor
from coala_latent.errors import CoalaLatentError, DataError, WeightsError
from coala_latent.tasks.concept_rows import playlist_concepts, rows_of_tensors
from coala_latent.weights.readers.playlists import read_playlists


def varint(value):
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def field(number, wire, payload):
    body = varint(len(payload)) + payload if wire == 2 else payload
    return varint(number << 3 | wire) + body


def shape_proto(shape):
    return b"".join(field(2, 2, field(1, 0, varint(size))) for size in shape)


def write_tensor(array, how="content", kind=1):
    """What ``tf.io.serialize_tensor`` makes, or another spelling of it."""
    head = field(1, 0, varint(kind)) + field(2, 2, shape_proto(array.shape))
    values = array.astype("<f4").tobytes()
    if how == "content":
        return head + field(4, 2, values)
    if how == "packed":
        return head + field(5, 2, values)
    return head + b"".join(field(5, 5, values[at : at + 4]) for at in range(0, len(values), 4))


ARRAY = np.random.default_rng(0).normal(size=(29, 128)).astype(np.float32)


@pytest.mark.parametrize("how", ["content", "packed", "unpacked"])
def test_every_spelling_of_the_values(how):
    np.testing.assert_array_equal(parse_tensor(write_tensor(ARRAY, how)), ARRAY)


def test_bytes_as_tensorflow_wrote_them():
    # tf.io.serialize_tensor(tf.constant([[1., 2., 3.]]))
    written = bytes.fromhex("0801 1208 1202 0801 1202 0803 220c") + struct.pack("<3f", 1, 2, 3)
    np.testing.assert_array_equal(parse_tensor(written), [[1, 2, 3]])


def test_fields_that_do_not_matter_are_passed_over():
    extra = field(3, 0, varint(7)) + field(15, 2, b"abc") + field(99, 1, b"\0" * 8)
    np.testing.assert_array_equal(parse_tensor(extra + write_tensor(ARRAY) + extra), ARRAY)


def test_the_last_value_fills_the_rest():
    head = field(1, 0, varint(1)) + field(2, 2, shape_proto((2, 3)))
    found = parse_tensor(head + field(5, 2, struct.pack("<2f", 1, 5)))
    assert found.tolist() == [[1, 5, 5], [5, 5, 5]]


def test_scalars_and_empty_arrays():
    assert parse_tensor(write_tensor(np.array(2.5, np.float32))).item() == 2.5
    assert parse_tensor(write_tensor(np.zeros((0, 128), np.float32))).shape == (0, 128)


GOOD = write_tensor(ARRAY[:2, :3])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "type is 0"),
        (write_tensor(ARRAY[:2], kind=2), "type is 2"),
        (GOOD[:-1], "cut off"),
        (GOOD + b"\x80", "within a number"),
        (GOOD + b"\xff" * 11, "does not end"),
        (GOOD + field(5, 2, b"\0" * 4), "tensor_content and in float_val"),
        (write_tensor(ARRAY[:2], "packed") + field(5, 2, b"\0\0\0"), "3 bytes"),
        (field(1, 0, b"\1") + field(2, 2, shape_proto((2, 3))), "0 values"),
        (
            field(1, 0, b"\1") + field(2, 2, shape_proto((1 << 30, 4))) + field(5, 5, b"\0" * 4),
            "1 values",
        ),
        (field(1, 0, b"\1") + field(2, 2, field(3, 0, b"\1")), "shape is unknown"),
        (
            field(1, 0, b"\1") + field(2, 2, field(2, 2, field(1, 0, b"\xff" * 9 + b"\1"))),
            "unknown or impossible",
        ),
        (field(1, 0, b"\1") + field(2, 2, shape_proto((1,) * 9)), "9 dimensions"),
        (field(1, 5, b"\0" * 4), "wire type 5"),
        (field(2, 0, b"\1"), "wire type 0"),
        (b"\x0b", "wire type 3"),
        (b"\x02", "no field"),
        (write_tensor(np.array([[np.nan]])), "NaN"),
    ],
)
def test_damage_is_told(data, message):
    with pytest.raises(DataError, match=message):
        parse_tensor(data, "song.tensor")


@given(st.binary(max_size=60), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_no_bytes_are_a_crash(noise, place):
    for data in (noise, GOOD[:place] + noise + GOOD[place:], GOOD[:place] + noise):
        try:
            parse_tensor(data)
        except CoalaLatentError:
            continue


def test_a_data_set_of_tensors_and_playlists(tmp_path):
    folder = tmp_path / "deezer_anonymised_tracks"
    rng = np.random.default_rng(1)
    arrays = {f"so ng,{number}=é": rng.normal(size=(29, 128)).astype("f4") for number in range(6)}
    for number, (name, array) in enumerate(arrays.items()):
        path = folder / str(number % 2) / f"{name}.tensor"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_tensor(array))
    songs = sorted(arrays)
    playlists = {
        7: {"tracks_array": songs[:3], "formatted_title": "Jazz", "extra": 1},
        3: {"tracks_array": np.array(songs[2:]), "formatted_title": "Rock é"},
        9: {"tracks_array": [songs[0], "gone"], "formatted_title": "Jazz"},
    }
    path = tmp_path / "deezer_playlists.npy"
    np.save(path, np.array(playlists, dtype=object), allow_pickle=True)
    assert [each.number for each in read_playlists(path)] == [3, 7, 9]
    table = playlist_concepts(path)
    assert table.concepts == ("Jazz (7)", "Jazz (9)", "Rock é")
    rows, found = rows_of_tensors(find_tensors(folder), table)
    assert found.recordings == tuple(songs)
    assert rows.counts.tolist() == [29] * 6
    np.testing.assert_array_equal(rows.values[29:58], arrays[songs[1]])
    assert found.members.toarray()[:, 1].tolist() == [1, 0, 0, 0, 0, 0]

    (folder / "1" / f"{songs[1]}.tensor").write_bytes(write_tensor(ARRAY[:, :64]))
    with pytest.raises(DataError, match="64"):
        rows_of_tensors(find_tensors(folder), table)
    (folder / "1" / f"{songs[0]}.tensor").write_bytes(b"")
    with pytest.raises(DataError, match="twice"):
        find_tensors(folder)
    with pytest.raises(DataError, match="no such folder"):
        find_tensors(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.tensor files"):
        find_tensors(tmp_path / "empty")
    with pytest.raises(DataError, match="cannot be read"):
        read_tensor(tmp_path / "gone.tensor")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"a": {"tracks_array": [], "formatted_title": ""}},
        {1: []},
        {1: {"tracks_array": ["a"]}},
        {1: {"tracks_array": [1.5], "formatted_title": "x"}},
        {1: {"tracks_array": "abc", "formatted_title": "x"}},
    ],
)
def test_other_files_are_no_playlists(tmp_path, content):
    path = tmp_path / "x.npy"
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"x\.npy"):
        read_playlists(path)
