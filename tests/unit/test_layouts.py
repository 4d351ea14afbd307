"""Readers of benchmarks, on small doubles of each layout."""

import json
from collections import Counter

import numpy as np
import pytest

from coala_latent.data.layouts import (
    find_embeddings,
    load_vector,
    read_esc10,
    read_esc50,
    read_gtzan,
    read_nsynth,
    read_us8k,
)
from coala_latent.data.layouts.files import FileIndex, stem_of
from coala_latent.data.layouts.gtzan import GENRES
from coala_latent.data.layouts.nsynth import FAMILIES, read_selection
from coala_latent.errors import DataError


def touch(path):
    """Readers look at names alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


@pytest.fixture
def us8k(tmp_path):
    """Ten folds of two classes with two slices each, in the original's tree."""
    root = tmp_path / "data" / "UrbanSound8K"
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        for number, label in ((3, "dog_bark"), (5, "engine_idling")):
            for take in range(2):
                source = 1000 * fold + number
                name = f"{source}-{number}-0-{take}.wav"
                rows.append(f"{name},{source},0.0,4.0,1,{fold},{number},{label}")
                touch(root / "audio" / f"fold{fold}" / name)
    table = root / "metadata" / "UrbanSound8K.csv"
    table.parent.mkdir()
    table.write_text("\n".join(rows) + "\n", "utf-8")
    return root


def test_us8k_has_ten_folds_from_its_table(us8k, tmp_path):
    for folder in (us8k, us8k.parent, tmp_path):  # the data set, data/, and what holds data/
        found = read_us8k(folder)
        assert found.root == us8k
        assert Counter(found.parts.tolist()) == {str(fold): 4 for fold in range(1, 11)}
        assert set(found.labels.tolist()) == {"dog_bark", "engine_idling"}
        assert found.missing == []
        assert (found.found, found.published) == ({"sounds": 40}, {"sounds": 8732})
        for path, part, group in zip(found.paths, found.parts, found.groups, strict=True):
            assert path.parent.name == f"fold{part}"
            assert path.name.startswith(f"{group}-")


def test_missing_files_are_an_error_that_counts_them_unless_allowed(us8k):
    for path in sorted((us8k / "audio" / "fold3").iterdir()):
        path.unlink()
    (us8k / "audio" / "fold9" / "9003-3-0-1.wav").unlink()
    with pytest.raises(DataError, match=r"5 of 40 .*3003-3-0-0.wav, 3003-3-0-1.wav, .*\.\.\."):
        read_us8k(us8k)
    found = read_us8k(us8k, allow_missing=True)
    assert len(found.missing) == 5
    assert len(found.paths) == len(found.labels) == len(found.groups) == 35
    assert "3" not in found.parts
    for path in (us8k / "audio").rglob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="none of 40"):
        read_us8k(us8k, allow_missing=True)


