"""The original's configurations become overrides that mean the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from coala_latent.errors import ConfigError
from coala_latent.models.tag_encoders import TagMeanEncoder, TagSelfAttentionEncoder
from coala_latent.registry import build_module
from coala_latent.tasks.legacy_config import legacy_overrides, with_legacy_config
from coala_latent.tasks.overrides import quote_value
from coala_latent.tasks.train import config_folder

# The values of the original's configs/dual_ae_c.json.
AE_C: dict[str, Any] = {
    "experiment_name": "dual_ae_c",
    "train_dataset_file": "hdf5_ds/spec_tags_top_1000",
    "validation_dataset_file": "hdf5_ds/spec_tags_top_1000_val",
    "audio_loss_weight": 5,
    "tag_loss_weight": 5,
    "contrastive_loss_weight": 10,
    "contrastive_temperature": 0.1,
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 5e-3,
    "device": "cpu",
    "id2tag_file": "json/id2token_top_1000.json",
    "log_interval": 200,
    "save_model_every": 20,
}


# What its follow-up's configurations add or change.
FOLLOW_UP: dict[str, Any] = {
    "tag_loss_weight": 0,
    "aggregation": "self",
    "num_heads": 1,
    "size_w2v": 1152,
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "a b=c.json"
    values = {**AE_C, **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}), "utf-8")
    return path


def composed(arguments: list[str]) -> Any:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("train", ["output=unused", *arguments])


def test_the_autoencoders_configuration_means_the_papers_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = composed(with_legacy_config(["--legacy-config", str(written(tmp_path))]))
    assert made.name == "dual_ae_c"
    assert made.data.train == "hdf5_ds/spec_tags_top_1000"
    assert made.data.validation == "hdf5_ds/spec_tags_top_1000_val"
    assert made.data.vocabulary == "json/id2token_top_1000.json"
    objective = made.objective
    assert (objective.audio_weight, objective.tag_weight) == (5, 5)
    assert objective.contrastive_weight == 10
    assert objective.contrastive.temperature == 0.1
    assert objective.optimizer._target_ == "torch.optim.SGD"
    assert objective.optimizer.lr == 0.005
    assert made.model.sizes.decoders
    assert made.patches.batch_size == 128
    assert made.trainer.max_epochs == 200
    assert made.trainer.accelerator == "cpu"
    told = capsys.readouterr().err
    assert "learning_rate -> objective.optimizer.lr=0.005" in told
    assert "save_model_every -> not needed" in told
    assert all(key in told for key in AE_C)


def test_encoders_alone_have_no_decoders(tmp_path: Path) -> None:
    path = written(tmp_path, audio_loss_weight=0, tag_loss_weight=0.0, experiment_name="dual_e_c")
    made = composed(with_legacy_config([f"--legacy-config={path}"]))
    assert not made.model.sizes.decoders
    assert (made.name, made.objective.audio_weight) == ("dual_e_c", 0)


def test_the_branch_with_masked_tags_hides_a_share_of_them(tmp_path: Path) -> None:
    path = written(tmp_path, tag_masking_ratio=0.4, experiment_name="dual_ae_c_m")
    made = composed(with_legacy_config([f"--legacy-config={path}"]))
    masking = composed(["experiment=coala_ae_c_masking"])
    assert made.objective.tag_masking == masking.objective.tag_masking == 0.4
    assert made.model == masking.model


@pytest.mark.parametrize("aggregation", ["self", "mean"])
@pytest.mark.parametrize("audio_weight", [5, 0])
def test_the_follow_ups_configurations_build_its_encoders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], aggregation: str, audio_weight: float
) -> None:
    changes = {**FOLLOW_UP, "aggregation": aggregation, "audio_loss_weight": audio_weight}
    made = composed(with_legacy_config([f"--legacy-config={written(tmp_path, **changes)}"]))
    model = build_module(
        made.model.architecture, made.model.front_end, {**made.model.sizes, "tags": 12}
    )
    expected = {"self": TagSelfAttentionEncoder, "mean": TagMeanEncoder}[aggregation]
    assert isinstance(model.tag_encoder, expected)
    assert model.tag_encoder.embeddings.weight.shape == (13, 1152)
    assert (model.audio_decoder is None) == (audio_weight == 0)
    objective = made.objective
    assert (objective.audio_weight, objective.tag_weight) == (audio_weight, 0)
    assert objective.contrastive_weight == 10
    told = capsys.readouterr().err
    assert "Word2Vec" in told
    assert "aggregation -> chooses the experiment" in told
    if aggregation == "self":
        assert model.tag_encoder.heads == 1
        assert not model.tag_encoder.mask_queries
    else:
        assert "num_heads -> not needed" in told


def test_the_follow_ups_mean_needs_no_heads(tmp_path: Path) -> None:
    changes = {**FOLLOW_UP, "aggregation": "mean", "num_heads": ...}
    made = legacy_overrides(written(tmp_path, **changes))
    assert made["(the file)"][0] == "experiment=coala_follow_up_mean"


def test_what_is_given_on_the_command_line_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["trainer.max_epochs=3", "--legacy-config", str(written(tmp_path)), "data.train='x'"]
    arguments = with_legacy_config([*given, "experiment=coala_e_c", "patches=stored"])
    made = composed(arguments)
    assert (made.trainer.max_epochs, made.data.train) == (3, "x")
    assert not made.model.sizes.decoders
    assert "epochs -> given on the command line" in capsys.readouterr().err


def test_arguments_without_a_file_are_left_alone() -> None:
    assert with_legacy_config(["a=1", "--help"]) == ["a=1", "--help"]


@pytest.mark.parametrize(
    "arguments", [["--legacy-config"], ["--legacy-config=a", "--legacy-config", "b"]]
)
def test_the_option_takes_one_file(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="once, with one JSON file"):
        with_legacy_config(arguments)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cpu", ("cpu", 1)),
        ("cuda", ("cuda", 1)),
        ("cuda:1", ("cuda", [1])),
        ("auto", ("auto", 1)),
    ],
)
def test_devices(tmp_path: Path, device: str, expected: tuple[str, Any]) -> None:
    made = composed(with_legacy_config(["--legacy-config", str(written(tmp_path, device=device))]))
    assert (made.trainer.accelerator, made.trainer.devices) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"train_dataset_file": ...}, "train_dataset_file is missing"),
        ({"train_dataset_file": ""}, "train_dataset_file='': give a text"),
        ({"epochs": 0}, "epochs=0: give a whole number"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"learning_rate": "fast"}, "learning_rate='fast': give a number"),
        ({"audio_loss_weight": -1}, "audio_loss_weight=-1"),
        ({"contrastive_temperature": float("nan")}, "contrastive_temperature=nan"),
        ({"tag_masking_ratio": 1}, "tag_masking_ratio=1: give a share below 1"),
        ({"tag_masking_ratio": -0.1}, "tag_masking_ratio=-0.1: give a number of at least 0"),
        ({**FOLLOW_UP, "aggregation": "max"}, "aggregation='max': use mean or self"),
        ({**FOLLOW_UP, "aggregation": ["self"]}, r"aggregation=\['self'\]: use mean or self"),
        ({**FOLLOW_UP, "num_heads": 0}, "num_heads=0: give a whole number"),
        ({**FOLLOW_UP, "size_w2v": "128"}, "size_w2v='128': give a whole number"),
        ({**FOLLOW_UP, "tag_loss_weight": 5}, "tag_loss_weight=5: the follow-up has no decoder"),
        ({"num_heads": 4}, "num_heads is of the follow-up: add aggregation"),
        ({"size_w2v": 128}, "size_w2v is of the follow-up: add aggregation"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"device": "cpu:1"}, "device='cpu:1'"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_key(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        legacy_overrides(written(tmp_path, **changes))
    assert "a b=c.json" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", "3"])
def test_a_file_that_is_no_object_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ConfigError, match=r"x\.json: not"):
        legacy_overrides(path)
    with pytest.raises(ConfigError, match="no such file"):
        legacy_overrides(tmp_path / "gone.json")


@pytest.mark.parametrize("path", ["a b", "a,b", "x=y", "[1]", "{a}", "it's", "back\\slash\\", "ö"])
def test_any_path_survives(tmp_path: Path, path: str) -> None:
    file = written(tmp_path, train_dataset_file=path, experiment_name=path)
    made = composed(with_legacy_config(["--legacy-config", str(file)]))
    assert (made.data.train, made.name) == (path, path)
    assert composed([f"name={quote_value(path)}"]).name == path
