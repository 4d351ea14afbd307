"""Labels that mean nothing, through the whole analysis: flow, measures and effects."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from coala_latent.analysis.exploration import explore_layers, factor_folds
from coala_latent.analysis.factor_measures import eta_squared
from coala_latent.analysis.transfer import LatentEditor, transfer_effects
from coala_latent.data.latent_pairs import LatentPairs
from coala_latent.data.latents import LabelledLatents
from coala_latent.models.flows import FactorFlow
from coala_latent.tasks.disentangle_steps import _shuffled
from coala_latent.tasks.disentangler import factor_spec, make_flow
from coala_latent.training.pair_losses import JointPairLoss

MATERIALS, ACTIONS, TAKES, ROWS, DIM = 3, 2, 4, 5, 6
STEPS = 24
RECORDINGS = MATERIALS * ACTIONS * TAKES
SIZES = {"stages": 1, "hidden": 8, "depth": 1}


def null_latents(seed: int, strength: float = 0.0) -> LabelledLatents:
    """Recordings with characters of their own; materials are heard with a given strength."""
    rng = np.random.default_rng(seed)
    grid = np.stack(
        np.meshgrid(range(MATERIALS), range(ACTIONS), range(TAKES), indexing="ij"), -1
    ).reshape(-1, 3)
    if not strength:
        # Labels are dealt out among whole recordings of a take, so each condition stays in each.
        for take in range(TAKES):
            rows = grid[:, 2] == take
            grid[rows, :2] = rng.permutation(grid[rows, :2])
    recording = np.repeat(np.arange(RECORDINGS), ROWS)
    values = rng.normal(size=(RECORDINGS, DIM))[recording]
    values = values + rng.normal(size=(len(recording), DIM))
    values[:, 0] += strength * grid[recording, 0]
    return LabelledLatents(
        values=values.astype(np.float32),
        labels=grid[recording, :2],
        factors=("material", "action"),
        classes=(("wood", "metal", "glass"), ("tap", "rub")),
        recording=recording,
        take=grid[recording, 2],
        start=np.tile(np.arange(ROWS), RECORDINGS) * 1.0,
        end=np.tile(np.arange(ROWS), RECORDINGS) + 1.0,
    )


def fitted_flow(train: LabelledLatents, seed: int) -> FactorFlow:
    """As the objective trains it, without what a run of its own costs."""
    data = LatentPairs(train, train, batch_size=64, batches=STEPS, seed=seed)
    data.setup()
    flow = make_flow(data, factor_spec(DIM, train.factors), SIZES, seed)
    loss = JointPairLoss(flow.spec, 0.98)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for number in range(STEPS):
        batch = data.train_pairs[0, number]
        z, log_det = flow(torch.cat([batch.a, batch.b]))
        (z_a, z_b), (a, b) = z.chunk(2), log_det.chunk(2)
        optimizer.zero_grad()
        loss(z_a, z_b, batch.alike, a, b).backward()
        optimizer.step()
    return flow.eval()


def findings(seed: int, strength: float = 0.0) -> set[str]:
    """Names of the statistics that call something out."""
    latents = null_latents(seed, strength)
    held_out = latents.take >= TAKES // 2
    train, test = (latents.take_rows(np.flatnonzero(part)) for part in (~held_out, held_out))
    flow, found = fitted_flow(train, seed), set()
    with torch.inference_mode():
        z = flow(torch.from_numpy(test.values))[0].numpy()
    slices = flow.spec.slices
    by_chance = _shuffled(z, test, slices, seed)
    for k, factor in enumerate(latents.factors):
        share = eta_squared(z, test.labels[:, k], slices, test.recording, 20)[factor].mean
        if share > by_chance[factor][factor]:
            found.add(f"{factor}: own block")

    hearing = torch.nn.Sequential(torch.nn.Linear(DIM, 16), torch.nn.ReLU()).requires_grad_(False)
    editor = LatentEditor(flow, None, hearing)
    effects = transfer_effects(
        editor,
        torch.from_numpy(test.values),
        test.labels,
        test.recording,
        slices,
        n_pairs=40,
        weights=(),
        seed=seed,
    )
    for factor in latents.factors:
        if effects.tests[factor]["own_class - other_class"].p_value < 0.05:
            found.add(f"{factor}: effect")
    layers = {"first": latents.values[:, :3], "last": latents.values[:, 3:]}
    folds = factor_folds(latents.labels[:, 0], latents.take, TAKES, seed)
    explored = explore_layers(layers, latents.labels[:, 0], folds, choose="same")
    if explored.scores.p_corrected["first - last"] < 0.05:
        found.add("first - last layer")
    return found


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_labels_dealt_out_anew_show_no_effect() -> None:
    found = Counter(name for seed in range(40) for name in findings(seed))
    assert max(found.values(), default=0) <= 6, found


def test_labels_that_are_heard_are_found() -> None:
    found = Counter(name for seed in range(4) for name in findings(seed, strength=8.0))
    assert found["material: own block"] >= 3, found
    assert found["material: effect"] >= 3, found
