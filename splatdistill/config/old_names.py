"""Settings that had another name when an old run was made. Files that users write take the names of today alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from splatdistill.config.base import is_list, is_mapping

KEYS = {
    "camera.wander": "camera.position_jitter",
    "light.soft": "light.random_ambient",
    "views.words": "views.view_dependent_prompts",
    "views.token": "views.camera_embedding",
    "consistency.gap_spread": "consistency.gap_range",
}
CAMERA_KINDS = {"inside-out": "outward"}


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The nested `values` of a run's settings file under the names of today, those of its stages too."""
    found = {key: _section(key, value) if is_mapping(value) else value for key, value in values.items()}
    if is_list(stages := found.get("stages")):
        found["stages"] = [renamed(stage) if is_mapping(stage) else stage for stage in stages]
    return found


def _section(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    now = {key: KEYS.get(f"{name}.{key}", "").rpartition(".")[2] or key for key in values}
    found = {now[key]: value for key, value in values.items()}
    if name == "camera" and isinstance(kind := found.get("kind"), str):
        found["kind"] = CAMERA_KINDS.get(kind, kind)
    return found
