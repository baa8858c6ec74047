"""Splats and cameras in, pictures out: our rasteriser on a CPU, gsplat on CUDA, one contract."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from splatdistill import ops
from splatdistill.config.schema import RendererName
from splatdistill.ops.geometry import SH_C0, camera_centre, rotation_matrices, sh_basis
from splatdistill.scene.gaussians import Splats
from splatdistill.scene.types import Cameras, RenderOutput
from splatdistill.utils.device import send
from splatdistill.utils.system import lock_file

NEAR, FAR, EPS2D = 0.01, 1e10, 0.3  # of both renderers: world units, and px^2 added to the projected variances


Rasterization = Callable[..., tuple[Tensor, Tensor, dict[str, Tensor]]]
"""What gsplat draws with: images [V,H,W,D], alpha [V,H,W,1] and what it knows of the splats."""


class Renderer(Protocol):
    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor, normals: bool = False) -> RenderOutput:
        """All views in one call. background: [V,3] in 0..1. normals: fill `RenderOutput.normal` too."""
        ...


class CpuRenderer:
    """The C++ rasteriser of csrc/cpu. Splats of another device are drawn here all the same, and sent back."""

    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor, normals: bool = False) -> RenderOutput:
        device = splats.device
        here = Splats(**{name: value.cpu() for name, value in splats.tensors.items()})
        probe = torch.zeros(len(cameras), len(splats), 2, device=device, requires_grad=torch.is_grad_enabled())
        background = background.cpu()
        inputs = ops.RasterInputs(
            means=here.means,
            quats=here.quats,
            scales=torch.exp(here.scales),
            opacities=torch.sigmoid(here.opacities),
            colors=with_normals(here, cameras) if normals else harmonics(here),
            viewmats=cameras.viewmats,
            Ks=cameras.Ks,
            background=pad(background, 3) if normals else background,
            means2d_offset=probe.cpu(),
        )
        degree = None if normals else splats.sh_degree
        drawn = ops.rasterize(
            inputs, ops.RasterSettings(cameras.width, cameras.height, degree, near=NEAR, far=FAR, eps2d=EPS2D)
        )
        image, alpha, depth, means2d, radii = (x.to(device) for x in drawn)
        normal = image[..., 3:] if normals else None
        return RenderOutput(image[..., :3], alpha, depth, means2d, radii, probe, normal)


class GsplatRenderer:
    """gsplat's CUDA rasteriser under the same rules. gsplat itself waits for the device: it asks how long its tile
    lists are, and it checks the inverse of the cameras where colours depend on the view, before anything else.
    """

    def render(self, splats: Splats, cameras: Cameras, *, background: Tensor, normals: bool = False) -> RenderOutput:
        import gsplat  # pyright: ignore[reportMissingTypeStubs]

        rasterization = cast(Rasterization, gsplat.rasterization)  # pyright: ignore[reportUnknownMemberType]
        device = splats.device
        background = send(background, device)
        if normals:
            colors = with_normals(splats, cameras)
        elif splats.sh_degree:
            colors = harmonics(splats)
        else:  # no harmonics for gsplat to evaluate
            colors = torch.relu(0.5 + SH_C0 * splats.sh0[:, 0])
        image, alpha, info = rasterization(
            splats.means,
            splats.quats,
            torch.exp(splats.scales),
            torch.sigmoid(splats.opacities),
            colors,
            send(cameras.viewmats, device),
            send(cameras.Ks, device),
            cameras.width,
            cameras.height,
            near_plane=NEAR,
            far_plane=FAR,
            radius_clip=0.0,
            eps2d=EPS2D,
            sh_degree=None if normals else splats.sh_degree or None,
            packed=False,
            backgrounds=pad(background, 3) if normals else background,  # gsplat adds the one of depth itself
            render_mode="RGB+D",
            rasterize_mode="classic",
        )
        means2d = info["means2d"]
        if means2d.requires_grad:
            means2d.retain_grad()
        normal = image[..., 3:6] if normals else None
        return RenderOutput(image[..., :3], alpha, image[..., -1:], means2d, info["radii"], means2d, normal)


def make_renderer(device: torch.device, name: RendererName = "auto") -> Renderer:
    """The renderer of that name; auto is gsplat on CUDA and ours elsewhere. ValueError when it cannot draw here."""
    if name == "cpu" or (name == "auto" and device.type != "cuda"):
        return CpuRenderer()
    # Never asked by calling it: without a CUDA device gsplat's own errors speak of something else.
    if device.type != "cuda":
        raise ValueError("renderer: gsplat draws on CUDA devices only, and this is a CPU; use --renderer cpu.")
    if find_spec("gsplat") is None:
        raise ValueError(
            "renderer: gsplat is not installed; install splatdistill[gsplat], or take the slower --renderer cpu."
        )
    load_gsplat()
    return GsplatRenderer()


@functools.cache
def load_gsplat() -> None:
    """Loads gsplat's CUDA kernels, which compile at their first use on a machine; a note on stderr says so.

    One process at a time: gsplat removes what another one has built so far. ValueError, one sentence, when it cannot.
    """
    from torch.utils.cpp_extension import (
        _get_build_directory,  # pyright: ignore[reportPrivateUsage]  (gsplat asks it too)
    )

    try:
        folder = Path(_get_build_directory("gsplat_cuda", verbose=False))
        with (folder.parent / "gsplat_cuda.splatdistill_lock").open("wb") as lock, redirect_stdout(StringIO()):
            lock_file(lock, wait=True)
            if find_spec("gsplat.csrc") is None and not (folder / "gsplat_cuda.so").is_file():
                print(
                    "Note: gsplat compiles its CUDA kernels now, once on this machine: about ten minutes of processor "
                    "time, shared by all cores.",
                    file=sys.stderr,
                )
            from gsplat.cuda._backend import _C  # pyright: ignore
    except (ImportError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.filename:
            raise ValueError(
                f"renderer: gsplat's CUDA kernels cannot be kept in {error.filename} ({error.strerror}); name another "
                "folder in TORCH_EXTENSIONS_DIR, or take --renderer cpu."
            ) from error
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"renderer: gsplat's CUDA kernels do not load ({reason}); "
            "`python -c 'import gsplat.cuda._backend'` shows more, and --renderer cpu does without."
        ) from error
    if _C is None:
        raise ValueError(
            "renderer: gsplat came without compiled CUDA kernels and finds no nvcc to compile them; install the CUDA "
            f"toolkit {torch.version.cuda}, or take the slower --renderer cpu."
        )


def compiled_kernels() -> list[Path]:
    """The folders of torch's that hold compiled kernels of gsplat, one for each Python and CUDA."""
    from torch.utils.cpp_extension import get_default_build_root

    if named := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return sorted(Path(named).glob("gsplat_cuda"))
    return sorted(Path(get_default_build_root()).glob("*/gsplat_cuda"))


