"""YAML and flags to TrainConfig, strictly. Later sources win: defaults < configs/METHOD.yaml < the preset of a kind of
prior < a file < flags.
"""

from __future__ import annotations

import difflib
import importlib.resources
import math
import re
import typing
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from splatdistill.config import (
    METHODS,
    AnnealedConfig,
    ConsistencyConfig,
    ESDConfig,
    FileOnly,
    Stages,
    TrainConfig,
    VSDConfig,
)
from splatdistill.yamlfile import read

Origins = dict[str, str]
"""Dotted field name -> default, preset, prior, file or flag."""

MAX_PROMPT = 2000  # characters, far more than any text encoder reads

MAX_THREADS = 1024
_POSITIVE = {
    "steps", "num_views", "size", "camera.views_per_group", "camera.object_radius", "camera.fill", "camera.fovy_deg",
    "splats.num_init", "splats.radius", "densify.interval", "densify.max_splats",
    "light.distance", "output.log_every", "output.preview_every", "output.save_every", "output.keep", "output.size",
    "output.frames",
}  # fmt: skip
_FRACTION = {
    "camera.fill", "splats.opacity", "optim.final", "densify.start", "densify.stop", "densify.grow_quantile",
    "densify.prune_opacity", "background.white", "background.gray",
    "light.start", "light.albedo", "light.textureless", "light.ambient",
}  # fmt: skip
_FRACTION_ENDINGS = {
    "t_min", "t_min_first", "t_max", "t_max_final", "anneal", "target", "target_final", "gap", "gap_spread",
    "rescale", "negative_weight", "negative_weight_final", "camera_dropout",
}  # fmt: skip  # of every method


_MAY_CHANGE = {
    "size", "num_views", "prior", "camera", "optim", "densify", "background", "light", "views", "regularize", *METHODS,
}  # fmt: skip  # by a stage
_LEARNED = {"particles", "lora_rank", "lora_lr", "camera_dropout"}  # the second score is made once


def load(method: str, *, file: Path | None = None, family: str = "") -> tuple[TrainConfig, Origins]:
    """The settings of a method before flags, and where each came from. file: YAML, or the name of a shipped preset.
    family: name of the shipped preset of a kind of prior, which lies under the file.

    ValueError, one sentence, for a file that is missing, an unknown key or a value of the wrong type. A file that
    names its method may not hold settings of another; one that names none may hold settings for several.
    """
    if method not in METHODS:
        raise ValueError(f"method: {_shown(method)} is unknown; the methods are {', '.join(METHODS)}.")
    config = replace(TrainConfig(), method=method)
    origins = dict.fromkeys(flatten(config), "default")
    sources = [("preset", shipped(method))] + ([("prior", shipped(family))] if family else [])
    sources += [("file", find(file))] if file is not None else []
    for origin, path in sources:
        values = read(path)
        if values.get("method", method) != method:
            raise ValueError(f"{path}: its method is {_shown(values['method'])}, but {method!r} was asked for.")
        if foreign := [name for name in METHODS if name in values and name != method and "method" in values]:
            raise ValueError(f"{path}: --method {method} does not read {foreign[0]!r}.")
        config = merge(config, values, where=str(path))
        origins |= {name: origin for name in _keys(values) if name in origins}
    return config, origins


def shipped(name: str) -> Path:
    """Path of a YAML file that comes with the package, whether it is there or not."""
    try:
        root = Path(str(importlib.resources.files("splatdistill.configs")))
    except ModuleNotFoundError:  # run from a source tree that is not installed
        root = Path(__file__).resolve().parent.parent / "configs"
    return root / f"{name}.yaml"


def find(file: Path) -> Path:
    """`file` itself, or the shipped preset that it names."""
    if file.exists() or len(file.parts) > 1 or file.suffix:
        return file
    return path if (path := shipped(str(file))).exists() else file


def merge(config: TrainConfig, values: Mapping[str, Any], *, where: str) -> TrainConfig:
    """`config` with the nested `values` laid over it. where: what to call their source in errors."""
    return _merge(config, values, where=where, prefix="", known=list(flatten(config)))


def merge_known(config: TrainConfig, values: Mapping[str, Any], *, where: str) -> tuple[TrainConfig, list[str]]:
    """As `merge`, but what it would refuse is left out; a sentence names that."""
    left_out: list[str] = []

    def laid_over(node: Any, values: Mapping[str, Any], prefix: str) -> Any:
        hints = _hints(type(node))
        for key, value in values.items():
            name = f"{prefix}{key}"
            if is_dataclass(hints.get(key)) and isinstance(value, Mapping):
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


