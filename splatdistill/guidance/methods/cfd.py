"""CFD: Consistent Flow Distillation (Yan et al., arXiv 2501.05445): g = w(t) (eps_cfg(x_t) - eps(surface)), t falls.

eps(surface) is noise that lies on the object: every place has its own, and cameras that see it see the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, FileOnly, Fraction, NonNegative, Positive
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import Cameras, NoisyBatch, Residual


@dataclass(frozen=True)
class CFDConfig(AnnealedConfig):
    """Consistent Flow Distillation: SDS with noise that lies on the surface and a timestep that only falls."""

    guidance_scale: NonNegative = 7.0
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    renewal: FileOnly[Fraction] = 1e-4
    """Chance of a place to get new noise in a step, 0..1."""
    extent: FileOnly[Positive] = 2.4
    """Width of what a picture shows at the object, world units: a place of the noise is a pixel of that."""
    t_min: Fraction = 0.3
    """Lowest timestep, as a fraction of the schedule."""
    t_min_first: FileOnly[Fraction] = 0.98
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    t_max_final: Fraction = 0.3
    """Highest timestep once annealed, as a fraction of the schedule."""


class CFD(AnnealedGuidance[CFDConfig]):
    """As if each view followed one clean path of the prior's flow, and all the same."""

    Settings = CFDConfig
    paper = "Consistent Flow Distillation, arXiv 2501.05445"
    evaluations = 2
    needs_surface = True
    order = 14

    def draw_eps(self, x0: Tensor, cameras: Cameras, *, seed: int, step: int) -> Tensor:
        from splatdistill.guidance.object_noise import on_surface

        c = self.config
        return on_surface(
            cameras, x0.shape, surface=self.surface, cell=c.extent / x0.shape[-1], seed=seed, step=step,
            renewal=c.renewal, device=x0.device,
        )  # fmt: skip

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, self.config.negative_prompt, cameras)
        row = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        return assemble([*row, (-1.0, batch.eps)], weight=weights(self.config.weight, batch))