def test_us8k_converted_to_flac_and_not_in_fold_folders(us8k):
    for number, path in enumerate(sorted((us8k / "audio").rglob("*.wav"))):
        path.rename(us8k / "audio" / path.with_suffix((".flac", ".WAV")[number % 2]).name)
    assert len(read_us8k(us8k).paths) == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slice_file_name,fsID,class\na.wav,1,dog\n", "no column fold"),
        ("slice_file_name,fsID,fold,class\n", "no rows"),
        ("slice_file_name,fsID,fold,class\na.wav,1,,dog\n", "line 2 has no fold"),
        ("slice_file_name,fsID,fold,class\na.wav,1\n", "line 2 has no fold"),
        ('slice_file_name,fsID,fold,class\n"a.wav,1,1,dog\n', "unexpected end"),
        ("", "no column"),
    ],
    ids=str,
)
def test_damaged_tables_are_named(us8k, text, message):
    (us8k / "metadata" / "UrbanSound8K.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_us8k(us8k)
    assert "UrbanSound8K.csv" in str(error.value)


def test_a_table_in_another_encoding_or_place_is_named(us8k, tmp_path):
    (us8k / "metadata" / "UrbanSound8K.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_us8k(us8k)
    with pytest.raises(DataError, match=r"no metadata/UrbanSound8K\.csv"):
        read_us8k(tmp_path / "elsewhere")


@pytest.fixture
def gtzan(tmp_path):
    """Three tracks a genre: two to train on, one to test on; and what else lies around."""
    root = tmp_path / "data" / "GTZAN" / "genres"
    lists = {"train": [], "test": []}
    for genre in GENRES:
        for number, part in enumerate(("train", "train", "test")):
            name = f"{genre}.{number:05}.wav"
            touch(root / genre / name)
            lists[part].append(f"{genre}/{name}")
    touch(root / "blues" / "._blues.00000.wav")
    touch(root / "blues" / "blues.00000.jpeg")
    touch(root / "blues" / "blues00000.png")
    touch(root / "bextract_single.mf")
    for part, lines in lists.items():
        (tmp_path / f"{part} list, ü.txt").write_text("\r\n".join(lines) + "\r\n\r\n", "utf-8-sig")
    return root


def lists_of(root):
    return [root.parents[2] / f"{part} list, ü.txt" for part in ("train", "test")]


def test_gtzan_corrected_has_all_lines_and_legacy_all_but_the_first(gtzan):
    corrected = read_gtzan(gtzan, *lists_of(gtzan))
    assert Counter(corrected.parts.tolist()) == {"train": 20, "test": 10}
    assert corrected.left_out == {}
    assert corrected.fixed
    assert set(corrected.labels.tolist()) == set(GENRES)
    assert all(path.suffix == ".wav" for path in corrected.paths)
    legacy = read_gtzan(gtzan, *lists_of(gtzan), lists="legacy")
    assert Counter(legacy.parts.tolist()) == {"train": 19, "test": 9}
    assert list(legacy.left_out.values()) == [2]
    lost = {path.name for path in corrected.paths} - {path.name for path in legacy.paths}
    assert lost == {"blues.00000.wav", "blues.00002.wav"}


def test_gtzan_is_found_in_the_original_tree_with_lists_beside_it(gtzan):
    for part, path in zip(("train", "test"), lists_of(gtzan), strict=True):
        path.rename(gtzan.parent / f"{part}_filtered.txt")
    for folder in (gtzan, gtzan.parent, gtzan.parents[1], gtzan.parents[2]):
        assert len(read_gtzan(folder).paths) == 30
    (gtzan.parent / "test_filtered.txt").unlink()
    with pytest.raises(DataError, match="--test-list"):
        read_gtzan(gtzan)


def test_gtzan_in_au_and_in_both_formats(gtzan):
    paths = sorted(gtzan.rglob("[!.]*.wav"))
    for path in paths:
        path.rename(path.with_suffix(".au"))
    found = read_gtzan(gtzan, *lists_of(gtzan))
    assert {path.suffix for path in found.paths} == {".au"}
    touch(paths[0])
    assert paths[0] in read_gtzan(gtzan, *lists_of(gtzan)).paths  # as it is listed


def test_gtzan_lists_without_folders_or_suffixes_or_with_backslashes(gtzan):
    train, test = lists_of(gtzan)
    train.write_text("\n".join(f"{genre}.00000" for genre in GENRES))
    test.write_text("\n".join(f".\\{genre}\\{genre}.00002.au" for genre in GENRES))
    found = read_gtzan(gtzan, train, test)
    assert Counter(found.parts.tolist()) == {"train": 10, "test": 10}


def test_gtzan_lists_that_cannot_be_right(gtzan):
    train, test = lists_of(gtzan)
    kept = test.read_text("utf-8-sig")
    test.write_text(kept + "jazz/jazz.00000.wav\n")
    with pytest.raises(DataError, match=r"jazz\.00000\.wav is in the training list too"):
        read_gtzan(gtzan, train, test)
    test.write_text(kept + "polka/polka.00000.wav\n")
    with pytest.raises(DataError, match=r"polka\.00000\.wav' begins with no genre"):
        read_gtzan(gtzan, train, test)
    test.write_text("\n\n")
    with pytest.raises(DataError, match="empty"):
        read_gtzan(gtzan, train, test)
    test.write_text("jazz/jazz.00002.wav\n")
    with pytest.raises(DataError, match="nothing to test on"):
        read_gtzan(gtzan, train, test, lists="legacy")
    test.write_text(kept + "jazz/jazz.00002.wav\n")
    assert read_gtzan(gtzan, train, test).left_out == {"listed twice": 1}
    test.write_text(kept + "jazz/jazz.00099.wav\n")
    with pytest.raises(DataError, match=r"1 of 31 .*jazz\.00099"):
        read_gtzan(gtzan, train, test)
    assert read_gtzan(gtzan, train, test, allow_missing=True).missing == ["jazz/jazz.00099.wav"]
    with pytest.raises(DataError, match="name the folder genres"):
        read_gtzan(gtzan / "jazz", train, test)


@pytest.fixture
def nsynth(tmp_path):
    """Two notes a family to train on and one to test on."""
    root = tmp_path / "data" / "nsynth"
    selection = {
        family: [f"{family}_acoustic_998-0{n}0-100" for n in (2, 3)] for family in FAMILIES
    }
    for notes in selection.values():
        for note in notes:
            touch(root / "nsynth-train" / "audio_selected" / f"{note}.wav")
    for family in FAMILIES:
        touch(root / "nsynth-test" / "audio" / f"{family}_synthetic_999-040-075.wav")
    (tmp_path / "selection.json").write_text(json.dumps(selection))
    return root


def selection_of(root):
    return root.parents[1] / "selection.json"


def test_nsynth_trains_on_the_selection_and_tests_on_the_test_set(nsynth, tmp_path):
    touch(nsynth / "nsynth-train" / "audio_selected" / "bass_acoustic_009-099-100.wav")  # another
    for folder in (nsynth, nsynth.parent, tmp_path):
        found = read_nsynth(folder, selection_of(nsynth))
        assert Counter(found.parts.tolist()) == {"train": 20, "test": 10}
        assert Counter(found.labels.tolist()) == dict.fromkeys(FAMILIES, 3)
        assert found.fixed
        assert found.published == {"train": 20_000, "test": 4096}
        assert len(set(found.groups.tolist())) == 20  # instruments
        assert (found.missing, found.left_out) == ([], {})


def test_nsynth_leaves_out_synth_lead_and_d_and_counts_them(nsynth):
    for name in ("synth_lead_synthetic_001-020-100", "synth_lead_synthetic_001-021-100"):
        touch(nsynth / "nsynth-test" / "audio" / f"{name}.wav")
    touch(nsynth / "nsynth-test" / "audio" / "bass_acoustic_001-020-100_d.wav")
    selection = json.loads(selection_of(nsynth).read_text())
    selection["synth_lead"] = ["synth_lead_synthetic_004-020-100"]
    selection_of(nsynth).write_text(json.dumps(selection))
    found = read_nsynth(nsynth, selection_of(nsynth))
    assert Counter(found.parts.tolist()) == {"train": 20, "test": 10}
    assert found.left_out == {"synth_lead": 3, "_d in the name, as in the original": 1}


def test_nsynth_in_the_archives_own_folders_with_its_list_of_test_notes(nsynth):
    train = nsynth / "nsynth-train"
    (train / "audio_selected").rename(train / "audio")
    names = [path.stem for path in (nsynth / "nsynth-test" / "audio").iterdir()]
    listed = {name: {"instrument_family_str": name.split("_")[0]} for name in names}
    (nsynth / "nsynth-test" / "examples.json").write_text(json.dumps(listed))
    (nsynth / "nsynth-test" / "audio" / f"{min(names)}.wav").unlink()
    with pytest.raises(DataError, match=rf"1 of 30 .*{min(names)}"):
        read_nsynth(nsynth, selection_of(nsynth))
    found = read_nsynth(nsynth, selection_of(nsynth), allow_missing=True)
    assert found.missing == [min(names)]
    assert found.found == {"train": 20, "test": 9}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"guitar": ["bass_acoustic_001-020-100"]}, "is listed as guitar"),
        ({"bass": ["bass_acoustic_001-020-100"] * 2}, "listed twice"),
        ({"bass": "bass_acoustic_001-020-100"}, "not a list of note names"),
        ({"bass": [3]}, "not a list of note names"),
        ({"kazoo": ["kazoo_acoustic_001-020-100"]}, "begins with no family"),
        (["bass_acoustic_001-020-100"], "not a JSON object"),
        ({"bass": ["bass_synthetic_999-040-075"]}, "is a note of the test set"),
        ({}, "nothing to train on"),
    ],
    ids=str,
)
def test_nsynth_selections_that_cannot_be_right(nsynth, selection, message):
    selection_of(nsynth).write_text(json.dumps(selection))
    with pytest.raises(DataError, match=message):
        read_nsynth(nsynth, selection_of(nsynth))


