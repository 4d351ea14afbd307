"""Published weight files of all formats, real and made here."""

import json
import struct
import time
import zipfile

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coala_latent.errors import WeightsError
from coala_latent.weights import write_weights
from coala_latent.weights.readers import read_arrays

W = np.linspace(-1, 1, 12, dtype="f4").reshape(3, 4)
B = np.arange(3, dtype="f4")


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as caught:
        read_arrays(path)
    assert path.name in str(caught.value)


# The other formats.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "x.npz", **{"a/w": W.astype(">f4"), "b": np.asfortranarray(W), "c.1": B[0]})
    arrays = read_arrays(tmp_path / "x.npz")
    assert arrays.names == ("a/w", "b", "c.1")
    assert np.array_equal(arrays.take("a/w", (3, 4)), W)
    assert np.array_equal(arrays.take("b", (3, 4)), W)
    assert arrays.take("c.1", ()) == 0


def test_npz_with_objects(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array({"b": 1}, dtype=object))
    refused(tmp_path / "x.npz", r"x\.npz: a\.npy: arrays of type 'O' are not read")


def test_npz_that_unpacks_to_far_more(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(5_000_000, "f4"))
    refused(tmp_path / "x.npz", "more than 100 times its size")


def test_npz_with_other_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", b"")
        archive.writestr("b.txt", b"")
    refused(tmp_path / "x.npz", "not a readable weights file")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("a.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", b"")
    refused(tmp_path / "y.npz", "members of the same name")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("name", ["x.pt", "x.pth"])
def test_pytorch(tmp_path, zipped, nested, name):
    state = {
        "w": torch.from_numpy(W).t(),
        "half": torch.tensor([1.5]).half(),
        "bf": torch.tensor([0.5], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "learned": torch.nn.Parameter(torch.ones(2)),
    }
    content = {"state_dict": state, "epoch": 3} if nested else state
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    arrays = read_arrays(tmp_path / name)
    assert np.array_equal(arrays.take("w", (4, 3)), W.T)
    for key, values in (("half", [1.5]), ("bf", [0.5]), ("learned", [1, 1])):
        assert arrays.take(key, (len(values),)).tolist() == values
    assert arrays.take("count", ()) == 7
    arrays.finish()


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, 2).to_sparse(),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        torch.ones(2, dtype=torch.complex64),
        torch.ones(1).expand(1_000_000),
    ],
    ids=["sparse", "quantised", "complex", "expanded"],
)
@pytest.mark.filterwarnings("ignore")
def test_pytorch_tensors_that_are_no_plain_weights(tmp_path, value):
    torch.save({"strange": value}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "strange|not a readable weights file")


def test_safetensors(tmp_path):
    write_weights(tmp_path / "x.safetensors", {"w": torch.from_numpy(W)}, {})
    assert np.array_equal(read_arrays(str(tmp_path / "x.safetensors")).take("w", (3, 4)), W)


def test_suffixes_do_not_matter_where_the_bytes_say_it(tmp_path):
    np.savez(tmp_path / "x.npz", w=W)
    (tmp_path / "x.npz").rename(tmp_path / "x.h5")
    assert read_arrays(tmp_path / "x.h5").names == ("w",)
    torch.save({"w": torch.ones(1)}, tmp_path / "y.bin")
    assert read_arrays(tmp_path / "y.bin").names == ("w",)


@pytest.mark.parametrize("content", [b"", b"x", b"junk" * 100])
@pytest.mark.parametrize("name", ["x.t7", "x.h5", "x.tflite", "x.npy", "x", "ü x.npz"])
def test_unknown_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, r"not a known format of weights; read are \.npz, .*\.safetensors")


def test_missing_files(tmp_path):
    refused(tmp_path / "x.npz", "no such weights file")
    refused(tmp_path, "no checkpoint in this folder")
    refused(tmp_path / ("x" * 5000), "x{5000}")
    with pytest.raises(WeightsError, match="no such weights file"):
        read_arrays("a\0b")


# HDF5.


def write_h5(path, **more):
    with h5py.File(path, "w") as file:
        file["layer1/layer1/kernel:0"] = W
        file["layer1/layer1/bias:0"] = B.astype(">f8")
        file["layer1/half"] = B.astype("f2")
        file["scalar"] = np.float32(2)
        file["empty"] = np.zeros((0, 3), "f4")
        for name, values in more.items():
            file[name] = values
    return path


