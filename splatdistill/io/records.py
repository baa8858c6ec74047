"""JSON that anybody may have written: objects whose values can be added up, shown and written again.

A damaged one is an empty one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from splatdistill.config.base import is_list, is_mapping

MOST_DEPTH = 8  # levels; records of ours have three
MOST = 2**63  # of whole numbers
NUMBER = (int, float)
Kinds = Mapping[str, type | tuple[type, ...]]


def json_object(text: bytes | str) -> dict[str, Any]:
    """The object that stands there; empty for anything else. Numbers that are not finite or beyond MOST, and what lies
    deeper than MOST_DEPTH, become None; letters that UTF-8 cannot hold become question marks.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return _tame(found, depth=0) if is_mapping(found) else {}


def of_kinds(values: Mapping[str, Any], kinds: Kinds) -> dict[str, Any]:
    """Without those that are of another kind than `kinds` says. Numbers are of no kind true or false are of."""
    return {
        name: value
        for name, value in values.items()
        if name not in kinds or (isinstance(value, kinds[name]) and not isinstance(value, bool))
    }


def _tame(value: Any, *, depth: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) < MOST else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if value is None or depth == MOST_DEPTH:
        return None
    if is_mapping(value):
        return {_tame(key, depth=0): _tame(item, depth=depth + 1) for key, item in value.items()}
    return [_tame(item, depth=depth + 1) for item in value] if is_list(value) else None
