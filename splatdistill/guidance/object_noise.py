"""Noise that lies on the object, so that views which see the same place get the same noise: standard normal, [V,C,h,w].

`on_camera_sphere` moves with the camera (FSD, arXiv 2405.10988); `on_surface` sticks to what is seen (CFD, arXiv
2501.05445), as the integral noise of How I Warped Your Noise (ICLR 2024) does. Both follow from (seed, step) alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.guidance.base import draw_noise
from splatdistill.scene.types import Cameras, SurfaceViews
from splatdistill.utils import rng
from splatdistill.utils.device import send

SAMPLES = 3
"""Places along each side of a pixel whose noise it adds up: views that see most of the same places nearly agree."""
_ODD = (0x1B873593CC9E2D51, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)


def on_camera_sphere(cameras: Cameras, shape: Sequence[int], *, seed: int, step: int, fresh: float) -> Tensor:
    """A window [C,h,w] for each camera into one picture of noise around the object: it moves by half a window for each
    radian of azimuth or elevation, as the near side of a turning object does. shape: (V, C, h, w). fresh: share of the
    variance that is drawn anew in each step, 0..1. On the CPU.
    """
    views, channels, height, width = shape
    around, tall = round(math.pi * width), height + round(0.5 * math.pi * height)
    whole = draw_noise((channels, tall, around), seed=seed, step=0)
    rows = torch.arange(height) + (height * 0.5 * (math.pi / 2 - cameras.elevation.cpu())).round().long()[:, None]
    columns = torch.arange(width) + (width * 0.5 * cameras.azimuth.cpu()).round().long()[:, None]
    rows = rows.clamp(max=tall - 1)  # straight from below
    fixed = torch.stack([whole[:, rows[v]][:, :, columns[v] % around] for v in range(views)])
    if not fresh:
        return fixed
    return math.sqrt(1 - fresh) * fixed + math.sqrt(fresh) * draw_noise(shape, seed=seed, step=step)


def on_surface(
    cameras: Cameras,
    shape: Sequence[int],
    *,
    surface: SurfaceViews | None,
    cell: float,
    seed: int,
    step: int,
    renewal: float,
    device: torch.device,
) -> Tensor:
    """[V,C,h,w]: the noise of the places that each pixel shows, as the places of a lattice have it. Where no object is
    seen, they lie on the plane through the origin that faces the camera. shape: (V, C, h, w). cell: side of a pixel
    at the origin, world units. renewal: chance of a place to get new noise in a step, 0..1.
    """
    _, channels, height, width = shape
    points = _seen(cameras.to(device), surface, height=height * SAMPLES, width=width * SAMPLES)
    places = (points * (SAMPLES / cell)).floor().to(torch.int64)
    first = rng.key(seed, 0, "noise")
    place = _mixed(places, first)  # [V,3h,3w]
    age = _unit(_mixed(place[..., None], first + 1)).double() + renewal * step
    place = _mixed(torch.stack([place, age.floor().to(torch.int64)], -1), first + 2)
    pixels = _blocks(place)  # [V,h,w,S]
    same = (pixels[..., :, None] == pixels[..., None, :]).sum((-2, -1))
    found = [_normal(_mixed(pixels[..., None], first + 3 + channel)).sum(-1) for channel in range(channels)]
    return torch.stack(found, 1) / same[:, None].sqrt()


def _seen(cameras: Cameras, surface: SurfaceViews | None, *, height: int, width: int) -> Tensor:
    """[V,height,width,3] the places that the middles of so many pixels show, world units."""
    depth = send(cameras.radius.float(), cameras.viewmats.device).view(-1, 1, 1).expand(-1, height, width)
    if surface is not None:
        alpha, along = (
            F.interpolate(x.detach().permute(0, 3, 1, 2).float(), (height, width), mode="bilinear")[:, 0]
            for x in (surface.alpha, surface.depth)
        )
        depth = torch.where(alpha > 0.5, along / alpha.clamp(min=0.5), depth)
    y, x = (
        (torch.arange(n, device=depth.device) + 0.5) * (side / n)
        for n, side in ((height, cameras.height), (width, cameras.width))
    )
    K = cameras.Ks.float()
    across = (x[None, None, :] - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]
    down = (y[None, :, None] - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]
    rays = torch.stack([across.expand_as(depth), down.expand_as(depth), torch.ones_like(depth)], -1)
    rotation, offset = cameras.viewmats[:, :3, :3].float(), cameras.viewmats[:, :3, 3].float()
    return torch.einsum("vhwi,vij->vhwj", rays * depth[..., None] - offset[:, None, None], rotation)


def _blocks(x: Tensor) -> Tensor:
    """[V,h,w,S] the samples of each pixel, of x [V,h*SAMPLES,w*SAMPLES]."""
    views, height, width = x.shape
    tiles = x.view(views, height // SAMPLES, SAMPLES, width // SAMPLES, SAMPLES)
    return tiles.permute(0, 1, 3, 2, 4).flatten(3)


def _mixed(numbers: Tensor, key: int) -> Tensor:
    """int64 [...] hash of numbers [...,K]: each is mixed in as splitmix64 does (Steele, Lea and Flood 2014)."""
    found = torch.full(numbers.shape[:-1], _signed(key), dtype=torch.int64, device=numbers.device)
    for place in range(numbers.shape[-1]):
        found = found + numbers[..., place] * _ODD[place]
        for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
            found = (found ^ _shifted(found, shift)) * factor
        found = found ^ _shifted(found, 31)
    return found


def _signed(key: int) -> int:
    """The same 64 bits as a signed number."""
    return (key + 2**63) % 2**64 - 2**63


def _shifted(x: Tensor, by: int) -> Tensor:
    """int64 x moved down by bits, zeros from above: torch alone would repeat the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _unit(bits: Tensor) -> Tensor:
    """float32 in 0..1, neither 0 nor 1, from int64 hashes."""
    return ((bits & 0x7FFFFF).float() + 0.5) / 0x800000


def _normal(bits: Tensor) -> Tensor:
    """Standard normal float32 from int64 hashes: Box and Muller's pair of two parts of each."""
    radius = (-2 * _unit(bits).log()).sqrt()
    return radius * torch.cos(2 * math.pi * _unit(bits >> 23))
