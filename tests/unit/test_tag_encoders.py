"""The residual audio encoder and the follow-up's encoders: shapes, names, masks, learning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coala_latent.data.spectrograms import PatchBatch
from coala_latent.embed.scores import Predictor
from coala_latent.errors import ConfigError
from coala_latent.models.coala import AudioEncoder, Coala
from coala_latent.models.coala_resnet import AudioEncoderRes
from coala_latent.models.tag_encoders import (
    NormedAudioEncoder,
    TagMeanEncoder,
    TagSelfAttentionEncoder,
    tag_words,
)
from coala_latent.registry import build_model, build_module, describe_model, save_model
from coala_latent.training.alignment import CoalaAlignment
from coala_latent.training.losses import AlignmentLoss
from coala_latent.training.metrics import retrieval_scores

KINDS = ["coala_resnet", "coala_attention", "coala_mean_tags"]


def multi_hot(*sets: list[int], tags: int = 20) -> Tensor:
    hot = torch.zeros(len(sets), tags)
    for row, places in zip(hot, sets, strict=True):
        row[places] = 1
    return hot


def test_words_are_the_first_ten_ascending_then_padding() -> None:
    found = tag_words(multi_hot([7, 0, 3], list(range(2, 17)), [], [19]))
    assert found[0].tolist() == [1, 4, 8, *[0] * 7]
    assert found[1].tolist() == list(range(3, 13))
    assert found[2].tolist() == [0] * 10
    assert found[3].tolist() == [20, *[0] * 9]
    few = tag_words(torch.ones(1, 3, dtype=torch.int16))
    assert few.tolist() == [[1, 2, 3, *[0] * 7]]
    assert tag_words(torch.zeros(0, 5)).shape == (0, 10)


def attention(heads: int = 2, mask_queries: bool = True) -> TagSelfAttentionEncoder:
    torch.manual_seed(0)
    encoder = TagSelfAttentionEncoder(20, 6, heads, mask_queries).eval()
    torch.nn.init.normal_(encoder.layer_norm.bias)
    return encoder


def mean() -> TagMeanEncoder:
    torch.manual_seed(0)
    return TagMeanEncoder(20, 6).eval()


def test_parameters_have_the_originals_names_and_shapes() -> None:
    def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in module.state_dict().items()}

    norm = {"layer_norm.weight": (128,), "layer_norm.bias": (128,)}
    table = {"embeddings.weight": (1001, 128)}
    assert shapes(TagMeanEncoder()) == {**table, "fc.weight": (128, 128), **norm}
    projections = {f"w_{part}s.weight": (512, 128) for part in "qkv"}
    assert shapes(TagSelfAttentionEncoder()) == {
        **table,
        **projections,
        "fc.weight": (128, 512),
        **norm,
    }
    plain, normed = shapes(AudioEncoder()), shapes(NormedAudioEncoder(size_w_rep=128))
    assert normed.keys() - plain.keys() == {"audio_encoder.21.weight", "audio_encoder.21.bias"}
    assert normed["audio_encoder.21.weight"] == (1152,)
    assert normed["fc_audio.0.weight"] == (128, 1152)
    assert shapes(NormedAudioEncoder())["fc_audio.0.weight"] == (1152, 1152)
    residual = shapes(AudioEncoderRes())
    for layer in range(1, 6):
        inputs = 1 if layer == 1 else 128
        assert residual[f"layer{layer}.conv_1.weight"] == (128, inputs, 3, 3)
        assert residual[f"layer{layer}.conv_2.weight"] == (128, 128, 3, 3)
        assert residual[f"layer{layer}.conv_3.weight"] == (128, inputs, 3, 3)
        for part in (1, 2, 3):
            assert residual[f"layer{layer}.bn_{part}.running_mean"] == (128,)
    assert residual["fc_audio.0.weight"] == (1152, 1152)
    assert len(residual) == 5 * 3 * (2 + 5) + 1


def test_the_mean_is_over_the_tags_that_are_there() -> None:
    encoder = mean()
    z, z_d = encoder(multi_hot([4], [4, 9], []))
    assert torch.equal(z, z_d)
    table = encoder.embeddings.weight
    projected = encoder.fc(table[[5, 10]])
    wanted = encoder.layer_norm(torch.stack([projected[0], projected.mean(0)]))
    torch.testing.assert_close(z[:2], wanted)
    torch.testing.assert_close(z[2], encoder.layer_norm.bias)


def test_attention_is_that_of_the_tags_alone() -> None:
    encoder = attention()
    places = [2, 3, 11]
    z, _ = encoder(multi_hot(places))
    words = encoder.embeddings.weight[torch.tensor(places) + 1]
    heads = [
        each(words).unflatten(1, (2, 6)).transpose(0, 1)
        for each in (encoder.w_qs, encoder.w_ks, encoder.w_vs)
    ]
    found = F.scaled_dot_product_attention(*heads)
    answers = encoder.fc(found.transpose(0, 1).flatten(1))
    torch.testing.assert_close(z[0], encoder.layer_norm(answers.sum(0)), rtol=1e-5, atol=1e-5)


def test_the_original_adds_what_empty_slots_find() -> None:
    masked, original = attention(), attention(mask_queries=False)
    hot = multi_hot([2, 3, 11], list(range(10)))
    ours, theirs = masked(hot)[0], original(hot)[0]
    assert (ours[0] - theirs[0]).abs().max() > 0.01
    # Ten tags leave no slot empty.
    torch.testing.assert_close(ours[1], theirs[1])
    # An empty slot's query is the padding's vector, 0, and so attends to all tags alike.
    words = original.embeddings.weight[[3, 4, 12]]
    average = original.fc(original.w_vs(words).mean(0))
    weight, bias = original.layer_norm.weight, original.layer_norm.bias
    own = _sum_of_answers(masked, hot[:1])
    wanted = F.layer_norm(own + 7 * average, (6,), weight, bias, 1e-6)
    torch.testing.assert_close(theirs[:1], wanted, rtol=1e-4, atol=1e-5)


def _sum_of_answers(encoder: TagSelfAttentionEncoder, hot: Tensor) -> Tensor:
    """What comes before the norm."""
    seen: list[Tensor] = []
    hook = encoder.layer_norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    encoder(hot)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("make", [attention, mean, lambda: attention(mask_queries=False)])
def test_no_tags_at_all_are_finite_and_so_are_gradients(make: Any) -> None:
    encoder = make().train()
    z, _ = encoder(multi_hot([], [1]))
    z.square().sum().backward()
    assert torch.isfinite(z).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("make", [attention, mean])
def test_padding_learns_nothing_and_tags_do(make: Any) -> None:
    encoder = make()
    encoder(multi_hot([4, 9]))[0].square().cumsum(1).sum().backward()
    moved = encoder.embeddings.weight.grad.abs().sum(1) > 0
    assert moved.nonzero()[:, 0].tolist() == [5, 10]


def test_frozen_words_stay_as_they_are() -> None:
    encoder = TagMeanEncoder(5, 4, frozen=True)
    assert [n for n, p in encoder.named_parameters() if not p.requires_grad] == [
        "embeddings.weight"
    ]


@pytest.mark.parametrize("make", [attention, mean])
def test_sets_do_not_depend_on_their_company(make: Any) -> None:
    encoder, hot = make(), multi_hot([1, 2], [5], list(range(15)))
    together = encoder(hot)[0]
    for row in range(3):
        torch.testing.assert_close(encoder(hot[row : row + 1])[0][0], together[row])


@pytest.mark.parametrize("heads", [0, -1])
def test_a_model_without_heads_is_refused(heads: int) -> None:
    with pytest.raises(ConfigError, match=f"heads={heads}"):
        build_module("coala_attention", {"name": "coala_standard"}, {"tags": 3, "heads": heads})


def test_residual_blocks_halve_the_map_and_add_the_shortcut() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoderRes(3).eval()
    x = torch.randn(2, 1, 96, 96)
    found = encoder.activations(x, encoder.layers)
    assert [tuple(found[f"layer{n}"].shape[1:]) for n in range(1, 6)] == [
        (3, size, size) for size in (48, 24, 12, 6, 3)
    ]
    block = encoder.layer1
    block.bn_2.weight.data.zero_()
    short = F.relu(block.bn_3(block.conv_3(x)))
    torch.testing.assert_close(encoder.until(x, "layer1"), short)
    z, z_d = encoder(x)
    assert z.shape == z_d.shape == (2, 27)
    assert (z >= 0).all()
    torch.testing.assert_close(encoder.resume(encoder.until(x, "layer3"), "layer3")["z_d"], z_d)


def test_training_drops_out_after_each_block() -> None:
    encoder = AudioEncoderRes(2).train()
    assert encoder.dropout.p == 0.3
    torch.manual_seed(0)
    first = encoder(torch.ones(4, 1, 96, 96))[0]
    assert not torch.equal(first, encoder(torch.ones(4, 1, 96, 96))[0])
    assert (first == 0).float().mean() > 0.2


def test_a_normalised_z_has_both_signs() -> None:
    torch.manual_seed(0)
    z, z_d = NormedAudioEncoder(8, 5).eval()(torch.randn(4, 1, 96, 96))
    assert z_d.shape == (4, 5)
    torch.testing.assert_close(z.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(1, correction=0), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_models_come_back_and_name_tags_they_never_heard(kind: str, tmp_path: Any) -> None:
    front_end, sizes = {"name": "coala_standard"}, {"channels": 4, "tags": 3, "decoders": False}
    torch.manual_seed(1)
    module = build_module(kind, front_end, sizes).eval()
    card = describe_model(
        "mine",
        "A test.",
        architecture=kind,
        front_end=front_end,
        sizes=sizes,
        vocabulary=("a", "b", "c"),
    )
    save_model(module, card, tmp_path)
    loaded, read = build_model(tmp_path / "mine.safetensors")
    assert read.sizes == sizes
    hot = torch.eye(3)
    assert isinstance(loaded, Coala)
    assert isinstance(module, Coala)
    torch.testing.assert_close(loaded.tag_encoder(hot)[1], module.tag_encoder(hot)[1])
    scores = Predictor(loaded, read)(torch.randn(30_000).numpy(), 22050)["tags"]
    assert scores.labels == ("a", "b", "c")
    assert ((scores.values >= 0) & (scores.values <= 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_aligned_sounds_find_their_tags(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"channels": 4, "tags": 4, "decoders": False}
    module: Any = build_module(kind, {"name": "coala_standard"}, sizes)
    options = {"audio_weight": 0.0, "tag_weight": 0.0}
    training = CoalaAlignment(module, AlignmentLoss(), torch.optim.AdamW, **options)
    optimizer = torch.optim.AdamW(training.parameters(), lr=3e-3)
    for step in range(60):
        optimizer.zero_grad()
        training.total(training.losses(_batch(step))[0]).backward()
        optimizer.step()
    training.eval()
    heard = _batch(100)
    with torch.no_grad():
        sounds = training.losses(heard)[1]
        tags = module.tag_encoder(torch.eye(4))[1]
    found = retrieval_scores(sounds, tags, heard.tags.argmax(1))["audio_to_tags_map"]
    chance = sum(1 / rank for rank in range(1, 5)) / 4
    assert found > (1 + chance) / 2


def _batch(seed: int) -> PatchBatch:
    """Patches whose class is the band where they are loud."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(16) % 4
    patches = torch.randn(16, 96, 96, generator=generator)
    for row, kind in enumerate(label.tolist()):
        patches[row, kind * 20 : kind * 20 + 10] += 4.0
    mask = torch.ones(16, 96, dtype=torch.bool)
    return PatchBatch(patches, mask, F.one_hot(label, 4).float(), torch.arange(16))
