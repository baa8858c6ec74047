"""Splats whose surface is known: a ball, and a stool on thin legs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from splatdistill.ops.geometry import SH_C0
from splatdistill.scene.gaussians import Splats

CENTRE, RADIUS = np.array([0.1, -0.1, 0.2]), 0.5
RED, BLUE = [0.9, 0.1, 0.1], [0.1, 0.1, 0.9]
LEG, FOOT, SEAT = 0.025, -0.5, 0.15
"""Of the stool: radius of a leg, height of its foot, and of the seat's lower side; world units."""
LEGS = [(x, z) for x in (-0.3, 0.3) for z in (-0.3, 0.3)]


def painted_ball(count: int = 4000) -> Splats:
    """Opaque discs on a sphere, red towards +x and blue towards -x."""
    k = torch.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, k * math.pi * (3 - 5**0.5)
    normal = torch.stack([torch.cos(turn) * (1 - z * z).sqrt(), torch.sin(turn) * (1 - z * z).sqrt(), z], -1)
    colours = torch.where(normal[:, :1] > 0, torch.tensor([RED]), torch.tensor([BLUE]))
    return _discs(torch.tensor(CENTRE).float() + RADIUS * normal, normal, colours, size=0.02)


def stool() -> Splats:
    """A round seat, 0.45 in radius and 0.08 thick, on four legs, all of opaque discs."""
    g = torch.Generator().manual_seed(5)
    turn, height = (torch.rand(4, 600, generator=g) for _ in range(2))
    around = torch.stack([torch.cos(2 * math.pi * turn), torch.zeros_like(turn), torch.sin(2 * math.pi * turn)], -1)
    feet = torch.tensor([[x, 0.0, z] for x, z in LEGS])[:, None]
    up = torch.tensor([0.0, 1.0, 0.0])
    legs = feet + LEG * around + (FOOT + height * (SEAT - FOOT))[..., None] * up
    k = torch.arange(2500) + 0.5
    spiral, reach = k * math.pi * (3 - 5**0.5), 0.45 * (k / 2500).sqrt()
    disc = torch.stack([reach * torch.cos(spiral), torch.full_like(k, SEAT), reach * torch.sin(spiral)], -1)
    rim = 0.45 * around[0] + (SEAT + 0.08 * height[0])[:, None] * up
    means = torch.cat([legs.reshape(-1, 3), disc, disc + 0.08 * up, rim])
    normals = torch.cat([around.reshape(-1, 3), -up.expand_as(disc), up.expand_as(disc), around[0]])
    colours = torch.tensor([RED]).repeat(len(means), 1)
    colours[: 4 * 600] = torch.tensor(BLUE)
    return _discs(means, normals, colours, size=0.012)


def _discs(means: Tensor, normals: Tensor, colours: Tensor, *, size: float) -> Splats:
    """Opaque discs at means [N,3] across normals [N,3]; size: their standard deviation, world units."""
    count = len(means)
    half = torch.nn.functional.normalize(normals + torch.tensor([0.0, 0, 1 + 1e-6]), dim=-1)
    return Splats(
        means=means,
        quats=torch.cat([torch.zeros(count, 1), half], 1),  # half a turn about the bisector takes +z to the normal
        scales=torch.log(torch.tensor([size, size, 0.1 * size])).repeat(count, 1),
        opacities=torch.full((count,), 5.0),
        sh0=((colours - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(count, 0, 3),
    )
