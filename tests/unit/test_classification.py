"""Labelled waveforms, and training on them: frozen, slower or whole trunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch import nn

from coala_latent.audio.raw import RawWaveform
from coala_latent.data.labelled_waveforms import LabelledWaveforms, WaveformBatch, WaveformSet
from coala_latent.data.sources import SoundSource, TaggedFolder, TaggedSound
from coala_latent.errors import ConfigError, DataError
from coala_latent.models.classifier import WaveformClassifier
from coala_latent.models.soundnet import SoundNetClassifier, SoundNetwork, initialise_
from coala_latent.training.classification import Classification
from coala_latent.types import Sound

RATE = 22050
WriteSound = Callable[..., tuple[Path, np.ndarray]]


class Tones(SoundSource):
    """Two classes that differ in pitch; every clip has its own length, level and noise."""

    def __init__(self, clips: int = 24, seconds: float = 0.5) -> None:
        self.count = clips
        self.seconds = seconds

    def sounds(self, sample_rate: int, quiet: bool = False) -> Iterator[TaggedSound]:
        rng = np.random.default_rng(0)
        for number in range(self.count):
            label = ("high", "low")[number % 2]
            time = np.arange(round(self.seconds * (1 + number % 3 / 3) * sample_rate))
            pitch = {"high": 2500.0, "low": 250.0}[label] * rng.uniform(0.8, 1.2)
            wave = rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * pitch / sample_rate * time)
            wave += 0.01 * rng.standard_normal(len(time))
            sound = Sound(wave.astype(np.float32), sample_rate)
            yield TaggedSound(sound, (label,), label, f"take {number // 2}", f"{number}")

    def describe(self) -> dict[str, Any]:
        return {"name": "tones"}


def model(depth: int = 5, classes: int = 2, kernel: int = 2) -> WaveformClassifier:
    widths = [4, 6, 8, 10] if depth == 5 else [4, 4, 6, 6, 8, 8, 10]
    network = SoundNetwork(depth, widths, 1, 1)
    made = WaveformClassifier(RawWaveform(), SoundNetClassifier(network, classes, kernel))
    initialise_(made.network, torch.Generator().manual_seed(0))
    return made


def objective(made: nn.Module, lr: float = 1e-3, **settings: Any) -> Classification:
    return Classification(made, partial(torch.optim.Adam, lr=lr), **settings)


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


def data(**settings: Any) -> LabelledWaveforms:
    chosen = {"crop_seconds": 0.5, "batch_size": 8, "validation": 0.25, "quiet": True, **settings}
    return LabelledWaveforms(Tones(), RawWaveform(), **chosen)


def test_a_set_keeps_samples_labels_and_groups() -> None:
    clips = WaveformSet.pack(Tones(6).sounds(RATE), RATE)
    assert clips.classes == ("high", "low")
    assert clips.labels == ("high", "low") * 3
    original = list(Tones(6).sounds(RATE))[3]
    batch = clips.cut(np.array([3, 0]), np.array([100, 0]), 1000)
    assert np.abs(batch.waveform[0].numpy() - original.sound.samples[100:1100]).max() < 2e-5
    assert batch.label.tolist() == [1, 0]
    assert batch.clip.tolist() == [3, 0]
    part = clips.subset(np.array([4, 3]))
    assert torch.equal(part.cut(np.array([1]), np.array([100]), 1000).waveform, batch.waveform[:1])
    assert part.groups == ("take 2", "take 1")


def test_short_clips_are_repeated_and_other_rates_resampled() -> None:
    wave = np.linspace(-0.5, 0.5, 1000, dtype=np.float32)
    sounds = [
        TaggedSound(Sound(wave, RATE), ("a",), "a", "g", "s"),
        TaggedSound(Sound(wave, 2 * RATE), ("b",), "b", "h", "t"),
    ]
    clips = WaveformSet.pack(sounds, RATE)
    assert clips.length.tolist() == [1000, 500]
    batch = clips.cut(np.array([0]), np.array([900]), 2200)
    expected = np.tile(wave, 4)[900:3100]
    assert np.abs(batch.waveform[0].numpy() - expected).max() < 2e-5


def test_one_class_is_not_enough(write_sound: WriteSound) -> None:
    path = write_sound("only/a.wav")[0]
    source = TaggedFolder(str(path.parent.parent))
    with pytest.raises(DataError, match="two classes"):
        LabelledWaveforms(source, RawWaveform(), quiet=True).setup()


def test_a_folder_of_classes_is_split_by_source(write_sound: WriteSound, tmp_path: Path) -> None:
    for label in ("002 - Rain", "001 - Dog bark"):
        for source in (10, 20, 30, 40):
            for take in "AB":
                write_sound(f"{label}/1-{source}-{take}.wav", 0.2, 11025, folder=tmp_path)
    made = LabelledWaveforms(
        TaggedFolder(str(tmp_path)), RawWaveform(), crop_seconds=0.5, batch_size=4, quiet=True
    )
    made.setup()
    sides = [set(part.groups) for part in (made.train_clips, made.validation_clips)]
    assert not sides[0] & sides[1]
    assert made.names() == {"classes": {"classes": ("001 - Dog bark", "002 - Rain")}}
    assert made.sizes() == {"classes": 2}
    assert sum(made.summary()["clips"].values()) == 16
    batch = next(iter(made.train_dataloader()))
    assert batch.waveform.shape == (4, RATE // 2)


def test_steps_of_a_crop_are_averaged() -> None:
    made = objective(model()).eval()
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(3, RATE)
    batch = WaveformBatch(wave, torch.tensor([0, 1, 0]), torch.arange(3))
    logits = made.model(wave)
    assert logits.shape[2] > 1
    assert torch.allclose(made.logits(batch), logits.mean(2), atol=1e-5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_accuracy_is_of_whole_clips() -> None:
    """The answer of a clip is the mean of its crops' probabilities, not of its loudest crop."""
    made, given = objective(model()), data(crop_seconds=0.4, batch_size=3)
    given.setup()
    (scores,) = trainer().validate(made, given, verbose=False)
    made.eval()
    right = []
    for number in range(len(given.validation_clips)):
        batches = [b for b in given.val_dataloader() if number in b.clip]
        with torch.inference_mode():
            answers = [made.logits(b).softmax(1)[b.clip == number] for b in batches]
        label = given.validation_clips.label[number]
        right.append(int(torch.cat(answers).mean(0).argmax()) == label)
        crops = sum(len(answer) for answer in answers)
        assert crops == -(-given.validation_clips.length[number] // given.samples)
    assert scores["validation/accuracy"] == pytest.approx(np.mean(right))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("depth", [5, 8])
def test_layers_trained_from_scratch_tell_tones_apart(depth: int) -> None:
    made = objective(model(depth), lr=1e-2)
    given = data(crops=3)
    # 8 layers need half a second for one step of conv7, two with a kernel of 2.
    given.samples = 22050 if depth == 8 else given.samples
    run = trainer(max_epochs=4)
    run.fit(made, given)
    (scores,) = run.validate(made, given, verbose=False)
    assert scores["validation/accuracy"] == 1.0
    assert given.train_dataloader().dataset.plan.batches == 6


def step(made: Classification) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """State before and after an epoch."""
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    trainer(max_epochs=1).fit(made, data())
    return before, made.model.state_dict()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_frozen_trunk_keeps_weights_and_statistics() -> None:
    before, after = step(objective(model(), trunk_rate=0.0))
    for name, value in before.items():
        new = name.startswith("network.classes")
        assert torch.equal(value, after[name]) != new, name


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_slow_trunk_moves_less() -> None:
    moved = {}
    for rate in (1.0, 0.01):
        before, after = step(objective(model(), trunk_rate=rate))
        change = {name: (after[name] - before[name]).abs().max() for name in before}
        moved[rate] = change["network.conv2.conv.weight"], change["network.classes.weight"]
        assert change["network.conv1.norm.running_mean"] > 0
    assert moved[0.01][0] < 0.05 * moved[1.0][0]
    assert moved[0.01][1] > 0.2 * moved[1.0][1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_schedule_that_undoes_the_trunks_rate_is_told() -> None:
    def fit(scheduler: Any, rate: float) -> None:
        made = objective(model(), trunk_rate=rate, scheduler=scheduler)
        trainer(max_epochs=1).fit(made, data())

    def cosine(optimizer: Any, total_steps: int) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps)

    one_cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1)
    fit(cosine, 0.1)
    fit(one_cycle, 1.0)
    fit(one_cycle, 0.0)
    with pytest.raises(ConfigError, match="one learning rate"):
        fit(one_cycle, 0.1)


def test_a_rate_outside_of_0_to_1_is_told() -> None:
    for rate in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="trunk_rate"):
            objective(model(), trunk_rate=rate)