def test_hdf5(tmp_path):
    arrays = read_arrays(write_h5(tmp_path / "x.h5", names=[b"layer1"], count=3))
    assert arrays.names == (
        *("empty", "layer1/half", "layer1/layer1/bias:0", "layer1/layer1/kernel:0", "scalar"),
    )
    assert np.array_equal(arrays.take("layer1/layer1/kernel:0", (3, 4)), W)
    assert np.array_equal(arrays.take("layer1/layer1/bias:0", (3,)), B)
    assert arrays.take("scalar", ()) == 2
    assert arrays.take("empty", (0, 3)).size == 0


def test_hdf5_of_a_whole_model_without_the_optimizer(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["model_weights/conv/conv/kernel:0"] = W
        file["optimizer_weights/Adam/conv/kernel:0"] = W
    assert read_arrays(tmp_path / "x.h5").names == ("conv/conv/kernel:0",)


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_compressed_hdf5(tmp_path, compression, rng):
    values = rng.normal(size=(50, 50)).astype("f4")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=values, compression=compression, shuffle=True)
        file.create_dataset("b", data=values, chunks=(7, 50), fletcher32=True)
    arrays = read_arrays(tmp_path / "x.h5")
    assert np.array_equal(arrays.take("a", (50, 50)), values)
    assert np.array_equal(arrays.take("b", (50, 50)), values)


def h5_with(kind, folder):
    other = write_h5(folder / "secret.h5")
    path = folder / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("group")
        group["w"] = W
        if kind == "external link":
            group["link"] = h5py.ExternalLink(str(other), "/layer1/half")
        elif kind == "soft link":
            group["link"] = h5py.SoftLink("/group/w")
        elif kind == "linked model_weights":
            file["model_weights"] = h5py.ExternalLink(str(other), "/layer1")
        elif kind == "external data":
            file.create_dataset("v", (2,), "f4", external=[(str(other), 0, 8)])
        elif kind == "virtual data":
            layout = h5py.VirtualLayout((3, 4), "f4")
            layout[:] = h5py.VirtualSource(str(other), "layer1/layer1/kernel:0", (3, 4))
            file.create_virtual_dataset("v", layout)
        elif kind == "cycle":
            group["again"] = file["group"]
        elif kind == "twice":
            group["again"] = group["w"]
        elif kind == "not stored":
            file.create_dataset("v", (1 << 40,), "f4")
        elif kind == "mostly not stored":
            file.create_dataset("v", (1 << 40,), "f4", chunks=(1024,))[0] = 1
        elif kind == "bomb":
            file.create_dataset("v", data=np.zeros(1 << 22, "f4"), compression=9)
        elif kind == "filter":
            file.create_dataset("v", data=np.ones(100, "f4"), scaleoffset=3)
        elif kind == "null":
            file["v"] = h5py.Empty("f4")
        elif kind == "deep":
            file["/".join("g" * 100)] = W
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("external link", "group/link is a link"),
        ("soft link", "group/link is a link"),
        ("linked model_weights", "model_weights is a link"),
        ("external data", "the values of v are in another file"),
        ("virtual data", "the values of v are in another file"),
        ("cycle", "group/again is there twice"),
        ("twice", "group/again|group/w is there twice"),
        ("not stored", "v .* has more values than the file holds"),
        ("mostly not stored", "v .* has more values than the file holds"),
        ("bomb", "v .* has more values than the file holds"),
        ("filter", "v is compressed in an unknown way"),
        ("null", "v None has more values"),
        ("deep", "too deep"),
    ],
)
def test_hdf5_that_leads_elsewhere_or_claims_too_much(tmp_path, kind, message):
    start = time.perf_counter()
    refused(h5_with(kind, tmp_path), message)
    assert time.perf_counter() - start < 5


# TensorFlow Lite.


class Vector(list):
    """Of tables."""


