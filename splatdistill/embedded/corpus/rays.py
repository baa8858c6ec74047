"""What every ray caster of the corpus shares: rays, light, and pixels of the channels of `priors.gbuffer`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splatdistill.scene.types import Cameras

_KEY = np.array([0.35, 0.75, 0.56])
_FILL = np.array([-0.75, 0.2, 0.63])


def shade(normal: NDArray[np.floating]) -> NDArray[np.floating]:
    """Diffuse light in 0..1 for unit normals [...,3] of the world: sky, key and fill lamps that stand still."""
    sky = 0.62 + 0.1 * normal[..., 1]
    key = 0.3 * np.maximum(normal @ (_KEY / np.linalg.norm(_KEY)), 0)
    fill = 0.08 * np.maximum(normal @ (_FILL / np.linalg.norm(_FILL)), 0)
    return np.minimum(sky + key + fill, 1.0)


def camera_rays(cameras: Cameras, view: int, rays: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The origin [3] and unit directions [(H rays)(W rays),3] through a regular grid inside each pixel."""
    size = cameras.height
    K = cameras.Ks[view].double().numpy()
    world_to_camera = cameras.viewmats[view].double().numpy()
    grid = (np.arange(size * rays) + 0.5) / rays
    v, u = np.meshgrid(grid, grid, indexing="ij")
    local = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1).reshape(-1, 3)
    directions = local @ world_to_camera[:3, :3]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origin = -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
    assert np.isfinite(origin).all()
    return origin, directions


def pixels(values: NDArray[np.floating], hit: NDArray[np.bool_], *, size: int, rays: int) -> NDArray[np.uint8]:
    """Rays to pixels [size,size,8]: values [R,7] (albedo, shading, paints) are averaged over the rays that hit [R],
    0 where none does; alpha is the share that hits.
    """
    weight = hit.reshape(size, rays, size, rays).sum((1, 3)).astype(np.float32)
    total = (values * hit[:, None]).reshape(size, rays, size, rays, 7).sum((1, 3))
    mean = total / np.maximum(weight, 1)[..., None]
    alpha = weight[..., None] / rays**2
    stacked = np.concatenate([mean[..., :5], alpha, mean[..., 5:]], -1)
    return (stacked.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def enclosing_ball(points: NDArray[np.floating]) -> tuple[NDArray[np.floating], float]:
    """Centre [3] and radius of a ball that nearly is the smallest (Ritter's) round points [N,3]."""
    a = points[np.argmax(np.linalg.norm(points - points[0], axis=1))]
    b = points[np.argmax(np.linalg.norm(points - a, axis=1))]
    centre, radius = (a + b) / 2, np.linalg.norm(a - b) / 2
    for _ in range(100):
        distance = np.linalg.norm(points - centre, axis=1)
        far = int(np.argmax(distance))
        if distance[far] <= radius * (1 + 1e-6):
            break
        grown = (radius + distance[far]) / 2
        centre = centre + (points[far] - centre) * (1 - grown / distance[far])
        radius = grown
    return centre, float(radius)
