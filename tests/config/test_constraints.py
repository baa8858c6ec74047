"""Every number of the settings has a range on its field, and is held to it."""

from __future__ import annotations

import math
import typing
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splatdistill.config import constraints, settings
from splatdistill.config.schema import METHODS, TrainConfig

CONFIGS = [TrainConfig(prompt="a cup", method=method) for method in METHODS]
NUMBERS = {
    name: (hint, value)
    for config in CONFIGS
    for name, hint, value in settings.walk(config)
    if name not in ("stages", "lora", "splats.box")
    and isinstance(value, int | float | tuple)
    and not isinstance(value, bool)
}


def ranges(name: str) -> list[dict[str, float]]:
    """The bounds of a number, or of both of a pair."""
    hint, value = NUMBERS[name]
    if not isinstance(value, tuple):
        return [dict(constraints.bounds(hint))]
    inner = hint if typing.get_origin(hint) is tuple else typing.get_args(hint)[0]
    return [dict(constraints.bounds(part)) for part in typing.get_args(inner)]


def inside(bounds: dict[str, float], *, whole: bool) -> st.SearchStrategy[Any]:
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if whole:
        first = None if low is None else int(low) + ("gt" in bounds)
        return st.integers(first, None if high is None else int(high) - ("lt" in bounds))
    return st.floats(
        low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds, allow_nan=False, allow_infinity=False
    )


def outside(bounds: dict[str, float], *, whole: bool) -> st.SearchStrategy[Any]:
    """Numbers that the bounds exclude, the nearest among them."""
    found: list[st.SearchStrategy[Any]] = []
    if (low := bounds.get("ge", bounds.get("gt"))) is not None:
        last = int(low) - ("ge" in bounds)
        found.append(st.integers(None, last) if whole else st.floats(None, low, exclude_max="ge" in bounds))
    if (high := bounds.get("le", bounds.get("lt"))) is not None:
        first = int(high) + ("le" in bounds)
        found.append(st.integers(first, None) if whole else st.floats(high, None, exclude_min="le" in bounds))
    return st.one_of(*found) if whole else st.one_of(*found, st.sampled_from([math.nan, math.inf, -math.inf]))


def test_every_number_has_a_lower_bound() -> None:
    assert len(NUMBERS) > 80
    assert [name for name in NUMBERS if not all({"ge", "gt"} & bounds.keys() for bounds in ranges(name))] == []


@given(data=st.data())
def test_numbers_inside_pass_and_numbers_outside_are_refused_by_name(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(NUMBERS)))
    (hint, default), both = NUMBERS[name], ranges(name)
    whole = type(default) is int
    good = sorted(data.draw(inside(bounds, whole=whole)) for bounds in both)
    bad = data.draw(outside(both[-1], whole=whole))
    pair = isinstance(default, tuple)
    constraints.check(name, hint, tuple(good) if pair else good[0])
    with pytest.raises(ValueError, match=rf"^{name} must .*\.$"):
        constraints.check(name, hint, (good[0], bad) if pair else bad)


def test_the_defaults_of_every_method_lie_inside() -> None:
    for config in CONFIGS:
        for name, hint, value in settings.walk(config):
            if name != "stages":
                constraints.check(name, hint, value)


def test_the_lower_value_comes_first() -> None:
    (hint,) = (hint for name, hint, _ in settings.walk(CONFIGS[0]) if name == "camera.fovy_deg")
    with pytest.raises(ValueError, match=r"camera\.fovy_deg must be the lower value, then the higher; it is 40 and 30"):
        constraints.check("camera.fovy_deg", hint, (40.0, 30.0))


def test_what_a_file_alone_can_set_is_told_by_its_type() -> None:
    found = settings.file_only(replace(CONFIGS[0], method="multiview"))
    assert {"optim.quats", "light.spread", "multiview.t_min_first"} <= found
    assert not found & {"optim.means", "camera.fill", "multiview.t_min", "stages"}
