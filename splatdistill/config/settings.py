"""Nested values laid over a TrainConfig, strictly, and a TrainConfig as dotted names, as stages or as YAML."""

from __future__ import annotations

import difflib
import math
import re
import typing
from collections.abc import Container, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal

import yaml

from splatdistill.config import old_names
from splatdistill.config.base import FileOnly, is_list, is_mapping
from splatdistill.config.schema import GUIDANCE, METHODS, Stages, TrainConfig

Origins = dict[str, str]
"""Dotted field name -> default, "prior FAMILY: SOURCE", file or flag."""

_MAY_CHANGE = {
    "size", "num_views", "method", "prior", "camera", "optim", "densify", "background", "light", "views", "regularize",
    *METHODS,
}  # fmt: skip  # by a stage
MAY_CHANGE_ON_RESUME = ("steps", "output.", "max_memory")  # beginnings of names; all else would make it another run
_FILE_ONLY = typing.get_args(FileOnly[int])[1]


def merge(config: TrainConfig, values: Mapping[str, Any], *, where: str) -> TrainConfig:
    """`config` with the nested `values` laid over it. where: what to call their source in errors."""
    return _merge(config, values, where=where, prefix="", known=list(flatten(config)))


def merge_known(config: TrainConfig, values: Mapping[str, Any], *, where: str) -> tuple[TrainConfig, list[str]]:
    """As `merge`, but what it would refuse is left out; a sentence names that."""
    left_out: list[str] = []

    def laid_over(node: Any, values: Mapping[str, Any], prefix: str) -> Any:
        hints = field_types(node)
        for key, value in values.items():
            name = f"{prefix}{key}"
            if is_dataclass(hints.get(key)) and is_mapping(value):
                node = replace(node, **{key: laid_over(getattr(node, key), value, f"{name}.")})
                continue
            try:
                node = _merge(node, {key: value}, where=where, prefix=prefix, known=[])
            except ValueError:
                left_out.append(name)
        return node

    merged = laid_over(config, values, "")
    some = ", ".join(name[:40] for name in left_out[:5]) + (" and more" if left_out[5:] else "")
    return merged, [f"{where} has settings that this version does not know; they are left out: {some}."] * bool(some)


