"""The objective of teacher-student training."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from coala_latent.audio.raw import RawWaveform
from coala_latent.data.distillation import TeacherCrops
from coala_latent.data.synthetic_teacher import SyntheticTeacher
from coala_latent.data.teacher_clips import Taught, TeacherBatch
from coala_latent.errors import ConfigError
from coala_latent.models.soundnet import SoundNet, SoundNetwork, initialise_
from coala_latent.training.distillation import (
    Distillation,
    interpolate,
    original_weights,
    step_divergence,
    step_times,
)
from coala_latent.training.objective import StepSeed

WIDTHS = [2, 3, 4, 5]


def student(objects: int = 6, scenes: int = 4, widths: list[int] = WIDTHS) -> SoundNet:
    torch.manual_seed(0)
    return SoundNet(RawWaveform(), SoundNetwork(5, widths, objects, scenes))


def objective(model: SoundNet | None = None, **settings: Any) -> Distillation:
    return Distillation(
        student() if model is None else model, partial(torch.optim.Adam, lr=1e-3), **settings
    )


def batch(seconds: float = 8.0, size: int = 2, frames: int = 8) -> TeacherBatch:
    torch.manual_seed(1)
    times = (torch.arange(frames) + 0.5) * seconds / frames
    taught = {
        head: Taught(torch.rand(size, frames, count).softmax(-1), times.repeat(size, 1))
        for head, count in (("objects", 6), ("scenes", 4))
    }
    return TeacherBatch(0.1 * torch.randn(size, round(seconds * 22050)), taught, torch.arange(size))


def test_divergence_of_hand_computed_numbers() -> None:
    teacher = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    student_says = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
    found = step_divergence(teacher, student_says.log())
    assert torch.allclose(found, torch.tensor([0.5 * math.log(2), math.log(2)]))


def test_divergence_is_zero_where_both_agree() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 1000) * 5
    assert step_divergence(logits.softmax(-1), logits.log_softmax(-1)).abs().max() < 1e-5
    other = torch.randn(7, 1000).softmax(-1)
    assert (step_divergence(other, logits.log_softmax(-1)) > 0).all()


def test_weights_are_the_originals() -> None:
    weights = original_weights({"objects": 1000, "scenes": 401})
    assert weights["objects"] == pytest.approx(0.125)
    assert weights["scenes"] == pytest.approx(0.3117, abs=5e-5)
    # The original: mean over batch and classes of each of 4 steps of 2 heads, the sum / 8 * 250.
    torch.manual_seed(0)
    taught = {head: torch.randn(3, 4, n).softmax(-1) for head, n in (("o", 1000), ("s", 401))}
    heard = {head: torch.randn_like(t).log_softmax(-1) for head, t in taught.items()}
    eight = [
        F.kl_div(heard[head][:, step], taught[head][:, step], reduction="none").mean()
        for head in taught
        for step in range(4)
    ]
    original = sum(eight) / 8 * 250
    own = original_weights({"o": 1000, "s": 401})
    ours = sum(own[head] * step_divergence(taught[head], heard[head]).mean() for head in taught)
    assert torch.isclose(original, ours)


def test_the_total_weighs_the_heads() -> None:
    model = student(1000, 401)
    assert objective(model).weights == pytest.approx({"objects": 0.125, "scenes": 0.3117}, abs=1e-4)
    terms = {"objects": torch.tensor(2.0), "scenes": torch.tensor(3.0)}
    assert objective(model).total(terms).item() == pytest.approx(0.25 + 0.9352, abs=1e-3)
    plain = objective(model, weights={"objects": 1.0, "scenes": 0.5})
    assert plain.total(terms).item() == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("depth", "seconds"), [(8, [4.75, 7.72, 10.69, 13.66]), (5, [1.29, 5.75, 10.20, 14.66])]
)
def test_steps_lie_where_the_layers_hear(depth: int, seconds: list[float]) -> None:
    network = SoundNetwork(depth, None if depth == 5 else [2] * 7, 3, 3)
    geometry = network.geometry("objects")
    assert geometry.count(441000) == 4
    times = step_times(geometry, 4, 22050)
    assert np.allclose(times, seconds, atol=0.006)


def test_interpolation_is_linear_within_and_constant_outside() -> None:
    values = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]])
    times = torch.tensor([[1.0, 2.0, 4.0]])
    at = torch.tensor([0.0, 1.0, 1.25, 2.0, 3.0, 4.0, 9.0])
    found = interpolate(values, times, at)[0, :, 0]
    assert torch.allclose(found, torch.tensor([0.0, 0.0, 0.25, 1.0, 0.75, 0.5, 0.5]))
    assert torch.allclose(interpolate(values, times, at).sum(-1), torch.ones(1, 7))


def test_interpolation_ignores_absent_frames() -> None:
    values = torch.tensor([[[0.0], [1.0], [9.0]], [[5.0], [9.0], [9.0]]])
    times = torch.tensor([[1.0, 2.0, math.inf], [3.0, math.inf, math.inf]])
    at = torch.tensor([[1.5, 7.0], [0.0, 7.0]])
    found = interpolate(values, times, at)
    assert found[..., 0].tolist() == [[0.5, 1.0], [5.0, 5.0]]
    # Two frames at one time, as where a repeated clip ends and begins.
    doubled = interpolate(values[:1], torch.tensor([[1.0, 1.0, 2.0]]), torch.tensor([1.0, 1.5]))
    assert doubled.isfinite().all()


def test_interpolation_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 10, (4, 6)), axis=1).astype(np.float32)
    values = rng.normal(size=(4, 6, 3)).astype(np.float32)
    at = rng.uniform(-1, 11, (4, 9)).astype(np.float32)
    found = interpolate(*map(torch.from_numpy, (values, times, at)))
    for row in range(4):
        for channel in range(3):
            expected = np.interp(at[row], times[row], values[row, :, channel])
            assert np.allclose(found[row, :, channel], expected, atol=1e-5)


def test_a_teacher_is_moved_to_the_students_steps() -> None:
    given = batch(12.0)
    compared = objective().compare(given)["objects"]
    assert compared.teacher.shape == compared.log_student.shape == (2 * 3, 6)
    times = step_times(student().network.geometry("objects"), 3, 22050)
    taught = given.teachers["objects"]
    expected = [
        np.interp(times, taught.times[0], taught.probabilities[0, :, name]) for name in range(6)
    ]
    assert np.allclose(compared.teacher[:3].T, expected, atol=1e-5)
    assert torch.allclose(compared.log_student.exp().sum(1), torch.ones(6))


def test_a_student_is_moved_to_the_teachers_frames_that_it_hears() -> None:
    given = batch(12.0, frames=12)
    times = given.teachers["objects"].times.clone()
    times[1, 9:] = math.inf
    given.teachers["objects"] = given.teachers["objects"]._replace(times=times)
    moved = objective(align="teacher").compare(given)["objects"]
    # Steps at 1.29, 5.75 and 10.2 s, 4.46 s apart: frames from -0.9 to 12.4 s, so all there are.
    assert len(moved.teacher) == 12 + 9
    model = student()
    logits = model(given.waveform).objects[0].T[None]
    at = times[:1]
    own = step_times(model.network.geometry("objects"), 3, 22050)[None]
    expected = interpolate(logits, own, at).log_softmax(-1)[0]
    assert torch.allclose(moved.log_student[:12], expected, atol=1e-5)
    far = given.teachers["objects"]._replace(times=times + 1000)
    given.teachers["objects"] = far
    loss = objective(align="teacher", weights={"objects": 1.0}).training_step
    lone = objective(align="teacher", weights={"objects": 1.0}).compare(given)["objects"]
    assert len(lone.teacher) == 0
    assert loss(given, 0).item() == 0


def test_only_weighted_heads_are_trained() -> None:
    both, one = batch(3.0), batch(3.0)
    del one.teachers["scenes"]
    model = student()
    made = objective(model, weights={"objects": 2.0})
    made.training_step(one, 0).backward()
    assert model.network.scenes.weight.grad is None or not model.network.scenes.weight.grad.any()
    assert model.network.objects.weight.grad.any()
    objective(model).training_step(both, 0)
    with pytest.raises(ConfigError, match="no teacher for scenes"):
        objective(model).training_step(one, 0)


def test_settings_that_make_no_sense_are_told() -> None:
    for settings in (
        {"weights": {"smells": 1.0}},
        {"weights": {"objects": 0.0}},
        {"weights": {}},
        {"align": "order"},
    ):
        with pytest.raises(ConfigError):
            objective(**settings)


class Once(lightning.LightningDataModule):
    def __init__(self, *batches: TeacherBatch) -> None:
        super().__init__()
        self.batches = batches

    def val_dataloader(self) -> DataLoader[TeacherBatch]:
        return DataLoader(list(self.batches), batch_size=None)


def trainer(**settings: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_validation_reports_divergence_agreement_and_the_constant_answer() -> None:
    given = batch(8.0)
    made = objective()
    made.eval()
    compared = made.compare(given)["objects"]
    (scores,) = trainer().validate(made, Once(given, given), verbose=False)
    teacher, said = compared.teacher, compared.log_student
    assert scores["validation/objects_kl"] == pytest.approx(
        step_divergence(teacher, said).mean().item(), rel=1e-4
    )
    constant = step_divergence(teacher, teacher.mean(0).log().expand_as(teacher)).mean()
    assert scores["validation/objects_constant_kl"] == pytest.approx(constant.item(), rel=1e-3)
    agreed = (teacher.argmax(1) == said.argmax(1)).float().mean()
    assert scores["validation/objects_top_1"] == pytest.approx(agreed.item())
    assert scores["validation/objects_top_5"] >= scores["validation/objects_top_1"]
    assert "validation/scenes_top_5" not in scores, "five of four classes"
    weights = made.weights
    total = sum(weights[head] * scores[f"validation/{head}_kl"] for head in weights)
    assert scores["validation/total"] == pytest.approx(total, rel=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_validation_uses_running_statistics() -> None:
    given = batch(3.0, size=4)
    parts = [
        TeacherBatch(
            given.waveform[rows],
            {head: Taught(*(t[rows] for t in taught)) for head, taught in given.teachers.items()},
            given.clip[rows],
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]
    made = objective()
    whole = trainer().validate(made, Once(given), verbose=False)[0]
    split = trainer().validate(made, Once(*parts), verbose=False)[0]
    assert split == pytest.approx(whole, rel=1e-4)
    assert made.model.network.conv1.norm.num_batches_tracked == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tiny_student_learns_from_the_synthetic_teacher(tmp_path: Path) -> None:
    teacher = SyntheticTeacher(
        str(tmp_path / "t.h5"), clips=90, segments=1, segment_seconds=2.6, noise=0.3
    )
    model = student(widths=[4, 8, 16, 32])
    initialise_(model.network, torch.Generator().manual_seed(0))
    data = TeacherCrops(
        teacher, model.front_end, crop_seconds=2.6, batch_size=8, validation=0.3, quiet=True
    )
    rate = 3e-3
    made = Distillation(
        model,
        partial(torch.optim.Adam, lr=rate),
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=rate),
        weights={"scenes": 1.0, "objects": 1.0},
    )
    data.setup()
    (before,) = trainer().validate(made, data, verbose=False)
    trained = trainer(max_epochs=8, callbacks=[StepSeed(0)])
    trained.fit(made, data)
    (after,) = trained.validate(made, data, verbose=False)
    baseline = after["validation/scenes_constant_kl"]
    assert before["validation/scenes_kl"] > 0.9 * baseline
    assert after["validation/scenes_kl"] < 0.75 * baseline
    assert after["validation/scenes_top_1"] > 0.6
    # Six materials are harder to tell apart than four actions; something of them is heard too.
    assert after["validation/objects_kl"] < before["validation/objects_kl"]
