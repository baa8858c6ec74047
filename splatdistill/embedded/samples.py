"""Draws pictures from a prior with DDIM and classifier-free guidance: rows of four views, to be looked at."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from splatdistill.cameras import orbit
from splatdistill.priors.base import Prior

PROMPTS = (
    "a red armchair", "a hamburger", "a cactus", "a teddy bear", "a blue car", "a snowman", "a dog", "a yellow teapot",
    "a grand piano", "a green sofa", "a bus", "a birthday cake", "a horse", "a purple lamp", "a pink vase", "a chair",
)  # fmt: skip


def ddim(
    prior: Prior,
    prompt: str,
    *,
    steps: int = 25,
    guidance_scale: float = 4.0,
    elevation_deg: float = 15.0,
    seed: int = 0,
) -> Tensor:
    """[4,H,W,3] in 0..1: front, right, back and left of what the prior makes of a prompt."""
    azimuth, one = torch.arange(4) * (math.pi / 2), torch.ones(4)
    size = prior.image_size
    cameras = orbit(
        azimuth=azimuth,
        elevation=one * math.radians(elevation_deg),
        radius=one * 3,
        fovy=one * 0.65,
        size=prior.image_size,
    )
    conditions = [prior.embed(prompt, cameras), prior.embed("", cameras)]
    shape = prior.encode(torch.zeros(4, size, size, 3)).shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    times = torch.linspace(999, 0, steps + 1).round().long()
    for now, then in pairwise(times):
        told, untold = prior.predict(x, now.expand(4), conditions)
        eps = untold + guidance_scale * (told - untold)
        a, b = prior.alphas_cumprod[now], prior.alphas_cumprod[then]
        x0 = ((x - (1 - a).sqrt() * eps) / a.sqrt()).clamp(-1, 1)
        eps = (x - a.sqrt() * x0) / (1 - a).sqrt()
        x = b.sqrt() * x0 + (1 - b).sqrt() * eps
    return prior.decode(x0)


def sample_grid(prior: Prior, path: Path, *, prompts: tuple[str, ...] = PROMPTS, columns: int = 4) -> None:
    """Writes a PNG with the four views of each prompt side by side."""
    rows = [torch.cat(list(ddim(prior, prompt)), 1) for prompt in prompts]
    rows += [torch.ones_like(rows[0])] * (-len(rows) % columns)
    grid = torch.cat([torch.cat(rows[i : i + columns], 1) for i in range(0, len(rows), columns)], 0)
    Image.fromarray((grid * 255).round().byte().numpy()).save(path)
