"""The front of steps: its runs are allowed, its figures follow from known masses, and what is done stays done."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import steps_front
import torch

from splatdistill.config import presets
from splatdistill.config.validation import validate
from splatdistill.evaluate import external
from splatdistill.guidance.methods.sds import SDS, SDSConfig
from tests.guidance import toys

SETTINGS = (*steps_front.FIRST, *steps_front.LATER)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_runs_are_allowed(setting: steps_front.Setting) -> None:
    config = setting.config(steps_front.PROMPTS[0], 2)
    validate(config)
    assert config.steps == setting.steps and config.threads == 1 and config.dtype == "fp32"
    assert config.optim.means == pytest.approx(setting.rates * SETTINGS[0].config("a car", 0).optim.means)


def test_every_run_has_a_folder_of_its_own_and_the_first_ones_decide_most() -> None:
    runs = steps_front.plan()
    folders = Counter(steps_front.folder_of(Path(), *run) for run in runs)
    assert max(folders.values()) == 1
    assert len(runs) == len(SETTINGS) * len(steps_front.PROMPTS) * len(steps_front.SEEDS)
    assert {(setting.name, seed) for setting, _, seed in runs[:24]} == {("600", 0), (steps_front.DEFAULT.name, 0)}


def test_prompts_are_among_the_counted_nouns() -> None:
    table, reference = external.Classes.read(), external.Reference.read()
    assert len(set(steps_front.PROMPTS)) == 12
    assert {table.noun(prompt) for prompt in steps_front.PROMPTS} <= reference.fixed


def test_a_run_is_done_only_with_its_settings_and_prior(tmp_path: Path) -> None:
    run = steps_front.plan()[0]
    assert steps_front.finished(tmp_path, *run) is None
    path = steps_front.folder_of(tmp_path, *run) / steps_front.LEDGER
    path.parent.mkdir()
    path.write_text(json.dumps({**steps_front.mark(*run), "cpu_seconds": 1.0}))
    assert steps_front.finished(tmp_path, *run) is not None
    path.write_text(json.dumps({**steps_front.mark(*run), "prior": "another", "cpu_seconds": 1.0}))
    assert steps_front.finished(tmp_path, *run) is None


def answer(setting: str, prompt: str, seed: int, mass: float) -> dict[str, Any]:
    return {"setting": setting, "prompt": prompt, "seed": seed, "mass": mass, "real": 0.5, "image_evaluations": 8,
            "cpu_seconds": 1.0}  # fmt: skip


def test_figures_of_known_masses() -> None:
    objects = [answer(steps_front.BASE, p, s, 0.4) for p in "ab" for s in (0, 1)]
    objects += [answer("400", p, s, 0.2) for p in "ab" for s in (0, 1)]
    objects += [answer("300", "a", 0, 0.8), answer("300", "a", 2, 0.01)]  # seed 2 has no twin
    objects += [answer("200", "a", 0, 1e-9)]  # counts as chance
    lines = {line["name"]: line for line in steps_front.lines_of(objects)}
    assert lines[steps_front.BASE]["mean"] == 0 and lines[steps_front.BASE]["passes"]
    assert lines["400"]["mean"] == pytest.approx(math.log(0.5)) and lines["400"]["pairs"] == 4
    assert lines["400"]["interval"] == pytest.approx([math.log(0.5)] * 2) and not lines["400"]["passes"]
    assert lines["300"]["mean"] == pytest.approx(math.log(2)) and lines["300"]["pairs"] == 1
    assert lines["200"]["mean"] == pytest.approx(math.log(steps_front.CHANCE / 0.4))
    assert lines["400"]["over_real"] == pytest.approx(0.4)
    dark = [answer(name, "c", 0, 1e-4) for name in (steps_front.BASE, "200 x1.5")]
    line = {line["name"]: line for line in steps_front.lines_of([*objects, *dark])}["200 x1.5"]
    assert line["mean"] == 0 and line["at_chance"] == line["pairs"] == 1


def test_the_interval_draws_prompts_and_seeds() -> None:
    """Two prompts of two seeds each: a quarter of the draws has prompt a alone, a sixteenth its worse seed alone."""
    low, high = steps_front.interval([[0.0, 1.0], [10.0, 11.0]])
    assert 0 <= low <= 0.5 and 10.5 <= high <= 11
    assert steps_front.interval([[0.3]]) == (0.3, 0.3)


@pytest.mark.parametrize(("above", "guided"), [(0.0, True), (0.3, True), (0.7, False)])
def test_guidance_stops_below_a_timestep(above: float, guided: bool) -> None:
    prior = toys.prompt_prior(x=toys.gaussian(0.5, 0.4), empty=toys.gaussian(-0.2, 0.9))
    one = {"prompt": "x", "group": 1, "steps": 1}
    method = steps_front.GuidedAbove(SDSConfig(guidance_scale=5.0), **one)
    method.above = above
    plain = SDS(SDSConfig(guidance_scale=5.0 if guided else 1.0), **one)
    z, eps = toys.draw(2, 1, 1, 1), toys.draw(2, 1, 1, 1, seed=1)
    found, wanted = (toys.gradient(m, prior, z=z, eps=eps, t=500) for m in (method, plain))
    torch.testing.assert_close(found, wanted)


def test_one_setting_is_the_default() -> None:
    default = presets.load("sds")[0]
    mine = steps_front.DEFAULT.config(default.prompt, default.seed)
    assert mine.steps == default.steps and mine.stages == default.stages
    assert asdict(mine.densify) == asdict(default.densify)
    for name, rate in asdict(default.optim).items():
        assert getattr(mine.optim, name) == pytest.approx(rate), name
