"""The form of a training: its fields are the settings that have flags, and its values become a command line.

Without torch, but for a file of splats that a training begins from.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import textwrap
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from splatdistill.config import settings
from splatdistill.config.constraints import bounds, check
from splatdistill.config.schema import METHODS, TrainConfig
from splatdistill.config.validation import validate
from splatdistill.io import names
from splatdistill.io.kinds import Assumptions
from splatdistill.priors.families import layered
from splatdistill.priors.resolve import model_families
from splatdistill.training.advice import about_init, about_priors
from splatdistill.training.run_log import check_writable

MAIN = ("prompt", "method", "prior", "seed", "steps")
"""The fields that everybody sees; the others are folded away."""
WHERE = "form"


class Refused(ValueError):
    """What was filled in makes no training. faults: a sentence for each field that is wrong, by its dotted name."""

    def __init__(self, faults: dict[str, str]) -> None:
        super().__init__(" ".join(faults.values()))
        self.faults = faults


def fields_of(method: str, prior: str) -> list[dict[str, Any]]:
    """Every field with its help, kind, bounds and the value that it has unless somebody changes it. method: "" for the
    usual one of the prior. Refused where that cannot teach by the method.
    """
    config = _base(method, prior)
    choices = {"prior": ["embedded", "analytic", *model_families()]}
    return [
        {
            "name": name,
            "main": name in MAIN,
            "help": _help(getattr(config, name.rpartition(".")[0], config), name.rpartition(".")[2]),
            "value": _text(value),
            "choices": choices.get(name, []),
            **_kind(hint),
        }
        for name, (hint, value) in settings.with_flags(config).items()
    ]


def command_of(values: Mapping[str, Any], out: Path) -> tuple[Path, list[str]]:
    """The run folder and the words after `splatdistill` for what was filled in: text by dotted names. Refused where a
    training would not begin; nothing is written.
    """
    texts = {name: str(value) for name, value in values.items()}
    base = _base(texts.get("method", ""), texts.get("prior", TrainConfig.prior))
    known, config, faults = settings.with_flags(base), base, dict[str, str]()
    for name, text in texts.items():
        try:
            if name not in known:
                raise ValueError(f"{name[:80]} is not a setting of {base.method} with a flag.")
            value = _typed(known[name][0], text)
            config = settings.merge(config, _nested(name, value), where=WHERE)
            check(name, known[name][0], settings.with_flags(config)[name][1])
        except ValueError as error:
            faults[name] = str(error).removeprefix(f"{WHERE}: ")
    if faults:
        raise Refused(faults)
    try:
        validate(config)
        about_priors(config)
        check_writable(out)
    except ValueError as error:
        raise Refused({_place(str(error), known): str(error)}) from None
    try:
        about_init(config.init, Assumptions(config.up, config.fit), config.camera, budget=config.densify.max_splats)
    except ValueError as error:
        raise Refused({"init": str(error)}) from None
    folder = out / names.run_name(config.prompt, settings.flatten(config))
    if folder.exists():
        raise Refused({"seed": f"seed: {folder} already has these settings; choose another seed."})
    changed = [name for name in settings.differences(config, base) if name not in MAIN]
    flags = [word for name in (*MAIN, *changed) for word in _flag(name, settings.with_flags(config)[name][1])]
    return folder, ["train", *flags, "--out", str(out), "--name", folder.name]


def _base(method: str, prior: str) -> TrainConfig:
    try:
        return settings.merge(layered(None, method=method or None, prior=prior)[0], {"prior": prior}, where=WHERE)
    except ValueError as error:
        raise Refused({"method" if method and method not in METHODS else "prior": str(error)}) from None


def _kind(hint: Any) -> dict[str, Any]:
    """What the page asks with: text, whole, number, yes, choice, pair or list."""
    inner = _plain(hint)
    if typing.get_origin(inner) is Literal:
        return {"kind": "choice", "options": [str(option) for option in typing.get_args(inner)]}
    if typing.get_origin(inner) is tuple:
        return {"kind": "list" if Ellipsis in typing.get_args(inner) else "pair"}
    kinds = {bool: "yes", int: "whole", float: "number"}
    return {"kind": kinds.get(inner, "text"), **dict(bounds(hint))}


def _typed(hint: Any, text: str) -> Any:
    """Text as a value of that type where it is one, and as it is where not: `merge` then says what it should be."""
    inner = _plain(hint)
    if typing.get_origin(inner) is Literal:
        return next((option for option in typing.get_args(inner) if str(option) == text), text)
    if typing.get_origin(inner) is tuple:
        parts = [part for part in typing.get_args(inner) if part is not Ellipsis]
        try:
            words = shlex.split(text)
        except ValueError:  # a quotation mark is open: no list
            return text
        return [_typed(parts[min(i, len(parts) - 1)], word) for i, word in enumerate(words)]
    if inner is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if inner in (int, float) and re.fullmatch(r"\s*[-+]?\d{1,30}\s*", text):
        return int(text)
    if inner is float and re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*", text):
        return float(text)
    return text


def _plain(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return (
        " ".join(map(_text, value)) if settings.is_list(value) else f"{value:g}" if type(value) is float else str(value)
    )


def _flag(name: str, value: Any) -> list[str]:
    """Words of a command line. A value that begins with a dash is tied to its flag, or it would be taken for one."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):  # one that differs from its default, of which the command line has the opposite alone
        section, _, key = flag[2:].rpartition(".")
        return [flag] if value else [f"--{section + '.' if section else ''}no-{key}"]
    if settings.is_list(value):
        return [flag, *map(str, value)]
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _nested(name: str, value: Any) -> dict[str, Any]:
    section, _, key = name.partition(".")
    return {section: {key: value}} if key else {name: value}


def _place(sentence: str, known: Mapping[str, Any]) -> str:
    """The field that a sentence is about: the one that it names first."""
    return next((word for word in re.findall(r"[a-z_0-9.]+[a-z_0-9]", sentence) if word in known), "prompt")


def _help(owner: object, key: str) -> str:
    return _docs(type(owner)).get(key, "")


@cache
def _docs(kind: type) -> dict[str, str]:
    """The texts below the fields of a dataclass, which the command line shows as help."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if not is_dataclass(one):
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        except (OSError, TypeError):  # made while the program runs: its fields are those of the classes that it has
            continue
        for field, text in pairwise(getattr(body, "body", [])):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                found[typing.cast(ast.Name, field.target).id] = " ".join(str(text.value.value).split())
    return found