def test_nsynth_missing_or_damaged_files_are_named(nsynth, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_nsynth(nsynth, tmp_path / "nothing.json")
    selection_of(nsynth).write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_nsynth(nsynth, selection_of(nsynth))
    with pytest.raises(DataError, match="nsynth-train"):
        read_nsynth(tmp_path / "data" / "nsynth" / "nsynth-test", selection_of(nsynth))


@pytest.mark.shared
def test_the_published_selection_has_2000_notes_of_each_family(shared):
    path = shared / "data" / "coala" / "nsynth_selected_sounds_per_class.json"
    names = read_selection(path)
    assert len(names) == len(set(names)) == 20_000
    families = Counter(name.split("_")[0] for name in names)
    assert families == dict.fromkeys(FAMILIES, 2000)


@pytest.mark.shared
def test_the_published_selection_with_its_20000_files(shared, nsynth):
    path = shared / "data" / "coala" / "nsynth_selected_sounds_per_class.json"
    with pytest.raises(DataError, match="20000 of 20010"):
        read_nsynth(nsynth, path)
    for name in read_selection(path)[:100]:
        touch(nsynth / "nsynth-train" / "audio_selected" / f"{name}.wav")
    found = read_nsynth(nsynth, path, allow_missing=True)
    assert len(found.missing) == 19_900
    assert found.left_out == {}


@pytest.fixture
def esc50(tmp_path):
    """Four categories, two of ESC-10, in five folds."""
    root = tmp_path / "ESC-50-master"
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, (category, small) in enumerate(
            (("dog", "True"), ("rain", "True"), ("cow", "False"), ("wind", "False"))
        ):
            source = 10_000 * fold + target
            name = f"{fold}-{source}-A-{target}.wav"
            rows.append(f"{name},{fold},{target},{category},{small},{source},A")
            touch(root / "audio" / name)
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return root


def test_esc50_and_esc10_from_the_table(esc50, tmp_path):
    for folder in (esc50, tmp_path):
        large, small = read_esc50(folder), read_esc10(folder)
        assert (len(large.paths), len(small.paths)) == (20, 10)
        assert set(small.labels.tolist()) == {"dog", "rain"}
        assert Counter(large.parts.tolist()) == dict.fromkeys("12345", 4)
        assert not large.fixed
        assert (large.published["sounds"], small.published["sounds"]) == (2000, 400)
    (esc50 / "audio" / "1-10000-A-0.wav").unlink()
    for read in (read_esc50, read_esc10):
        with pytest.raises(DataError, match="1-10000-A-0"):
            read(esc50)
        assert read(esc50, allow_missing=True).missing == ["1-10000-A-0.wav"]


def test_esc10_in_folders_is_preferred_where_both_are(esc50, tmp_path):
    for label in ("001 - Dog bark", "002 - Rain, = it's ü"):
        for fold in range(1, 6):
            touch(tmp_path / "ESC-10" / label / f"{fold}-{fold}7-A.ogg")
    for folder in (tmp_path, tmp_path / "ESC-10"):
        found = read_esc10(folder)
        assert set(found.labels.tolist()) == {"001 - Dog bark", "002 - Rain, = it's ü"}
        assert len(found.paths) == 10
        assert set(found.groups.tolist()) == {f"{fold}7" for fold in range(1, 6)}
    assert len(read_esc50(tmp_path).paths) == 20
    touch(tmp_path / "ESC-10" / "001 - Dog bark" / "bark.ogg")
    with pytest.raises(DataError, match="1-17092-A"):
        read_esc10(tmp_path / "ESC-10")
    with pytest.raises(DataError, match=r"meta/esc50\.csv"):
        read_esc10(touch(tmp_path / "empty" / "x.txt").parent)


@pytest.mark.shared
def test_esc10_itself(shared):
    found = read_esc10(shared / "data" / "esc10")
    assert len(found.paths) == 400
    assert Counter(found.parts.tolist()) == dict.fromkeys("12345", 80)
    assert found.found == found.published


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("blues.00029", "blues.00029"),
        ("blues/blues.00029.wav", "blues.00029"),
        ("a\\b.AU", "b"),
        ("x.npy", "x"),
        ("a b, c=d.ü.flac", "a b, c=d.ü"),
    ],
)
def test_stems_keep_dots_that_are_no_suffix(name, stem):
    assert stem_of(name) == stem


