"""Steps of a run as configured: rates, clipped gradients, and the epoch whose weights are kept."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from coala_latent.tasks.train import config_folder
from coala_latent.training.alignment import CoalaAlignment
from coala_latent.training.checkpoints import SafeCheckpointIO, checkpoint_callbacks
from coala_latent.training.objective import Objective
from coala_latent.training.tagging import CoalaTagging

ALIGNMENTS = ("alignment", "alignment_clip", "alignment_shared", "alignment_sigmoid")


def config(*overrides: str) -> Any:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", ["output=unused", *overrides])


class Steep(Objective):
    """A gradient of length 100 a step, and given scores."""

    monitor: ClassVar[str] = "validation/score"
    scores = (1.0, 3.0, 2.0)

    def __init__(self, scheduler: Any = None) -> None:
        super().__init__(
            nn.Linear(1, 1, bias=False), partial(torch.optim.SGD, lr=1.0), scheduler=scheduler
        )
        nn.init.zeros_(self.model.weight)  # type: ignore[arg-type]

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        return 100 * self.model(batch).sum()

    def validation_step(self, batch: Tensor, index: int) -> None:
        self.log("validation/score", self.scores[self.current_epoch])


def fit(folder: Path, objective: Objective, *overrides: str) -> Path:
    """One step an epoch, with the callbacks of a run."""
    settings = config("trainer.accelerator=cpu", *overrides)
    best, last = checkpoint_callbacks(folder, objective.monitor, objective.monitor_mode)
    trainer = instantiate(
        settings.trainer,
        callbacks=[best, last],
        logger=False,
        plugins=[SafeCheckpointIO()],
        default_root_dir=str(folder),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    numbers: Any = DataLoader(torch.ones(1, 1))  # type: ignore[arg-type]
    trainer.fit(objective, numbers, numbers)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("limit", "moved"), [("5", 5.0), ("null", 100.0)])
def test_gradients_are_clipped_to_their_longest(tmp_path: Path, limit: str, moved: float) -> None:
    objective = Steep()
    given = [] if limit == "5" else [f"trainer.gradient_clip_val={limit}"]
    fit(tmp_path, objective, "trainer.max_epochs=1", *given)
    assert objective.model.weight.item() == pytest.approx(-moved)  # type: ignore[operator]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_best_epoch_by_its_score_is_kept_beside_the_last(tmp_path: Path) -> None:
    fit(tmp_path, Steep(), "trainer.max_epochs=3")
    kept = {
        name: torch.load(tmp_path / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    }
    assert {name: state["epoch"] for name, state in kept.items()} == {"best": 1, "last": 2}
    weights = {name: state["state_dict"]["model.weight"].item() for name, state in kept.items()}
    assert weights == {"best": pytest.approx(-10.0), "last": pytest.approx(-15.0)}


def test_the_score_is_retrieval_and_no_loss() -> None:
    assert CoalaAlignment.monitor == "validation/audio_to_tags_map"
    assert CoalaTagging.monitor == "validation/tag_map"
    assert CoalaAlignment.monitor_mode == CoalaTagging.monitor_mode == "max"


@pytest.mark.parametrize("objective", [*ALIGNMENTS, "tagging"])
def test_adamw_warms_up_and_follows_a_cosine(objective: str) -> None:
    chosen = config(f"objective={objective}").objective
    weight = nn.Parameter(torch.zeros(1))
    optimizer = instantiate(chosen.optimizer)([weight])
    assert type(optimizer) is torch.optim.AdamW
    schedule = instantiate(chosen.scheduler)(optimizer, total_steps=100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < 100:
            schedule.step()
    highest = chosen.optimizer.lr
    assert rates[:10] == sorted(rates[:10])
    assert rates[9] == max(rates) == pytest.approx(highest)
    assert rates[0] < highest / 10
    # Half a cosine from step 9 to step 99.
    for step in (24, 54, 84):
        share = 0.5 * (1 + math.cos(math.pi * (step - 9) / 90))
        assert rates[step] == pytest.approx(highest * share, rel=1e-3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_warm_up_of_exactly_one_step_does_not_end_the_run(tmp_path: Path) -> None:
    scheduler = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, pct_start=0.1)
    objective = Steep(partial(scheduler, cycle_momentum=False))
    objective.scores = tuple(map(float, range(10)))
    fit(tmp_path, objective, "trainer.max_epochs=10")
    weights = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    # Ten clipped steps of at most 5, slow at first and in the end.
    assert -50 < weights["model.weight"].item() < -15
