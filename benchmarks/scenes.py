"""The seeded scene of the rasteriser's benchmarks: a ball of splats, seen from evenly spaced sides."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from splatdistill.ops import RasterInputs, RasterSettings
from splatdistill.scene.cameras import orbit

LEAVES = ("means", "quats", "scales", "opacities", "colors")


class Shape(NamedTuple):
    """A cell of the benchmark: N splats into V square views."""

    num_splats: int
    num_views: int
    size: int

    def __str__(self) -> str:
        views = f"{self.num_views}x" if self.num_views > 1 else ""
        return f"{self.num_splats // 1000}k {views}{self.size}^2"


class Scene(NamedTuple):
    """The arguments of `ops.rasterize`."""

    inputs: RasterInputs
    settings: RasterSettings

    def leaves(self) -> list[Tensor]:
        """The inputs of LEAVES, without the gradients that they have."""
        leaves = [getattr(self.inputs, name) for name in LEAVES]
        for leaf in leaves:
            leaf.grad = None
        return leaves


def ball(shape: Shape, *, seed: int = 0) -> Scene:
    """A scene whose inputs of LEAVES require grad.

    Means uniform in a ball of radius 0.5, scales log-normal about 0.02, opacities 0.05 to 0.95, random turns and
    colours on white; cameras 2.5 away at 15 degrees elevation with a field of view of 45 degrees.
    """
    g = torch.Generator().manual_seed(seed)
    n, views = shape.num_splats, shape.num_views
    direction = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=-1)
    full = torch.ones(views)
    cameras = orbit(
        azimuth=torch.arange(views) * (2 * math.pi / views),
        elevation=full * math.radians(15.0),
        radius=full * 2.5,
        fovy=full * math.radians(45.0),
        size=shape.size,
    )
    inputs = RasterInputs(
        means=0.5 * torch.rand(n, 1, generator=g) ** (1 / 3) * direction,
        quats=torch.randn(n, 4, generator=g),
        scales=torch.exp(math.log(0.02) + 0.3 * torch.randn(n, 3, generator=g)),
        opacities=0.05 + 0.9 * torch.rand(n, generator=g),
        colors=torch.rand(n, 3, generator=g),
        viewmats=cameras.viewmats,
        Ks=cameras.Ks,
        background=torch.ones(views, 3),
    )
    for name in LEAVES:
        getattr(inputs, name).requires_grad_()
    return Scene(inputs, RasterSettings(shape.size, shape.size))


def picture_weights(shape: Shape, *, seed: int = 1) -> Tensor:
    """[V,H,W,3]: the loss is the sum of these times the picture."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape.num_views, shape.size, shape.size, 3, generator=g)
