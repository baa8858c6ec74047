"""Score-distillation methods, one file each in `methods`. `make_guidance` is the switch behind --method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # settings import the methods, and come without torch
    from splatdistill.config.base import MethodConfig, ViewsConfig
    from splatdistill.config.schema import CameraConfig, TrainConfig
    from splatdistill.guidance.base import Guidance
    from splatdistill.utils.distributed import ProcessGroup


PROMPT = "{prompt}"
"""Stands for the prompt in negative prompts."""


def make_guidance(config: TrainConfig, *, ranks: ProcessGroup | None = None) -> Guidance[Any]:
    """The method of a run. ranks: who else draws views of a step, None for nobody."""
    from splatdistill.config.schema import GUIDANCE

    kind: Any = GUIDANCE[config.method]
    section = _filled(getattr(config, config.method), config.prompt)
    return kind(
        section, prompt=config.prompt, group=group_of(config.method, config.camera), steps=config.steps,
        seed=config.seed, views=config.views, ranks=ranks,
    )  # fmt: skip


def retune(guidance: Guidance[Any], section: MethodConfig, *, prompt: str, views: ViewsConfig) -> None:
    """Puts the settings of another stage in force, those of its method in `section`; what was learned stays."""
    guidance.config, guidance.views = _filled(section, prompt), views


def _filled(settings: MethodConfig, prompt: str) -> MethodConfig:
    """With the prompt in the place of {prompt} in the negative prompt."""
    return replace(settings, negative_prompt=settings.negative_prompt.replace(PROMPT, prompt))


def group_of(method: str, camera: CameraConfig) -> int:
    """Views that are scored together and share a timestep."""
    from splatdistill.config.schema import GUIDANCE

    return 1 if GUIDANCE[method].single_view else camera.views_per_group
