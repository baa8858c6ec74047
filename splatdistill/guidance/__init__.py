"""Score-distillation methods, one file each. `make_guidance` is the switch behind --method."""

from __future__ import annotations

from typing import Any

from splatdistill.config.schema import SINGLE_VIEW_METHODS, TrainConfig
from splatdistill.guidance.base import Guidance
from splatdistill.guidance.consistency import Consistency
from splatdistill.guidance.csd import CSD
from splatdistill.guidance.esd import ESD
from splatdistill.guidance.multiview import MultiView
from splatdistill.guidance.sds import SDS
from splatdistill.guidance.vsd import VSD
from splatdistill.utils.distributed import ALONE, Ranks

METHODS: dict[str, type[Guidance]] = {
    "sds": SDS,
    "vsd": VSD,
    "esd": ESD,
    "csd": CSD,
    "consistency": Consistency,
    "multiview": MultiView,
}


def make_guidance(config: TrainConfig, *, ranks: Ranks = ALONE) -> Guidance:
    return METHODS[config.method](
        prompt=config.prompt, steps=config.steps, seed=config.seed, ranks=ranks, **_settings(config)
    )


def retune(guidance: Guidance, config: TrainConfig) -> None:
    """Puts the settings of another stage in force; what the method has learned stays."""
    vars(guidance).update(_settings(config))


def group_of(config: TrainConfig) -> int:
    """Views that are scored together and share a timestep."""
    return 1 if config.method in SINGLE_VIEW_METHODS else config.camera.views_per_group


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What a stage may change."""
    return {
        "config": getattr(config, config.method),
        "group": group_of(config),
        "views": config.views,
    }
