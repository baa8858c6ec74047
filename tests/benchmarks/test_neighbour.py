"""A turn that another program disturbed does not count."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bm_neighbour
import pytest


def turns(monkeypatch: pytest.MonkeyPatch, foreign: list[float], *, wanted: int) -> dict[str, list[float]]:
    """What is kept of turns during which others used so many CPU seconds; the n-th turn takes n seconds a call."""
    used, asked = [0.0], iter(range(1, 100))

    def ask(process: Any, calls: int) -> dict[str, Any]:
        turn = next(asked)
        used[0] += foreign[(turn - 1) % len(foreign)]
        return {"seconds": [99.0] + [float(turn)] * (calls - 1)}

    monkeypatch.setattr(bm_neighbour, "ask", ask)
    monkeypatch.setattr(bm_neighbour, "machine_seconds", lambda: used[0])
    monkeypatch.setattr(bm_neighbour, "seconds_of", lambda processes: 0.0)
    return bm_neighbour.take_turns({"a": SimpleNamespace(pid=1)}, wanted, beside=[])  # type: ignore[dict-item]


def test_disturbed_turns_are_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns(monkeypatch, [0.0, 5.0, 0.0], wanted=3) == {"a": [1.0, 3.0, 4.0]}


def test_a_machine_that_is_never_calm_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="Other programs use this machine"):
        turns(monkeypatch, [5.0], wanted=2)
