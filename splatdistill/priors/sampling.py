"""Pictures from a teacher: the same scores that guide an object, followed from noise to a picture (DDIM, 2010.02502).

For a flow this is Euler's method on its straight path, which is the same path scaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from splatdistill.priors.base import Choice, Condition, Prior
from splatdistill.priors.schedule import alpha_sigma
from splatdistill.scene.cameras import orbit
from splatdistill.scene.types import Cameras

FIRST = 0.98  # of the schedule: where its end is nothing but noise, no picture differs from it


def ring(prior: Prior, *, parts: int = 1) -> Cameras:
    """The cameras of a teacher's pictures, around the object: as many as it sees at once, `parts` times, each part
    turned to stand between the cameras of the others.
    """
    turned = [torch.arange(prior.num_views) + part / parts for part in range(parts)]
    azimuth = torch.cat(turned) * (2 * math.pi / prior.num_views)
    one = torch.ones(len(azimuth))
    return orbit(azimuth=azimuth, elevation=0.2 * one, radius=3 * one, fovy=0.7 * one, size=prior.image_size)


@torch.no_grad()
def sample(
    prior: Prior,
    choice: Choice,
    *,
    negative_prompt: str = "",
    guidance_scale: float,
    steps: int = 30,
    part: int = 0,
    parts: int = 1,
    device: torch.device,
) -> Tensor:
    """Pictures [V,H,W,3] in 0..1 of a choice, V being how many views the prior sees at once. part: from 0, of
    `parts` sets of pictures with one seed: each has other noise and other cameras of `ring`.
    """
    prior.begin(choice)
    cameras = ring(prior, parts=parts).select(slice(part * prior.num_views, (part + 1) * prior.num_views))
    shape = (prior.num_views, prior.image_size, prior.image_size, 4 if prior.sees_alpha else 3)
    wanted = [(1 - guidance_scale, negative_prompt), (guidance_scale, choice.prompt)]
    row = [(share, prior.embed(text, cameras)) for share, text in wanted if share]
    like = prior.encode(torch.zeros(shape, device=device))
    generator = torch.Generator().manual_seed(choice.seed)
    x = [torch.randn(like.shape, generator=generator) for _ in range(part + 1)][-1].to(like)
    times = torch.linspace(FIRST * (len(prior.alphas_cumprod) - 1), 0, steps + 1).round().long()
    return prior.decode(follow(prior, x, row, times=times[:-1].tolist())).float().cpu()


@torch.no_grad()
def follow(prior: Prior, x: Tensor, row: Sequence[tuple[float, Condition]], *, times: Sequence[int]) -> Tensor:
    """x0 like x [V,C,h,w], standard normal noise, down the path of the sum of coefficient x score, by DDIM at these
    falling timesteps: what the prior takes for x0 at the last of them.
    """
    x0, (coef, conditions) = x, zip(*row, strict=True)
    for now, then in zip(times, [*times[1:], 0], strict=True):
        rows = torch.full((len(x),), now, device=x.device)
        scores = prior.predict(x, rows, conditions)
        eps = sum((c * score for c, score in zip(coef[1:], scores[1:], strict=True)), coef[0] * scores[0])
        alpha, sigma = alpha_sigma(prior.alphas_cumprod, rows)
        x0 = (x - sigma * eps) / alpha
        alpha, sigma = alpha_sigma(prior.alphas_cumprod, rows * 0 + then)
        x = alpha * x0 + sigma * eps
    return x0
