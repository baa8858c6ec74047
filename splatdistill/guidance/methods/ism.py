"""ISM: LucidDreamer (Liang et al., arXiv 2311.11284): g = w(t) (eps_cfg(x_t) - eps_0(x_s)), s < t.

x_s and x_t are no draws: DDIM leads x_0 up to s and on to t with the empty prompt, so both lie on one path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval

from splatdistill.config.base import AnnealedConfig, Fraction, NonNegative, Weight
from splatdistill.guidance.base import AnnealedGuidance, assemble, evaluate, moved, noisy_batch, total
from splatdistill.guidance.schedules import weights

if TYPE_CHECKING:
    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import NoisyBatch, Residual


@dataclass(frozen=True)
class ISMConfig(AnnealedConfig):
    """Interval Score Matching (LucidDreamer)."""

    weight: Weight = "sigma_over_alpha"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or flow."""
    guidance_scale: NonNegative = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    interval: Fraction = 0.05
    """How far s lies below t, as a fraction of the schedule."""
    inversion_steps: Annotated[int, Interval(ge=1, le=2)] = 1
    """Steps of DDIM from x_0 to x_s, one evaluation each."""


class ISM(AnnealedGuidance[ISMConfig]):
    """What one step along the path changes of the score, and guidance at its end."""

    Settings = ISMConfig
    paper = "LucidDreamer, arXiv 2311.11284"
    evaluations = 4
    order = 10

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c, cameras = self.config, batch.cameras
        cond = self.encode_prompt(prior, self.view_dependent_prompts(cameras), cameras)
        uncond = self.encode_prompt(prior, c.negative_prompt, cameras)
        empty = self.encode_prompt(prior, "", cameras)
        lower = (batch.t - int(c.interval * len(prior.alphas_cumprod))).clamp(min=0)
        here = noisy_batch(batch.x0, cameras, prior, t=0 * lower, eps=batch.eps, ranks=batch.ranks)
        for number in range(1, c.inversion_steps + 1):
            eps = total(evaluate(here, prior, [(1.0, empty)]))
            here = moved(here, prior, eps=eps, t=lower * number // c.inversion_steps)
        below = evaluate(here, prior, [(-1.0, empty)])
        upper = moved(here, prior, eps=below[0][1], t=batch.t)
        s = c.guidance_scale
        above = evaluate(upper, prior, [(s, cond), (1.0 - s, uncond)])
        return assemble([*above, *below], weight=weights(c.weight, upper))
