"""Sets of tags to vectors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from coala_latent.embed.tags import TagEmbedder, TagVocabulary, load_tag_embedder
from coala_latent.errors import CoalaLatentError, ConfigError, TagError
from coala_latent.registry import build_model, list_models

COALA = ["coala-test", "coala-legacy-test", "coala-esc10"]


@pytest.fixture(scope="module")
def tags():
    return load_tag_embedder("coala-test")


@pytest.mark.parametrize("name", COALA)
def test_a_set_is_what_the_tag_encoder_says_of_its_multi_hot_vector(name):
    model, card = build_model(name)
    chosen = [card.vocabulary[3], card.vocabulary[0]]
    found = TagEmbedder(model, card).embed([chosen, card.vocabulary[1]])
    hot = torch.zeros(2, len(card.vocabulary))
    hot[0, [0, 3]] = hot[1, 1] = 1
    with torch.no_grad():
        z, z_d = model.tag_encoder(hot)
    np.testing.assert_allclose(found.z, z.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.z_d, z_d.numpy(), rtol=1e-5, atol=1e-6)
    assert found.tags == ((card.vocabulary[0], card.vocabulary[3]), (card.vocabulary[1],))
    assert found.z.dtype == found.z_d.dtype == np.float32


def test_single_tags_are_those_of_zero_shot_scores(tags):
    model, card = build_model("coala-test")
    hidden = torch.randn(7, card.layers["z_d"], generator=torch.Generator().manual_seed(0))
    scores = model.score("tags", hidden).detach().numpy()
    alone = tags.embed([[tag] for tag in card.vocabulary]).z_d
    unit = hidden.numpy() / np.linalg.norm(hidden.numpy(), axis=1, keepdims=True)
    cosine = unit @ (alone / np.linalg.norm(alone, axis=1, keepdims=True)).T
    np.testing.assert_allclose((1 + cosine) / 2, scores, atol=1e-5)


def test_order_and_repetition_do_not_matter(tags):
    found = tags.embed([["wood", "tap"], ["tap", "wood", "tap"], "tap wood", "Wood, TAPS"])
    assert set(found.tags) == {("tap", "wood")}
    assert (found.z_d == found.z_d[0]).all()


def test_many_sets_are_rows_of_one_batch_each(tags):
    sets = [[tags.card.vocabulary[number % 5]] for number in range(600)]
    found = tags.embed(sets)
    assert len(found) == len(found.z) == 600
    np.testing.assert_allclose(found.z_d[595:], found.z_d[:5], atol=1e-6)


def test_no_sets_give_no_rows(tags):
    found = tags.embed([])
    assert found.z.shape == found.z_d.shape == (0, tags.card.layers["z_d"])
    assert len(found) == 0


@pytest.mark.parametrize("empty", [[], "", "  ", " , "])
def test_an_empty_set_is_an_error(tags, empty):
    with pytest.raises(TagError, match="at least one"):
        tags.embed([["wood"], empty], ignore_unknown=True)


def test_unknown_tags_are_named_with_suggestions(tags):
    with pytest.raises(TagError, match=r"'wodo' .*coala-test; did you mean wood\?") as error:
        tags.embed([["wodo", "tap", "zzz"]])
    assert "'zzz'" in str(error.value)
    assert isinstance(error.value, CoalaLatentError)


def test_unknown_tags_can_be_passed_over_and_are_listed(tags):
    found = tags.embed([["zzz", "tap"], ["wood"]], ignore_unknown=True)
    assert found.tags == (("tap",), ("wood",))
    assert found.unknown == (("zzz",), ())
    np.testing.assert_array_equal(found.z_d, tags.embed(["tap", "wood"]).z_d)


def test_a_set_of_unknown_tags_alone_stays_an_error(tags):
    with pytest.raises(TagError, match="zzz"):
        tags.embed([["zzz"]], ignore_unknown=True)


def test_training_mode_is_left_as_it_was():
    model, card = build_model("coala-test")
    embedder = TagEmbedder(model, card)
    model.train()
    first = embedder.embed(["wood"]).z_d
    assert model.tag_encoder.training
    np.testing.assert_array_equal(first, embedder.embed(["wood"]).z_d)


@pytest.mark.parametrize("name", [n for n in list_models() if n.endswith("-test")])
def test_models_without_tags_say_so(name):
    model, card = build_model(name)
    if hasattr(model, "tag_encoder"):
        assert TagEmbedder(model, card).embed([[card.vocabulary[0]]]).z.ndim == 2
        with pytest.raises(ConfigError, match="vocabulary"):
            TagEmbedder(model, replace(card, vocabulary=()))
    else:
        with pytest.raises(ConfigError, match="embeds no tags"):
            TagEmbedder(model, card)


WORDS = ("Dog", "sea-wave", "box", "city", "scissors", "glass", "café", "bus", "new", "axe", "ax")


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        *[("Dog", "Dog"), ("dog", "Dog"), ("DOGS", "Dog"), (" dog ", "Dog")],
        *[("sea wave", "sea-wave"), ("Sea_Waves", "sea-wave"), ("boxes", "box")],
        *[("cities", "city"), ("scissor", "scissors"), ("glasses", "glass")],
        *[
            ("cafe\N{COMBINING ACUTE ACCENT}", "café"),
            ("\N{FULLWIDTH LATIN CAPITAL LETTER D}og", "Dog"),
            ("buses", "bus"),
        ],
    ],
)
def test_case_plural_and_separators_do_not_matter(written, tag):
    words = TagVocabulary(WORDS)
    assert words.tags[words.find(written)] == tag


@pytest.mark.parametrize(
    "written", ["do", "dogg", "cafe", "bu", "glas", "axes", "sea", "", "waves"]
)
def test_nothing_is_guessed(written):
    assert TagVocabulary(WORDS).find(written) is None


def test_tags_that_differ_in_case_alone_are_told_apart():
    words = TagVocabulary(["us", "US", "tap"])
    assert (words.find("us"), words.find("US"), words.find("Us")) == (0, 1, None)
    assert set(words.close("Us")) == {"us", "US"}


def test_a_text_is_split_at_commas_first_and_then_into_words():
    words = TagVocabulary(WORDS)
    assert words.split("sea wave") == ["sea wave"]
    assert words.split("dog, sea waves,, city bus") == ["dog", "sea waves", "city", "bus"]
    assert words.split("dog nothing") == ["dog", "nothing"]