def flat(table):
    """Bytes of a FlatBuffer: dictionaries are tables by field number, with (format, number) pairs,
    strings, NumPy arrays, tables and `Vector` as values."""
    out = bytearray(b"\0\0\0\0TFL3")

    def align(to):
        out.extend(b"\0" * (-len(out) % to))

    def add(value):
        if isinstance(value, Vector):
            align(4)
            start = len(out)
            out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
            for number, item in enumerate(value):
                place = start + 4 + 4 * number
                struct.pack_into("<I", out, place, add(item) - place)
            return start
        if isinstance(value, dict):
            return add_table(value)
        raw = value.encode() if isinstance(value, str) else value.tobytes()
        count = len(raw) if isinstance(value, str) else len(value)
        align(8)
        out.extend(bytes(4))
        start = len(out)
        out.extend(struct.pack("<I", count) + raw)
        return start

    def add_table(fields):
        inline, offsets, offset = b"", [0] * (max(fields, default=-1) + 1), 4
        for field, value in fields.items():
            form, number = value if isinstance(value, tuple) else ("<I", 0)
            offsets[field] = offset + len(inline)
            inline += struct.pack(form, number)
        align(8)
        vtable = len(out)
        out.extend(struct.pack("<HH", 4 + 2 * len(offsets), 4 + len(inline)))
        out.extend(struct.pack(f"<{len(offsets)}H", *offsets))
        start = len(out)
        out.extend(struct.pack("<i", start - vtable) + inline)
        for field, value in fields.items():
            if not isinstance(value, tuple):
                place = start + offsets[field]
                struct.pack_into("<I", out, place, add(value) - place)
        return start

    struct.pack_into("<I", out, 0, add_table(table))
    return bytes(out)


KINDS = {"f4": 0, "f2": 1, "i4": 2, "u1": 3, "i8": 4, "i2": 7, "i1": 9}


def tensor(name, values=None, *, scale=None, zero=None, axis=0, shape=None, kind=None, **more):
    return {
        "name": name,
        "values": values,
        "shape": shape if shape is not None else (() if values is None else values.shape),
        "kind": kind
        if kind is not None
        else KINDS["f4" if values is None else values.dtype.str[1:]],
        "scale": scale,
        "zero": zero,
        "axis": axis,
        **more,
    }


def tflite(path, tensors, operators, programs=1, codes=True):
    """Operators are ``(code, inputs, outputs)``."""
    buffers, tables = Vector([{}]), Vector()
    for item in tensors:
        number = 0
        if item["values"] is not None:
            number = len(buffers)
            raw = np.frombuffer(item["values"].tobytes(), "u1")
            buffers.append({0: raw, **item.get("buffer", {})})
        table = {
            0: np.array(item["shape"], "<i4"),
            1: ("<b", item["kind"]),
            2: ("<I", item.get("place", number)),
            3: item["name"],
        }
        if item["scale"] is not None:
            table[4] = {2: np.array(item["scale"], "<f4"), 6: ("<i", item["axis"])}
            if item["zero"] is not None:
                table[4][3] = np.array(item["zero"], "<i8")
        if "sparsity" in item:
            table[6] = {}
        tables.append(table)
    kinds = sorted({code for code, *_ in operators})
    rows = Vector(
        {0: ("<I", kinds.index(code)), 1: np.array(inputs, "<i4"), 2: np.array(outputs, "<i4")}
        for code, inputs, outputs in operators
    )
    named = Vector({0: ("<b", min(code, 127)), 3: ("<i", code)} for code in kinds if codes)
    program = {0: tables, 3: rows}
    content = {0: ("<I", 3), 1: named, 2: Vector([program] * programs), 4: buffers}
    path.write_bytes(flat(content))
    return path


CONV, DEPTHWISE, DEQUANTIZE, DENSE, MUL, ADD_V2 = 3, 4, 6, 9, 18, 150
X = tensor("x")


