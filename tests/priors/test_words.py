"""What the user is told about words that a prior does not know."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from splatdistill.priors.words import META_FILE, Vocabulary


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


def test_unknown_nouns_are_answered_with_the_nearest(vocabulary):
    assert vocabulary.check("a taxi") == ["This prior does not know 'taxi'; the nearest it knows: car."]
    assert vocabulary.check("a soffa") == ["This prior does not know 'soffa'; the nearest it knows: sofa."]
    assert "`splatdistill vocab`" in vocabulary.check("a zeppelin")[0]


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
