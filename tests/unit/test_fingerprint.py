"""What a model answers to synthetic sounds, as its card has it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coala_latent import list_models, model_card
from coala_latent.errors import WeightsError
from coala_latent.registry import build_model, save_model
from coala_latent.registry.fingerprint import check_fingerprint, fingerprint, synthetic_sounds

SHIPPED = [name for name in list_models() if model_card(name).weights]
TESTS = [name for name in list_models() if name.endswith("-test")]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_answer_as_their_cards_say(name):
    check_fingerprint(*build_model(name))


@pytest.mark.parametrize("name", TESTS)
def test_the_answer_is_that_of_the_weights_and_survives_rounding(name):
    module, card = build_model(name)
    answers = fingerprint(module, card)
    check_fingerprint(module, replace(card, fingerprint=answers))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.network.parameters():
            error = torch.randn(parameter.shape, generator=generator) * parameter.abs()
            parameter += 1e-6 * error
    check_fingerprint(module, replace(card, fingerprint=answers))
    with torch.no_grad():
        for parameter in module.network.parameters():
            parameter *= 0.7
            parameter += 0.01
    with pytest.raises(WeightsError, match="answers"):
        check_fingerprint(module, replace(card, fingerprint=answers))


def test_a_saved_model_has_one_and_a_card_without_is_told(tmp_path):
    module, card = build_model("coala-test")
    saved = save_model(module.train(), card, tmp_path)
    assert module.training
    check_fingerprint(*build_model(tmp_path / "coala-test.safetensors"))
    with pytest.raises(WeightsError, match="no fingerprint"):
        check_fingerprint(module.eval(), replace(saved, fingerprint={}))


def test_the_sounds_are_the_same_for_ever():
    sounds = synthetic_sounds(4000, 16000)
    assert sounds.shape == (3, 4000)
    assert np.abs(sounds).max() <= 0.8
    np.testing.assert_allclose(sounds[1, :3], [0.2 * (1103527590 / 2**30 - 1), *sounds[1, 1:3]])
    assert sounds[1].std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    assert sounds[2].sum() == pytest.approx(0.8 * 16)
