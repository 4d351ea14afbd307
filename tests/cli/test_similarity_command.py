"""`coala-latent similarity` and `coala-latent pairs`."""

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from coala_latent.analysis.similarity import cca, linear_cka
from coala_latent.audio.lowlevel import low_level_statistics
from coala_latent.cli import main
from coala_latent.embed.embedder import load_model
from coala_latent.embed.tags import load_tag_embedder

RATE = 22000
CLASSES = ["001 - Wood tap", "metal=$5", "dull, [bold]é"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write(path, seed, hz):
    rng = np.random.default_rng(seed)
    time = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * hz * time) * np.exp(-time * rng.uniform(0, 9))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.4 * tone + rng.normal(0, 10 ** rng.uniform(-4, -1), RATE), RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("classes")
    for number, label in enumerate(CLASSES):
        for clip in range(10):
            hz = 200 * 3**number + 20 * clip
            write(root / label / f"a b,{clip}='.wav", 10 * number + clip, hz)
    return root


@pytest.fixture(scope="module")
def paths(folder):
    return sorted(folder.rglob("*.wav"), key=lambda path: path.relative_to(folder).as_posix())


def test_similarity_is_that_of_clip_means_and_descriptors(folder, paths):
    done = run("similarity", folder, "--model", "coala-test", "--components", 2, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["sounds"], result["components"], result["skipped"]) == (30, 2, {})
    embedder = load_model("coala-test")
    embedding = np.array([embedder.file(path).mean() for path in paths])
    described = [low_level_statistics(soundfile.read(path)[0], RATE) for path in paths]
    found = result["models"]["coala-test"]["descriptors"]
    assert len(found) == 15
    for kind in ("mfcc mean", "chroma skew", "rolloff var"):
        descriptor = np.array([each[kind] for each in described])
        wanted = cca(embedding, descriptor, components=2)
        assert found[kind]["cca"] == pytest.approx(wanted.mean, abs=1e-4)
        assert found[kind]["ranks"] == list(wanted.ranks)
        plain = linear_cka(embedding, descriptor)
        assert found[kind]["cka"] == pytest.approx(plain, abs=1e-4)
        assert 0 <= found[kind]["cca_by_chance"] <= 1


def test_tables_show_models_and_what_they_share(folder):
    options = ("--model", "coala-test", "--model", "yamnet-test", "--quiet")
    done = run("similarity", folder, *options)
    assert done.exit_code == 0, done.output
    for word in ("coala-test", "yamnet-test", "centroid", "skew", "3 principal components"):
        assert word in done.stdout
    assert "unbiased CKA of coala-test with yamnet-test: " in done.stdout


def test_models_are_compared_with_each_other(folder):
    options = ("--model", "coala-test", "--model", "coala-legacy-test", "--json", "--quiet")
    (entry,) = json.loads(run("similarity", folder, *options).stdout)["between"]
    assert entry["models"] == ["coala-test", "coala-legacy-test"]
    assert -1 <= entry["cka_unbiased"] < 1


def test_too_few_sounds_say_why_there_is_no_figure(paths):
    done = run("similarity", *paths[:9], "--model", "coala-test", "--components", 0, "--quiet")
    assert done.exit_code == 0, done.output
    assert "9 items are too few" in done.stderr
    done = run("similarity", *paths[:9], "--model", "coala-test", "--components", 0, "--json")
    found = json.loads(done.stdout)["models"]["coala-test"]["descriptors"]
    assert "fewer components" in found["mfcc mean"]["error"]


