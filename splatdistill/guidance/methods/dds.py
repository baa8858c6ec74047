"""DDS: Delta Denoising Score (Hertz et al., arXiv 2304.07090): g = w(t) (eps_cfg(x_t, y) - eps_cfg(x_t', y')).

x_t' is what the run began with, under the same noise, and y' the words for it: what both scores get wrong cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splatdistill.config.base import AnnealedConfig, FileOnly, NonNegative, Weight, Whole
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate, source_of
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class DDSConfig(AnnealedConfig):
    """Delta Denoising Score: changes what a run begins with by the difference of two prompts."""

    weight: Weight = "one"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or flow."""
    source_prompt: str = ""
    """What the run begins with, in words; empty is anything."""
    source_instance: FileOnly[Whole] = 0
    """Which of its models a prior of known models takes that for, from 1; 0 leaves it to the pictures."""
    guidance_scale: NonNegative = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""


class DDS(AnnealedGuidance[DDSConfig]):
    """The score of the object for the prompt minus that of its beginning for the words of that."""

    Settings = DDSConfig
    paper = "Delta Denoising Score, arXiv 2304.07090"
    evaluations = 4
    needs_source = True
    order = 20

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c, cameras = self.config, batch.cameras
        s = c.guidance_scale
        target = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        source = self.encode_prompt(prior, self.view_dependent_prompts(cameras, of=c.source_prompt), cameras)
        uncond = self.encode_prompt(prior, c.negative_prompt, cameras)
        now = evaluate(batch, prior, [(s, target), (1.0 - s, uncond)])
        before = evaluate(source_of(batch), prior, [(-s, source), (s - 1.0, uncond)])
        return assemble([*now, *before], weight=weights(c.weight, batch))
