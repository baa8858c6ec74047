"""Score-distillation methods, one file each. `make_guidance` is the switch behind --method."""

from __future__ import annotations

from splatdistill.config import TrainConfig
from splatdistill.guidance.base import Guidance
from splatdistill.guidance.consistency import Consistency
from splatdistill.guidance.csd import CSD
from splatdistill.guidance.multiview import MultiView
from splatdistill.guidance.sds import SDS

METHODS: dict[str, type[Guidance]] = {
    "sds": SDS,
    "csd": CSD,
    "consistency": Consistency,
    "multiview": MultiView,
}


def make_guidance(config: TrainConfig) -> Guidance:
    return METHODS[config.method](
        getattr(config, config.method),
        prompt=config.prompt,
        group=config.camera.views_per_group,
        steps=config.steps,
        seed=config.seed,
    )