def test_names_that_differ_in_case_or_folder_alone_are_told_apart(tmp_path):
    paths = [tmp_path / "one" / "A.wav", tmp_path / "two" / "A.wav", tmp_path / "two" / "a.wav"]
    index = FileIndex(paths)
    assert len(index) == 3
    assert index.find("A.wav", "two") == paths[1]
    assert index.find("two/a.wav") == paths[2]
    assert index.find("A.flac") == paths[0]
    assert index.find("b") is None


def test_embeddings_of_the_original_are_found_from_anywhere_in_its_tree(tmp_path):
    tree = tmp_path / "data" / "embeddings" / "us8k"
    save(tree / "embeddings_dual_ae_c_200" / "7-1-0-0.npy", np.ones((4, 3), np.float32))
    save(tree / "embeddings_cnn" / "7-1-0-0.npy", np.ones((4, 3), np.float32))
    (tree / "embeddings_empty").mkdir()
    for folder in (tmp_path, tmp_path / "data", tree.parent, tree):
        found = find_embeddings(folder, "us8k")
        assert [one.name for one in found] == ["cnn", "dual_ae_c_200"]
    (one,) = find_embeddings(tree / "embeddings_cnn", "us8k")
    assert one.name == "cnn"
    assert one.files().find("7-1-0-0.wav") == tree / "embeddings_cnn" / "7-1-0-0.npy"
    with pytest.raises(DataError, match="embeddings_MODEL"):
        find_embeddings(tree / "embeddings_empty", "us8k")


