"""Checkpoints of TensorFlow, read without TensorFlow."""

import shutil
import struct
import time

import numpy as np
import pytest

from coala_latent.errors import WeightsError
from coala_latent.weights.readers import read_arrays
from coala_latent.weights.readers.crc32c import crc32c, unmasked
from coala_latent.weights.readers.sstable import read_table

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
TYPES = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i8": 9, "b1": 10, "f2": 19}


def slow_crc32c(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def masked(data):
    crc = slow_crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value):
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries, restart_every=4):
    """A block of sorted keys and values, each key without what it shares with the one before."""
    content, restarts, last = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_every == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        added = key[shared:]
        content += varint(shared) + varint(len(added)) + varint(len(value)) + added + value
        last = key
    restarts = restarts or [0]
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(entries, per_block=5, compression=0):
    """A table of several blocks."""
    content, handles = b"", []

    def add(stored):
        nonlocal content
        kind = bytes([compression])
        handle = varint(len(content)) + varint(len(stored))
        content += stored + kind + struct.pack("<I", masked(stored + kind))
        return handle

    ordered = sorted(entries.items())
    for start in range(0, len(ordered), per_block):
        part = ordered[start : start + per_block]
        handles.append((part[-1][0], add(block(part))))
    footer = add(block([])) + add(block(handles))
    return content + footer.ljust(40, b"\0") + MAGIC


def entry(values, shard, offset, *, kind=None, extra=b"", crc=None):
    raw = values.tobytes()
    shape = b"".join(field(2, field(1, size)) for size in values.shape)
    crc = masked(raw) if crc is None else crc
    return (
        field(1, TYPES[values.dtype.str[1:]] if kind is None else kind)
        + field(2, shape)
        + (field(3, shard) if shard else b"")
        + (field(4, offset) if offset else b"")
        + field(5, len(raw))
        + (varint(6 << 3 | 5) + struct.pack("<I", crc))
        + extra
    )


def write_checkpoint(prefix, variables, *, shards=1, header=b"", more=None, **table_options):
    data = [b"" for _ in range(shards)]
    entries = {b"": field(1, shards) + header + field(3, field(1, 1))}
    for number, (name, values) in enumerate(variables.items()):
        shard = number % shards
        entries[name.encode()] = entry(values, shard, len(data[shard]))
        data[shard] += values.tobytes()
    entries |= more or {}
    for shard, content in enumerate(data):
        path = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        path.write_bytes(content)
    index = prefix.with_name(f"{prefix.name}.index")
    index.write_bytes(table(entries, **table_options))
    return index


VARIABLES = {
    **{f"conv2d_{n}/kernel": np.random.default_rng(n).normal(size=(3, 1, n)) for n in range(1, 12)},
    "conv2d/kernel": np.linspace(-1, 1, 24, dtype="f4").reshape(2, 3, 4),
    "conv2d/bias": np.arange(4, dtype="f2"),
    "conv2d/bias/Adam": np.zeros(0, "f4"),
    "global_step": np.array(1234567890123, dtype="i8"),
    "beta1_power": np.array(0.5, dtype="f4"),
    "flag": np.array([True, False]),
    "täg/ø": np.array([1, -2], dtype="i4"),
}


def check(arrays, variables=VARIABLES):
    assert arrays.names == tuple(sorted(variables))
    for name, values in variables.items():
        assert arrays.shape(name) == values.shape
        assert np.array_equal(arrays.take(name, values.shape), values.astype("f4"))
    arrays.finish()


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("prefix", ["model.ckpt-10", "", "a b=ü"])
def test_all_variables_are_read(tmp_path, prefix, shards):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    index = write_checkpoint(folder / prefix if prefix else folder / "x", VARIABLES, shards=shards)
    if not prefix:
        # As when TensorFlow saves to "folder/".
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.removeprefix("x"))
        index = folder / ".index"
    (folder / "checkpoint").write_text("model_checkpoint_path: 'elsewhere'")
    check(read_arrays(index))
    check(read_arrays(folder))
    if prefix:
        check(read_arrays(folder / prefix))


def test_types_are_the_files_own(tmp_path):
    index = write_checkpoint(tmp_path / "x", {"step": np.array(2**24 + 1, dtype="i8")})
    with pytest.raises(WeightsError, match=r"step is \(\), not \(1,\)"):
        read_arrays(index).take("step", (1,))
    assert read_arrays(index).take("step", ()) == 2**24


def test_several_checkpoints_in_a_folder(tmp_path):
    write_checkpoint(tmp_path / "a-1", {"x": np.zeros(1, "f4")})
    write_checkpoint(tmp_path / "a-2", {"x": np.ones(1, "f4")})
    with pytest.raises(WeightsError, match=r"2 checkpoints \(name one: a-1\.index, a-2\.index\)"):
        read_arrays(tmp_path)
    assert read_arrays(tmp_path / "a-2").take("x", (1,)) == 1


def test_the_object_graph_is_no_variable(tmp_path):
    graph = {b"_CHECKPOINTABLE_OBJECT_GRAPH": field(1, 7) + field(5, 9)}
    name = "layer/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    index = write_checkpoint(tmp_path / "x", {name: np.ones(2, "f4")}, more=graph)
    assert read_arrays(index).names == (name,)