def test_bad_sounds_are_left_out_and_told(folder, tmp_path):
    (tmp_path / "bad,é.wav").write_text("no sound")
    done = run("similarity", folder, tmp_path / "bad,é.wav", "--model", "coala-test", "--json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["sounds"] == 30
    assert [path.endswith("bad,é.wav") for path in result["skipped"]] == [True]
    assert "bad,é.wav" in done.stderr
    assert run("similarity", tmp_path, "--model", "coala-test", "--quiet").exit_code == 2
    assert run("similarity", tmp_path / "none", "--model", "coala-test").exit_code == 2


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_pairs_are_drawn_and_counted(folder, paths, tmp_path, method):
    from matplotlib import image

    png = tmp_path / "new folder" / "pairs $1.png"
    options = ("--model", "coala-test", "--png", png, "--method", method, "--quiet", "--json")
    done = run("pairs", folder, *options)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["sounds"], result["tag_sets"]) == (30, 3)
    assert result["layout"]["method"] == method
    assert result["unknown_tags"] == ["bold", "é"]
    assert "bold, é" in done.stderr
    pixels = image.imread(png)
    assert pixels.shape[0] > 400
    assert pixels[..., :3].std() > 0.05
    assert [path.name for path in png.parent.iterdir()] == [png.name]

    embedder = load_model("coala-test", "z_d")
    labels = [path.parent.name for path in paths]
    order = sorted(set(labels))
    tags = {"001 - Wood tap": ["wood", "tap"], "metal=$5": ["metal"], "dull, [bold]é": ["dull"]}
    sets = load_tag_embedder("coala-test").embed([tags[label] for label in order]).z_d
    rows = np.array([embedder.file(path).mean() for path in paths])
    scores = rows @ sets.T / np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(sets, axis=1))
    own = np.array([order.index(label) for label in labels])
    chosen = scores[np.arange(30), own]
    assert result["cosine_own_tags"] == pytest.approx(chosen.mean(), abs=1e-5)
    rest = (scores.sum() - chosen.sum()) / 60
    assert result["cosine_other_tags"] == pytest.approx(rest, abs=1e-5)
    assert result["own_tags_nearest"] == pytest.approx((scores.argmax(axis=1) == own).mean())


def test_classes_without_a_known_tag_are_left_out(folder, tmp_path):
    for label in ("wood", "metal", "zebra"):
        for clip in range(3):
            write(tmp_path / "in" / label / f"{clip}.wav", clip, 300 + 50 * clip)
    done = run("pairs", tmp_path / "in", "--model", "coala-test", "--png", tmp_path / "p.png")
    assert done.exit_code == 0, done.output
    assert "without a known tag: 3 sounds" in done.output
    assert "of 6 sounds" in done.output


def test_tags_may_come_from_a_table(folder, paths, tmp_path):
    table = tmp_path / "tags.csv"
    sets = ["wood tap", "Woods;metal", "tap wood nothing", "nothing"]
    names = [path.relative_to(folder).as_posix() for path in paths[8:12]]
    lines = [f'"{name}",{tags}' for name, tags in zip(names, sets, strict=True)]
    table.write_text("\n".join(["path,tags", *lines]), "utf-8")
    png = tmp_path / "p.png"
    options = ("--model", "coala-test", "--png", png, "--tags", table, "--quiet", "--json")
    done = run("pairs", folder, *options)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["sounds"], result["tag_sets"]) == (3, 2)
    assert result["unknown_tags"] == ["nothing"]
    assert result["without_tags"] == [str(paths[11])]
    assert png.is_file()


def test_what_cannot_be_drawn_is_an_error(folder, tmp_path):
    (tmp_path / "zebra").mkdir()
    (tmp_path / "yak").mkdir()
    write(tmp_path / "zebra" / "a.wav", 0, 300)
    write(tmp_path / "yak" / "a.wav", 0, 300)
    png = tmp_path / "p.png"
    done = run("pairs", tmp_path, "--model", "coala-test", "--png", png, "--quiet")
    assert done.exit_code == 2
    assert "no sound with tags that coala-test knows" in done.output
    done = run("pairs", folder, "--model", "yamnet-test", "--png", png, "--quiet")
    assert done.exit_code == 2
    assert "embeds no tags" in done.output
    assert not png.exists()