def test_tflite_names_and_layouts(tmp_path, rng):
    kernel = rng.integers(-127, 128, (2, 3, 3, 1)).astype("i1")
    depth = rng.integers(-127, 128, (1, 3, 3, 2)).astype("i1")
    path = tflite(
        tmp_path / "x.tflite",
        [
            X,
            tensor("same", kernel, scale=[0.5, 0.25], zero=[0, 3]),
            tensor("same", np.array([100, -7], "i4"), scale=[0.1, 0.2]),
            tensor("", depth, scale=[0.5, 2], zero=[0, 0], axis=3),
            tensor("é;b", W),
            tensor("shape", np.array([1, 2], "i4")),
            tensor("u", np.array([0, 255], "u1"), scale=[0.1], zero=[128]),
            tensor("unused", W),
        ],
        [
            *((MUL, [0, 6], [0]), (MUL, [4, 0], [0]), (CONV, [0, 1, 2], [0])),
            *((DEPTHWISE, [0, 3, -1], [0]), (CONV, [0, 1], [0]), (DENSE, [0, 4], [0])),
            *((ADD_V2, [0, 5], [0]), (ADD_V2, [0, 6], [0])),
        ],
    )
    arrays = read_arrays(path)
    assert arrays.names == (
        "CONV_2D.0.bias:same",
        "CONV_2D.0.weights:same",
        "CONV_2D.1.weights:same",
        "DEPTHWISE_CONV_2D.0.weights:",
        "FULLY_CONNECTED.0.weights:é;b",
        "MUL.0.input1:u",
        "MUL.1.input0:é;b",
        "OPERATOR_150.1.input1:u",
    )
    real = np.stack([kernel[0] * np.float32(0.5), (kernel[1] - np.float32(3)) * np.float32(0.25)])
    assert np.array_equal(arrays.take("CONV_2D.0.weights:same", (2, 3, 3, 1)), real)
    bias = np.array([100, -7], "f4") * np.array([0.1, 0.2], "f4")
    assert np.array_equal(arrays.take("CONV_2D.0.bias:same", (2,)), bias)
    real = depth * np.array([0.5, 2], "f4")
    assert np.array_equal(arrays.take("DEPTHWISE_CONV_2D.0.weights:", (1, 3, 3, 2)), real)
    real = np.array([-128, 127], "f4") * np.float32(0.1)
    assert np.array_equal(arrays.take("MUL.0.input1:u", (2,)), real)
    assert np.array_equal(arrays.take("MUL.1.input0:é;b", (3, 4)), W)


def test_tflite_in_half_precision(tmp_path):
    path = tflite(
        tmp_path / "x.tflite",
        [X, tensor("w", W.astype("f2")), tensor("w as float", shape=(3, 4))],
        [(DEQUANTIZE, [1], [2]), (DENSE, [0, 2], [0])],
    )
    arrays = read_arrays(path)
    assert arrays.names == ("FULLY_CONNECTED.0.weights:w",)
    assert np.array_equal(arrays.take("FULLY_CONNECTED.0.weights:w", (3, 4)), W.astype("f2"))


def test_large_integer_biases_are_rounded_once(tmp_path):
    values = np.array([2**31 - 1, 2**24 + 1], "i4")
    scale = np.array([0.1, 1e-7], "f4")
    path = tflite(
        tmp_path / "x.tflite",
        [X, tensor("w", W), tensor("b", values, scale=scale)],
        [(DENSE, [0, 1, 2], [0])],
    )
    expected = (values.astype("f8") * scale.astype("f8")).astype("f4")
    assert np.array_equal(read_arrays(path).take("FULLY_CONNECTED.0.bias:b", (2,)), expected)


INT8 = np.ones((3, 4), "i1")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (tensor("w", W, shape=(3, 5)), "does not have 48 bytes"),
        (tensor("w", W, shape=(-3, -4)), "does not have 48 bytes"),
        (tensor("w", W, shape=(1,) * 40), "does not have 48 bytes"),
        (tensor("w", INT8), "weights of type 9"),
        (tensor("w", INT8, kind=17, scale=[1]), "weights of type 17"),
        (tensor("w", INT8, scale=[1, 2]), "scales of tensor 1 do not fit"),
        (tensor("w", INT8, scale=[1, 2, 3], axis=1), "scales of tensor 1 do not fit"),
        (tensor("w", INT8, scale=[1, 2, 3], axis=-1), "scales of tensor 1 do not fit"),
        (tensor("w", INT8, scale=[1, 2, 3], zero=[1, 2]), "scales of tensor 1 do not fit"),
        (tensor("w", W, sparsity=True), "sparse or outside"),
        (tensor("w", W, buffer={1: ("<Q", 512)}), "sparse or outside"),
        (tensor("w", W, place=9), "the values of tensor 1 are missing"),
    ],
)
def test_tflite_tensors_that_are_not_read(tmp_path, item, message):
    refused(tflite(tmp_path / "x.tflite", [X, item], [(DENSE, [0, 1], [0])]), message)


