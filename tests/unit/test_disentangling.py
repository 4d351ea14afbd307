"""Disentangling: learning from pairs, repeating, going on, saving and loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from coala_latent.data.latent_pairs import LatentPairs
from coala_latent.data.latents import LabelledLatents, write_latents
from coala_latent.errors import ConfigError, DataError, WeightsError
from coala_latent.models.flows import FactorFlow, FactorSpec
from coala_latent.models.latent_scaling import LatentProjection
from coala_latent.tasks.disentangler import (
    Disentangler,
    DisentanglerSettings,
    factor_spec,
    fit_disentangler,
    load_disentangler,
    save_disentangler,
)
from coala_latent.tasks.fitting import hush_lightning
from coala_latent.tasks.train import config_folder, train
from coala_latent.tasks.train_disentangler import projected
from coala_latent.training.disentangling import (
    Disentangling,
    explained_by_class,
    likeness_loss,
    mixture_loss,
)
from coala_latent.training.pair_losses import WeightedPairLoss

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SMALL = DisentanglerSettings(
    flow={"stages": 2, "hidden": 16, "depth": 1},
    pairs={"batch_size": 256, "batches": 30, "validation_batches": 2},
    epochs=5,
    learning_rate=5e-3,
)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> None:
    hush_lightning()


def mixed(take: int, seed: int = 0, rows: int = 20, dim: int = 8) -> LabelledLatents:
    """Two factors and noise, rotated; each take has an offset of its own."""
    world = np.random.default_rng(seed)
    rotation = np.linalg.qr(world.normal(size=(dim, dim)))[0]
    materials, actions = np.array([-1.5, 0, 1.5]), np.array([-1.2, 1.2])
    grid = np.stack(np.meshgrid(range(3), range(2), range(rows), indexing="ij"), -1).reshape(-1, 3)
    local = np.random.default_rng([seed, take])
    z = local.normal(size=(len(grid), dim)) * np.array([0.3, 0.3] + [1.0] * (dim - 2))
    z[:, 0] += materials[grid[:, 0]]
    z[:, 1] += actions[grid[:, 1]]
    x = z @ rotation
    return LabelledLatents(
        values=(x + 0.2 * np.tanh(x[:, ::-1])).astype(np.float32),
        labels=grid[:, :2].copy(),
        factors=("material", "action"),
        classes=(("wood", "metal", "glass"), ("tap", "rub")),
        recording=np.full(len(grid), take),
        take=np.full(len(grid), take),
        start=grid[:, 2] * 1.0,
        end=grid[:, 2] + 1.0,
        source={"model": "some", "layer": "layer9"},
    )


def joined(*parts: LabelledLatents) -> LabelledLatents:
    names = ("values", "labels", "recording", "take", "start", "end")
    return LabelledLatents(
        **{
            **vars(parts[0]),
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        }
    )


@pytest.fixture(scope="module")
def parts() -> tuple[LabelledLatents, LabelledLatents]:
    return joined(*(mixed(take) for take in range(3))), mixed(3)


@pytest.fixture(scope="module")
def fitted(parts: tuple[LabelledLatents, LabelledLatents]) -> Disentangler:
    return fit_disentangler(*parts, SMALL)


def test_factors_come_to_lie_in_their_own_blocks(fitted: Disentangler) -> None:
    found = fitted.metrics
    for own, other in (("material", "action"), ("action", "material")):
        assert found[f"validation/eta2_{own}_in_{own}"] > 0.7
        assert found[f"validation/eta2_{other}_in_{own}"] < 0.05


def test_shuffled_labels_teach_nothing(parts: tuple[LabelledLatents, LabelledLatents]) -> None:
    rng = np.random.default_rng(0)
    without = [
        LabelledLatents(**{**vars(part), "labels": rng.permutation(part.labels)}) for part in parts
    ]
    found = fit_disentangler(*without, SMALL).metrics
    for factor in ("material", "action"):
        assert found[f"validation/eta2_{factor}_in_{factor}"] < 0.15


def test_the_same_seed_gives_the_same_flow_and_another_does_not(
    parts: tuple[LabelledLatents, LabelledLatents],
) -> None:
    short = {**vars(SMALL), "epochs": 1}
    one, again, other = (
        fit_disentangler(*parts, DisentanglerSettings(**{**short, "seed": seed}))
        for seed in (1, 1, 2)
    )
    x = torch.from_numpy(parts[1].values)
    with torch.inference_mode():
        assert torch.equal(one.flow(x)[0], again.flow(x)[0])
        assert not torch.allclose(one.flow(x)[0], other.flow(x)[0])
    assert one.metrics == again.metrics


def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(
    parts: tuple[LabelledLatents, LabelledLatents],
    fitted: Disentangler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = Disentangling.on_validation_epoch_end

    def stop(self: Disentangling) -> None:
        if self.current_epoch == 2:
            raise KeyError("the power went")
        ended(self)

    with monkeypatch.context() as patch:
        patch.setattr(Disentangling, "on_validation_epoch_end", stop)
        with pytest.raises(KeyError):
            fit_disentangler(*parts, SMALL, folder=tmp_path)
    changed = DisentanglerSettings(**{**vars(SMALL), "sigma": 0.5})
    with pytest.raises(ConfigError, match="other settings"):
        fit_disentangler(*parts, changed, folder=tmp_path)
    resumed = fit_disentangler(*parts, SMALL, folder=tmp_path)
    for name, value in fitted.flow.state_dict().items():
        assert torch.equal(value, resumed.flow.state_dict()[name]), name
    assert resumed.metrics == fitted.metrics


def test_explained_variance_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    z, label = rng.normal(size=(50, 5)), rng.integers(0, 3, 50) * 7
    z[:, :2] += label[:, None]
    blocks = {"residual": slice(0, 3), "f": slice(3, 5)}
    found = explained_by_class(torch.from_numpy(z), torch.from_numpy(label), blocks)
    for name, place in blocks.items():
        part = z[:, place]
        between = sum(
            (label == own).sum() * np.outer(*[part[label == own].mean(0) - part.mean(0)] * 2)
            for own in np.unique(label)
        )
        total = (part - part.mean(0)).T @ (part - part.mean(0))
        assert found[name] == pytest.approx(np.trace(between) / np.trace(total))
    flat = explained_by_class(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]), {"f": slice(0, 2)})
    assert flat == {"f": 0.0}


def test_likeness_is_told_by_blocks_that_follow_their_factor() -> None:
    spec = FactorSpec({"residual": 2, "material": 1, "action": 1})
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 2, (2, 4000, 2)))
    alike = labels[0] == labels[1]
    good = torch.from_numpy(rng.normal(size=(2, 4000, 4)))
    good[..., 2:] = 0.2 * good[..., 2:] + 2.0 * labels - 1
    crossed = good[..., [0, 1, 3, 2]]
    nothing = torch.from_numpy(rng.normal(size=(2, 4000, 4))) * 0.1
    found = [likeness_loss(*z, alike, spec) for z in (good, crossed, nothing)]
    assert found[0] < 0.3
    assert found[1] > 1.0
    assert found[2] > np.log(2), "blocks without spread must not look as if they told anything"
    residual = good.clone()
    residual[..., :2] *= 100
    assert torch.equal(likeness_loss(*residual, alike, spec), found[0])


def test_likeness_leaves_out_factors_without_both_kinds_of_pairs() -> None:
    spec = FactorSpec({"residual": 1, "material": 1, "action": 1})
    z = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    alike = torch.tensor([[True, True]] * 3 + [[False, True]] * 3)
    changed = z.clone()
    changed[..., 2] += 9
    assert torch.equal(likeness_loss(*z, alike, spec), likeness_loss(*changed, alike, spec))
    assert likeness_loss(*z, torch.ones(6, 2, dtype=torch.bool), spec) == 0


def test_noise_is_added_in_training_alone(
    parts: tuple[LabelledLatents, LabelledLatents],
) -> None:
    data = LatentPairs(*parts, batch_size=64)
    data.setup()
    batch = data.train_pairs[0, 0]
    flow = FactorFlow(FactorSpec({"residual": 6, "material": 1, "action": 1}), stages=1)
    flow.initialise_(torch.cat([batch.a, batch.b]))
    objective = Disentangling(flow, torch.optim.Adam, noise=0.5)
    assert not torch.equal(objective.pair_loss(batch), objective.pair_loss(batch))
    objective.eval()
    assert torch.equal(objective.pair_loss(batch), objective.pair_loss(batch))
    with pytest.raises(ConfigError, match="noise"):
        Disentangling(flow, torch.optim.Adam, noise=-1.0)


def test_a_and_b_go_through_the_flow_as_two_passes_would(
    parts: tuple[LabelledLatents, LabelledLatents],
) -> None:
    data = LatentPairs(*parts, batch_size=64)
    data.setup()
    batch = data.train_pairs[0, 0]
    flow = FactorFlow(FactorSpec({"residual": 6, "material": 1, "action": 1}), stages=2)
    flow.initialise_(torch.cat([batch.a, batch.b]))
    objective = Disentangling(flow, torch.optim.Adam).eval()
    (z_a, a), (z_b, b) = flow(batch.a), flow(batch.b)
    expected = objective.loss(z_a, z_b, batch.alike, a, b)
    assert torch.allclose(objective.pair_loss(batch), expected, atol=1e-5)


def test_losses_are_float32_under_half_precision(
    parts: tuple[LabelledLatents, LabelledLatents],
) -> None:
    data = LatentPairs(*parts, batch_size=64)
    data.setup()
    flow = FactorFlow(FactorSpec({"residual": 6, "material": 1, "action": 1}), stages=1)
    objective = Disentangling(flow, torch.optim.Adam)
    exact = objective.pair_loss(data.train_pairs[0, 0])
    with torch.autocast("cpu", torch.bfloat16):
        found = objective.pair_loss(data.train_pairs[0, 0])
    assert found.dtype == torch.float32
    assert torch.equal(found, exact)


def test_the_originals_losses_can_be_trained_with(
    parts: tuple[LabelledLatents, LabelledLatents],
) -> None:
    def mixture(spec: FactorSpec) -> Any:
        return mixture_loss(spec, {"material": [-4.0, 0.0, 4.0]}, weighted=True)

    for loss in (WeightedPairLoss, mixture):
        short = DisentanglerSettings(**{**vars(SMALL), "epochs": 1, "loss": loss})
        found = fit_disentangler(*parts, short)
        assert np.isfinite(found.metrics["validation/total"])


@pytest.mark.parametrize("suffix", ["", ".safetensors", ".json"])
@pytest.mark.parametrize("with_projection", [False, True])
def test_what_is_saved_loads_equal(
    parts: tuple[LabelledLatents, LabelledLatents],
    fitted: Disentangler,
    tmp_path: Path,
    suffix: str,
    with_projection: bool,
) -> None:
    projection: LatentProjection | None = None
    if with_projection:
        projection, _ = projected(*parts, 5)
    kept = Disentangler(fitted.flow, projection, fitted.info)
    path = save_disentangler(tmp_path / "new" / f"a,b=c 1.5 ö{suffix}", kept)
    assert path.name == "a,b=c 1.5 ö.safetensors"
    found = load_disentangler(tmp_path / "new" / f"a,b=c 1.5 ö{suffix}")
    x = torch.from_numpy(parts[1].values)
    with torch.inference_mode():
        assert torch.equal(found.flow(x)[0], fitted.flow(x)[0])
        if projection is None:
            assert found.projection is None
        else:
            assert found.projection is not None
            assert torch.equal(found.projection(x), projection(x))
    assert found.spec == fitted.spec
    assert found.classes == {"material": ("wood", "metal", "glass"), "action": ("tap", "rub")}
    assert found.info == json.loads(json.dumps(dict(fitted.info)))
    assert found.info["latents"] == {"model": "some", "layer": "layer9"}
    assert not found.flow.training


def test_files_that_are_damaged_or_of_others_are_told(fitted: Disentangler, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.json: not readable"):
        load_disentangler(tmp_path / "gone")
    path = save_disentangler(tmp_path / "one", fitted)
    about = tmp_path / "one.json"
    good = json.loads(about.read_text("utf-8"))
    for change, message in (
        ({"kind": "model"}, "does not describe"),
        ({"version": 9}, "version 9"),
        ({"flow": {"stages": 2, "rooms": 3}}, "describes no flow"),
        ({"flow": {**good["flow"], "stages": 5}}, "missing"),
        ({"spec": {}}, "describes no flow"),
        ({"projection": True}, "projection"),
    ):
        about.write_text(json.dumps({**good, **change}))
        with pytest.raises(WeightsError, match=message):
            load_disentangler(path)
    about.write_text(json.dumps({name: good[name] for name in good if name != "sha256"}))
    with pytest.raises(WeightsError, match="sha256"):
        load_disentangler(path)
    about.write_text(json.dumps(good))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WeightsError, match="not the weights"):
        load_disentangler(path)


def test_blocks_leave_the_rest_to_the_residual() -> None:
    spec = factor_spec(8, ("material", "action"), 1, {"material": 3})
    assert dict(spec.dims) == {"residual": 4, "material": 3, "action": 1}
    with pytest.raises(ConfigError, match="'colour' is no factor"):
        factor_spec(8, ("material",), 1, {"colour": 2})
    with pytest.raises(ConfigError, match="leave no residual"):
        factor_spec(2, ("material", "action"))


def test_a_projection_is_fitted_on_the_training_rows_alone(
    parts: tuple[LabelledLatents, LabelledLatents],
) -> None:
    training, validation = parts
    projection, (after, held) = projected(training, validation, 5)
    assert after.dim == held.dim == 5
    assert np.allclose(after.values.mean(0), 0, atol=1e-4)
    assert np.allclose(after.values.std(0), 1, atol=1e-2)
    moved = validation.with_values(validation.values + 100)
    same, _ = projected(training, moved, 5)
    for name, value in projection.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    few, _ = projected(training, validation, 500)
    assert len(few.explained_variance_ratio) == training.dim
    with pytest.raises(ConfigError, match="components=1"):
        projected(training, validation, 1)


@pytest.mark.parametrize("setting", [{"epochs": 0}, {"learning_rate": 0.0}, {"flow": {"rooms": 2}}])
def test_settings_that_make_no_sense_are_told(
    parts: tuple[LabelledLatents, LabelledLatents], setting: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting)).replace("flow", "rooms")):
        fit_disentangler(*parts, DisentanglerSettings(**{**vars(SMALL), **setting}))


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        common = ["logger=csv", "progress=false", "callbacks=none", f"output='{folder}'"]
        experiment = "experiment=disentangle_materials_actions"
        return train(compose("train", [experiment, *common, *overrides]))


FEW = ["patches.batch_size=64", "patches.batches=2", "trainer.max_epochs=2", "model.hidden=8"]


def test_finished_latents_are_trained_on_by_configuration(
    parts: tuple[LabelledLatents, LabelledLatents], tmp_path: Path
) -> None:
    write_latents(tmp_path / "in", joined(*parts))
    made = run(
        *(tmp_path / "run", *FEW, "data=latents", f"data.root={tmp_path / 'in'}"),
        *("latents.components=6", "model.dims={material: 2}", "seed=3"),
    )
    found = load_disentangler(made["model"])
    assert dict(found.spec.dims) == {"residual": 3, "material": 2, "action": 1}
    assert found.projection is not None
    assert len(found.projection.explained_variance_ratio) == 6
    training = found.info["training"]
    assert training["data"]["rows"] == {"train": 360, "validation": 120}
    assert (training["seed"], training["epochs"]) == (3, 2)
    assert training["metrics"] == made["metrics"]
    assert str(tmp_path) not in json.dumps(dict(found.info))


def test_sounds_are_trained_on_by_configuration(tmp_path: Path) -> None:
    sounds = ["data.materials=[wood,metal]", "data.actions=[tap,rub]", "data.seconds=2"]
    few = ["data.takes=2", "latents.share=0.5", "latents.components=4"]
    made = run(tmp_path / "run", *FEW, *sounds, *few, "latents.model=yamnet-test")
    found = load_disentangler(made["model"])
    assert found.info["latents"]["layer"] == "layer10"
    assert set(found.classes["material"]) == {"wood", "metal"}
    assert found.info["training"]["data"]["takes"] == {"train": 1, "validation": 1}


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["task=both"], ConfigError, "model, disentangler"),
        (["data=builtin"], ConfigError, "BuiltinSounds has no factors"),
        (["data=latents", "data.root=gone"], DataError, r"X\.npy"),
        (["patches=random"], ConfigError, "patches=pairs"),
        (["patches.kinds=both"], ConfigError, "factors, uniform"),
        (["model.stages=0"], ConfigError, "stages=0"),
        (["+model.rooms=3"], ConfigError, "rooms"),
        (["latents.split=rows"], ConfigError, "take, time, original"),
        (["objective.loss.sigma=2"], ConfigError, "sigma"),
        (["+latents.rooms=3"], ConfigError, "rooms"),
    ],
)
def test_configurations_that_make_no_sense_are_told(
    parts: tuple[LabelledLatents, LabelledLatents],
    tmp_path: Path,
    overrides: list[str],
    error: type[Exception],
    message: str,
) -> None:
    write_latents(tmp_path / "in", joined(*parts))
    given = ["data=latents", f"data.root={tmp_path / 'in'}", "latents.components=null"]
    if any(override.startswith("data=") for override in overrides):
        given = []
    with pytest.raises(error, match=message):
        run(tmp_path / "run", *given, *overrides)


def test_a_disentangler_needs_settings_of_latents(tmp_path: Path) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        made = compose("train", ["task=disentangler", f"output='{tmp_path}'"])
    with pytest.raises(ConfigError, match="latents=default"):
        train(made)
