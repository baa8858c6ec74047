"""Scenes for the rasteriser's tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

Scene = dict[str, Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def look_at_origin(azimuth: float, elevation: float, radius: float) -> Tensor:
    """[4,4] world to camera, OpenCV axes."""
    position = radius * torch.tensor(
        [math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth)]
    )
    forward = -position / position.norm()
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat = torch.eye(4)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ position
    return viewmat


def build_scene(
    num_splats: int,
    *,
    num_views: int = 2,
    width: int = 32,
    height: int = 32,
    scale: float = 0.06,
    opacity: tuple[float, float] = (0.05, 0.95),
    radius: float = 2.5,
    per_view_colors: bool = False,
    channels: int = 3,
    sh_degree: int | None = None,
    seed: int = 0,
) -> Scene:
    """Keyword arguments of `rasterize`: a ball of splats of radius 0.5, seen from around it."""
    g = torch.Generator().manual_seed(seed)
    direction = torch.randn(num_splats, 3, generator=g)
    means = direction / direction.norm(dim=1, keepdim=True) * torch.rand(num_splats, 1, generator=g) ** (1 / 3) * 0.5
    color_shape = (num_views, num_splats, channels) if per_view_colors else (num_splats, channels)
    focal = 0.5 * width / math.tan(math.radians(22.5))
    K = torch.tensor([[focal, 0.0, width / 2], [0.0, 1.1 * focal, height / 2 - 0.7], [0.0, 0.0, 1.0]])
    low, high = opacity
    scene = {
        "means": means,
        "quats": 1.5 * torch.randn(num_splats, 4, generator=g),
        "scales": scale * torch.exp(0.5 * torch.randn(num_splats, 3, generator=g)),
        "opacities": low + (high - low) * torch.rand(num_splats, generator=g),
        "colors": torch.rand(color_shape, generator=g),
        "viewmats": torch.stack([look_at_origin(2.1 * v + 0.3, 0.26, radius) for v in range(num_views)]),
        "Ks": K.repeat(num_views, 1, 1),
        "width": width,
        "height": height,
        "background": torch.rand(num_views, channels, generator=g),
        "means2d_offset": torch.zeros(num_views, num_splats, 2),
    }
    if sh_degree is not None:
        scene["sh_degree"] = sh_degree
        scene["colors"] = torch.randn(num_splats, 16, 3, generator=g) * 0.4  # some are cut at 0
    return scene


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    return build_scene
