"""Object arrays are read as plain data; nothing in them is run, and nothing makes them endless."""

import contextlib
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coala_latent.errors import WeightsError
from coala_latent.weights.readers import read_arrays, read_object_npy
from coala_latent.weights.readers.pickles import read_pickle

HEADER = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"


def write_npy(path, pickled, header=HEADER):
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + pickled)
    return path


def same(one, other):
    if isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and (one == other).all()
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


CONTENT = {
    "conv1": {"weights": np.arange(24, dtype="f4").reshape(2, 3, 4), "biases": np.zeros(0, "f4")},
    "conv2": {"weights": np.asfortranarray(np.arange(6, dtype="f8").reshape(2, 3))},
    "scalar": np.array(3, dtype="i8"),
    "other end": np.arange(3, dtype=">f4"),
    "half": np.array([1, 2.5], dtype="f2"),
    "flags": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_pickles_of_any_numpy(tmp_path, protocol, module):
    pickled = pickle.dumps(np.array(CONTENT, dtype=object), protocol=protocol)
    if protocol == 3:
        for spelled in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
            pickled = pickled.replace(b"c" + spelled + b"\n", b"c" + module + b"\n")
        assert b"c" + module + b"\n" in pickled
    found = read_object_npy(write_npy(tmp_path / "x.npy", pickled))
    native = {**CONTENT, "other end": np.arange(3, dtype="f4")}
    assert same(found, native)
    arrays = read_arrays(tmp_path / "x.npy")
    assert arrays.names[:3] == ("conv1/biases", "conv1/weights", "conv2/weights")
    assert same(arrays.take("conv2/weights", (2, 3)), CONTENT["conv2"]["weights"].astype("f4"))


def test_values_of_all_plain_kinds(tmp_path):
    content = [
        *({7: [1.5, None, True, "é", b"\xff", (1, (2,))], -3: {}, 2**40: 2**200},),
        *(np.float32(1.5), np.int64(-4), np.array(["ab", "c"]), np.array([b"xy"])),
        np.array([[{}, [1]], ["a", np.zeros(2)]], dtype=object),
        np.array([], dtype=object),
    ]
    array = np.empty(len(content), dtype=object)
    array[:] = content
    np.save(tmp_path / "x.npy", array)
    found = read_object_npy(tmp_path / "x.npy")
    assert same(found[0], content[0])
    assert found[1] == 1.5
    assert type(found[1]) is float
    assert type(found[2]) is int
    assert same(found[3:5], content[3:5])
    assert same(found[5], [[{}, [1]], ["a", np.zeros(2)]])
    assert found[6] == []


def python2_array(values, order=b"<", raw=None):
    """How Python 2 wrote an array: strings for bytes and names, protocol 2."""
    stored = b"T" + struct.pack("<i", values.nbytes) + values.tobytes()
    shape = b"".join(b"K" + bytes([size]) for size in values.shape)
    code = values.dtype.str[1:].encode()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87R"
        + (b"(K\x01(" + shape + b"t")
        + (b"cnumpy\ndtype\nq\x02U\x02" + code + b"K\x00K\x01\x87R(K\x03U\x01" + order)
        + (b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")
        + (b"\x89" + (stored if raw is None else raw) + b"tb")
    )


def test_a_dictionary_that_python_2_wrote(tmp_path):
    weights = np.linspace(-1, 1, 12, dtype="<f4").reshape(3, 4)
    big = np.arange(5, dtype=">f4")
    inner = b"}(U\x07weights" + python2_array(weights) + b"U\x06biases" + python2_array(big, b">")
    pickled = b"\x80\x02}U\x05conv1" + inner + b"us."
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }   \n"
    arrays = read_arrays(write_npy(tmp_path / "x.npy", pickled, header))
    assert arrays.names == ("conv1/biases", "conv1/weights")
    assert same(arrays.take("conv1/weights", (3, 4)), weights)
    assert same(arrays.take("conv1/biases", (5,)), big.astype("f4"))


