"""What no run can have: ranges of numbers, and settings that exclude each other."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from typing import Any

from splatdistill.config.schema import AnnealedConfig, ConsistencyConfig, ESDConfig, TrainConfig, VSDConfig
from splatdistill.config.settings import flatten, stages

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
