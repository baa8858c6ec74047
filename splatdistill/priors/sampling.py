"""Pictures from a teacher: the same scores that guide an object, followed from noise to a picture (DDIM, 2010.02502).

For a flow this is Euler's method on its straight path, which is the same path scaled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from splatdistill.priors.base import Choice, Prior
from splatdistill.priors.schedule import alpha_sigma
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras

FIRST = 0.98  # of the schedule: where its end is nothing but noise, no picture differs from it


def ring(prior: Prior) -> Cameras:
    """The cameras of a teacher's pictures: around the object, as many as it sees at once."""
    one = torch.ones(prior.num_views)
    azimuth = torch.arange(prior.num_views) * (2 * math.pi / prior.num_views)
    return orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=prior.image_size)


@torch.no_grad()
def sample(
    prior: Prior,
    prompt: str,
    *,
    negative_prompt: str = "",
    guidance_scale: float = 7.5,
    steps: int = 30,
    seed: int = 0,
    device: torch.device,
) -> Tensor:
    """Pictures [V,H,W,3] in 0..1 of what `prompt` says, V being how many views the prior sees at once."""
    prior.begin(Choice(prompt=prompt, seed=seed))
    cameras, shape = ring(prior), (prior.num_views, prior.image_size, prior.image_size, 4 if prior.sees_alpha else 3)
    conditions = [prior.embed(text, cameras) for text in (prompt, negative_prompt)]
    like = prior.encode(torch.zeros(shape, device=device))
    x0 = x = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed)).to(like)
    times = torch.linspace(FIRST * (len(prior.alphas_cumprod) - 1), 0, steps + 1).round().long()
    for number, t in enumerate(times[:-1].tolist()):
        rows = torch.full((len(x),), t, device=x.device)
        cond, uncond = prior.predict(x, rows, conditions)
        eps = uncond + guidance_scale * (cond - uncond)
        alpha, sigma = alpha_sigma(prior.alphas_cumprod, rows)
        x0 = (x - sigma * eps) / alpha
        alpha, sigma = alpha_sigma(prior.alphas_cumprod, rows * 0 + times[number + 1].item())
        x = alpha * x0 + sigma * eps
    return prior.decode(x0).float().cpu()
