"""Holds a number to the constraints of annotated-types that stand in the type of its field."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator
from typing import Any

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt


def check(name: str, hint: Any, value: Any) -> None:
    """ValueError, one sentence that names the field, for a number out of its range. hint: the type of the field, with
    its metadata. Both numbers of a pair have a range each, and the lower one comes first.
    """
    inner = typing.get_args(_plain(hint))
    if isinstance(value, tuple) and Ellipsis not in inner:
        for part, number in zip(inner, typing.cast("tuple[Any, ...]", value), strict=True):
            check(name, part, number)
        if value[0] > value[1]:
            raise ValueError(f"{name} must be the lower value, then the higher; it is {value[0]:g} and {value[1]:g}.")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(name, dict(bounds(hint)), value)


def bounds(hint: Any) -> Iterator[tuple[str, float]]:
    """The bounds of a number as (kind, value), kind being gt, ge, lt or le."""
    for item in typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ():
        for one in item if isinstance(item, GroupedMetadata) else (item,):
            for kind in (Gt, Ge, Lt, Le):
                if isinstance(one, kind):
                    key = kind.__name__.lower()
                    yield key, getattr(one, key)


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _check_number(name: str, bounds: dict[str, float], value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; it is {value}.")
    below = value < bounds.get("ge", -math.inf) or value <= bounds.get("gt", -math.inf)
    above = value > bounds.get("le", math.inf) or value >= bounds.get("lt", math.inf)
    if below or above:
        raise ValueError(f"{name} must {_wanted(name, bounds, below=below)}; it is {value:g}.")


def _wanted(name: str, bounds: dict[str, float], *, below: bool) -> str:
    """The range in words; of one that begins at 0, a number below needs only half of it."""
    unit = " degrees" if name.endswith("_deg") else ""
    if below and bounds.get("ge") == 0:
        return "not be negative"
    words = [f"above {bounds['gt']:g}"] if "gt" in bounds else []
    words += [f"at least {bounds['ge']:g}"] if "ge" in bounds else []
    words += [f"below {bounds['lt']:g}"] if "lt" in bounds else []
    words += [f"at most {bounds['le']:g}"] if "le" in bounds else []
    if bounds.keys() == {"ge", "le"}:
        return f"be within {bounds['ge']:g} and {bounds['le']:g}{unit}"
    return f"be {' and '.join(words)}{unit}"
