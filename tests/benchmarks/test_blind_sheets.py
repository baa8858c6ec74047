"""Sheets without names: which nouns they are of, and what counts as right."""

from __future__ import annotations

import json
import random

import blind_sheets
import pytest


@pytest.mark.parametrize("seed", range(5))
def test_a_third_of_the_nouns_is_new_to_the_readme(seed):
    nouns, text = [f"noun{i:02}" for i in range(60)], " ".join(f"noun{i:02}" for i in range(30))
    chosen = blind_sheets.choose(nouns, text, number=24, draw=random.Random(seed))
    assert len(set(chosen)) == 24 and sum(noun not in text for noun in chosen) == 8
    assert chosen != sorted(chosen)


def test_words_within_words_are_not_named_and_plurals_are():
    nouns, text = ["car", "owl", "ant", "dog"], "a carpet; two owls; a plant; a dog"
    chosen = blind_sheets.choose(nouns, text, number=3, draw=random.Random(0))
    assert {"owl", "dog"} < set(chosen)


def test_the_key_is_drawn_once(tmp_path):
    key = blind_sheets.key_of(tmp_path, 3)
    among = (tmp_path / "among.txt").read_text().splitlines()
    assert list(key) == ["01", "02", "03"] and len(set(among)) == 400 and set(key.values()) <= set(among)
    assert blind_sheets.key_of(tmp_path, 3) == key == json.loads((tmp_path / "key.json").read_text())


def test_an_answer_is_right_by_the_noun_that_is_read_in_it():
    key = {"01": "sofa", "02": "owl", "03": "car"}
    rows = blind_sheets.score(key, {"01": "a couch", "02": "a chicken"}, blind_sheets.known())
    assert [row["right"] for row in rows] == [True, False, False]
