"""CDS: Consistent3D (Wu et al., arXiv 2401.09050), as its code has it: g = w(t) (eps_cfg(x_t) - eps_cfg(x_t')), t' < t.

x_t' lies one DDIM step below x_t = alpha x_0 + sigma eps*, with noise eps* that is fixed for the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from splatdistill.config.base import Ends, Fraction, MethodConfig, NonNegative, ViewsConfig, Weight
from splatdistill.guidance.base import Guidance, assemble, draw_noise, evaluate, moved, noisy_batch, total
from splatdistill.guidance.schedules import anneal, weights

if TYPE_CHECKING:
    from torch import Tensor

    from splatdistill.priors.base import Prior
    from splatdistill.scene.types import Cameras, NoisyBatch, Residual


@dataclass(frozen=True)
class ConsistencyConfig(MethodConfig):
    """Consistency Distillation Sampling (Consistent3D)."""

    clamp: Ends = (2.0, 8.0)
    """Largest absolute gradient per element at the first and at the last step; 0 0 leaves it alone."""
    weight: Weight = "one"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13) or alpha sigma^2 (fantasia)."""
    guidance_scale: NonNegative = 101.0
    """Classifier-free guidance at the first step, in the diffusers form eps_u + s (eps_c - eps_u)."""
    guidance_scale_final: NonNegative = 51.0
    """Classifier-free guidance once annealed."""
    t_min: Fraction = 0.1
    """No timestep lies below this, as a fraction of the schedule."""
    t_max: Fraction = 0.98
    """No timestep lies above this, as a fraction of the schedule."""
    target: Fraction = 0.7
    """Where the lower of the two timesteps starts, as a fraction of the schedule."""
    target_final: Fraction = 0.1
    """Where the lower timestep ends, as a fraction of the schedule."""
    gap: Fraction = 0.1
    """Smallest distance of the two timesteps, as a fraction of the schedule."""
    gap_range: Fraction = 0.2
    """Range of the random part of that distance, as a fraction of the schedule."""
    anneal: Fraction = 1.0
    """Fraction of the steps over which the lower timestep and the guidance fall, 0..1."""
    schedule: Literal["linear", "sqrt"] = "sqrt"
    """How the lower timestep falls: linear, or sqrt (fast, then slow)."""

    def check(self, name: str, *, views: ViewsConfig) -> None:
        super().check(name, views=views)
        if not self.t_min + self.gap <= self.t_max:
            raise ValueError(f"{name}.t_max must be at least {name}.t_min + {name}.gap.")


class Consistency(Guidance[ConsistencyConfig]):
    """Score at t minus score at the lower t'. Descending the paper's own difference of x_0 estimates diverges: it has
    the opposite sign.
    """

    Settings = ConsistencyConfig
    paper = "Consistent3D, arXiv 2401.09050"
    evaluations = 4
    order = 5

    fixed: Tensor | None = None  # eps* [C,h,w], shared by all views and steps

    def noise(self, x0: Tensor, cameras: Cameras, prior: Prior, *, seed: int, step: int) -> NoisyBatch:
        import torch

        from splatdistill.utils import rng
        from splatdistill.utils.device import send

        if self.fixed is None or self.fixed.shape != x0.shape[1:]:  # a later stage may have another prior
            self.fixed = send(draw_noise(x0.shape[1:], seed=seed, step=0), x0.device)
        c, num_train = self.config, len(prior.alphas_cumprod)
        g = rng.generator(seed, step, "timestep")
        first, last = int(c.gap * num_train), int((c.gap + c.gap_range) * num_train)
        gap = torch.randint(first, max(first + 1, last), (self.ranks.world * len(x0) // self.group,), generator=g)
        t = (self.target(step, num_train) + gap).clamp(int(c.t_min * num_train), int(c.t_max * num_train))
        t = send(self.ranks.shard(t.repeat_interleave(self.group)), x0.device)
        return noisy_batch(x0, cameras, prior, t=t, eps=self.fixed.expand_as(x0), ranks=self.ranks)

    def target(self, step: int, num_train: int) -> int:
        """t', the same for all views of a step."""
        c = self.config
        first, last = c.target * num_train, c.target_final * num_train
        t = int(anneal(first, last, progress=self.progress(step), over=c.anneal, schedule=c.schedule))
        return min(max(t, int(c.t_min * num_train)), int((c.t_max - c.gap) * num_train))

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        c = self.config
        s = anneal(c.guidance_scale, c.guidance_scale_final, progress=self.progress(step), over=c.anneal)
        cond = self.encode_prompt(prior, self.view_dependent_prompts(batch.cameras), batch.cameras)
        uncond = self.encode_prompt(prior, c.negative_prompt, batch.cameras)
        here = evaluate(batch, prior, [(s, cond), (1.0 - s, uncond)])
        t = batch.t.new_full(batch.t.shape, self.target(step, len(prior.alphas_cumprod)))
        lower = moved(batch, prior, eps=total(here), t=t)
        below = evaluate(lower, prior, [(-s, cond), (s - 1.0, uncond)])
        return assemble([*here, *below], weight=weights(c.weight, batch))

    def state_dict(self) -> dict[str, Tensor]:
        return {} if self.fixed is None else {"fixed_noise": self.fixed}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.fixed = state.get("fixed_noise")
