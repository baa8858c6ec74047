"""SDS-Bridge: a bridge between image distributions (McAllister et al., arXiv 2406.09417): g = w(t) s (eps_y - eps_y').

y' describes in words the appearance of the object now: the prompt, and the faults of an object that SDS made.
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


@dataclass(frozen=True)
class BridgeConfig(AnnealedConfig):
    """The second stage of SDS-Bridge, for the last fifth of a run that SDS began."""

    negative_prompt: str = ""
    """Appearance of the object now, {prompt} for the prompt; families of teachers that read words have ten faults."""
    guidance_scale: NonNegative = 1.0
    """s: size of the step from one text to the other."""


class Bridge(AnnealedGuidance[BridgeConfig]):
    """From the present appearance of the object to the wanted one, both in words."""

    Settings = BridgeConfig
    paper = "Rethinking Score Distillation as a Bridge Between Image Distributions, arXiv 2406.09417"
    evaluations = 2
    order = 15

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        wanted = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        present = self.encode_prompt(prior, self.config.negative_prompt, cameras)
        row = evaluate(batch, prior, [(s, wanted), (-s, present)])
        return assemble(row, weight=weights(self.config.weight, batch))
