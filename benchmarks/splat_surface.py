"""Where the surface of splats is, found without the mesher, and how far a mesh lies from it.

A pixel's surface is the splat at which half of the light is gone (the median depth of 2D Gaussian Splatting, Huang et
al. 2024), at the point of the ray where that Gaussian is densest (as RaDe-GS and GOF have it): exact, from every pair
of pixel and splat, with the projection of the oracle of the operators. The mesher draws layers, and stands elsewhere.

Soft splats have no one surface: what a view sees is in front of what the view from behind the same wall sees. `floor`
is the Chamfer distance between the surfaces that two sets of views see. Legend: N splats, P points, H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from splatdistill.ops import RasterInputs, RasterSettings
from splatdistill.ops.geometry import rotation_matrices
from splatdistill.ops.reference import ALPHA_CAP, ALPHA_MIN, Projection, project
from splatdistill.rendering.renderer import EPS2D, FAR, NEAR
from splatdistill.scene.cameras import orbit
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras

NUM_VIEWS = 32
SIZE = 256  # pixels a side
FOVY = math.radians(25)
TILE = 32  # pixels a side: what is blended at once
SAMPLES = 600_000  # points on a mesh: 0.005 of the radius apart on a ball
MOST = 20_000  # points whose distance is asked for


@dataclass(frozen=True)
class Surface:
    """points: [P,3] world units, as one half of the views sees them. others: [Q,3], as the other half does."""

    points: np.ndarray
    others: np.ndarray

    @property
    def all(self) -> np.ndarray:
        return np.concatenate([self.points, self.others])

    @property
    def radius(self) -> float:
        """World units, from the middle; strays, at most a hundredth, do not count."""
        return float(np.quantile(np.linalg.norm(self.all - self.all.mean(0), axis=1), 0.99))

    def floor(self) -> float:
        """Of the radius: what the two halves differ by."""
        return chamfer(self.points, self.others)[0] / self.radius


@torch.no_grad()
def see(splats: Splats, *, num_views: int = NUM_VIEWS) -> Surface:
    """The surface of splats from `num_views` directions, evenly about them, none of which the mesher takes."""
    solid = torch.sigmoid(splats.opacities) > 0.1
    low, high = (torch.quantile(splats.means[solid], q, dim=0) for q in (0.002, 0.998))
    views = around(0.5 * (low + high), 0.55 * float((high - low).norm()), num_views=num_views)
    seen = [_points(splats, views, view).numpy() for view in range(num_views)]
    return Surface(np.concatenate(seen[::2]), np.concatenate(seen[1::2]))


def around(centre: Tensor, radius: float, *, num_views: int, size: int = SIZE) -> Cameras:
    """Cameras that see a ball of that centre [3] and radius, on a spiral."""
    k, full = torch.arange(num_views), torch.ones(num_views)
    views = orbit(
        azimuth=torch.remainder(1.7 + k * 2 * math.pi / 1.3247, 2 * math.pi) - math.pi,
        elevation=torch.asin(1 - (2 * k + 1) / num_views),
        radius=full * radius / math.sin(FOVY / 2),
        fovy=full * FOVY,
        size=size,
    )
    views.viewmats[:, :3, 3] -= torch.einsum("vij,j->vi", views.viewmats[:, :3, :3], centre)
    return views


def _points(splats: Splats, views: Cameras, view: int) -> Tensor:
    """[P,3]: what the view of that number sees."""
    inputs = RasterInputs(
        means=splats.means,
        quats=splats.quats,
        scales=torch.exp(splats.scales),
        opacities=torch.sigmoid(splats.opacities),
        colors=torch.zeros(len(splats), 3),
        viewmats=views.viewmats,
        Ks=views.Ks,
        background=torch.zeros(len(views), 3),
    )
    p = project(inputs, RasterSettings(views.width, views.height, near=NEAR, far=FAR, eps2d=EPS2D), view)
    order = torch.argsort(p.depth, stable=True)
    order = order[p.seen[order]]
    camera, K = views.viewmats[view], views.Ks[view]
    # Positions and rays in the frame of each splat, in units of its axes.
    to_own = (camera[:3, :3] @ rotation_matrices(splats.quats)).mT / inputs.scales[..., None].clamp(min=1e-7)
    at = (to_own @ (splats.means @ camera[:3, :3].T + camera[:3, 3])[..., None])[..., 0]
    found: list[Tensor] = []
    for x in range(0, views.width, TILE):
        for y in range(0, views.height, TILE):
            low, high = torch.tensor([x, y]), torch.tensor([x + TILE, y + TILE])
            near = ((p.mean + p.radii > low) & (p.mean - p.radii < high)).all(-1)
            here = order[near[order]]
            if not len(here):
                continue
            axes = torch.arange(TILE) + 0.5
            pixels = torch.stack(torch.meshgrid(x + axes, y + axes, indexing="xy"), -1).reshape(-1, 2)
            has, splat = _middle(p, here, pixels)
            rays = torch.cat([(pixels[has] - K[:2, 2]) / K[[0, 1], [0, 1]], torch.ones(int(has.sum()), 1)], -1)
            own = (to_own[splat] @ rays[..., None])[..., 0]
            depth = (own * at[splat]).sum(-1) / own.square().sum(-1)
            found.append((rays * depth[:, None] - camera[:3, 3]) @ camera[:3, :3])
    return torch.cat(found) if found else torch.zeros(0, 3)


def _middle(p: Projection, here: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Which of `pixels` [H*W,2] hide half of what is behind, and for those the splat of `here` at which they do."""
    dx, dy = (p.mean[here] - pixels[:, None]).unbind(-1)
    xx, xy, yy = p.conic[here].unbind(-1)
    sigma = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    peak = p.opacity[here] * torch.exp(-sigma)
    alpha = torch.where((sigma >= 0) & (peak >= ALPHA_MIN), peak.clamp(max=ALPHA_CAP), 0.0)
    half = torch.cumprod(1 - alpha, 1) <= 0.5
    has = half[:, -1]
    return has, here[half[has].to(torch.uint8).argmax(1)]


def chamfer(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """The Chamfer distance of points [P,3] and [Q,3], world units: half the sum of the mean distances from each of one
    to the nearest of the other; and both of these.
    """
    there, back = (float(KDTree(to).query(fro[:: max(1, len(fro) // MOST)])[0].mean()) for fro, to in ((a, b), (b, a)))
    return 0.5 * (there + back), there, back


def away(surface: Surface, shape: Any) -> dict[str, float]:
    """How far a trimesh lies from the surface, of its radius: chamfer, and both of its directions."""
    from trimesh.sample import sample_surface

    samples = np.asarray(sample_surface(shape, SAMPLES, seed=0)[0])
    names = ("chamfer", "from_splats", "from_mesh")
    return {name: x / surface.radius for name, x in zip(names, chamfer(surface.all, samples), strict=True)}