ONE = np.arange(4, dtype="f4")


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (entry(ONE, 0, 0, extra=field(7, b"\x0a\x00")), "v is partitioned"),
        (entry(ONE, 0, 0, kind=7), "v is of strings"),
        (entry(ONE, 0, 0, kind=14), "v is of TensorFlow's type 14"),
        (entry(ONE, 0, 0, crc=5), "the checksum of v is wrong"),
        (entry(ONE, 0, 4), "v lies beyond its end, or its arrays overlap"),
        (entry(ONE, 0, 1 << 62), "v lies beyond its end"),
        (entry(ONE, 3, 0), "cannot be read"),
        (field(1, 1) + field(2, field(3, 1)) + field(5, 4), "v has no shape"),
        (
            field(1, 1) + field(2, field(2, field(1, 2**64 - 1))) + field(5, 4),
            "shape .* impossible",
        ),
        (field(1, 1) + field(2, 40 * field(2, field(1, 1))) + field(5, 4), "shape .* impossible"),
        (field(1, 1) + field(2, field(2, field(1, 9))) + field(5, 4), "does not have 4 bytes"),
        (field(1, 1) + field(2, 9), "damaged entry"),
        (field(1, b"x"), "damaged entry"),
        (b"\x0b", "damaged entry"),
        (b"\x08", "ends too early"),
        (11 * b"\xff", "impossible number"),
    ],
)
def test_variables_that_are_not_read(tmp_path, added, message):
    index = write_checkpoint(tmp_path / "x", {}, more={b"v": added})
    (tmp_path / "x.data-00000-of-00001").write_bytes(ONE.tobytes())
    with pytest.raises(WeightsError, match=message):
        read_arrays(index)


def test_arrays_that_share_bytes(tmp_path):
    index = write_checkpoint(tmp_path / "x", {"a": ONE}, more={b"v": entry(ONE, 0, 0)})
    with pytest.raises(WeightsError, match="overlap"):
        read_arrays(index)


def test_other_byte_orders_and_headers(tmp_path):
    for header in (field(2, 1), field(1, 10**6), field(1, b"x")):
        index = write_checkpoint(tmp_path / "x", {"a": ONE}, header=header)
        with pytest.raises(WeightsError, match=r"x\.index: (not the index|holds a damaged)"):
            read_arrays(index)


def test_compressed_blocks(tmp_path):
    index = write_checkpoint(tmp_path / "x", {"a": ONE}, compression=1)
    with pytest.raises(WeightsError, match=r"x\.index: its blocks are compressed"):
        read_arrays(index)


def test_a_name_that_is_no_text(tmp_path):
    index = write_checkpoint(tmp_path / "x", {}, more={b"\xff\x00": entry(ONE, 0, 0)})
    with pytest.raises(WeightsError, match="is no variable's name"):
        read_arrays(index)


def test_blocks_that_are_named_twice():
    one = table({b"a": b"1"})
    handle = one[: len(block([(b"a", b"1")]))]
    stored = handle + b"\0" + struct.pack("<I", masked(handle + b"\0"))
    again = block([(bytes([n]), varint(0) + varint(len(handle))) for n in range(1, 9)])
    index = again + b"\0" + struct.pack("<I", masked(again + b"\0"))
    footer = varint(0) + varint(0) + varint(len(stored)) + varint(len(again))
    with pytest.raises(WeightsError, match="blocks overlap"):
        read_table(stored + index + footer.ljust(40, b"\0") + MAGIC, "x")


def small(folder):
    return write_checkpoint(folder / "x", {"a/w": ONE, "a/v": np.ones(1, "f4")})


def test_an_index_cut_anywhere(tmp_path):
    index = small(tmp_path)
    content = index.read_bytes()
    for length in range(len(content)):
        index.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"x\.index"):
            read_arrays(index)


def test_every_byte_of_the_files_changed(tmp_path):
    index = small(tmp_path)
    for path in (index, tmp_path / "x.data-00000-of-00001"):
        content = path.read_bytes()
        for place in range(len(content)):
            for flip in (0x01, 0x80):
                damaged = bytearray(content)
                damaged[place] ^= flip
                path.write_bytes(damaged)
                try:
                    arrays = read_arrays(index)
                except WeightsError as error:
                    assert tmp_path.name in str(error)  # noqa: PT017 - either outcome is right
                else:
                    # Padding, and where the list of filters would be: nothing that is used.
                    assert np.array_equal(arrays.take("a/w", (4,)), ONE)
        path.write_bytes(content)


def test_data_cut_missing_or_changed(tmp_path):
    index = small(tmp_path)
    data = tmp_path / "x.data-00000-of-00001"
    content = data.read_bytes()
    for length in range(len(content)):
        data.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"data-00000-of-00001: a/\w lies beyond its end"):
            read_arrays(index)
    data.unlink()
    with pytest.raises(WeightsError, match=r"data-00000-of-00001: .*belong together"):
        read_arrays(index)
    data.write_bytes(content)
    with pytest.raises(WeightsError, match=r"name the \.index file"):
        read_arrays(data)


def test_a_checkpoint_of_the_first_format(tmp_path):
    shutil.move(small(tmp_path), tmp_path / "model.ckpt")
    with pytest.raises(WeightsError, match="TensorFlow's first format are not"):
        read_arrays(tmp_path / "model.ckpt")


def test_published_checksums():
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    # RFC 3720, B.4.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_checksums_of_all_lengths(rng):
    for length in [*range(70), 255, 256, 257, 1023, 4097]:
        data = rng.bytes(length)
        assert crc32c(data) == slow_crc32c(data)
        assert crc32c(memoryview(data)) == unmasked(masked(data))


def test_checksums_are_fast(rng):
    data = rng.bytes(4_000_000)
    start = time.perf_counter()
    crc32c(data)
    assert time.perf_counter() - start < 2
