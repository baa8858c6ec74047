"""Scenes in which every mistake of frame, order or colour shows."""

from __future__ import annotations

import math

import torch

from splatdistill.ops.geometry import SH_C0
from splatdistill.scene.gaussians import Splats


def asymmetric(count: int, *, degree: int = 0, seed: int = 0) -> Splats:
    """Flat, turned, coloured splats in a box whose sides differ, away from the origin."""
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.rand(count, 3, generator=g) * torch.tensor([0.4, 0.8, 1.2]) + torch.tensor([0.1, -0.2, -0.9]),
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        scales=torch.randn(count, 3, generator=g) * 0.5 - 2.5,
        opacities=torch.randn(count, generator=g) * 2,
        sh0=torch.rand(count, 1, 3, generator=g) * 3 - 1.5,
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g) * 0.2,
    )


AXES = {"red": (0.8, 0.0, 0.0), "green": (0.0, 0.6, 0.0), "blue": (0.0, 0.0, 0.9)}
"""Where the balls of `axes` lie: on +x, +y and +z, each at its own distance."""


def axes() -> Splats:
    """A red, a green and a blue ball, each of one round splat, and a grey rod along +x+y as a mark of shape."""
    means = torch.tensor([*AXES.values(), (0.2, 0.2, 0.0)])
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    half = math.pi / 8
    return Splats(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]] * 3 + [[math.cos(half), 0, 0, math.sin(half)]]),
        scales=torch.log(torch.tensor([[0.05] * 3] * 3 + [[0.12, 0.01, 0.01]])),
        opacities=torch.full((4,), 6.0),
        sh0=((colours - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(4, 0, 3),
    )


def knot(count: int, *, degree: int = 0) -> Splats:
    """A (2,3) torus knot of flat splats with a ramp of hues and a checker, upright, its ends of two colours."""
    g = torch.Generator().manual_seed(7)
    t = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    ring = 0.55 + 0.2 * torch.cos(3 * t)
    middle = torch.stack([ring * torch.cos(2 * t), ring * torch.sin(2 * t), -0.2 * torch.sin(3 * t)], -1)
    means = middle + 0.09 * torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=-1)
    hue = torch.stack([0.5 + 0.45 * torch.cos(t + shift) for shift in (0.0, 2.1, 4.2)], -1)
    checker = 0.6 + 0.4 * ((t * 20).long() % 2)[:, None]
    return Splats(
        means=means,
        quats=torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        scales=torch.log(torch.tensor([0.03, 0.02, 0.006])).repeat(count, 1),
        opacities=torch.full((count,), 2.0) + torch.randn(count, generator=g),
        sh0=((hue * checker - 0.5) / SH_C0)[:, None],
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g) * 0.1,
    )
