"""What a run does beside training: it stops in time and shows what it makes of sounds."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from coala_latent.data.spectrograms import PatchBatch
from coala_latent.errors import ConfigError, DependencyError
from coala_latent.registry import build_module
from coala_latent.tasks.training_pictures import ValidationPictures, draw_examples
from coala_latent.training.alignment import CoalaAlignment
from coala_latent.training.checkpoints import SafeCheckpointIO
from coala_latent.training.losses import AlignmentLoss
from coala_latent.training.objective import Examples, Objective
from coala_latent.training.stopping import EarlyStop
from coala_latent.training.tagging import CoalaTagging

SGD = partial(torch.optim.SGD, lr=0.01)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Scripted(Objective):
    """Logs given scores, epoch by epoch."""

    monitor: ClassVar[str] = "validation/score"

    def __init__(self, scores: list[float], mode: Literal["max", "min"] = "max") -> None:
        super().__init__(nn.Linear(1, 1), SGD)
        self.scores = scores
        self.monitor_mode = mode  # type: ignore[misc]

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return self.model(batch).square().mean()

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("validation/score", self.scores[self.current_epoch])


def run(folder: Path, *callbacks: Any, epochs: int = 20, **options: Any) -> lightning.Trainer:
    options = {"logger": False, "enable_checkpointing": False, **options}
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        plugins=[SafeCheckpointIO()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **options,
    )


def numbers() -> DataLoader[Tensor]:
    return DataLoader(torch.ones(2, 1), batch_size=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scores", "mode", "options", "epochs"),
    [
        ([1, 2, 3, 2, 2, 9, 9, 9], "max", {"patience": 2}, 5),
        ([3, 2, 1, 2, 2, 0, 0, 0], "min", {"patience": 2}, 5),
        ([1, 1.05, 1.1, 1.15, 1.2, 1.2, 1.2, 1.2], "max", {"patience": 3, "min_delta": 0.5}, 4),
        ([1, 2, 3, 4, 5, 6, 7, 8], "max", {"patience": 1}, 8),
        ([1, float("nan"), 3, 4, 5, 6, 7, 8], "max", {"patience": 5}, 2),
    ],
)
def test_a_run_ends_when_its_own_score_no_longer_gets_better(
    tmp_path: Path, scores: list[float], mode: Any, options: dict[str, Any], epochs: int
) -> None:
    trainer = run(tmp_path, EarlyStop(**options), epochs=8)
    trainer.fit(Scripted(scores, mode), numbers(), numbers())
    assert trainer.current_epoch == epochs


def test_a_resumed_run_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    scores = [5.0, 1.0, 1.0, 1.0, 9.0, 9.0]
    ended = []
    for stop in (2, 4):
        # Interrupted in the middle of its patience, and after it had ended.
        last = ModelCheckpoint(tmp_path, f"{stop}", save_on_train_epoch_end=True)
        first = run(tmp_path, EarlyStop(3), last, epochs=stop, enable_checkpointing=True)
        first.fit(Scripted(scores), numbers(), numbers())
        again = run(tmp_path, EarlyStop(3), epochs=6)
        again.fit(
            Scripted(scores),
            numbers(),
            numbers(),
            ckpt_path=last.best_model_path,
            weights_only=True,
        )
        ended.append(again.current_epoch)
    assert ended == [4, 4]


@pytest.mark.parametrize("options", [{"patience": 0}, {"min_delta": -1}, {"min_delta": np.nan}])
def test_impossible_patience_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="patience"):
        EarlyStop(**options)


TAGS = ("bell", "$x_1$ glass", "größe|weite")


def coala(kind: str = "coala", **sizes: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"channels": 2, "tags": 3, **sizes}
    return build_module(kind, {"name": "coala_standard"}, sizes)


def patches(clips: list[int]) -> PatchBatch:
    """The lower half of the bands is loud, the upper is not."""
    count = len(clips)
    values = torch.full((count, 96, 96), -3.0)
    values[:, :48] = 3.0
    tags = torch.zeros(count, 3)
    for row, clip in enumerate(clips):
        tags[row, clip % 3] = 1
    return PatchBatch(values, torch.ones(count, 96).bool(), tags, torch.tensor(clips))


def loader(*batches: PatchBatch) -> Any:
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


VALIDATION = [patches([0, 0, 1, 1]), patches([2, 3, 4])]


def fit(folder: Path, objective: Objective, epochs: int = 2, **options: Any) -> lightning.Trainer:
    callback = ValidationPictures(str(folder / "pictures"), **options)
    board = TensorBoardLogger(folder, name="board", version=0)
    trainer = run(folder, callback, epochs=epochs, logger=board)
    trainer.fit(objective, loader(patches([0, 1, 2, 3])), loader(*VALIDATION))
    return trainer


def logged(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "board" / "version_0"), size_guidance={"tensors": 0})
    return events.Reload()


def alignment(**sizes: Any) -> CoalaAlignment:
    weights = {"audio_weight": 0.0, "tag_weight": 0.0}
    return CoalaAlignment(coala(**sizes), AlignmentLoss(), SGD, **weights)


def test_each_epoch_leaves_a_picture_and_the_tags(tmp_path: Path) -> None:
    trainer = fit(tmp_path, alignment(), clips=3, top=2)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["epoch-0000.png", "epoch-0001.png"]
    events = logged(tmp_path)
    assert [image.step for image in events.Images("validation/patches")] == [0, 1]
    (text, _) = events.Tensors("validation/tags/text_summary")
    table = text.tensor_proto.string_val[0].decode().splitlines()
    assert table[0] == "| clip | tags | heard | decoded |"
    # Three clips, though four patches came first; two tags from each source.
    assert [line.split(" | ")[1] for line in table[2:]] == ["tag 0", "tag 1", "tag 2"]
    assert all(line.split(" | ")[2].count("tag") == 2 for line in table[2:])
    # Choosing weights afterwards draws nothing more.
    trainer.validate(trainer.lightning_module, loader(*VALIDATION), verbose=False)
    assert len(list((tmp_path / "pictures").iterdir())) == 2


def test_pictures_change_nothing_of_the_training(tmp_path: Path) -> None:
    with_pictures, without = alignment(decoders=False), alignment(decoders=False)
    torch.manual_seed(5)
    fit(tmp_path, with_pictures)
    torch.manual_seed(5)
    run(tmp_path, epochs=2).fit(without, loader(patches([0, 1, 2, 3])), loader(*VALIDATION))
    for one, other in zip(with_pictures.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, other)


def test_every_other_epoch_of_a_model_without_decoders(tmp_path: Path) -> None:
    objective = CoalaTagging(coala("coala_cnn"), SGD)
    fit(tmp_path, objective, epochs=4, every=3, clips=1)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["epoch-0000.png", "epoch-0003.png"]


def test_low_bands_are_at_the_bottom_and_odd_tags_are_written_as_they_are() -> None:
    unit = torch.zeros(2, 96, 96)
    unit[:, :48] = 1.0
    figure = draw_examples(
        Examples(unit, unit / 2, {}), {"tags": [list(TAGS), []], "heard": [[], ["bell"]]}, "$"
    )
    figure.canvas.draw()
    shades = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int).sum(2)
    axes = figure.axes
    assert len(axes) == 4
    for number in (0, 2):
        box = axes[number].get_window_extent()
        column = shades[::-1, int(box.x0 + box.width / 2)]
        low, high = (column[int(box.y0 + box.height * part)] for part in (0.25, 0.75))
        assert low > high + 100
    assert axes[2].get_xlabel() == "- tags -\nbell\n$x_1$ glass\ngröße|weite\n- heard -"


def test_without_matplotlib_tags_alone_are_logged_unless_pictures_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DependencyError, match="pip install"):
        ValidationPictures(str(tmp_path), pictures="always")
    with pytest.warns(UserWarning, match="no pictures of this run") as caught:
        fit(tmp_path, alignment(decoders=False))
    assert len([each for each in caught if "no pictures" in str(each.message)]) == 1
    assert not (tmp_path / "pictures").exists()
    assert len(logged(tmp_path).Tensors("validation/tags/text_summary")) == 2


@pytest.mark.parametrize("options", [{"clips": 0}, {"top": 0}, {"every": 0}, {"pictures": "no"}])
def test_settings_of_pictures_are_checked(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        ValidationPictures(str(tmp_path), **options)


def test_what_has_no_patches_cannot_be_drawn(tmp_path: Path) -> None:
    class Silent(Scripted):
        def training_step(self, batch: PatchBatch, index: int) -> Tensor:
            return self.model(torch.ones(1, 1)).sum()

    with pytest.raises(ConfigError, match="callbacks=pictures"):
        fit(tmp_path, Silent([0.0, 0.0]))
