"""The original project's four functions: call forms, return values, and what was mended."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import coala_latent
import encode
from coala_latent import Sound, load_model
from coala_latent.audio.frontends import CoalaLegacy
from coala_latent.errors import (
    AudioEmptyError,
    AudioError,
    AudioNotFoundError,
    AudioValueError,
    ModelNotFoundError,
    TagError,
    WeightsError,
)
from coala_latent.models.coala import CNN, AudioEncoder, TagEncoder
from coala_latent.registry import build_model, save_model
from coala_latent.weights import write_weights
from encode import (
    extract_audio_embedding,
    extract_audio_embedding_chunks,
    extract_tag_embedding,
    return_loaded_model,
)

RATE = 22000
NAMES = (
    "extract_audio_embedding",
    "extract_audio_embedding_chunks",
    "extract_tag_embedding",
    "return_loaded_model",
)


def noise(seconds, rate=RATE, seed=0):
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))
    return samples.astype(np.float32)


@pytest.fixture(scope="module")
def audio_encoder(shared):
    return return_loaded_model(AudioEncoder, shared / "golden/coala_audio_encoder.pt")


@pytest.fixture(scope="module")
def cnn(shared):
    return return_loaded_model(CNN, str(shared / "golden/coala_cnn.pt"))


@pytest.fixture(scope="module")
def tag_encoder(shared):
    return return_loaded_model(lambda: TagEncoder(), shared / "golden/coala_tag_encoder.pt")


@pytest.fixture(scope="module")
def tags(shared):
    return json.loads((shared / "data/coala/id2token_top_1000.json").read_text())


@pytest.fixture
def small():
    """A bare module of the old kind, small and quick."""
    torch.manual_seed(0)
    return AudioEncoder(channels=4).eval()


def test_the_functions_are_the_same_objects_in_both_places():
    for name in NAMES:
        assert getattr(encode, name) is getattr(coala_latent, name)
        assert name in dir(coala_latent)
    assert set(encode.__all__) == set(NAMES)


IMPORT = """
import sys
opened = []
def audit(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        opened.append(arguments[0])
import torch, numpy, soundfile, soxr, h5py, safetensors.torch
sys.addaudithook(audit)
import encode
assert "torchaudio" not in sys.modules, "torchaudio"
read = [name for name in opened if not name.endswith((".py", ".pyc", ".so", ".pth"))]
assert not any(name.endswith((".json", ".pt", ".safetensors", ".pkl", ".csv")) for name in read)
assert not any("coala" in name.rpartition("/")[2] for name in read), read
assert encode.return_loaded_model
"""


def test_importing_encode_reads_no_files_and_no_torchaudio(project, tmp_path):
    # From an empty folder: the original's import needed files below the current one.
    environment = {"PYTHONPATH": str(project), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", IMPORT], check=True, cwd=tmp_path, env=environment)


@pytest.mark.parity
def test_a_bare_checkpoint_hears_exactly_what_the_original_heard(shared, audio_encoder):
    golden = np.load(shared / "golden/coala_frontend_golden.npz")
    z, z_d = extract_audio_embedding_chunks(audio_encoder, golden["waveform"], RATE)
    with torch.no_grad():
        wanted_z, wanted_z_d = audio_encoder(torch.from_numpy(golden["patches"])[:, None])
    scale = float(wanted_z.abs().max())
    assert float((z - wanted_z).abs().max()) / scale < 1e-5
    assert float((z_d - wanted_z_d).abs().max()) / float(wanted_z_d.abs().max()) < 1e-5
    assert type(z) is type(z_d) is torch.Tensor


@pytest.mark.parity
def test_the_encoder_gives_the_recorded_outputs(shared, audio_encoder, cnn):
    golden = np.load(shared / "golden/coala_golden.npz")
    for module, key in ((audio_encoder, "audio_encoder"), (cnn, "cnn")):
        assert all(value.dtype == torch.float32 for value in module.parameters())
        with torch.no_grad():
            outputs = module(torch.from_numpy(golden["x"]))
        for number, output in enumerate(outputs):
            np.testing.assert_allclose(output, golden[f"{key}.out{number}"], atol=1e-5)


def test_return_values_have_the_originals_shapes(audio_encoder, cnn, tmp_path):
    path = tmp_path / "two seconds.wav"
    soundfile.write(path, noise(2.0), RATE)
    for name in (path, str(path)):
        pair = extract_audio_embedding_chunks(audio_encoder, name)
        assert isinstance(pair, tuple)
        assert [tuple(part.shape) for part in pair] == [(4, 1152), (4, 1152)]
        assert {part.dtype for part in pair} == {torch.float32}
        one = extract_audio_embedding(audio_encoder, name)
        assert [tuple(part.shape) for part in one] == [(1, 1152), (1, 1152)]
        torch.testing.assert_close(one[0], pair[0][:1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(one[1], pair[1][:1], atol=1e-5, rtol=1e-5)
    z, probabilities = extract_audio_embedding_chunks(cnn, path)
    assert z.shape == (4, 1152)
    assert probabilities.shape == (4, 1000)
    assert 0 <= float(probabilities.min()) < float(probabilities.max()) <= 1
    z, probabilities = extract_audio_embedding(cnn, path)
    assert (tuple(z.shape), tuple(probabilities.shape)) == ((1, 1152), (1, 1000))


@pytest.mark.parametrize("samples", [1, 511, 22_000, 219_999, 220_000, 220_001, 245_760, 660_000])
def test_the_number_of_rows_follows_the_originals_rule(small, samples):
    frames = 1 + max(samples, 220_000) // 512
    z, z_d = extract_audio_embedding_chunks(small, noise(samples / RATE), RATE)
    assert len(z) == len(z_d) == 1 + (frames - 96) // 96
    assert samples > 220_000 or len(z) == 4
    assert len(extract_audio_embedding(small, noise(samples / RATE), RATE)[0]) == 1


def test_arrays_tensors_stereo_and_sounds_give_the_files_rows(small, tmp_path):
    stereo = np.stack([noise(3.0, 44100), noise(3.0, 44100, seed=1)])
    path = tmp_path / "stereo.wav"
    soundfile.write(path, stereo.T, 44100, subtype="FLOAT")
    wanted = extract_audio_embedding_chunks(small, path)
    mono = stereo.mean(axis=0)
    for source, rate in (
        (stereo, 44100),
        (mono, 44100),
        (torch.from_numpy(stereo), 44100),
        (torch.from_numpy(mono).requires_grad_(), 44100),
        (Sound(mono, 44100), None),
    ):
        found = extract_audio_embedding_chunks(small, source, rate)
        for part, same in zip(found, wanted, strict=True):
            torch.testing.assert_close(part, same, atol=1e-6, rtol=1e-5)


def test_embeddings_can_be_trained_upon(small):
    z, _ = extract_audio_embedding_chunks(small, noise(1.0), RATE)
    assert not z.requires_grad
    nn.Linear(36, 2)(z).sum().backward()
    z.requires_grad_().sum().backward()


def test_pad_noise_comes_only_with_a_seed_and_is_reproducible(small, tmp_path):
    path = tmp_path / "short.wav"
    soundfile.write(path, noise(1.0), RATE, subtype="FLOAT")
    silent = extract_audio_embedding_chunks(small, path)[0]
    assert torch.equal(silent, extract_audio_embedding_chunks(small, path)[0])
    noisy = extract_audio_embedding_chunks(small, path, pad_noise_seed=1)[0]
    assert noisy.shape == silent.shape
    assert not torch.allclose(noisy, silent, atol=1e-4)
    assert torch.equal(noisy, extract_audio_embedding_chunks(small, path, pad_noise_seed=1)[0])
    assert not torch.equal(noisy, extract_audio_embedding_chunks(small, path, pad_noise_seed=2)[0])
    array = extract_audio_embedding_chunks(small, noise(1.0), RATE, pad_noise_seed=1)[0]
    torch.testing.assert_close(array, noisy)
    long = noise(10.5)
    for seed in (None, 1):
        rows = extract_audio_embedding_chunks(small, long, RATE, pad_noise_seed=seed)[0]
        assert torch.equal(rows, extract_audio_embedding_chunks(small, long, RATE)[0])


def test_pad_noise_is_what_the_original_added():
    front_end = CoalaLegacy()
    silence = torch.zeros(RATE)
    noisy = front_end.add_pad_noise(silence, torch.Generator().manual_seed(0))
    assert noisy.shape == (10 * RATE,)
    assert 0 <= float(noisy.min()) < float(noisy.max()) < 5e-4
    assert float(noisy.mean()) == pytest.approx(2.5e-4, rel=0.01)


def test_registry_names_and_library_files_follow_their_card(tmp_path):
    sound = noise(7.0)
    whole, card = build_model("coala-test")
    saved = save_model(whole, card, tmp_path)
    wanted = load_model("coala-test")(sound, RATE)
    for checkpoint in ("coala-test", tmp_path / saved.weights, str(tmp_path / saved.weights)):
        for kind in (None, AudioEncoder, lambda: AudioEncoder(4)):
            model = return_loaded_model(kind, checkpoint)
            assert type(model) is AudioEncoder
            assert model.card.name == "coala-test"
            z, z_d = extract_audio_embedding_chunks(model, sound, RATE)
            np.testing.assert_allclose(z, wanted.values, atol=1e-5)
            assert z_d.shape == z.shape
            # The front end is no part of the module's own weights.
            assert set(model.state_dict()) == set(AudioEncoder(4).state_dict())
    z, probabilities = extract_audio_embedding_chunks(
        return_loaded_model(CNN, "coala-cnn-test"), sound, RATE
    )
    assert (z.shape[1], probabilities.shape[1]) == (36, 5)
    legacy = return_loaded_model(None, "coala-legacy-test")
    assert len(extract_audio_embedding_chunks(legacy, sound, RATE)[0]) == 4


def test_bare_safetensors_are_legacy_like_pt(tmp_path, small):
    torch.save(small.state_dict(), tmp_path / "bare.pt")
    write_weights(tmp_path / "bare.safetensors", small.state_dict(), {"format": "pt"})
    rows = [
        extract_audio_embedding_chunks(
            return_loaded_model(lambda: AudioEncoder(4), tmp_path / name), noise(1.0), RATE
        )[0]
        for name in ("bare.pt", "bare.safetensors")
    ]
    assert torch.equal(*rows)
    assert len(rows[0]) == 4


def test_models_come_loaded_in_evaluation_mode(audio_encoder, cnn, tag_encoder):
    for model in (audio_encoder, cnn, tag_encoder, return_loaded_model(None, "coala-test")):
        assert not any(module.training for module in model.modules())


def test_a_model_in_training_is_not_disturbed(small):
    wanted = extract_audio_embedding_chunks(small, noise(3.0), RATE)[0]
    small.train()
    small.audio_encoder[1].eval()  # one layer frozen by hand
    modes = [module.training for module in small.modules()]
    before = {name: value.clone() for name, value in small.state_dict().items()}
    assert torch.equal(extract_audio_embedding_chunks(small, noise(3.0), RATE)[0], wanted)
    assert torch.equal(extract_audio_embedding(small, noise(3.0), RATE)[0].round(decimals=4),
                       wanted[:1].round(decimals=4))  # fmt: skip
    with pytest.raises(AudioError):
        extract_audio_embedding_chunks(small, np.full(9, np.nan), RATE)
    assert [module.training for module in small.modules()] == modes
    for name, value in small.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parity
def test_tag_embeddings_are_the_recorded_models(tag_encoder, tags, shared):
    golden = np.load(shared / "golden/coala_golden.npz")
    with torch.no_grad():
        np.testing.assert_allclose(
            tag_encoder(torch.from_numpy(golden["tags"]))[0], golden["tag_encoder.out0"], atol=1e-5
        )
        one_hot = torch.eye(1000)[[17]]
        wanted = tag_encoder(one_hot)[0]
    z = extract_tag_embedding(tag_encoder, tags["17"], tags)
    assert z.shape == (1, 1152)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, wanted)
    both = extract_tag_embedding(tag_encoder, [tags["17"], tags["3"]], tags)
    assert not torch.allclose(both, z)


def test_a_vocabulary_comes_as_list_mapping_path_or_from_the_current_folder(
    tag_encoder, tags, tmp_path, monkeypatch
):
    ordered = [tags[str(place)] for place in range(1000)]
    word = ordered[500]
    wanted = extract_tag_embedding(tag_encoder, word, ordered)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TagError, match="vocabulary="):
        extract_tag_embedding(tag_encoder, word)
    path = tmp_path / "json" / "id2token_top_1000.json"
    path.parent.mkdir()
    path.write_text(json.dumps(tags))
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(ordered))
    for vocabulary in (tags, path, str(path), listed, tuple(ordered), None):
        assert torch.equal(extract_tag_embedding(tag_encoder, word, vocabulary), wanted)


def test_a_library_tag_encoder_knows_its_vocabulary():
    model = return_loaded_model(TagEncoder, "coala-test")
    z = extract_tag_embedding(model, "metal")
    assert z.shape == (1, 36)
    assert not z.requires_grad
    model.train()
    assert torch.equal(extract_tag_embedding(model, "metal"), z)  # one row, batch norm in training
    assert model.training
    nn.Linear(36, 2)(z).sum().backward()


def test_an_unknown_tag_names_close_ones():
    model = return_loaded_model(TagEncoder, "coala-test")
    with pytest.raises(TagError, match="did you mean metal"):
        extract_tag_embedding(model, "metall")
    with pytest.raises(TagError, match="did you mean bright"):
        extract_tag_embedding(model, ["metal", "brigth"])
    with pytest.raises(TagError, match="'xyzzy'"):
        extract_tag_embedding(model, "xyzzy")
    with pytest.raises(TagError, match="no tag"):
        extract_tag_embedding(model, [])


@pytest.mark.parametrize(
    "vocabulary",
    [
        ["metal"],
        [],
        {"metal": 0, "wood": 1, "tap": 2, "dull": 3, "bright": 4},
        {"0": "metal", "1": "wood", "2": "tap", "3": "dull", "9": "bright"},
        7,
    ],
    ids=["too short", "empty", "inverted", "index outside", "number"],
)
def test_a_vocabulary_that_does_not_fit_is_a_typed_error(vocabulary, tmp_path):
    model = return_loaded_model(TagEncoder, "coala-test")
    with pytest.raises(TagError, match="vocabulary"):
        extract_tag_embedding(model, "metal", vocabulary)
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(vocabulary))
    with pytest.raises(TagError, match="vocabulary"):
        extract_tag_embedding(model, "metal", path)


def test_an_audio_model_embeds_no_tags(small):
    with pytest.raises(TagError, match="TagEncoder"):
        extract_tag_embedding(small, "metal", ["metal"])


def test_errors_are_raised_and_not_printed(small, tmp_path, capsys):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFFnothing")
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioNotFoundError):
        extract_audio_embedding(small, tmp_path / "missing.wav")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        extract_audio_embedding_chunks(small, broken)
    with pytest.raises(AudioEmptyError):
        extract_audio_embedding_chunks(small, str(tmp_path / "empty.wav"))
    with pytest.raises(AudioValueError, match="sample rate"):
        extract_audio_embedding(small, noise(1.0))
    for seed in (None, 3):
        with pytest.raises(AudioValueError):
            extract_audio_embedding(small, np.full(100, np.nan), RATE, pad_noise_seed=seed)
    with pytest.raises(ModelNotFoundError, match="coala-test"):
        return_loaded_model(AudioEncoder, tmp_path / "missing.pt")
    with pytest.raises(WeightsError):
        return_loaded_model(AudioEncoder, broken)
    torch.save(small.state_dict(), tmp_path / "small.pt")
    with pytest.raises(WeightsError, match="shape"):
        return_loaded_model(AudioEncoder, tmp_path / "small.pt")
    with pytest.raises(WeightsError, match="class"):
        return_loaded_model(None, tmp_path / "small.pt")
    with pytest.raises(WeightsError, match="TagEncoder"):
        return_loaded_model(TagEncoder, "coala-cnn-test")
    assert capsys.readouterr() == ("", "")


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(WeightsError):
        return_loaded_model(AudioEncoder, tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_checkpoints_are_typed_errors(tmp_path, rng):
    weights = {"a": torch.zeros(5)}
    torch.save(weights, tmp_path / "zip.pt")
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    whole = [(tmp_path / name).read_bytes() for name in ("zip.pt", "old.pt")]
    target, refused = tmp_path / "damaged.pt", 0
    for number in range(300):
        data = bytearray(whole[number % 2])
        if number % 3 == 0:
            data = bytearray(rng.integers(0, 256, 200, dtype=np.uint8).tobytes())
        for place in rng.integers(0, len(data), 4):
            data[place] = rng.integers(0, 256)
        target.write_bytes(data[: rng.integers(1, len(data) + 1)])
        try:
            return_loaded_model(lambda: AudioEncoder(1), target)
        except WeightsError:
            refused += 1
    assert refused == 300
