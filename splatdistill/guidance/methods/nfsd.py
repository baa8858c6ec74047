"""NFSD: Noise-Free Score Distillation (Katzir et al., arXiv 2310.17590): g = w(t) (d_D + s d_C).

d_C = eps_c - eps_0 is the direction of the words; d_D = eps_0 below a fifth of the schedule, else eps_0 - eps_n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, Fraction, NonNegative
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class NFSDConfig(AnnealedConfig):
    """Noise-Free Score Distillation: words for bad pictures take the place of the noise that was added."""

    negative_prompt: str = (
        "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"
    )
    """Words for pictures that nobody wants."""
    guidance_scale: NonNegative = 7.5
    """s: how much the direction of the words counts."""
    boundary: Fraction = 0.2
    """Below it, as a fraction of the schedule, the score without words is taken whole."""


class NFSD(AnnealedGuidance[NFSDConfig]):
    """The noise that was added is never subtracted."""

    Settings = NFSDConfig
    paper = "Noise-Free Score Distillation, arXiv 2310.17590"
    evaluations = 3
    order = 16

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c, cameras = self.config, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        empty = self.encode_prompt(prior, "", cameras)
        negative = self.encode_prompt(prior, c.negative_prompt, cameras)
        noisy = (batch.t >= int(c.boundary * len(prior.alphas_cumprod))).to(batch.alpha)
        s = c.guidance_scale
        row = evaluate(batch, prior, [(s, cond), (1.0 - s, empty), (-noisy, negative)])
        return assemble(row, weight=weights(c.weight, batch))
