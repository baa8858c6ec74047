"""Turns, medians and the record of a benchmark."""

from __future__ import annotations

import json

import common
import pytest


class Clock:
    """Time that passes only when asked."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def passing(self, seconds, log, name):
        def call():
            self.now += seconds
            log.append(name)

        return call


def test_calls_take_turns_and_seconds_are_per_call(monkeypatch):
    clock, log = Clock(), []
    monkeypatch.setattr(common.time, "perf_counter", clock)
    calls = {"a": clock.passing(0.04, log, "a"), "b": clock.passing(0.004, log, "b")}
    samples = common.alternate(calls, rounds=4, clock=clock)
    assert samples["a"] == pytest.approx([0.04] * 4)
    assert samples["b"] == pytest.approx([0.004] * 4)
    assert "".join(log) == "aabb" + ("aa" + "b" + 5 * "b") * 4  # short calls are repeated, after one that is not timed


def test_a_budget_ends_the_rounds_after_three(monkeypatch):
    clock, log = Clock(), []
    monkeypatch.setattr(common.time, "perf_counter", clock)
    samples = common.alternate({"a": clock.passing(1.0, log, "a")}, rounds=9, budget=0.5, clock=clock)
    assert len(samples["a"]) == 3


def test_the_ratio_is_the_median_of_the_ratios_of_the_rounds():
    made = common.cell("x", [0.001, 0.001, 0.01], [0.05, 0.07, 0.6], tile=8)
    assert made == {"name": "x", "ours_ms": 1.0, "baseline_ms": 70.0, "ratio": 60.0, "tile": 8}
    missing = common.cell("x", [0.001], None)
    assert missing["baseline_ms"] is None and missing["ratio"] is None
    assert "n/a" in common.shown(missing)


def test_a_record_says_what_ran_where(tmp_path):
    cells = [common.cell("x", [0.001], [0.002])]
    path = tmp_path / "new" / "x.json"
    common.write(common.record("x", cells, quick=True, threads=1), path)
    read = json.loads(path.read_text())
    assert {"bench", "machine", "commit", "command", "quick", "threads", "cells"} == set(read)
    assert read["cells"] == cells
    assert "cores" in read["machine"] and read["machine"].split(", ")[-1] in ("generic", "x86_64_v3", "x86_64_v4")
    assert read["commit"]
