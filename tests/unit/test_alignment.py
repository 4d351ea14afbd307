"""Objectives: losses fall, weights and metrics mean what they say, the paper's settings run."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from coala_latent.audio.frontends import CoalaStandard
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError
from coala_latent.models.coala import Coala
from coala_latent.registry import build_module
from coala_latent.tasks.train import config_folder
from coala_latent.training.alignment import CoalaAlignment
from coala_latent.training.augment import PatchAugment, hide_tags
from coala_latent.training.losses import (
    AlignmentLoss,
    ContrastiveLoss,
    OriginalAlignment,
    SigmoidAlignment,
)
from coala_latent.training.metrics import (
    average_precision,
    clip_means,
    retrieval_scores,
    tag_average_precision,
)
from coala_latent.training.objective import StepSeed
from coala_latent.training.tagging import CoalaTagging

ADAMW = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.01)


def batch(size: int = 16, classes: int = 4, seed: int = 0) -> PatchBatch:
    """Patches whose class is the band where they are loud."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(size) % classes
    patches = torch.randn(size, 96, 96, generator=generator)
    for row, kind in enumerate(label.tolist()):
        patches[row, kind * 20 : kind * 20 + 10] += 4.0
    tags = torch.nn.functional.one_hot(label, classes).float()
    mask = torch.ones(size, 96, dtype=torch.bool)
    return PatchBatch(patches, mask, tags, torch.arange(size))


def coala(tags: int = 4, **sizes: Any) -> Coala:
    torch.manual_seed(0)
    module = build_module(
        "coala", {"name": "coala_standard"}, {"channels": 4, "tags": tags, "hidden": 16, **sizes}
    )
    assert isinstance(module, Coala)
    return module


def objective(**options: Any) -> CoalaAlignment:
    contrastive = options.pop("contrastive", None) or AlignmentLoss()
    return CoalaAlignment(coala(), contrastive, ADAMW, **options)


def trainer(folder: Path, **options: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        num_sanity_val_steps=0,
        **options,
    )


def loader(*batches: PatchBatch) -> torch.utils.data.DataLoader[PatchBatch]:
    return torch.utils.data.DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_term_falls_and_retrieval_becomes_right(tmp_path: Path) -> None:
    training = objective(audio_weight=0.1, tag_weight=1.0, contrastive_weight=1.0)
    train, validation = [batch(seed=s) for s in range(4)], batch(seed=9)
    runner = trainer(tmp_path, max_epochs=1)
    runner.fit(training, loader(*train), loader(validation))
    before = {name: float(value) for name, value in runner.callback_metrics.items()}
    runner = trainer(tmp_path, max_epochs=25)
    runner.fit(training, loader(*train), loader(validation))
    after = {name: float(value) for name, value in runner.callback_metrics.items()}
    for term in ("audio", "tags", "contrastive", "total"):
        assert after[f"train/{term}"] < before[f"train/{term}"]
    assert after["validation/audio_to_tags_map"] > 0.9
    assert after["validation/tags_to_audio_map"] > 0.9
    assert after["validation/audio_to_tags_recall_at_5"] == 1.0
    assert after["train/temperature"] != pytest.approx(0.1)


def test_the_total_is_the_weighted_sum_and_terms_are_unweighted() -> None:
    training = objective(audio_weight=2.0, tag_weight=3.0, contrastive_weight=4.0).eval()
    terms, z_d = training.losses(batch())
    expected = 2 * terms["audio"] + 3 * terms["tags"] + 4 * terms["contrastive"]
    assert training.total(terms).item() == pytest.approx(expected.item(), rel=1e-6)
    assert z_d.shape == (16, 36)


def test_reconstruction_reaches_the_encoders_and_alignment_not_the_decoders() -> None:
    def gradients(**weights: float) -> set[str]:
        training = objective(**weights)
        training.total(training.losses(batch())[0]).backward()
        return {
            name.split(".")[1]
            for name, p in training.named_parameters()
            if p.grad is not None and p.grad.abs().sum() > 0 and name.startswith("model.")
        }

    zero = {"audio_weight": 0.0, "tag_weight": 0.0, "contrastive_weight": 0.0}
    assert gradients(**{**zero, "audio_weight": 1.0}) == {"audio_encoder", "audio_decoder"}
    assert gradients(**{**zero, "tag_weight": 1.0}) == {"tag_encoder", "tag_decoder"}
    assert gradients(**{**zero, "contrastive_weight": 1.0}) == {"audio_encoder", "tag_encoder"}


def test_a_weight_without_its_decoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="audio_weight=5"):
        CoalaAlignment(coala(decoders=False), AlignmentLoss(), ADAMW)
    CoalaAlignment(coala(decoders=False), AlignmentLoss(), ADAMW, audio_weight=0, tag_weight=0)


