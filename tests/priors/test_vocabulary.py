"""What the user hears about words that a prior does not know."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from splatdistill.priors import EMBEDDED
from splatdistill.priors.vocabulary import META_FILE, SIMILAR, Vocabulary, _similar


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


def test_an_unknown_object_is_refused_with_the_nearest_and_taken_when_allowed(vocabulary):
    refusal = "This prior does not know 'jeep'; the nearest it knows: car. Name one of them, or take the first with"
    assert vocabulary.refusal("a jeep").startswith(refusal) and vocabulary.check("a jeep") == [
        vocabulary.refusal("a jeep")
    ]
    assert vocabulary.normalise("a jeep") == "a jeep"
    assert vocabulary.refusal("a jeep", nearest=True) is None
    assert vocabulary.check("a jeep", nearest=True) == ["This prior does not know 'jeep' and takes it for 'car'."]
    assert vocabulary.normalise("two red jeeps, photo", nearest=True) == "two red car, photo"
    assert vocabulary.normalise("a soffa", nearest=True) == "a sofa"


@pytest.mark.parametrize("word", ["justice", "zxqv", "tooth", "thumb"])
def test_what_is_too_far_is_said_plainly_and_left(vocabulary, word):
    for nearest in (False, True):
        (message,) = vocabulary.check(f"a {word}", nearest=nearest)
        assert message.startswith(f"This prior does not know '{word}' nor anything near it")
        assert "`splatdistill vocab`" in message and vocabulary.refusal(f"a {word}", nearest=nearest) == message
    assert vocabulary.normalise(f"a {word}", nearest=True) == f"a {word}"


@pytest.mark.parametrize(
    ("prompt", "unknown"), [("a car and a jeep", "jeep"), ("a red car with wheels", "wheels"), ("a rusty car", "rusty")]
)
def test_beside_a_known_object_no_word_is_replaced(vocabulary, prompt, unknown):
    assert vocabulary.refusal(prompt) is None
    assert vocabulary.normalise(prompt, nearest=True) == prompt
    assert vocabulary.check(prompt, nearest=True) == [f"This prior does not know '{unknown}' and leaves it out."]


def test_no_colour_is_offered_for_an_object(vocabulary):
    assert "red" not in str(vocabulary.refusal("a rad"))
    assert vocabulary.check("a bluee sofa")[0].endswith("the nearest it knows: blue.")


def test_three_are_offered_the_nearest_first():
    shipped = Vocabulary.load(EMBEDDED)
    offered = shipped.near("jeep")
    assert 1 < len(offered) <= 3 and offered[0] in {"suv", "truck", "car"} and len(set(offered)) == len(offered)
    assert ", ".join(offered) in str(shipped.refusal("a red jeep with blue wheels"))


def test_a_part_and_a_colour_without_one_are_told(vocabulary):
    assert "whole objects only, so 'blue legs'" in vocabulary.check("a red sofa with blue legs")[0]
    assert "says 'blue' as well" in vocabulary.check("a red and blue sofa")[0]


def test_what_is_known_is_counted(vocabulary):
    shipped = Vocabulary.load(EMBEDDED).stats()
    assert (shipped["objects"], shipped["models"], shipped["objects with several models"]) == (697, 1906, 351)
    several = dataclasses.replace(vocabulary, models={"sofa": 3, "car": 2}).stats()
    assert (several["objects with several models"], several["models"]) == (2, 9)


def test_known_nouns_stand_for_themselves_in_the_table():
    shipped = Vocabulary.load(EMBEDDED)
    rows = _similar()[0]
    known = [noun for noun in shipped.nouns if noun in rows]
    assert len(known) > 400
    for noun in known:
        assert shipped.near(noun)[0] == noun


@pytest.mark.parametrize(
    ("word", "likely"),
    [
        ("stallion", {"horse"}), ("limousine", {"car"}), ("sedan", {"suv", "car"}), ("jeep", {"suv", "truck", "car"}),
        ("ferry", {"boat"}), ("helicopter", {"airplane", "biplane"}), ("violin", {"guitar"}), ("yacht", {"boat"}),
        ("canoe", {"boat"}), ("goose", {"duck"}), ("cottage", {"house"}), ("wagon", {"cart"}),
    ],
)  # fmt: skip
def test_the_table_knows_what_is_like_what(word, likely):
    assert Vocabulary.load(EMBEDDED).near(word)[0] in likely


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
    code = "import splatdistill.priors.vocabulary as w; assert 'import torch' not in open(w.__file__).read()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_noun_is_never_another_nouns_synonym() -> None:
    meta = {"nouns": {"rocket": ["spaceship"], "spaceship": []}, "colours": {}, "paintable": [], "words": ["a"]}
    assert Vocabulary.from_meta(meta).read("a spaceship").nouns == ("spaceship",)


def test_a_noun_with_a_hyphen_is_found() -> None:
    meta = {"nouns": {"train": [], "high-speed train": []}, "colours": {}, "paintable": [], "words": ["a"]}
    vocabulary = Vocabulary.from_meta(meta, models=["train", "high-speed train", "t-shirt"])
    for noun in ("high-speed train", "t-shirt"):
        assert vocabulary.read(f"a {noun}").nouns == (noun,) and vocabulary.check(f"a {noun}") == []
