"""The plan of the comparison: every run is allowed, has a name of its own and costs the same."""

from __future__ import annotations

import json
from collections import Counter

import compare_methods
import pytest
from compare_report import tables

from splatdistill.config.schema import GUIDANCE
from splatdistill.config.validation import validate

POOL = [f"a {colour} {noun}" for colour in ("red", "blue", "green", "white") for noun in "abcdefghij"]
PLAN = compare_methods.plan(POOL)


@pytest.mark.parametrize("row", PLAN, ids=lambda row: f"{row.suite}: {row.label}")
def test_runs_are_allowed_and_cost_the_budget(row: compare_methods.Row) -> None:
    for _, config in row.runs():
        validate(config)
        step = GUIDANCE[config.method].evaluations * config.num_views
        assert 0 <= row.budget - config.steps * step < step


def test_runs_have_names_of_their_own() -> None:
    names = Counter(name for row in PLAN for name, _ in row.runs())
    assert max(names.values()) == 1


def test_every_method_meets_every_prompt() -> None:
    rows = {row.label: row for row in PLAN if row.suite == "methods"}
    assert set(compare_methods.COMPARED) < set(rows)
    for row in rows.values():
        assert len(set(row.prompts)) == 24


def test_methods_are_told_the_side_in_words_or_by_cameras_but_never_both() -> None:
    for row in PLAN:
        for _, config in row.runs():
            assert config.views.view_dependent_prompts != "on" or not config.views.camera_embedding


def test_a_run_with_other_settings_is_not_done(tmp_path) -> None:
    (_, first), (_, second), *_ = PLAN[0].runs()
    mark = compare_methods.ledger(first)
    assert not compare_methods.done(tmp_path, mark)
    (tmp_path / compare_methods.LEDGER).write_text(json.dumps(mark))
    assert compare_methods.done(tmp_path, mark)
    assert not compare_methods.done(tmp_path, compare_methods.ledger(second))


def test_tables_show_each_row_of_the_plan_and_say_where_no_rate_is_known() -> None:
    figures = {
        "r_precision_object": 0.75, "geometry_r_precision_object": 0.5, "view_consistency": 0.9, "saturation": 0.4,
        "high_frequency": 0.021, "seconds": 29.6, "janus_rate": 0.05, "front_rate": 0.8,
    }  # fmt: skip
    rows = {(row.suite, row.label): figures | {"method": row.method} for row in PLAN}
    rows["janus", "vsd"] = rows["janus", "vsd"] | {"janus_rate": None, "front_rate": None}
    text = tables(rows, real={kind: figures for kind in ("plain", "coloured")})
    assert "| `sds` | 75 % | 50 % | 5 % | 80 % | 0.90 | 0.40 | 0.021 | 30 |" in text
    assert "| `vsd` | 75 % | 50 % | n/a | n/a |" in text
    assert "| `vsd with camera token` | 75 % | 50 % | not run | not run |" in text
    for row in PLAN:
        assert row.suite == "precision" or f"| {row.label} |" in text or f"| `{row.label}` |" in text
    widths = {line.count("|") for table in text.split("\n\n") for line in table.splitlines()}
    assert len(widths) == 3