def test_biases_norms_and_temperature_do_not_decay() -> None:
    optimizer = objective().configure_optimizers()
    decayed, others = optimizer.param_groups
    assert decayed["weight_decay"] == 0.01
    assert others["weight_decay"] == 0.0
    assert all(p.ndim > 1 for p in decayed["params"])
    assert any(p.ndim == 0 for p in others["params"])


COLD = [AlignmentLoss(0.01), OriginalAlignment(0.01), SigmoidAlignment(0.01)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("loss", COLD, ids=lambda loss: type(loss).__name__)
def test_training_in_half_precision_stays_finite(tmp_path: Path, loss: ContrastiveLoss) -> None:
    training = objective(contrastive=loss)
    runner = trainer(tmp_path, max_steps=2, precision="bf16-mixed")
    runner.fit(training, loader(batch(), batch(seed=1)))
    assert math.isfinite(float(runner.callback_metrics["train/total"]))
    assert all(torch.isfinite(p).all() for p in training.parameters())


@pytest.mark.parametrize("kind", ["coala", "coala_resnet", "coala_attention", "coala_mean_tags"])
def test_losses_and_gradients_in_float16_are_finite(kind: str) -> None:
    torch.manual_seed(0)
    module = build_module(kind, {"name": "coala_standard"}, {"channels": 4, "tags": 4})
    training = CoalaAlignment(module, AlignmentLoss(0.01), ADAMW, tag_weight=0)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.float16):
        terms, z_d = training.losses(batch())
    assert z_d.dtype == torch.float16
    assert {term.dtype for term in terms.values()} == {torch.float32}
    training.total(terms).backward()
    for name, parameter in training.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 9])
def test_masking_hides_its_share_of_present_tags_rounded_down(count: int) -> None:
    tags = torch.zeros(50, 12)
    tags[:, 12 - count :] = 1
    torch.manual_seed(0)
    seen = hide_tags(tags, 0.4)
    assert ((tags - seen) >= 0).all()
    hidden = (tags - seen).sum(1)
    assert set(hidden.tolist()) == {math.floor(0.4 * count)}
    if count == 5:
        assert len(seen.unique(dim=0)) == 10, "all pairs of tags are drawn"


def test_masking_leaves_a_tag_and_rounds_as_in_decimals() -> None:
    ones = torch.ones(1, 10)
    assert hide_tags(ones, 0.3).sum() == 7
    assert hide_tags(ones, 0.999999).sum() == 1
    assert torch.equal(hide_tags(ones, 0.0), ones)
    with pytest.raises(ConfigError, match="tag_masking=1"):
        objective(tag_masking=1.0)


def test_masked_tags_are_hidden_from_the_encoder_in_training_alone() -> None:
    training = objective(tag_masking=0.5, tag_weight=1.0)
    full = batch()._replace(tags=torch.ones(16, 4))
    seen, wanted = [], []
    training.model.tag_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    training.contrastive.register_forward_pre_hook(lambda _, given: wanted.append(given[2]))
    training.train().losses(full)
    training.eval().losses(full)
    assert set(seen[0].sum(1).tolist()) == {2.0}
    assert torch.equal(seen[1], full.tags)
    assert all(torch.equal(tags, full.tags) for tags in wanted)


