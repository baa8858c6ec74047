"""Score-distillation methods, one file each in `methods`. `make_guidance` is the switch behind --method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # settings import the methods, and come without torch
    from splatdistill.config.schema import TrainConfig
    from splatdistill.guidance.base import Guidance
    from splatdistill.utils.distributed import ProcessGroup


def make_guidance(config: TrainConfig, *, ranks: ProcessGroup | None = None) -> Guidance[Any]:
    """The method of a run. ranks: who else draws views of a step, None for nobody."""
    from splatdistill.config.schema import GUIDANCE

    kind: Any = GUIDANCE[config.method]
    return kind(prompt=config.prompt, steps=config.steps, seed=config.seed, ranks=ranks, **_settings(config))


def retune(guidance: Guidance[Any], config: TrainConfig) -> None:
    """Puts the settings of another stage in force; what the method has learned stays."""
    vars(guidance).update(_settings(config))


def group_of(config: TrainConfig) -> int:
    """Views that are scored together and share a timestep."""
    from splatdistill.config.schema import GUIDANCE

    return 1 if GUIDANCE[config.method].single_view else config.camera.views_per_group


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What a stage may change."""
    return {
        "config": getattr(config, config.method),
        "group": group_of(config),
        "views": config.views,
    }
