"""What other packages add: objects that they offer as entry points. Where one fails, the others work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class PluginWarning(UserWarning):
    """A plug-in that is left out, and why."""


def offered(group: str, *, taken: Container[str]) -> dict[str, EntryPoint]:
    """Entry points of a group by name, none of them imported. taken: names that they cannot have."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        if point.name in taken or point.name in found:
            _leave_out(point, "the name is taken")
        else:
            found[point.name] = point
    return found


def load(point: EntryPoint, *, fault: Callable[[str, Any], str]) -> Any:
    """The object of an entry point, or None with a warning where it cannot be used. fault: what is wrong with an object
    of that name, in a few words, "" for nothing.
    """
    made: Any = None
    try:
        made = point.load()
        wrong = fault(point.name, made)
    except Exception as error:  # whatever a stranger's module does when it is imported
        wrong = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if not wrong:
        return made
    _leave_out(point, wrong)
    return None


def package_of(point: EntryPoint) -> str:
    """The package that offers an entry point, for messages."""
    return point.dist.name if point.dist is not None else point.module


def _leave_out(point: EntryPoint, why: str) -> None:
    kind = point.group.rpartition(".")[2].removesuffix("s")
    message = f"The {kind} {point.name!r} of the package {package_of(point)!r} is left out: {why}."
    warnings.warn(message, PluginWarning, stacklevel=3)
