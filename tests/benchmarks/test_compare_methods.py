"""The plan of the comparison: every run is allowed, has a name of its own and costs the same."""

from __future__ import annotations

import json
from collections import Counter

import compare_methods
import pytest

from splatdistill.config import METHODS
from splatdistill.presets import validate

POOL = [f"a {colour} {noun}" for colour in ("red", "blue", "green", "white") for noun in "abcdefghij"]
PLAN = compare_methods.plan(POOL)


@pytest.mark.parametrize("row", PLAN, ids=lambda row: f"{row.suite}: {row.label}")
def test_runs_are_allowed_and_cost_the_budget(row: compare_methods.Row) -> None:
    for _, config in row.runs():
        validate(config)
        step = compare_methods.PER_VIEW[config.method] * config.num_views
        assert 0 <= row.budget - config.steps * step < step


def test_runs_have_names_of_their_own() -> None:
    names = Counter(name for row in PLAN for name, _ in row.runs())
    assert max(names.values()) == 1


def test_every_method_meets_every_prompt() -> None:
    rows = {row.label: row for row in PLAN if row.suite == "methods"}
    assert set(METHODS) < set(rows)
    for row in rows.values():
        assert len(set(row.prompts)) == 24


def test_methods_are_told_the_side_in_words_or_by_cameras_but_never_both() -> None:
    for row in PLAN:
        for _, config in row.runs():
            assert config.views.words != "on" or not config.views.token


def test_a_run_with_other_settings_is_not_done(tmp_path) -> None:
    (_, first), (_, second), *_ = PLAN[0].runs()
    mark = compare_methods.ledger(first)
    assert not compare_methods.done(tmp_path, mark)
    (tmp_path / compare_methods.LEDGER).write_text(json.dumps(mark))
    assert compare_methods.done(tmp_path, mark)
    assert not compare_methods.done(tmp_path, compare_methods.ledger(second))
