"""The surface of splats as cameras all around see it, fused into one closed surface: depths become a signed distance
on a grid (Curless and Levoy 1996), of which the zero level is taken. Legend: H W pixels, G grid points, N splats.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.ops.geometry import SH_C0, rotation_matrices
from splatdistill.rendering.renderer import EPS2D, Renderer
from splatdistill.scene.cameras import orbit
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras

NUM_VIEWS = 64
SIZE = 256  # pixels a side
FOVY = math.radians(30)
SOLID = 0.35  # alpha above which a pixel has a surface
LAYERS = 24  # slices of the object, by depth, in which a view measures what it sees
MEDIAN = 5  # pixels a side: a gap between splats, through which the far side is seen, is narrower than half of it
BAND = 3  # cells: how far from the surface a view's word counts in full
SMOOTH = 0.5  # cells, standard deviation: it rounds the stairs of the grid off, and thin rods and edges little
BEHIND = 0.02  # weight of a view for points far behind its surface. At 0 the few views that see through gaps between
# splats dig holes; the more, the less is left of a hollow that few views look into.


@dataclass(frozen=True)
class Sight:
    """What one camera sees. view: that camera. depth: [H,W] world units along its axis, inf where nothing is solid.
    colour: [H,W,3] in 0..1, of the splats alone. trust: [H,W] in 0..1, how clear it is that something is solid there,
    or that nothing is.
    """

    view: Cameras
    depth: Tensor
    colour: Tensor
    trust: Tensor

    @property
    def radius(self) -> float:
        """World units, of the sphere that fills the picture."""
        return float(self.view.radius[0]) * math.sin(FOVY / 2)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Of points [G,3]: where they are in the picture [G,2] pixels, and their depth [G]."""
        camera, K = self.view.viewmats[0].to(points.device), self.view.Ks[0].to(points.device)
        at = points @ camera[:3, :3].T + camera[:3, 3]
        return (at @ K.T)[:, :2] / at[:, 2:], at[:, 2]

    def at(self, pixel: Tensor) -> tuple[Tensor, Tensor]:
        """Depth and trust [G] of pixel [G,2]: those of the nearest one; beside the picture it is clear that nothing is
        solid.
        """
        x, y = pixel.floor().long().unbind(-1)
        inside = (x >= 0) & (x < self.view.width) & (y >= 0) & (y < self.view.height)
        nearest = y.clamp(0, self.view.height - 1), x.clamp(0, self.view.width - 1)
        return torch.where(inside, self.depth[nearest], torch.inf), torch.where(inside, self.trust[nearest], 1.0)

    def points(self) -> Tensor:
        """[P,3] where its pixels with a surface lie in the world."""
        K, camera = self.view.Ks[0].to(self.depth.device), self.view.viewmats[0].to(self.depth.device)
        y, x = self.depth.isfinite().nonzero(as_tuple=True)
        z = self.depth[y, x]
        at = torch.stack([(x + 0.5 - K[0, 2]) / K[0, 0] * z, (y + 0.5 - K[1, 2]) / K[1, 1] * z, z], -1)
        return (at - camera[:3, 3]) @ camera[:3, :3]


@torch.no_grad()
def look(splats: Splats, renderer: Renderer, *, num_views: int = NUM_VIEWS, first: float = 0.0) -> list[Sight]:
    """The object from `num_views` directions, evenly on the sphere from azimuth `first` (rad) on. ValueError when
    nothing is solid.
    """
    solid = torch.sigmoid(splats.opacities) > 0.1
    if not solid.any():
        raise ValueError("the splats hold no solid surface, so there is no mesh of them.")
    means = splats.means[solid]
    low, high = (torch.quantile(means, q, dim=0) for q in (0.003, 0.997))  # stray splats may lie anywhere
    centre = 0.5 * (low + high)
    radius = 1.1 * float(torch.quantile((means - centre).square().sum(-1).sqrt(), 0.997))
    views = _around(radius, num_views=num_views, first=first)
    views.viewmats[:, :3, 3] -= torch.einsum("vij,j->vi", views.viewmats[:, :3, :3], centre.cpu())
    sights = [_sight(splats, renderer, views.select(slice(i, i + 1))) for i in range(num_views)]
    if not any(sight.depth.isfinite().any() for sight in sights):
        raise ValueError("the splats hold no solid surface, so there is no mesh of them.")
    return sights


