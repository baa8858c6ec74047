"""A coloured triangle mesh of an object, by fusing depth pictures from all around it into a signed distance (Curless
and Levoy 1996) and taking its zero surface. Legend: V views, G grid points a side, M vertices, T triangles, H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from splatdistill.io.files import replacing
from splatdistill.rendering.renderer import Renderer
from splatdistill.scene.cameras import orbit
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras

NUM_VIEWS = 60
SOLID = 0.5  # alpha above which a pixel has a surface
FOVY = math.radians(40)


@dataclass(frozen=True)
class Mesh:
    """vertices: [M,3] world units; faces: [T,3] indices, counter-clockwise from outside; colours: [M,3] in 0..1."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def fuse(splats: Splats, renderer: Renderer, *, radius: float = 1.0, resolution: int = 128) -> Mesh:
    """The surface inside the sphere of `radius` world units. ValueError when nothing in there is solid."""
    try:
        from skimage import measure
    except ImportError as error:
        raise ValueError("format: a mesh needs two more packages; install splatdistill[mesh].") from error
    half = 1.05 * radius
    axis = torch.linspace(-half, half, resolution, device=splats.device)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance, colour = _integrate(
        points, splats, renderer, _around(half, size=2 * resolution), band=4 * half / resolution
    )
    field = distance.reshape(3 * (resolution,)).cpu().numpy()
    if not (field.min() < 0 < field.max()):
        raise ValueError("the splats hold no solid surface, so there is no mesh of them.")
    field = np.pad(field, 1, constant_values=1.0)  # closed at the border of the box
    corners, faces, _, _ = cast(
        "tuple[Any, Any, Any, Any]",
        measure.marching_cubes(field, 0.0, gradient_direction="descent"),  # pyright: ignore[reportUnknownMemberType]
    )
    nearest = np.rint(corners - 1).clip(0, resolution - 1).astype(int) @ [resolution**2, resolution, 1]
    vertices = (corners - 1) * (2 * half / (resolution - 1)) - half
    return Mesh(vertices.astype(np.float32), faces, colour.cpu().numpy()[nearest])


def write(path: Path, mesh: Mesh) -> None:
    """Writes a .glb with a colour for each vertex, whole or not at all."""
    import trimesh

    shape = trimesh.Trimesh(
        mesh.vertices, mesh.faces, vertex_colors=np.rint(mesh.colours * 255).astype("u1"), process=False
    )
    with replacing(path) as temporary:
        shape.export(temporary, file_type="glb")  # pyright: ignore[reportUnknownMemberType]


def _around(radius: float, *, size: int) -> Cameras:
    """NUM_VIEWS cameras spread evenly over the sphere, on a spiral of the golden angle."""
    k = torch.arange(NUM_VIEWS)
    full = torch.ones(NUM_VIEWS)
    return orbit(
        azimuth=torch.remainder(k * math.pi * (3 - 5**0.5), 2 * math.pi) - math.pi,
        elevation=torch.asin((2 * k + 1) / NUM_VIEWS - 1),
        radius=full * radius * 3**0.5 / math.sin(FOVY / 2),
        fovy=full * FOVY,
        size=size,
    )


@torch.no_grad()
def _integrate(
    points: Tensor, splats: Splats, renderer: Renderer, views: Cameras, *, band: float
) -> tuple[Tensor, Tensor]:
    """Signed distance [G^3] in bands, clipped to -1..1 and below 0 inside, and colour [G^3,3]. What no view sees is
    inside.
    """
    total, seen = torch.zeros(len(points), device=points.device), torch.zeros(len(points), device=points.device)
    paint, painted = torch.zeros_like(points), torch.full_like(seen, 1e-6)
    for i in range(len(views)):
        view = views.select(slice(i, i + 1))
        drawn = renderer.render(splats, view, background=torch.zeros(1, 3))
        alpha = drawn.alpha[0, ..., 0]
        surface = torch.where(alpha > SOLID, drawn.depth[0, ..., 0] / alpha.clamp(min=SOLID), torch.inf)
        camera, K = view.viewmats[0].to(points.device), view.Ks[0].to(points.device)
        at = points @ camera[:3, :3].T + camera[:3, 3]
        pixel = (at @ K.T)[:, :2] / at[:, 2:]
        x, y = (pixel.floor().long().clamp(0, views.width - 1)).unbind(-1)
        signed = (surface[y, x] - at[:, 2]) / band
        front = signed > -1
        total += torch.where(front, signed.clamp(max=1), 0)
        seen += front
        near = signed.abs() < 1
        colour = drawn.rgb[0] / alpha[..., None].clamp(min=SOLID)
        paint += torch.where(near[:, None], colour[y, x], 0)
        painted += near
    return torch.where(seen > 0, total / seen.clamp(min=1), -1), (paint / painted[:, None]).clamp(0, 1)
