"""SDI: inversion by DDIM (Lukoianov et al., arXiv 2405.15891): g = w(t) (eps_cfg(x_t) - kappa), t falls.

kappa = (x_t - alpha x_0) / sigma is the noise that DDIM, run upwards with the guidance turned round, finds for x_0.
Nothing is drawn on the way: eta is 0 here, and 0.3 in the authors' configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from splatdistill.config.base import AnnealedConfig, FileOnly, Fraction, NonNegative, Weight
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate, moved, noisy_batch, total
from splatdistill.guidance.schedules import timestep_range, weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual

STRIDE = 0.1
"""Of the schedule: how far a step of the inversion goes at most."""


@dataclass(frozen=True)
class SDIConfig(AnnealedConfig):
    """Score Distillation via Inversion: SDS whose noise is found and not drawn."""

    weight: Weight = "sigma_over_alpha"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or flow."""
    guidance_scale: NonNegative = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    inversion_scale: Annotated[float, Interval(ge=-100, le=100)] = -7.5
    """The same on the way up; below 0 it leads away from the prompt."""
    t_min: Fraction = 0.25
    """Lowest timestep, as a fraction of the schedule."""
    t_min_first: FileOnly[Fraction] = 0.98
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    t_max_final: Fraction = 0.25
    """Highest timestep once annealed, as a fraction of the schedule."""


class SDI(AnnealedGuidance[SDIConfig]):
    """Costs the more, the higher the timestep, which falls over the run: 2 ceil(t/100) + 2 evaluations."""

    Settings = SDIConfig
    paper = "Score Distillation via Reparametrized DDIM, arXiv 2405.15891"
    evaluations = 22
    order = 11

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c, cameras, levels = self.config, batch.cameras, len(prior.alphas_cumprod)
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, c.negative_prompt, cameras)
        # Of the range and not of t itself: reading that would wait for the device.
        highest = min(int(timestep_range(c, progress=self.progress(step))[1] * levels), levels - 1)
        number = max(1, -(-highest // int(STRIDE * levels)))
        there = noisy_batch(batch.x0, cameras, prior, t=0 * batch.t, eps=0 * batch.eps, ranks=batch.ranks)
        up = c.inversion_scale
        for place in range(1, number + 1):
            eps = total(evaluate(there, prior, [(up, cond), (1.0 - up, uncond)]))
            there = moved(there, prior, eps=eps, t=batch.t * place // number)
        s, found = c.guidance_scale, 1 / there.sigma
        guided = evaluate(there, prior, [(s, cond), (1.0 - s, uncond)])
        row = [*guided, (-found, there.xt), (there.alpha * found, batch.x0.detach())]
        return assemble(row, weight=weights(c.weight, there))