def _around(radius: float, *, num_views: int, first: float) -> Cameras:
    """Cameras about the origin, on a spiral of the golden angle, that see a sphere of `radius` fill the frame."""
    k, full = torch.arange(num_views), torch.ones(num_views)
    return orbit(
        azimuth=torch.remainder(first + k * math.pi * (3 - 5**0.5), 2 * math.pi) - math.pi,
        elevation=torch.asin((2 * k + 1) / num_views - 1),
        radius=full * radius / math.sin(FOVY / 2),
        fovy=full * FOVY,
        size=SIZE,
    )


def _sight(splats: Splats, renderer: Renderer, view: Cameras) -> Sight:
    drawn = renderer.render(splats, view, background=torch.zeros(1, 3))
    depth = _median_depth(splats, renderer, view, drawn.alpha[0, ..., 0])
    wide = F.pad(depth.where(depth.isfinite(), torch.nan)[None, None], (MEDIAN // 2,) * 4, value=torch.nan)
    smooth = F.unfold(wide, MEDIAN)[0].nanmedian(0).values.reshape(depth.shape)
    alpha = drawn.alpha[0, ..., 0]
    colour = (drawn.rgb[0] / alpha[..., None].clamp(min=SOLID)).clamp(0, 1)
    trust = torch.where(alpha > SOLID, (alpha - SOLID) / (1 - SOLID), 1 - alpha / SOLID)
    return Sight(view, torch.where(depth.isfinite(), smooth, torch.inf), colour, trust.square())


def _median_depth(splats: Splats, renderer: Renderer, view: Cameras, alpha: Tensor) -> Tensor:
    """[H,W]: the mean depth in the layer in which half of `alpha` [H,W] is reached. The mean depth of all splats of a
    pixel would lie between a thin wall and what is behind it.

    What a pixel gathers of a layer is a render in which the splats of that layer are white and the others black. In
    three more renders they are as bright as the parts of their planes.
    """
    camera = view.viewmats[0].to(splats.device)
    z = splats.means @ camera[2, :3] + camera[2, 3]
    low, high = torch.quantile(z, 0.001), torch.quantile(z, 0.999)
    layer = ((z - low) / (high - low).clamp(min=1e-9) * LAYERS).long().clamp(0, LAYERS - 1)
    planes = _planes(splats, view)
    least, span = planes.amin(0), (planes.amax(0) - planes.amin(0)).clamp(min=1e-9)
    bright = torch.cat([torch.ones_like(z)[:, None], (planes - least) / span], 1)
    values = (F.one_hot(layer, LAYERS)[:, None] * bright[..., None]).flatten(1)  # [N,4*LAYERS]
    gathered = _gathered(splats, renderer, view, values).reshape(*alpha.shape, 4, LAYERS)
    middle = (gathered[..., 0, :].cumsum(-1) < 0.5 * alpha[..., None]).sum(-1).clamp(max=LAYERS - 1)
    found = gathered.gather(-1, middle[..., None, None].expand(-1, -1, 4, 1))[..., 0]
    weight = found[..., :1]
    across, down, there = (least + span * found[..., 1:] / weight.clamp(min=1e-6)).unbind(-1)
    y, x = (torch.arange(n, device=z.device) + 0.5 for n in (view.height, view.width))
    return torch.where((alpha > SOLID) & (weight[..., 0] > 1e-3), there + across * x + down * y[:, None], torch.inf)


def _planes(splats: Splats, view: Cameras) -> Tensor:
    """[N,3] such that a splat's mean depth along the ray of pixel (x, y) is the first times x, the second times y, and
    the third. Without it a splat would stand before the camera like a screen, and a slanted surface too near: its
    nearest splats are drawn first.
    """
    camera, K = view.viewmats[0].to(splats.device), view.Ks[0].to(splats.device)
    at = splats.means @ camera[:3, :3].T + camera[:3, 3]
    axes = camera[:3, :3] @ rotation_matrices(splats.quats) * torch.exp(splats.scales)[:, None]
    focal, slope = K[[0, 1], [0, 1]], at[:, :2] / at[:, 2:]
    drawn = (focal / at[:, 2:])[..., None] * (axes[:, :2] - slope[..., None] * axes[:, 2:])  # [N,2,3] px
    covariance = drawn @ drawn.mT + EPS2D * torch.eye(2, device=at.device)
    # The regression of depth on the pixel.
    lean = (torch.inverse(covariance) @ drawn @ axes[:, 2, :, None])[..., 0]
    return torch.cat([lean, at[:, 2:] - (lean * (focal * slope + K[:2, 2])).sum(-1, keepdim=True)], 1)


def _gathered(splats: Splats, renderer: Renderer, view: Cameras, values: Tensor) -> Tensor:
    """[H,W,D]: values [N,D] in 0..1 blended as if they were colours. D is a multiple of 3."""
    pictures: list[Tensor] = []
    for colours in torch.split(values, 3, 1):
        flat = {"sh0": (colours[:, None] - 0.5) / SH_C0, "shN": splats.shN[:, :0]}
        drawn = renderer.render(Splats(**{**splats.tensors, **flat}), view, background=torch.zeros(1, 3))
        pictures.append(drawn.rgb[0])
    return torch.cat(pictures, -1)


@dataclass(frozen=True)
class Field:
    """values: [X,Y,Z] signed distance in bands, below 0 inside and above 0 on the border. Value [0,0,0] lies at
    `corner` [3], and neighbours `cell` world units apart.
    """

    values: np.ndarray
    corner: np.ndarray
    cell: float

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """vertices [M,3] and faces [T,3] of the zero level, counter-clockwise from outside; closed."""
        measure: Any = importlib.import_module("skimage.measure")
        vertices, faces, _, _ = measure.marching_cubes(self.values, 0.0, gradient_direction="descent")
        return vertices * self.cell + self.corner, faces


@torch.no_grad()
def fuse(sights: Sequence[Sight], *, resolution: int) -> Field:
    """resolution: its cube is the number of grid points. What no view sees is inside. ValueError when nothing is."""
    ndimage: Any = importlib.import_module("scipy.ndimage")
    points, corner, shape, cell = _grid(sights, resolution)
    total, weights = torch.zeros(2, len(points), device=points.device)
    for sight in sights:
        pixel, z = sight.project(points)
        depth, trust = sight.at(pixel)
        signed = ((depth - z) / (BAND * cell)).clamp(max=1)
        weight = trust * torch.where(signed > -1, 1.0, BEHIND)
        total += weight * signed.clamp(min=-1)
        weights += weight
    values = (total / weights.clamp(min=1e-6)).cpu().numpy().reshape(shape)
    values = ndimage.gaussian_filter(np.pad(values, 2, constant_values=1.0), SMOOTH)
    if values.min() >= 0:
        raise ValueError("the splats hold no solid surface, so there is no mesh of them.")
    return Field(values, corner - 2 * cell, cell)


def _grid(sights: Sequence[Sight], resolution: int) -> tuple[Tensor, np.ndarray, tuple[int, ...], float]:
    """points [G,3] of a grid about all that is seen, with a margin; its corner, its shape and the size of its cells,
    which is the smaller the flatter the object: what is thin in one direction often has thin parts.
    """
    seen = torch.cat([sight.points() for sight in sights])
    low, high = seen.amin(0), seen.amax(0)
    sides = np.polynomial.Polynomial([1.0])
    for extent in (high - low).cpu().numpy():
        sides *= np.polynomial.Polynomial(
            [1.0 + 2 * BAND, max(float(extent), 1e-9)]
        )  # points along a side, over cells per unit
    cell = 1 / float((sides - float(resolution) ** 3).roots().real.max())
    corner = low - BAND * cell
    counts = torch.ceil((high + BAND * cell - corner) / cell)
    axes = [corner[k] + cell * torch.arange(int(counts[k]) + 1, device=seen.device) for k in range(3)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return points.reshape(-1, 3), corner.cpu().numpy(), tuple(points.shape[:3]), cell