def test_plain_arrays_and_long_sizes_of_python_2(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': True, 'shape': (2L, 3L), }"
    values = np.arange(6, dtype="<f4")
    found = read_object_npy(write_npy(tmp_path / "x.npy", values.tobytes(), header))
    assert same(found, values.reshape(2, 3, order="F"))
    with pytest.raises(WeightsError, match=r"x\.npy: holds a ndarray instead of arrays with names"):
        read_arrays(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"b": 1.5}}, "a/b is not an array"),
        ({"a": np.array(["x"])}, "a is not an array"),
        ({"a": [np.zeros(2)]}, "a is not an array"),
        ({"a/b": np.zeros(1), "a": {"b": np.zeros(1)}}, "a/b is there twice"),
        ([np.zeros(1)], "holds a list"),
    ],
)
def test_other_things_than_named_arrays_are_no_weights(tmp_path, content, message):
    np.save(tmp_path / "x.npy", np.array(content, dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=message):
        read_arrays(tmp_path / "x.npy")


class Calls:
    def __init__(self, function, *arguments):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def evil(path, kind):
    command = f"touch {path}"
    return {
        "system": Calls(os.system, command),
        "eval": Calls(eval, f"__import__('os').system({command!r})"),
        "exec": Calls(exec, f"open({str(path)!r}, 'w')"),
        "open": Calls(open, str(path), "w"),
        "popen": Calls(__import__("subprocess").Popen, ["touch", str(path)]),
        "numpy": Calls(np.fromfile, str(path)),
        "memmap": Calls(np.memmap, str(path), "u1", "w+", 0, (4,)),
        "class": Calls(np.matrix, "1"),
        "allocation": Calls(np.ndarray, (1 << 40,)),
    }[kind]


KINDS = ["system", "eval", "exec", "open", "popen", "numpy", "memmap", "class", "allocation"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nested", [False, True])
def test_nothing_is_run(tmp_path, kind, nested, protocol):
    target = tmp_path / "side_effect"
    content = evil(target, kind)
    if nested:
        inner = np.empty(1, dtype=object)
        inner[0] = [{"a": (content,)}]
        content = np.array({"conv1": {"weights": inner}}, dtype=object)
    path = write_npy(tmp_path / "x.npy", pickle.dumps(content, protocol=protocol))
    with pytest.raises(WeightsError, match=r"x\.npy: its pickle is not read: it .*nothing in it"):
        read_object_npy(path)
    assert not target.exists()


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (RECONSTRUCT + b"cos\nsystem\nK\x00\x85C\x01b\x87R.", "'os.system'"),
        (RECONSTRUCT + b"cnumpy\nmatrix\nK\x00\x85C\x01b\x87R.", "'numpy.matrix'"),
        (RECONSTRUCT + b"cnumpy\ndtype\nK\x00\x85C\x01b\x87R.", "unusual way"),
        (RECONSTRUCT + b"cnumpy\nndarray\n\x85R.", "unusual way"),
        (b"cnumpy\nf2py.run_main\n.", "'numpy.f2py.run_main'"),
        (
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x01\x00\x00\x00O\x85RN\x86R.",
            "unusual",
        ),
        (b"cbuiltins\neval\n.", "'builtins.eval'"),
        (b"X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93.", "'os.system'"),
        (b"K\x01K\x02\x93.", "'1.2'"),
        (b"(S'touch x'\nios\nsystem\n.", "instruction"),
        (b"(cos\nsystem\nX\x01\x00\x00\x00xo.", "'os.system'"),
        (b"cnumpy\nndarray\n)\x81.", "instruction NEWOBJ"),
        (b"Pid\n.", "instruction PERSID"),
        (b"NQ.", "instruction BINPERSID"),
        (b"\x82\x01.", "instruction EXT1"),
        (b"\x83\x01\x00.", "instruction EXT2"),
        (b"\x84\x01\x00\x00\x00.", "instruction EXT4"),
        (b"\x97.", "instruction NEXT_BUFFER"),
        (b"cnumpy\nndarray\n.", "which is not a value"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R.", "which is not a value"),
        (RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R.", "which is not a value"),
        (b"]N}b.", "something else"),
        (b"NN\x85R.", "not a name"),
        (b"N)R.", "not a name"),
        (b"}]Ns.", "a key of type list"),
        (b"}" + b"\x8a\x09" + (2**61).to_bytes(9, "little") + b"Ns.", "a key of type int"),
        (b"}NNs.", "a key of type NoneType"),
        (b"(Nd.", "without a value"),
        (b"NNa.", "not a list"),
        (b"NK\x01Ns.", "not a dictionary"),
    ],
)
def test_every_way_to_call_is_refused(pickled, message):
    with pytest.raises(WeightsError, match=message):
        read_pickle(pickled, "x.npy")


@pytest.mark.parametrize("code", ["V8", "M8", "m8", "c8", "f16", "O", "f4,f4", "(2,)f4", "U0", "x"])
def test_arrays_of_other_types(code):
    raw = python2_array(np.zeros(2, "<f4")).replace(
        b"U\x02f4", b"U" + bytes([len(code)]) + code.encode()
    )
    with pytest.raises(WeightsError, match="its pickle is not read"):
        read_pickle(b"\x80\x02" + raw + b".", "x.npy")


def test_structured_types_are_refused():
    with pytest.raises(WeightsError, match="its pickle is not read"):
        read_pickle(pickle.dumps(np.zeros(2, dtype=[("a", "f4")]), protocol=4), "x.npy")


def shared_lists(levels):
    """Every list holds the one before twice."""
    lists = b"]q\x00" + b"".join(
        b"](h%ch%ceq%c" % (level, level, level + 1) for level in range(levels)
    )
    return b"(" + lists + b"t."


def shared_bytes(count):
    array = np.zeros(100, "<f4")
    stored = b"T" + struct.pack("<i", array.nbytes) + array.tobytes() + b"q\x09"
    first, again = python2_array(array, raw=stored), python2_array(array, raw=b"h\x09")
    return b"(" + first + count * again + b"t."


ARRAY = python2_array(np.zeros(100, "<f4"))
ENDLESS = {
    "shared lists": shared_lists(40),
    "shared bytes": shared_bytes(50),
    "itself": b"]q\x00h\x00a.",
    "itself in a dictionary": b"}q\x00K\x01h\x00s.",
    "deep": b"]" * 5000 + b"a" * 4999 + b".",
    "deep tuples": b")" + b"\x85" * 50_000 + b".",
    "long bytes": b"\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "long string": b"T" + struct.pack("<i", 1 << 30) + b"x.",
    "long int": b"\x8b" + struct.pack("<i", 1 << 30) + b"x.",
    "long text": b"\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "large shape": ARRAY.replace(b"K\x64t", b"J\xff\xff\xff\x7ft") + b".",
    "large empty shape": ARRAY.replace(b"K\x64t", b"K\x00" + b"J\xff\xff\xff\x7f" * 20 + b"t")
    + b".",
    "negative shape": ARRAY.replace(b"K\x64t", b"J\xff\xff\xff\xfft") + b".",
    "equal hashes": b"}("
    + b"".join(
        b"\x8a\x10" + (n * (2**61 - 1)).to_bytes(16, "little") + b"N" for n in range(1, 9999)
    )
    + b"u.",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_small_files_that_would_fill_memory_or_time(kind):
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(WeightsError, match="its pickle is not read"):
            read_pickle(ENDLESS[kind], "x.npy")
        assert tracemalloc.get_traced_memory()[1] < 20 * len(ENDLESS[kind]) + 5_000_000
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < 5


def test_a_shared_part_is_no_attack():
    part = [1, 2]
    assert read_pickle(pickle.dumps([part, part, {"a": part}]), "x.npy") == [
        part,
        part,
        {"a": part},
    ]


def tiny(folder):
    content = {"a": {"w": np.arange(3, dtype="f4")}, "b": np.array([[1, 2]], dtype=object)}
    np.save(folder / "tiny.npy", np.array(content, dtype=object))
    return (folder / "tiny.npy").read_bytes()


def test_a_file_cut_anywhere(tmp_path):
    content = tiny(tmp_path)
    for length in range(len(content)):
        (tmp_path / "x.npy").write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"x\.npy"):
            read_object_npy(tmp_path / "x.npy")


def test_every_byte_changed(tmp_path):
    content = tiny(tmp_path)
    refused = 0
    for place in range(len(content)):
        for flip in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[place] ^= flip
            (tmp_path / "x.npy").write_bytes(damaged)
            try:
                read_object_npy(tmp_path / "x.npy")
            except WeightsError:
                refused += 1
    # Changed numbers and names are still a file.
    assert refused > len(content)


OPCODES = [
    bytes([code]) for code in b"()]}.0125KMJNhqjrtuaesbRdlCXTUcIFGLSVg\x80\x81\x85\x86\x87\x88\x89"
]
PARTS = [
    *OPCODES,
    RECONSTRUCT,
    b"cnumpy\nndarray\n",
    b"cnumpy\ndtype\n",
    ARRAY,
    b"K\x01",
    b"U\x01a",
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PARTS), max_size=30).map(b"".join) | st.binary(max_size=200))
@example(b"")
@example(b".")
@example(b"(.")
def test_any_bytes_give_a_value_or_an_error(data):
    with contextlib.suppress(WeightsError):
        read_pickle(data + b".", "x.npy")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=80))
@example(b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 60 + b",), }")
@example(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }")
@example(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }")
@example(b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (), }")
@example(b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (), }")
@example(b"(" * 80)
@example(b"{[]: 1}")
def test_any_header_gives_an_array_or_an_error(tmp_path_factory, header):
    path = tmp_path_factory.getbasetemp() / "header.npy"
    with pytest.raises(WeightsError, match=r"header\.npy"):
        read_object_npy(write_npy(path, b"1234567", header))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"\x93NUMPY\x09\x00\x00\x00", b"PK"])
def test_what_is_no_npy_file(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.npy: not a \.npy file"):
        read_object_npy(tmp_path / "x.npy")


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"missing\.npy: cannot be read"):
        read_object_npy(tmp_path / "missing.npy")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["apm_genres_cav", "apm_moods_cav", "usg"])
def test_published_concept_vectors(shared, name):
    path = shared / "data" / "concepts" / f"{name}.npy"
    expected = np.load(path, allow_pickle=True, encoding="latin1").tolist()
    start = time.perf_counter()
    found = read_object_npy(path)
    assert time.perf_counter() - start < 2
    assert same(found, expected)
