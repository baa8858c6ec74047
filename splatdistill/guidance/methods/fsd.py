"""FSD: Flow Score Distillation (Yan et al., arXiv 2405.10988): g = w(t) (eps_cfg(x_t) - eps(camera)), t falls.

eps(camera) is a window into one picture of noise around the object, which the camera's azimuth and elevation move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, FileOnly, Fraction, NonNegative
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import Cameras, NoisyBatch, Residual


@dataclass(frozen=True)
class FSDConfig(AnnealedConfig):
    """Flow Score Distillation: SDS with noise that belongs to the camera and a timestep that only falls."""

    guidance_scale: NonNegative = 7.0
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    fresh: Fraction = 0.0
    """Share of the noise's variance that is drawn anew in every step, 0..1; 1 is SDS."""
    t_min: Fraction = 0.3
    """Lowest timestep, as a fraction of the schedule."""
    t_min_first: FileOnly[Fraction] = 0.98
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    t_max_final: Fraction = 0.3
    """Highest timestep once annealed, as a fraction of the schedule."""


class FSD(AnnealedGuidance[FSDConfig]):
    """Neighbouring cameras have nearly the same noise, and so are led to the same object."""

    Settings = FSDConfig
    paper = "Flow Score Distillation, arXiv 2405.10988"
    evaluations = 2
    order = 13

    def draw_eps(self, x0: Tensor, cameras: Cameras, *, seed: int, step: int) -> Tensor:
        from splatdistill.guidance.object_noise import on_camera_sphere

        return on_camera_sphere(cameras, x0.shape, seed=seed, step=step, fresh=self.config.fresh)

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, self.config.negative_prompt, cameras)
        row = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        return assemble([*row, (-1.0, batch.eps)], weight=weights(self.config.weight, batch))