def test_tflite_programs_that_are_not_read(tmp_path):
    path = tmp_path / "x.tflite"
    items = [X, tensor("w", W)]
    refused(tflite(path, items, [(DENSE, [0, 2], [0])]), "tensor 2 is missing")
    refused(tflite(path, items, [(DENSE, [0, -2], [0])]), "tensor -2 is missing")
    refused(tflite(path, items, [(DENSE, [0, 1], [0])], programs=2), "has 2 programs")
    refused(tflite(path, items, [], programs=0), "has 0 programs")
    without = tflite(path, items, [(DENSE, [0, 1], [0])], codes=False)
    refused(without, "operator's kind is missing")


def test_tflite_parts_that_are_used_without_end(tmp_path):
    path = tflite(tmp_path / "x.tflite", [X, tensor("w", W)], [(DENSE, [0, 1], [0])] * 2000)
    content = bytearray(path.read_bytes())
    # All operators become the first one, with a long list of inputs.
    assert read_arrays(path).names[0] == "FULLY_CONNECTED.0.weights:w"
    tables = content.index(struct.pack("<I", 2000)) + 4
    first = tables + struct.unpack_from("<I", content, tables)[0]
    for place in range(tables, tables + 4 * 2000, 4):
        struct.pack_into("<I", content, place, first - place)
    vtable = first - struct.unpack_from("<i", content, first)[0]
    inputs = first + struct.unpack_from("<H", content, vtable + 6)[0]
    inputs += struct.unpack_from("<I", content, inputs)[0]
    struct.pack_into("<I", content, inputs, 5000)
    path.write_bytes(content)
    start = time.perf_counter()
    refused(path, "again and again|is missing|beyond its end")
    assert time.perf_counter() - start < 5


# Damage.


def tiny(kind, folder):
    path = folder / f"tiny.{kind}"
    if kind == "npz":
        np.savez(path, w=W)
    elif kind == "pt":
        torch.save({"w": torch.from_numpy(W)}, path)
    elif kind == "safetensors":
        write_weights(path, {"w": torch.from_numpy(W)}, {})
    elif kind == "h5":
        write_h5(path)
    else:
        items = [X, tensor("w", INT8, scale=[1, 2, 3], zero=[0, 0, 0]), tensor("b", B)]
        tflite(path, items, [(DENSE, [0, 1, 2], [0])])
    return path


@pytest.mark.parametrize("kind", ["npz", "pt", "safetensors", "h5", "tflite"])
def test_a_file_cut_anywhere(tmp_path, kind):
    path = tiny(kind, tmp_path)
    content = path.read_bytes()
    intact = {name: read_arrays(path).shape(name) for name in read_arrays(path).names}
    lengths = range(len(content)) if len(content) < 800 else range(0, len(content), 23)
    complete = 0
    for length in lengths:
        path.write_bytes(content[:length])
        try:
            arrays = read_arrays(path)
        except WeightsError as error:
            assert path.name in str(error)  # noqa: PT017 - either outcome is right
        else:
            # What is cut off may be padding.
            complete += 1
            assert {name: arrays.shape(name) for name in arrays.names} == intact
    assert complete <= 0.05 * len(lengths)


