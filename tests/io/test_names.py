"""Run names: prompts are data."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splatdistill.config.schema import TrainConfig
from splatdistill.config.settings import flatten
from splatdistill.io.names import check_name, run_name, slug

HOSTILE = ["../../etc/passwd", "\0", "a" * 10_000, "🪑", "", "..", "/", "a\nb", "-rf", "\ud800", "ﬀ" * 80]


@given(st.text() | st.sampled_from(HOSTILE))
def test_any_prompt_gives_a_plain_name(prompt: str) -> None:
    name = run_name(prompt, {"prompt": prompt})
    assert re.fullmatch(r"[a-z0-9-]{1,64}-[0-9a-f]{8}", name)
    assert (Path("/out") / name).resolve().parent == Path("/out")


def name_of(config: TrainConfig) -> str:
    return run_name(config.prompt, flatten(config))


def test_the_same_settings_have_the_same_name() -> None:
    config = TrainConfig(prompt="A red  Armchair!")
    assert slug(config.prompt) == "a-red-armchair"
    assert name_of(config) == name_of(replace(config))
    others = [replace(config, prompt="a red armchair"), replace(config, seed=1), replace(config, steps=7)]
    assert len({name_of(c) for c in [config, *others]}) == 4


@pytest.mark.parametrize("name", ["demo", "demo-2026.11.21_0400", "A", "x" * 100])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", [*HOSTILE, "a/b", "a\\b", ".hidden", "x" * 101, "a b", "end."])
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a run"):
        check_name(name)