def shown(value: Any) -> str:
    """A value as the user wrote it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _merge(node: Any, values: Mapping[str, Any], *, where: str, prefix: str, known: list[str]) -> Any:
    hints = field_types(node)
    changes = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in hints:
            now = [old_names.KEYS[name]] if name in old_names.KEYS else []
            near = now or difflib.get_close_matches(name[:80], [*known, *hints], n=1)
            raise ValueError(f"{where}: unknown key {shown(name)}" + (f"; did you mean {near[0]!r}?" if near else "."))
        if is_dataclass(hints[key]):
            if not is_mapping(value):
                raise ValueError(f"{where}: {name} must hold settings as 'key: value'; it is {shown(value)}.")
            changes[key] = _merge(getattr(node, key), value, where=where, prefix=f"{name}.", known=known)
        else:
            changes[key] = _convert(value, hints[key], name=f"{where}: {name}")
    return replace(node, **changes)


def _convert(value: Any, hint: Any, *, name: str) -> Any:
    """`value` as the type `hint`: bool is not int, int is taken for float, and 1e-3 (text in YAML 1.1) is a number."""
    options = typing.get_args(hint)
    if hint == Stages:
        if not is_list(value) or not all(is_mapping(stage) for stage in value):
            raise ValueError(f"{name} must be a list of settings as 'key: value'; it is {shown(value)}.")
        return tuple(dict(stage) for stage in value)
    if typing.get_origin(hint) is Literal:
        if not any(type(value) is type(option) and value == option for option in options):  # true is not 1
            raise ValueError(f"{name} must be one of {', '.join(map(str, options))}; it is {shown(value)}.")
        return value
    if typing.get_origin(hint) is tuple and Ellipsis in options:
        if not is_list(value):
            raise ValueError(f"{name} must be a list; it is {shown(value)}.")
        return tuple(_convert(item, options[0], name=name) for item in value)
    if typing.get_origin(hint) is tuple:
        if not is_list(value) or len(value) != len(options):
            raise ValueError(f"{name} must be a list of {len(options)} values; it is {shown(value)}.")
        return tuple(_convert(item, option, name=name) for item, option in zip(value, options, strict=True))
    if hint is float and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", value):
        value = float(value)
    if type(value) is int and abs(value) >= 2**63:
        raise ValueError(f"{name} is larger than any setting can be; it is {shown(value)}.")
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise ValueError(f"{name} must be {words[hint]}; it is {shown(value)}.")
    return value


def stages(config: TrainConfig) -> list[tuple[int, TrainConfig]]:
    """First step and settings of each stage, in order; the first begins at step 0. Each builds on the one before.

    ValueError, one sentence, for a stage that starts too early or changes what a run keeps to its end. A method that
    begins at a stage learns from there on.
    """
    found, start = [(0, config)], 0.0
    for stage in config.stages:
        later = stage.get("start")
        if isinstance(later, bool) or not isinstance(later, int | float) or not start < later < 1:
            raise ValueError(f"stages: start must be above {start:g} and below 1 here; it is {shown(later)}.")
        start = float(later)
        values = {key: value for key, value in stage.items() if key != "start"}
        before = found[-1][1]
        _check_stage(values, before.method)
        after = merge(before, values, where="stages")
        if particles(after) != particles(before):
            raise ValueError(f"stages: {after.method} must have {particles(before)} particles, as the stage before.")
        found.append((round(start * config.steps), after))
    return found


def _check_stage(values: Mapping[str, Any], before: str) -> None:
    """ValueError for settings that no stage may change, or that another method reads. before: the method until then."""
    method = values.get("method", before)
    if method not in METHODS:
        raise ValueError(f"stages: method must be one of {', '.join(METHODS)}; it is {shown(method)}.")
    goes_on = method == before
    for name in keys(values):
        section, _, last = name.partition(".")
        known = section in field_types(TrainConfig())
        learned = section in METHODS and last in GUIDANCE[section].learned
        if (known and section not in _MAY_CHANGE) or (learned and goes_on):
            raise ValueError(f"stages: {name} cannot change on the way.")
        if section in METHODS and section != method:
            raise ValueError(f"stages: --method {method} does not read {name}.")
        if section == "prior" and goes_on and GUIDANCE[method].learned:
            raise ValueError(f"stages: prior cannot change on the way, because {method} learns on it.")


def particles(config: TrainConfig) -> int:
    """Objects that the method makes at once."""
    return getattr(getattr(config, config.method), "particles", 1)


def methods_of(config: TrainConfig) -> set[str]:
    """The method of a run, and those of its stages."""
    return {config.method, *(str(stage["method"]) for stage in config.stages if "method" in stage)}


def flatten(config: TrainConfig) -> dict[str, Any]:
    """Dotted name -> value of every setting that the run reads, in order: sections of methods that neither it nor a
    stage has are left out.
    """
    return {name: value for name, _, value in walk(config)}


def walk(config: TrainConfig) -> Iterator[tuple[str, Any, Any]]:
    """The same as (dotted name, type with its metadata, value)."""
    read = methods_of(config)
    for name, hint, value in _fields(config):
        if is_dataclass(value) and (name not in METHODS or name in read):
            yield from ((f"{name}.{key}", *rest) for key, *rest in _fields(value))
        elif not is_dataclass(value):
            yield name, hint, value


def _fields(node: Any) -> Iterator[tuple[str, Any, Any]]:
    hints = field_types(node, extras=True)
    return ((field.name, hints[field.name], getattr(node, field.name)) for field in fields(node))


def differences(config: TrainConfig, other: TrainConfig) -> list[str]:
    """Dotted names of the settings in which two configurations differ."""
    values = flatten(other)
    return [name for name, value in flatten(config).items() if value != values.get(name)]


def to_yaml(config: TrainConfig, origins: Origins | None = None) -> str:
    """Every setting as YAML that `read` and `merge` take back; with `origins`, lines say where values are from."""
    lines: list[str] = []
    section = ""
    for name, value in flatten(config).items():
        *parents, key = name.split(".")
        if parents and parents[0] != section:
            section = parents[0]
            lines.append(f"{section}:")
        text = yaml.safe_dump(
            _plain(value), default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False
        )
        text = text.removesuffix("\n").removesuffix("\n...")  # the mark that ends a lone scalar
        line = f"{'  ' * len(parents)}{key}: {text}"
        lines.append(f"{line}  # {origins[name]}" if origins else line)
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """Tuples as lists: YAML knows no tuples."""
    if is_mapping(value):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if is_list(value) else value


def file_only(config: TrainConfig) -> set[str]:
    """Dotted names of the settings that have no flag."""
    return {name for name, hint, _ in walk(config) if "." in name and _FILE_ONLY in typing.get_args(hint)[1:]}


def with_flags(config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Type and value of the settings that have a flag, by their dotted names."""
    hidden = {*file_only(config), "stages"}
    return {name: (hint, value) for name, hint, value in walk(config) if name not in hidden}


def keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    out: list[str] = []
    for key, value in values.items():
        out += keys(value, f"{prefix}{key}.") if is_mapping(value) else [f"{prefix}{key}"]
    return out


def laid_over(below: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested `values` over those `below`."""
    found = {**below, **values}
    for key, value in values.items():
        lower = below.get(key)
        if is_mapping(lower) and is_mapping(value):
            found[key] = laid_over(lower, value)
    return found


def without(values: Mapping[str, Any], names: Container[str], *, prefix: str = "") -> dict[str, Any]:
    """Nested `values` but for those with these dotted names."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if is_mapping(value):
            out |= {key: inner} if (inner := without(value, names, prefix=f"{name}.")) else {}
        elif name not in names:
            out[key] = value
    return out


def field_types(node: Any, *, extras: bool = False) -> dict[str, Any]:
    """Types of the fields of a dataclass instance; extras: with their metadata."""
    return _types(node.__class__, extras)


@cache
def _types(kind: type, extras: bool) -> dict[str, Any]:
    """Python reads the text of each type again whenever it is asked, and a page of runs asks thousands of times."""
    return typing.get_type_hints(kind, include_extras=extras)
