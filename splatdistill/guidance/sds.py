"""SDS: DreamFusion (Poole et al., arXiv 2209.14988), eq. 3: g = w(t) (eps_u + s (eps_c - eps_u) - eps)."""

from __future__ import annotations

from torch import Tensor

from splatdistill.config import SDSConfig
from splatdistill.guidance.base import Guidance, anneal, combine, draw_noise, draw_timesteps, noisy_batch, weights
from splatdistill.priors.base import Prior
from splatdistill.types import Cameras, NoisyBatch, Residual


class SDS(Guidance):
    """Classifier-free guided score minus the noise that was added. The highest timestep falls over the run."""

    def __init__(self, config: SDSConfig, *, prompt: str, group: int, steps: int) -> None:
        self.config = config
        self.prompt = prompt
        self.group = group
        self.steps = steps

    def noise(self, x0: Tensor, cameras: Cameras, prior: Prior, *, seed: int, step: int) -> NoisyBatch:
        c = self.config
        t = draw_timesteps(
            num_views=len(x0),
            group=self.group,
            num_train=len(prior.alphas_cumprod),
            low=c.t_min,
            high=anneal(c.t_max, c.t_max_final, progress=step / max(1, self.steps), over=c.anneal),
            seed=seed,
            step=step,
            device=x0.device,
        )
        return noisy_batch(x0, cameras, prior, t=t, eps=draw_noise(x0, seed=seed, step=step))

    def residual(self, batch: NoisyBatch, prior: Prior, *, step: int) -> Residual:
        s = self.config.guidance_scale
        cond = prior.embed(self.prompt, batch.cameras)
        uncond = prior.embed(self.config.negative_prompt, batch.cameras)
        return combine(
            batch,
            prior,
            scores=[(s, cond), (1.0 - s, uncond)],
            constants=[(-1.0, batch.eps)],
            weight=weights(self.config.weight, batch),
        )
