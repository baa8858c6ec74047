"""What a camera sees of a small mesh: G-buffers by a z-buffer, in plain tensors, on a CPU and on CUDA alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.priors.gbuffer import ALPHA, CHANNELS
from splatdistill.scene.types import Cameras

SAMPLES = 2
"""Samples a side in each pixel, as the corpus has rays."""
_NEAR = 1e-2  # world units; a triangle that reaches closer to the camera is not drawn
_THIN = 1e-6  # of twice a triangle's area in samples: below it lies no sample
_EDGE = 1e-4  # samples, by which edges reach out, so that no point between two triangles is left out


@dataclass(frozen=True)
class FlatMesh:
    """Triangles of one colour each, in the unit ball. vertices: [N,3]; faces: [F,3] int64; values: [F,8] as
    `gbuffer.CHANNELS` says, in 0..1.
    """

    vertices: Tensor
    faces: Tensor
    values: Tensor

    def to(self, device: torch.device) -> FlatMesh:
        return FlatMesh(self.vertices.to(device), self.faces.to(device), self.values.to(device))


@dataclass(frozen=True)
class MeshSet:
    """Several meshes that are drawn together, each into pictures of its own. whole: the triangles of all; owner: [F]
    int64, the mesh that each is of; number: of meshes.
    """

    whole: FlatMesh
    owner: Tensor
    number: int

    @classmethod
    def of(cls, meshes: Sequence[FlatMesh]) -> MeshSet:
        faces, owner, vertices = [], [], 0
        for number, mesh in enumerate(meshes):
            faces.append(mesh.faces + vertices)
            owner.append(torch.full_like(mesh.faces[:, 0], number))
            vertices += len(mesh.vertices)
        parts = [torch.cat([getattr(mesh, part) for mesh in meshes]) for part in ("vertices", "values")]
        return cls(FlatMesh(parts[0], torch.cat(faces), parts[1]), torch.cat(owner), len(meshes))

    def to(self, device: torch.device) -> MeshSet:
        return MeshSet(self.whole.to(device), self.owner.to(device), self.number)


def draw(mesh: FlatMesh, cameras: Cameras, *, size: int, samples: int = SAMPLES) -> Tensor:
    """[V,size,size,8] of one mesh, as `draw_all` has it."""
    return draw_all(MeshSet.of([mesh]), cameras, size=size, samples=samples)[0]


@torch.no_grad()
def draw_all(meshes: MeshSet, cameras: Cameras, *, size: int, samples: int = SAMPLES) -> Tensor:
    """G-buffers [K,V,size,size,8] of K meshes in as many operations as of one: the nearest triangle of each mesh at
    samples x samples points of each pixel, from either side.

    Alpha is the share of a pixel's points that meet one; every other value is a mean over those.
    """
    mesh, side, pictures = meshes.whole, size * samples, meshes.number * len(cameras)
    winner = torch.full((pictures * side * side,), -1, dtype=torch.long, device=mesh.faces.device)
    corners, nearness = _project(mesh, cameras, side=side)
    views = torch.arange(len(cameras), device=mesh.faces.device)
    place, key = _cover(corners, nearness, picture=meshes.owner * len(cameras) + views[:, None], side=side)
    winner.scatter_reduce_(0, place, key, "amax")
    hit = winner >= 0
    # The key's lower half is the triangle; the last row of the table is for points that meet none.
    face = torch.where(hit, winner & 0xFFFFFFFF, len(mesh.faces))
    values = torch.cat([mesh.values, mesh.values.new_zeros(1, CHANNELS)]).index_select(0, face)
    summed = F.avg_pool2d(values.view(pictures, side, side, CHANNELS).permute(0, 3, 1, 2), samples)
    alpha = F.avg_pool2d(hit.to(values.dtype).view(pictures, 1, side, side), samples)
    out = summed / alpha.clamp(min=0.5 / samples**2)
    out[:, ALPHA] = alpha[:, 0]
    return out.permute(0, 2, 3, 1).unflatten(0, (meshes.number, len(cameras)))


def _project(mesh: FlatMesh, cameras: Cameras, *, side: int) -> tuple[Tensor, Tensor]:
    """Corners [V,F,3,2] of the triangles in samples, and their inverse depths [V,F,3], 0 of those not to be drawn."""
    view, K = cameras.viewmats.to(mesh.vertices), cameras.Ks.to(mesh.vertices)
    local = mesh.vertices @ view[:, :3, :3].transpose(1, 2) + view[:, None, :3, 3]
    inverse = 1 / local[..., 2].clamp(min=_NEAR)
    flat = local[..., :2] * inverse[..., None]
    focal, middle = K[:, [0, 1], [0, 1]], K[:, :2, 2]
    scale = torch.tensor([side / cameras.width, side / cameras.height], device=K.device)
    pixels = (flat * focal[:, None] + middle[:, None]) * scale
    drawn = (local[..., 2] > _NEAR)[:, mesh.faces].all(-1)
    return pixels[:, mesh.faces], inverse[:, mesh.faces] * drawn[..., None]


def _cover(corners: Tensor, nearness: Tensor, *, picture: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The sample points that triangles cover: their places [P] in [pictures,side,side], and keys [P] that are larger
    the nearer the triangle is, with its number in the lower half. Row by row of each triangle, from edge to edge.
    picture: [V,F] int64, in which a triangle is drawn.
    """
    faces = corners.shape[1]
    low = (corners[..., 1].amin(2) - 0.5).ceil().clamp(0, side)
    high = (corners[..., 1].amax(2) - 0.5).floor().clamp(-1, side - 1)
    origin, u, v = corners[:, :, 0], corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    double = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    drawn = (double.abs() > _THIN) & (nearness[..., 0] > 0)
    # Barycentric coordinates and inverse depth are linear in the picture: a x + b y + c, from the first corner.
    by = 1 / torch.where(drawn, double, 1)
    second = torch.stack([v[..., 1], -v[..., 0]], -1) * by[..., None]
    third = torch.stack([-u[..., 1], u[..., 0]], -1) * by[..., None]
    rise = nearness[..., 1:] - nearness[..., :1]
    slope = rise[..., :1] * second + rise[..., 1:] * third
    table = torch.cat([second, third, slope, nearness[..., :1], origin, low[..., None]], -1).flatten(0, 1)  # [V F,10]
    count = ((high - low + 1).clamp(min=0) * drawn).flatten().long()
    which = torch.repeat_interleave(count)
    a2, b2, a3, b3, a_depth, b_depth, depth, x0, y0, first = table.index_select(0, which).unbind(1)
    row = torch.arange(len(which), device=count.device) - (count.cumsum(0) - count)[which] + first
    y = row + 0.5 - y0
    left, right = torch.zeros_like(y), torch.full_like(y, side - 1)
    for a, c in ((a2, b2 * y), (a3, b3 * y), (-a2 - a3, 1 - (b2 + b3) * y)):
        at = x0 - 0.5 - c / torch.where(a == 0, 1, a)  # where the coordinate is 0
        left = torch.where(a > 0, torch.maximum(left, (at - _EDGE).ceil()), left)
        right = torch.where(a < 0, torch.minimum(right, (at + _EDGE).floor()), right)
        right = torch.where((a == 0) & (c < 0), -1, right)
    length = (right - left + 1).clamp(min=0).long()
    # Now one entry for each point.
    start = (picture.flatten()[which] * side + row.long()) * side + left.long()
    near = depth + a_depth * (left + 0.5 - x0) + b_depth * y
    run = torch.repeat_interleave(length)
    point = torch.arange(len(run), device=count.device)
    step = point - (length.cumsum(0) - length).index_select(0, run)
    nearer = near.index_select(0, run) + a_depth.index_select(0, run) * step
    key = (nearer.clamp(min=0).view(torch.int32).long() << 32) | (which % faces).index_select(0, run)
    return start.index_select(0, run) + step, key
