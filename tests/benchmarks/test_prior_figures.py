"""What the figures of the prior's words and seeds are made of: colours of parts, and what chance gives."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import prior_seeds
import prior_words
import pytest
import torch

from splatdistill.embedded.corpus.layout import Record
from splatdistill.priors.gbuffer import ALPHA, CHANNELS, PAINTS, SHADING

SIDE, LIGHT = 16, 0.6
LEFT, RIGHT = (0.94, 0.94, 0.93), (0.1, 0.25, 0.8)  # white and blue


def mesh() -> np.ndarray:
    """[1,16,16,8]: a wall whose left half is the first paint and its right half the second, in the shade."""
    buffers = np.zeros((1, SIDE, SIDE, CHANNELS), dtype=np.uint8)
    buffers[..., ALPHA], buffers[..., SHADING] = 255, round(255 * LIGHT)
    buffers[:, :, : SIDE // 2, PAINTS[0]] = buffers[:, :, SIDE // 2 :, PAINTS[1]] = 255
    return buffers


def splats(alpha: float) -> SimpleNamespace:
    """A run whose splats show that wall in paint, in the shade, and let some of the ground through."""
    columns = (torch.arange(SIDE) < SIDE // 2)[None, None, :, None]
    colour = LIGHT * torch.where(columns, torch.tensor(LEFT), torch.tensor(RIGHT)).expand(1, SIDE, SIDE, 3)

    def render(splats, cameras, *, background):
        ground = background[:, None, None]
        return SimpleNamespace(rgb=alpha * colour + (1 - alpha) * ground, alpha=torch.full((1, SIDE, SIDE, 1), alpha))

    return SimpleNamespace(splats=None, renderer=SimpleNamespace(render=render))


@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_a_part_has_the_colour_of_its_paint_in_the_shade_and_where_it_is_thin(alpha):
    record = Record("wall", "wall/0", 0, azimuth=[0.0], elevation=[0.2], radius=[3.0], fovy=[0.7])
    left, right, none = prior_words.parts_of(record, mesh(), splats(alpha))
    assert (left["found"], right["found"], none["found"]) == ("white", "blue", None)
    assert left["pixels"] == right["pixels"] == SIDE**2 // 2 and none["pixels"] == 0
    assert left["covered"] == right["covered"] == alpha


def test_what_is_not_there_has_no_colour():
    record = Record("wall", "wall/0", 0, azimuth=[0.0], elevation=[0.2], radius=[3.0], fovy=[0.7])
    assert {part["found"] for part in prior_words.parts_of(record, mesh(), splats(0.0))} == {None}


@pytest.mark.parametrize("models", [1, 2, 3, 4])
def test_chance_is_the_mean_number_of_different_models(models):
    draws = [len(set(drawn)) for drawn in itertools.product(range(models), repeat=5)]
    assert prior_seeds.uniform(models, 5) == pytest.approx(sum(draws) / len(draws))


def test_a_record_goes_on_at_its_commit_alone(tmp_path, monkeypatch):
    record, sheet = tmp_path / "words.json", tmp_path / "words.png"
    record.write_text('{"commit": "abc", "prompts": [{"prompt": "a car"}]}')
    sheet.write_bytes(b"")
    monkeypatch.setattr(prior_words, "commit", lambda: "abc")
    assert prior_words.done(record, sheet, "prompts") == [{"prompt": "a car"}] and sheet.exists()
    monkeypatch.setattr(prior_words, "commit", lambda: "def")
    assert prior_words.done(record, sheet, "prompts") == [] and not sheet.exists()
