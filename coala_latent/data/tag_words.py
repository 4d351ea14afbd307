"""From what people write beside sounds to a vocabulary of tags.

A tag becomes words: lower case, letters only, singular. The original project dropped the final s of
every word; here words that merely end in s (bass, glass, gas, news) stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from coala_latent.errors import ConfigError

__all__ = ["STOP_WORDS", "clean_tags", "select_vocabulary", "singular"]


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


STOP_WORDS = _listed(
    """
    a about above after again against all also am an and any are as at be because been before being
    below between both but by can cannot could did do does doing down during each few for from
    further had has have having he her here hers herself him himself his how i if in into is it its
    itself just me more most my myself no nor not now of off on once only or other our ours
    ourselves out over own same she should so some such than that the their theirs them themselves
    then there these they this those through to too under until up very was we were what when where
    which while who whom why will with would you your yours yourself yourselves
    """
)

# Singular as they are, though they end in s; their own plurals, if any, end in "es".
_SINGULAR_S = _listed(
    """
    abacus alias always aries atlas bias biceps bus campus canvas chaos chorus christmas circus
    cosmos dallas forceps gas hermes jeans kansas lens mars mercedes nowadays oops overseas pancreas
    pants perhaps rhodes scissors sideways spectacles summons sunglasses texas thanks thermos tongs
    trousers whoops binoculars pliers blues clothes goggles james charles jones news series species
    simpsons wales moses hades diabetes headquarters crossroads innings barracks starbucks whereas
    acoustics acrobatics aerobics athletics ceramics cosmetics dynamics economics electronics ethics
    genetics graphics gymnastics linguistics mathematics mechanics optics phonetics physics politics
    robotics statistics bonus cactus census crocus discus focus fungus genius hiatus
    hippopotamus iris lotus minus mucus octopus platypus plus prospectus radius rhombus sinus status
    stylus surplus syllabus tennis trellis virus walrus apparatus
    """
)

_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "oxen": "ox",
    "axes": "axe",
    "quizzes": "quiz",
    "analyses": "analysis",
    "crises": "crisis",
    "oases": "oasis",
    "avalanches": "avalanche",
    "aches": "ache",
    "headaches": "headache",
    "moustaches": "moustache",
    "caches": "cache",
    "niches": "niche",
    "psyches": "psyche",
    "calves": "calf",
    "elves": "elf",
    "halves": "half",
    "hooves": "hoof",
    "knives": "knife",
    "leaves": "leaf",
    "loaves": "loaf",
    "scarves": "scarf",
    "shelves": "shelf",
    "thieves": "thief",
    "wives": "wife",
    "wolves": "wolf",
    "werewolves": "werewolf",
    # Plurals that end in -is and -us.
    **{
        f"{word}s": word
        for word in _listed(
            "alibi bayou bikini bureau caribou emoji emu flu gnu guru haiku kiwi litani menu "
            "plateau rabbi safari ski taxi timpani tsunami tutu yeti zebu"
        )
    },
    # Words in -ie, whose plurals look like those of words in -y.
    **{
        f"{word}s": word
        for word in _listed(
            "aussie birdie brownie calorie cookie doggie foodie genie goalie groupie hippie hoodie "
            "indie junkie kiddie movie newbie pixie prairie rookie selfie smoothie talkie techie "
            "veggie walkie zombie"
        )
    },
    # Words in -oe; of others in -oes the e goes too.
    **{
        f"{word}s": word
        for word in _listed(
            "aloe canoe floe horseshoe oboe roe shoe sloe snowshoe throe tiptoe toe woe"
        )
    },
}

# Ends that take "es": the e is not the word's own.
_TAKES_ES = re.compile(r"(?:[xo]|ch|sh|ss|zz|tz)es$")
_NO_PLURAL = re.compile(r"(?:ss|us|is)$")


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The words of tags, each once, in the order of their first appearance.

    Tags are split at everything that is neither letter nor digit; what then holds a digit, is a
    stop word, or is a single letter (but not a single ideograph) is left out. Words of the plain
    alphabet are put into the singular.

    Args:
        tags: As people wrote them; a tag may be several words.
    """
    found: dict[str, None] = {}
    for tag in tags:
        for written in _words(tag):
            word = singular(written)
            if not {written, word} & STOP_WORDS and _is_word(word):
                found[word] = None
    return tuple(found)


def _words(tag: str) -> list[str]:
    text = unicodedata.normalize("NFKC", tag).lower()
    # The apostrophe of "dog's" goes with its s, that of "don't" alone.
    text = re.sub(r"['\u2019](?:s\b)?", "", unicodedata.normalize("NFC", text))
    # \w would tear words apart at the vowel signs of Indian scripts, which are marks.
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()


def _is_word(word: str) -> bool:
    kinds = {unicodedata.category(c)[0] for c in word}
    if "L" not in kinds or "N" in kinds:
        return False
    letters = sum(unicodedata.category(c)[0] == "L" for c in word)
    return letters > 1 or "IDEOGRAPH" in unicodedata.name(word[0], "")


def singular(word: str) -> str:
    """The singular of a lower-case English plural; any other word unchanged.

    Words of up to three letters and words with other letters than a to z are left alone, because
    the rules are not theirs.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or not re.fullmatch("[a-z]+", word):
        return word
    if word in _SINGULAR_S or _NO_PLURAL.search(word):
        return word
    if word.endswith("es") and word[:-2] in _SINGULAR_S:
        return word[:-2]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if _TAKES_ES.search(word):
        return word[:-2]
    return word[:-1]


def select_vocabulary(
    sounds: Sequence[Iterable[str]],
    *,
    size: int = 1000,
    min_count: int = 10,
    max_share: float = 0.7,
) -> dict[str, int]:
    """The most frequent tags with the number of sounds that have them.

    Args:
        sounds: The tags of each sound, cleaned.
        size: Largest number of tags.
        min_count: Sounds that a tag must have.
        max_share: Share of the sounds beyond which a tag says nothing.

    Returns:
        In order: most frequent first, equally frequent ones by the alphabet.

    Raises:
        ConfigError: A setting does not make sense.
    """
    if size < 1 or min_count < 1 or not 0 < max_share <= 1:
        raise ConfigError(
            f"size={size}, min_count={min_count}, max_share={max_share}: use at least 1 and 1, and "
            "a share above 0 and up to 1"
        )
    counts = Counter(tag for tags in sounds for tag in set(tags))
    most = max_share * len(sounds)
    kept = [(tag, count) for tag, count in counts.items() if min_count <= count <= most]
    return dict(sorted(kept, key=lambda entry: (-entry[1], entry[0]))[:size])
