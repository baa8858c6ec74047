"""Three planes of features that stand for one known object (EG3D, Chan 2022), and what a camera sees of them: a
G-buffer, whose colours can still change.

All objects share the decoder and the mean planes; each has planes of its own, which are zero where it is like the mean.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splatdistill.priors.gbuffer import ALPHA, CHANNELS
from splatdistill.scene.types import Cameras

_DENSITY_GAIN = 10.0  # an opaque wall between two of 16 samples then needs an output near 4, not 40
_EMPTY = 1e-3  # alpha below which nothing is seen
_SEEN = 0.02  # alpha from which a coarse ray has met something


class TriPlanes(nn.Module):
    """channels, side: of a plane; hidden: of the decoder. depth, below: samples on a ray's chord of the unit ball."""

    def __init__(self, *, channels: int = 8, side: int = 24, hidden: int = 32) -> None:
        super().__init__()
        self.shape = (3, channels, side, side)
        self.mean = nn.Parameter(torch.zeros(self.shape))
        self.decoder = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, CHANNELS))
        nn.init.normal_(self.decoder[0].weight, std=2 * channels**-0.5)  # type: ignore[arg-type]

    def render(
        self, planes: Tensor, origins: Tensor, directions: Tensor, *, depth: int = 16, shift: Tensor | None = None
    ) -> Tensor:
        """G-buffers [B,R,8] of B objects with planes [B,3,C,S,S], seen along R rays each.

        origins, directions: [B,R,3], directions of length 1. shift: [B,R,1] in 0..1, where in its section of the chord
        each sample lies; the middle by default.
        """
        rows, rays = directions.shape[:2]
        near, length = chord(origins, directions)
        at = torch.arange(depth, device=planes.device) + (0.5 if shift is None else shift)  # [B,R,depth] or [depth]
        reach = near[..., None] + length[..., None] * at / depth
        points = origins[:, :, None] + reach[..., None] * directions[:, :, None]
        out = self.decoder(self.features(planes, points.reshape(rows, -1, 3))).view(rows, rays, depth, CHANNELS)
        density = F.softplus(out[..., ALPHA]) * _DENSITY_GAIN * (length / depth)[..., None]
        passed = density.cumsum(-1)
        weight = torch.exp(density - passed) - torch.exp(-passed)
        alpha = weight.sum(-1, keepdim=True)
        seen = (weight[..., None] * torch.sigmoid(out)).sum(2) / alpha.clamp(min=_EMPTY)
        return torch.cat([seen[..., :ALPHA], alpha, seen[..., ALPHA + 1 :]], -1)

    def features(self, planes: Tensor, points: Tensor) -> Tensor:
        """[B,P,C] at points [B,P,3] of the unit ball: the sum over the planes xy, yz and zx; planes: [B,3,C,P,P]."""
        rows, (_, channels, side, _) = len(planes), self.shape
        pairs = torch.stack([points[..., :2], points[..., 1:], points.roll(1, -1)[..., :2]], 1)
        both = (planes + self.mean).view(3 * rows, channels, side, side)
        found = F.grid_sample(both, pairs.view(3 * rows, 1, -1, 2), align_corners=False)
        return found.view(rows, 3, channels, -1).sum(1).transpose(1, 2)

    def picture(self, planes: Tensor, cameras: Cameras, *, size: int, depth: int = 16, skip: int = 4) -> Tensor:
        """G-buffers [V,size,size,8] of one object with planes [3,C,S,S], one ray through the middle of each pixel.

        Rays are cast only where every `skip`-th of them, or a neighbour of it, met something; 1
        casts all.
        """
        origins, directions = pixel_rays(cameras, size=size)
        views = len(origins)
        if skip > 1:
            _, few = pixel_rays(cameras, size=size // skip)
            first = self._cast(planes, origins[:, None, None].expand_as(few), few, depth=depth)[..., ALPHA]
            near = F.max_pool2d(first.view(views, 1, size // skip, -1), 3, 1, 1) > _SEEN
            rows = near.repeat_interleave(skip, 2).repeat_interleave(skip, 3).flatten().nonzero()[:, 0]
        else:
            rows = torch.arange(views * size * size, device=planes.device)
        of_view = rows // size**2
        seen = self._cast(planes, origins[of_view], directions.view(-1, 3)[rows], depth=depth)
        out = seen.new_zeros(views * size**2, CHANNELS).index_copy(0, rows, seen)
        return out.view(views, size, size, CHANNELS)

    def _cast(self, planes: Tensor, origins: Tensor, directions: Tensor, *, depth: int) -> Tensor:
        """As `render` for one object and rays of any shape, flat in the answer."""
        return self.render(planes[None], origins.reshape(1, -1, 3), directions.reshape(1, -1, 3), depth=depth)[0]


def chord(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays from origins [...,3] along directions [...,3] enter the unit ball, as a distance, and how long they
    stay in it; 0 where they miss it.
    """
    middle = -(origins * directions).sum(-1)
    half = (middle.square() - origins.square().sum(-1) + 1).clamp(min=0).sqrt()
    return middle - half, 2 * half


def pixel_rays(cameras: Cameras, *, size: int) -> tuple[Tensor, Tensor]:
    """Origins [V,3] and unit directions [V,size,size,3] through the middles of size x size pixels over each picture."""
    grid = (torch.arange(size, device=cameras.Ks.device) + 0.5) / size
    v, u = torch.meshgrid(grid * cameras.height, grid * cameras.width, indexing="ij")
    K, view = cameras.Ks, cameras.viewmats
    x = (u - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]
    y = (v - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]
    local = F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1)
    directions = torch.einsum("vhwi,vij->vhwj", local, view[:, :3, :3])
    origins = -torch.einsum("vij,vi->vj", view[:, :3, :3], view[:, :3, 3])
    return origins, directions
