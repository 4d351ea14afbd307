"""``coala-latent doc2vec`` with odd names, from frames to vectors, means and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from coala_latent.cli.doc2vec import doc2vec_group
from coala_latent.cli.options import ReportingGroup
from coala_latent.store import Store

QUICK = ("hidden=8", "dim=4", "batch_size=32", "negatives=3", "pairs_per_save=320", "epochs=2")
NAMES = ["a b/it's, =1.mp3", 'ö <i>"q"</i>.wav', "empty.wav", "-dash.flac"]


def run(*arguments: object) -> Result:
    root = ReportingGroup("root")
    root.add_command(doc2vec_group)
    return CliRunner().invoke(root, ["doc2vec", *(str(each) for each in arguments)])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames") / "my frames, =[1]"
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng(number)
        path = folder / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        length = 0 if name == "empty.wav" else 20
        np.save(path, rng.normal(number, 1, (length, 5)).astype(np.float32))
    return folder


def test_from_frames_to_vectors_means_and_a_picture(frames: Path, tmp_path: Path) -> None:
    output = tmp_path / "doc 'vectors', =ö"
    result = run("train", frames, output, *QUICK, "--quiet", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["ended"], told["epochs"], told["without_frames"]) == ("epochs", 2, ["empty.wav"])
    assert run("train", frames, output, *QUICK, "--quiet").exit_code == 0
    assert run("infer", frames, output, "--output", tmp_path / "new, =.h5").exit_code == 0
    with Store(tmp_path / "new, =.h5") as store:
        assert len(store) == 3
    assert run("frames", frames, output, tmp_path / "words", "--quiet").exit_code == 0
    for name in NAMES:
        assert (tmp_path / "words" / f"{name}.npy").is_file()
    means, both = tmp_path / "means.npy", tmp_path / "both.npy"
    assert run("gather", frames, output, means).exit_code == 0
    assert (
        run("gather", tmp_path / "words", output, tmp_path / "m2.npy", "--computed").exit_code == 0
    )
    np.testing.assert_allclose(np.load(means), np.load(tmp_path / "m2.npy"), atol=1e-6)
    assert run("concat", output / "vector_at_2.npy", means, both).exit_code == 0
    assert np.load(both).shape == (4, 8)
    words = tmp_path / "words" / f"{NAMES[0]}.npy"
    assert run("plot", words, tmp_path / "p.png", "--seconds-per-row", "0.1").exit_code == 0
    assert (tmp_path / "p.png").is_file()


def test_what_cannot_be_done_is_one_line_and_status_2(frames: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (("train", tmp_path / "none", tmp_path / "o"), "none"),
        (("train", frames, tmp_path / "o", "dim=no"), "dim"),
        (("train", frames, tmp_path / "o", "doc2vec=huge"), "huge"),
        (("infer", frames, tmp_path, "--output", tmp_path / "x.h5"), "no document vectors"),
        (("plot", __file__, tmp_path / "p.png"), "not a .npy file"),
        (("concat", tmp_path / "a.npy", tmp_path / "b.npy", tmp_path / "c.npy"), "a.npy"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert told in result.stderr
        assert "Traceback" not in result.output
        assert "pickle" not in result.output
