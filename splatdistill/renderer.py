"""Splats and cameras in, pictures out: our rasteriser on a CPU, gsplat on CUDA, one contract."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from splatdistill import ops
from splatdistill.splats import Splats
from splatdistill.types import Cameras, RenderOutput


class Renderer(Protocol):
    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor, normals: bool = False) -> RenderOutput:
        """All views in one call. background: [V,3] in 0..1. normals: fill `RenderOutput.normal` too."""
        ...


class CpuRenderer:
    """The C++ rasteriser of csrc/cpu."""

    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor, normals: bool = False) -> RenderOutput:
        probe = torch.zeros(len(cameras), len(splats), 2, requires_grad=torch.is_grad_enabled())
        image, alpha, depth, means2d, radii = ops.rasterize(
            splats.means,
            quats=splats.quats,
            scales=torch.exp(splats.scales),
            opacities=torch.sigmoid(splats.opacities),
            colors=with_normals(splats, cameras) if normals else harmonics(splats),
            sh_degree=None if normals else splats.sh_degree,
            viewmats=cameras.viewmats,
            Ks=cameras.Ks,
            width=cameras.width,
            height=cameras.height,
            background=pad(background, 3) if normals else background,
            means2d_offset=probe,
        )
        normal = image[..., 3:] if normals else None
        return RenderOutput(image[..., :3], alpha, depth, means2d, radii, probe, normal)


class GsplatRenderer:
    """gsplat's CUDA rasteriser under the same constants (classic mode, eps2d 0.3, unpacked)."""

    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor, normals: bool = False) -> RenderOutput:
        from gsplat import rasterization  # its first CUDA call may compile, so not at import

        device = splats.device
        rendered, alpha, info = rasterization(
            splats.means,
            splats.quats,
            torch.exp(splats.scales),
            torch.sigmoid(splats.opacities),
            with_normals(splats, cameras) if normals else harmonics(splats),
            cameras.viewmats.to(device),
            cameras.Ks.to(device),
            cameras.width,
            cameras.height,
            sh_degree=None if normals else splats.sh_degree,
            packed=False,
            backgrounds=pad(background, 4 if normals else 1).to(device),
            render_mode="RGB+D",
        )
        means2d = info["means2d"]
        if means2d.requires_grad:
            means2d.retain_grad()
        normal = rendered[..., 3:6] if normals else None
        return RenderOutput(rendered[..., :3], alpha, rendered[..., -1:], means2d, info["radii"], means2d, normal)


def make_renderer(device: torch.device) -> Renderer:
    return GsplatRenderer() if device.type == "cuda" else CpuRenderer()


def harmonics(splats: Splats) -> Tensor:
    """[N,K,3] coefficients of all degrees."""
    return splats.sh0 if splats.sh_degree == 0 else torch.cat([splats.sh0, splats.shN], 1)


def with_normals(splats: Splats, cameras: Cameras) -> Tensor:
    """[V,N,6]: the colour each camera sees, and the shortest axis turned towards it, in the world."""
    rotations = ops.reference.rotation_matrices(splats.quats)
    shortest = splats.scales.argmin(-1)[:, None, None].expand(-1, 3, 1)
    axis = torch.gather(rotations, 2, shortest)[..., 0]
    views = []
    for viewmat in cameras.viewmats.to(splats.device):
        color = ops.reference.harmonic_colors(splats.means, harmonics(splats), viewmat, splats.sh_degree)
        centre = ops.reference.camera_centre(viewmat)
        away = (axis * (centre - splats.means)).sum(-1, keepdim=True) < 0
        views.append(torch.cat([color, torch.where(away, -axis, axis)], -1))
    return torch.stack(views)


def pad(background: Tensor, channels: int) -> Tensor:
    """[V,3] with channels of 0 behind."""
    return torch.cat([background, background.new_zeros(len(background), channels)], -1)
