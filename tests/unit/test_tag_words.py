"""Tags become words, and words a vocabulary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coala_latent.data.tag_words import STOP_WORDS, clean_tags, select_vocabulary, singular
from coala_latent.errors import ConfigError


@pytest.mark.parametrize(
    "word",
    [
        *("bass", "glass", "press", "bus", "gas", "news", "series", "chess", "brass", "hiss"),
        *("lens", "chaos", "canvas", "christmas", "virus", "tennis", "famous", "electronics"),
        *("blues", "rhodes", "species", "always", "yes", "les", "sos"),
    ],
)
def test_words_that_end_in_s_stay(word: str) -> None:
    assert singular(word) == word


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("dogs", "dog"),
        ("voices", "voice"),
        ("cities", "city"),
        ("pies", "pie"),
        ("movies", "movie"),
        ("boxes", "box"),
        ("axes", "axe"),
        ("glasses", "glass"),
        ("buses", "bus"),
        ("gases", "gas"),
        ("lenses", "lens"),
        ("choruses", "chorus"),
        ("houses", "house"),
        ("noises", "noise"),
        ("sneezes", "sneeze"),
        ("buzzes", "buzz"),
        ("churches", "church"),
        ("headaches", "headache"),
        ("crashes", "crash"),
        ("echoes", "echo"),
        ("shoes", "shoe"),
        ("pianos", "piano"),
        ("cameras", "camera"),
        ("taxis", "taxi"),
        ("gurus", "guru"),
        ("waves", "wave"),
        ("wolves", "wolf"),
        ("knives", "knife"),
        ("children", "child"),
        ("mice", "mouse"),
        ("keys", "key"),
        ("kiss", "kiss"),
    ],
)
def test_plurals_become_singular(plural: str, expected: str) -> None:
    assert singular(plural) == expected


@given(st.from_regex(r"[a-z]{0,8}(s|es|ies|ves|oes|ses|xes)?", fullmatch=True))
def test_a_singular_stays_as_it_is(word: str) -> None:
    once = singular(word)
    assert singular(once) == once
    assert once or not word


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["Dogs", "DOG", "bark", "dogs"], ("dog", "bark")),
        (["field-recording", "owl_hoot"], ("field", "recording", "owl", "hoot")),
        (["120bpm", "808", "tr-808", "mp3"], ("tr",)),
        (["the", "Of", "a", "x"], ()),
        (["dog's bark", "dog\u2019s"], ("dog", "bark")),
        (["Vögel", "été", "ДВЕРЬ", "παιδιά"], ("vögel", "été", "дверь", "παιδιά")),
        (["हिन्दी"], ("हिन्दी",)),
        (["犬", "雨音"], ("犬", "雨音")),
        (["e\u0301te\u0301", "été"], ("été",)),
        (["\ufb01re"], ("fire",)),
        (["", "  ", "!?", "🎵", "a\0b"], ()),
        ([], ()),
    ],
)
def test_tags_are_cleaned(tags: list[str], expected: tuple[str, ...]) -> None:
    assert clean_tags(tags) == expected


@given(st.lists(st.text(max_size=12), max_size=6))
def test_cleaning_is_stable_and_leaves_words_only(tags: list[str]) -> None:
    words = clean_tags(tags)
    assert len(set(words)) == len(words)
    assert not set(words) & STOP_WORDS
    assert not any(character.isdigit() or character.isspace() for character in "".join(words))
    assert clean_tags(words) == words


def test_the_most_frequent_tags_are_kept_with_ties_by_the_alphabet() -> None:
    sounds = [("dog", "bark"), ("dog", "cat"), ("cat", "bark"), ("dog", "rain", "rain")]
    found = select_vocabulary(sounds, size=3, min_count=1, max_share=1.0)
    assert list(found.items()) == [("dog", 3), ("bark", 2), ("cat", 2)]


def test_too_rare_and_too_frequent_tags_are_left_out() -> None:
    sounds = [("noise", "dog"), ("noise", "dog"), ("noise", "rain"), ("noise",)]
    assert list(select_vocabulary(sounds, min_count=2, max_share=0.7)) == ["dog"]
    assert select_vocabulary(sounds, min_count=2, max_share=1.0) == {"noise": 4, "dog": 2}
    # A tag within one sound counts once.
    assert select_vocabulary([("a", "a", "a")], min_count=2, max_share=1.0) == {}
    assert select_vocabulary([], min_count=1) == {}


@pytest.mark.parametrize("wrong", [{"size": 0}, {"min_count": 0}, {"max_share": 0.0}])
def test_senseless_settings_are_told(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=0"):
        select_vocabulary([("dog",)], **wrong)
