"""The guidance methods that there are: one for each file of splatdistill.guidance.methods, and those of other packages.

Modules of methods are imported here by name, so that settings know every method and yet depend on none. They come
without torch.
"""

from __future__ import annotations

import importlib
import keyword
import pkgutil
import typing
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, ClassVar, Protocol

from splatdistill.config import plugins
from splatdistill.config.base import MethodConfig

PACKAGE = "splatdistill.guidance.methods"
GROUP = "splatdistill.methods"


class Method(Protocol):
    """What settings, benchmarks and documents know of a method; `splatdistill.guidance.base.Guidance` says more."""

    Settings: ClassVar[type[MethodConfig]]
    paper: ClassVar[str]
    needs_cameras: ClassVar[bool]
    fits_views: ClassVar[bool]
    needs_source: ClassVar[bool]
    evaluations: ClassVar[int]
    single_view: ClassVar[bool]
    learned: ClassVar[frozenset[str]]
    order: ClassVar[int]


def load(*, taken: Iterable[str]) -> dict[str, type[Method]]:
    """Every method by its name. taken: names of other settings. A plug-in that cannot be used is left out with a
    warning.
    """
    folder = importlib.import_module(PACKAGE)
    names = [module.name for module in pkgutil.iter_modules(folder.__path__)]
    found = {name: _of_module(f"{PACKAGE}.{name}") for name in names}
    found = dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))
    for name, point in plugins.offered(GROUP, taken={*taken, *found}).items():
        if (method := plugins.load(point, fault=_fault)) is not None:
            found[name] = method
    return found


def aliases(methods: Mapping[str, type[Method]]) -> dict[str, list[str]]:
    """Flags without a section, as the settings of these methods have them, each with its methods."""
    found: dict[str, list[str]] = {}
    for name, method in methods.items():
        hints = typing.get_type_hints(method.Settings, include_extras=True)
        for marker in (marker for hint in hints.values() for marker in typing.get_args(hint)[1:]):
            for alias in getattr(marker, "aliases", None) or ():
                found.setdefault(alias.removeprefix("--"), []).append(name)
    return found


def _of_module(name: str) -> type[Method]:
    """The one method of a module."""
    own = [x for x in vars(importlib.import_module(name)).values() if getattr(x, "__module__", "") == name]
    (method,) = [x for x in own if hasattr(x, "Settings")]
    return method


def _fault(name: str, made: Any) -> str:
    """Why an object of another package cannot be the method of this name."""
    base: type = importlib.import_module("splatdistill.guidance.base").Guidance
    if not (isinstance(made, type) and issubclass(made, base)):
        return "it is not a class derived from splatdistill.guidance.base.Guidance"
    settings: Any = getattr(made, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, MethodConfig) and is_dataclass(settings)):
        return "its Settings are not a dataclass derived from splatdistill.config.base.MethodConfig"
    if not name.isidentifier() or keyword.iskeyword(name):
        return "its name cannot be that of a section of settings"
    typing.get_type_hints(settings)
    settings()
    return ""
