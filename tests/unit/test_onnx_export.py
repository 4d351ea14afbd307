"""ONNX files: the same rows from the waveform on, whatever batch and length."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from coala_latent import list_models, load_model, model_card
from coala_latent.embed.adapters.onnx import OPSET, check_onnx, export_onnx
from coala_latent.embed.adapters.onnx_graph import PatchGraph, covering
from coala_latent.embed.hearing import PatchHearing
from coala_latent.embed.scores import Predictor
from coala_latent.errors import ConfigError, DependencyError
from coala_latent.models.geometry import Geometry, Window
from coala_latent.registry.architectures import ARCHITECTURES

TOLERANCE = 1e-4
PATCH_MODELS = [
    name
    for name in list_models()
    if name.endswith("-test") and ARCHITECTURES[model_card(name).architecture].hears == "patches"
]
QUICK = ["yamnet-test", "soundnet5-test"]


def sounds(batch, samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (batch, samples)).astype(np.float32)


@pytest.fixture(scope="module")
def session_of(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    made = {}

    def session(name):
        if name not in made:
            path = tmp_path_factory.mktemp("onnx") / f"{name}.onnx"
            metadata = export_onnx(load_model(name), path)
            made[name] = (
                runtime.InferenceSession(path, providers=["CPUExecutionProvider"]),
                path,
                metadata,
            )
        return made[name]

    return session


def lengths(name):
    card = model_card(name)
    least = max(card.min_samples, int(card.window_seconds * card.sample_rate))
    return [1, 500, least - 1, least, least + 1, 2 * least + 77, 5 * least]


@pytest.mark.parametrize("name", PATCH_MODELS)
@pytest.mark.parametrize("short", ["pad", "tile"])
def test_the_graphs_arithmetic_is_the_librarys_at_any_length(name, short):
    embedder = load_model(name, short=short, patch_hop=29)
    assert isinstance(embedder.hearing, PatchHearing)
    model = embedder.model
    scores = tuple(model.scored)
    front_end = copy.deepcopy(embedder.hearing.front_end)
    graph = PatchGraph(
        model, front_end, embedder.layers, "mean", tile=short == "tile", scores=scores
    ).eval()
    predictor = Predictor(model, embedder.card, short=short, patch_hop=29)
    for samples in lengths(name):
        batch = sounds(2, samples)
        with torch.inference_mode():
            rows, *found = graph(torch.from_numpy(batch))
        for number, sound in enumerate(batch):
            wanted = embedder(sound, embedder.sample_rate).values
            assert rows[number].shape == wanted.shape
            largest = np.abs(wanted).max()
            # One sample repeated is a constant: above 0 Hz its spectrum is all rounding.
            tolerance = 10 * TOLERANCE if samples == 1 else TOLERANCE
            np.testing.assert_allclose(rows[number] / largest, wanted / largest, atol=tolerance)
            scored = predictor(sound, embedder.sample_rate)
            for name_of, values in zip(scores, found, strict=True):
                np.testing.assert_allclose(
                    values[number], scored[name_of].values, atol=tolerance / 10
                )


@pytest.mark.parametrize(
    "windows",
    [
        [(64, 2, 32), (8, 8), (32, 2, 16), (8, 8), (16, 2, 8), (4, 2, 2), (8, 2)],
        [(64, 2, 32), (2, 2), (4, 1, 2), (3, 3, 1)],
        [(5, 1), (4, 4, 2)],
        [(1, 1)],
    ],
    ids=str,
)
def test_extended_lengths_are_the_geometrys(windows):
    geometry = Geometry(tuple(Window(*window) for window in windows))
    random = np.random.default_rng(0)
    for samples in [*range(1, 400), *random.integers(400, 300_000, 300)]:
        wanted = geometry.covering(max(int(samples), geometry.minimum))
        assert int(covering(torch.tensor(int(samples)), geometry)) == wanted


@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in list_models() if n not in QUICK)],
)
def test_onnxruntime_gives_the_librarys_rows_and_scores(name, session_of):
    session, path, metadata = session_of(name)
    embedder = load_model(name)
    predictor = Predictor(embedder.model, embedder.card)
    names = [output.name for output in session.get_outputs()]
    assert names == ["embedding", *predictor.names] == list(metadata["outputs"])
    for samples in lengths(name):
        for batch in (1, 3):
            heard = sounds(batch, samples, seed=samples)
            found = dict(zip(names, session.run(None, {"waveform": heard}), strict=True))
            for number, sound in enumerate(heard):
                wanted = embedder(sound, embedder.sample_rate).values
                got = found["embedding"][number]
                assert got.dtype == np.float32
                assert got.shape == wanted.shape
                largest = max(np.abs(wanted).max(), 1e-12)
                np.testing.assert_allclose(got / largest, wanted / largest, atol=TOLERANCE)
                for scores, wanted_scores in predictor(sound, embedder.sample_rate).items():
                    np.testing.assert_allclose(
                        found[scores][number], wanted_scores.values, atol=1e-5
                    )
    errors = check_onnx(path, embedder)
    assert list(errors) == names
    assert max(errors.values()) < TOLERANCE


@pytest.mark.parametrize("name", QUICK)
def test_a_file_describes_itself(name, session_of, project):
    session, path, metadata = session_of(name)
    card = model_card(name)
    import onnx

    model = onnx.load(path)
    assert {each.domain: each.version for each in model.opset_import}[""] == OPSET
    (waveform,) = session.get_inputs()
    assert waveform.name == "waveform"
    assert waveform.shape == ["batch", "time"]
    said = session.get_modelmeta().custom_metadata_map
    assert said["model"] == name
    assert int(said["sample_rate"]) == card.sample_rate
    assert said["layer"] == card.default_layer
    outputs = json.loads(said["outputs"])
    assert outputs == metadata["outputs"]
    for scores, labels in card.classes.items():
        assert outputs[scores]["labels"] == list(labels)
    # The times of rows follow from three numbers.
    embedder = load_model(name)
    rows = embedder(sounds(1, 3 * card.min_samples)[0], card.sample_rate)
    about = outputs["embedding"]
    start = about["start_seconds"] + np.arange(len(rows)) * about["hop_seconds"]
    np.testing.assert_allclose(np.maximum(start, 0), rows.start, atol=1e-9)
    end = np.minimum(start + about["window_seconds"], 3 * card.min_samples / card.sample_rate)
    np.testing.assert_allclose(end, rows.end, atol=1e-9)
    # Weights inside, and nothing of the place it was made at.
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert str(project).encode() not in path.read_bytes()


def test_an_export_leaves_the_model_as_it_was(session_of):
    session_of(QUICK[0])
    embedder = load_model("coala-test")
    before = embedder(sounds(1, 60_000)[0], 22000).values
    with pytest.raises(ConfigError, match="float32"):
        export_onnx(load_model("coala-test", precision="bfloat16"), "never.onnx")
    assert embedder(sounds(1, 60_000)[0], 22000).values.tobytes() == before.tobytes()


def test_only_single_steps_of_one_layer_are_exported(tmp_path):
    pytest.importorskip("onnx")
    for options in ({"layer": ["pool1", "pool2"]}, {"patch": 3}):
        with pytest.raises(ConfigError, match="single steps"):
            export_onnx(load_model("soundnet5-test", **options), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_model_is_told(session_of):
    _, path, _ = session_of("yamnet-test")
    with pytest.raises(ConfigError, match="yamnet-test"):
        check_onnx(path, load_model("yamnet-test", "layer3"), lengths=[20_000])


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(package, monkeypatch, tmp_path):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=r"coala-latent\[onnx\]"):
        export_onnx(load_model("coala-test"), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_the_library_does_not_need_the_extra():
    code = "import sys; sys.modules['onnx'] = None; import coala_latent.embed.adapters.onnx"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_graph_of_nan_is_not_the_model(tmp_path, session_of):
    import onnx

    _, path, _ = session_of("yamnet-test")
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
            values = np.full(tuple(tensor.dims), np.nan, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save_model(proto, tmp_path / "nan.onnx")
    found = check_onnx(tmp_path / "nan.onnx", load_model("yamnet-test"))
    assert found["embedding"] == np.inf


def test_sounds_that_are_refused_are_not_checked(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    embedder = load_model("yamnet-test", short="error")
    export_onnx(embedder, tmp_path / "x.onnx")
    assert check_onnx(tmp_path / "x.onnx", embedder)["embedding"] < TOLERANCE
    with pytest.raises(ConfigError, match="no such file"):
        check_onnx(tmp_path / "y.onnx", embedder)
