"""CFD: Consistent Flow Distillation (Yan et al., arXiv 2501.05445): g = w(t) (eps_cfg(x_t) - eps(surface)), t falls.

eps(surface) is noise that lies on the object: every place has its own, and cameras that see it see the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import FileOnly, Fraction, Positive
from splatdistill.guidance.flow import FlowConfig, FlowGuidance

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.scene.types import Cameras


@dataclass(frozen=True)
class CFDConfig(FlowConfig):
    """Consistent Flow Distillation: SDS with noise that lies on the surface and a timestep that only falls."""

    renewal: FileOnly[Fraction] = 1e-4
    """Chance of a place to get new noise in a step, 0..1."""
    extent: FileOnly[Positive] = 2.4
    """Width of what a picture shows at the object, world units: a place of the noise is a pixel of that."""


class CFD(FlowGuidance[CFDConfig]):
    """As if each view followed one clean path of the prior's flow, and all the same."""

    Settings = CFDConfig
    paper = "Consistent Flow Distillation, arXiv 2501.05445"
    needs_surface = True
    order = 14

    def draw_eps(self, x0: Tensor, cameras: Cameras, *, seed: int, step: int) -> Tensor:
        """[V,C,h,w] like x0 [V,C,h,w]: noise that lies on the object."""
        from splatdistill.guidance.object_noise import on_surface

        c = self.config
        return on_surface(
            cameras, x0.shape, surface=self.surface, cell=c.extent / x0.shape[-1], seed=seed, step=step,
            renewal=c.renewal, device=x0.device,
        )  # fmt: skip