@pytest.mark.parametrize(
    "experiment",
    ["coala_ae_c", "coala_ae_c_masking", "coala_e_c", "coala_cnn", "coala_follow_up"],
)
def test_three_steps_with_the_papers_settings(experiment: str) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"])
    assert config.patches.batch_size == 128
    assert config.model.sizes.channels == 128
    torch.manual_seed(0)
    module = build_module(
        config.model.architecture, config.model.front_end, {**config.model.sizes, "tags": 6}
    )
    training = instantiate(config.objective, model=module)
    assert isinstance(training, CoalaAlignment | CoalaTagging)
    optimizer = training.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["lr"] == 5e-3
    assert optimizer.defaults["momentum"] == 0
    training.log = lambda *args, **options: None  # type: ignore[method-assign, assignment]
    small = batch(6, 6)
    losses = []
    for _ in range(3):
        loss = training.training_step(small, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(map(math.isfinite, losses))
    assert len(set(losses)) == 3
    if experiment == "coala_ae_c_masking":
        assert training.tag_masking == 0.4
    if experiment == "coala_follow_up":
        assert training.weights == {"audio": 5.0, "tags": 0.0, "contrastive": 10.0}
        assert training.model.tag_encoder.heads == 4
    if experiment in ("coala_ae_c", "coala_ae_c_masking"):
        assert training.weights == {"audio": 5.0, "tags": 5.0, "contrastive": 10.0}
        assert config.trainer.max_epochs == 200
    if experiment == "coala_e_c":
        assert training.weights == {"audio": 0.0, "tags": 0.0, "contrastive": 10.0}
        assert module.audio_decoder is None
    if experiment == "coala_cnn":
        assert config.trainer.max_epochs == 100


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_tagging_baseline_learns_its_tags(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build_module("coala_cnn", {"name": "coala_standard"}, {"channels": 4, "tags": 4})
    training = CoalaTagging(module, ADAMW)  # type: ignore[arg-type]
    runner = trainer(tmp_path, max_epochs=25)
    runner.fit(training, loader(*[batch(seed=s) for s in range(4)]), loader(batch(seed=9)))
    assert float(runner.callback_metrics["validation/tag_map"]) > 0.9


def test_steps_are_seeded_whatever_came_before() -> None:
    class Place:
        global_step = 3
        global_rank = 0

    drawn = []
    for noise in (1, 5):
        torch.rand(noise)
        StepSeed(7).on_train_batch_start(Place(), None, None, 0)  # type: ignore[arg-type]
        drawn.append(torch.rand(4))
    Place.global_step = 4
    StepSeed(7).on_train_batch_start(Place(), None, None, 0)  # type: ignore[arg-type]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], torch.rand(4))


def test_augmentation_changes_level_and_pitch_and_leaves_silence_silent() -> None:
    front_end = CoalaStandard()
    silence = torch.full((3, 96, 20), math.log(front_end.eps))
    loud = torch.zeros(3, 96, 20)
    torch.manual_seed(0)
    gain = PatchAugment(gain_db=6, shift=0, gaps=0)
    assert torch.allclose(gain.sound(silence, front_end), silence, atol=1e-4)
    moved = gain.sound(loud, front_end)
    assert (moved - moved[:, :1, :1]).abs().max() < 1e-4
    assert len(set(moved[:, 0, 0].tolist())) == 3
    ramp = torch.arange(96.0)[None, :, None].expand(40, 96, 5)
    shifted = PatchAugment(gain_db=0, shift=2, gaps=0).sound(ramp, front_end)
    assert set((shifted - ramp)[:, 48, 0].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert shifted.min() == 0
    assert shifted.max() == 95


def test_gaps_are_as_long_as_allowed_and_no_longer() -> None:
    torch.manual_seed(0)
    ones = torch.ones(200, 96, 96)
    hidden = PatchAugment(0, 0, gaps=1, frames=10, bands=0).hide(ones)
    lengths = (hidden[:, 0] == 0).sum(1)
    assert (hidden == hidden[:, :1]).all()
    assert lengths.max() == 10
    assert lengths.min() == 0
    assert torch.equal(PatchAugment(0, 0, 0).hide(ones), ones)
    with pytest.raises(ConfigError, match="negative"):
        PatchAugment(gain_db=-1)


def test_augmentation_is_for_training_only() -> None:
    training = objective(augment=PatchAugment())
    clean = batch()
    first = training.eval().inputs(clean)
    assert torch.equal(first[0], first[1])
    heard, target = training.train().inputs(clean)
    assert not torch.equal(heard, target)


def test_average_precision_of_worked_examples() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.5, 0.5]])
    relevant = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]]).bool()
    assert average_precision(scores, relevant).tolist() == pytest.approx([5 / 6, 1 / 4, 1 / 4])


def test_tags_that_no_clip_has_do_not_count() -> None:
    scores = torch.tensor([[0.9, 0.5], [0.1, 0.6]])
    assert tag_average_precision(scores, torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == 1.0


def test_retrieval_of_perfect_wrong_and_collapsed_embeddings() -> None:
    sets, own = torch.eye(3), torch.tensor([0, 1, 2, 0])
    perfect = retrieval_scores(sets[own], sets, own)
    assert set(perfect.values()) == {1.0}
    wrong = retrieval_scores(-sets[own], sets, own)
    assert wrong["audio_to_tags_recall_at_1"] == 0.0
    assert wrong["audio_to_tags_map"] == pytest.approx(1 / 3)
    collapsed = retrieval_scores(torch.ones(4, 3), torch.ones(3, 3), own)
    assert collapsed["audio_to_tags_recall_at_1"] == 0.0


def test_clip_means_are_weighted_by_what_was_heard() -> None:
    rows = torch.tensor([[0.0], [4.0], [8.0]])
    present, means = clip_means(rows, torch.tensor([5, 2, 5]), torch.tensor([3.0, 1.0, 1.0]))
    assert present.tolist() == [2, 5]
    assert means.squeeze().tolist() == [4.0, 2.0]
