"""What no run can have: ranges of numbers, and settings that exclude each other."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from splatdistill.config.base import MethodConfig
from splatdistill.config.constraints import check
from splatdistill.config.schema import GUIDANCE, TrainConfig
from splatdistill.config.settings import stages, walk

MAX_PROMPT = 2000  # characters, far more than any text encoder reads


def validate(config: TrainConfig) -> list[str]:
    """Raises ValueError, one sentence that names the field, for settings no run can have; returns warnings."""
    for name, hint, value in walk(config):
        if name != "stages":
            check(name, hint, value)
    _check_prompt(config.prompt)
    group = config.camera.views_per_group
    if config.num_views % group:
        raise ValueError(f"num_views must be a multiple of camera.views_per_group ({group}); it is {config.num_views}.")
    if config.image and config.camera.kind != "orbit":
        raise ValueError("image: a picture of an object is seen from around it; cameras of kind outward see none.")
    if config.background.white + config.background.gray > 1:
        raise ValueError("background.white and background.gray are probabilities; together they must not exceed 1.")
    if config.light.albedo + config.light.textureless > 1:
        raise ValueError("light.albedo and light.textureless are probabilities; together they must not exceed 1.")
    if config.output.size % 2:
        raise ValueError(f"output.size must be even, for the video; it is {config.output.size}.")
    if GUIDANCE[config.method].fits_views:
        _check_fit(config)
    method: MethodConfig = getattr(config, config.method)
    method.check(config.method, views=config.views)
    for _, stage in stages(config)[1:]:
        try:
            validate(replace(stage, stages=()))
        except ValueError as error:
            raise ValueError(f"stages: {error}") from error
    return _warnings(config)


def _check_fit(config: TrainConfig) -> None:
    """ValueError where renders cannot look like the views that they are fitted to."""
    if config.prior_mixture:
        raise ValueError(
            f"prior_mixture: by {config.method} views would show several models at once; use --method sds or vsd."
        )
    if config.light.start < 1:
        raise ValueError(f"light.start must be 1 with {config.method}: views of a prior are not lit.")


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise ValueError('prompt is empty; say what to make, for example --prompt "a red armchair".')
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in prompt):
        raise ValueError("prompt must be one line of text without control characters.")
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"prompt must have at most {MAX_PROMPT} characters; it has {len(prompt)}.")


def _warnings(config: TrainConfig) -> list[str]:
    """Schedules that never fire."""
    found: list[str] = []
    densify = config.densify
    if densify.start > min(densify.stop, 0.9):  # the last tenth of a run settles undisturbed
        found.append(
            "densify.start lies after densify.stop or in the last tenth of the steps: the splats will not grow."
        )
    if densify.max_splats < config.splats.num_init:
        found.append("densify.max_splats is below splats.num_init: the splats will only be pruned.")
    return found
