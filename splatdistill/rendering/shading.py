"""What surrounds the splats: the background behind them and the light on them. V views of H x W pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from splatdistill.config.schema import BackgroundConfig, LightConfig
from splatdistill.scene.types import Cameras, RenderOutput
from splatdistill.utils.device import send

_FLATTEST = 0.2
"""Blended normals shorter than this share of alpha keep their shortness: splats that disagree look dull there, and the
gradient stays bounded."""
_SUN_DISTANCE, _SUN_AMBIENT = 1e3, 0.4


@dataclass(frozen=True)
class Lights:
    """One point light for each view. position: [V,3] world units; ambient: [V] in 0..1, diffuse light is 1 - ambient;
    textureless: [V] bool, white splats.
    """

    position: Tensor
    ambient: Tensor
    textureless: Tensor

    def select(self, index: Tensor | slice) -> Lights:
        """These of the lights; index: [any], places or a mask."""
        return Lights(self.position[index], self.ambient[index], self.textureless[index])


def sample_background(config: BackgroundConfig, *, num_views: int, group: int, generator: torch.Generator) -> Tensor:
    """[num_views,3] in 0..1: one colour for every group of views, so that a multi-view prior sees one scene."""
    n = num_views // group
    kind, flat = torch.split(torch.rand(4 * n, generator=generator), [n, 3 * n])
    kind, flat = kind.view(n, 1), flat.view(n, 3)
    colour = torch.where(kind < config.white + config.gray, flat[:, :1], flat)
    colour = colour.masked_fill(kind < config.white, 1.0)
    return colour[:, None].expand(n, group, 3).flatten(0, 1)


def sample_lights(
    config: LightConfig, cameras: Cameras, *, group: int, progress: float, generator: torch.Generator
) -> Lights | None:
    """The lights of one step (DreamFusion, app. A.2, with threestudio's numbers), None if all views show plain colours.

    Views of a group share the kind of shading and the ambient light; each has a light near its own camera.
    progress: how much of the run is done, 0..1.
    """
    if progress < config.start or config.start == 1:
        return None
    n = len(cameras) // group
    kind, drawn = (torch.rand(n, generator=generator).repeat_interleave(group) for _ in range(2))
    plain = kind < config.albedo
    if plain.all():
        return None
    ambient = (
        config.ambient + (1 - config.ambient) * drawn
        if config.random_ambient
        else torch.full_like(drawn, config.ambient)
    )
    toward = F.normalize(centres(cameras), dim=-1)
    direction = F.normalize(toward + config.spread * torch.randn(toward.shape, generator=generator), dim=-1)
    near, far = config.distance
    return Lights(
        position=direction * (near + (far - near) * torch.rand(len(toward), 1, generator=generator)),
        ambient=torch.where(plain, 1.0, ambient),
        textureless=~plain & (kind < config.albedo + config.textureless),
    )


def sun(*, azimuth: float, elevation: float, num_views: int) -> Lights:
    """The same far light for all views, to look at a result; its direction in rad, as a camera's."""
    towards = [
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
        math.cos(elevation) * math.cos(azimuth),
    ]
    return Lights(
        position=_SUN_DISTANCE * torch.tensor(towards).expand(num_views, 3),
        ambient=torch.full((num_views,), _SUN_AMBIENT),
        textureless=torch.zeros(num_views, dtype=torch.bool),
    )


def shade(output: RenderOutput, cameras: Cameras, lights: Lights, *, background: Tensor) -> Tensor:
    """[V,H,W,3]: colour * (ambient + (1 - ambient) max(0, n.l)) over the background [V,3].

    output: with normals. Gradients reach colours, alpha and normals; where the light falls from is held fixed.
    """
    assert output.normal is not None
    device = output.rgb.device
    position, ambient, white = (send(x, device) for x in (lights.position, lights.ambient, lights.textureless))
    behind = (1 - output.alpha) * send(background, device)[:, None, None]
    colour = torch.where(white[:, None, None, None], output.alpha.expand_as(output.rgb), output.rgb - behind)
    length = output.normal.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
    normal = output.normal / torch.maximum(length, _FLATTEST * output.alpha + 1e-6)
    light = F.normalize(position[:, None, None] - surface(output, cameras), dim=-1)
    facing = (normal * light).sum(-1, keepdim=True).clamp(min=0)
    ambient = ambient[:, None, None, None]
    return colour * (ambient + (1 - ambient) * facing) + behind


@torch.no_grad()
def surface(output: RenderOutput, cameras: Cameras) -> Tensor:
    """[V,H,W,3] the point in the world that each pixel shows, on average over its depth."""
    depth = output.depth / output.alpha.clamp(min=1e-6)
    viewmats = send(cameras.viewmats.to(depth.dtype), depth.device)
    inverse = torch.inverse(cameras.Ks)  # on the CPU: a solver would wait for the device
    inverse = send(inverse.to(depth.dtype), depth.device)
    y, x = torch.meshgrid(
        torch.arange(cameras.height, device=depth.device) + 0.5,
        torch.arange(cameras.width, device=depth.device) + 0.5,
        indexing="ij",
    )
    pixel = torch.stack([x, y, torch.ones_like(x)], -1).to(depth)
    rays = torch.einsum("vij,hwj->vhwi", inverse, pixel)  # of depth 1
    points = rays * depth - viewmats[:, None, None, :3, 3]
    return torch.einsum("vji,vhwj->vhwi", viewmats[:, :3, :3], points)


def centres(cameras: Cameras) -> Tensor:
    """[V,3] where the cameras stand in the world."""
    return -torch.einsum("vji,vj->vi", cameras.viewmats[:, :3, :3], cameras.viewmats[:, :3, 3])
