"""What the user is told about words that a prior does not know."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from splatdistill.priors import EMBEDDED
from splatdistill.priors.words import META_FILE, SIMILAR, Vocabulary


@pytest.fixture
def vocabulary(tmp_path):
    meta = {
        "nouns": {"sofa": ["couch"], "dog": ["puppy"], "palm tree": ["palm"], "tree": [], "sneakers": [], "car": []},
        "paintable": ["sofa", "sneakers", "car"],
        "colours": {"red": ["crimson"], "blue": []},
        "words": [
            "a",
            "of",
            "photo",
            "sofa",
            "couch",
            "dog",
            "puppy",
            "palm",
            "tree",
            "sneakers",
            "car",
            "red",
            "blue",
        ],
    }
    (tmp_path / META_FILE).write_text(json.dumps(meta))
    return Vocabulary.load(tmp_path)


@pytest.mark.parametrize("prompt", ["a red sofa", "A photo of a PUPPY.", "two red couches", "a palm tree", "sneakers"])
def test_known_prompts_get_no_message(vocabulary, prompt):
    assert [m for m in vocabulary.check(prompt) if "two" not in m] == []


def test_unknown_nouns_become_the_nearest_and_it_is_said(vocabulary):
    assert vocabulary.check("a jeep") == ["This prior does not know 'jeep' and takes it for 'car'."]
    assert vocabulary.normalise("two jeeps, photo") == "two car, photo"
    assert vocabulary.check("a soffa") == ["This prior does not know 'soffa' and takes it for 'sofa'."]
    assert vocabulary.normalise("a soffa") == "a sofa"


@pytest.mark.parametrize("word", ["justice", "zxqv", "tooth", "thumb"])
def test_what_is_too_far_is_said_plainly_and_left(vocabulary, word):
    (message,) = vocabulary.check(f"a {word}")
    assert (
        message.startswith(f"This prior does not know '{word}' nor anything near it")
        and "`splatdistill vocab`" in message
    )
    assert vocabulary.normalise(f"a {word}") == f"a {word}"


def test_a_stand_in_is_not_put_beside_itself(vocabulary):
    assert vocabulary.normalise("a car and a jeep") == "a car and a jeep"


def test_known_nouns_stand_for_themselves_in_the_table():
    shipped = Vocabulary.load(EMBEDDED)
    for noun in shipped.nouns:
        assert shipped.nearest(noun) == noun


@pytest.mark.parametrize(
    ("word", "likely"),
    [
        ("stallion", {"horse"}), ("zebra", {"horse"}), ("wolf", {"dog"}), ("jeep", {"truck", "car"}),
        ("taxi", {"truck", "car"}), ("helicopter", {"biplane"}), ("violin", {"guitar"}), ("yacht", {"boat"}),
        ("canoe", {"boat"}), ("kettle", {"teapot", "mug"}), ("stool", {"chair"}), ("sandwich", {"hamburger"}),
    ],
)  # fmt: skip
def test_the_table_knows_what_is_like_what(word, likely):
    assert Vocabulary.load(EMBEDDED).nearest(word) in likely


def test_two_shapes_may_stand_together(tmp_path):
    meta = {
        "nouns": {"cone": [], "cube": [], "dog": []}, "paintable": ["cone", "cube"], "colours": {"red": [], "blue": []},
        "words": ["a", "on", "red", "blue", "cone", "cube", "dog"], "shapes": ["cone", "cube"], "relations": ["on"],
    }  # fmt: skip
    vocabulary = Vocabulary.from_meta(meta)
    assert vocabulary.check("a red cone on a blue cube") == []
    assert "single objects" in vocabulary.check("a red cone and a blue cube")[0]
    assert "single objects" in vocabulary.check("a dog on a blue cube")[0]


def test_the_table_is_small():
    assert SIMILAR.stat().st_size <= 600_000


def test_a_palm_tree_is_one_object_and_two_objects_are_told(vocabulary):
    assert vocabulary.check("a palm tree") == []
    assert "single objects" in vocabulary.check("a dog and a car")[0]


def test_no_object_and_unpaintable_colours_are_told(vocabulary):
    assert "names no object" in vocabulary.check("red")[0]
    assert "own colours" in vocabulary.check("a red dog")[0]


def test_normalise(vocabulary):
    assert vocabulary.normalise("  A Red  SOFA!, photo") == "a red sofa, photo"
    assert vocabulary.normalise("dogs") == "dog"
    assert vocabulary.normalise("sneakers") == "sneakers"


def test_missing_folder_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="No prior in"):
        Vocabulary.load(tmp_path / "nothing")


def test_needs_no_torch_of_its_own():
    code = "import sys, splatdistill.priors.words as w; src = open(w.__file__).read(); assert 'import torch' not in src"
    subprocess.run([sys.executable, "-c", code], check=True)
