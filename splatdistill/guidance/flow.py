"""What methods share that follow one path of the prior's flow: noise of their own kind, and a timestep that falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from splatdistill.config.base import AnnealedConfig, FileOnly, Fraction, NonNegative
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class FlowConfig(AnnealedConfig):
    """SDS with a timestep that only falls."""

    guidance_scale: NonNegative = 7.0
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    t_min: Fraction = 0.3
    """Lowest timestep, as a fraction of the schedule."""
    t_min_first: FileOnly[Fraction] = 0.98
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    t_max_final: Fraction = 0.3
    """Highest timestep once annealed, as a fraction of the schedule."""


F = TypeVar("F", bound=FlowConfig)


class FlowGuidance(AnnealedGuidance[F]):
    """g = w(t) (eps_cfg(x_t) - eps), where `draw_eps` says what the noise is."""

    evaluations = 2

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s, cameras = self.config.guidance_scale, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, self.config.negative_prompt, cameras)
        row = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        return assemble([*row, (-1.0, batch.eps)], weight=weights(self.config.weight, batch))
