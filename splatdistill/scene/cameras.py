"""Cameras around an object or inside a scene: sampling, the turntable, words for the side, and the camera token of
multi-view priors.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.config.schema import CameraConfig
from splatdistill.scene.types import Cameras

# World (+y up, front +z) to the z-up world of MVDream, whose front is on +x: (x, y, z) -> (z, x, y), a rotation.
_TO_Z_UP = torch.tensor([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_CV_TO_GL = torch.diag(torch.tensor([1.0, -1, -1, 1]))


def orbit(*, azimuth: Tensor, elevation: Tensor, radius: Tensor, fovy: Tensor, size: int) -> Cameras:
    """Cameras on a sphere that look at the origin.

    azimuth, elevation, fovy: [V] rad (fovy in (0, pi)); radius: [V] > 0 world units; size: width and height in pixels.
    """
    cos_e, cos_a, sin_a = torch.cos(elevation), torch.cos(azimuth), torch.sin(azimuth)
    back = torch.stack([cos_e * sin_a, torch.sin(elevation), cos_e * cos_a], -1)
    right = torch.stack([cos_a, torch.zeros_like(azimuth), -sin_a], -1)
    down = torch.cross(right, back, dim=-1)  # right x up = back, so right x back = -up
    rotation = torch.stack([right, down, -back], 1)  # rows: camera axes in the world
    viewmats = F.pad(rotation, (0, 1, 0, 1))
    viewmats[:, 2, 3] = radius  # the origin lies straight ahead
    viewmats[:, 3, 3] = 1
    middle = 0.5 * size
    Ks = torch.tensor([[0, 0, middle], [0, 0, middle], [0, 0, 1.0]]).repeat(len(azimuth), 1, 1)
    Ks[:, 0, 0] = Ks[:, 1, 1] = middle / torch.tan(0.5 * fovy)
    return Cameras(viewmats, Ks, size, size, azimuth, elevation, radius)


def outward(*, azimuth: Tensor, elevation: Tensor, position: Tensor, fovy: Tensor, size: int) -> Cameras:
    """Cameras that look away from the middle of a scene: towards `azimuth` and `elevation` [V] rad, from `position`
    [V,3] world units. `radius` is how far they stand from the origin. fovy: [V] rad.
    """
    inward = orbit(
        azimuth=azimuth + math.pi, elevation=-elevation, radius=torch.zeros_like(azimuth), fovy=fovy, size=size
    )
    viewmats = inward.viewmats.clone()
    viewmats[:, :3, 3] = -torch.einsum("vij,vj->vi", viewmats[:, :3, :3], position)
    return replace(inward, viewmats=viewmats, azimuth=azimuth, elevation=elevation, radius=position.norm(dim=-1))  # pyright: ignore[reportUnknownMemberType]


def sample(config: CameraConfig, *, num_views: int, size: int, generator: torch.Generator) -> Cameras:
    """One training step's cameras: groups of `config.views_per_group` evenly spaced azimuths that share elevation,
    fov and radius.

    Elevation is drawn uniformly in degrees half of the time and uniformly on the sphere otherwise (threestudio's rule).
    """
    group = config.views_per_group
    if num_views % group:
        raise ValueError(f"num_views ({num_views}) must be a multiple of camera.views_per_group ({group}).")
    n = num_views // group

    low, high = (math.radians(v) for v in config.elevation_deg)
    ranges = [
        (low, high), (math.sin(low), math.sin(high)), (0, 1), config.fovy_deg, config.fill, (-math.pi, math.pi)
    ]  # fmt: skip
    first, width = (torch.tensor(x)[:, None] for x in zip(*((a, b - a) for a, b in ranges), strict=True))
    drawn = first + width * torch.rand(len(ranges), n, generator=generator)
    flat, sine, kind, fovy_deg, fill, start = drawn.unbind()
    elevation = torch.where(kind < 0.5, flat, torch.asin(sine))
    fovy = torch.deg2rad(fovy_deg)
    # The object keeps its size in the image whatever the field of view: the unit sphere scaled by `fill` touches the
    # frame.
    radius = config.object_radius / (torch.sin(0.5 * fovy) * fill)
    if config.zoom != 1:  # as Magic3D looks closer in its second stage
        fovy = 2 * torch.atan(torch.tan(0.5 * fovy) / config.zoom)
    azimuth = start[:, None] + 2 * math.pi / group * torch.arange(group)
    azimuth = torch.remainder(azimuth + math.pi, 2 * math.pi) - math.pi

    def spread(x: Tensor) -> Tensor:
        return x[:, None].expand(n, group, *x.shape[1:]).flatten(0, 1)

    if config.kind == "outward":
        direction = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=-1)
        position = config.position_jitter * torch.rand(n, 1, generator=generator) ** (1 / 3) * direction
        return outward(
            azimuth=azimuth.flatten(),
            elevation=spread(elevation),
            position=spread(position),
            fovy=spread(fovy),
            size=size,
        )
    return orbit(
        azimuth=azimuth.flatten(), elevation=spread(elevation), radius=spread(radius), fovy=spread(fovy), size=size
    )


def turntable(config: CameraConfig, *, num_frames: int, size: int, elevation_deg: float = 15.0) -> Cameras:
    """`num_frames` cameras once round, the first one in front, at the middle of the trained fov and fill. Inside a
    scene they stand in its middle and look straight ahead.
    """
    azimuth = torch.arange(num_frames) * (2 * math.pi / num_frames)
    azimuth = torch.remainder(azimuth + math.pi, 2 * math.pi) - math.pi
    fovy = math.radians(sum(config.fovy_deg) / 2)
    radius = config.object_radius / (math.sin(0.5 * fovy) * sum(config.fill) / 2)
    full = torch.full((num_frames,), 1.0)
    if config.kind == "outward":
        here = torch.zeros(num_frames, 3)
        return outward(azimuth=azimuth, elevation=0 * full, position=here, fovy=full * fovy, size=size)
    return orbit(
        azimuth=azimuth, elevation=full * math.radians(elevation_deg), radius=full * radius, fovy=full * fovy, size=size
    )


def camera_token(cameras: Cameras) -> Tensor:
    """[V,16] camera condition of MVDream: OpenGL camera-to-world in a z-up world, translation scaled to length 1,
    row-major. Computed once for each `cameras`: not to be changed in place.
    """
    known = vars(cameras)  # the fields of a frozen dataclass, and what follows from them
    if "_token" not in known:
        known["_token"] = _camera_token(cameras)
    return known["_token"]


def _camera_token(cameras: Cameras) -> Tensor:
    c2w = _TO_Z_UP.to(cameras.viewmats) @ torch.inverse(cameras.viewmats) @ _CV_TO_GL.to(cameras.viewmats)
    c2w[:, :3, 3] /= c2w[:, :3, 3].norm(dim=-1, keepdim=True) + 1e-8  # pyright: ignore[reportUnknownMemberType]
    return c2w.flatten(1)


def view_words(cameras: Cameras, *, front_deg: float = 45.0, overhead_deg: float = 60.0) -> list[str]:
    """One of front, side, back, overhead for each view (DreamFusion's rule; front and back within `front_deg` of the
    axis).
    """
    words: list[str] = []
    for azimuth, elevation in zip(cameras.azimuth.cpu(), cameras.elevation.cpu(), strict=True):
        off_front = abs(math.degrees(azimuth))
        if math.degrees(elevation) > overhead_deg:
            words.append("overhead")
        elif off_front < front_deg:
            words.append("front")
        elif off_front > 180.0 - front_deg:
            words.append("back")
        else:
            words.append("side")
    return words