def test_embeddings_of_both_parts(tmp_path):
    tree = tmp_path / "embeddings" / "nsynth"
    for part in ("train", "test"):
        save(tree / part / "embeddings_cnn_20" / f"bass_{part}.npy", np.ones(3))
    folders = (tmp_path, tree, *(tree / part / "embeddings_cnn_20" for part in ("train", "test")))
    for folder in folders:
        (one,) = find_embeddings(folder, "nsynth", split=True)
        assert one.name == "cnn_20"
        assert one.root == tree
        assert one.files("test").names == ["bass_test.npy"]
        assert one.files("train").find("bass_test") is None
    (tree / "test" / "embeddings_cnn_20").rename(tree / "test" / "embeddings_cnn")
    with pytest.raises(DataError, match="both parts"):
        find_embeddings(tree, "nsynth", split=True)


def test_vectors_are_means_over_chunks(tmp_path, rng):
    values = rng.normal(size=(4, 5)).astype(np.float32)
    for number, array in enumerate((values, values[:, None], values.mean(axis=0))):
        save(tmp_path / f"{number}.npy", array)
        vector = load_vector(tmp_path / f"{number}.npy")
        np.testing.assert_allclose(vector, values.mean(axis=0), rtol=1e-6)
        assert vector.dtype == np.float32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((0, 5)), "shape"),
        (np.zeros((1, 1, 1, 5)), "shape"),
        (np.float64(3.0), "shape"),
        (np.array([1, 2]), "floating"),
        (np.full((2, 5), np.nan), "finite"),
        (np.array([{"a": 1}]), "readable"),
    ],
    ids=["empty", "4-d", "number", "integers", "nan", "pickle"],
)
def test_arrays_that_hold_no_embedding_are_refused(tmp_path, values, message):
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(DataError, match=message):
        load_vector(tmp_path / "x.npy")


def test_damaged_arrays_are_refused(tmp_path):
    for content in (b"", b"\x93NUMPY", b"no array"):
        (tmp_path / "x.npy").write_bytes(content)
        with pytest.raises(DataError, match="readable"):
            load_vector(tmp_path / "x.npy")


def test_with_embeddings_alone_no_sound_is_needed(us8k, gtzan, nsynth, tmp_path):
    def stored(data_set, names, split=False):
        folder = tmp_path / "vectors" / data_set
        for name in names:
            save(folder / f"{name}.npy", np.ones((2, 3), np.float32))
        return find_embeddings(folder, data_set, split=split)[0]

    cases = [
        (lambda **how: read_us8k(us8k, **how), "us8k", us8k / "audio", 40),
        (lambda **how: read_gtzan(gtzan, *lists_of(gtzan), **how), "gtzan", gtzan, 30),
    ]
    for read, data_set, audio, count in cases:
        names = [path.stem for path in audio.rglob("[!.]*.wav")]
        vectors = stored(data_set, names)
        for path in audio.rglob("*.wav"):
            path.unlink()
        found = read(vectors=vectors)
        assert len(found.paths) == count
        assert {path.suffix for path in found.paths} == {".npy"}
        next(iter(vectors.root.glob("*.npy"))).unlink()
        with pytest.raises(DataError, match=f"1 of {count} .*{data_set}"):
            read(vectors=stored(data_set, []))
    names = [path.stem for path in nsynth.rglob("*.wav")]
    trained = json.loads(selection_of(nsynth).read_text())
    for name in names:
        part = "train" if name in trained[name.split("_")[0]] else "test"
        save(tmp_path / "nsynth" / part / "embeddings_a" / f"{name}.npy", np.ones(3))
    (vectors,) = find_embeddings(tmp_path, "nsynth", split=True)
    found = read_nsynth(tmp_path / "no sounds", selection_of(nsynth), vectors=vectors)
    assert Counter(found.parts.tolist()) == {"train": 20, "test": 10}
