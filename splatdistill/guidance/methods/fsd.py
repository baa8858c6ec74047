"""FSD: Flow Score Distillation (Yan et al., arXiv 2405.10988): g = w(t) (eps_cfg(x_t) - eps(camera)), t falls.

eps(camera) is a window into one picture of noise around the object, which the camera's azimuth and elevation move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import Fraction
from splatdistill.guidance.flow import FlowConfig, FlowGuidance

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.scene.types import Cameras


@dataclass(frozen=True)
class FSDConfig(FlowConfig):
    """Flow Score Distillation: SDS with noise that belongs to the camera and a timestep that only falls."""

    fresh: Fraction = 0.0
    """Share of the noise's variance that is drawn anew in every step, 0..1; 1 is SDS."""


class FSD(FlowGuidance[FSDConfig]):
    """Neighbouring cameras have nearly the same noise, and so are led to the same object."""

    Settings = FSDConfig
    paper = "Flow Score Distillation, arXiv 2405.10988"
    order = 13

    def draw_eps(self, x0: Tensor, cameras: Cameras, *, seed: int, step: int) -> Tensor:
        """[V,C,h,w] like x0 [V,C,h,w]: a window into the noise around the object, for each camera."""
        from splatdistill.guidance.object_noise import on_camera_sphere

        return on_camera_sphere(cameras, x0.shape, seed=seed, step=step, fresh=self.config.fresh)
