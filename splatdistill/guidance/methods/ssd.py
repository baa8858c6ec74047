"""SSD: Stable Score Distillation (arXiv 2507.09168): g = w(t) (sum of four scores + k exp(t/T) alpha (x_0 - x_0')).

The scores: (s/2 + e) eps_y(x_t) + (a - s)/2 eps_y'(x_t) - e eps_0(x_t) - a/2 eps_0(x_t'). As in DDS, x_t' is what the
run began with, and y' the words for it.
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
class SSDConfig(AnnealedConfig):
    """Stable Score Distillation: an edit with a further pull towards what the run begins with."""

    weight: Weight = "one"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or flow."""
    source_prompt: str = ""
    """What the run begins with, in words; empty is anything."""
    source_instance: FileOnly[Whole] = 0
    """Which of its models a prior of known models takes that for, from 1; 0 leaves it to the pictures."""
    guidance_scale: NonNegative = 7.5
    """s: how much the way from the old words to the new ones counts."""
    enhancement: NonNegative = 5.5
    """e: how much the new words alone count."""
    likeness: NonNegative = 2.0
    """a: how much what is common to the object and its beginning counts."""
    pull: NonNegative = 0.075
    """k: how strongly the object is drawn to its beginning."""


class SSD(AnnealedGuidance[SSDConfig]):
    """Two scores of words, two without, and the picture's own way back."""

    Settings = SSDConfig
    paper = "Stable Score Distillation, arXiv 2507.09168"
    evaluations = 4
    needs_source = True
    order = 21

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c, cameras = self.config, batch.cameras
        target = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        source = self.encode_prompt(prior, self.view_dependent_prompts(cameras, of=c.source_prompt), cameras)
        empty = self.encode_prompt(prior, c.negative_prompt, cameras)
        share = 0.5 * (c.likeness - c.guidance_scale)
        words = 0.5 * c.guidance_scale + c.enhancement
        now = evaluate(batch, prior, [(words, target), (share, source), (-c.enhancement, empty)])
        began = source_of(batch)
        before = evaluate(began, prior, [(-0.5 * c.likeness, empty)])
        back = c.pull * (batch.t / len(prior.alphas_cumprod)).exp() * batch.alpha
        pull = [(back, batch.x0.detach()), (-back, began.x0)] if c.pull else []
        return assemble([*now, *before, *pull], weight=weights(c.weight, batch))
