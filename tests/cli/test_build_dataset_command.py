"""``coala-latent build-dataset``: from a folder with a tag table to a trained model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from coala_latent.cli import main
from coala_latent.data.patch_reader import PatchFile
from coala_latent.embed.embedder import load_model
from coala_latent.tasks.train import main as train

WriteSound = Callable[..., tuple[Path, np.ndarray]]

NAMES = ["a b.wav", "c,d.wav", "e=f.wav", "it's.wav", "ü/[1] {x}.flac", '"q".wav']
EASY = ["--min-count", "2", "--max-share", "1", "--validation", "0.25", "--quiet"]


def build(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["build-dataset", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, write_sound: WriteSound) -> Path:
    """Sounds with odd names, and three files that cannot be used."""
    root = tmp_path / "söunds, a=b [1]"
    for number, name in enumerate(NAMES * 2):
        write_sound(f"{number // 6}/{name}", 0.4, 22000, seed=number, folder=root)
    (root / "bad.mp3").write_bytes(b"ID3 this is no mp3")
    (root / "empty.wav").write_bytes(b"")
    write_sound("fine.wav", 0.4, 16000, channels=2, folder=root)
    return root


def table(folder: Path, suffix: str = ".csv") -> Path:
    """A table with tags between separators of every kind."""
    tags = ["dogs barking", "Dog;rain", "rain|noises", "bass,noise", "dog", "Rain 120bpm"]
    entries = [
        {"path": f"{n // 6}/{name}", "tags": tags[n % 6], "uploader": f"person {n % 4}"}
        for n, name in enumerate(NAMES * 2)
    ]
    entries += [
        {"path": "bad.mp3", "tags": "dog", "uploader": "x"},
        {"path": "empty.wav", "tags": "dog", "uploader": "x"},
        {"path": "gone.wav", "tags": "dog", "uploader": "x"},
        {"path": "fine.wav", "tags": "120bpm the", "uploader": "x"},
        {"path": "0/a b.wav", "tags": "dog", "uploader": "x"},
    ]
    path = folder / f"tags{suffix}"
    if suffix == ".jsonl":
        text = "\n".join(json.dumps(entry) for entry in entries)
    else:
        quoted = [
            ",".join('"{}"'.format(value.replace('"', '""')) for value in row)
            for row in (entries[0].keys(), *(entry.values() for entry in entries))
        ]
        text = "\ufeff" + "\n".join(quoted)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_a_folder_with_a_table_to_a_trained_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "my set, no=1" / "tags [top]"
    made = build(folder, "--tags", table(folder), "--output", output, "--group", "uploader", *EASY)
    assert made.exit_code == 1, made.output
    assert "bad.mp3" in made.output
    report = json.loads(output.with_name("tags [top].json").read_text("utf-8"))
    kinds = {entry["name"]: entry["kind"] for entry in report["skipped"]}
    assert kinds == {
        "bad.mp3": "unreadable",
        "empty.wav": "unreadable",
        "gone.wav": "missing",
        "fine.wav": "no tags",
        "0/a b.wav": "twice",
    }
    assert sorted(report["vocabulary"].values()) == ["barking", "bass", "dog", "noise", "rain"]
    assert report["train"]["sounds"] + report["validation"]["sounds"] == 12
    assert str(tmp_path) not in json.dumps(report)
    parts = PatchFile(output), PatchFile(output.with_name("tags [top]_val"))
    assert not set(parts[0].groups) & set(parts[1].groups)
    assert set(parts[0].groups) | set(parts[1].groups) == {f"person {n}" for n in range(4)}
    assert len(set(parts[0].ids) | set(parts[1].ids)) == 12
    scaled = parts[0].scaled(np.arange(len(parts[0])))
    assert np.allclose([scaled.min(), scaled.max()], [0, 1], atol=1e-5)

    monkeypatch.chdir(tmp_path)
    arguments = [
        *("experiment=coala_ae_c", "data=hdf5", "patches=stored", f"data.train={output}"),
        *(f"data.validation={output}_val", "model.sizes.channels=2", "model.sizes.hidden=4"),
        *("patches.batch_size=4", "trainer.max_steps=2", "trainer.max_epochs=-1", "threads=1"),
        *("callbacks=none", "logger=none", "progress=false", "output=run", "name=mine"),
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert train() == 0
    embedder = load_model(str(tmp_path / "run" / "mine.safetensors"))
    assert embedder.card.vocabulary == parts[0].vocabulary
    trained = embedder.card.training
    assert trained["data"]["sha256"]["train"] == report["train"]["sha256"]
    assert str(tmp_path) not in json.dumps(embedder.card.to_dict())
    assert np.isfinite(embedder.file(folder / "fine.wav").values).all()


def test_the_same_seed_gives_the_same_files_with_any_workers(folder: Path, tmp_path: Path) -> None:
    reports = []
    for name, workers, seed in (("a", 1, 0), ("b", 3, 0), ("c", 1, 1)):
        made = build(
            *(folder, "--tags", table(folder), "--output", tmp_path / name, *EASY),
            *("--patches", "random", "--workers", workers, "--seed", seed, "--json"),
        )
        reports.append(json.loads(made.stdout))
    assert reports[0]["train"]["sha256"] == reports[1]["train"]["sha256"]
    assert reports[0]["validation"]["sha256"] == reports[1]["validation"]["sha256"]
    assert reports[0]["train"]["sha256"] != reports[2]["train"]["sha256"]


def test_json_lines_say_the_same_as_csv(folder: Path, tmp_path: Path) -> None:
    hashes = []
    for suffix in (".csv", ".jsonl"):
        output = tmp_path / f"set{suffix}"
        made = build(folder, "--tags", table(folder, suffix), "--output", output, *EASY, "--json")
        hashes.append(json.loads(made.stdout)["train"]["sha256"])
    assert hashes[0] == hashes[1]


def test_folders_are_tags_and_names_give_groups(tmp_path: Path, write_sound: WriteSound) -> None:
    root = tmp_path / "sounds"
    for number in range(12):
        kind = ("Dogs/Bark", "Rain [x]")[number % 2]
        write_sound(f"{kind}/{number // 2}-take.wav", 0.3, 22000, seed=number, folder=root)
    output = tmp_path / "set.h5"
    made = build(
        *(root, "--tags", "folders", "--output", output, *EASY, "--group-pattern", r"(\d+)-"),
        *("--front-end", "standard", "--json"),
    )
    assert made.exit_code == 0, made.output
    report = json.loads(made.stdout)
    assert sorted(report["vocabulary"].values()) == ["bark", "dog", "rain"]
    train, validation = PatchFile(output), PatchFile(tmp_path / "set_val.h5")
    assert (tmp_path / "set.json").is_file()
    assert set(train.groups) | set(validation.groups) == set("012345")
    assert not set(train.groups) & set(validation.groups)
    masks = train.masks(np.arange(len(train)))
    assert masks[:, 0].all()
    assert not masks[:, -1].any(), "0.3 s do not fill a patch of the standard front end"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_no_text_are_kept_and_told(tmp_path: Path, write_sound: WriteSound) -> None:
    root = tmp_path / "sounds"
    for number in range(4):
        path, _ = write_sound(f"dog/{number}.wav", 0.3, 22000, seed=number, folder=root)
    odd = path.rename(os.fsdecode(os.fsencode(path.parent) + b"/\xff.wav"))
    odd.with_name(f"{odd.stem}bad.wav").write_bytes(b"")
    made = build(root, "--tags", "folders", "--output", tmp_path / "set", *EASY)
    assert made.exit_code == 1, made.output
    files = PatchFile(tmp_path / "set"), PatchFile(tmp_path / "set_val")
    assert odd.relative_to(root).as_posix() in {name for file in files for name in file.sources}
    (skipped,) = json.loads((tmp_path / "set.json").read_text("utf-8"))["skipped"]
    assert skipped["name"] == "dog/\\udcffbad.wav"


def test_ids_find_files_and_are_kept(tmp_path: Path, write_sound: WriteSound) -> None:
    root = tmp_path / "sounds"
    for number in range(8):
        write_sound(f"{number % 2}/{1000 + number}.wav", 0.3, 22000, seed=number, folder=root)
    write_sound("0/7.wav", 0.3, 22000, folder=root)
    write_sound("1/7.flac", 0.3, 22000, folder=root)
    lines = [f"{1000 + number},dog" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["fs_id,tags", *lines, "7,dog", "99,dog"]), "utf-8")
    (tmp_path / "leak.json").write_text("[1003, 5]", "utf-8")
    made = build(
        *(root, "--tags", tmp_path / "t.csv", "--output", tmp_path / "set", *EASY),
        *("--exclude", tmp_path / "leak.json", "--json"),
    )
    assert made.exit_code == 1
    report = json.loads(made.stdout)
    kinds = {entry["name"]: entry["kind"] for entry in report["skipped"]}
    assert kinds == {"1003": "excluded", "7": "missing", "99": "missing"}
    files = PatchFile(tmp_path / "set"), PatchFile(tmp_path / "set_val")
    found = sorted(number for file in files for number in file.ids.tolist())
    assert found == [1000, 1001, 1002, 1004, 1005, 1006, 1007]


def test_existing_files_are_replaced_only_when_asked(folder: Path, tmp_path: Path) -> None:
    given: list[Any] = [folder, "--tags", table(folder), "--output", tmp_path / "set", *EASY]
    assert build(*given).exit_code == 1
    before = (tmp_path / "set").read_bytes()
    refused = build(*given)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert (tmp_path / "set").read_bytes() == before
    assert build(*given, "--overwrite", "--validation", "0.5").exit_code == 1
    assert (tmp_path / "set").read_bytes() != before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "tmp"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,tags\na.wav,dog,rain\n", "line 2 has more or fewer fields"),
        ("path,tags\na.wav\n", "line 2 has more or fewer fields"),
        ("path,words\na.wav,dog\n", "no column tags"),
        ("name,tags\na.wav,dog\n", "no column path or id"),
        ("path,tags\n", "no entries"),
        ("", "no entries"),
        ('path,tags\n"a.wav,dog\n', "line"),
        ("path,tags\nnone.wav,dog\n", "not one sound can be used"),
        ("path,tags\na.wav,120\n", "not one sound is left"),
        ("path,tags\na.wav,dog\n", "no tag is left"),
        ("path,tags\n,dog\n", "neither a path nor an id"),
    ],
)
def test_tables_that_cannot_be_used_are_told(
    tmp_path: Path, write_sound: WriteSound, text: str, message: str
) -> None:
    write_sound("a.wav", 0.3, 22000)
    (tmp_path / "t.csv").write_text(text, "utf-8")
    made = build(tmp_path, "--tags", tmp_path / "t.csv", "--output", tmp_path / "set", "--quiet")
    assert made.exit_code == 2
    assert message in made.output
    assert "Traceback" not in made.output
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "t.csv"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tags", "gone.csv"], "gone.csv: no such file"),
        (["--tags", "folders"], "no sound files in sub-folders"),
        (["--tags", "folders", "--group", "x"], "--group-pattern"),
        (["--tags", "folders", "--scaler", "published", "--front-end", "standard"], "legacy"),
        (["--tags", "t.csv", "--group", "who"], "no column 'who'"),
        (["--tags", "t.csv", "--group-pattern", "("], "group pattern"),
        (["--tags", "t.csv", "--exclude", "none.txt"], "none.txt"),
        (["--tags", "t.jsonl"], "line 2 is not JSON"),
    ],
)
def test_settings_that_cannot_be_used_are_told(
    tmp_path: Path,
    write_sound: WriteSound,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sound("a.wav", 0.3, 22000)
    Path("t.csv").write_text("path,tags\na.wav,dog\n", "utf-8")
    Path("t.jsonl").write_text('{"path": "a.wav", "tags": ["dog"]}\n{', "utf-8")
    made = build(".", "--output", "set", *arguments)
    assert made.exit_code == 2
    assert message in made.output
    assert not Path("set").exists()
