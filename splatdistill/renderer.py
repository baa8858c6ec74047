"""Splats and cameras in, pictures out: our rasteriser on a CPU, gsplat on CUDA, one contract."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from splatdistill import ops
from splatdistill.splats import SH_C0, Splats
from splatdistill.types import Cameras, RenderOutput


class Renderer(Protocol):
    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor) -> RenderOutput:
        """All views in one call. background: [V,3] in 0..1."""
        ...


class CpuRenderer:
    """The C++ rasteriser of csrc/cpu."""

    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor) -> RenderOutput:
        probe = torch.zeros(len(cameras), len(splats), 2, requires_grad=torch.is_grad_enabled())
        rgb, alpha, depth, means2d, radii = ops.rasterize(
            splats.means,
            quats=splats.quats,
            scales=torch.exp(splats.scales),
            opacities=torch.sigmoid(splats.opacities),
            colors=colors(splats, cameras),
            viewmats=cameras.viewmats,
            Ks=cameras.Ks,
            width=cameras.width,
            height=cameras.height,
            background=background,
            means2d_offset=probe,
        )
        return RenderOutput(rgb, alpha, depth, means2d, radii, probe)


class GsplatRenderer:
    """gsplat's CUDA rasteriser under the same constants (classic mode, eps2d 0.3, unpacked)."""

    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor) -> RenderOutput:
        from gsplat import rasterization  # its first CUDA call may compile, so not at import

        device = splats.device
        rendered, alpha, info = rasterization(
            splats.means,
            splats.quats,
            torch.exp(splats.scales),
            torch.sigmoid(splats.opacities),
            colors(splats, cameras),
            cameras.viewmats.to(device),
            cameras.Ks.to(device),
            cameras.width,
            cameras.height,
            packed=False,
            backgrounds=torch.cat([background, background.new_zeros(len(background), 1)], -1).to(device),
            render_mode="RGB+D",
        )
        means2d = info["means2d"]
        if means2d.requires_grad:
            means2d.retain_grad()
        return RenderOutput(rendered[..., :3], alpha, rendered[..., 3:], means2d, info["radii"], means2d)


def make_renderer(device: torch.device) -> Renderer:
    return GsplatRenderer() if device.type == "cuda" else CpuRenderer()


def colors(splats: Splats, cameras: Cameras) -> Tensor:
    """Linear colour of each splat, >= 0: [N,3] without view dependence, else [V,N,3]."""
    if splats.sh_degree == 0:
        return torch.relu(0.5 + SH_C0 * splats.sh0[:, 0])
    centres = torch.linalg.inv(cameras.viewmats.to(splats.device))[:, None, :3, 3]
    direction = torch.nn.functional.normalize(splats.means.detach() - centres, dim=-1)
    basis = sh_basis(direction, splats.sh_degree)
    return torch.relu(0.5 + torch.einsum("vns,nsc->vnc", basis, torch.cat([splats.sh0, splats.shN], 1)))


def sh_basis(direction: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics of unit directions [...,3] up to `degree` 0..3, [..., (degree+1)^2], signs and order
    of 3DGS.
    """
    x, y, z = direction.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, SH_C0)]
    if degree > 0:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        basis += [1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * zz - xx - yy)]
        basis += [-1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy)]
    if degree > 2:
        basis += [-0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z]
        basis += [-0.4570457994644658 * y * (4 * zz - xx - yy), 0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy)]
        basis += [-0.4570457994644658 * x * (4 * zz - xx - yy), 1.445305721320277 * z * (xx - yy)]
        basis += [-0.5900435899266435 * x * (xx - 3 * yy)]
    return torch.stack(basis, -1)
