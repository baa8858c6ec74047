"""NFSD: Noise-Free Score Distillation (Katzir et al., arXiv 2310.17590), eq. 8 and 9.

g = w(t) (d + s (eps_c - eps_u)) with d = eps_u below t = 200 and eps_u - eps_negative from there on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, NonNegative
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual

SMALL_NOISE = 200  # timesteps of 1000


@dataclass(frozen=True)
class NFSDConfig(AnnealedConfig):
    """Noise-Free Score Distillation."""

    guidance_scale: NonNegative = 7.5
    """Classifier-free guidance s: the weight of eps_c - eps_u."""
    unwanted: str = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low resolution"
    """The prompt of eps_negative."""


class NFSD(AnnealedGuidance[NFSDConfig]):
    """The score that is left when the part that is only noise is taken away."""

    Settings = NFSDConfig
    paper = "Noise-Free Score Distillation, arXiv 2310.17590"
    evaluations = 3

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, self.config.negative_prompt, cameras)
        negative = self.encode_prompt(prior, self.config.unwanted, cameras)
        noisy = (batch.t >= SMALL_NOISE).to(batch.alpha.dtype)
        row = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond), (-noisy, negative)])
        return assemble(row, weight=weights(self.config.weight, batch))
