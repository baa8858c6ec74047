"""Which paint of a model a part of the prompt is."""

from __future__ import annotations

import pytest

from splatdistill.priors.instances import Instance
from splatdistill.priors.paints import ALIKE, GUESSED, NAMED, able, assign
from splatdistill.priors.reading import Reading

BARE = (0.5, 0.5, 0.5)
CAR = Instance("car", "a", BARE, ("carPaint", "glass;windows", "black_rubber"), heights=(0.5, 0.8, 0.2))
CHAIR = Instance("chair", "b", BARE, ("wood", "cushion", ""), heights=(0.4, 0.6, 0.5))
PLAIN = Instance("chair", "c", BARE, ("wood", "", ""), heights=(0.5, 0.5, 0.5))
RIDDLE = Instance("car", "d", BARE, ("material", "material.001", "material.002"), heights=(0.5, 0.8, 0.1))

TABLE = Instance("table", "e", BARE, ("TableFeet;TableTop", "", ""), heights=(0.7, 0.5, 0.5))
EEL = Instance("eel", "g", BARE, ("skin",))
TRUCK = Instance("truck", "f", BARE, ("grey-wheels;container", "glass;frame", "cabin"), heights=(0.6, 0.3, 0.6))


@pytest.mark.parametrize(
    ("model", "colour", "parts", "colours", "sure"),
    [
        (CAR, "green", [("wheels", "yellow")], ("green", None, "yellow"), ALIKE),
        (CAR, None, [("window", "blue")], (None, "blue", None), NAMED),
        (CAR, "red", [], ("red", None, None), NAMED),
        (CHAIR, "red", [("leg", "blue")], ("blue", "red", None), GUESSED),
        (CHAIR, "red", [("wooden legs", "blue"), ("seat", "green")], ("blue", "green", None), 0),
        (CHAIR, "red", [("seat", "blue")], ("red", "blue", None), ALIKE),
        (PLAIN, "red", [("leg", "blue")], ("red", None, None), 0),
        (RIDDLE, "red", [("wheels", "blue")], ("red", None, "blue"), GUESSED),
        (RIDDLE, "red", [("roof", "blue")], ("red", "blue", None), GUESSED),
        (RIDDLE, None, [], (None, None, None), NAMED),
        (TABLE, None, [("leg", "green")], (None, None, None), 0),
        (EEL, None, [("skin", "red")], ("red", None, None), NAMED),
        (TRUCK, "red", [("wheels", "green")], ("red", "green", None), GUESSED),
    ],
)
def test_parts_go_by_name_then_by_what_is_alike_then_by_height(model, colour, parts, colours, sure):
    found = assign(model, Reading((model.noun,), colour, tuple(parts)))
    assert (found.colours, found.sure) == (colours, sure)


def test_models_that_can_show_a_part_go_first():
    reading = Reading(("chair",), "red", (("seat", "blue"),))
    assert able([PLAIN, CHAIR, PLAIN], reading) == [1]
    assert able([PLAIN, CHAIR, PLAIN], Reading(("chair",), "red")) == [0, 1, 2]
    assert able([PLAIN, PLAIN], reading) == [0, 1]


def test_short_words_are_found_at_the_beginning_of_a_name_only():
    elegant = Instance("table", "e", BARE, ("top", "elegant", "leg_metal"), heights=(0.9, 0.5, 0.2))
    assert assign(elegant, Reading(("table",), None, (("legs", "blue"),))).colours == (None, None, "blue")


def test_a_model_of_one_paint_that_nobody_named_is_painted_whole():
    assert assign(Instance("cup", "f", BARE), Reading(("cup",), "red")).colours == ("red", None, None)