@pytest.mark.parametrize("kind", ["npz", "pt", "safetensors", "h5", "tflite"])
def test_changed_bytes(tmp_path, kind):
    path = tiny(kind, tmp_path)
    content = path.read_bytes()
    changes = np.random.default_rng(0)
    refusals = 0
    for number in range(300):
        damaged = bytearray(content)
        for place in changes.integers(0, len(content), 1 + number % 8):
            damaged[place] = changes.integers(256)
        path.write_bytes(damaged)
        try:
            for name in (arrays := read_arrays(path)).names:
                arrays.shape(name)
        except WeightsError as error:
            refusals += 1
            assert path.name in str(error)  # noqa: PT017 - either outcome is right
    assert refusals > 30


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        [b"\x93NUMPY\x01\x00", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\0\0\0\x08TFL3", b"\x80\x02"]
    ),
    st.binary(max_size=300),
    st.sampled_from([".npy", ".pt", ".index", ".safetensors", ""]),
)
def test_any_bytes_after_a_signature(tmp_path_factory, magic, rest, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(magic + rest)
    refused(path, "any")


# Real files.


def timed(path):
    start = time.perf_counter()
    arrays = read_arrays(path)
    assert time.perf_counter() - start < 2
    return arrays


@pytest.mark.shared
def test_yamnets_int8_weights_are_the_recorded_ones(shared):
    folder = shared / "data" / "weights" / "yamnet"
    arrays = timed(folder / "yamnet_dynamic_range_int8_weights.tflite")
    expected = timed(folder / "yamnet_reconstructed_f32.npz")
    provenance = json.loads((folder / "provenance.json").read_text())
    names = {name.split(":")[0]: name for name in arrays.names}
    assert len(names) == len(arrays.names) == 59
    compared = 0
    for layer in range(2, 15):
        for part, kind, number in (("dw", "DEPTHWISE_CONV_2D", 2), ("pw", "CONV_2D", 1)):
            key = f"layer{layer}/{part}"
            name = names[f"{kind}.{layer - number}.weights"]
            weights = arrays.take(name, arrays.shape(name))
            weights = weights[0] if part == "dw" else weights[:, 0, 0].T
            recorded = expected.take(f"{key}/w", weights.shape)
            if provenance[f"{key}/w"].startswith("int8"):
                assert np.array_equal(weights, recorded)
                compared += 1
            else:
                # Within half a step of the scale.
                axes = tuple(range(recorded.ndim - 1))
                step = np.abs(weights).max(axis=axes) / 127
                within = np.abs(weights - recorded).max(axis=axes) <= 0.51 * step + 2e-7
                assert within.mean() > 0.9
            name = names[f"{kind}.{layer - number}.bias"]
            bias = arrays.take(name, arrays.shape(name))
            assert np.abs(bias - expected.take(f"{key}/b", bias.shape)).max() <= 5e-7
    assert compared == 11
    mel = arrays.take(names["FULLY_CONNECTED.0.weights"], (64, 257))
    assert np.abs(mel.T - expected.take("mel", (257, 64))).max() <= 0.5 / 127 + 1e-5
    window = arrays.take(names["MUL.0.input1"], (400,))
    assert np.array_equal(window, expected.take("window", (400,)))


@pytest.mark.shared
def test_the_mel_table_of_the_other_yamnet(shared):
    folder = shared / "data" / "weights" / "yamnet"
    arrays = timed(folder / "lite-model_yamnet_classification_tflite_1.tflite")
    name = next(name for name in arrays.names if name.startswith("FULLY_CONNECTED.0.weights:"))
    expected = timed(folder / "yamnet_reconstructed_f32.npz").take("mel", (257, 64))
    assert np.abs(arrays.take(name, (64, 257)).T - expected).max() <= 1e-5


@pytest.mark.shared
def test_keras_files(shared):
    arrays = timed(shared / "data" / "concepts" / "MSD_vgg.h5")
    expected = timed(shared / "data" / "weights" / "musicnn" / "MSD_vgg.npz")
    assert len(arrays.names) == len(expected.names) == 36
    for number in range(1, 6):
        for ours, theirs in (("kernel_1:0", "kernel"), ("bias_1:0", "bias")):
            name = f"{number}CNN/{number}CNN/{ours}"
            found = arrays.take(name, arrays.shape(name))
            assert np.array_equal(found, expected.take(f"{number}CNN.{theirs}", found.shape))
    arrays = timed(shared / "data" / "weights" / "yamnet" / "yamnet_256_f32.h5")
    assert len(arrays.names) == 44
    assert arrays.shape("model_2/layer1/conv/kernel:0") == (3, 3, 1, 32)


@pytest.mark.shared
def test_pytorch_files(shared):
    path = shared / "golden" / "coala_tag_encoder.pt"
    arrays = timed(path)
    state = torch.load(path, weights_only=True)
    assert arrays.names == tuple(sorted(state))
    for name, values in state.items():
        assert np.array_equal(arrays.take(name, tuple(values.shape)), values.float().numpy())
