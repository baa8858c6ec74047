"""What is read out of a prompt: objects, colours of the whole and of parts, and unknown words."""

from __future__ import annotations

import pytest

from splatdistill.priors.reading import Reading, read, singulars

NAMES = {
    "chair": "chair", "seat": "chair", "car": "car", "dog": "dog", "orange": "orange", "fire truck": "fire truck",
    "truck": "truck", "cone": "cone", "cube": "cube", "knife": "knife", "palm tree": "palm tree", "tree": "tree",
    "hat": "hat", "snowman": "snowman",
}  # fmt: skip
COLOURS = {"red": "red", "crimson": "red", "blue": "blue", "green": "green", "orange": "orange", "yellow": "yellow"}
WORDS = {*(word for name in NAMES for word in name.split()), *COLOURS, "toy", "leg"}


def taken(prompt: str) -> Reading:
    return read(prompt, names=NAMES, colours=COLOURS, words=WORDS)


@pytest.mark.parametrize(
    ("prompt", "nouns", "colour", "parts"),
    [
        ("a red chair with blue legs", ["chair"], "red", [("leg", "blue")]),
        ("A green CAR with yellow wheels.", ["car"], "green", [("wheels", "yellow")]),
        ("a chair with blue legs and a red seat", ["chair"], None, [("leg", "blue"), ("chair", "red")]),
        ("a car with yellow wheels, blue doors and red lamps", ["car"], None,
         [("wheels", "yellow"), ("doors", "blue"), ("lamps", "red")]),
        ("a snowman with a blue hat", ["snowman"], None, [("hat", "blue")]),
        ("a crimson seat", ["chair"], "red", []),
        ("two fire trucks", ["fire truck"], None, []),
        ("knives", ["knife"], None, []),
        ("an orange", ["orange"], None, []),
        ("an orange car", ["car"], "orange", []),
        ("an orange orange", ["orange"], "orange", []),
        ("a car with orange wheels", ["car"], None, [("wheels", "orange")]),
        ("a car in blue", ["car"], "blue", []),
        ("a photo of a palm tree, front view", ["palm tree"], None, []),
        ("a red cone on a blue cube", ["cone", "cube"], "red", []),
        ("", [], None, []),
    ],
)  # fmt: skip
def test_objects_and_their_colours(prompt, nouns, colour, parts):
    found = taken(prompt)
    assert (list(found.nouns), found.colour, list(found.parts)) == (nouns, colour, parts)
    assert not found.loose and not found.head


@pytest.mark.parametrize(
    ("prompt", "loose"),
    [("a red and blue chair", ["blue"]), ("a red blue chair", ["blue"]), ("a red chair and blue", ["blue"]),
     ("a red chair with blue", ["blue"]), ("a chair with blue green legs", ["green"])],
)  # fmt: skip
def test_a_further_colour_belongs_to_nothing(prompt, loose):
    assert list(taken(prompt).loose) == loose


@pytest.mark.parametrize(
    ("prompt", "head", "unknown"),
    [
        ("a red jeep with blue wheels", "jeep", ["jeep", "wheels"]),
        ("a spaceship made of cheese", "spaceship", ["spaceship", "cheese"]),
        ("a photo of a pair of skis", "skis", ["skis"]),
        ("a washing machine", "washing machine", ["washing", "machine"]),
        ("a dog on a sledge", None, ["sledge"]),
        ("a fluffy dog", None, ["fluffy"]),
        ("red", None, []),
        ("a red palm", "palm", []),
        ("a red leg, side view", "leg", []),
    ],
)
def test_what_is_unknown_and_whether_it_is_the_object(prompt, head, unknown):
    found = taken(prompt)
    assert (found.head, list(found.unknown)) == (head, unknown)


def test_plurals():
    assert {"puppy", "puppies"} <= set(singulars("puppies")) and "knife" in singulars("knives")
    assert "box" in singulars("boxes") and singulars("as") == ["as"] and "bus" in singulars("buses")
