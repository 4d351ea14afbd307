"""Latents with labels: files, subsets, stores, splits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coala_latent.data.latent_instances import FinishedLatents, from_instances, read_instances
from coala_latent.data.latent_splits import (
    split_by_take,
    split_by_time,
    split_latents,
    split_rows,
)
from coala_latent.data.latents import (
    LabelledLatents,
    combinations,
    from_store,
    read_latents,
    write_latents,
)
from coala_latent.errors import ConfigError, DataError
from coala_latent.store import FileRecord, StoreIdentity, StoreWriter

ODD = "a b,c=d 'e' ö"


def make(
    materials: int = 3, actions: int = 2, takes: int = 4, rows: int = 5, *, shared: bool = True
) -> LabelledLatents:
    """Crossed latents; a take is shared by all conditions, or each condition has its own."""
    grid = np.stack(
        np.meshgrid(*map(np.arange, (materials, actions, takes, rows)), indexing="ij"), -1
    ).reshape(-1, 4)
    recording = (grid[:, 0] * actions + grid[:, 1]) * takes + grid[:, 2]
    return LabelledLatents(
        values=np.random.default_rng(0).normal(size=(len(grid), 4)).astype(np.float32),
        labels=grid[:, :2].copy(),
        factors=("material", "action"),
        classes=(("wood", "metal", "glass")[:materials], ("tap", "rub")[:actions]),
        recording=recording,
        take=grid[:, 2].copy() if shared else recording,
        start=grid[:, 3] * 0.48,
        end=grid[:, 3] * 0.48 + 0.96,
        source={"model": ODD, "layer": "layer9"},
    )


def same(one: LabelledLatents, other: LabelledLatents) -> bool:
    arrays = ("values", "labels", "recording", "take", "start", "end")
    plain = ("factors", "classes", "source")
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in arrays
    ) and all(getattr(one, name) == getattr(other, name) for name in plain)


@pytest.mark.parametrize("mmap", [False, True])
def test_what_is_written_reads_back_equal(tmp_path: Path, mmap: bool) -> None:
    latents = make()
    latents.start[3] = np.nan
    folder = write_latents(tmp_path / ODD, latents)
    found = read_latents(folder, mmap=mmap)
    assert same(latents, found)
    assert isinstance(found.values, np.memmap) is mmap
    assert not list(folder.glob(".*"))
    assert same(found.take_rows(np.array([5, 2])), latents.take_rows(np.array([5, 2])))


def test_latents_without_rows_can_be_kept(tmp_path: Path) -> None:
    empty = make().take_rows(slice(0, 0))
    assert same(read_latents(write_latents(tmp_path, empty)), empty)


def test_two_arrays_alone_are_latents_whose_conditions_are_recordings(tmp_path: Path) -> None:
    values = np.arange(8.0).reshape(4, 2)
    np.save(tmp_path / "X.npy", values)
    np.save(tmp_path / "Y.npy", np.array([[0.0, 2], [1, 0], [0, 2], [1, 1]]))
    found = read_latents(tmp_path)
    assert found.values.dtype == np.float32
    assert found.factors == ("factor1", "factor2")
    assert found.classes == (("0", "1"), ("0", "1", "2"))
    assert found.recording.tolist() == found.take.tolist() == [0, 1, 0, 2]
    assert np.isnan(found.start).all()
    named = read_latents(tmp_path, factors=("m", "a"), classes=(("W", "M"), ("T", "R", "D")))
    assert (named.factors, named.classes[1]) == (("m", "a"), ("T", "R", "D"))
    with pytest.raises(DataError, match="labels of m go from 0 to 1"):
        read_latents(tmp_path, factors=("m", "a"), classes=(("W",), ("T", "R", "D")))


def test_one_factor_may_be_a_plain_list(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", np.zeros((3, 2), np.float32))
    np.save(tmp_path / "Y.npy", np.array([0, 1, 1]))
    assert read_latents(tmp_path).labels.shape == (3, 1)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("X", np.zeros(3), r"X\.npy.*2 axes"),
        ("X", np.full((60, 4), np.nan), r"X\.npy.*NaN"),
        ("X", np.full((120, 4), "a"), r"X\.npy.*not numbers"),
        ("X", np.zeros((7, 4)), r"7 rows and Y\.npy 120"),
        ("X", np.array([{}]), r"X\.npy.*not a readable array"),
        ("Y", np.full((120, 2), 0.5), r"Y\.npy.*not whole"),
        ("Y", np.full((120, 2), -1), "labels of material go from -1"),
        ("Y", np.full((120, 2), 9), "9, but it has 3 classes"),
        ("Y", np.zeros((120, 3), int), r"\(n, 2\)"),
        ("T", np.zeros((120, 3)), r"T\.npy"),
        ("T", np.full((120, 4), np.nan), r"T\.npy"),
    ],
)
def test_files_that_do_not_go_together_are_named(
    tmp_path: Path, name: str, values: np.ndarray, message: str
) -> None:
    write_latents(tmp_path, make())
    np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read_latents(tmp_path)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"X\.npy: no such file"):
        read_latents(tmp_path)
    write_latents(tmp_path, make())
    whole = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"X\.npy: not a readable"):
        read_latents(tmp_path)
    (tmp_path / "X.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"X\.npy: not a readable"):
        read_latents(tmp_path)
    (tmp_path / "X.npy").write_bytes(whole)
    for text, message in (("{", "not readable"), ("[]", "does not describe")):
        (tmp_path / "latents.json").write_text(text)
        with pytest.raises(DataError, match=message):
            read_latents(tmp_path)
    about = {"format": "coala_latent.latents", "version": 99}
    (tmp_path / "latents.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="version 99"):
        read_latents(tmp_path)


def test_an_interrupted_write_leaves_no_latents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_latents(tmp_path, make())

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        write_latents(tmp_path, make(takes=2))
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"Y\.npy: no such file"):
        read_latents(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_only_float32_stays_on_disk(tmp_path: Path) -> None:
    write_latents(tmp_path, make())
    np.save(tmp_path / "X.npy", make().values.astype(np.float64))
    assert read_latents(tmp_path).values.dtype == np.float32
    with pytest.raises(DataError, match="float64"):
        read_latents(tmp_path, mmap=True)


def test_a_subset_numbers_its_classes_anew() -> None:
    latents = make()
    found = latents.subset({"material": ["glass", "wood"], "1": [1]})
    assert found.classes == (("glass", "wood"), ("rub",))
    assert len(found) == 2 * 4 * 5
    expected = latents.values[(latents.labels[:, 1] == 1) & (latents.labels[:, 0] != 1)]
    assert np.array_equal(np.sort(found.values, axis=None), np.sort(expected, axis=None))
    assert set(found.labels[:, 1]) == {0}
    wood = found.values[found.labels[:, 0] == 1]
    assert np.array_equal(wood, latents.values[(latents.labels == (0, 1)).all(axis=1)])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"colour": ["red"]}, "no 'colour'"),
        ({"material": ["stone"]}, "material: no 'stone'"),
        ({"2": [0]}, "no '2'"),
        ({"material": []}, "at least one"),
        ({"material": ["wood", 0]}, "each once"),
    ],
)
def test_a_subset_of_what_is_not_there_is_told(wanted: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make().subset(wanted)


def test_a_subset_without_rows_is_told() -> None:
    latents = make().take_rows(make().labels[:, 0] == 0)
    with pytest.raises(DataError, match="no row"):
        latents.subset({"material": ["metal"]})


def test_shapes_that_do_not_go_together_are_told() -> None:
    good = vars(make())
    for name, value, message in (
        ("take", np.zeros(3, np.int64), "take must be"),
        ("labels", np.zeros((120, 3), np.int64), "do not go together"),
        ("classes", (("a",),), "list of classes"),
        ("factors", ("one", "one"), "name of its own"),
    ):
        with pytest.raises(DataError, match=message):
            LabelledLatents(**{**good, name: value})


def test_combinations_are_counted_in_order() -> None:
    found, which = combinations(np.array([[1, 0], [0, 1], [1, 0]]))
    assert found.tolist() == [[0, 1], [1, 0]]
    assert which.tolist() == [1, 0, 1]


def test_instances_are_sorted_by_number_and_labelled_by_the_longest_prefix(tmp_path: Path) -> None:
    for file, number in (("WT", 10), ("WT", 9), ("WTx ö", 0), ("MR", 0)):
        np.save(tmp_path / f"{file}_X_{number}.npy", np.full((2, 3), number, np.float64))
    (tmp_path / "notes.txt").touch()
    labels = {"W": (9, 9), "WT": (0, 0), "WTx": (0, 1), "M": (1, 1)}
    found = read_instances(tmp_path, labels)
    assert found.files == ("MR", "WT", "WTx ö")
    assert found.number.tolist() == [0, 9, 10, 0]
    assert found.values[:, 0].tolist() == [0, 9, 10, 0]
    assert found.labels.tolist() == [[1, 1], [0, 0], [0, 0], [0, 1]]
    latents = from_instances(tmp_path, labels, factors=("m", "a"))
    assert latents.values.shape == (4, 6)
    assert latents.start[1] == pytest.approx(9 * 0.48)
    assert latents.take.tolist() == [0, 1, 1, 2]
    with pytest.raises(DataError, match=r"MR_X_0.*add the beginning"):
        read_instances(tmp_path, {"W": (0, 0)})
    with pytest.raises(DataError, match="1 labels"):
        read_instances(tmp_path, {**labels, "WT": (0,)})


def test_instances_may_have_their_labels_beside_them(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"WT_X_{number}.npy", np.zeros(4))
        np.save(tmp_path / f"WT_Y_{number}.npy", np.array([number, 1.0]))
    assert read_instances(tmp_path).labels[:, 0].tolist() == [0, 1, 2]
    (tmp_path / "WT_Y_1.npy").unlink()
    with pytest.raises(DataError, match=r"WT_Y_1\.npy: no such file"):
        read_instances(tmp_path)


def test_instances_of_different_sizes_or_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no instances"):
        read_instances(tmp_path / "gone", {})
    np.save(tmp_path / "a_X_0.npy", np.zeros(4))
    np.save(tmp_path / "a_X_1.npy", np.zeros(5))
    with pytest.raises(DataError, match=r"a_X_1\.npy: has 5 values"):
        read_instances(tmp_path, {"a": [0]})


def test_finished_latents_find_either_layout(tmp_path: Path) -> None:
    write_latents(tmp_path / "folder", make())
    source = FinishedLatents(tmp_path / "folder", keep={"material": ["wood", "glass"]})
    assert source.load().classes[0] == ("wood", "glass")
    assert str(tmp_path) not in json.dumps(source.describe())
    np.save(tmp_path / "WT_X_0.npy", np.zeros(4))
    assert FinishedLatents(tmp_path, prefixes={"WT": [0, 0]}).load().dim == 4
    with pytest.raises(DataError, match=r"X\.npy: no such file"):
        FinishedLatents(tmp_path / "gone").load()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / f"{ODD}.h5"
    identity = StoreIdentity("yamnet", "ab", {}, {}, "layer9", "flatten", 3)
    with StoreWriter(path, identity) as writer:
        for number, name in enumerate(("b.wav", f"{ODD}.wav", "bad.wav")):
            writer.begin(name)
            if name == "bad.wav":
                writer.commit(FileRecord(name, "failed", "no sound"))
                continue
            rows = np.full((2 + number, 3), number, np.float32)
            start = np.arange(len(rows)) * 0.5
            writer.append(rows, start, start + 1)
            writer.commit(FileRecord(name, "ok", duration=2.0))
    return path


def test_rows_of_a_store_have_the_classes_of_their_files(store: Path) -> None:
    table = {"b.wav": ("wood", "tap"), f"{ODD}.wav": ("glass", "tap"), "unused.wav": ("x", "y")}
    found = from_store(store, table, ("material", "action"))
    assert found.classes == (("glass", "wood"), ("tap",))
    assert found.labels.tolist() == [[1, 0]] * 2 + [[0, 0]] * 3
    assert found.recording.tolist() == found.values[:, 0].tolist() == [0, 0, 1, 1, 1]
    assert found.source["layer"] == "layer9"
    ordered = from_store(
        *(store, table, ("material", "action"), {"b.wav": "1", f"{ODD}.wav": "1"}),
        (("wood", "stone", "glass"), ("tap",)),
    )
    assert ordered.labels[:, 0].tolist() == [0, 0, 2, 2, 2]
    assert set(ordered.take) == {0}


def test_files_of_a_store_without_classes_are_told(store: Path) -> None:
    table = {"b.wav": ("wood",), f"{ODD}.wav": ("glass",)}
    with pytest.raises(DataError, match="not in the table"):
        from_store(store, {"b.wav": ("wood",)}, ("material",))
    with pytest.raises(DataError, match="1 labels for 2 factors"):
        from_store(store, table, ("material", "action"))
    with pytest.raises(DataError, match=r"no take of b\.wav"):
        from_store(store, table, ("material",), {f"{ODD}.wav": "0"})
    with pytest.raises(DataError, match="no 'wood'"):
        from_store(store, table, ("material",), None, (("glass",),))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.3, 0.5, 0.95])
def test_takes_stay_together_and_every_condition_is_in_both_parts(
    shared: bool, share: float
) -> None:
    latents = make(shared=shared)
    for seed in range(5):
        train, held = split_by_take(latents, share, seed)
        assert sorted([*train, *held]) == list(range(len(latents)))
        assert not set(latents.take[train]) & set(latents.take[held])
        for part in (train, held):
            assert len(combinations(latents.labels[part])[0]) == 6
        expected = np.clip(round(share * 4), 1, 3) / 4
        assert len(held) / len(latents) == pytest.approx(expected, abs=0.01)


def test_overlapping_takes_never_empty_a_condition_of_training() -> None:
    # Three conditions of two takes each, every take in two of them.
    labels = np.array([[0], [0], [1], [1], [2], [2]])
    take = np.array([1, 2, 2, 3, 1, 3])
    values = np.zeros((6, 2), np.float32)
    unknown = np.full(6, np.nan)
    latents = LabelledLatents(
        values, labels, ("f",), (("a", "b", "c"),), take, take, unknown, unknown
    )
    for seed in range(20):
        train, held = split_by_take(latents, 0.5, seed)
        assert len(held)
        assert set(labels[train, 0]) == {0, 1, 2}


def test_a_condition_with_one_take_stays_in_training() -> None:
    latents = make()
    lone = (latents.labels == (2, 1)).all(axis=1) & (latents.take > 0)
    fewer = latents.take_rows(~lone)
    for seed in range(5):
        _, held = split_by_take(fewer, 0.25, seed)
        assert 0 not in fewer.take[held]


def test_one_take_a_condition_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match="only take"):
        split_by_take(make(takes=1, shared=False), 0.5)
    with pytest.raises(DataError, match="0 rows"):
        split_by_take(make().take_rows(slice(0, 0)), 0.5)


def test_blocks_of_time_leave_the_gap() -> None:
    latents = make(rows=40, takes=1)
    train, held = split_by_time(latents, 0.3, 2.0)
    for recording in range(6):
        last = latents.end[train][latents.recording[train] == recording].max()
        first = latents.start[held][latents.recording[held] == recording].min()
        assert first - last >= 2.0
        assert first - last < 2.0 + 2 * 0.48
    assert len(held) / len(latents) == pytest.approx(0.3, abs=0.05)
    closer, _ = split_by_time(latents, 0.3, 0.0)
    assert len(closer) > len(train)
    assert latents.end[closer].max() <= latents.start[held].min()


def test_time_blocks_of_short_or_timeless_recordings_are_told() -> None:
    with pytest.raises(DataError, match="recording 0 is too short"):
        split_by_time(make(rows=3), 0.3, 2.0)
    latents = make()
    latents.end[0] = np.nan
    with pytest.raises(DataError, match="not every row has times"):
        split_by_time(latents, 0.3, 0.0)
    with pytest.raises(ConfigError, match="gap_seconds"):
        split_by_time(make(), 0.3, -1.0)


def test_random_rows_are_split_only_under_their_name() -> None:
    latents = make()
    train, held = split_rows(latents, 0.3, 1, protocol="original")
    assert len(held) == 36
    assert sorted([*train, *held]) == list(range(120))
    assert set(latents.take[train]) & set(latents.take[held]), "it leaks, as the original"
    with pytest.raises(ConfigError, match="must not be on both sides"):
        split_rows(latents, 0.3, 1, protocol="honest")
    with pytest.raises(DataError, match="1 rows"):
        split_rows(latents.take_rows(slice(0, 1)), 0.5, protocol="original")


@pytest.mark.parametrize("kind", ["take", "time", "original"])
def test_splits_by_name_repeat_and_refuse_impossible_shares(kind: str) -> None:
    latents = make(rows=30)
    once = split_latents(latents, kind, 0.25, 0.5, seed=4)
    again = split_latents(latents, kind, 0.25, 0.5, seed=4)
    assert all(np.array_equal(one, other) for one, other in zip(once, again, strict=True))
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            split_latents(latents, kind, share)
    with pytest.raises(ConfigError, match="take, time, original"):
        split_latents(latents, "rows")
