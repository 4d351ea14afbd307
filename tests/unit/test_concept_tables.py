"""Tables of concepts and their splits: whatever the order, the same parts."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.sparse import csr_array

from coala_latent.data.concept_splits import PARTS, ConceptSplit, original_split, recording_split
from coala_latent.data.concept_tables import (
    ConceptTable,
    concepts_from_columns,
    concepts_from_folders,
    concepts_from_lists,
    concepts_from_pairs,
    random_concepts,
)
from coala_latent.errors import ConfigError, DataError

ODD = ["a b/c,d.mp3", "x=y.ogg", 'it\'s "q".wav', "ö/ü.flac", "<b>.wav"]


def lists(recordings=200, concepts=8, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"r{number:03d}" for number in range(recordings)]
    found = {
        f"c{number}": rng.choice(names, rng.integers(12, 60), replace=False).tolist()
        for number in range(concepts)
    }
    return found, names


def test_pairs_are_read_whatever_the_names(tmp_path):
    path = tmp_path / "pairs.csv"
    quoted = ['"' + name.replace('"', '""') + '"' for name in ODD]
    path.write_text(
        "recording,concept\n"
        + "".join(f'{name},"rock, pop"\n{name},é\n' for name in quoted[:3])
        + f"{quoted[3]},é\n./{quoted[4][1:-1]},é\n{quoted[0]},é\n",
        "utf-8",
    )
    table = concepts_from_pairs(path)
    assert table.recordings == tuple(sorted(ODD))
    assert table.concepts == ("rock, pop", "é")
    assert table.sizes.tolist() == [3, 5]
    assert [table.recordings[place] for place in table.of_concept(0)] == sorted(ODD[:3])


def test_columns_of_flags_and_of_tags(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text(
        "file,genre,dog,year,artist\na.wav,rock; pop,1,1990,x\nb.wav,pop,0,1990,\nc.wav,,,,x\n"
    )
    table = concepts_from_columns(path, ["genre", "dog", "year"], group="artist")
    assert table.concepts == ("1990", "dog", "pop", "rock")
    assert table.members.toarray().tolist() == [[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert table.groups == ("artist: x", "b.wav", "artist: x")
    whole = concepts_from_columns(path, ["genre"], separator="")
    assert whole.concepts == ("pop", "rock; pop")
    with pytest.raises(ConfigError, match="no expression"):
        concepts_from_columns(path, ["genre"], separator="(")
    with pytest.raises(DataError, match="no column 'mood'"):
        concepts_from_columns(path, ["mood"])


def test_groups_can_be_given_later():
    table = concepts_from_lists({"x": "ab"}, "abc").with_groups({"a": "one", "c": "one"})
    assert table.groups == ("one", "b", "one")
    assert table.within(["c", "a"]).groups == ("one", "one")
    with pytest.raises(DataError, match="have embeddings"):
        table.within(["z"])


def test_folders_are_concepts_at_every_level():
    names = ["animals/dog/1.wav", "animals/cat/2.wav", "3.wav", "things/dog/4.wav"]
    table = concepts_from_folders(names)
    assert table.concepts == ("animals", "cat", "dog", "things")
    assert table.sizes.tolist() == [2, 1, 2, 1]
    assert concepts_from_folders(names, [1]).concepts == ("cat", "dog")
    assert concepts_from_folders(["z\udcff/1.wav"]).concepts == ("z\\xff",)
    with pytest.raises(DataError, match="in a folder"):
        concepts_from_folders(["1.wav"])


def test_concepts_with_too_few_or_all_recordings_are_listed():
    table = concepts_from_lists({"few": "a", "all": "abcd", "some": "ab", "most": "abc"})
    chosen = table.select(2, 2)
    assert chosen.concepts == ("some",)
    assert "fewer than 2" in chosen.set_aside["few"]
    assert "more than 2" in chosen.set_aside["most"]
    assert "no negatives" in table.select(1).set_aside["all"]
    assert table.select(1).concepts == ("few", "most", "some")
    for bounds in ((0, None), (3, 2)):
        with pytest.raises(ConfigError):
            table.select(*bounds)


def test_a_name_that_is_there_twice_is_told():
    with pytest.raises(DataError, match="recording 'b' is there twice"):
        ConceptTable(("a", "b", "b"), ("x",), csr_array((3, 1), dtype=bool))
    with pytest.raises(DataError, match="members are"):
        ConceptTable(("a", "b"), ("x",), csr_array((3, 1), dtype=bool))
    with pytest.raises(DataError, match="nothing to train"):
        concepts_from_lists({})


def test_parts_are_seventy_ten_twenty_for_every_concept_and_groups_stay_together():
    found, names = lists()
    groups = {name: f"artist {int(name[1:]) // 2}" for name in names}
    table = concepts_from_lists(found, names, groups)
    split = recording_split(table, 3)
    sizes = np.bincount(split.part) / len(names)
    np.testing.assert_allclose(sizes, [0.7, 0.1, 0.2], atol=0.02)
    by_group = {}
    for group, part in zip(table.groups, split.part, strict=True):
        assert by_group.setdefault(group, part) == part
    for concept in range(len(table)):
        total = table.sizes[concept]
        for part, share in zip(PARTS, (0.7, 0.1, 0.2), strict=True):
            mine, others = split.positives(part, concept), split.negatives(part, concept)
            assert abs(len(mine) - share * total) <= max(2, 0.15 * total)
            assert sorted([*mine, *others]) == split.recordings(part).tolist()


def test_parts_do_not_depend_on_the_order_of_the_table():
    found, names = lists()
    table = concepts_from_lists(found, names)
    rng = np.random.default_rng(1)
    rows, columns = rng.permutation(len(names)), rng.permutation(len(table))
    other = ConceptTable(
        tuple(table.recordings[row] for row in rows),
        tuple(table.concepts[column] for column in columns),
        csr_array(table.members[rows][:, columns]),
    )
    one, two = recording_split(table, 5), recording_split(other, 5)
    assert dict(zip(table.recordings, one.part, strict=True)) == dict(
        zip(other.recordings, two.part, strict=True)
    )
    assert (recording_split(table, 6).part != one.part).any()
    reversed_lists = {key: found[key][::-1] for key in reversed(found)}
    again = recording_split(concepts_from_lists(reversed_lists, names[::-1]), 5)
    assert (again.part == one.part).all()


CODE = """
import json
from coala_latent.data.concept_splits import original_split, recording_split
from coala_latent.data.concept_tables import concepts_from_lists
table = concepts_from_lists(
    {"x": {f"r{n}" for n in range(0, 60, 3)}, "y": {f"r{n}" for n in range(30)}},
    {f"r{n}" for n in range(60)},
)
split, original = recording_split(table), original_split(table)
found = json.dumps([split.part.tolist(), original.negatives("test", 1).tolist()])
"""


def test_parts_do_not_depend_on_how_python_hashes():
    here: dict = {}
    exec(CODE, here)
    environment = {**os.environ, "PYTHONHASHSEED": "1" if hash("x") % 2 else "2"}
    done = subprocess.run(
        [sys.executable, "-c", f"{CODE}\nprint(found)"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == here["found"]
    assert len(json.loads(here["found"])[0]) == 60


def test_too_few_groups_cannot_be_split():
    table = concepts_from_lists({"x": "a"}, "abc", dict.fromkeys("abc", "one"))
    with pytest.raises(DataError, match="1 group"):
        recording_split(table)
    with pytest.raises(ConfigError, match="sum to 1"):
        recording_split(concepts_from_lists({"x": "a"}, "abcd"), 0, (0.5, 0.2, 0.2))


def test_concepts_that_lack_examples_in_a_part_are_set_aside():
    table = concepts_from_lists({"one": ["r0"], "many": [f"r{n}" for n in range(20)]}, [])
    split = ConceptSplit(table, np.arange(20) % 3).trainable()
    assert split.table.concepts == ()
    assert "0 others in the train part" in split.table.set_aside["many"]
    assert "0 recordings" in split.table.set_aside["one"]
    wide = concepts_from_lists({"many": [f"r{n}" for n in range(20)]}, [f"s{n}" for n in range(9)])
    assert ConceptSplit(wide, np.arange(29) % 3).trainable(3).table.concepts == ("many",)


def test_the_original_split_is_numpys_legacy_shuffle_of_each_concept():
    found, names = lists()
    table = concepts_from_lists(found, names)
    split = original_split(table)
    for concept in (0, 5):
        positives = table.of_concept(concept)
        expected, others = positives.tolist(), np.setdiff1d(np.arange(200), positives).tolist()
        np.random.seed(123)
        np.random.shuffle(expected)
        np.random.shuffle(others)
        for whole, choose in ((expected, split.positives), (others, split.negatives)):
            assert [*choose("train", concept), *choose("validation", concept)] == (
                whole[: round(0.8 * len(whole))]
            )
            assert len(choose("train", concept)) == round(0.7 * len(whole))
            assert choose("test", concept).tolist() == whole[round(0.8 * len(whole)) :]
    alone = split.only(["c5"])
    assert (alone.positives("test", 0) == split.positives("test", 5)).all()


def test_random_concepts_have_the_sizes_of_real_ones():
    found, names = lists()
    table = concepts_from_lists(found, names, dict.fromkeys(names[:5], "one artist"))
    made = random_concepts(table, 16, seed=2)
    assert made.recordings == table.recordings
    assert made.groups == table.groups
    assert sorted(made.sizes) == sorted([*table.sizes, *table.sizes])
    assert (random_concepts(table, 16, seed=2).members != made.members).nnz == 0
    assert (random_concepts(table, 16, seed=3).members != made.members).nnz > 0
    with pytest.raises(ConfigError):
        random_concepts(table, 0)
