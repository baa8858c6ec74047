"""What a stranger's model folder may ask of the libraries that load it, and whether all of it was loaded.

transformers and diffusers follow some settings to code on a hub, and fill what a file lacks with random numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from splatdistill.config.base import is_list, is_mapping

PLAIN = (None, "eager", "sdpa")  # ways to attend that lie in torch and transformers themselves
MOST_DEPTH = 20


def refuse_code(config: Mapping[str, Any], *, where: str) -> None:
    """ValueError, one sentence, for a configuration that leads to code or kernels from elsewhere."""
    for key, value in _walk(config, depth=0):
        if key.endswith("_implementation") or key.endswith("_implementation_internal"):
            values = value.values() if is_mapping(value) else [value]
            if not all(one in PLAIN for one in values if not is_list(one) and not is_mapping(one)):
                raise ValueError(
                    f"{where} asks for {key} {str(value)[:60]!r}, which may be code from elsewhere; take that line out."
                )
        if key in ("quantization_config", "use_kernels", "kernel_config") and value:
            raise ValueError(f"{where} has {key}, which needs code from elsewhere; take a model without it.")


def refuse_gaps(info: Mapping[str, Any], known: Iterable[str]) -> None:
    """ValueError, a reason without a full stop, for a loading report of from_pretrained that names weights which were
    missing, or layers that the configuration leaves out. known: names of the weights that the model has.
    """
    if missing := sorted(map(str, info.get("missing_keys", ()))):
        raise ValueError(f"its weights lack {missing[0]}")
    if wrong := sorted(map(str, info.get("mismatched_keys", ()))):
        raise ValueError(f"{wrong[0]} has another shape than its config.json says")
    shapes = {re.sub(r"\d+", "#", name) for name in known}
    if left := [name for name in info.get("unexpected_keys", ()) if re.sub(r"\d+", "#", name) in shapes]:
        raise ValueError(f"its config.json has no place for {sorted(left)[0]}")


def _walk(node: Any, *, depth: int) -> Iterable[tuple[str, Any]]:
    if depth > MOST_DEPTH:
        raise ValueError(f"a configuration has more than {MOST_DEPTH} levels; none that is known has.")
    if is_mapping(node):
        for key, value in node.items():
            yield str(key), value
            yield from _walk(value, depth=depth + 1)
    elif is_list(node):
        for value in node:
            yield from _walk(value, depth=depth + 1)