def _shown(value: Any) -> str:
    """A value as the user wrote it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _merge(node: Any, values: Mapping[str, Any], *, where: str, prefix: str, known: list[str]) -> Any:
    hints = _hints(type(node))
    changes = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if key not in hints:
            near = difflib.get_close_matches(name[:80], [*known, *hints], n=1)
            raise ValueError(f"{where}: unknown key {_shown(name)}" + (f"; did you mean {near[0]!r}?" if near else "."))
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ValueError(f"{where}: {name} must hold settings as 'key: value'; it is {_shown(value)}.")
            changes[key] = _merge(getattr(node, key), value, where=where, prefix=f"{name}.", known=known)
        else:
            changes[key] = _convert(value, hints[key], name=f"{where}: {name}")
    return replace(node, **changes)


def _convert(value: Any, hint: Any, *, name: str) -> Any:
    """`value` as the type `hint`: bool is not int, int is taken for float, and 1e-3 (text in YAML 1.1) is a number."""
    options = typing.get_args(hint)
    if hint == Stages:
        if not isinstance(value, list | tuple) or not all(isinstance(stage, Mapping) for stage in value):
            raise ValueError(f"{name} must be a list of settings as 'key: value'; it is {_shown(value)}.")
        return tuple(dict(stage) for stage in value)
    if typing.get_origin(hint) is Literal:
        if value not in options:
            raise ValueError(f"{name} must be one of {', '.join(options)}; it is {_shown(value)}.")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(options):
            raise ValueError(f"{name} must be a list of {len(options)} values; it is {_shown(value)}.")
        return tuple(_convert(item, option, name=name) for item, option in zip(value, options, strict=True))
    if hint is float and isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+[eE][-+]?[0-9]+", value):
        value = float(value)
    if type(value) is int and abs(value) >= 2**63:
        raise ValueError(f"{name} is larger than any setting can be; it is {_shown(value)}.")
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise ValueError(f"{name} must be {words[hint]}; it is {_shown(value)}.")
    return value


def stages(config: TrainConfig) -> list[tuple[int, TrainConfig]]:
    """First step and settings of each stage, in order; the first begins at step 0. Each builds on the one before.

    ValueError, one sentence, for a stage that starts too early or changes what a run keeps to its end.
    """
    found, start = [(0, config)], 0.0
    for stage in config.stages:
        later = stage.get("start")
        if isinstance(later, bool) or not isinstance(later, int | float) or not start < later < 1:
            raise ValueError(f"stages: start must be above {start:g} and below 1 here; it is {_shown(later)}.")
        start = float(later)
        values = {key: value for key, value in stage.items() if key != "start"}
        for name in _keys(values):
            section, _, last = name.partition(".")
            if (section in _hints(TrainConfig) and section not in _MAY_CHANGE) or last in _LEARNED:
                raise ValueError(f"stages: {name} cannot change on the way.")
            if section in METHODS and section != config.method:
                raise ValueError(f"stages: --method {config.method} does not read {name}.")
            if section == "prior" and isinstance(getattr(config, config.method), VSDConfig):
                raise ValueError(f"stages: prior cannot change on the way, because {config.method} learns on it.")
        found.append((round(start * config.steps), merge(found[-1][1], values, where="stages")))
    return found


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every setting that the run reads, in order: other methods' sections are left out."""
    out: dict[str, Any] = {}
    for field in fields(config):
        if not prefix and field.name in METHODS and field.name != config.method:
            continue
        value = getattr(config, field.name)
        name = prefix + field.name
        out |= flatten(value, f"{name}.") if is_dataclass(value) else {name: value}
    return out


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
        plain = [_plain(item) for item in value] if isinstance(value, tuple) else value
        text = yaml.safe_dump(plain, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
        text = text.removesuffix("\n").removesuffix("\n...")  # the mark that ends a lone scalar
        line = f"{'  ' * len(parents)}{key}: {text}"
        lines.append(f"{line}  # {origins[name]}" if origins else line)
    return "\n".join(lines) + "\n"


def validate(config: TrainConfig) -> list[str]:
    """Raises ValueError, one sentence that names the field, for settings no run can have; returns warnings."""
    for name, value in flatten(config).items():
        if name == "stages":
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float):
                _check_number(name, number)
        if isinstance(value, tuple) and value[0] > value[1]:
            raise ValueError(f"{name} must be the lower value, then the higher; it is {value[0]:g} and {value[1]:g}.")
    _check_prompt(config.prompt)
    group = config.camera.views_per_group
    if config.num_views % group:
        raise ValueError(f"num_views must be a multiple of camera.views_per_group ({group}); it is {config.num_views}.")
    if config.background.white + config.background.gray > 1:
        raise ValueError("background.white and background.gray are probabilities; together they must not exceed 1.")
    if config.light.albedo + config.light.textureless > 1:
        raise ValueError("light.albedo and light.textureless are probabilities; together they must not exceed 1.")
    if config.method == "sds" and config.sds.perp_neg and config.views.words == "off":
        raise ValueError("views.words must not be off with sds.perp_neg, whose negatives are the other sides' words.")
    if not 0 < config.splats.opacity < 1:
        raise ValueError(f"splats.opacity must be above 0 and below 1; it is {config.splats.opacity:g}.")
    if config.splats.sh_degree > 3:
        raise ValueError(f"splats.sh_degree must be 0, 1, 2 or 3; it is {config.splats.sh_degree}.")
    if config.output.size % 2:
        raise ValueError(f"output.size must be even, for the film; it is {config.output.size}.")
    _check_method(config.method, getattr(config, config.method))
    for _, stage in stages(config)[1:]:
        try:
            validate(replace(stage, stages=()))
        except ValueError as error:
            raise ValueError(f"stages: {error}") from error
    return _warnings(config)


