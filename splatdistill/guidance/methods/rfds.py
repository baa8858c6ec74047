"""RFDS-Rev: rectified-flow priors (Yang et al., arXiv 2406.03293): g = w(t) (eps_cfg(alpha x_0 + sigma e) - e).

e = eps_c(x_t) is the noise that one step backwards along the flow finds for x_0, in the place of what was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, Fraction, NonNegative, Weight
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate, noisy_batch, total
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class RFDSConfig(AnnealedConfig):
    """Rectified Flow Distillation Sampling with reversal; exact for networks that predict noise too."""

    weight: Weight = "flow"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or flow."""
    guidance_scale: NonNegative = 100.0
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    t_min: Fraction = 0.3
    """Lowest timestep, as a fraction of the schedule."""
    t_max_final: Fraction = 0.98
    """Highest timestep once annealed, as a fraction of the schedule."""


class RFDSRev(AnnealedGuidance[RFDSConfig]):
    """SDS with the noise that the prior itself would have seen in the picture."""

    Settings = RFDSConfig
    paper = "Text-to-Image Rectified Flow as Plug-and-Play Priors, arXiv 2406.03293"
    evaluations = 3
    order = 12

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c, cameras = self.config, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, c.negative_prompt, cameras)
        eps = total(evaluate(batch, prior, [(1.0, cond)]))
        again = noisy_batch(batch.x0, cameras, prior, t=batch.t, eps=eps, ranks=batch.ranks)
        s = c.guidance_scale
        guided = evaluate(again, prior, [(s, cond), (1.0 - s, uncond)])
        return assemble([*guided, (-1.0, eps)], weight=weights(c.weight, batch))
