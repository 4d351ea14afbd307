"""Two processes train as one with the joined batch would: the same loss, the same gradients."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from coala_latent.audio.frontends import CoalaStandard
from coala_latent.data.spectrograms import PatchBatch
from coala_latent.models.coala import Coala
from coala_latent.training.alignment import CoalaAlignment
from coala_latent.training.gathering import gather_pairs
from coala_latent.training.losses import (
    AlignmentLoss,
    ContrastiveLoss,
    OriginalAlignment,
    SigmoidAlignment,
)

SGD = partial(torch.optim.SGD, lr=0.1)
ROWS, TAGS, BANDS, FRAMES = 9, 5, 96, 4
# Rows of the first process; the second has the rest.
SPLITS = {"unequal": 5, "one alone": 8}
LOSSES = ["simclr", "clip", "shared", "sigmoid", "original"]


def loss(name: str) -> ContrastiveLoss:
    made: dict[str, ContrastiveLoss] = {
        "simclr": AlignmentLoss(0.2),
        "clip": AlignmentLoss(0.2, same_modality=False, positives="pair"),
        "shared": AlignmentLoss(0.2, positives="shared_tags"),
        "sigmoid": SigmoidAlignment(0.2, bias=-1.0),
        "original": OriginalAlignment(0.2),
    }
    return made[name]


class Encoder(nn.Module):
    """Neither batch norm nor dropout, so that items do not depend on their company."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.tags = size
        self.first, self.second = nn.Linear(size, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.tanh(self.first(x.flatten(1)))
        return z, self.second(z)


class Decoder(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.shape = nn.Linear(6, torch.Size(shape).numel()), shape

    def logits(self, z: Tensor) -> Tensor:
        return self.layer(z)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(z)).unflatten(1, self.shape)


class Whole(nn.Module):
    """The objective's weighted sum as a module's output, as the trainer wraps it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        model = Coala(
            CoalaStandard(),
            Encoder(BANDS * FRAMES),  # type: ignore[arg-type]
            Encoder(TAGS),  # type: ignore[arg-type]
            Decoder((1, BANDS, FRAMES)),  # type: ignore[arg-type]
            Decoder((TAGS,)),  # type: ignore[arg-type]
        )
        self.objective = CoalaAlignment(
            model, loss(name), SGD, audio_weight=0.1, tag_weight=2.0
        ).double()

    def forward(self, batch: PatchBatch) -> tuple[dict[str, Tensor], Tensor]:
        terms = self.objective.losses(batch)[0]
        return terms, self.objective.total(terms)


def batch(rows: slice) -> PatchBatch:
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(ROWS, BANDS, FRAMES, generator=generator, dtype=torch.float64)
    tags = (torch.rand(ROWS, TAGS, generator=generator) < 0.4).double()
    tags[7] = tags[1]
    mask = torch.ones(ROWS, FRAMES, dtype=torch.bool)
    return PatchBatch(*(part[rows] for part in (patches, mask, tags, torch.arange(ROWS))))


def step(module: nn.Module, rows: slice) -> dict[str, Tensor]:
    terms, total = module(batch(rows))
    total.backward()
    found = {name: term.detach() for name, term in {**terms, "total": total}.items()}
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        found[f"gradient {name.removeprefix('module.')}"] = parameter.grad
    return found


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[str, Any] = {}
    for name in LOSSES:
        for split, first in SPLITS.items():
            rows = (slice(0, first), slice(first, ROWS))[rank]
            found[f"{name}, {split}"] = step(DistributedDataParallel(Whole(name)), rows)
    half = torch.ones(3 - rank, 2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pairs = gather_pairs(half, half, torch.zeros(3 - rank, 1))
    pairs.a.sum().mul(rank + 1).backward()
    found["half"] = {"dtype": pairs.a.dtype, "rows": len(pairs.a), "gradient": half.grad}
    evaluated = Whole("clip").eval()
    found["validation"] = step(evaluated, slice(0, ROWS - 2 * rank))["total"]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(worker, (str(folder),), nprocs=2)
    return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_the_joined_batch(
    found: list[dict[str, Any]], name: str, split: str
) -> None:
    wanted = step(Whole(name), slice(0, ROWS))
    ours = [rank[f"{name}, {split}"] for rank in found]
    assert ours[0].keys() == ours[1].keys() == wanted.keys()
    for key, value in wanted.items():
        if key.startswith("gradient"):
            torch.testing.assert_close(ours[0][key], value, rtol=1e-9, atol=1e-10)
            assert torch.equal(ours[0][key], ours[1][key]), key
        else:
            mean = (ours[0][key] + ours[1][key]) / 2
            torch.testing.assert_close(mean, value, rtol=1e-10, atol=0.0)
    for rank in ours:
        torch.testing.assert_close(rank["contrastive"], wanted["contrastive"])
    if name != "original":
        assert wanted["gradient objective.contrastive.log_temperature"].abs() > 1e-4


def test_without_gathering_the_loss_would_be_another() -> None:
    whole = step(Whole("clip"), slice(0, ROWS))["contrastive"]
    parts = [step(Whole("clip"), rows)["contrastive"] for rows in (slice(0, 5), slice(5, ROWS))]
    assert abs(whole - sum(parts) / 2) > 0.1


def test_half_precision_is_gathered_in_single(found: list[dict[str, Any]]) -> None:
    for rank, count in zip(found, (3, 2), strict=True):
        assert rank["half"]["dtype"] == torch.float32
        assert rank["half"]["rows"] == 5
        # From both processes: 1 and 2.
        assert torch.equal(rank["half"]["gradient"], torch.full((count, 2), 3.0).bfloat16())


def test_validation_is_each_processes_own(found: list[dict[str, Any]]) -> None:
    for rank in range(2):
        alone = step(Whole("clip").eval(), slice(0, ROWS - 2 * rank))["total"]
        torch.testing.assert_close(found[rank]["validation"], alone)


def test_one_process_gathers_nothing() -> None:
    a, b, tags = torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 1)
    gathered = gather_pairs(a, b, tags)
    assert gathered.a is a
    assert gathered.b is b
    assert gathered.tags is tags
    assert gathered.share == 1.0