def _check_method(name: str, method: Any) -> None:
    """The settings of a method that depend on each other."""
    if isinstance(method, AnnealedConfig):
        if not method.t_min < min(method.t_max, method.t_max_final):
            raise ValueError(f"{name}.t_min must be below {name}.t_max and {name}.t_max_final.")
        if method.t_min_first > method.t_max:
            raise ValueError(f"{name}.t_min_first must not exceed {name}.t_max.")
    if isinstance(method, ConsistencyConfig) and not method.t_min + method.gap <= method.t_max:
        raise ValueError(f"{name}.t_max must be at least {name}.t_min + {name}.gap.")
    if isinstance(method, VSDConfig):
        for key in ("particles", "lora_rank"):
            if getattr(method, key) < 1:
                raise ValueError(f"{name}.{key} must be at least 1; it is {getattr(method, key)}.")
    if isinstance(method, ESDConfig):
        if method.entropy > 1.5:
            raise ValueError(f"{name}.entropy (lambda) must be within 0 and 1.5; it is {method.entropy:g}.")
        if method.entropy and not method.camera_dropout:
            raise ValueError(f"{name}.camera_dropout must be above 0: the score without a camera learns from it.")
    if (method.clamp[0] == 0) != (method.clamp[1] == 0):
        raise ValueError(f"{name}.clamp must be above 0 at both ends, or 0 0 for none.")


def _check_number(name: str, value: float) -> None:
    last = name.rpartition(".")[2]
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite; it is {value}.")
    if name == "camera.elevation_deg":
        if not -90 <= value <= 90:
            raise ValueError(f"{name} must be within -90 and 90 degrees; it is {value:g}.")
    elif name in _POSITIVE and value <= 0:
        raise ValueError(f"{name} must be above 0; it is {value:g}.")
    elif value < 0:
        raise ValueError(f"{name} must not be negative; it is {value:g}.")
    if (name in _FRACTION or last in _FRACTION_ENDINGS) and value > 1:
        raise ValueError(f"{name} must be within 0 and 1; it is {value:g}.")
    if name == "threads" and value > MAX_THREADS:  # the system refuses to start them in the middle of a run
        raise ValueError(f"threads must be at most {MAX_THREADS}; it is {value}.")
    if name == "camera.fovy_deg" and value >= 180:
        raise ValueError(f"{name} must be below 180 degrees; it is {value:g}.")


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise ValueError('prompt is empty; say what to make, for example --prompt "a red armchair".')
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in prompt):
        raise ValueError("prompt must be one line of text without control characters.")
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"prompt must have at most {MAX_PROMPT} characters; it has {len(prompt)}.")


def _warnings(config: TrainConfig) -> list[str]:
    """Schedules that never fire."""
    found = []
    densify = config.densify
    if densify.start > min(densify.stop, 0.9):  # the last tenth of a run settles undisturbed
        found.append(
            "densify.start lies after densify.stop or in the last tenth of the steps: the splats will not grow."
        )
    if densify.max_splats < config.splats.num_init:
        found.append("densify.max_splats is below splats.num_init: the splats will only be pruned.")
    return found


def _plain(value: Any) -> Any:
    """Tuples inside a stage as lists: YAML knows no tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def file_only() -> set[str]:
    """Dotted names of the settings that have no flag."""
    sections = {name: hint for name, hint in _hints(TrainConfig).items() if is_dataclass(hint)}
    return {
        f"{section}.{name}"
        for section, kind in sections.items()
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
        if typing.get_args(hint)[1:] == typing.get_args(FileOnly[int])[1:]
    }


def _keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    out = []
    for key, value in values.items():
        out += _keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return out


def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
