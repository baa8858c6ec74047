"""Score-distillation methods, one file each. `make_guidance` is the switch behind --method."""

from __future__ import annotations

from splatdistill.config.schema import SINGLE_VIEW_METHODS, CameraConfig, TrainConfig
from splatdistill.guidance.base import Guidance
from splatdistill.guidance.consistency import Consistency
from splatdistill.guidance.csd import CSD
from splatdistill.guidance.esd import ESD
from splatdistill.guidance.multiview import MultiView
from splatdistill.guidance.sds import SDS
from splatdistill.guidance.vsd import VSD
from splatdistill.utils.distributed import SINGLE_PROCESS, ProcessGroup

METHODS: dict[str, type[Guidance]] = {
    "sds": SDS,
    "vsd": VSD,
    "esd": ESD,
    "csd": CSD,
    "consistency": Consistency,
    "multiview": MultiView,
}


def make_guidance(config: TrainConfig, *, ranks: ProcessGroup = SINGLE_PROCESS) -> Guidance:
    return METHODS[config.method](
        getattr(config, config.method), prompt=config.prompt, group=group_of(config.method, config.camera),
        steps=config.steps, seed=config.seed, views=config.views, ranks=ranks,
    )  # fmt: skip


def retune(guidance: Guidance, config: TrainConfig) -> None:
    """Puts the settings of another stage in force; what the method has learned stays."""
    guidance.config, guidance.views = getattr(config, config.method), config.views
    guidance.group = group_of(config.method, config.camera)


def group_of(method: str, camera: CameraConfig) -> int:
    """Views that are scored together and share a timestep."""
    return 1 if method in SINGLE_VIEW_METHODS else camera.views_per_group
