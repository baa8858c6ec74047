"""Score-distillation methods, one file each. `make_guidance` is the switch behind --method."""

from __future__ import annotations

from splatdistill.config import TrainConfig
from splatdistill.guidance.base import Guidance
from splatdistill.guidance.sds import SDS


def make_guidance(config: TrainConfig) -> Guidance:
    return SDS(config.sds, prompt=config.prompt, group=config.camera.views_per_group, steps=config.steps)
