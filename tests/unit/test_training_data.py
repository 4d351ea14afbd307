"""Sources, splits and patches of the training data."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from coala_latent.audio.frontends import CoalaLegacy, CoalaStandard
from coala_latent.data.coala import TaggedPatches
from coala_latent.data.epochs import EpochBatches, split_by_group
from coala_latent.data.sources import BuiltinSounds, TaggedFolder, class_tags
from coala_latent.data.spectrograms import (
    ClipSet,
    TaggedClip,
    TrainingPatches,
    ValidationPatches,
    fit_standardisation,
)
from coala_latent.errors import AudioNotFoundError, ConfigError, DataError

WriteSound = Callable[..., tuple[Path, np.ndarray]]
PATCH = 8


def clip(frames: int, label: str = "a", group: str = "g", start: float = 0.0) -> TaggedClip:
    """A clip whose value tells the frame."""
    values = np.tile(np.arange(frames, dtype=np.float32) + np.float32(start), (4, 1))
    return TaggedClip(values, (label,), label, group, "test")


@pytest.fixture
def clips() -> ClipSet:
    made = [clip(20), clip(5, "b", start=100), clip(40, start=200), clip(8, "b", start=300)]
    return ClipSet.pack(made, ("a", "b"), PATCH)


def test_a_cut_holds_the_asked_frames_of_the_asked_clip(clips: ClipSet) -> None:
    batch = clips.cut(np.array([2, 0]), np.array([7, 12]))
    assert batch.patches.shape == (2, 4, PATCH)
    assert torch.equal(batch.patches[0, 0], torch.arange(207.0, 215.0))
    assert torch.equal(batch.patches[1, 3], torch.arange(12.0, 20.0))
    assert batch.mask.all()
    assert torch.equal(batch.tags, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_frames_behind_the_end_are_masked_and_never_another_clips(clips: ClipSet) -> None:
    batch = clips.cut(np.array([1]), np.array([0]))
    assert batch.mask[0].tolist() == [True] * 5 + [False] * 3
    assert batch.patches.max() < 105


def test_an_epoch_has_every_clip_as_often_as_asked(clips: ClipSet) -> None:
    patches = TrainingPatches(clips, batch_size=3, crops=3, drop_last=False)
    for epoch in (0, 1):
        seen = torch.cat([patches[epoch, batch].clip for batch in range(len(patches))])
        assert seen.bincount().tolist() == [3, 3, 3, 3]


def test_patches_depend_on_seed_epoch_and_batch_alone(clips: ClipSet) -> None:
    one, two = (TrainingPatches(clips, 2, crops=2, seed=5) for _ in range(2))
    for _ in range(3):
        two[7, 0]
    order = [(e, b) for e in (3, 0) for b in (1, 0)]
    for place in order:
        first, second = one[place], two[place]
        assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    other = TrainingPatches(clips, 2, crops=2, seed=6)
    stack = [torch.cat([p[e, b].patches for b in range(4)]) for p, e in ((one, 0), (one, 1))]
    assert not torch.equal(*stack)
    assert not torch.equal(stack[0], torch.cat([other[0, b].patches for b in range(4)]))


def test_random_crops_reach_both_ends_of_a_clip() -> None:
    clips = ClipSet.pack([clip(PATCH + 2)], ("a",), PATCH)
    patches = TrainingPatches(clips, 60, crops=60)
    assert set(patches[0, 0].patches[:, 0, 0].tolist()) == {0.0, 1.0, 2.0}


def test_the_loudest_patch_is_found_on_the_originals_grid() -> None:
    values = np.zeros((4, 60), dtype=np.float32)
    values[:, 25:33] = 1.0
    made = TaggedClip(values, ("a",), "a", "g", "test")
    clips = ClipSet.pack([made, clip(3), clip(PATCH)], ("a",), PATCH)
    assert clips.loudest.tolist() == [24, 0, 0]
    patches = TrainingPatches(clips, 3, crop="max_energy")
    batch = patches[0, 0]
    row = batch.clip.tolist().index(0)
    assert batch.patches[row, 0].sum() == 7


def test_workers_and_process_give_the_same_batches(clips: ClipSet) -> None:
    patches = TrainingPatches(clips, 2, crops=2)
    sampler = EpochBatches(len(patches))
    sampler.set_epoch(4)
    plain = list(DataLoader(patches, batch_size=None, sampler=sampler))
    worked = list(DataLoader(patches, batch_size=None, sampler=sampler, num_workers=1))
    assert len(plain) == 4
    for one, two in zip(plain, worked, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))
    assert torch.equal(pickle.loads(pickle.dumps(patches))[4, 0].patches, plain[0].patches)


def test_processes_share_an_epochs_batches_without_overlap() -> None:
    parts = [list(EpochBatches(7, rank, 3)) for rank in range(3)]
    assert {len(part) for part in parts} == {2}
    assert sorted(place for part in parts for place in part) == [(0, batch) for batch in range(6)]


def test_more_processes_than_batches_are_told(esc: Path) -> None:
    data = TaggedPatches(
        TaggedFolder(str(esc)), CoalaStandard(), batch_size=2, crops=1, validation=0.3, quiet=True
    )
    data.setup()
    batches = len(data.train_dataloader())
    trainer: Any = SimpleNamespace(global_rank=0, world_size=batches)
    data.trainer = trainer
    assert len(data.train_dataloader()) == 1
    trainer.world_size = batches + 1
    with pytest.raises(DataError, match=rf"{batches} batches for {batches + 1} processes"):
        data.train_dataloader()


def test_too_few_clips_for_a_batch_and_bad_settings_are_told(clips: ClipSet) -> None:
    with pytest.raises(DataError, match="batch_size"):
        TrainingPatches(clips, 5)
    with pytest.raises(ConfigError, match="max_energy"):
        TrainingPatches(clips, 2, crop="middle")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch_size"):
        TrainingPatches(clips, 1)
    with pytest.raises(DataError, match="no clips"):
        ClipSet.pack([], (), PATCH)
    with pytest.raises(DataError, match="vocabulary"):
        ClipSet.pack([clip(9, "z")], ("a",), PATCH)


def test_a_last_batch_of_one_is_left_out() -> None:
    clips = ClipSet.pack([clip(9) for _ in range(5)], ("a",), PATCH)
    assert len(TrainingPatches(clips, 2, drop_last=False)) == 2
    assert len(TrainingPatches(clips, 3, drop_last=False)) == 2
    assert len(TrainingPatches(clips, 3, drop_last=True)) == 1


def test_validation_cuts_what_the_encoder_would_embed() -> None:
    front_end = CoalaStandard()
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, n).astype(np.float32) for n in (22000 * 5, 22000, 150000)]
    made = [
        TaggedClip(front_end.log_mel(torch.from_numpy(w)).numpy(), ("a",), "a", "g", "t")
        for w in waves
    ]
    clips = ClipSet.pack(made, ("a",), 96)
    patches = ValidationPatches(clips, front_end.framing, batch_size=2)
    batches = [patches[i] for i in range(len(patches))]
    assert next(iter(DataLoader(patches, batch_size=None))).patches.shape == (2, 96, 96)
    scaled = torch.cat([front_end.scale(b.patches, b.mask) for b in batches])
    expected = torch.cat([front_end(torch.from_numpy(w)) for w in waves])
    assert torch.allclose(scaled, expected, atol=1e-6)
    with pytest.raises(IndexError):
        patches[len(patches)]


def test_standardisation_is_per_band_over_the_chosen_clips_only() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(3, 2, (4, n)).astype(np.float32) for n in (30, 50, 70)]
    values[0][1] = 7.0
    made = [TaggedClip(v, ("a",), "a", "g", "t") for v in values]
    clips = ClipSet.pack(made, ("a",), PATCH)
    chosen = np.array([0, 2])
    mean, std = fit_standardisation(clips.subset(chosen))
    joined = np.concatenate([values[0], values[2]], axis=1)
    assert np.allclose(mean, joined.mean(1), atol=1e-5)
    assert np.allclose(std, joined.std(1), atol=1e-5)
    _, floor = fit_standardisation(ClipSet.pack([made[0]], ("a",), PATCH))
    assert floor[1] == pytest.approx(0.1)


def test_groups_are_never_split_and_every_class_is_on_both_sides() -> None:
    labels = ["a"] * 20 + ["b"] * 20 + ["single"] * 3
    groups = [f"g{i // 2}" for i in range(40)] + ["s"] * 3
    train, validation = split_by_group(labels, groups, 0.2, seed=1)
    assert sorted([*train, *validation]) == list(range(43))
    assert not {groups[i] for i in train} & {groups[i] for i in validation}
    assert [sum(labels[i] == c for i in validation) for c in ("a", "b", "single")] == [4, 4, 0]
    again = split_by_group(labels, groups, 0.2, seed=1)
    assert np.array_equal(validation, again[1])
    assert not np.array_equal(validation, split_by_group(labels, groups, 0.2, seed=2)[1])


def test_impossible_splits_are_told() -> None:
    with pytest.raises(DataError, match="recordings"):
        split_by_group(["a", "a"], ["g", "g"], 0.5, 0)
    with pytest.raises(ConfigError, match="validation"):
        split_by_group(["a", "a"], ["g", "h"], 1.0, 0)


def test_built_in_takes_stay_on_one_side_and_scaling_is_fitted_on_training() -> None:
    front_end = CoalaStandard()
    data = TaggedPatches(
        BuiltinSounds(takes=3, clips_per_take=1, duration=0.6),
        front_end,
        batch_size=16,
        validation=0.3,
        quiet=True,
    )
    data.setup()
    data.setup()
    assert not set(data.train_clips.groups) & set(data.validation_clips.groups)
    assert (len(data.train_clips), len(data.validation_clips)) == (48, 24)
    assert torch.equal(front_end.mean, fit_standardisation(data.train_clips)[0])
    assert "metal" in data.vocabulary
    assert (data.train_clips.tags.sum(1) >= 2).all()
    batch = next(iter(data.train_dataloader()))
    assert batch.patches.shape == (16, 96, 96)
    assert not batch.mask.all()
    assert sum(len(b.clip) for b in data.val_dataloader()) == 24
    assert len(data.summary()["sha256"]) == 64


def test_legacy_patches_are_whole_even_of_short_sounds(write_sound: WriteSound) -> None:
    path = write_sound("c/x/a.wav", seconds=0.5)[0]
    (made,) = TaggedFolder(str(path.parent.parent)).clips(CoalaLegacy(), quiet=True)
    assert made.frames.shape == (96, 430)


@pytest.mark.parametrize(
    ("name", "tags"),
    [
        ("001 - Dog bark", ("dog", "bark")),
        ("Crying_baby", ("crying", "baby")),
        ("rain rain", ("rain",)),
        ("Vögel & Wasser", ("vögel", "wasser")),
        ("007", ("007",)),
    ],
)
def test_words_of_a_class_become_tags(name: str, tags: tuple[str, ...]) -> None:
    assert class_tags(name) == tags


@pytest.fixture
def esc(tmp_path: Path, write_sound: WriteSound) -> Path:
    """Three folds, two classes, two sources each; names as in ESC-10."""
    for fold in (1, 2, 3):
        for label in ("001 - Dog bark", "002 - Rain"):
            for source in (fold * 10, fold * 10 + 1):
                number = source + (5 if "Rain" in label else 0)
                write_sound(f"{label}/{fold}-{number}-A.wav", 0.4, 22000, folder=tmp_path)
    return tmp_path


def test_the_test_fold_is_not_even_opened(esc: Path) -> None:
    for path in esc.glob("*/2-*"):
        path.write_bytes(b"would be named if it were opened")
    source = TaggedFolder(str(esc), fold=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clips = source.clips(CoalaStandard(), quiet=True)
    assert len(clips) == 8
    assert not any(Path(c.source).name.startswith("2-") for c in clips)
    assert {c.group for c in clips} == {"10", "11", "15", "16", "30", "31", "35", "36"}


def test_sources_of_the_test_fold_are_not_trained_on_in_other_folds(
    esc: Path, write_sound: WriteSound
) -> None:
    write_sound("002 - Rain/1-20-B.wav", 0.4, 22000, folder=esc)
    names = {path.name for path in TaggedFolder(str(esc), fold=2).files()}
    assert "1-20-B.wav" not in names
    assert "1-20-B.wav" in {path.name for path in TaggedFolder(str(esc)).files()}


def test_a_fold_that_no_file_has_is_told(esc: Path, write_sound: WriteSound) -> None:
    with pytest.raises(DataError, match="folds: 1, 2, 3"):
        TaggedFolder(str(esc), fold=9).files()
    other = write_sound("plain/rain.wav", folder=esc / "other")[0]
    with pytest.raises(DataError, match="fold-source-take"):
        TaggedFolder(str(other.parent.parent), fold=1).files()


def test_unreadable_files_are_named_and_left_out(esc: Path, write_sound: WriteSound) -> None:
    (esc / "002 - Rain" / "brökén, file=1.wav").write_bytes(b"RIFF not really")
    (esc / "002 - Rain" / "empty.ogg").touch()
    source = TaggedFolder(str(esc))
    with pytest.warns(UserWarning, match=r"brökén, file=1\.wav") as caught:
        clips = source.clips(CoalaStandard(), quiet=True)
    assert "empty.ogg" in str(caught[0].message)
    assert len(clips) == 12
    assert sorted(source.describe()["skipped"]) == ["brökén, file=1.wav", "empty.ogg"]


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AudioNotFoundError):
        TaggedFolder(str(tmp_path / "missing")).clips(CoalaStandard(), quiet=True)
    with pytest.raises(DataError, match="own folder"):
        TaggedFolder(str(tmp_path)).clips(CoalaStandard(), quiet=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "bad.wav").write_bytes(b"no sound")
    with (
        pytest.warns(UserWarning, match="bad.wav"),
        pytest.raises(DataError, match="none of its sound files"),
    ):
        TaggedFolder(str(tmp_path)).clips(CoalaStandard(), quiet=True)


def test_the_description_changes_with_the_files(esc: Path, write_sound: WriteSound) -> None:
    before = TaggedFolder(str(esc)).describe()
    assert before == TaggedFolder(str(esc)).describe()
    write_sound("002 - Rain/3-99-A.wav", 0.5, 22000, folder=esc)
    after = TaggedFolder(str(esc)).describe()
    assert after["files"] == before["files"] + 1
    assert after["sha256"] != before["sha256"]
