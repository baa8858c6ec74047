"""The judge of photographs knows every turn and the mirror."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from splatdistill.io.frames import transform
from tests.clients.letter import letter
from tests.clients.photograph import TURNS, camera, ours, stands, turned

VIEW = camera(azimuth=30, elevation=20)


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_letter_is_told(turn: str) -> None:
    picture = ours(transform(letter(), rotation=TURNS[turn]), VIEW)
    assert stands(picture, letter(), VIEW)[0] == turn
    assert stands(ours(letter(), turned(VIEW, TURNS[turn])), letter(), VIEW)[0] == turn


def test_a_mirrored_letter_is_told() -> None:
    mirrored = letter()
    for axis in (1, 2):  # a mirror of a turn: w and the part along its axis stay
        mirrored.quats[:, 1 + axis] *= -1
    mirrored.means[:, 0] *= -1
    assert stands(ours(mirrored, VIEW), letter(), VIEW)[0] == "mirrored"
    flipped = replace(VIEW, viewmats=torch.diag(torch.tensor([-1.0, 1, 1, 1])) @ VIEW.viewmats)
    assert flipped.viewmats.det() < 0