def harmonics(splats: Splats) -> Tensor:
    """[N,K,3] coefficients of all degrees."""
    return splats.sh0 if splats.sh_degree == 0 else torch.cat([splats.sh0, splats.shN], 1)


def with_normals(splats: Splats, cameras: Cameras) -> Tensor:
    """[V,N,6]: the colour each camera sees, and the shortest axis turned towards it, in the world."""
    rotations = rotation_matrices(splats.quats)
    shortest = splats.scales.argmin(-1)[:, None, None].expand(-1, 3, 1)
    axis = torch.gather(rotations, 2, shortest)[..., 0]
    # Solved on the CPU, where the cameras are: a solver checks its result, and would wait for the device.
    centres = torch.stack([camera_centre(viewmat) for viewmat in cameras.viewmats])
    outwards = splats.means - send(centres, splats.device)[:, None]
    basis = sh_basis(torch.nn.functional.normalize(outwards, dim=-1, eps=0), splats.sh_degree)
    color = torch.relu(0.5 + torch.einsum("vns,nsc->vnc", basis, harmonics(splats)))
    away = (axis * outwards).sum(-1, keepdim=True) > 0
    return torch.cat([color, torch.where(away, -axis, axis)], -1)


def pad(background: Tensor, channels: int) -> Tensor:
    """The background [V,3] as [V,3+channels], with channels of 0 behind."""
    return torch.cat([background, background.new_zeros(len(background), channels)], -1)
